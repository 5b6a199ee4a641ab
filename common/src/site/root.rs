//! The root of a site: a directory beneath which files are opened, and nowhere else.
//!
//! Every open is an `openat2(2)` (Linux 5.6) relative to a descriptor of the root with `RESOLVE_BENEATH`: the kernel
//! itself refuses a symbolic link that leads out, or a directory that is swapped for one at the wrong moment.
//! `O_NONBLOCK` keeps a FIFO from holding up the opener; only regular files are served.
//!
//! What is mounted beneath the root is another volume (`site/volume.rs`). An open that mustn't wait stays in the root's
//! own mount (`RESOLVE_NO_XDEV`), whose volume is known; any other tries that first, and then wherever the path leads.

use std::ffi::CStr;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, Stat, fstat, openat, openat2};
use rustix::io::Errno;

use crate::http::conditional::EtagPolicy;
use crate::http::cors::Cors;
use crate::http::mime::MediaTypes;
use crate::site::addresses::Address;
pub use crate::site::addresses::IndexName;
use crate::site::fault_log::FaultLog;
use crate::site::file::{Metadata, OpenFile, place_of};
use crate::site::mounts::{MountId, Mounts};
use crate::site::rule_files::{FileRules, SiteRules};
use crate::site::rules::HeaderRules;
use crate::site::variants::Compress;

/// How often an open is repeated that lost a race against a rename (`EAGAIN`, openat2(2)).
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

/// What of a directory is served, and how.
#[derive(Clone, Debug, Default)]
pub struct SiteOptions {
    /// Whether names that begin with a dot are served.
    pub hidden: bool,
    /// Which symbolic links are followed.
    pub symlinks: Symlinks,
    /// Whether a directory without an index page is listed.
    pub listing: bool,
    /// What entity tags are made of.
    pub etag: EtagPolicy,
    /// Which variants of files are served.
    pub compress: Compress,
    /// The name of index pages.
    pub index: IndexName,
    /// Whether what isn't found is the root's index page to who asks for a page.
    pub spa: bool,
    /// Whether `about.html` has the address `/about`, and index pages that of their directory.
    pub clean_urls: bool,
    /// Types of files by extension.
    pub media_types: MediaTypes,
    /// What is added to answers with files, in front of the site's own rules.
    pub fields: Arc<HeaderRules>,
    /// Who else may read answers that are no files; what files say is among the fields.
    pub cors: Option<Cors>,
    /// Where faults of files and rules are said, if somebody is to be told.
    pub fault_log: Option<Arc<FaultLog>>,
}

/// A directory that is served.
#[derive(Debug)]
pub struct Site {
    /// Where the root was found.
    path: PathBuf,
    root: OwnedFd,
    mounts: Mounts,
    how: OpenHow,
    options: SiteOptions,
    rules: Arc<SiteRules>,
}

/// `struct open_how` of openat2(2), with its layout.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[expect(missing_docs, reason = "the names are the manual page's")]
pub struct OpenHow {
    pub flags: u64,
    pub mode: u64,
    pub resolve: u64,
}

/// How files are opened.
const FLAGS: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::CLOEXEC).union(OFlags::NOCTTY);

impl Site {
    /// Opens the root, and reads the rules in it. This may wait for a disk.
    ///
    /// # Errors
    /// When it doesn't exist, isn't a directory, may not be entered, or the kernel lacks openat2(2).
    pub fn open_root(root: &Path, options: SiteOptions) -> Result<Site, RootError> {
        Ok(Site::open_bare(root, options)?.with_rules())
    }

