//! Reads HL7v2: what MSH says of a message ([`summarize`]), and the message as JSON ([`write_json`]).
//!
//! Both walk the text and keep no tree of it: a message of 4 MiB of `~` must not become a gigabyte of nodes.
//! `hl7-parser` splits the fields of MSH, which are short; it is also what the tests compare the rendition with.
//! What hospitals send is taken as it is: unknown segments, names of any length and fields past the standard are kept
//! by position. Only one thing must be readable, the delimiters in MSH ([`Delimiters::of`]).

mod delimiters;
mod dictionary;
mod rendition;
mod summary;
pub mod validate;

pub use delimiters::{Delimiters, Unreadable};
pub use dictionary::{DataType, Dictionary, Element, Item, Node, SegmentDefinition, Structure, Table, Usage};
pub use rendition::write_json;
pub use summary::summarize;
