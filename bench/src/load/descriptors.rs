//! Room for thousands of sockets.

use crate::load::error::LoadError;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Spare descriptors for everything else this process opens.
const OTHERS_MAX: u64 = 32;

/// Sees to it that `sockets` more descriptors can be opened: raises the soft limit as far as the hard one
/// allows (getrlimit(2), RLIMIT_NOFILE).
pub(crate) fn provide(sockets: usize) -> Result<(), LoadError> {
    let open = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    let needed = (open + sockets) as u64 + OTHERS_MAX;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|soft| needed <= soft) {
        return Ok(());
    }
    if limit.maximum.is_some_and(|hard| needed > hard) {
        return Err(LoadError::Descriptors { needed, limit: limit.maximum.unwrap_or(0) });
    }
    setrlimit(Resource::Nofile, Rlimit { current: Some(needed), maximum: limit.maximum })
        .map_err(LoadError::system("raise the limit of descriptors"))
}
