//! An open file: what it is, who shares it, and how its bytes are read.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, OnceLock};

use rustix::fs::{FileType, fstat};
use rustix::io::{pread, retry_on_intr};

use crate::site::closer::close_elsewhere;
use crate::site::file_bytes::FileBytes;
use crate::site::mounts::MountId;
use crate::site::residency::Residency;
use crate::site::volume::Volume;

/// What a file is, from fstat(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// The type.
    pub kind: FileType,
    /// Bytes.
    pub size: u64,
    /// Modification time, seconds since the Unix epoch.
    pub modified_seconds: i64,
    /// Modification time, the nanoseconds.
    pub modified_nanoseconds: u32,
    /// Change time of the inode, seconds since the Unix epoch and nanoseconds.
    pub changed: (i64, u64),
    /// The inode.
    pub inode: u64,
    /// The device that the inode is on.
    pub device: u64,
}

impl Metadata {
    /// Of an open file: fstat(2).
    pub(crate) fn of(file: &OwnedFd) -> rustix::io::Result<Metadata> {
        let stat = fstat(file)?;
        Ok(Metadata {
            kind: FileType::from_raw_mode(stat.st_mode),
            size: stat.st_size.max(0).unsigned_abs(),
            modified_seconds: stat.st_mtime,
            modified_nanoseconds: u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
            changed: (stat.st_ctime, stat.st_ctime_nsec),
            inode: stat.st_ino,
            device: stat.st_dev,
        })
    }
}

/// An open file, on a volume that is known. Dropping it closes it: at once, or elsewhere if that may wait.
#[derive(Debug)]
pub struct OpenFile {
    /// `None` only once it was taken out.
    descriptor: Option<OwnedFd>,
    volume: Volume,
    mount: MountId,
}

impl OpenFile {
    /// A file on this volume, in this mount.
    #[must_use]
    pub fn new(descriptor: OwnedFd, volume: Volume, mount: MountId) -> OpenFile {
        OpenFile { descriptor: Some(descriptor), volume, mount }
    }
}

impl AsFd for OpenFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_ref().expect("only who owns the file takes it out").as_fd()
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        if let Some(descriptor) = self.descriptor.take()
            && !self.volume.closes_at_once()
        {
            close_elsewhere(descriptor, self.mount);
        }
    }
}

/// An open file, shared by its connection and the operations that read from it. The allocation outlives the file:
/// once emptied, it holds the next one.
#[derive(Debug)]
pub struct SharedFile {
    file: Option<OpenFile>,
    /// In a box, since few files have it.
    residency: OnceLock<Box<Residency>>,
}

impl SharedFile {
    /// A file that can be shared.
    #[must_use]
    pub fn new(file: OpenFile) -> SharedFile {
        SharedFile { file: Some(file), residency: OnceLock::new() }
    }

    /// Takes the file out, if whoever gets it may close it in its own way. Any other is
    /// closed. What is left waits for the next file, and takes little memory.
    pub(crate) fn take(&mut self) -> Option<OwnedFd> {
        drop(self.residency.take());
        let mut file = self.file.take()?;
        if file.volume.closes_at_once() { file.descriptor.take() } else { None }
    }

    /// From now on remembers what of the file is in memory. Worth it for a file that is sent again and again.
    pub(crate) fn remember_residency(&self, size: u64) {
        self.residency.get_or_init(|| Box::new(Residency::new(size)));
    }

    /// What of the file was in memory a moment ago, if that is remembered.
    pub(crate) fn residency(&self) -> Option<&Residency> {
        self.residency.get().map(|residency| &**residency)
    }

    /// The volume that it is on.
    #[must_use]
    pub fn volume(&self) -> Volume {
        self.open_file().volume
    }

    /// The mount that it is in.
    #[must_use]
    pub fn mount(&self) -> MountId {
        self.open_file().mount
    }

    fn open_file(&self) -> &OpenFile {
        // Only the last owner can empty it: that takes `&mut`.
        self.file.as_ref().expect("a file that is shared is open")
    }
}

impl AsFd for SharedFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.open_file().as_fd()
    }
}

/// Some bytes of an open file.
#[derive(Clone, Copy, Debug)]
pub struct FileRange<'a> {
    /// The file; an operation that reads from it takes a share.
    pub file: &'a Arc<SharedFile>,
    /// The position of the first byte.
    pub offset: u64,
    /// How many bytes.
    pub length: u64,
}

impl FileRange<'_> {
    /// Reads the range into memory with pread(2), which may wait for a disk. Shorter where the file ends early.
    ///
    /// # Errors
    /// What pread(2) reports, if it does so before the first byte.
    pub fn read(&self) -> io::Result<FileBytes> {
        let mut bytes = FileBytes::zeroed(usize::try_from(self.length).unwrap_or(usize::MAX));
        let length = read_full(self.file, &mut bytes, self.offset)?;
        bytes.truncate(length);
        Ok(bytes)
    }
}

/// Fills `buffer` from `offset` on with pread(2), which may wait for a disk. Returns how many bytes there were: fewer
/// where the file ends, or can't be read any further.
///
/// # Errors
/// What pread(2) reports, if it does so before the first byte.
pub fn read_full(file: &SharedFile, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match retry_on_intr(|| pread(file, &mut buffer[filled..], offset + filled as u64)) {
            Ok(0) => break,
            Ok(read) => filled += read,
            // What precedes a bad block can still be sent; the next read starts at the error.
            Err(_) if filled > 0 => break,
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_emptied_file_remembers_nothing() {
        let file = OwnedFd::from(std::fs::File::open("/dev/null").expect("opened"));
        let mut shared = SharedFile::new(OpenFile::new(file, Volume::Local, 0));
        assert!(shared.residency().is_none(), "only where it is worth it");
        shared.remember_residency(1);
        assert!(shared.residency().is_some());
        assert!(shared.take().is_some() && shared.take().is_none());
        assert!(shared.residency().is_none());
    }
}
