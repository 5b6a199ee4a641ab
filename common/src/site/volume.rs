//! Volumes: what the file system under a file can do, and so who may touch the file.
//!
//! An event loop must not wait for a disk, a server on the network, or a program that plays file system (FUSE). What
//! can be asked without a wait depends on the file system, and is decided here for everybody:
//!
//! | volume | open, stat, close | which pages are in memory |
//! |---|---|---|
//! | [`Memory`](Volume::Memory) | never wait | all |
//! | [`Local`](Volume::Local) | don't wait if the kernel's caches know the path (`RESOLVE_CACHED`) | can be asked (`RWF_NOWAIT`) |
//! | [`Layered`](Volume::Layered) | an open may reach the disk below; a close doesn't | those sent a moment ago |
//! | [`Other`](Volume::Other) | may wait, even where the path is known: it is the file system's own code that waits | can't be asked |
//!
//! Whatever is left goes to threads that may wait (`service/pool.rs`, `site/closer.rs`).

/// What is known of the file system that a file is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Volume {
    /// In memory.
    Memory,
    /// On a disk of this machine, by way of the page cache.
    Local,
    /// In a layer of an overlayfs, on a local file system: in most containers, every file of the image.
    Layered,
    /// Anything else: on the network, in user space, or unknown.
    Other,
}

/// How the bytes of a file come to whoever must not wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pages {
    /// They are in memory.
    Here,
    /// The page cache tells which of them are in memory.
    Askable,
    /// Nobody can tell now, but those that were sent a moment ago still are (`site/residency.rs`).
    Remembered,
    /// Nobody can tell.
    Unknown,
}

impl Volume {
    /// The volume behind a type of file system, as mountinfo names it (`fs/*/super.c`, `file_system_type.name`).
    ///
    /// A type is local only if its `open`, `stat` and `close` work on what the kernel holds in memory anyway, and if it
    /// takes `RWF_NOWAIT`. Many disk file systems don't (FAT, NTFS, ZFS, SquashFS, EROFS, ISO 9660).
    pub(crate) fn of_type(name: &[u8]) -> Volume {
        match name {
            b"tmpfs" | b"ramfs" => Volume::Memory,
            b"ext2" | b"ext3" | b"ext4" | b"xfs" | b"btrfs" | b"f2fs" | b"bcachefs" => Volume::Local,
            _ => Volume::Other,
        }
    }

    /// Whether paths that the kernel's caches know can be opened and examined without a wait.
    #[must_use]
    pub fn opens_at_once(self) -> bool {
        matches!(self, Volume::Memory | Volume::Local)
    }

    /// Whether a close never waits. FUSE and NFS write back, or ask, when a file is closed (`flush`).
    #[must_use]
    pub fn closes_at_once(self) -> bool {
        !matches!(self, Volume::Other)
    }

    /// Whether every change goes through this kernel's own inodes, so that inotify(7) tells of it.
    #[must_use]
    pub(crate) fn tells_changes(self) -> bool {
        matches!(self, Volume::Memory | Volume::Local)
    }

    /// Which bytes may be read or sent without a wait.
    #[must_use]
    pub fn pages(self) -> Pages {
        match self {
            Volume::Memory => Pages::Here,
            Volume::Local => Pages::Askable,
            Volume::Layered => Pages::Remembered,
            Volume::Other => Pages::Unknown,
        }
    }
}
