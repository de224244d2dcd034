//! The console: static files that read the lake with the credentials of whoever signs in there. This module builds them, sets
//! the deployment that they show, and serves them on the loopback interface. `console/` has the page itself.

mod build;
mod server;
mod settings;

pub use build::{Page, build};
pub use server::{PORT, Site};
pub use settings::Settings;
