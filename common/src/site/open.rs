//! Opening: a request for one file of a site, carried out by whoever may wait for it.

use std::ffi::CStr;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use rustix::fs::FileType;
use rustix::io::Errno;

use crate::http::accept_encoding::Coding;
use crate::http::status::Status;
use crate::http::view::View;
use crate::site::addresses::PAGE_EXTENSION;
use crate::site::file::{Metadata, OpenFile};
use crate::site::file_bytes::FileBytes;
use crate::site::listing;
use crate::site::mounts::MountId;
use crate::site::root::Site;

/// What is to be opened: a path of a site, shared with whoever carries the open out.
#[derive(Clone, Debug)]
pub struct OpenRequest {
    site: Arc<Site>,
    /// Ends in its only NUL; empty before the first use.
    path: Vec<u8>,
    /// How the directory is to be listed, where that is wanted instead of a file.
    listing: Option<View>,
}

impl OpenRequest {
    /// A request that names no path yet.
    pub(crate) fn new(site: Arc<Site>) -> OpenRequest {
        OpenRequest { site, path: Vec::new(), listing: None }
    }

    /// From now on a request for `path`, then `last` where it isn't empty: relative, without a NUL. The root itself
    /// is the empty path.
    pub(crate) fn set_file(&mut self, site: &Arc<Site>, path: &[u8], last: &[u8]) {
        if !Arc::ptr_eq(&self.site, site) {
            self.site = Arc::clone(site);
        }
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
        self.listing = None;
    }

    /// From now on a request for what is beside the file at `path` and holds it in this coding.
    pub(crate) fn set_sidecar(&mut self, site: &Arc<Site>, path: &[u8], coding: Coding) {
        self.set_file(site, path, b"");
        self.path.pop();
        self.path.extend_from_slice(coding.extension().as_bytes());
        self.path.push(0);
    }

    /// From now on a request for the page that this path is the clean address of.
    pub(crate) fn set_page(&mut self, site: &Arc<Site>, path: &[u8]) {
        self.set_file(site, path, b"");
        self.path.pop();
        self.path.extend_from_slice(PAGE_EXTENSION.as_bytes());
        self.path.push(0);
    }

    /// From now on a request for the listing of a directory, shown like this.
    pub(crate) fn set_listing(&mut self, site: &Arc<Site>, path: &[u8], view: View) {
        self.set_file(site, path, b"");
        self.listing = Some(view);
    }

    /// The site that the path belongs to.
    #[must_use]
    pub fn site(&self) -> &Site {
        &self.site
    }

    /// The path, relative to the site's root and never empty. It stays in place while this request isn't changed.
    #[must_use]
    pub fn path(&self) -> &CStr {
        CStr::from_bytes_with_nul(&self.path).unwrap_or(c".")
    }

    /// The path's bytes, without the NUL.
    pub(crate) fn path_bytes(&self) -> &[u8] {
        self.path.split_last().map_or(b".", |(_nul, path)| path)
    }

    /// Whether a listing is wanted: it reads a directory, for which io_uring has no operation.
    #[must_use]
    pub fn is_listing(&self) -> bool {
        self.listing.is_some()
    }

    /// How the directory is to be listed, where that is wanted.
    pub(crate) fn view(&self) -> Option<View> {
        self.listing
    }

    /// Carries the request out. This may wait for a disk.
    ///
    /// # Errors
    /// What openat2(2), fstat(2) and getdents64(2) report; [`status_of`] says what becomes of it.
    pub fn open(&self) -> io::Result<Opened> {
        let (file, metadata) = self.site.open(self.path())?;
        let examined = Some(Instant::now());
        let is_directory = metadata.kind == FileType::Directory;
        let listing = match self.listing {
            Some(view) if is_directory => Some(listing::write(&self.site, &file, self.path(), view)?),
            _ => None,
        };
        Ok(Opened { file, metadata, examined, listing })
    }

