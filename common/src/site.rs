//! The site: a directory, and files opened beneath it and nowhere else.
//!
//! Every open is an `openat2(2)` (Linux 5.6) relative to a descriptor of the root with `RESOLVE_BENEATH`: a
//! symlink that leads out, or a directory that is swapped for one at the wrong moment, is refused by the
//! kernel itself. `O_NONBLOCK` keeps a FIFO from holding up the opener; only regular files are served.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2};
use rustix::io::Errno;

use crate::listing;
use crate::start::StartError;

/// How often an open is tried again that lost a race against a rename (`EAGAIN`, openat2(2)).
const RACES_MAX: usize = 8;

/// Which symbolic links are followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Symlinks {
    /// Those that stay beneath the root.
    #[default]
    Beneath,
    /// None.
    Deny,
}

/// What of a directory is served.
#[derive(Clone, Copy, Debug, Default)]
pub struct SiteOptions {
    /// Names that begin with a dot, too.
    pub hidden: bool,
    /// Which symbolic links are followed.
    pub symlinks: Symlinks,
    /// A listing for a directory without an `index.html`.
    pub listing: bool,
}

/// A directory that is served.
#[derive(Debug)]
pub struct Site {
    root: OwnedFd,
    options: SiteOptions,
}

/// `struct open_how` of openat2(2), for an open that a ring carries out.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the names are the manual page's")]
pub struct OpenHow {
    pub flags: u64,
    pub mode: u64,
    pub resolve: u64,
}

/// What is to be opened: a path beneath the root, shared with whoever carries the open out.
#[derive(Clone, Debug, Default)]
pub struct OpenRequest {
    /// Ends in its only NUL; empty before the first use.
    path: Vec<u8>,
    listing: Option<Listing>,
}

#[derive(Clone, Copy, Debug)]
struct Listing {
    hidden: bool,
}

impl OpenRequest {
    /// A request for one path, relative and without a NUL; for the root itself it is empty.
    pub(crate) fn set_file(&mut self, path: &[u8], last: &[u8]) {
        self.set_path(path, last);
        self.listing = None;
    }

    /// A request for the listing of a directory.
    pub(crate) fn set_listing(&mut self, path: &[u8], hidden: bool) {
        self.set_path(path, b"");
        self.listing = Some(Listing { hidden });
    }

    /// `path`, then `last` where it isn't empty, joined by a slash.
    fn set_path(&mut self, path: &[u8], last: &[u8]) {
        self.path.clear();
        self.path.extend_from_slice(path);
        if !path.is_empty() && !last.is_empty() {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(last);
        if self.path.is_empty() {
            self.path.push(b'.');
        }
        self.path.push(0);
    }

    /// The path, relative to the root and never empty. It stays in place as long as this request isn't changed.
    #[must_use]
    pub fn path(&self) -> &CStr {
        CStr::from_bytes_with_nul(&self.path).unwrap_or(c".")
    }

    /// The path's bytes, without the NUL.
    pub(crate) fn path_bytes(&self) -> &[u8] {
        self.path.split_last().map_or(b".", |(_nul, path)| path)
    }

    /// Whether a listing is asked for: it reads a directory, for which a ring has no operation.
    #[must_use]
    pub fn is_listing(&self) -> bool {
        self.listing.is_some()
    }
}

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

/// An open file, as its connection and the operations that read from it share it. The memory outlives the
/// file: emptied, it serves for the next one.
#[derive(Debug)]
pub struct SharedFile {
    file: Option<OwnedFd>,
    device: u64,
}

impl SharedFile {
    /// A file that is on this device.
    pub(crate) fn new(file: OwnedFd, device: u64) -> SharedFile {
        SharedFile { file: Some(file), device }
    }

    /// Takes the file out.
    pub(crate) fn take(&mut self) -> Option<OwnedFd> {
        self.file.take()
    }

    /// Puts a file in.
    pub(crate) fn put(&mut self, file: OwnedFd, device: u64) {
        *self = SharedFile::new(file, device);
    }

    /// The device that the file is on; 0 if nobody has asked for it.
    #[must_use]
    pub fn device(&self) -> u64 {
        self.device
    }
}

impl From<OwnedFd> for SharedFile {
    fn from(file: OwnedFd) -> Self {
        SharedFile::new(file, 0)
    }
}

impl AsFd for SharedFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // It is emptied through `&mut` alone, by the last one who holds it.
        self.file.as_ref().expect("a file that is shared is open").as_fd()
    }
}

/// An open file, and what was read of it while it was opened.
#[derive(Debug)]
pub struct Opened {
    /// The descriptor.
    pub file: OwnedFd,
    /// What it is.
    pub metadata: Metadata,
    /// The page that lists the directory, where that was asked for.
    pub(crate) listing: Option<Vec<u8>>,
}

