//! Pairs: a READ and the SEND of what it reads.

use std::fs::{self, File};
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use uring::buffers::{HEAD_ROOM_BYTES, LARGE_BODY_BYTES};
use uring::ring::{Completion, FilePart};

use super::{Outcome, Test, directory, file_of, next, pair, pattern, sent, small_ring, token};

pub(super) const TESTS: &[Test] = &[
    ("pair::carries_head_and_file", carries_head_and_file),
    ("pair::of_a_short_file_sends_what_there_is", of_a_short_file_sends_what_there_is),
    ("pair::outlives_the_client", outlives_the_client),
    ("pair::reads_directly_when_asked", reads_directly_when_asked),
    ("pair::of_hot_files_needs_no_kernel_thread", of_hot_files_needs_no_kernel_thread),
];

/// Tests for rings that link and batch.
pub(super) const OF_CHAINS: &[Test] =
    &[("pair::torn_apart_ends_its_client_alone", torn_apart_ends_its_client_alone)];

fn carries_head_and_file() -> Outcome {
    let directory = directory()?;
    let content = pattern(3 * LARGE_BODY_BYTES + 5);
    let file = file_of(&directory, &content)?;
    let mut ring = small_ring()?;
    for (head_bytes, offset) in
        [(0, 0), (17, 0), (HEAD_ROOM_BYTES, 1), (300, LARGE_BODY_BYTES), (9, content.len() - 1)]
    {
        let (socket, mut theirs) = pair()?;
        let head = vec![b'h'; head_bytes];
        let expected = [&head[..], &content[offset..]].concat();
        let length = expected.len();
        let reader = std::thread::spawn(move || {
            let mut got = vec![0; length];
            theirs.read_exact(&mut got).map(|()| got)
        });
        let mut done = 0;
        while done < length {
            let head = &head[done.min(head_bytes)..];
            let file_done = done.saturating_sub(head_bytes);
            let (offset, length) = ((offset + file_done) as u64, (content.len() - offset - file_done) as u64);
            ring.read_then_send(token(0), &socket, &FilePart { head, file: &file, offset, length });
            done += sent(&mut ring)?;
        }
        assert!(reader.join().expect("the reader reads")? == expected, "head of {head_bytes}, from {offset}");
    }
    assert_eq!(ring.in_flight(), 0, "one completion per pair, which ends the operation");
    Ok(())
}

fn of_a_short_file_sends_what_there_is() -> Outcome {
    let directory = directory()?;
    let file = file_of(&directory, b"short")?;
    let mut ring = small_ring()?;
    let (socket, mut theirs) = pair()?;
    for (offset, expected) in [(0, "headshort"), (4, "headt")] {
        let part = FilePart { head: b"head", file: &file, offset, length: 10 };
        for by_ring in [true, false] {
            if by_ring {
                ring.read_then_send(token(0), &socket, &part);
            } else {
                ring.read_now_then_send(token(0), &socket, &part)?;
            }
            assert_eq!(sent(&mut ring)?, expected.len());
            let mut got = vec![0; expected.len()];
            theirs.read_exact(&mut got)?;
            assert_eq!(got, expected.as_bytes());
        }
    }
    // Where there is nothing, not even the head is sent.
    let part = FilePart { head: b"head", file: &file, offset: 5, length: 10 };
    ring.read_then_send(token(0), &socket, &part);
    assert!(matches!(next(&mut ring)?, Completion::ReadShort { .. }));
    let error = ring.read_now_then_send(token(0), &socket, &part).expect_err("the file is short");
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    ring.submit_and_wait(Some(Duration::from_millis(20)))?;
    assert!(ring.completion().is_none(), "one completion per pair");
    assert_eq!(ring.in_flight(), 0);
    theirs.set_nonblocking(true)?;
    assert_eq!(theirs.read(&mut [0; 16]).expect_err("nothing to read").kind(), io::ErrorKind::WouldBlock);
    Ok(())
}

fn outlives_the_client() -> Outcome {
    let directory = directory()?;
    let content = pattern(LARGE_BODY_BYTES);
    let file = file_of(&directory, &content)?;
    let mut ring = small_ring()?;
    let (socket, theirs) = pair()?;
    rustix::net::sockopt::set_socket_send_buffer_size(&socket, 4096)?;
    let watch = Arc::downgrade(&file);
    let piece = FilePart { head: b"head", file: &file, offset: 0, length: content.len() as u64 };
    ring.read_then_send(token(0), &socket, &piece);
    drop((socket, file));
    ring.submit_and_wait(Some(Duration::from_millis(1)))?;
    assert!(watch.upgrade().is_some(), "the file is in flight");
    assert_eq!(ring.in_flight(), 1);
    drop(theirs);
    let error = sent(&mut ring).expect_err("the peer is gone");
    assert!(error.message().is_some_and(|message| message.contains("Broken pipe")), "{error:?}");
    assert!(watch.upgrade().is_none());
    Ok(())
}

