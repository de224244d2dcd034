//! What the commands for users of an institute do, where that is more than a call of the crate `client`.

pub(crate) mod doctor;
pub(crate) mod documents;
pub(crate) mod export;
pub(crate) mod gateway;
