//! Reads HL7v2: what MSH says of a message ([`summarize`]), and the message as JSON ([`write_json`]).
//!
//! Both walk the text and keep no tree of it: a message of 4 MiB of `~` must not become a gigabyte of nodes.
//! `hl7-parser` splits the fields of MSH, which are short; it is also what the tests compare the rendition with.
//! What hospitals send is taken as it is: unknown segments, names of any length and fields past the standard are kept
//! by position. Only one thing must be readable, the delimiters in MSH ([`Delimiters::of`]).

mod ack;
mod delimiters;
mod dictionary;
mod document;
mod rendition;
mod split;
mod summary;
pub mod validate;

pub use ack::{Ack, AckCode, AckHeader, AckProblem, Condition, Severity, acknowledge, acknowledge_batch, acknowledge_in};
pub use delimiters::{Delimiters, Place, Unreadable};
pub use dictionary::{DataType, Dictionary, Element, Item, Node, SegmentDefinition, Structure, Table, Usage};
pub use document::{NotARendition, read_json};
pub use rendition::write_json;
pub use split::{BatchProblem, Part, PartKind, Split, split};
pub use summary::summarize;
