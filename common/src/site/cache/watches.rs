//! Watches: kernel events about changes to cached files (inotify(7)).
//!
//! A response depends on the file's inode and on every directory from the root down to its name, so all of them are
//! watched: the inode for its bytes and permissions, whatever name they are changed through; each directory for the
//! names in it, its permissions and its own name. Once all watches are in place, the path is opened again. If it still
//! leads to the same file in the same state, every later change produces an event.
//!
//! If the path leads through a symbolic link or a mount, the inode and the directories up to the link or mount are
//! watched. Names behind it can change unseen.
//!
//! Nothing here waits for a disk: paths are resolved only from the kernel's caches (`RESOLVE_CACHED`), and watches are
//! set through `/proc/self/fd` on descriptors that are already open.

use std::collections::HashMap;
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;

use crate::site::file::{Metadata, SharedFile};
use crate::site::root::Site;

/// A path relative to the root, shared between maps.
pub(crate) type FilePath = Arc<[u8]>;

/// Inode changes that affect the response.
const FILE_EVENTS: WatchFlags = WatchFlags::MODIFY
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::DELETE_SELF);

/// Changes that affect where names below a directory lead, or whether they may be followed. `MASK_CREATE` refuses a
/// second watch on the same inode: a directory already watched under another name has been renamed, and its event is
/// pending.
const DIRECTORY_EVENTS: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVE)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::ONLYDIR)
    .union(WatchFlags::MASK_CREATE);

/// Which changes to a file can be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Visibility {
    /// Every change makes an event; this is the watch of its inode.
    Watched(i32),
    /// Like `Watched`, except for names behind a symbolic link or a mount.
    Partly(i32),
    /// Some or all changes produce no events: a foreign file system, or no watches left.
    Unseen,
    /// Unknown without blocking, or the file is changing right now.
    Unsettled,
}

/// A directory with cached files somewhere below it.
#[derive(Debug)]
struct Directory {
    /// `None` for a symbolic link or a mount, and for anything behind it.
    watch: Option<i32>,
    files: usize,
}

/// What an event refers to.
pub(crate) enum Subject {
    /// These files.
    Files(Vec<FilePath>),
    /// A name in this directory, or the directory itself if the event carries no name.
    Directory(FilePath),
}

/// All watches of one cache.
#[derive(Debug)]
pub(crate) struct Watches {
    inotify: Option<Arc<OwnedFd>>,
    /// The files of a watched inode; hard links can make several.
    files: HashMap<i32, Vec<FilePath>>,
    directories: HashMap<FilePath, Directory>,
    /// Directory paths by watch.
    paths: HashMap<i32, FilePath>,
}

impl Watches {
    /// If inotify isn't available (`fs.inotify.max_user_instances`), every change is unseen.
    pub(crate) fn new() -> Watches {
        Watches {
            inotify: inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok().map(Arc::new),
            files: HashMap::new(),
            directories: HashMap::new(),
            paths: HashMap::new(),
        }
    }

    /// As if the system had no inotify instance left.
    #[cfg(test)]
    pub(crate) fn blind(&mut self) {
        self.inotify = None;
    }

    /// Readable when events are pending.
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
        // Not on a network, in user space, or in layers: there, changes can come from elsewhere, and paths make waits.
        if !file.volume().tells_changes() || !site.opens_at_once() {
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

    /// Removes the watch of a file, and those of directories without any cached files left.
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

    /// What an event of this watch refers to; `None` if the watch has been removed.
    pub(crate) fn subject(&self, watch: i32) -> Option<Subject> {
        if let Some(paths) = self.files.get(&watch) {
            return Some(Subject::Files(paths.clone()));
        }
        self.paths.get(&watch).map(|path| Subject::Directory(Arc::clone(path)))
    }

    /// Whether this directory has cached files somewhere below it.
    pub(crate) fn has_directory(&self, path: &[u8]) -> bool {
        self.directories.contains_key(path)
    }

    /// Counts one more file below the directory, watching it if it is new. Returns whether it is watched.
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
            // Fails if the inode is gone: the kernel has removed the watch already.
            let _ended = inotify::remove_watch(inotify, watch);
        }
    }
}

/// What a failure to set a watch or to reopen the path means for the file.
fn visibility_of(errno: Errno) -> Visibility {
    match errno {
        // Not in the kernel's caches, or just renamed, replaced (also by a link or a mount) or removed.
        Errno::AGAIN | Errno::EXIST | Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV => {
            Visibility::Unsettled
        }
        Errno::MFILE | Errno::NFILE => Visibility::Unsettled,
        // No watches left (ENOSPC), or unreadable.
        _ => Visibility::Unseen,
    }
}

/// The directories above a path, from the root (the empty path) down.
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
    fn ancestors_start_at_the_root() {
        let above = |path: &'static str| ancestors(path.as_bytes()).collect::<Vec<_>>();
        assert_eq!(above("file"), [b""]);
        assert_eq!(above("a/bc/file"), [&b""[..], b"a", b"a/bc"]);
    }

    #[test]
    fn what_cannot_be_known_now_is_not_unseen() {
        for errno in [
            Errno::AGAIN,
            Errno::EXIST,
            Errno::NOENT,
            Errno::NOTDIR,
            Errno::LOOP,
            Errno::XDEV,
            Errno::MFILE,
            Errno::NFILE,
        ] {
            assert_eq!(visibility_of(errno), Visibility::Unsettled, "{errno}");
        }
        for errno in [Errno::NOSPC, Errno::ACCESS, Errno::PERM, Errno::INVAL] {
            assert_eq!(visibility_of(errno), Visibility::Unseen, "{errno}");
        }
    }
}
