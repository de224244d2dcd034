//! What a deployment costs: measured requests times list prices.
//!
//! Two data files decide: `cli/data/prices.json`, written by hand, and `cli/data/measured.json`, which the benchmark writes. Nothing
//! is guessed: a missing price or case is an error that names it.

mod bill;
mod measured;
mod prices;

pub(crate) use bill::{Bill, Load, Variant};
pub(crate) use measured::{Invocations, LocalRun, Measured};
pub(crate) use prices::Prices;
