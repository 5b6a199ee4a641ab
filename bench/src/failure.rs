//! What ends a run.

use std::fmt;

/// One line for the operator: what failed, and where there is something to do about it, what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure(String);

/// What a step of a run gives.
pub type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    /// From the line itself, without "error:" and without a full stop.
    pub fn new(line: impl Into<String>) -> Failure {
        Failure(line.into())
    }

    /// For `map_err`: says what was attempted, then the cause.
    pub fn context<E: fmt::Display>(doing: impl fmt::Display) -> impl FnOnce(E) -> Failure {
        move |cause| Failure(format!("{doing}: {cause}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}
