//! What can be put under test: by name, by kind, and whether this machine has it.

use crate::server::availability::Availability;
use crate::server::built;
use crate::server::peer::{Origin, Peer};
use common::{CacheLevel, Tune};
use lab::rungs::{RUNGS, Rung};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// One of the three servers of this project.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// A thread per connection.
    Blocking,
    /// An edge-triggered event loop.
    Epoll,
    /// An io_uring pipeline.
    Uring,
}

impl Backend {
    /// All of them, in the order in which they are always shown.
    pub const ALL: [Backend; 3] = [Backend::Blocking, Backend::Epoll, Backend::Uring];

    /// The crate's name.
    pub const fn name(self) -> &'static str {
        match self {
            Backend::Blocking => "blocking",
            Backend::Epoll => "epoll",
            Backend::Uring => "uring",
        }
    }

    /// The I/O model in a word.
    pub(crate) const fn model(self) -> &'static str {
        match self {
            Backend::Blocking => "threads",
            Backend::Epoll => "epoll",
            Backend::Uring => "io_uring",
        }
    }

    /// The backend of that name.
    pub fn from_name(name: &str) -> Option<Backend> {
        Backend::ALL.into_iter().find(|backend| backend.name() == name)
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What the file cache of one of this project's servers keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Cache {
    Off,
    /// Open files.
    Descriptors,
    /// Small files' bytes, too: the servers' default.
    #[default]
    Contents,
}

impl From<Cache> for CacheLevel {
    fn from(cache: Cache) -> CacheLevel {
        match cache {
            Cache::Off => CacheLevel::Off,
            Cache::Descriptors => CacheLevel::Descriptors,
            Cache::Contents => CacheLevel::Contents,
        }
    }
}

/// The settings of one of this project's servers; everything else has its default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Settings {
    /// What the file cache keeps.
    pub(crate) cache: Cache,
    /// Whether files are read and sent, instead of sent by `sendfile`.
    pub(crate) copies: bool,
    /// Whether it sends nothing compressed.
    pub(crate) is_uncompressed: bool,
    /// The techniques that it does without, by their names.
    pub(crate) without: Vec<String>,
}

impl Settings {
    /// The techniques that it does without.
    pub(crate) fn tune(&self) -> Vec<Tune> {
        let is_off = |switch: &Tune| self.without.iter().any(|name| name == switch.name());
        Tune::ALL.into_iter().filter(is_off).collect()
    }
}

impl From<Cache> for Settings {
    fn from(cache: Cache) -> Settings {
        Settings { cache, ..Settings::default() }
    }
}

/// How a null server waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mechanism {
    /// Edge-triggered epoll.
    Epoll,
    /// A ring.
    Uring,
}

/// What kind of server a target is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// One of this project's.
    Ours(Backend),
    /// A constant from memory, nothing parsed: the ceiling of client, kernel and mechanism.
    Null(Mechanism),
    /// A rung of the lab, which has one answer to everything.
    Lab,
    /// Somebody else's.
    Peer,
}

/// What a null server sends, whatever it is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Constant {
    /// Head and body.
    pub answer: Arc<[u8]>,
}

/// What a target's process runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Runs {
    Backend(Backend, Settings),
    Constant(Mechanism),
    /// A rung of the lab, by its name.
    Rung(&'static str),
    #[cfg(feature = "hyper")]
    Hyper {
        sends_sidecars: bool,
    },
    Program(&'static Peer),
}

/// A server that can be put under test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub(crate) id: Cow<'static, str>,
    pub(crate) label: Cow<'static, str>,
    pub(crate) twin_of: Option<&'static str>,
    pub(crate) runs: Runs,
    pub(crate) constant: Option<Constant>,
}

impl Target {
    /// Its name on the command line and in the results.
    pub fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn label(&self) -> &str {
        &self.label
    }

    /// Its label with the version that was found: "nginx 1.31.3, aio threads". Other people's servers alone have one.
    pub(crate) fn label_in(&self, version: &str) -> String {
        match self.runs {
            Runs::Program(peer) if !peer.is_ours() => peer.label_in(version),
            #[cfg(feature = "hyper")]
            Runs::Hyper { .. } => {
                let mut words = version.split([' ', ',']);
                let number = words.find(|word| word.starts_with(|first: char| first.is_ascii_digit()));
                with_version(&self.label, number.unwrap_or_default())
            }
            _ => self.label.to_string(),
        }
    }

