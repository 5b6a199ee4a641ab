//! The page cache: what files give without a wait for a disk.

use std::io::{self, IoSliceMut};

use common::{Config, OpenRequest, Opened, SharedFile, Tune};
use rustix::io::{ReadWriteFlags, preadv2};

/// How the loop tries a file before it hands it to the pool. Chosen when it starts.
pub(crate) struct PageCache {
    open: fn(&OpenRequest) -> Option<io::Result<Opened>>,
    read: fn(&SharedFile, u64, &mut [u8]) -> usize,
}

impl PageCache {
    /// With `--tune=always-pool` nothing is ever found.
    pub(crate) fn of(config: &Config) -> PageCache {
        if config.tuned(Tune::AlwaysPool) {
            PageCache { open: |_| None, read: |_, _, _| 0 }
        } else {
            PageCache { open: |request| request.open_cached().transpose(), read: read_cached }
        }
    }

    /// What the request asks for, if nothing of its path has to be read from a disk.
    pub(crate) fn open(&self, request: &OpenRequest) -> Option<io::Result<Opened>> {
        (self.open)(request)
    }

    /// Reads the bytes from `offset` on that are there, and returns how many.
    ///
    /// If none are, it may be for any reason: not cached, a file system without `RWF_NOWAIT`, a policy that forbids
    /// it, the end that Linux 5.9 and 5.10 report for a miss, the true end of a file that shrank. A plain read
    /// will tell, and that one may wait.
    pub(crate) fn read(&self, file: &SharedFile, offset: u64, bytes: &mut [u8]) -> usize {
        (self.read)(file, offset, bytes)
    }
}

fn read_cached(file: &SharedFile, offset: u64, bytes: &mut [u8]) -> usize {
    preadv2(file, &mut [IoSliceMut::new(bytes)], offset, ReadWriteFlags::NOWAIT).unwrap_or(0)
}