impl Opened {
    /// What follows an open: fstat(2).
    ///
    /// # Errors
    /// What fstat(2) reports.
    pub fn from_fd(file: OwnedFd) -> io::Result<Opened> {
        let metadata = Metadata::of(&file)?;
        Ok(Opened { file, metadata, listing: None })
    }
}

impl Metadata {
    /// Of an open file: fstat(2).
    fn of(file: &OwnedFd) -> rustix::io::Result<Metadata> {
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

impl Site {
    /// Opens the root.
    ///
    /// # Errors
    /// One line when it doesn't exist, isn't a directory, may not be read, or the kernel lacks openat2(2).
    pub fn open_root(root: &Path, options: SiteOptions) -> Result<Site, StartError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fail = |errno: Errno| {
            let (what, todo) = match errno {
                Errno::NOENT => ("no such directory".to_owned(), "name an existing one"),
                Errno::NOTDIR => ("not a directory".to_owned(), "name the directory that holds the files"),
                Errno::ACCESS => {
                    ("permission denied".to_owned(), "make it readable for the user that runs the server")
                }
                _ => (io::Error::from(errno).to_string(), "name another directory"),
            };
            StartError::new(format!("root {}: {what}; {todo}", root.display()))
        };
        let site = Site { root: openat(CWD, root, flags, Mode::empty()).map_err(fail)?, options };
        match site.openat2(c".", ResolveFlags::empty()) {
            Ok(_root) => Ok(site),
            Err(Errno::NOSYS | Errno::PERM) => Err(StartError::new(
                "openat2(2) is missing or forbidden: it needs Linux 5.6, and a container policy that allows it",
            )),
            Err(errno) => Err(fail(errno)),
        }
    }

    /// Opens a path and looks at what it is. This may wait for a disk.
    ///
    /// # Errors
    /// What openat2(2), fstat(2) and getdents64(2) report; [`status_of`](crate::status::status_of) says what
    /// becomes of it.
    pub fn open(&self, request: &OpenRequest) -> io::Result<Opened> {
        let mut races = 0;
        let file = loop {
            match self.openat2(request.path(), ResolveFlags::empty()) {
                Err(Errno::AGAIN) if races < RACES_MAX => races += 1,
                other => break other?,
            }
        };
        let mut opened = Opened::from_fd(file)?;
        if let Some(Listing { hidden }) = request.listing
            && opened.metadata.kind == FileType::Directory
        {
            opened.listing = Some(listing::page(self, &opened.file, request.path(), hidden)?);
        }
        Ok(opened)
    }

    /// What a path leads to, if it is served: links are followed as an open follows them.
    pub(crate) fn kind_of(&self, path: &CStr) -> Option<FileType> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let found = openat2(&self.root, path, flags, Mode::empty(), self.resolve()).ok()?;
        Some(FileType::from_raw_mode(fstat(&found).ok()?.st_mode))
    }

