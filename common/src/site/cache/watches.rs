//! Watches: the kernel's events about changes to cached files (inotify(7)).
//!
//! An answer depends on the file's inode and on every directory from the root down to its name, so all of
//! them are watched: the inode for its bytes and its permissions, whatever name they are changed under, and
//! each directory for its names, its permissions and its own name. Only when all watches are in place is the
//! path opened once more. If that leads to the same file in the same state, every later change makes an event.
//! Where the path leads through a symbolic link or a mount, what is watched is the way to it and the inode, and
//! what may change behind it unseen is the names there.
//!
//! Nothing here waits for a disk: paths are resolved by the kernel's caches alone (`RESOLVE_CACHED`), and
//! watches are set through `/proc/self/fd`, on what is open already.

use std::collections::HashMap;
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::fstatfs;
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;

use crate::site::file::{Metadata, SharedFile};
use crate::site::root::Site;

/// A path relative to the root, shared by the maps that hold it.
pub(crate) type FilePath = Arc<[u8]>;

/// What changes the answer that a file's inode gives.
const FILE_EVENTS: WatchFlags = WatchFlags::MODIFY
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::DELETE_SELF);

/// What changes where the names below a directory lead, or whether they may be followed. A directory that is
/// watched already under another name was renamed, and its event is on its way: then the watch is refused.
const DIRECTORY_EVENTS: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVE)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::ONLYDIR)
    .union(WatchFlags::MASK_CREATE);

/// File systems all of whose changes go through this kernel's own inodes (statfs(2)). On any other, one behind
/// a network or a user's process or in layers, a file may change and no event tell of it.
const LOCAL: [u32; 14] = [
    0x0000_ef53, // ext2, ext3, ext4
    0x5846_5342, // XFS
    0x9123_683e, // Btrfs
    0x0102_1994, // tmpfs
    0x8584_58f6, // ramfs
    0xf2f5_2010, // F2FS
    0x2fc1_2fc1, // ZFS
    0xca45_1a4e, // bcachefs
    0x3153_464a, // JFS
    0x0000_4d44, // FAT
    0x2011_bab0, // exFAT
    0x7371_7368, // SquashFS
    0xe0f5_e1e2, // EROFS
    0x0000_9660, // ISO 9660
];

/// Devices that are known. A site seldom has more than one; what is on others counts as unseen.
const DEVICES_MAX: usize = 32;

/// How far changes to a file can be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Visibility {
    /// Every change makes an event; this is the watch of its inode.
    Watched(i32),
    /// The same, but for names behind a symbolic link or a mount.
    Partly(i32),
    /// Changes make no events, or not all of them: foreign file systems, no more watches to be had.
    Unseen,
    /// It can't be told without waiting, or is changing just now.
    Unsettled,
}

/// A directory with files that are kept, somewhere below it.
#[derive(Debug)]
struct Directory {
    /// None for a symbolic link or a mount, and for what lies behind it.
    watch: Option<i32>,
    files: usize,
}

/// What an event is about.
pub(crate) enum Subject {
    /// These files.
    Files(Vec<FilePath>),
    /// A name in this directory, or, without one, the directory itself.
    Directory(FilePath),
}

/// All watches of one cache.
#[derive(Debug)]
pub(crate) struct Watches {
    inotify: Option<Arc<OwnedFd>>,
    /// The files of a watched inode; hard links make several.
    files: HashMap<i32, Vec<FilePath>>,
    directories: HashMap<FilePath, Directory>,
    /// The directories again, by their watches.
    paths: HashMap<i32, FilePath>,
    /// Devices, and whether their changes are seen.
    devices: Vec<(u64, bool)>,
}

impl Watches {
    /// Without inotify (`fs.inotify.max_user_instances`) nothing is seen.
    pub(crate) fn new() -> Watches {
        Watches {
            inotify: inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok().map(Arc::new),
            files: HashMap::new(),
            directories: HashMap::new(),
            paths: HashMap::new(),
            devices: Vec::new(),
        }
    }

    /// Readable when there are events.
    pub(crate) fn inotify(&self) -> Option<&Arc<OwnedFd>> {
        self.inotify.as_ref()
    }

    /// Watches a file that was opened under this path and found in this state.
    pub(crate) fn watch(
        &mut self,
        site: &Site,
        path: &FilePath,
        file: &SharedFile,
        found: &Metadata,
    ) -> Visibility {
        let Some(inotify) = self.inotify.clone() else { return Visibility::Unseen };
        if !self.sees(found.device, file) {
            return Visibility::Unseen;
        }
        let mut is_plain = true;
        for (entered, directory) in ancestors(path).enumerate() {
            match self.enter(site, &inotify, directory) {
                Ok(is_watched) => is_plain &= is_watched,
                Err(errno) => {
                    self.leave(ancestors(path).take(entered));
                    return visibility_of(errno);
                }
            }
        }
        let watch = match inotify::add_watch(&inotify, descriptor_path(file), FILE_EVENTS) {
            Ok(watch) => watch,
            Err(errno) => {
                self.leave(ancestors(path));
                return visibility_of(errno);
            }
        };
        self.files.entry(watch).or_default().push(Arc::clone(path));
        let state = match site.reopen_plain(path) {
            Err(Errno::LOOP | Errno::XDEV) => {
                is_plain = false;
                site.reopen(path)
            }
            state => state,
        };
        match state {
            Ok(now) if now == *found && is_plain => Visibility::Watched(watch),
            Ok(now) if now == *found => Visibility::Partly(watch),
            Ok(_) => {
                self.unwatch(path, watch);
                Visibility::Unsettled
            }
            Err(errno) => {
                self.unwatch(path, watch);
                visibility_of(errno)
            }
        }
    }

