//! Volumes: the best way to read files on each file system.
//!
//! The kernel first tries a READ without blocking. If the file system doesn't support that (no `FMODE_NOWAIT`: tmpfs,
//! some overlays), a kernel thread does every READ, at two context switches each, even if the bytes are in memory.
//! `RWF_NOWAIT` (preadv2(2)) tells which kind it is; we probe once per device.

use std::io::IoSliceMut;
use std::os::fd::AsFd;

use common::SharedFile;
use rustix::fs::fstatfs;
use rustix::io::{Errno, ReadWriteFlags, preadv2};

/// Devices remembered. A site seldom spans more than one.
const VOLUMES_MAX: usize = 32;

/// Network and user-space file systems (statfs(2)): a kernel thread may wait for them, but the event loop must not.
const REMOTE: [u32; 10] = [
    0x0000_6969, // NFS
    0x0000_517b, // SMB
    0xff53_4d42, // CIFS
    0xfe53_4d42, // SMB2
    0x6573_5546, // FUSE
    0x0102_1997, // 9p
    0x00c3_6400, // Ceph
    0x5346_414f, // AFS
    0x6b41_4653, // kAFS
    0x7375_7245, // Coda
];

/// How to read a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Reading {
    /// Through the ring: completes at once if the bytes are in memory, otherwise once they have been read.
    #[default]
    Ring,
    /// Directly, with pread(2).
    Direct,
}

/// How to read the files of each device seen so far.
#[derive(Debug, Default)]
pub(crate) struct Volumes {
    known: Vec<(u64, Reading)>,
}

impl Volumes {
    /// How to read this file.
    pub(crate) fn reading(&mut self, file: &SharedFile) -> Reading {
        let device = file.device();
        if let Some((_, reading)) = self.known.iter().find(|(known, _)| *known == device) {
            return *reading;
        }
        let reading = probe(file);
        if self.known.len() < VOLUMES_MAX {
            self.known.push((device, reading));
        }
        reading
    }
}

fn probe(file: &SharedFile) -> Reading {
    let mut byte = [0];
    match preadv2(file, &mut [IoSliceMut::new(&mut byte)], 0, ReadWriteFlags::NOWAIT) {
        Err(Errno::OPNOTSUPP) if !is_remote(file) => Reading::Direct,
        // Leave anything else to the ring: at worst, a kernel thread does the READ.
        Ok(_) | Err(_) => Reading::Ring,
    }
}

fn is_remote(file: &impl AsFd) -> bool {
    // The type is a 32-bit magic number in a field whose width and sign depend on the architecture.
    fstatfs(file).is_ok_and(|stat| {
        REMOTE.iter().any(|magic| i128::from(*magic) == i128::from(stat.f_type) & 0xffff_ffff)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    fn reading_of(file: &File) -> Reading {
        let file = SharedFile::new(file.as_fd().try_clone_to_owned().expect("a descriptor"), 0);
        let mut volumes = Volumes::default();
        let first = volumes.reading(&file);
        assert_eq!(volumes.reading(&file), first, "asked once, remembered");
        assert_eq!(volumes.known.len(), 1);
        first
    }

    #[test]
    fn a_disk_is_read_through_the_ring() {
        let file = tempfile::tempfile_in(env!("CARGO_MANIFEST_DIR")).expect("a file");
        assert_eq!(reading_of(&file), Reading::Ring);
    }

    #[test]
    fn files_in_memory_are_read_directly() {
        let Ok(file) = tempfile::tempfile_in("/dev/shm") else { return };
        const TMPFS: i128 = 0x0102_1994;
        if i128::from(fstatfs(&file).expect("a file system").f_type) == TMPFS {
            assert_eq!(reading_of(&file), Reading::Direct);
        }
    }
}