    /// Whether the request may be carried out where nothing must wait: by [`open_cached`](Self::open_cached), or by a
    /// ring.
    #[must_use]
    pub fn may_be_at_once(&self) -> bool {
        self.listing.is_none() && self.site.opens_at_once()
    }

    /// What follows an open in the root's own mount (`RESOLVE_NO_XDEV`), where that was
    /// [at once](Self::may_be_at_once): fstat(2).
    ///
    /// # Errors
    /// What fstat(2) reports.
    pub fn examine(&self, file: OwnedFd) -> io::Result<Opened> {
        Ok(Opened::at_once(self.site.examine(file)?))
    }

    /// The mount that the path is likely to lead into, so that requests for one that is dead can be told from others.
    #[must_use]
    pub fn likely_mount(&self) -> MountId {
        self.site.likely_mount(self.path())
    }

    /// Carries the request out if the kernel's caches alone can (`RESOLVE_CACHED`, Linux 5.12), on a volume that doesn't
    /// make opens wait; `None` when only [`open`](Self::open) can.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_cached(&self) -> io::Result<Option<Opened>> {
        if self.listing.is_some() {
            return Ok(None);
        }
        match self.site.open_cached(self.path()) {
            Err(Errno::AGAIN | Errno::XDEV | Errno::INVAL) => Ok(None),
            other => Ok(Some(Opened::at_once(other?))),
        }
    }
}

/// An open file, and what was read of it while it was opened.
#[derive(Debug)]
pub struct Opened {
    /// The descriptor.
    pub(crate) file: OpenFile,
    /// What it is.
    pub(crate) metadata: Metadata,
    /// When it was found to be that; `None`: just now.
    pub(crate) examined: Option<Instant>,
    /// The listing of the directory, where that was asked for.
    pub(crate) listing: Option<FileBytes>,
}

impl Opened {
    /// What was opened and examined without a wait.
    fn at_once((file, metadata): (OpenFile, Metadata)) -> Opened {
        Opened { file, metadata, examined: None, listing: None }
    }
}

