//! Finds messages by a patient, of whom nothing but keyed hashes is kept.
//!
//! The index is a table of its own: partition key `source`, sort key `patient_at`, which begins with a hash of an identifier of PID-3.
//! Each institute has a key of its own for them, so the same identifier has another hash in each. KMS makes that key of the institute's
//! name ([`PatientKeys`]), always the same, and only the workers `store` and `fetch` may ask for it. `store` writes the index under its
//! own role; whoever asks reads it under their own credentials, and IAM compares the partition with their institute.

#![warn(missing_docs)]

mod entries;
mod index;
mod keys;

pub use entries::{EntryKey, MAX_ENTRIES};
pub use index::{Found, PatientIndex, Position, Search};
pub use keys::{MAX_KEY_AGE, PatientKey, PatientKeys};
