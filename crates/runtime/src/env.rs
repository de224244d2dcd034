//! Environment variables. An error names the variable, never its value.

/// A variable is missing or unreadable. The deployment is wrong, and the worker does not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvError {
    /// Not set, or not UTF-8.
    #[error("environment variable `{0}` is not set")]
    Missing(&'static str),
    /// Set, but not of the required kind.
    #[error("environment variable `{0}` is not a {1}")]
    Unreadable(&'static str, &'static str),
}

/// The value of a required variable.
///
/// # Errors
/// [`EnvError::Missing`].
pub fn required_var(name: &'static str) -> Result<String, EnvError> {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that names a missing variable")]
    std::env::var(name).map_err(|_| EnvError::Missing(name))
}

/// The value of a required variable, parsed as `T`.
///
/// # Errors
/// [`EnvError`].
pub fn var_parsed<T: std::str::FromStr>(name: &'static str) -> Result<T, EnvError> {
    required_var(name)?.parse().map_err(|_| EnvError::Unreadable(name, std::any::type_name::<T>()))
}