fn reads_directly_when_asked() -> Outcome {
    let directory = directory()?;
    let content = pattern(LARGE_BODY_BYTES / 2);
    let file = file_of(&directory, &content)?;
    let mut ring = small_ring()?;
    let (socket, mut theirs) = pair()?;
    let piece = FilePart { head: b"head", file: &file, offset: 1, length: content.len() as u64 - 1 };
    ring.read_now_then_send(token(0), &socket, &piece)?;
    let length = content.len() + 3;
    assert_eq!(sent(&mut ring)?, length);
    let mut got = vec![0; length];
    theirs.read_exact(&mut got)?;
    assert!(got == [b"head", &content[1..]].concat());
    Ok(())
}

/// The number of kernel worker threads (`iou-wrk-` and a number) of this thread's rings.
fn kernel_threads() -> io::Result<usize> {
    let ours = format!("iou-wrk-{}", rustix::thread::gettid());
    let mut count = 0;
    for task in fs::read_dir("/proc/self/task")? {
        // A thread may end while the directory is read.
        let name = fs::read_to_string(task?.path().join("comm")).unwrap_or_default();
        count += usize::from(name.trim_end() == ours);
    }
    Ok(count)
}

fn of_hot_files_needs_no_kernel_thread() -> Outcome {
    let directory = directory()?;
    let content = pattern(LARGE_BODY_BYTES);
    let file = file_of(&directory, &content)?;
    let mut ring = small_ring()?;
    let (socket, mut theirs) = pair()?;
    let before = kernel_threads()?;
    let reader = std::thread::spawn(move || io::copy(&mut theirs, &mut io::sink()));
    for _ in 0..200 {
        let piece = FilePart { head: b"head", file: &file, offset: 0, length: content.len() as u64 };
        ring.read_then_send(token(0), &socket, &piece);
        assert_eq!(sent(&mut ring)?, content.len() + 4);
    }
    assert_eq!(kernel_threads()?, before, "a read of cached pages runs inline");
    drop(socket);
    reader.join().expect("the reader reads")?;
    Ok(())
}

/// The kernel takes the READ of the second of three pairs without its SEND.
fn torn_apart_ends_its_client_alone() -> Outcome {
    let directory = directory()?;
    let content = pattern(LARGE_BODY_BYTES);
    let file = file_of(&directory, &content)?;
    for cached in [true, false] {
        if !cached {
            File::open(directory.path().join("file"))?.sync_all()?;
            rustix::fs::fadvise(&*file, 0, None, rustix::fs::Advice::DontNeed)?;
        }
        let mut ring = small_ring()?;
        let mut ends = Vec::new();
        for slot in 0..3 {
            let (socket, mut theirs) = pair()?;
            let piece = FilePart { head: b"head", file: &file, offset: 0, length: content.len() as u64 };
            ring.read_then_send(token(slot), &socket, &piece);
            ends.push(std::thread::spawn(move || {
                let mut got = Vec::new();
                theirs.read_to_end(&mut got).map(|_| got)
            }));
        }
        ring.submit_only(3)?;
        // The number of bytes sent, or `None` once the send has failed.
        let mut outcomes = [Some(0); 3];
        let mut under_way = 3;
        while under_way > 0 {
            let Completion::Sent { token, result, armed } = next(&mut ring)? else {
                return Err("not a send".into());
            };
            let outcome = &mut outcomes[token.slot as usize];
            *outcome = result.ok().zip(*outcome).map(|(count, before)| before + count);
            under_way -= usize::from(!armed);
        }
        let whole = Some(content.len() + 4);
        assert_eq!(outcomes, [whole, None, whole], "cached: {cached}");
        assert_eq!(ring.in_flight(), 0);
        ring.submit_and_wait(Some(Duration::from_millis(20)))?;
        assert!(ring.completion().is_none(), "there are no other completions");
        let got: Vec<_> = ends.into_iter().map(|end| end.join().expect("the reader reads")).collect();
        for (slot, got) in got.into_iter().enumerate() {
            let expected = [&b"head"[..], &content].concat();
            assert!(got? == if slot == 1 { Vec::new() } else { expected }, "client {slot}");
        }
    }
    Ok(())
}
