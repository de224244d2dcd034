//! HL7v2 messages as tables: rows of typed columns, and rows as Parquet.
//!
//! `messages`, `segments`, `fields` and `raw` are the message as it is ([`Table`]). The others are typed, and what their columns are is
//! data: `mapping.toml` beside this crate, or a [`Mapping`] of one's own. A text that cannot be typed stays as a text in the column
//! beside; nothing is guessed.

#![warn(missing_docs)]

mod cell;
mod context;
mod ddl;
mod derived;
mod entry;
mod mapping;
mod number;
mod parquet;
mod plain;
mod rows;
mod table;
mod time;

pub use cell::{Cell, Column, Kind, Row};
pub use ddl::{Engine, GlueTable, Layout, UnknownEngine};
pub use entry::Entry;
pub use mapping::Mapping;
pub use parquet::{NotWritten, ParquetFile, join_parquet};
pub use table::{Table, UnknownTable};