    /// Opens the root; no rules are in force.
    fn open_bare(root: &Path, options: SiteOptions) -> Result<Site, RootError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let path = root.to_owned();
        let fail = |errno| RootError::new(&path, errno);
        let resolve = (resolve_flags(&options) | ResolveFlags::NO_XDEV).bits();
        let how = OpenHow { flags: u64::from(FLAGS.bits()), mode: 0, resolve };
        let root = openat(CWD, root, flags, Mode::empty()).map_err(fail)?;
        let mounts = Mounts::at(&root);
        let site = Site { path: path.clone(), root, mounts, how, options, rules: Arc::default() };
        // With O_PATH, since serving needs the permission to enter the root, not the one to read its names.
        match site.openat2(c".", flags, ResolveFlags::empty()) {
            Ok(_root) => Ok(site),
            Err(Errno::NOSYS | Errno::PERM) => Err(RootError(
                "openat2(2) is missing or forbidden: it needs Linux 5.6, and a container policy that allows it"
                    .to_owned(),
            )),
            Err(errno) => Err(fail(errno)),
        }
    }

    /// Whether the root's path leads to another directory now. This may wait for a disk.
    pub(crate) fn has_moved(&self) -> bool {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat(CWD, &self.path, flags, Mode::empty()).is_ok_and(|root| !self.is_root(&root))
    }

    /// Why the root's path leads nowhere, if it doesn't lead to a directory just now. This may wait for a disk.
    pub(crate) fn lost(&self) -> Option<io::Error> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let found = openat(CWD, &self.path, flags, Mode::empty());
        // These say nothing of the path.
        let is_news = |errno: &Errno| !matches!(*errno, Errno::MFILE | Errno::NFILE | Errno::NOMEM);
        found.err().filter(is_news).map(io::Error::from)
    }

    /// Where the root was found.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn is_root(&self, directory: &OwnedFd) -> bool {
        let identity = |root| fstat(root).map(|stat| (stat.st_dev, stat.st_ino));
        match (identity(directory), identity(&self.root)) {
            (Ok(now), Ok(before)) => now == before,
            _ => true,
        }
    }

    /// The site that the root's path leads to now, if that is another directory. This may wait for a disk.
    pub(crate) fn moved(&self) -> Option<Site> {
        let moved = Site::open_bare(&self.path, self.options.clone()).ok()?;
        (!self.is_root(&moved.root)).then(|| moved.with_rules())
    }

    /// The same site with the rules that its files have now, if those have changed. This may wait for a disk.
    pub(crate) fn revised(&self) -> Option<Site> {
        let rules = self.rules.revised(|path| self.open_racing(path, ResolveFlags::empty()))?;
        let root = self.root.try_clone().ok()?;
        let mounts = Mounts::at(&root);
        let (path, options) = (self.path.clone(), self.options.clone());
        Some(Site { path, root, mounts, how: self.how, options, rules: Arc::new(rules) })
    }

    fn with_rules(self) -> Site {
        let open = |path: &CStr| self.open_racing(path, ResolveFlags::empty());
        let rules = SiteRules::load(&self.options.fields, open);
        Site { rules: Arc::new(rules), ..self }
    }

    /// What the site says about its own answers, if it says anything.
    #[inline]
    pub(crate) fn rules(&self) -> Option<&SiteRules> {
        Some(&*self.rules).filter(|rules| !rules.is_empty())
    }

    /// The address of the file at this path; `None` if that is its name.
    pub(crate) fn address<'a>(&self, path: &'a [u8]) -> Option<Address<'a>> {
        Address::of(path, &self.options.index, self.options.clean_urls)
    }

    /// What the rules and flags make of the file at this path.
    pub(crate) fn file_rules(&self, path: &[u8]) -> FileRules {
        self.rules.of_file(path, self.address(path), self.options.clean_urls)
    }

    /// What is wrong with the files of the rules, a line for each fault; nothing if they are those of another site in the
    /// same state.
    pub(crate) fn faults_since(&self, other: Option<&Site>) -> Vec<String> {
        if other.is_some_and(|other| self.rules.are_as(&other.rules)) {
            return Vec::new();
        }
        let folder = self.path.display();
        self.rules.faults().iter().map(|fault| format!("{folder}/{fault}")).collect()
    }

    /// How many faults are told of the files of the rules.
    pub(crate) fn fault_count(&self) -> usize {
        self.rules.faults().len()
    }

    /// Where the directory is that is served, as the kernel knows it by now (proc_pid_fd(5)), if the system tells.
    pub(crate) fn directory(&self) -> Option<PathBuf> {
        place_of(self.root())
    }

    /// How many rules are in force of `_headers` and `_redirects`.
    pub(crate) fn rule_counts(&self) -> [usize; 2] {
        self.rules.counts()
    }

    /// That the rules have more to say of some path than an answer may hold, if that has come up and wasn't told yet.
    pub(crate) fn take_overfull(&self) -> Option<String> {
        self.rules.take_overfull().map(|line| format!("{}/{line}", self.path.display()))
    }

    /// Says a fault of the file at this path, if somebody is to be told.
    #[cold]
    pub(crate) fn tell_fault(&self, now: Instant, path: &[u8], fault: fmt::Arguments<'_>) {
        if let Some(log) = &self.options.fault_log {
            let (folder, path) = (self.path.display(), String::from_utf8_lossy(path));
            log.tell(now, format_args!("{folder}/{path}: {fault}"));
        }
    }

    /// The same site, after something was mounted or unmounted. This may wait for a disk.
    pub(crate) fn renewed(&self) -> Option<Site> {
        Site::open_root(&self.path, self.options.clone()).ok()
    }

    /// Opens a path beneath the root for reading, and examines it. This may wait for a disk.
    pub(crate) fn open(&self, path: &CStr) -> rustix::io::Result<(OpenFile, Metadata)> {
        match self.open_racing(path, ResolveFlags::NO_XDEV) {
            // It leads into another mount, or out of the root.
            Err(Errno::XDEV) => {
                let file = self.open_racing(path, ResolveFlags::empty())?;
                let metadata = Metadata::of(&file)?;
                let (volume, mount) = self.mounts.volume_of(&file);
                Ok((OpenFile::new(file, volume, mount), metadata))
            }
            file => Ok(self.examine(file?)?),
        }
    }

    /// Opens a path however often renames get in the way.
    fn open_racing(&self, path: &CStr, resolve: ResolveFlags) -> rustix::io::Result<OwnedFd> {
        open_again(|| self.openat2(path, FLAGS, resolve))
    }

    /// As [`open`](Self::open), if the kernel's caches alone can tell where the path leads (`RESOLVE_CACHED`).
    ///
    /// # Errors
    /// `EAGAIN` when only a disk can tell, `EXDEV` when another mount can, `EINVAL` before Linux 5.12, else as
    /// [`open`](Self::open).
    pub(crate) fn open_cached(&self, path: &CStr) -> rustix::io::Result<(OpenFile, Metadata)> {
        if !self.opens_at_once() {
            return Err(Errno::AGAIN);
        }
        self.examine(self.openat2(path, FLAGS, ResolveFlags::CACHED | ResolveFlags::NO_XDEV)?)
    }

    /// Examines what was opened in the root's own mount: fstat(2).
    pub(crate) fn examine(&self, file: OwnedFd) -> rustix::io::Result<(OpenFile, Metadata)> {
        let metadata = Metadata::of(&file)?;
        let volume = self.mounts.volume_in_root(&metadata);
        Ok((OpenFile::new(file, volume, self.mounts.root()), metadata))
    }

    /// Whether what is in the root's own mount can be opened without a wait.
    #[must_use]
    pub fn opens_at_once(&self) -> bool {
        self.mounts.opens_at_once()
    }

    /// The mount that a path is likely to lead into.
    pub(crate) fn likely_mount(&self, path: &CStr) -> MountId {
        self.mounts.likely(path.to_bytes())
    }

    /// Whether something is mounted on this entry of a directory.
    pub(crate) fn is_mount_point(&self, directory: &[u8], name: &[u8]) -> bool {
        self.mounts.is_point(directory, name)
    }

    /// What a path leads to, if it is served: links are followed as an open follows them.
    pub(crate) fn stat(&self, path: &CStr) -> Option<Stat> {
        let found = self.openat2(path, OFlags::PATH | OFlags::CLOEXEC, ResolveFlags::empty()).ok()?;
        fstat(&found).ok()
    }

    /// Opens a path once more and tells what it is now, if the kernel's caches alone can.
    ///
    /// # Errors
    /// As [`open_cached`](Self::open_cached).
    pub(crate) fn reopen(&self, path: &[u8]) -> rustix::io::Result<Metadata> {
        Metadata::of(&self.openat2(path, FLAGS, ResolveFlags::CACHED)?)
    }

    /// As [`reopen`](Self::reopen), for a path with neither a symbolic link nor a mount point on it.
    ///
    /// # Errors
    /// `ELOOP` for a link, `EXDEV` for a mount, else as [`reopen`](Self::reopen).
    pub(crate) fn reopen_plain(&self, path: &[u8]) -> rustix::io::Result<Metadata> {
        Metadata::of(&self.openat2(path, FLAGS, PLAIN)?)
    }

    /// A directory beneath the root as an `O_PATH` descriptor; the empty path is the root. Otherwise as
    /// [`reopen_plain`](Self::reopen_plain).
    pub(crate) fn directory_cached(&self, path: &[u8]) -> rustix::io::Result<OwnedFd> {
        let path = if path.is_empty() { b"." } else { path };
        self.openat2(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, PLAIN)
    }

    /// The descriptor that every path is relative to.
    #[must_use]
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// How paths in the root's own mount are opened, for a ring that does it itself. It stays in place as long as the
    /// site lives.
    #[must_use]
    pub fn how(&self) -> &OpenHow {
        &self.how
    }

    /// What is served.
    #[must_use]
    #[inline]
    pub fn options(&self) -> &SiteOptions {
        &self.options
    }

    fn openat2(
        &self,
        path: impl rustix::path::Arg,
        flags: OFlags,
        resolve: ResolveFlags,
    ) -> rustix::io::Result<OwnedFd> {
        openat2(&self.root, path, flags, Mode::empty(), resolve_flags(&self.options) | resolve)
    }
}

