//! Mounts: which file system is where beneath a root, from proc_pid_mountinfo(5).
//!
//! Reading the list asks no file system anything, so it doesn't wait for one that is dead.

use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;

use rustix::fs::{AtFlags, StatFs, StatxFlags, fstatfs, statfs, statx};

use crate::site::file::Metadata;
use crate::site::volume::Volume;

/// A mount, by the number that statx(2) and mountinfo share (`stx_mnt_id`, Linux 5.8); 0 where it isn't known.
pub type MountId = u64;

/// Inode numbers from here on are overlayfs's own: in front of the layer's number it has put the layer's file system
/// (`xino`, Documentation/filesystems/overlayfs.rst, "Inode properties").
const LAYERED_INODES_END: u64 = 1 << 32;

/// How often the counts of two file systems are compared, since they change while they are read.
const COMPARISONS_MAX: usize = 16;

/// Read at once of the list.
const LIST_BYTES: usize = 64 * 1024;

/// The list, opened once: a process that may open nothing any more can still read it. poll(2) says when it has changed
/// (`POLLPRI`). `None` without `/proc`.
pub(crate) fn list() -> Option<&'static File> {
    static LIST: OnceLock<Option<File>> = OnceLock::new();
    LIST.get_or_init(|| File::open("/proc/self/mountinfo").ok()).as_ref()
}

/// From its beginning; whoever else reads it isn't disturbed.
fn read(list: &File) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let begun = bytes.len();
        bytes.resize(begun + LIST_BYTES, 0);
        let got = list.read_at(&mut bytes[begun..], begun as u64).unwrap_or(0);
        bytes.truncate(begun + got);
        if got == 0 {
            return bytes;
        }
    }
}

/// One line of mountinfo.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mount {
    id: MountId,
    /// Where it is, absolute.
    point: Vec<u8>,
    /// The type of its file system.
    kind: Vec<u8>,
}

/// The mounts of a root.
#[derive(Debug)]
pub(crate) struct Mounts {
    /// The one that the root itself is in.
    root: MountId,
    root_volume: Volume,
    /// The device that the root's directory is on.
    root_device: u64,
    /// Those beneath the root, by their path relative to it; the deeper ones first.
    beneath: Vec<(Vec<u8>, MountId)>,
    volumes: Vec<(MountId, Volume)>,
}

impl Mounts {
    /// The mounts at and beneath a directory. Without `/proc`, nothing is known of any. This may wait for the root's
    /// file system, and for no other.
    pub(crate) fn at(root: impl AsFd) -> Mounts {
        let listed = list().map(read).unwrap_or_default();
        let all: Vec<_> = listed.split(|byte| *byte == b'\n').filter_map(parse).collect();
        let id = mount_of(&root);
        let path = fs::read_link(format!("/proc/self/fd/{}", root.as_fd().as_raw_fd())).unwrap_or_default();
        let mut beneath: Vec<_> = all
            .iter()
            .filter_map(|mount| Some((relative(&mount.point, path.as_os_str().as_bytes())?, mount.id)))
            .collect();
        beneath.sort_by_key(|(path, _)| std::cmp::Reverse(path.len()));
        let volumes: Vec<_> = all.iter().map(|mount| (mount.id, Volume::of_type(&mount.kind))).collect();
        let own = all.iter().find(|mount| mount.id == id);
        let is_on_local = || lies_on_local(&root, &all);
        let root_volume = own.map_or(Volume::Other, |own| root_volume(&own.kind, is_on_local));
        let root_device = rustix::fs::fstat(root).map_or(0, |stat| stat.st_dev);
        Mounts { root: id, root_volume, root_device, beneath, volumes }
    }

    /// The mount that the root is in.
    pub(crate) fn root(&self) -> MountId {
        self.root
    }

    /// Whether what is in the root's own mount opens without a wait.
    pub(crate) fn opens_at_once(&self) -> bool {
        self.root_volume.opens_at_once()
    }

    /// The mount that a path beneath the root is likely to lead into: a link on the way can lead to another.
    pub(crate) fn likely(&self, path: &[u8]) -> MountId {
        let is_in = |point: &[u8]| {
            path.strip_prefix(point).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
        };
        self.beneath.iter().find(|(point, _)| is_in(point)).map_or(self.root, |(_, id)| *id)
    }

    /// Whether something is mounted on an entry of a directory; the directory is a path without slashes around it.
    pub(crate) fn is_point(&self, directory: &[u8], name: &[u8]) -> bool {
        self.beneath.iter().any(|(point, _)| match (directory, point.strip_suffix(name)) {
            ([], Some(rest)) => rest.is_empty(),
            (_, Some(rest)) => rest.strip_suffix(b"/") == Some(directory),
            (_, None) => false,
        })
    }

