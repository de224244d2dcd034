//! The gateway as a peer sees it: over TCP on loopback, with a stub of the API behind it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that panics has failed, and a process of its own says where it listens"
)]

mod acks;
mod clients;
mod feeds;
mod http;
mod keep;
mod kill;
mod large;
mod peers;
mod restart;
mod strangers;
mod support;
mod tls;
