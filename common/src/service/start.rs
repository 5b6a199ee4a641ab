//! Why a server could not start: one line for the operator.

use std::fmt;
use std::io;

use rustix::io::Errno;

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

/// What to say where descriptors have run out, and what to do about it; `None` if it is another error.
#[must_use]
pub fn out_of_descriptors(error: &io::Error) -> Option<&'static str> {
    match Errno::from_io_error(error) {
        Some(Errno::MFILE) => {
            Some("out of descriptors; raise the limit (`ulimit -n`, LimitNOFILE=), or start fewer --workers")
        }
        Some(Errno::NFILE) => {
            Some("the whole system is out of descriptors; allow more of them (`sysctl fs.file-max`)")
        }
        _ => None,
    }
}

impl From<io::Error> for StartError {
    fn from(error: io::Error) -> StartError {
        match out_of_descriptors(&error) {
            Some(line) => StartError::new(line),
            None => StartError::new(error.to_string()),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_out_of_descriptors_is_told_how_to_have_more() {
        for (errno, expected) in [
            (Errno::MFILE, "`ulimit -n`, LimitNOFILE="),
            (Errno::NFILE, "fs.file-max"),
            (Errno::NOMEM, "Cannot allocate memory"),
        ] {
            let line = StartError::from(io::Error::from(errno)).to_string();
            assert!(line.contains(expected) && !line.contains('\n'), "{line}");
        }
    }
}
