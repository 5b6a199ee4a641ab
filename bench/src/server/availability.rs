//! Whether this machine has a server, and in which version.

/// Whether a target can run on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Availability {
    /// It can.
    Found {
        /// As the program tells it.
        version: String,
    },
    /// It isn't installed.
    Missing {
        /// How to install it.
        install: String,
    },
    /// The machine can't run it.
    Unavailable {
        /// Why.
        reason: String,
    },
}
