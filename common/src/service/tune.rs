//! Optimizations that can be disabled, to measure what each of them gains.
//!
//! Not for production: each switch makes a server slower and doesn't change its responses. Switches are read once at
//! startup, never per request.

use crate::service::cli::Io;

/// How a file gets to a socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum CopyMode {
    /// `sendfile(2)`, without a copy; in `epoll` and `uring` only for large files in the page cache. What is on its way
    /// while a file is cut short arrives as zeros.
    #[default]
    Sendfile,
    /// Always read into a buffer and send from it: the textbook way, and in `uring` the ring alone.
    Read,
}

/// An optimization that can be disabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Tune {
    /// epoll: level-triggered events instead of edge-triggered ones
    LevelTriggered,
    /// epoll: open and read every file in the pool, without trying the kernel's caches first
    AlwaysPool,
    /// epoll: open and read every file in the loop, which waits for the disk meanwhile
    LoopReads,
    /// uring: one accept per connection instead of a multishot accept
    SingleAccept,
    /// uring: one receive per request, into its own buffer, instead of a multishot receive into provided buffers
    SingleReceive,
    /// uring: process completions in any system call instead of when the server waits (no DEFER_TASKRUN)
    CoopTaskrun,
    /// uring: send a piece of a file after its read has completed, instead of linking the two
    UnlinkedSend,
    /// uring: one system call per operation instead of one per batch
    Unbatched,
}

impl Tune {
    /// All switches, in display order.
    pub const ALL: [Tune; 8] = [
        Tune::LevelTriggered,
        Tune::AlwaysPool,
        Tune::LoopReads,
        Tune::SingleAccept,
        Tune::SingleReceive,
        Tune::CoopTaskrun,
        Tune::UnlinkedSend,
        Tune::Unbatched,
    ];

    /// The model that has this optimization.
    pub(crate) fn io(self) -> Io {
        match self {
            Tune::LevelTriggered | Tune::AlwaysPool | Tune::LoopReads => Io::Epoll,
            Tune::SingleAccept
            | Tune::SingleReceive
            | Tune::CoopTaskrun
            | Tune::UnlinkedSend
            | Tune::Unbatched => Io::Uring,
        }
    }

    /// The server that has this optimization.
    #[must_use]
    pub fn server(self) -> &'static str {
        self.io().name()
    }

    /// Those of a server that can be disabled at once: where files are opened and read can't be two places.
    pub fn all_of(server: &str) -> impl Iterator<Item = Tune> {
        Tune::ALL.into_iter().filter(move |switch| switch.server() == server && *switch != Tune::LoopReads)
    }

    /// The copy mode in which this optimization applies to every file.
    #[must_use]
    pub fn copy(self) -> CopyMode {
        match self {
            Tune::LoopReads | Tune::UnlinkedSend => CopyMode::Read,
            Tune::LevelTriggered
            | Tune::AlwaysPool
            | Tune::SingleAccept
            | Tune::SingleReceive
            | Tune::CoopTaskrun
            | Tune::Unbatched => CopyMode::Sendfile,
        }
    }

    /// The name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Tune::LevelTriggered => "level-triggered",
            Tune::AlwaysPool => "always-pool",
            Tune::LoopReads => "loop-reads",
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
    fn names_match_the_command_line() {
        assert_eq!(Tune::value_variants(), Tune::ALL);
        for switch in Tune::ALL {
            let value = switch.to_possible_value().expect("none is hidden");
            assert_eq!(value.get_name(), switch.name());
            let help = value.get_help().expect("each has its line").to_string();
            assert!(help.starts_with(&format!("{}: ", switch.server())), "{help}");
        }
    }

    /// Linked sends are what files are sent by where `sendfile` isn't used, and a loop that reads files doesn't use it.
    #[test]
    fn a_switch_is_tried_where_it_applies() {
        for switch in Tune::ALL {
            let reads = matches!(switch, Tune::UnlinkedSend | Tune::LoopReads);
            assert_eq!(switch.copy() == CopyMode::Read, reads, "{switch:?}");
        }
    }
}
