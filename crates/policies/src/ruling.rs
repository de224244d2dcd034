//! The decision of an engine.

/// What an engine has decided, and by which policies.
pub(crate) struct Ruling {
    pub(crate) allowed: bool,
    /// The ids of the policies that decided: `@id` in process, the store's own otherwise. Sorted.
    pub(crate) policies: Vec<String>,
    /// Policies that could not be evaluated, which count for nothing.
    pub(crate) failed: Vec<String>,
}
