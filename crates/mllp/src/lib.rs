//! MLLP beside a hospital's engine: takes HL7v2 messages over TCP, keeps them on disk, and delivers them to the API over HTTPS.
//!
//! ```text
//! engine ──MLLP──> connection ──> spool (disk) ──> delivery ──HTTPS──> API ──> lake
//!        <──ACK───           when on disk, or with the outcome
//! ```
//!
//! An acknowledged message is on disk until the lake has stored it, whatever ends in between: the connection, the process, the
//! machine, the sign-in, the lake's pipeline. The peer must send an unacknowledged message again; the API knows a message by its
//! content, so sending it twice stores it once.
//!
//! This crate knows the API only as a [`Destination`], which the command line implements, and so do the tests.

#![warn(missing_docs)]

mod admission;
mod answer;
mod arrivals;
mod awaited;
mod clock;
mod connection;
mod delivery;
mod destination;
mod feed;
mod feeds;
mod foreign;
mod frame;
mod gateway;
mod hybrid;
mod large;
mod metrics;
mod origin;
mod overview;
mod report;
mod sender;
mod spool;
mod tls;

pub use answer::ApplicationAck;
pub use connection::Limits;
pub use delivery::Keep;
pub use destination::{Destination, MOST_ASKED, Receipt, Reply, Standing};
pub use feed::{Endpoint, Feed};
pub use feeds::{FeedError, Feeds};
pub use frame::framed;
pub use gateway::{Options, Signals, run};
pub use ipnet::IpNet;
pub use origin::Origin;
pub use report::{FeedReport, GatewayReport, Log};
pub use sender::{Sender, code, unframed};
pub use spool::{Backlog, Contents, FeedBacklog, Recovery, Refused, Spool, SpoolError, Waiting, WaitsFor, inspect};
pub use tls::{PeerTls, TlsError, TlsFiles};
