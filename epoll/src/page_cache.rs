//! The page cache: opens and reads that don't wait for a disk.

use std::io::{self, IoSliceMut};

use common::{Config, OpenRequest, Opened, SharedFile, Tune};
use rustix::io::{ReadWriteFlags, preadv2};

/// How the loop tries a file before submitting it to the pool. Chosen at startup.
pub(crate) struct PageCache {
    open: fn(&OpenRequest) -> Option<io::Result<Opened>>,
    read: fn(&SharedFile, u64, &mut [u8]) -> usize,
}

impl PageCache {
    /// With `--tune=always-pool`, everything is a miss.
    pub(crate) fn of(config: &Config) -> PageCache {
        if config.tuned(Tune::AlwaysPool) {
            PageCache { open: |_| None, read: |_, _, _| 0 }
        } else {
            PageCache { open: |request| request.open_cached().transpose(), read: read_cached }
        }
    }

    /// Opens the request's path if the kernel's caches suffice; `None` if the disk would have to be read.
    pub(crate) fn open(&self, request: &OpenRequest) -> Option<io::Result<Opened>> {
        (self.open)(request)
    }

    /// Reads the cached bytes from `offset` on and returns how many there are.
    ///
    /// 0 can mean several things: not cached, a file system without `RWF_NOWAIT`, a seccomp policy that forbids it, the
    /// end of file that Linux 5.9 and 5.10 report for a miss, or the real end of a file that shrank. A plain read,
    /// which may block, tells them apart.
    pub(crate) fn read(&self, file: &SharedFile, offset: u64, bytes: &mut [u8]) -> usize {
        (self.read)(file, offset, bytes)
    }
}

fn read_cached(file: &SharedFile, offset: u64, bytes: &mut [u8]) -> usize {
    preadv2(file, &mut [IoSliceMut::new(bytes)], offset, ReadWriteFlags::NOWAIT).unwrap_or(0)
}
