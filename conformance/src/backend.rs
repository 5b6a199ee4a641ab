//! The three servers by name.

use std::fmt;
use std::fs;
use std::io;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};

use common::{Listeners, Service};

/// One of the three servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Backend {
    /// A thread per connection.
    Blocking,
    /// An edge-triggered event loop.
    Epoll,
    /// An io_uring pipeline.
    Uring,
}

impl Backend {
    /// All of them.
    pub const ALL: [Backend; 3] = [Backend::Blocking, Backend::Epoll, Backend::Uring];

    /// The crate's name, and the binary's.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Backend::Blocking => "blocking",
            Backend::Epoll => "epoll",
            Backend::Uring => "uring",
        }
    }

    /// Runs the server in this thread until it has drained.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn serve(self, listeners: Listeners, service: &Arc<Service>, ready: impl FnOnce()) -> io::Result<()> {
        match self {
            Backend::Blocking => blocking::serve(listeners, service, ready),
            Backend::Epoll => epoll::serve(listeners, service, ready),
            Backend::Uring => uring::serve(listeners, service, ready),
        }
    }

    /// Why this backend can't run on this machine; `None` if it can.
    ///
    /// Asks only the kernel: if the kernel provides rings, a uring server that doesn't start fails its tests.
    #[must_use]
    pub fn missing(self) -> Option<&'static str> {
        static RING: OnceLock<Option<String>> = OnceLock::new();
        match self {
            Backend::Blocking | Backend::Epoll => None,
            Backend::Uring => RING.get_or_init(why_no_ring).as_deref(),
        }
    }
}

/// Multishot receive, the newest operation the ring server requires, came with 6.0.
const KERNEL_MIN: (u32, u32) = (6, 0);

/// Asks the kernel directly, not the server under test.
fn why_no_ring() -> Option<String> {
    if let Err(error) = io_uring::IoUring::new(8) {
        return Some(format!("no io_uring: {error}"));
    }
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let (major, minor) = KERNEL_MIN;
    (version < KERNEL_MIN).then(|| format!("Linux {} is older than {major}.{minor}", release.trim()))
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Backend {
    type Err = String;

    fn from_str(name: &str) -> Result<Backend, String> {
        Backend::ALL
            .into_iter()
            .find(|backend| backend.name() == name)
            .ok_or_else(|| format!("no backend {name}"))
    }
}
