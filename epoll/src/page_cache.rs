//! The page cache: opens and reads that don't wait for a disk.

use std::io::{self, IoSliceMut};

use common::site::file::read_full;
use common::site::volume::Pages;
use common::{Config, OpenRequest, Opened, SharedFile, Tune};
use rustix::io::{ReadWriteFlags, preadv2};

/// How the loop tries a file before submitting it to the pool. Chosen at startup.
pub(crate) struct PageCache {
    open: fn(&OpenRequest) -> Option<io::Result<Opened>>,
    read: fn(&SharedFile, u64, &mut [u8]) -> usize,
}

impl PageCache {
    /// With `--tune=always-pool`, everything is a miss. With `--tune=loop-reads` nothing is: the loop waits for the disk.
    pub(crate) fn of(config: &Config) -> PageCache {
        if config.tuned(Tune::AlwaysPool) {
            PageCache { open: |_| None, read: |_, _, _| 0 }
        } else if config.tuned(Tune::LoopReads) {
            PageCache { open: |request| Some(request.open()), read: read_anyway }
        } else {
            PageCache { open: |request| request.open_cached().transpose(), read: read_cached }
        }
    }

    /// Opens the request's path if the kernel's caches suffice; `None` if the disk would have to be read.
    pub(crate) fn open(&self, request: &OpenRequest) -> Option<io::Result<Opened>> {
        (self.open)(request)
    }

    /// Reads the bytes from `offset` on that are in memory and returns how many there are.
    ///
    /// 0 can mean several things: not in memory, a volume that doesn't tell, a seccomp policy that forbids `RWF_NOWAIT`,
    /// the end of file that Linux 5.9 and 5.10 report for a miss, or the real end of a file that shrank. A read that may
    /// wait tells them apart.
    pub(crate) fn read(&self, file: &SharedFile, offset: u64, bytes: &mut [u8]) -> usize {
        (self.read)(file, offset, bytes)
    }
}

fn read_anyway(file: &SharedFile, offset: u64, bytes: &mut [u8]) -> usize {
    read_full(file, bytes, offset).unwrap_or(0)
}

fn read_cached(file: &SharedFile, offset: u64, bytes: &mut [u8]) -> usize {
    let flags = match file.volume().pages() {
        Pages::Here => ReadWriteFlags::empty(),
        Pages::Askable => ReadWriteFlags::NOWAIT,
        Pages::Remembered | Pages::Unknown => return 0,
    };
    preadv2(file, &mut [IoSliceMut::new(bytes)], offset, flags).unwrap_or(0)
}
