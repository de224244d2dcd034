//! What an operator does with a deployment: builds, deploys and destroys it, manages its users' rights, and looks after its
//! messages.

pub mod accounting;
pub(crate) mod announce;
pub mod audit;
pub(crate) mod backup;
pub(crate) mod cost;
pub(crate) mod dead_letters;
pub mod deploy;
pub mod discard;
pub(crate) mod enrollment;
pub mod events;
pub(crate) mod journal;
pub(crate) mod lines;
pub mod package;
pub(crate) mod policies;
pub(crate) mod records;
pub mod redrive;
pub mod reindex;
pub(crate) mod simulate;
pub mod tables;
pub mod top;
pub mod trace;
pub(crate) mod users;
pub mod workspace;