    /// The volume of a file in the root's own mount.
    pub(crate) fn volume_in_root(&self, file: &Metadata) -> Volume {
        match self.root_volume {
            // A file of another file system than the upper layer's shows by its device or by its inode.
            Volume::Layered if file.device != self.root_device || file.inode >= LAYERED_INODES_END => {
                Volume::Other
            }
            volume => volume,
        }
    }

    /// The volume and the mount of a file in some mount.
    pub(crate) fn volume_of(&self, file: impl AsFd) -> (Volume, MountId) {
        let id = mount_of(file);
        let known = self.volumes.iter().find(|(known, _)| *known == id);
        (known.map_or(Volume::Other, |(_, volume)| *volume), id)
    }
}

/// The mount that an open file is in; 0 where the kernel doesn't tell (before Linux 5.8).
fn mount_of(file: impl AsFd) -> MountId {
    let found = statx(file, c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID);
    let found = found.ok().filter(|found| found.stx_mask & StatxFlags::MNT_ID.bits() != 0);
    found.map_or(0, |found| found.stx_mnt_id)
}

/// The volume of a root whose mount is of this type.
fn root_volume(kind: &[u8], is_on_local: impl FnOnce() -> bool) -> Volume {
    if kind == b"overlay" && is_on_local() { Volume::Layered } else { Volume::of_type(kind) }
}

/// Whether the upper layer of an overlayfs is on a local file system that is mounted somewhere here, too. A container
/// can't look up where its layers are, but statfs(2) of an overlayfs tells the counts of the upper one (`ovl_statfs`),
/// and some of its other mounts (`/etc/hosts`) are from the same disk.
fn lies_on_local(overlay: impl AsFd, all: &[Mount]) -> bool {
    let mut points = all.iter().filter(|mount| Volume::of_type(&mount.kind) == Volume::Local);
    points.any(|mount| {
        (0..COMPARISONS_MAX).any(|_| match (fstatfs(&overlay), statfs(mount.point.as_slice())) {
            (Ok(overlay), Ok(local)) => counts(&overlay) == counts(&local),
            _ => false,
        })
    })
}

/// What no two file systems have in common at any moment.
fn counts(of: &StatFs) -> [u64; 6] {
    let size = u64::try_from(of.f_bsize).unwrap_or(0);
    [size, of.f_blocks, of.f_bfree, of.f_bavail, of.f_files, of.f_ffree]
}

/// A mount point, relative to a root that it is beneath.
fn relative(point: &[u8], root: &[u8]) -> Option<Vec<u8>> {
    let rest = point.strip_prefix(root)?;
    let rest = if root == b"/" { Some(rest) } else { rest.strip_prefix(b"/") }?;
    (!rest.is_empty()).then(|| rest.to_vec())
}

/// A line: `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`.
fn parse(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let point = unescape(fields.nth(3)?);
    let kind = fields.skip_while(|field| *field != b"-").nth(1)?.to_vec();
    Some(Mount { id, point, kind })
}