/// Opens until no race is lost, or too many are.
fn open_again<T>(mut open: impl FnMut() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    for _ in 0..RACES_MAX {
        match open() {
            Err(Errno::AGAIN) => {}
            other => return other,
        }
    }
    open()
}

/// Only what the kernel's caches hold, without a link or a mount on the way.
const PLAIN: ResolveFlags =
    ResolveFlags::NO_SYMLINKS.union(ResolveFlags::NO_XDEV).union(ResolveFlags::CACHED);

fn resolve_flags(options: &SiteOptions) -> ResolveFlags {
    let links = match options.symlinks {
        Symlinks::Beneath => ResolveFlags::empty(),
        Symlinks::Deny => ResolveFlags::NO_SYMLINKS,
    };
    ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | links
}

/// Why a directory can't be served: one line for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootError(String);

impl RootError {
    fn new(root: &Path, errno: Errno) -> RootError {
        let (what, todo) = match errno {
            Errno::NOENT => ("no such directory".to_owned(), "name an existing one"),
            Errno::NOTDIR => ("not a directory".to_owned(), "name the directory that holds the files"),
            Errno::ACCESS => {
                ("permission denied".to_owned(), "let the user that runs the server enter it (`chmod a+x`)")
            }
            Errno::MFILE | Errno::NFILE => {
                ("out of descriptors".to_owned(), "raise the limit (`ulimit -n`, LimitNOFILE=)")
            }
            _ => (io::Error::from(errno).to_string(), "name another directory"),
        };
        RootError(format!("root {}: {what}; {todo}", root.display()))
    }
}

