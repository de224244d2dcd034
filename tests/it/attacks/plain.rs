//! Rows of tables whose tests make the requests themselves.

/// What is tried.
pub(super) struct Row {
    pub(super) id: &'static str,
    pub(super) tried: &'static str,
}

pub(super) const fn row(id: &'static str, tried: &'static str) -> Row {
    Row { id, tried }
}
