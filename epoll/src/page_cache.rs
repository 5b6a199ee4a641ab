//! The page cache: how much of a file can be sent without waiting for a disk.

use std::io::IoSliceMut;

use common::site::SharedFile;
use rustix::io::{ReadWriteFlags, preadv2};

/// Before a `sendfile` the page cache is asked for one byte in so many: as many as a disk usually reads ahead.
const PROBE_BYTES: usize = 128 * 1024;

/// How many of the wanted bytes the page cache holds, from the first on, as far as single bytes can tell.
pub(crate) fn cached_bytes(file: &SharedFile, offset: u64, wanted: usize) -> usize {
    let mut cached = 0;
    while cached < wanted {
        let next = (cached + PROBE_BYTES).min(wanted);
        let mut byte = [0];
        let last = offset + (next - 1) as u64;
        match preadv2(file, &mut [IoSliceMut::new(&mut byte)], last, ReadWriteFlags::NOWAIT) {
            Ok(1) => cached = next,
            Ok(_) | Err(_) => break,
        }
    }
    cached
}
