//! Zero-copy sending: `sendfile(2)` hands a file's pages to the socket by reference.
//!
//! A non-blocking socket doesn't make `sendfile` non-blocking: it may still wait for the disk. So it is called only for
//! bytes that are in the page cache, or were a moment ago (`site/residency.rs`). Both event loops use this; a thread that
//! may block doesn't need it.

use std::io::IoSliceMut;
use std::os::fd::AsFd;
use std::time::Instant;

use rustix::fs::{fstat, sendfile};
use rustix::io::{Errno, ReadWriteFlags, preadv2};
use rustix::net::{SendFlags, send};

use crate::site::file::{FileRange, SharedFile};
use crate::site::residency::STRETCH_BYTES;
use crate::site::volume::Pages;

/// From this many bytes on, avoiding the copy is worth the extra system calls (NOTES.md has the measurements).
pub const SENDFILE_BYTES_MIN: usize = 32 * 1024;

/// Bytes of a file that one client is sent in one turn of a loop, so that other connections get theirs. A megabyte takes
/// about 75 µs.
pub const SENDFILE_BYTES_MAX: usize = 2 << 20;

/// The outcome of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// This many bytes were sent, the head's first.
    Bytes {
        /// Number of bytes.
        count: usize,
        /// The socket buffer is full: wait until the socket is writable.
        full: bool,
    },
    /// Nothing was sent. A read that may block must come first, or `sendfile` doesn't support this file.
    Unready,
    /// Nothing was sent. The file is shorter than when the response was planned.
    Shorter,
}

/// Sends the head, then the cached part of the range, at most `bytes_max` of it; at least one. The socket must be
/// non-blocking (`O_NONBLOCK`).
///
/// # Errors
/// Those of send(2) and sendfile(2), including `EAGAIN`, if nothing was sent.
pub fn send_cached(
    socket: impl AsFd + Copy,
    head: &[u8],
    range: &FileRange<'_>,
    bytes_max: usize,
) -> rustix::io::Result<Sent> {
    let cached = cached_bytes(range, bytes_max, Instant::now());
    if cached == 0 {
        return Ok(Sent::Unready);
    }
    if !head.is_empty() {
        let count = send(socket, head, SendFlags::NOSIGNAL | SendFlags::MORE)?;
        if count < head.len() {
            return Ok(Sent::Bytes { count, full: true });
        }
    }
    let mut offset = range.offset;
    match sendfile(socket, range.file, Some(&mut offset), cached) {
        Ok(count) if count == cached => Ok(Sent::Bytes { count: head.len() + count, full: false }),
        // A short write: either the socket is full, or the file has ended. Probe the next byte to tell, whatever is
        // remembered: who waits for room in a socket that isn't full waits for ever.
        Ok(count) if count > 0 => {
            let full = goes_on(range.file, range.offset + count as u64);
            Ok(Sent::Bytes { count: head.len() + count, full })
        }
        Err(Errno::AGAIN) if !head.is_empty() => Ok(Sent::Bytes { count: head.len(), full: true }),
        // The next call has no head to send and will report the error.
        Ok(_) | Err(_) if !head.is_empty() => Ok(Sent::Bytes { count: head.len(), full: false }),
        Ok(_) => Ok(Sent::Shorter),
        // The file system doesn't support it (sendfile(2), "Notes"), or the file can't be read, which the read will
        // report.
        Err(Errno::INVAL | Errno::NOSYS | Errno::IO) => Ok(Sent::Unready),
        Err(errno) => Err(errno),
    }
}

/// Whether the file has a byte there, as far as can be told without a wait.
fn goes_on(file: &SharedFile, offset: u64) -> bool {
    match file.volume().pages() {
        Pages::Here | Pages::Remembered => fstat(file).is_ok_and(|stat| stat.st_size > offset.cast_signed()),
        Pages::Askable | Pages::Unknown => is_cached(file, offset),
    }
}

/// How many bytes of the range, at most so many, are in memory, counted from the first. On a disk, one byte is asked for
/// in each stretch that isn't remembered. 0 if nobody can tell.
fn cached_bytes(range: &FileRange<'_>, bytes_max: usize, now: Instant) -> usize {
    let FileRange { file, offset, length } = *range;
    let (end, wanted) = (offset + length, length.min(bytes_max as u64));
    let pages = file.volume().pages();
    match pages {
        Pages::Here => return usize::try_from(wanted).unwrap_or(bytes_max),
        Pages::Unknown => return 0,
        Pages::Askable | Pages::Remembered => {}
    }
    let memory = file.residency();
    let mut cached = 0;
    while cached < wanted {
        let position = offset + cached;
        // To the end of the stretch, even where less is wanted now: the next call wants the rest.
        let next = ((position / STRETCH_BYTES + 1) * STRETCH_BYTES).min(end);
        if !memory.is_some_and(|memory| memory.recalls(position, now)) {
            let is_cached = pages == Pages::Askable && is_cached(file, next - 1);
            match memory {
                Some(memory) if is_cached => memory.found(next, now),
                Some(memory) => memory.forget(),
                None => {}
            }
            if !is_cached {
                break;
            }
        }
        cached = next - offset;
    }
    usize::try_from(cached.min(wanted)).unwrap_or(bytes_max)
}

