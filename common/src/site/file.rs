//! An open file: what it is, who shares it, and how its bytes are read.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use rustix::fs::{FileType, fstat, readlink};
use rustix::io::{pread, retry_on_intr};

use crate::http::conditional::{FileState, Timestamp};
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
    pub(crate) fn of(file: &impl AsFd) -> rustix::io::Result<Metadata> {
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

    /// What validators are made of.
    pub(crate) fn state(&self) -> FileState {
        let Metadata {
            inode,
            size,
            modified_seconds,
            modified_nanoseconds,
            changed: (seconds, nanoseconds),
            ..
        } = *self;
        let modified = Timestamp { seconds: modified_seconds, nanoseconds: modified_nanoseconds };
        let changed = Timestamp { seconds, nanoseconds: u32::try_from(nanoseconds).unwrap_or(0) };
        FileState { inode, size, modified, changed }
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

/// Where an open file is, as the kernel knows it by now, if the system tells (proc_pid_fd(5)). This asks no file system, so
/// it doesn't wait for a disk.
pub(crate) fn place_of(file: impl AsFd) -> Option<PathBuf> {
    let link = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    let path = readlink(link, Vec::new()).ok()?;
    Some(OsString::from_vec(path.into_bytes()).into())
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
    use std::fs::{self, File};

    fn shared(file: File) -> Arc<SharedFile> {
        Arc::new(SharedFile::new(OpenFile::new(file.into(), Volume::Local, 7)))
    }

    fn read(file: &SharedFile, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut buffer = vec![b'.'; length];
        let filled = read_full(file, &mut buffer, offset)?;
        assert!(buffer[filled..].iter().all(|byte| *byte == b'.'), "nothing behind what was read");
        buffer.truncate(filled);
        Ok(buffer)
    }

    #[test]
    fn reads_go_as_far_as_the_file() {
        let folder = tempfile::tempdir().expect("a directory");
        fs::write(folder.path().join("file"), "0123456789").expect("written");
        let file = shared(File::open(folder.path().join("file")).expect("opened"));
        for (name, offset, length, expected) in [
            ("all", 0, 10, "0123456789"),
            ("nothing", 5, 0, ""),
            ("a part", 3, 4, "3456"),
            ("across the end", 8, 10, "89"),
            ("at the end", 10, 10, ""),
            ("behind the end", 100, 10, ""),
        ] {
            assert_eq!(read(&file, offset, length).expect("read"), expected.as_bytes(), "{name}");
            let range = FileRange { file: &file, offset, length: length as u64 };
            assert_eq!(&range.read().expect("read")[..], expected.as_bytes(), "{name}");
        }
        assert_eq!(file.mount(), 7);
    }

    /// The memory of this process has holes: a read ends at one, and one that begins there fails.
    #[test]
    fn what_precedes_an_error_is_read() {
        let maps = fs::read_to_string("/proc/self/maps").expect("read");
        let ranges: Vec<(u64, u64)> = maps
            .lines()
            .filter_map(|line| line.split_once(" r")?.0.split_once('-'))
            .map(|(start, end)| {
                [start, end].map(|text| u64::from_str_radix(text, 16).expect("an address")).into()
            })
            .collect();
        let memory = shared(File::open("/proc/self/mem").expect("opened"));
        let is_hole = |address: u64| read(&memory, address, 1).is_err();
        let end = ranges.iter().map(|(_, end)| *end).find(|end| is_hole(*end) && !is_hole(end - 64));
        let end = end.expect("a hole");
        assert_eq!(read(&memory, end - 64, 100).expect("read").len(), 64);
        assert_eq!(
            read(&memory, end, 100).expect_err("a hole").raw_os_error(),
            Some(rustix::io::Errno::IO.raw_os_error())
        );
    }

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
