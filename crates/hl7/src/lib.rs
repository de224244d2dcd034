//! Reads HL7v2: summarizes MSH ([`summarize`]), and converts a message to JSON ([`write_json`]).
//!
//! Both walk the text and keep no tree of it: a message of 4 MiB of `~` must not become a gigabyte of nodes.
//! The tests compare the rendition with what `hl7-parser` reads.
//! What hospitals send is taken as it comes: unknown segments, names of any length and fields past the standard are kept
//! by position. Only one thing must be readable, the delimiters in MSH ([`Delimiters::of`]).

#![warn(missing_docs)]

#[cfg(test)]
extern crate self as sluice_hl7; // so that `tests/corpus_messages` reads the same here as in the tests beside it

mod ack;
mod body;
#[cfg(test)]
#[path = "../tests/corpus_messages/mod.rs"]
mod corpus_messages;
mod delimited;
mod delimiters;
mod dictionary;
mod document;
mod escape;
mod mistake;
mod patients;
mod rendition;
mod steering;
mod stored;
mod summary;
pub mod validate;
pub mod walk;

pub use ack::{
    Ack, AckCode, AckHeader, AckProblem, Condition, Severity, Verdict, acknowledge, acknowledge_batch, acknowledge_batch_in,
    acknowledge_in,
};
pub use body::{BatchProblem, Body, Message, Part, PartKind, Piece, Split, split};
pub use delimiters::{Delimiters, Place, Unreadable};
pub use dictionary::{DataType, Dictionary, Element, Item, Node, Schema, SegmentDefinition, Structure, Table, Usage};
pub use document::{NotARendition, read_json};
pub use escape::Escapes;
pub use mistake::Mistake;
pub use patients::patient_identifiers;
pub use rendition::{Origin, VERSION, write_json, write_json_with};
pub use stored::{MAX_JSON_BYTES, NotDecompressed, compressed_json, decompressed};
pub use summary::summarize;