/// Whether a byte of a file is in the page cache (`RWF_NOWAIT`, preadv2(2)). False if it lies behind the end, and if
/// the file system or a seccomp policy doesn't allow asking.
fn is_cached(file: &SharedFile, position: u64) -> bool {
    let mut byte = [0];
    preadv2(file, &mut [IoSliceMut::new(&mut byte)], position, ReadWriteFlags::NOWAIT) == Ok(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::file::OpenFile;
    use crate::site::volume::Volume;
    use std::fs::File;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::OwnedFd;
    use std::sync::Arc;
    use std::time::Duration;

    use crate::site::residency::RESIDENT_FOR;

    const STRETCH: usize = 128 * 1024;
    const BYTES: usize = 3 * STRETCH + 1;

    fn to_shared(file: File) -> SharedFile {
        SharedFile::new(OpenFile::new(OwnedFd::from(file), Volume::Local, 0))
    }

    /// A file just written, so that it is cached; `None` if the file system doesn't support the probe.
    fn cached_file() -> Option<(File, Arc<SharedFile>, Vec<u8>)> {
        let mut file = tempfile::tempfile_in(env!("CARGO_MANIFEST_DIR")).expect("a file");
        let content: Vec<u8> = (0..BYTES).map(|n| n.to_le_bytes()[n % 3]).collect();
        file.write_all(&content).expect("written");
        let shared = to_shared(file.try_clone().expect("a descriptor"));
        is_askable(&shared).then(|| (file, Arc::new(shared), content))
    }

    /// Whether the file system supports the probe: found out without the function under test.
    fn is_askable(file: &SharedFile) -> bool {
        preadv2(file, &mut [IoSliceMut::new(&mut [0])], 0, ReadWriteFlags::NOWAIT) != Err(Errno::OPNOTSUPP)
    }

    fn connected() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let ours = TcpStream::connect(listener.local_addr().expect("a name")).expect("connected");
        let (theirs, _) = listener.accept().expect("accepted");
        ours.set_nonblocking(true).expect("non-blocking");
        (ours, theirs)
    }

    #[test]
    fn the_head_goes_before_the_range() {
        let Some((_file, shared, content)) = cached_file() else { return };
        let (ours, mut theirs) = connected();
        let range = FileRange { file: &shared, offset: 5, length: (BYTES - 5) as u64 };
        let mut sent = 0;
        let mut received = vec![0; 4 + BYTES - 5];
        while sent < received.len() {
            let head = &b"head"[sent.min(4)..];
            let done = sent.saturating_sub(4) as u64;
            let rest = FileRange { offset: range.offset + done, length: range.length - done, ..range };
            match send_cached(&ours, head, &rest, SENDFILE_BYTES_MAX) {
                Ok(Sent::Bytes { count, full: _ }) => {
                    theirs.read_exact(&mut received[sent..sent + count]).expect("all that was sent");
                    sent += count;
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(received[..4] == *b"head" && received[4..] == content[5..]);
    }

    #[test]
    fn a_full_socket_is_reported() {
        let Some((_file, shared, _)) = cached_file() else { return };
        let (ours, _theirs) = connected();
        let range = FileRange { file: &shared, offset: 0, length: BYTES as u64 };
        let full = std::iter::repeat_with(|| send_cached(&ours, b"", &range, SENDFILE_BYTES_MAX))
            .find(|sent| !matches!(sent, Ok(Sent::Bytes { count, full: false }) if *count == BYTES));
        let full = full.expect("it goes on until then");
        assert!(matches!(full, Ok(Sent::Bytes { full: true, .. }) | Err(Errno::AGAIN)), "{full:?}");
        assert_eq!(send_cached(&ours, b"", &range, SENDFILE_BYTES_MAX), Err(Errno::AGAIN));
        assert_eq!(send_cached(&ours, b"head", &range, SENDFILE_BYTES_MAX), Err(Errno::AGAIN));
    }

    #[test]
    fn a_truncated_file_is_sent_up_to_its_end() {
        let Some((file, shared, content)) = cached_file() else { return };
        let (ours, mut theirs) = connected();
        file.set_len(STRETCH as u64).expect("cut");
        let range = FileRange { file: &shared, offset: 0, length: STRETCH as u64 };
        let mut received = vec![0; STRETCH];
        let mut sent = 0;
        while sent < received.len() {
            let rest = FileRange { offset: sent as u64, length: range.length - sent as u64, ..range };
            let Ok(Sent::Bytes { count, .. }) = send_cached(&ours, b"", &rest, SENDFILE_BYTES_MAX) else {
                panic!("it is there")
            };
            theirs.read_exact(&mut received[sent..sent + count]).expect("all that was sent");
            sent += count;
        }
        assert!(received == content[..STRETCH]);
        let behind = FileRange { offset: STRETCH as u64, length: 1, ..range };
        assert_eq!(
            send_cached(&ours, b"", &behind, SENDFILE_BYTES_MAX),
            Ok(Sent::Unready),
            "a read finds the end"
        );
    }

    #[test]
    fn uncached_or_unprobeable_files_are_unready() {
        let Some((file, shared, _)) = cached_file() else { return };
        let (ours, _theirs) = connected();
        file.sync_all().expect("written");
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).expect("advised");
        let range = FileRange { file: &shared, offset: 0, length: BYTES as u64 };
        if !is_cached(&shared, BYTES as u64 - 1) {
            // The probe has made the kernel fetch the end; the beginning is still missing.
            assert_eq!(send_cached(&ours, b"head", &range, SENDFILE_BYTES_MAX), Ok(Sent::Unready));
        }
        let unaskable = Arc::new(to_shared(File::open("/proc/self/status").expect("open")));
        let range = FileRange { file: &unaskable, offset: 0, length: 1 };
        assert_eq!(send_cached(&ours, b"head", &range, SENDFILE_BYTES_MAX), Ok(Sent::Unready));
    }

    /// Drops the file from the page cache; false if it stays.
    fn cool(file: &File) -> bool {
        file.sync_all().expect("written");
        rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed).expect("advised");
        let shared = to_shared(file.try_clone().expect("a descriptor"));
        !is_cached(&shared, BYTES as u64 - 1)
    }

    #[test]
    fn what_was_found_is_not_asked_for_until_it_may_be_gone() {
        let Some((file, shared, _)) = cached_file() else { return };
        shared.remember_residency(BYTES as u64);
        let range = FileRange { file: &shared, offset: 0, length: BYTES as u64 };
        let now = Instant::now();
        assert_eq!(cached_bytes(&range, SENDFILE_BYTES_MAX, now), BYTES);
        if !cool(&file) {
            return;
        }
        let soon = now + RESIDENT_FOR - Duration::from_millis(1);
        assert_eq!(cached_bytes(&range, SENDFILE_BYTES_MAX, soon), BYTES, "nobody has looked");
        assert_eq!(cached_bytes(&range, SENDFILE_BYTES_MAX, now + RESIDENT_FOR), 0, "somebody has looked");
        assert_eq!(cached_bytes(&range, SENDFILE_BYTES_MAX, soon), 0, "all is forgotten");
    }

    #[test]
    fn the_volume_decides_what_may_be_known() {
        let Some((file, _, _)) = cached_file() else { return };
        let now = Instant::now();
        for (volume, unasked, remembered) in [
            (Volume::Memory, BYTES, BYTES),
            (Volume::Local, BYTES, BYTES),
            (Volume::Layered, 0, BYTES),
            (Volume::Other, 0, 0),
        ] {
            let opened = file.try_clone().expect("a descriptor").into();
            let shared = Arc::new(SharedFile::new(OpenFile::new(opened, volume, 0)));
            let range = FileRange { file: &shared, offset: 0, length: BYTES as u64 };
            assert_eq!(cached_bytes(&range, SENDFILE_BYTES_MAX, now), unasked, "{volume:?}");
            shared.remember_residency(BYTES as u64);
            shared.residency().expect("a memory").sent(0, BYTES as u64, now);
            assert_eq!(cached_bytes(&range, SENDFILE_BYTES_MAX, now), remembered, "{volume:?}");
        }
    }

    #[test]
    fn a_hole_is_found_beside_what_is_remembered() {
        let Some((file, shared, _)) = cached_file() else { return };
        shared.remember_residency(BYTES as u64);
        let now = Instant::now();
        let second = FileRange { file: &shared, offset: STRETCH as u64, length: STRETCH as u64 };
        assert_eq!(cached_bytes(&second, SENDFILE_BYTES_MAX, now), STRETCH);
        if !cool(&file) {
            return;
        }
        assert_eq!(cached_bytes(&second, SENDFILE_BYTES_MAX, now), STRETCH);
        let from_there = FileRange { length: (BYTES - STRETCH) as u64, ..second };
        assert_eq!(
            cached_bytes(&from_there, SENDFILE_BYTES_MAX, now),
            STRETCH,
            "the third stretch is missing"
        );
        assert_eq!(cached_bytes(&second, SENDFILE_BYTES_MAX, now), 0, "so the second was looked at, too");
    }

    /// The wanted range may begin and end anywhere, and no byte behind it is asked for.
    #[test]
    fn a_range_begins_and_ends_anywhere() {
        let Some((file, shared, _)) = cached_file() else { return };
        let ranges =
            [(0, 1), (5, STRETCH), (STRETCH - 1, 2), (STRETCH, STRETCH), (7, BYTES - 7), (BYTES - 1, 1)];
        for remembers in [false, true] {
            if remembers {
                shared.remember_residency(BYTES as u64);
            }
            for (offset, length) in ranges.into_iter().chain(ranges) {
                let range = FileRange { file: &shared, offset: offset as u64, length: length as u64 };
                assert_eq!(
                    cached_bytes(&range, SENDFILE_BYTES_MAX, Instant::now()),
                    length,
                    "{length} from {offset}"
                );
            }
        }
        file.set_len(BYTES as u64 + SENDFILE_BYTES_MAX as u64).expect("grown");
        let range = FileRange { file: &shared, offset: 0, length: BYTES as u64 };
        assert_eq!(
            cached_bytes(&range, SENDFILE_BYTES_MAX, Instant::now() + RESIDENT_FOR),
            BYTES,
            "the new end isn't in memory"
        );
    }

    /// The rest of a large file is another turn's.
    #[test]
    fn one_call_sends_a_bounded_part() {
        let file = tempfile::tempfile_in(env!("CARGO_MANIFEST_DIR")).expect("a file");
        let content = vec![7; SENDFILE_BYTES_MAX + 3 * STRETCH];
        std::io::Write::write_all(&mut &file, &content).expect("written");
        let shared = Arc::new(to_shared(file));
        if !is_askable(&shared) {
            return;
        }
        let range = FileRange { file: &shared, offset: 1, length: content.len() as u64 - 1 };
        assert_eq!(cached_bytes(&range, SENDFILE_BYTES_MAX, Instant::now()), SENDFILE_BYTES_MAX);
    }

    /// Who would wait for room in a socket that isn't full would wait for ever.
    #[test]
    fn the_end_of_a_file_is_no_full_socket() {
        for volume in [Volume::Memory, Volume::Layered, Volume::Local] {
            let mut file = tempfile::tempfile_in(env!("CARGO_MANIFEST_DIR")).expect("a file");
            file.write_all(b"0123456789").expect("written");
            let opened = file.try_clone().expect("a descriptor").into();
            let shared = Arc::new(SharedFile::new(OpenFile::new(opened, volume, 0)));
            shared.remember_residency(10);
            file.set_len(5).expect("cut");
            let (ours, _theirs) = connected();
            for (head, offset, expected) in [
                (&b"head"[..], 0, Sent::Bytes { count: 4 + 5, full: false }),
                (b"head", 5, Sent::Bytes { count: 4, full: false }),
                (b"", 5, Sent::Shorter),
            ] {
                shared.residency().expect("a memory").sent(0, 10, Instant::now());
                let range = FileRange { file: &shared, offset, length: 10 - offset };
                let sent = send_cached(&ours, head, &range, SENDFILE_BYTES_MAX);
                assert_eq!(sent, Ok(expected), "{volume:?} from {offset}");
            }
        }
    }

    #[test]
    fn a_full_socket_is_told_from_the_end_of_a_file() {
        let Some((file, ..)) = cached_file() else { return };
        let shared = Arc::new(SharedFile::new(OpenFile::new(file.into(), Volume::Memory, 0)));
        let range = FileRange { file: &shared, offset: 0, length: BYTES as u64 };
        let (ours, _theirs) = connected();
        let full = std::iter::repeat_with(|| send_cached(&ours, b"", &range, SENDFILE_BYTES_MAX))
            .find(|sent| !matches!(sent, Ok(Sent::Bytes { count: BYTES, full: false })));
        assert!(matches!(full, Some(Ok(Sent::Bytes { full: true, .. }) | Err(Errno::AGAIN))), "{full:?}");
        let (ours, _theirs) = connected();
        let head = vec![0; 64 << 20];
        let sent = send_cached(&ours, &head, &range, SENDFILE_BYTES_MAX);
        let Ok(Sent::Bytes { count, full: true }) = sent else { panic!("{sent:?}") };
        assert!(count < head.len(), "{count}");
    }

    #[test]
    fn what_has_no_sendfile_is_unready() {
        let opened = File::open("/proc/self/status").expect("opened").into();
        let shared = Arc::new(SharedFile::new(OpenFile::new(opened, Volume::Memory, 0)));
        let range = FileRange { file: &shared, offset: 0, length: 1 };
        assert_eq!(send_cached(&connected().0, b"", &range, SENDFILE_BYTES_MAX), Ok(Sent::Unready));
    }
}
