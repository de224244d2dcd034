//! The types and rules of Sluice that do not depend on what runs them: no AWS SDK, no Lambda, no clock.
//!
//! A hospital posts an HL7v2 message; that POST is a *submission* ([`SubmissionId`]). The message itself has an id that
//! depends on its content alone ([`MessageId`], the SHA-256 of the canonical [`Er7`]) and belongs to a [`Source`], the
//! institute of the caller's `custom:write` token claim. `(source, message id)` is the key of a catalog [`Record`]; a
//! submission travels as an [`Envelope`], owns the record for a while ([`claim`]) and ends as objects in the lake
//! ([`object`]) and an [`event`].

#![warn(missing_docs)]

pub mod arrivals;
pub mod catalog;
mod charset;
pub mod claim;
pub mod enrollment;
mod envelope;
mod er7;
pub mod event;
pub mod held;
mod message_id;
pub mod object;
mod patient;
mod received;
pub mod retry;
mod search;
mod source;
pub mod step;
mod submission;
mod timestamp;
mod trace;
mod upload;

pub use catalog::{Progress, Record, State, Status, Stored, StoredFacts, Summary};
pub use charset::{Charset, Undecodable, UnknownLabel};
pub use envelope::{Envelope, EnvelopeError, Payload, decode_inline};
pub use er7::{EmptyMessage, Er7, MAX_MESSAGE_BYTES, MAX_MESSAGES, MAX_UPLOAD_BYTES};
pub use held::{Held, HeldCopy, HeldFacts, Hold, HoldReason, Release, Requester};
pub use message_id::{InvalidMessageId, MessageId};
pub use patient::{InvalidPatientIdentifier, PatientIdentifier};
pub use received::{Received, Unreceivable};
pub use search::ControlIdKey;
pub use source::{InvalidSource, Source};
pub use step::SubmittedMessage;
pub use submission::{InvalidSubmissionId, SubmissionId};
pub use timestamp::Timestamp;
pub use trace::{InvalidTraceParent, TraceId, TraceParent};
pub use upload::{InvalidUploadId, UploadId};