    /// Opens a path if the kernel's caches alone can tell what it is (`RESOLVE_CACHED`, Linux 5.12); `None`
    /// when only [`open`](Self::open) can.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_cached(&self, request: &OpenRequest) -> io::Result<Option<Opened>> {
        if request.is_listing() {
            return Ok(None);
        }
        match self.openat2(request.path(), ResolveFlags::CACHED) {
            Err(Errno::AGAIN | Errno::INVAL) => Ok(None),
            other => Opened::from_fd(other?).map(Some),
        }
    }

    /// Opens a path as [`open`](Self::open) does and tells what it is now, if the kernel's caches alone can.
    ///
    /// # Errors
    /// `EAGAIN` when only a disk can tell, else what openat2(2) and fstat(2) report.
    pub(crate) fn reopen(&self, path: &[u8]) -> rustix::io::Result<Metadata> {
        let resolve = self.resolve() | ResolveFlags::CACHED;
        Metadata::of(&openat2(&self.root, path, Self::flags(), Mode::empty(), resolve)?)
    }

    /// As [`reopen`](Self::reopen), for a plain path: neither a symbolic link nor a mount point on it.
    ///
    /// # Errors
    /// `ELOOP` for a link, `EXDEV` for a mount, else as [`reopen`](Self::reopen).
    pub(crate) fn reopen_plain(&self, path: &[u8]) -> rustix::io::Result<Metadata> {
        Metadata::of(&self.open_plain(path, Self::flags())?)
    }

    /// A directory beneath the root, whose path is empty, as a descriptor that only names it. Otherwise as
    /// [`reopen_plain`](Self::reopen_plain).
    pub(crate) fn directory_cached(&self, path: &[u8]) -> rustix::io::Result<OwnedFd> {
        let path = if path.is_empty() { b"." } else { path };
        self.open_plain(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC)
    }

    fn open_plain(&self, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let plain = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV | ResolveFlags::CACHED;
        openat2(&self.root, path, flags, Mode::empty(), self.resolve() | plain)
    }

    /// The descriptor that every path is relative to.
    #[must_use]
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// How paths are opened, for a ring that does it itself.
    #[must_use]
    pub fn how(&self) -> OpenHow {
        OpenHow { flags: u64::from(Self::flags().bits()), mode: 0, resolve: self.resolve().bits() }
    }

    /// What is served.
    #[must_use]
    pub fn options(&self) -> SiteOptions {
        self.options
    }

    fn openat2(&self, path: &CStr, resolve: ResolveFlags) -> rustix::io::Result<OwnedFd> {
        openat2(&self.root, path, Self::flags(), Mode::empty(), self.resolve() | resolve)
    }

    fn flags() -> OFlags {
        OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY
    }

    fn resolve(&self) -> ResolveFlags {
        let links = match self.options.symlinks {
            Symlinks::Beneath => ResolveFlags::empty(),
            Symlinks::Deny => ResolveFlags::NO_SYMLINKS,
        };
        ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | links
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn site(options: SiteOptions) -> (tempfile::TempDir, Site) {
        let outer = tempfile::tempdir().expect("a directory");
        let root = outer.path().join("root");
        fs::create_dir_all(root.join("dir")).expect("made");
        fs::write(outer.path().join("secret"), "outside").expect("written");
        fs::write(root.join("file"), "inside").expect("written");
        symlink("../secret", root.join("out")).expect("linked");
        symlink("/etc/passwd", root.join("absolute")).expect("linked");
        symlink("../file", root.join("dir/in")).expect("linked");
        symlink("/proc/self/root", root.join("magic")).expect("linked");
        let site = Site::open_root(&root, options).expect("opened");
        (outer, site)
    }

    fn open(site: &Site, path: &str) -> Result<u64, Errno> {
        let mut request = OpenRequest::default();
        request.set_file(path.as_bytes(), b"");
        site.open(&request)
            .map(|opened| opened.metadata.size)
            .map_err(|error| Errno::from_io_error(&error).expect("an errno"))
    }

    #[test]
    fn links_that_stay_beneath_are_followed_others_never() {
        let (_outer, site) = site(SiteOptions::default());
        assert_eq!(open(&site, "file"), Ok(6));
        assert_eq!(open(&site, "dir/in"), Ok(6));
        for path in ["out", "absolute", "../secret", "/etc/passwd", "dir/../../secret", "magic/etc/passwd"] {
            assert_eq!(open(&site, path), Err(Errno::XDEV), "{path}");
        }
        assert_eq!(open(&site, "none"), Err(Errno::NOENT));
        assert_eq!(open(&site, "file/x"), Err(Errno::NOTDIR));
    }

    #[test]
    fn links_can_be_denied() {
        let (_outer, site) = site(SiteOptions { symlinks: Symlinks::Deny, ..SiteOptions::default() });
        assert_eq!(open(&site, "file"), Ok(6));
        assert_eq!(open(&site, "dir/in"), Err(Errno::LOOP));
    }

    #[test]
    fn a_cached_open_tells_or_passes() {
        let (_outer, site) = site(SiteOptions::default());
        let mut request = OpenRequest::default();
        request.set_file(b"file", b"");
        site.open(&request).expect("now it is cached");
        if let Some(opened) = site.open_cached(&request).expect("no error") {
            assert_eq!(opened.metadata.size, 6);
        }
        request.set_listing(b"dir", false);
        assert!(site.open_cached(&request).expect("no error").is_none(), "a listing reads the disk");
    }

    #[test]
    fn a_root_that_cannot_be_served_says_why() {
        let (outer, _site) = site(SiteOptions::default());
        for (path, expected) in
            [("none", "no such directory; name an existing one"), ("secret", "not a directory; name")]
        {
            let error =
                Site::open_root(&outer.path().join(path), SiteOptions::default()).expect_err("refused");
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    proptest! {
        /// Whatever the target, what is opened is never the file outside.
        #[test]
        fn nothing_resolves_above_the_root(target in "/([.]{1,2}|%2e|%2E%2e|dir|out|in|magic|absolute|secret|file|/|%2f){0,8}") {
            let (_outer, site) = site(SiteOptions::default());
            let mut path = Vec::new();
            if crate::target::resolve(target.as_bytes(), &mut path).is_ok() {
                let mut request = OpenRequest::default();
                request.set_file(&path, b"");
                if let Ok(opened) = site.open(&request) {
                    prop_assert!(opened.metadata.kind == FileType::Directory || opened.metadata.size == 6);
                }
            }
        }
    }
}
