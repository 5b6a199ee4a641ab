//! What can be wrong with an answer.

use crate::load::response::HeadError;
use rustix::io::Errno;
use std::fmt;
use std::time::Duration;

/// Why a load ended: a server that answers wrongly isn't measured.
#[expect(missing_docs, reason = "Display says what each one is")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoadError {
    Head(HeadError),
    Status {
        got: u16,
        want: u16,
    },
    Length {
        got: u64,
        want: u64,
    },
    Short {
        got: u64,
        want: u64,
    },
    Surplus,
    Closed,
    Content,
    Coding,
    Chunks,
    Tag,
    Stalled {
        waited: Duration,
        owed: usize,
    },
    Timeout {
        waited: Duration,
    },
    Refused {
        attempts: u32,
        errno: Errno,
    },
    Descriptors {
        needed: u64,
        limit: u64,
    },
    System {
        doing: &'static str,
        errno: Errno,
    },
    Stopped,
    /// An error of an engine on another machine: the name under which it is counted there, and what it said.
    Told {
        kind: &'static str,
        line: String,
    },
}

/// The names under which errors are counted.
const KINDS: [&str; 16] = [
    "head",
    "status",
    "length",
    "short",
    "surplus",
    "closed",
    "content",
    "coding",
    "chunks",
    "tag",
    "timeout",
    "refused",
    "descriptors",
    "reset",
    "stopped",
    "system",
];

impl LoadError {
    /// The name under which it is counted.
    pub fn kind(&self) -> &'static str {
        match self {
            LoadError::Head(_) => "head",
            LoadError::Status { .. } => "status",
            LoadError::Length { .. } => "length",
            LoadError::Short { .. } => "short",
            LoadError::Surplus => "surplus",
            LoadError::Closed => "closed",
            LoadError::Content => "content",
            LoadError::Coding => "coding",
            LoadError::Chunks => "chunks",
            LoadError::Tag => "tag",
            LoadError::Stalled { .. } | LoadError::Timeout { .. } => "timeout",
            LoadError::Refused { .. } => "refused",
            LoadError::Descriptors { .. } => "descriptors",
            LoadError::Stopped => "stopped",
            LoadError::Told { kind, .. } => kind,
            LoadError::System { errno, .. } => match *errno {
                Errno::CONNREFUSED => "refused",
                Errno::CONNRESET | Errno::PIPE => "reset",
                Errno::TIMEDOUT => "timeout",
                _ => "system",
            },
        }
    }

    /// What an engine on another machine has said. A kind that isn't known here counts as the system's.
    pub(crate) fn told(kind: &str, line: String) -> LoadError {
        let kind = KINDS.into_iter().find(|known| *known == kind).unwrap_or("system");
        LoadError::Told { kind, line }
    }

    /// Whether this machine is at a limit, so that a new connection wouldn't help.
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
            LoadError::Coding => {
                f.write_str("the body isn't coded as the answer says, or as nobody has asked for")
            }
            LoadError::Chunks => f.write_str("the body isn't made of chunks, though the answer says so"),
            LoadError::Tag => {
                f.write_str("the answer's strong entity tag has been given to other bytes before")
            }
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
            LoadError::Stopped => f.write_str("it was stopped"),
            LoadError::Told { line, .. } => f.write_str(line),
        }
    }
}

impl std::error::Error for LoadError {}
