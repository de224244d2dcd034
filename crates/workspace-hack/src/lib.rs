//! No code: the same features of shared dependencies, whatever is built.
//!
//! Cargo turns on those features of a dependency that the packages of *one* build ask for. `cargo run` builds the command and
//! then, in another build, the workers; where the two differ in a feature of a crate that the AWS SDK uses, all of the SDK is
//! compiled a second time. `runtime` depends on this crate, and everything depends on `runtime`. The name is the usual one for
//! such a crate (cargo-hakari).
