//! Scenes: what a claim says, shown by system calls and what they returned.
//!
//! A scene makes the calls and writes each down, with the arguments that it had and the result that it got, in the
//! [`Script`]. Then it says whether they came out as the claim says. Nothing in a script is there without a call.

mod add;
mod calls;
mod cold;
mod drain;
mod file;
mod fill;
mod forbid;
mod full_set;
mod multishot;
mod queue_full;
mod script;
mod server;
mod share;
mod slow;
mod watch;

pub use script::Script;

/// A scene.
#[derive(Debug)]
pub struct Scene {
    /// The claim that it is about.
    pub claim: &'static str,
    /// What it shows, in a few words.
    pub title: &'static str,
    /// What to see in it.
    pub explanation: &'static str,
    play: fn(&mut Script) -> Result<bool, Stop>,
}

/// How a scene came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As the claim says.
    AsClaimed,
    /// Otherwise.
    Otherwise,
    /// It can't be shown here, for this reason.
    Impossible(String),
}

/// A scene that was shown.
#[derive(Clone, Debug)]
pub struct Shown {
    /// How it came out.
    pub outcome: Outcome,
    /// The calls, a line each.
    pub lines: Vec<String>,
}

/// Why a scene ends early: it can't be shown here.
#[derive(Debug)]
struct Stop(String);

impl<E: std::error::Error> From<E> for Stop {
    fn from(error: E) -> Stop {
        Stop(error.to_string())
    }
}

/// All of them.
pub const SCENES: [Scene; 12] = [
    Scene {
        claim: "C3",
        title: "a regular file in epoll",
        explanation: "epoll_ctl refuses the file with EPERM: a file is always \"ready\", even if its bytes are on a disk.\n\
                      O_NONBLOCK is accepted and changes nothing: the read still waits for the disk, if it has to.",
        play: file::play,
    },
    Scene {
        claim: "C6",
        title: "a ring, a file on a disk, and one that isn't",
        explanation: "The file isn't in memory, but its file system can read without blocking: the call only starts the read.\n\
                      Where a file system can't, as in /proc, a thread of the kernel (iou-wrk) waits instead: a pool after all.",
        play: cold::play,
    },
    Scene {
        claim: "C8",
        title: "one multishot accept, many connections",
        explanation: "One submission, a completion for each connection. F_MORE says that others will follow.\n\
                      The completion without it is the last: whatever belongs to the accept can be freed.",
        play: multishot::play,
    },
    Scene {
        claim: "C9",
        title: "64 operations, a queue of 8 entries",
        explanation: "The ninth doesn't fit: the queue is shared memory, so no system call says so; the push itself does.\n\
                      Whoever keeps the rest and goes on submitting loses nothing, since each call empties the queue.",
        play: queue_full::play,
    },
    Scene {
        claim: "C12",
        title: "io_uring behind a seccomp filter",
        explanation: "A container's profile may forbid io_uring_setup. It fails at once, before anything was accepted,\n\
                      so a program can ask, and wait with epoll instead.",
        play: forbid::play,
    },
    Scene {
        claim: "C14",
        title: "descriptor 1,024 and select",
        explanation: "The set of select is a bitmap of FD_SETSIZE bits; a descriptor is a bit's number, and there is none for 1,024.\n\
                      The set of poll is a list of descriptors, which takes any.",
        play: full_set::play,
    },
    Scene {
        claim: "C15",
        title: "what one more descriptor costs to add",
        explanation: "epoll keeps its descriptors in a red-black tree: 256 times as many make it 8 levels deeper.\n\
                      Times are medians. The claim would be wrong if they grew more than fourfold.",
        play: add::play,
    },
    Scene {
        claim: "C16",
        title: "half of the bytes are read",
        explanation: "The level is still there, so a level-triggered epoll tells of it again. The edge was before the first wait:\n\
                      an edge-triggered one is silent about the other half, until something changes.",
        play: drain::play,
    },
    Scene {
        claim: "C17",
        title: "two listeners, one port",
        explanation: "Without SO_REUSEPORT the second bind fails with EADDRINUSE. With it both listen,\n\
                      and the kernel gives each connection to one of them, by a hash of its addresses.",
        play: share::play,
    },
    Scene {
        claim: "C18",
        title: "a send that doesn't fit",
        explanation: "The first sends take what fits, the next says EAGAIN. What is left has to be kept.\n\
                      When the reader has made room, epoll tells of it once, and the rest leaves.",
        play: fill::play,
    },
    Scene {
        claim: "C21",
        title: "clients that don't read",
        explanation: "A server that only waits for its clients keeps those that never read: echo has no bound on their patience.\n\
                      Chat has one, on what it keeps for a client, and drops who lets it grow beyond that.",
        play: slow::play,
    },
    Scene {
        claim: "C22",
        title: "what --stats prints",
        explanation: "Connections, bytes a second in and out, and events a second: what waiting has reported.\n\
                      Here 64 clients send something in the first second and keep still in the next.",
        play: watch::play,
    },
];

/// The scene of that claim.
#[must_use]
pub fn scene(claim: &str) -> Option<&'static Scene> {
    SCENES.iter().find(|scene| scene.claim.eq_ignore_ascii_case(claim))
}

impl Scene {
    /// Makes the calls.
    #[must_use]
    pub fn show(&self) -> Shown {
        let mut script = Script::default();
        let outcome = match (self.play)(&mut script) {
            Ok(true) => Outcome::AsClaimed,
            Ok(false) => Outcome::Otherwise,
            Err(Stop(reason)) => Outcome::Impossible(reason),
        };
        Shown { outcome, lines: script.lines }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where a scene can't be shown, this says why, and the claim stays open.
    #[test]
    fn every_scene_comes_out_as_its_claim_says() {
        for scene in &SCENES {
            let shown = scene.show();
            let lines = shown.lines.join("\n");
            match shown.outcome {
                Outcome::AsClaimed => assert!(shown.lines.len() >= 3, "{}: {lines}", scene.claim),
                Outcome::Otherwise => panic!("{}:\n{lines}", scene.claim),
                Outcome::Impossible(reason) => {
                    let lacks_rings =
                        ["C6", "C8", "C9"].contains(&scene.claim) && uring::available().is_err();
                    let is_known =
                        lacks_rings || reason.contains("descriptors") || reason.contains("is on a disk");
                    assert!(is_known, "{}: {reason}\n{lines}", scene.claim);
                }
            }
        }
    }

    #[test]
    fn scenes_are_found_and_explained_in_two_lines() {
        for found in &SCENES {
            assert_eq!(scene(&found.claim.to_lowercase()).map(|scene| scene.title), Some(found.title));
            let lines: Vec<&str> = found.explanation.lines().collect();
            assert_eq!(lines.len(), 2, "{}", found.claim);
            assert!(lines.iter().all(|line| line.chars().count() <= 120), "{}", found.claim);
        }
        assert!(scene("C99").is_none());
    }
}
