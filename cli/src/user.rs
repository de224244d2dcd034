//! The work of the commands for an institute's users, where it is more than a call of the crate `client`.

pub(crate) mod doctor;
pub(crate) mod documents;
pub(crate) mod export;
pub(crate) mod gateway;
