//! What can be wrong with an answer.

use crate::load::response::HeadError;
use std::fmt;
use std::time::Duration;

/// Why a load ended: a server that answers wrongly isn't measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
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
    /// A system call failed.
    System {
        /// What was attempted: "connect", "receive".
        doing: &'static str,
        /// What the kernel said.
        errno: rustix::io::Errno,
    },
}

impl Fault {
    pub(crate) fn system(doing: &'static str) -> impl Fn(rustix::io::Errno) -> Fault {
        move |errno| Fault::System { doing, errno }
    }
}

impl From<HeadError> for Fault {
    fn from(error: HeadError) -> Fault {
        Fault::Head(error)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Head(error) => error.fmt(f),
            Fault::Status { got, want } => write!(f, "the answer's status is {got}, not {want}"),
            Fault::Length { got, want } => {
                write!(f, "the answer's Content-Length is {got}, but the file has {want} bytes")
            }
            Fault::Short { got, want } => {
                write!(f, "the connection ended after {got} of {want} body bytes")
            }
            Fault::Surplus => f.write_str("bytes follow the end of the body"),
            Fault::Closed => f.write_str("the connection ended before the answer"),
            Fault::Content => f.write_str("the body's SHA-256 isn't the file's"),
            Fault::Stalled { waited, owed } => {
                write!(f, "no byte came for {:.1} s, with {owed} answers owed", waited.as_secs_f64())
            }
            Fault::System { doing, errno } => write!(f, "{doing}: {errno}"),
        }
    }
}

impl std::error::Error for Fault {}
