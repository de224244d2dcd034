//! MLLP beside a hospital's engine: takes HL7v2 messages over TCP, keeps them on disk, and delivers them to the API over HTTPS.
//!
//! ```text
//! engine ──MLLP──> connection ──> spool (disk) ──> delivery ──HTTPS──> API
//!        <──ACK───           CA when on disk, or AA/AE/AR with the outcome
//! ```
//!
//! What is acknowledged is on disk and reaches the API, whatever ends in between: the connection, the process, the machine. What
//! is not acknowledged is the peer's to send again; the API knows a message by its content, so twice is once.
//!
//! This crate knows the API as a [`Lake`] only. The command line implements it, and so do the tests.

mod answer;
mod connection;
mod delivery;
mod frame;
mod gateway;
mod lake;
mod report;
mod spool;
mod tls;

pub use answer::AckMode;
pub use connection::Limits;
pub use frame::framed;
pub use gateway::{Options, run};
pub use lake::{Lake, Outcome, Part, Submission};
pub use report::{Log, Report};
pub use spool::{Recovery, Spool, SpoolError, Status};
pub use tls::{TlsError, TlsFiles};
pub use tokio_rustls::TlsAcceptor;
