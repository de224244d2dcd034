//! The decision of an engine.

/// The decision of an engine, with its policies.
pub(crate) struct Ruling {
    pub(crate) allowed: bool,
    /// The ids of the policies that decided: `@id` in process, the store's own otherwise. Sorted.
    pub(crate) policies: Vec<String>,
    /// Policies that could not be evaluated, and did not count.
    pub(crate) failed: Vec<String>,
}