    /// The target that runs the system's copy of this program, where this one runs the newest.
    pub(crate) fn system_s(&self) -> Option<&'static str> {
        match self.runs {
            Runs::Program(peer) => match peer.origin {
                Origin::Latest { of } => Some(of),
                Origin::Built | Origin::System | Origin::Newest => None,
            },
            _ => None,
        }
    }

    /// Whether it is somebody else's, set up as most people run it.
    pub(crate) fn is_plain_peer(&self) -> bool {
        matches!(self.runs, Runs::Program(peer) if !peer.is_ours() && peer.variant.is_empty())
    }

    /// What kind of server it is.
    pub fn family(&self) -> Family {
        match self.runs {
            Runs::Backend(backend, _) => Family::Ours(backend),
            Runs::Constant(mechanism) => Family::Null(mechanism),
            Runs::Rung(_) => Family::Lab,
            #[cfg(feature = "hyper")]
            Runs::Hyper { .. } => Family::Peer,
            Runs::Program(peer) if peer.is_ours() => Family::Ours(built::expected_model()),
            Runs::Program(_) => Family::Peer,
        }
    }

    /// Whether it is this project's program, which chooses among the backends.
    pub(crate) fn is_program(&self) -> bool {
        matches!(self.runs, Runs::Program(peer) if peer.is_ours())
    }

    /// Whether it is somebody else's, and set up to send what was compressed beforehand. This project's servers need no
    /// setting for that.
    pub(crate) fn sends_sidecars(&self) -> bool {
        match self.runs {
            #[cfg(feature = "hyper")]
            Runs::Hyper { sends_sidecars } => sends_sidecars,
            Runs::Program(peer) => peer.sends_sidecars,
            Runs::Backend(..) | Runs::Constant(_) | Runs::Rung(_) => false,
        }
    }

    /// Whether it is somebody else's, and set up to compress each answer on its way.
    pub(crate) fn compresses(&self) -> bool {
        matches!(self.runs, Runs::Program(peer) if peer.compresses)
    }

    /// Whether it starts a thread for each connection.
    pub(crate) fn has_a_thread_per_connection(&self) -> bool {
        matches!(self.runs, Runs::Backend(Backend::Blocking, _) | Runs::Rung("thread"))
    }

    /// What it is set to, for this project's servers.
    pub(crate) fn settings(&self) -> Option<&Settings> {
        match &self.runs {
            Runs::Backend(_, settings) => Some(settings),
            _ => None,
        }
    }

    /// The target that it is the same as, under another name: what the two differ by is noise.
    pub(crate) fn twin_of(&self) -> Option<&str> {
        self.twin_of
    }

    /// The committed configuration, with the reason for each line and placeholders for what differs from
    /// start to start; `None` for servers that take none.
    pub(crate) fn configuration(&self) -> Option<&'static str> {
        match self.runs {
            Runs::Program(peer) => peer.template,
            _ => None,
        }
    }

    /// The same null server, which now knows what to send. Other targets don't look at it.
    #[must_use]
    pub fn answering(mut self, constant: Constant) -> Target {
        self.constant = Some(constant);
        self
    }

    /// Whether this machine has it, and in which version.
    pub fn find(&self) -> Availability {
        let ours = || Availability::Found { version: env!("CARGO_PKG_VERSION").to_owned() };
        match self.runs {
            Runs::Backend(Backend::Uring, _) | Runs::Constant(Mechanism::Uring) => match uring::available() {
                Ok(()) => ours(),
                Err(reason) => Availability::Unavailable { reason },
            },
            Runs::Rung(name) => match rung(name).map(|rung| (rung.available)()) {
                Some(Ok(())) => ours(),
                Some(Err(reason)) => Availability::Unavailable { reason },
                None => Availability::Unavailable { reason: format!("the lab has no rung {name}") },
            },
            Runs::Backend(..) | Runs::Constant(_) => ours(),
            #[cfg(feature = "hyper")]
            Runs::Hyper { .. } => Availability::Found { version: crate::server::hyper::version() },
            Runs::Program(peer) => peer.find(),
        }
    }
}

/// "hyper 1.12.0, tower-http".
#[cfg(feature = "hyper")]
fn with_version(label: &str, version: &str) -> String {
    match label.split_once(',') {
        Some((server, variant)) => format!("{server} {version},{variant}"),
        None => format!("{label} {version}"),
    }
}

/// The rung of the lab of that name.
pub(crate) fn rung(name: &str) -> Option<&'static Rung> {
    RUNGS.iter().find(|rung| rung.name == name)
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.id)
    }
}
