//! Optimizations that can be disabled, so that a comparison shows what each of them buys.
//!
//! Nobody who serves a directory needs this: each switch makes a server slower and leaves its answers as they are. A
//! switch takes effect when the server starts, never per request.

/// How a file moves to a socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum CopyMode {
    /// `sendfile(2)`, without a copy: in the loops of `epoll` and `uring` what is large and in the page cache.
    #[default]
    Sendfile,
    /// Read into a buffer and sent from there, always: as in the textbook, or by the ring alone.
    Read,
}

/// An optimization that can be disabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Tune {
    /// epoll: level-triggered events instead of edges
    LevelTriggered,
    /// epoll: every file is opened and read in the pool, without a look at what is cached
    AlwaysPool,
    /// uring: an accept for each connection instead of one that goes on
    SingleAccept,
    /// uring: a receive for each request, into a buffer of its own, instead of one that goes on and picks buffers
    SingleReceive,
    /// uring: completions are worked off in any system call instead of waiting until the server asks (no DEFER_TASKRUN)
    CoopTaskrun,
    /// uring: a piece of a file is sent when its read has come back, instead of linking the two
    UnlinkedSend,
    /// uring: a system call for each operation instead of one for a batch
    Unbatched,
}

impl Tune {
    /// All of them, in the order in which they are always shown.
    pub const ALL: [Tune; 7] = [
        Tune::LevelTriggered,
        Tune::AlwaysPool,
        Tune::SingleAccept,
        Tune::SingleReceive,
        Tune::CoopTaskrun,
        Tune::UnlinkedSend,
        Tune::Unbatched,
    ];

    /// The name of the server that has the optimization.
    #[must_use]
    pub fn server(self) -> &'static str {
        match self {
            Tune::LevelTriggered | Tune::AlwaysPool => "epoll",
            Tune::SingleAccept
            | Tune::SingleReceive
            | Tune::CoopTaskrun
            | Tune::UnlinkedSend
            | Tune::Unbatched => "uring",
        }
    }

    /// How files have to be sent for it to matter to all of them.
    #[must_use]
    pub fn copy(self) -> CopyMode {
        match self {
            Tune::UnlinkedSend => CopyMode::Read,
            Tune::LevelTriggered
            | Tune::AlwaysPool
            | Tune::SingleAccept
            | Tune::SingleReceive
            | Tune::CoopTaskrun
            | Tune::Unbatched => CopyMode::Sendfile,
        }
    }

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Tune::LevelTriggered => "level-triggered",
            Tune::AlwaysPool => "always-pool",
            Tune::SingleAccept => "single-accept",
            Tune::SingleReceive => "single-receive",
            Tune::CoopTaskrun => "coop-taskrun",
            Tune::UnlinkedSend => "unlinked-send",
            Tune::Unbatched => "unbatched",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    #[test]
    fn names_are_those_of_the_command_line() {
        assert_eq!(Tune::value_variants(), Tune::ALL);
        for switch in Tune::ALL {
            let value = switch.to_possible_value().expect("none is hidden");
            assert_eq!(value.get_name(), switch.name());
            let help = value.get_help().expect("each has its line").to_string();
            assert!(help.starts_with(&format!("{}: ", switch.server())), "{help}");
        }
    }
}