impl fmt::Display for RootError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for RootError {}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{FileType, fcntl_getfl, mknodat};
    use rustix::io::{FdFlags, fcntl_getfd};
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::time::Duration;

    fn site(symlinks: Symlinks) -> (tempfile::TempDir, Site) {
        let root = tempfile::tempdir().expect("a directory");
        fs::create_dir(root.path().join("dir")).expect("made");
        fs::write(root.path().join("dir/file"), "content").expect("written");
        symlink("dir", root.path().join("link")).expect("linked");
        mknodat(CWD, root.path().join("fifo"), FileType::Fifo, Mode::from_raw_mode(0o644), 0).expect("made");
        let site = Site::open_root(root.path(), SiteOptions { symlinks, ..SiteOptions::default() });
        (root, site.expect("opened"))
    }

    /// Until the kernel's caches tell: they don't while something is being mounted.
    fn cached<T>(mut open: impl FnMut() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
        let begun = Instant::now();
        loop {
            let result = open();
            if !matches!(result, Err(Errno::AGAIN)) || begun.elapsed() > Duration::from_secs(20) {
                return result;
            }
        }
    }

    /// The root needs no permission to be read, no program that is started inherits what is open, and nothing waits
    /// for the other end of a FIFO.
    #[test]
    fn files_are_opened_as_they_should() {
        let (_root, site) = site(Symlinks::Beneath);
        let (file, _) = site.open(c"dir/file").expect("opened");
        let directory = cached(|| site.directory_cached(b"dir")).expect("opened");
        let whole = cached(|| site.directory_cached(b"")).expect("opened");
        let (fifo, _) = site.open(c"fifo").expect("opened");
        for (name, descriptor, flag) in [
            ("the root", site.root(), OFlags::PATH),
            ("a file", file.as_fd(), OFlags::NONBLOCK),
            ("a FIFO", fifo.as_fd(), OFlags::NONBLOCK),
            ("a directory", directory.as_fd(), OFlags::PATH),
            ("the root as a directory", whole.as_fd(), OFlags::PATH),
        ] {
            assert!(fcntl_getfl(descriptor).expect("flags").contains(flag), "{name}");
            assert!(fcntl_getfd(descriptor).expect("flags").contains(FdFlags::CLOEXEC), "{name}");
        }
        assert_eq!(cached(|| site.directory_cached(b"dir/file")).err(), Some(Errno::NOTDIR));
        assert_eq!(site.how().flags, u64::from(FLAGS.bits()));
    }

    /// What is reopened is what was opened; a plain path has no link, whatever is served otherwise.
    #[test]
    fn a_plain_path_has_no_link() {
        for symlinks in [Symlinks::Beneath, Symlinks::Deny] {
            let (_root, site) = site(symlinks);
            let (_, opened) = site.open(c"dir/file").expect("opened");
            assert_eq!(cached(|| site.reopen(b"dir/file")), Ok(opened), "{symlinks:?}");
            assert_eq!(cached(|| site.reopen_plain(b"dir/file")), Ok(opened), "{symlinks:?}");
            assert_eq!(cached(|| site.reopen_plain(b"link/file")), Err(Errno::LOOP), "{symlinks:?}");
            // Followed once: a new link's first access time is to be written, which the kernel's caches can't.
            let linked = site.open(c"link/file").map(|(_, opened)| opened);
            assert_eq!(linked, if symlinks == Symlinks::Deny { Err(Errno::LOOP) } else { Ok(opened) });
            assert_eq!(cached(|| site.reopen(b"link/file")), linked, "{symlinks:?}");
        }
    }

    #[test]
    fn lost_races_are_repeated_up_to_a_bound() {
        for (races, expected) in [
            (0, (Ok(()), 1)),
            (1, (Ok(()), 2)),
            (RACES_MAX, (Ok(()), RACES_MAX + 1)),
            (RACES_MAX + 1, (Err(Errno::AGAIN), RACES_MAX + 1)),
        ] {
            let mut opens = 0;
            let open = || {
                opens += 1;
                if opens > races { Ok(()) } else { Err(Errno::AGAIN) }
            };
            assert_eq!((open_again(open), opens), expected, "after {races} races");
        }
        let mut opens = 0;
        let open = || -> rustix::io::Result<()> {
            opens += 1;
            Err(Errno::NOENT)
        };
        assert_eq!((open_again(open), opens), (Err(Errno::NOENT), 1), "no race");
    }

    #[test]
    fn what_is_mounted_is_another_volume() {
        let whole = Site::open_root(Path::new("/"), SiteOptions::default()).expect("opened");
        assert!(whole.is_mount_point(b"", b"proc") && !whole.is_mount_point(b"", b"none"));
        assert!(whole.open(c"proc/version").is_ok());
        assert!(whole.open_cached(c"proc/version").is_err(), "only the root's own mount is known");
        let proc = Site::open_root(Path::new("/proc"), SiteOptions::default()).expect("opened");
        assert!(!proc.opens_at_once(), "nobody knows whether it waits");
        assert_eq!(proc.open_cached(c"version").err(), Some(Errno::AGAIN));
        assert!(proc.open(c"version").is_ok());
    }

    /// Whoever runs the server hears once of what is wrong with a file.
    #[test]
    fn faults_are_news_when_a_file_has_changed() {
        let root = tempfile::tempdir().expect("a directory");
        let open = || Site::open_root(root.path(), SiteOptions::default()).expect("opened");
        fs::write(root.path().join("_redirects"), "nonsense\n").expect("written");
        let site = open();
        let faults = site.faults_since(None);
        assert!(
            faults.len() == 1 && faults[0].starts_with(&format!("{}/", root.path().display())),
            "{faults:?}"
        );
        assert_eq!(open().faults_since(Some(&site)), [""; 0]);
        fs::write(root.path().join("_redirects"), "nonsense\nand more\n").expect("written");
        assert_eq!(open().faults_since(Some(&site)).len(), 2);
    }

    #[test]
    fn a_root_has_moved_when_its_path_leads_elsewhere() {
        let outer = tempfile::tempdir().expect("a directory");
        let root = outer.path().join("root");
        fs::create_dir(&root).expect("made");
        let site = Site::open_root(&root, SiteOptions::default()).expect("opened");
        assert!(site.moved().is_none() && site.lost().is_none(), "it is where it was");
        fs::rename(&root, outer.path().join("away")).expect("renamed");
        assert!(site.moved().is_none(), "there is nothing else");
        assert_eq!(site.lost().map(|error| error.kind()), Some(io::ErrorKind::NotFound));
        fs::write(&root, "").expect("written");
        assert_eq!(site.lost().map(|error| error.kind()), Some(io::ErrorKind::NotADirectory));
        fs::remove_file(&root).expect("removed");
        fs::create_dir(&root).expect("made");
        let moved = site.moved().expect("another directory");
        assert!(site.lost().is_none());
        assert!(moved.moved().is_none());
    }
}