/// What a client is told when a file can't be opened.
///
/// A path that leads outside the root (`EXDEV`), through a forbidden link (`ELOOP`), to a socket or a device
/// without a driver (`ENXIO`, `ENODEV`) doesn't exist as far as a client can tell.
#[must_use]
pub fn status_of(error: &io::Error) -> Status {
    match Errno::from_io_error(error) {
        Some(
            Errno::NOENT
            | Errno::NOTDIR
            | Errno::LOOP
            | Errno::XDEV
            | Errno::NAMETOOLONG
            | Errno::NXIO
            | Errno::NODEV,
        ) => Status::NotFound,
        Some(Errno::ACCESS | Errno::PERM) => Status::Forbidden,
        Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::AGAIN) => Status::ServiceUnavailable,
        _ => Status::InternalServerError,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::root::{SiteOptions, Symlinks};
    use proptest::prelude::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn site(options: SiteOptions) -> (tempfile::TempDir, Arc<Site>) {
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
        (outer, Arc::new(site))
    }

    fn open(site: &Arc<Site>, path: &str) -> Result<u64, Errno> {
        let mut request = OpenRequest::new(Arc::clone(site));
        request.set_file(site, path.as_bytes(), b"");
        request
            .open()
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
        let mut request = OpenRequest::new(Arc::clone(&site));
        request.set_file(&site, b"file", b"");
        request.open().expect("now it is cached");
        // It fails while something is being mounted.
        let cached = (0..1000).find_map(|_| request.open_cached().expect("no error"));
        assert_eq!(cached.expect("what was just opened").metadata.size, 6);
        request.set_listing(&site, b"dir", View::default());
        assert!(request.open_cached().expect("no error").is_none(), "a listing reads the disk");
    }

    #[test]
    fn paths_are_joined() {
        let (_outer, site) = site(SiteOptions::default());
        let mut request = OpenRequest::new(Arc::clone(&site));
        assert_eq!((request.path(), request.path_bytes()), (c".", &b"."[..]));
        for (path, last, expected) in [
            ("", "", c"."),
            ("", "index.html", c"index.html"),
            ("a", "", c"a"),
            ("a/b", "index.html", c"a/b/index.html"),
        ] {
            request.set_file(&site, path.as_bytes(), last.as_bytes());
            assert_eq!((request.path(), request.path_bytes()), (expected, expected.to_bytes()));
        }
    }

    #[test]
    fn a_listing_is_made_of_a_directory_that_is_to_be_listed() {
        let (_outer, site) = site(SiteOptions::default());
        let mut request = OpenRequest::new(Arc::clone(&site));
        for (name, path, listing, is_listed) in [
            ("a directory", "dir", true, true),
            ("a directory as a file", "dir", false, false),
            ("a file", "file", true, false),
            ("a file as a file", "file", false, false),
        ] {
            if listing {
                request.set_listing(&site, path.as_bytes(), View::default());
            } else {
                request.set_file(&site, path.as_bytes(), b"");
            }
            assert_eq!(request.is_listing(), listing, "{name}");
            assert_eq!(request.open().expect("opened").listing.is_some(), is_listed, "{name}");
        }
    }

    #[test]
    fn a_request_follows_the_site() {
        let ((_one, first), (two, second)) = (site(SiteOptions::default()), site(SiteOptions::default()));
        fs::write(two.path().join("root/file"), "another").expect("written");
        let mut request = OpenRequest::new(Arc::clone(&first));
        for (site, size) in [(&first, 6), (&second, 7), (&second, 7), (&first, 6)] {
            request.set_file(site, b"file", b"");
            assert!(std::ptr::eq(request.site(), Arc::as_ptr(site)));
            assert_eq!(request.open().expect("opened").metadata.size, size);
        }
    }

    /// `..` in a link makes openat2(2) report `EAGAIN` if something is renamed meanwhile.
    #[test]
    fn an_open_outlasts_renames() {
        let (outer, site) = site(SiteOptions::default());
        let (one, other) = (outer.path().join("one"), outer.path().join("other"));
        fs::write(&one, "").expect("written");
        let over = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(std::sync::atomic::Ordering::Relaxed) {
                    fs::rename(&one, &other).and_then(|()| fs::rename(&other, &one)).expect("renamed");
                    (0..2000).for_each(|_| std::hint::spin_loop());
                }
            });
            let failed: Vec<Errno> = (0..2000).filter_map(|_| open(&site, "dir/in").err()).collect();
            over.store(true, std::sync::atomic::Ordering::Relaxed);
            assert_eq!(failed, []);
        });
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
            if crate::http::target::resolve(target.as_bytes(), &mut path).is_ok() {
                let mut request = OpenRequest::new(Arc::clone(&site));
                request.set_file(&site, &path, b"");
                if let Ok(opened) = request.open() {
                    prop_assert!(opened.metadata.kind == FileType::Directory || opened.metadata.size == 6);
                }
            }
        }
    }

    #[test]
    fn errno_becomes_a_status() {
        for (errno, status) in [
            (Errno::NOENT, Status::NotFound),
            (Errno::NOTDIR, Status::NotFound),
            (Errno::XDEV, Status::NotFound),
            (Errno::LOOP, Status::NotFound),
            (Errno::NAMETOOLONG, Status::NotFound),
            (Errno::NXIO, Status::NotFound),
            (Errno::NODEV, Status::NotFound),
            (Errno::PERM, Status::Forbidden),
            (Errno::NFILE, Status::ServiceUnavailable),
            (Errno::NOMEM, Status::ServiceUnavailable),
            (Errno::AGAIN, Status::ServiceUnavailable),
            (Errno::ACCESS, Status::Forbidden),
            (Errno::MFILE, Status::ServiceUnavailable),
            (Errno::IO, Status::InternalServerError),
        ] {
            assert_eq!(status_of(&errno.into()), status, "{errno}");
        }
    }
}
