//! Why a server could not start: one line for the operator.

use std::fmt;

use crate::site::root::RootError;

/// One line that names what failed, why, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartError(String);

impl StartError {
    /// An error from its line.
    #[must_use]
    pub fn new(line: impl Into<String>) -> StartError {
        StartError(line.into())
    }
}

impl From<RootError> for StartError {
    fn from(error: RootError) -> StartError {
        StartError::new(error.to_string())
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StartError {}