    /// Ends the watch of a file, and those of directories that nothing is kept of any more.
    pub(crate) fn unwatch(&mut self, path: &FilePath, watch: i32) {
        if let Some(paths) = self.files.get_mut(&watch) {
            paths.retain(|known| known != path);
            if paths.is_empty() {
                self.files.remove(&watch);
                self.end(watch);
            }
        }
        self.leave(ancestors(path));
    }

    /// What the event of a watch is about; `None` if that is over.
    pub(crate) fn subject(&self, watch: i32) -> Option<Subject> {
        if let Some(paths) = self.files.get(&watch) {
            return Some(Subject::Files(paths.clone()));
        }
        self.paths.get(&watch).map(|path| Subject::Directory(Arc::clone(path)))
    }

    /// Whether this is a directory that something is kept of, or leads to one.
    pub(crate) fn has_directory(&self, path: &[u8]) -> bool {
        self.directories.contains_key(path)
    }

    /// Whether the directory is watched now.
    fn enter(&mut self, site: &Site, inotify: &OwnedFd, path: &[u8]) -> rustix::io::Result<bool> {
        if let Some(directory) = self.directories.get_mut(path) {
            directory.files += 1;
            return Ok(directory.watch.is_some());
        }
        let watch = match site.directory_cached(path) {
            Ok(descriptor) => {
                Some(inotify::add_watch(inotify, descriptor_path(&descriptor), DIRECTORY_EVENTS)?)
            }
            Err(Errno::LOOP | Errno::XDEV) => None,
            Err(errno) => return Err(errno),
        };
        let path = FilePath::from(path);
        if let Some(watch) = watch {
            self.paths.insert(watch, Arc::clone(&path));
        }
        self.directories.insert(path, Directory { watch, files: 1 });
        Ok(watch.is_some())
    }

    fn leave<'a>(&mut self, paths: impl Iterator<Item = &'a [u8]>) {
        for path in paths {
            let Some(directory) = self.directories.get_mut(path) else { continue };
            directory.files -= 1;
            if directory.files == 0 {
                let watch = directory.watch;
                self.directories.remove(path);
                if let Some(watch) = watch {
                    self.paths.remove(&watch);
                    self.end(watch);
                }
            }
        }
    }

    fn end(&self, watch: i32) {
        if let Some(inotify) = &self.inotify {
            // It is gone already where the inode is.
            let _ended = inotify::remove_watch(inotify, watch);
        }
    }

    /// Whether changes on this device, which the file is on, can be seen.
    fn sees(&mut self, device: u64, file: &SharedFile) -> bool {
        if let Some((_, sees)) = self.devices.iter().find(|(known, _)| *known == device) {
            return *sees;
        }
        // A foreign file system may be slow to tell what it is, so it is asked once.
        if self.devices.len() == DEVICES_MAX {
            return false;
        }
        // The type is a magic number of 32 bits in a field whose width and sign depend on the machine.
        let is_local = |magic: i128| LOCAL.iter().any(|local| i128::from(*local) == magic & 0xffff_ffff);
        let sees = fstatfs(file).is_ok_and(|stat| is_local(i128::from(stat.f_type)));
        self.devices.push((device, sees));
        sees
    }
}

/// What the failure of a watch, or of the look behind it, means for the file.
fn visibility_of(errno: Errno) -> Visibility {
    match errno {
        // Not in the kernel's caches; renamed, replaced (by a link or a mount, too) or removed in this moment; out
        // of descriptors.
        Errno::AGAIN | Errno::EXIST | Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV => {
            Visibility::Unsettled
        }
        Errno::MFILE | Errno::NFILE => Visibility::Unsettled,
        // No more watches (ENOSPC), unreadable.
        _ => Visibility::Unseen,
    }
}

/// The directories above a path, from the root, which is empty, down.
fn ancestors(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let slashes = memchr::memchr_iter(b'/', path);
    std::iter::once(&path[..0]).chain(slashes.map(|slash| &path[..slash]))
}

fn descriptor_path(descriptor: &impl AsFd) -> CString {
    CString::new(format!("/proc/self/fd/{}", descriptor.as_fd().as_raw_fd())).expect("digits have no NUL")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directories_above_a_path() {
        let above = |path: &'static str| ancestors(path.as_bytes()).collect::<Vec<_>>();
        assert_eq!(above("file"), [b""]);
        assert_eq!(above("a/bc/file"), [&b""[..], b"a", b"a/bc"]);
    }
}
