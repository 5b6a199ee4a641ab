//! Volumes of other kinds than the build directory's, in a mount namespace of the test's own.
//!
//! The namespace belongs to one thread, and to the threads and processes that it starts: nobody else sees what is
//! mounted there, and with the last of them all of it is gone, whatever the test has done (mount_namespaces(7)). Making
//! one, and mounting, takes `CAP_SYS_ADMIN`.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::thread;

use libtest_mimic::{Completion, Failed};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

use crate::fuse::{Fuse, Kept, Reads};
use crate::site::build_folder;

const NONE: Option<&str> = None;

/// A kind of volume that a test needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Memory: tmpfs(5).
    Tmpfs,
    /// A folder in another place.
    Bind,
    /// Layers: overlayfs (`Documentation/filesystems/overlayfs.rst`).
    Overlay,
    /// User space: [`Fuse`].
    Fuse,
}

impl Kind {
    /// Why this machine, or this user, can't mount it; `None` if they can. Found out by mounting one.
    #[must_use]
    pub fn missing(self) -> Option<&'static str> {
        static TMPFS: OnceLock<Option<String>> = OnceLock::new();
        static BIND: OnceLock<Option<String>> = OnceLock::new();
        static OVERLAY: OnceLock<Option<String>> = OnceLock::new();
        static FUSE: OnceLock<Option<String>> = OnceLock::new();
        let known = match self {
            Kind::Tmpfs => &TMPFS,
            Kind::Bind => &BIND,
            Kind::Overlay => &OVERLAY,
            Kind::Fuse => &FUSE,
        };
        let why_not = || {
            let tried = in_namespace(|| self.try_out());
            let why = |failed: Failed| failed.message().unwrap_or("it panicked").to_owned();
            tried.err().map(|failed| format!("can't mount {self} here: {}", why(failed)))
        };
        known.get_or_init(why_not).as_deref()
    }

    fn try_out(self) -> Result<(), Failed> {
        let folder = tempfile::tempdir_in(build_folder()?)?;
        match self {
            Kind::Tmpfs => drop(Mount::tmpfs(folder.path())?),
            Kind::Bind => drop(Mount::bind(folder.path(), folder.path())?),
            Kind::Overlay => drop(Overlay::mount(folder.path())?),
            Kind::Fuse => drop(Fuse::mount(folder.path(), &[], Kept::NOT, Reads::Ahead)?),
        }
        Ok(())
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Tmpfs => "a tmpfs",
            Kind::Bind => "a folder elsewhere",
            Kind::Overlay => "an overlay",
            Kind::Fuse => "a FUSE volume",
        })
    }
}

/// Runs a test in a thread with a mount namespace of its own. Without this kind of volume, the test is ignored.
///
/// # Errors
/// Those of the test, a panic among them.
pub fn with(
    kind: Kind,
    test: impl FnOnce() -> Result<Completion, Failed> + Send,
) -> Result<Completion, Failed> {
    match kind.missing() {
        Some(reason) => Ok(Completion::ignored_with(reason)),
        None => in_namespace(test),
    }
}

fn in_namespace<T: Send>(run: impl FnOnce() -> Result<T, Failed> + Send) -> Result<T, Failed> {
    let separated = || {
        unshare(CloneFlags::CLONE_NEWNS)
            .map_err(|errno| format!("no mount namespace without CAP_SYS_ADMIN: {errno}"))?;
        // What is mounted from here on must not show in the namespace that this one was copied from.
        mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)?;
        run()
    };
    thread::scope(|scope| scope.spawn(separated).join()).unwrap_or_else(|_| Err("it panicked".into()))
}

/// A mounted volume. Dropping it unmounts it, though it may be in use.
#[derive(Debug)]
pub struct Mount {
    at: PathBuf,
}

impl Mount {
    /// Mounts an empty volume in memory over a directory.
    ///
    /// # Errors
    /// Those of mount(2).
    pub fn tmpfs(at: &Path) -> io::Result<Mount> {
        mount(Some("memory"), at, Some("tmpfs"), MsFlags::empty(), NONE)?;
        Ok(Mount { at: at.to_owned() })
    }

    /// Mounts a folder over a directory.
    ///
    /// # Errors
    /// Those of mount(2).
    pub fn bind(folder: &Path, at: &Path) -> io::Result<Mount> {
        mount(Some(folder), at, NONE, MsFlags::MS_BIND, NONE)?;
        Ok(Mount { at: at.to_owned() })
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Fails in a thread that has left the mount namespace, with which the mount ends anyway.
        let _unmounted = umount2(&self.at, MntFlags::MNT_DETACH);
    }
}

/// Two layers that are seen as one.
#[derive(Debug)]
pub struct Overlay {
    /// Where both are seen.
    pub merged: PathBuf,
    /// The lower layer, which is never changed through the overlay.
    pub lower: PathBuf,
    /// The upper layer, which takes the changes.
    pub upper: PathBuf,
    _mount: Mount,
}

impl Overlay {
    /// Mounts an overlay of two layers, all of it in this folder. What is in `lower` and `upper` already is in the
    /// layers.
    ///
    /// # Errors
    /// Those of the file system, and of mount(2).
    pub fn mount(folder: &Path) -> io::Result<Overlay> {
        let [merged, lower, upper, work] = ["merged", "lower", "upper", "work"].map(|name| folder.join(name));
        for folder in [&merged, &lower, &upper, &work] {
            fs::create_dir_all(folder)?;
        }
        let layers =
            format!("lowerdir={},upperdir={},workdir={}", lower.display(), upper.display(), work.display());
        mount(Some("layers"), &merged, Some("overlay"), MsFlags::empty(), Some(layers.as_str()))?;
        let mounted = Mount { at: merged.clone() };
        Ok(Overlay { merged, lower, upper, _mount: mounted })
    }
}