/// Blanks, tabs, line ends and backslashes are written as three octal digits behind a backslash.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, behind)) = rest.split_first() {
        let escaped = (*first == b'\\').then(|| behind.get(..3)).flatten();
        let value = escaped.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match value {
            Some(value) => {
                bytes.push(value);
                rest = &behind[3..];
            }
            None => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &[u8] = b"22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
        31 22 0:40 / /srv/my\\040site rw master:5 shared:7 - overlay overlay rw,lowerdir=/a:/b\n\
        32 31 0:41 / /srv/my\\040site/data rw - fuse.sshfs a@b: rw\n\
        33 32 0:42 / /srv/my\\040site/data/deep rw - tmpfs tmpfs rw\n\
        no line";

    fn mounts(root: &[u8], id: MountId) -> Mounts {
        let all: Vec<_> = LINES.split(|byte| *byte == b'\n').filter_map(parse).collect();
        let mut beneath: Vec<_> =
            all.iter().filter_map(|mount| Some((relative(&mount.point, root)?, mount.id))).collect();
        beneath.sort_by_key(|(path, _)| std::cmp::Reverse(path.len()));
        let volumes = all.iter().map(|mount| (mount.id, Volume::of_type(&mount.kind))).collect();
        Mounts { root: id, root_volume: Volume::Layered, root_device: 40, beneath, volumes }
    }

    #[test]
    fn lines_are_parsed() {
        let all: Vec<_> = LINES.split(|byte| *byte == b'\n').filter_map(parse).collect();
        let expected = [
            (22, "/", "ext4"),
            (31, "/srv/my site", "overlay"),
            (32, "/srv/my site/data", "fuse.sshfs"),
            (33, "/srv/my site/data/deep", "tmpfs"),
        ];
        let expected = expected.map(|(id, point, kind)| Mount { id, point: point.into(), kind: kind.into() });
        assert_eq!(all, expected);
    }

    #[test]
    fn a_path_leads_into_the_deepest_mount_on_its_way() {
        let mounts = mounts(b"/srv/my site", 31);
        for (path, expected) in [
            ("index.html", 31),
            ("data", 32),
            ("data/x", 32),
            ("database", 31),
            ("data/deep/x/y", 33),
            ("data/deeper", 32),
            ("", 31),
        ] {
            assert_eq!(mounts.likely(path.as_bytes()), expected, "{path}");
        }
        let mounts = self::mounts(b"/", 22);
        assert_eq!(mounts.likely(b"srv/my site/data/x"), 32);
        assert_eq!(mounts.likely(b"srv/x"), 22);
    }

    #[test]
    fn mount_points_are_entries() {
        let mounts = mounts(b"/srv/my site", 31);
        for (directory, name, expected) in [
            ("", "data", true),
            ("data", "deep", true),
            ("", "deep", false),
            ("", "ata", false),
            ("d", "ata", false),
            ("data/deep", "data", false),
            ("x", "data", false),
        ] {
            assert_eq!(
                mounts.is_point(directory.as_bytes(), name.as_bytes()),
                expected,
                "{directory}/{name}"
            );
        }
    }

    #[test]
    fn this_directory_is_on_a_known_mount() {
        let root = fs::File::open(env!("CARGO_MANIFEST_DIR")).expect("opened");
        let mounts = Mounts::at(&root);
        assert_ne!(mounts.root(), 0, "statx tells the mount");
        assert_eq!(mounts.volume_of(&root).1, mounts.root());
        assert_eq!(mounts.likely(b"src/lib.rs"), mounts.root());
        let is_local = mounts.volume_of(&root).0 == Volume::Local;
        assert_eq!(mounts.root_volume == Volume::Local, is_local, "{mounts:?}");
    }

    #[test]
    fn what_is_known_of_proc_is_nothing() {
        let root = fs::File::open("/proc/self").expect("opened");
        let mounts = Mounts::at(&root);
        assert_eq!((mounts.root_volume, mounts.opens_at_once()), (Volume::Other, false));
    }

    #[test]
    fn what_is_in_memory_opens_at_once() {
        let root = fs::File::open("/dev/shm").expect("opened");
        let mounts = Mounts::at(&root);
        assert_eq!((mounts.root_volume, mounts.opens_at_once()), (Volume::Memory, true));
        assert_eq!(mounts.root_device, rustix::fs::fstat(&root).expect("examined").st_dev);
    }

    #[test]
    fn an_overlay_is_as_good_as_the_disk_beneath() {
        for (kind, is_on_local, expected) in [
            (&b"overlay"[..], true, Volume::Layered),
            (b"overlay", false, Volume::Other),
            (b"ext4", false, Volume::Local),
            (b"ext4", true, Volume::Local),
            (b"nfs4", true, Volume::Other),
        ] {
            assert_eq!(root_volume(kind, || is_on_local), expected);
        }
    }

    #[test]
    fn a_layer_is_known_by_its_counts() {
        let here = env!("CARGO_MANIFEST_DIR");
        let opened = fs::File::open(here).expect("opened");
        let mount = |point: &str, kind: &str| Mount { id: 1, point: point.into(), kind: kind.into() };
        for (name, all, expected) in [
            ("none is mounted here", vec![], false),
            ("on the second disk", vec![mount("/proc", "ext4"), mount(here, "xfs")], true),
            ("on another disk", vec![mount("/proc", "ext4")], false),
            ("not on a disk", vec![mount(here, "nfs4")], false),
            ("nobody can tell", vec![mount("/proc/none", "ext4")], false),
        ] {
            assert_eq!(lies_on_local(&opened, &all), expected, "{name}");
        }
    }

    #[test]
    fn a_file_from_another_layer_is_not_local() {
        let mounts = mounts(b"/srv/my site", 31);
        let root = fs::File::open(env!("CARGO_MANIFEST_DIR")).expect("opened");
        let of = Metadata::of(&root).expect("examined");
        for (name, device, inode, expected) in [
            ("of the upper layer's file system", 40, 12, Volume::Layered),
            ("numbered by overlayfs", 40, LAYERED_INODES_END, Volume::Other),
            ("of another device", 41, 12, Volume::Other),
        ] {
            assert_eq!(mounts.volume_in_root(&Metadata { device, inode, ..of }), expected, "{name}");
        }
    }
}
