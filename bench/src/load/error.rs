//! What can be wrong with an answer.

use crate::load::response::HeadError;
use rustix::io::Errno;
use std::fmt;
use std::time::Duration;

/// Why a load ended: a server that answers wrongly isn't measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoadError {
    /// The head can't be checked.
    Head(HeadError),
    /// Another status than the expected one.
    Status {
        /// What came.
        got: u16,
        /// What was expected.
        want: u16,
    },
    /// The head announces another length than the file has.
    Length {
        /// What came.
        got: u64,
        /// What was expected.
        want: u64,
    },
    /// The connection ended within the body.
    Short {
        /// The body bytes that came.
        got: u64,
        /// The body bytes that were announced.
        want: u64,
    },
    /// Bytes after the end of the body that nobody asked for.
    Surplus,
    /// The connection ended before the first byte of an answer.
    Closed,
    /// The body isn't the file's content.
    Content,
    /// Nothing arrived on any connection for so long, though answers were owed.
    Stalled {
        /// How long the client waited.
        waited: Duration,
        /// How many answers were owed.
        owed: usize,
    },
    /// One connection got no byte for so long, though an answer, or its end, was owed.
    Timeout {
        /// How long the client waited.
        waited: Duration,
    },
    /// So many attempts to connect in a row have failed: nobody listens any more.
    Refused {
        /// The attempts.
        attempts: u32,
        /// What the kernel said to the last one.
        errno: Errno,
    },
    /// The limit of open descriptors is too low for the connections.
    Descriptors {
        /// What is needed.
        needed: u64,
        /// The hard limit.
        limit: u64,
    },
    /// A system call failed.
    System {
        /// What was attempted: "connect", "receive".
        doing: &'static str,
        /// What the kernel said.
        errno: Errno,
    },
}

impl LoadError {
    /// A word for it, under which it is counted.
    pub fn kind(&self) -> &'static str {
        match self {
            LoadError::Head(_) => "head",
            LoadError::Status { .. } => "status",
            LoadError::Length { .. } => "length",
            LoadError::Short { .. } => "short",
            LoadError::Surplus => "surplus",
            LoadError::Closed => "closed",
            LoadError::Content => "content",
            LoadError::Stalled { .. } | LoadError::Timeout { .. } => "timeout",
            LoadError::Refused { .. } => "refused",
            LoadError::Descriptors { .. } => "descriptors",
            LoadError::System { errno, .. } => match *errno {
                Errno::CONNREFUSED => "refused",
                Errno::CONNRESET | Errno::PIPE => "reset",
                Errno::TIMEDOUT => "timeout",
                _ => "system",
            },
        }
    }

    /// Whether it is this machine that can't go on: a new connection would fare no better.
    pub(crate) fn is_ours(&self) -> bool {
        match self {
            LoadError::Descriptors { .. } => true,
            LoadError::System { errno, .. } => {
                matches!(*errno, Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOBUFS | Errno::ACCESS)
            }
            _ => false,
        }
    }

    pub(crate) fn system(doing: &'static str) -> impl Fn(Errno) -> LoadError {
        move |errno| LoadError::System { doing, errno }
    }
}

impl From<HeadError> for LoadError {
    fn from(error: HeadError) -> LoadError {
        LoadError::Head(error)
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoadError::Head(error) => error.fmt(f),
            LoadError::Status { got, want } => write!(f, "the answer's status is {got}, not {want}"),
            LoadError::Length { got, want } => {
                write!(f, "the answer's Content-Length is {got}, but the file has {want} bytes")
            }
            LoadError::Short { got, want } => {
                write!(f, "the connection ended after {got} of {want} body bytes")
            }
            LoadError::Surplus => f.write_str("bytes follow the end of the body"),
            LoadError::Closed => f.write_str("the connection ended before the answer"),
            LoadError::Content => f.write_str("the body's SHA-256 isn't the file's"),
            LoadError::Stalled { waited, owed } => {
                write!(f, "no byte came for {:.1} s, with {owed} answers owed", waited.as_secs_f64())
            }
            LoadError::Timeout { waited } => {
                write!(
                    f,
                    "a connection got no byte for {:.1} s, though an answer was owed",
                    waited.as_secs_f64()
                )
            }
            LoadError::Refused { attempts, errno } => {
                write!(
                    f,
                    "{attempts} attempts to connect in a row have failed: {errno}; does the server still run?"
                )
            }
            LoadError::Descriptors { needed, limit } => {
                write!(
                    f,
                    "{needed} descriptors are needed, and {limit} allowed: raise the limit with ulimit -Hn"
                )
            }
            LoadError::System { doing, errno } => write!(f, "{doing}: {errno}"),
        }
    }
}

impl std::error::Error for LoadError {}
