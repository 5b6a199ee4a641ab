//! The guarantees of the ring, one test each. Whether clients leave, queues fill up or events come late: no memory is
//! freed while the kernel uses it, and no operation is lost.

mod pairs;
mod switches;

use std::cell::Cell;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use common::{FileBytes, FileRange, OpenFile, SharedFile, SharedPiece, Token, Tune, Volume};
use libtest_mimic::{Arguments, Failed, Trial};
use uring::buffers::{LARGE_BODY_BYTES, RECEIVE_BUFFER_BYTES};
use uring::ring::{Completion, FilePart, LADDER, Options, Ring, Socket};

/// No test waits longer than this.
const PATIENCE: Duration = Duration::from_secs(10);

type Outcome = Result<(), Failed>;

/// The name of a test, and its function.
type Test = (&'static str, fn() -> Outcome);

const TESTS: &[Test] = &[
    ("every_rung_of_the_ladder_serves", every_rung_of_the_ladder_serves),
    ("recv::is_multishot_until_the_client_closes", recv_is_multishot_until_the_client_closes),
    ("recv::one_shot_takes_the_first_bytes_and_ends", recv_one_shot_takes_the_first_bytes_and_ends),
    ("recv::runs_out_of_buffers_and_is_rearmed", recv_runs_out_of_buffers_and_is_rearmed),
    ("recv::buffers_grow_with_a_burst", recv_buffers_grow_with_a_burst),
    ("recv::is_cancelled_and_rearmed", recv_is_cancelled_and_rearmed),
    ("accept::is_multishot_until_cancelled", accept_is_multishot_until_cancelled),
    ("send::outlives_the_client", send_outlives_the_client),
    ("send::is_cancelled", send_is_cancelled),
    ("send::carries_two_pieces", send_carries_two_pieces),
    ("send::of_two_pieces_outlives_both", send_of_two_pieces_outlives_both),
    ("read::returns_the_content_of_the_file", read_returns_the_content_of_the_file),
    ("poll::reports_once", poll_reports_once),
    ("queue::of_two_entries_loses_nothing", queue_of_two_entries_loses_nothing),
    ("queue::with_entries_that_wait_does_not_sleep", queue_with_entries_that_wait_does_not_sleep),
    ("queue::overflow_of_completions_loses_nothing", queue_overflow_of_completions_loses_nothing),
    ("flight::of_an_ended_operation_cancels_nothing", flight_of_an_ended_operation_cancels_nothing),
    ("drop::leaks_what_is_in_flight", drop_leaks_what_is_in_flight),
    ("drop::submits_pending_closes", drop_submits_pending_closes),
    ("restrictions::let_nothing_out", restrictions_let_nothing_out),
    ("finish::frees_what_was_in_flight", finish_frees_what_was_in_flight),
];

/// Switches that don't change what a ring reports.
const SILENT: [Tune; 3] = [Tune::CoopTaskrun, Tune::UnlinkedSend, Tune::Unbatched];

fn main() -> ExitCode {
    let tests = || TESTS.iter().chain(pairs::TESTS);
    let mut trials: Vec<_> =
        tests().chain(pairs::OF_CHAINS).map(|(name, test)| trial(name.to_string(), None, *test)).collect();
    for switch in SILENT {
        trials.extend(tests().map(|(name, test)| trial(named(switch, name), Some(switch), *test)));
    }
    for (switch, (name, test)) in switches::SWITCHES {
        trials.push(trial(named(*switch, name), Some(*switch), *test));
    }
    trials.push(iowait_trial());
    if let Err(refusal) = uring::available() {
        let ignored = |trial: Trial| trial.with_kind(refusal.clone()).with_ignored_flag(true);
        trials = trials.into_iter().map(ignored).collect();
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// Ignored where the kernel can't do it.
fn iowait_trial() -> Trial {
    let trial = trial("wait::is_not_iowait".to_owned(), None, wait_is_not_iowait);
    match Ring::new(&Options::default()) {
        Ok(ring) if !ring.waits_idly() => {
            trial.with_kind("needs Linux 6.15 (IORING_ENTER_NO_IOWAIT)").with_ignored_flag(true)
        }
        Ok(_) | Err(_) => trial,
    }
}

fn named(switch: Tune, name: &str) -> String {
    format!("{}::{name}", switch.name())
}

thread_local! {
    /// The optimization disabled in this thread's rings.
    static WITHOUT: Cell<Option<Tune>> = const { Cell::new(None) };
}

fn trial(name: String, without: Option<Tune>, test: fn() -> Outcome) -> Trial {
    Trial::test(name, move || {
        WITHOUT.set(without);
        test()
    })
}

fn options() -> Options {
    Options { without: WITHOUT.get().into_iter().collect(), ..Options::default() }
}

fn small_ring() -> Result<Ring, Failed> {
    Ok(Ring::new(&Options { submissions: 64, completions: 256, receive_buffers: 8, ..options() })?)
}

fn pair() -> io::Result<(Socket, UnixStream)> {
    let (ours, theirs) = UnixStream::pair()?;
    theirs.set_read_timeout(Some(PATIENCE))?;
    Ok((Rc::new(ours.into()), theirs))
}

fn token(slot: u32) -> Token {
    Token { slot, generation: 0 }
}

/// The next completion, or an error after a timeout.
fn next(ring: &mut Ring) -> Result<Completion, Failed> {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(completion) = ring.completion() {
            return Ok(completion);
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err("nothing has completed".into());
        }
        ring.submit_and_wait(Some(left))?;
    }
}

/// Decodes a receive: the bytes (`None` if the client closed its side), and whether more will come.
fn received(completion: Completion) -> Result<(Token, Option<Vec<u8>>, bool), Failed> {
    let Completion::Received { token, result, armed } = completion else {
        return Err("not a receive".into());
    };
    Ok((token, result?.map(|buffer| buffer.bytes().to_vec()), armed))
}

/// Waits until a send has ended; returns how many bytes it sent.
fn sent(ring: &mut Ring) -> Result<usize, Failed> {
    let mut sum = 0;
    loop {
        let (result, armed) = match next(ring)? {
            Completion::Sent { result, armed, .. } => (result, armed),
            _ => return Err("not a send".into()),
        };
        sum += result?;
        if !armed {
            return Ok(sum);
        }
    }
}

/// Non-repeating bytes, so that misplaced ones are found.
fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|index| (index * 7 + index / 251).to_le_bytes()[0]).collect()
}

fn file_of(directory: &tempfile::TempDir, content: &[u8]) -> io::Result<Arc<SharedFile>> {
    let path = directory.path().join("file");
    fs::write(&path, content)?;
    Ok(Arc::new(SharedFile::new(OpenFile::new(OwnedFd::from(File::open(path)?), Volume::Local, 0))))
}

/// A directory on the build's file system, which is on a disk; `/tmp` may be in memory.
fn directory() -> io::Result<tempfile::TempDir> {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))
}

fn every_rung_of_the_ladder_serves() -> Outcome {
    let directory = directory()?;
    let file = file_of(&directory, b"body")?;
    for (rung, expected) in LADDER.iter().enumerate() {
        let mut ring = Ring::new(&Options { rung, ..options() })?;
        if ring.rung() != expected.kernel {
            continue; // an older kernel uses the next rung
        }
        let (socket, mut theirs) = pair()?;
        ring.arm_recv(token(0), &socket);
        theirs.write_all(b"GET")?;
        let (_, bytes, armed) = received(next(&mut ring)?)?;
        assert_eq!((bytes.as_deref(), armed), (Some(&b"GET"[..]), true), "{}", expected.kernel);
        ring.read_then_send(
            token(0),
            &socket,
            &FilePart { head: b"head ", file: &file, offset: 0, length: 4 },
        );
        assert_eq!(sent(&mut ring)?, 9);
        let mut answer = [0; 9];
        theirs.read_exact(&mut answer)?;
        assert_eq!(&answer, b"head body");
        ring.finish(PATIENCE);
        assert_eq!(ring.in_flight(), 0);
    }
    Ok(())
}

fn recv_is_multishot_until_the_client_closes() -> Outcome {
    let mut ring = small_ring()?;
    let (socket, mut theirs) = pair()?;
    ring.arm_recv(token(3), &socket);
    for text in ["one", "two"] {
        theirs.write_all(text.as_bytes())?;
        let (from, bytes, armed) = received(next(&mut ring)?)?;
        assert_eq!((from, bytes, armed), (token(3), Some(text.as_bytes().to_vec()), true));
    }
    drop(theirs);
    let (_, bytes, armed) = received(next(&mut ring)?)?;
    assert_eq!((bytes, armed), (None, false));
    assert_eq!(ring.in_flight(), 0);
    assert_eq!(ring.receive_buffers().lent(), 8, "all buffers are returned");
    Ok(())
}

fn recv_one_shot_takes_the_first_bytes_and_ends() -> Outcome {
    let mut ring = small_ring()?;
    let (socket, mut theirs) = pair()?;
    ring.recv(token(3), &socket);
    theirs.write_all(b"one")?;
    assert_eq!(received(next(&mut ring)?)?, (token(3), Some(b"one".to_vec()), false));
    assert_eq!(ring.in_flight(), 0);
    theirs.write_all(b"two")?;
    ring.submit_and_wait(Some(Duration::ZERO))?;
    assert!(ring.completion().is_none(), "nothing more is received unless asked for");
    ring.recv(token(4), &socket);
    assert_eq!(received(next(&mut ring)?)?, (token(4), Some(b"two".to_vec()), false));
    drop(theirs);
    ring.recv(token(5), &socket);
    assert_eq!(received(next(&mut ring)?)?, (token(5), None, false));
    assert_eq!((ring.in_flight(), ring.receive_buffers().lent()), (0, 8), "all buffers are returned");
    Ok(())
}

fn recv_runs_out_of_buffers_and_is_rearmed() -> Outcome {
    let mut ring = Ring::new(&Options { receive_buffers: 2, ..options() })?;
    let (socket, mut theirs) = pair()?;
    ring.arm_recv(token(0), &socket);
    let content = pattern(3 * RECEIVE_BUFFER_BYTES as usize);
    theirs.write_all(&content)?;
    let mut held = Vec::new();
    loop {
        match next(&mut ring)? {
            Completion::Received { result: Ok(Some(buffer)), armed: true, .. } => held.push(buffer),
            Completion::Received { result: Err(error), armed: false, .. } => {
                assert_eq!(error.raw_os_error(), Some(libc::ENOBUFS));
                break;
            }
            _ => return Err("neither bytes nor the end of the buffers".into()),
        }
    }
    assert_eq!(held.len(), 2);
    assert_eq!(ring.receive_buffers().lent(), 0);
    let mut got: Vec<u8> = held.iter().flat_map(|buffer| buffer.bytes().to_vec()).collect();
    held.clear();
    ring.arm_recv(token(0), &socket);
    while got.len() < content.len() {
        let (_, bytes, _) = received(next(&mut ring)?)?;
        got.extend(bytes.ok_or("closed too early")?);
    }
    assert_eq!(got, content, "every byte, once, in order");
    Ok(())
}

fn recv_buffers_grow_with_a_burst() -> Outcome {
    let mut ring = Ring::new(&Options { receive_buffers: 512, ..options() })?;
    let before = ring.receive_buffers().lent();
    assert!(before < 512, "memory not needed yet is not handed out");
    let mut pairs = Vec::new();
    for slot in 0..300 {
        let (socket, mut theirs) = pair()?;
        theirs.write_all(b"x")?;
        ring.arm_recv(token(slot), &socket);
        pairs.push((socket, theirs));
    }
    let (mut held, mut served) = (Vec::new(), 0);
    while served < 300 {
        match next(&mut ring)? {
            Completion::Received { result: Ok(Some(buffer)), .. } => {
                held.push(buffer);
                served += 1;
            }
            Completion::Received { token, result: Err(error), armed: false } => {
                assert_eq!(error.raw_os_error(), Some(libc::ENOBUFS));
                ring.arm_recv(token, &pairs[token.slot as usize].0);
            }
            _ => return Err("neither bytes nor the end of the buffers".into()),
        }
    }
    drop(held);
    assert!(ring.receive_buffers().lent() > before);
    Ok(())
}

fn recv_is_cancelled_and_rearmed() -> Outcome {
    let mut ring = small_ring()?;
    let (socket, mut theirs) = pair()?;
    let flight = ring.arm_recv(token(0), &socket);
    ring.cancel(flight);
    let Completion::Received { result: Err(error), armed: false, .. } = next(&mut ring)? else {
        return Err("the end of the receive was expected".into());
    };
    assert_eq!(error.raw_os_error(), Some(libc::ECANCELED));
    theirs.write_all(b"meanwhile")?;
    ring.arm_recv(token(0), &socket);
    assert_eq!(received(next(&mut ring)?)?.1.as_deref(), Some(&b"meanwhile"[..]));
    Ok(())
}

fn accept_is_multishot_until_cancelled() -> Outcome {
    let mut ring = small_ring()?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let listener = Rc::new(OwnedFd::from(listener));
    let mut clients = Vec::new();
    for round in 0..2 {
        let flight = ring.arm_accept(token(round), &listener);
        for _ in 0..3 {
            clients.push(TcpStream::connect(address)?);
            let Completion::Accepted { token: of, result: Ok(_), armed: true } = next(&mut ring)? else {
                return Err("a connection was expected".into());
            };
            assert_eq!(of, token(round));
        }
        ring.cancel(flight);
        let Completion::Accepted { result: Err(error), armed: false, .. } = next(&mut ring)? else {
            return Err("the end of the accept was expected".into());
        };
        assert_eq!(error.raw_os_error(), Some(libc::ECANCELED));
    }
    assert_eq!(ring.in_flight(), 0);
    Ok(())
}

/// More than a socket buffer holds.
const MUCH: usize = 16 << 20;

fn send_outlives_the_client() -> Outcome {
    let mut ring = small_ring()?;
    let (socket, mut theirs) = pair()?;
    let content = pattern(MUCH);
    let output = Rc::new(content.clone());
    let watch = Rc::downgrade(&output);
    ring.send(token(0), &socket, [SharedPiece::Output(output, 0..MUCH)], false);
    drop(socket);
    ring.submit_and_wait(Some(Duration::from_millis(1)))?;
    assert!(watch.upgrade().is_some(), "the operation owns what it sends");
    let reader = std::thread::spawn(move || {
        let mut got = vec![0; MUCH];
        theirs.read_exact(&mut got).map(|()| got)
    });
    assert_eq!(sent(&mut ring)?, MUCH, "everything, step by step");
    assert!(watch.upgrade().is_none(), "and releases it on completion");
    assert!(reader.join().expect("the reader reads")? == content);
    Ok(())
}

fn send_is_cancelled() -> Outcome {
    let mut ring = small_ring()?;
    let (socket, theirs) = pair()?;
    let output = Rc::new(vec![0; MUCH]);
    let flight = ring.send(token(0), &socket, [SharedPiece::Output(Rc::clone(&output), 0..MUCH)], false);
    ring.submit_and_wait(Some(Duration::from_millis(1)))?;
    assert_eq!(Rc::strong_count(&output), 2);
    let Completion::Sent { result: Ok(_), armed: true, .. } = next(&mut ring)? else {
        return Err("what the socket has room for was expected to leave".into());
    };
    ring.submit_and_wait(Some(Duration::from_millis(1)))?;
    ring.cancel(flight);
    let error = sent(&mut ring).expect_err("the rest can't be sent");
    assert!(error.message().is_some_and(|message| message.contains("os error 125")), "{error:?}");
    assert_eq!(Rc::strong_count(&output), 1);
    drop(theirs);
    Ok(())
}

fn send_carries_two_pieces() -> Outcome {
    let mut ring = small_ring()?;
    let (head, body) = (Rc::new(pattern(500)), Arc::new(FileBytes::from(&pattern(60_000)[..])));
    for (of_head, of_body) in
        [(0..500, 0..60_000), (100..200, 7..8), (500..500, 10..20), (3..4, 60_000..60_000)]
    {
        let (socket, mut theirs) = pair()?;
        let expected = [&head[of_head.clone()], &body[of_body.clone()]].concat();
        let reader = std::thread::spawn(move || {
            let mut got = vec![0; expected.len()];
            theirs.read_exact(&mut got).map(|()| got == expected)
        });
        let length = of_head.len() + of_body.len();
        let pieces =
            [SharedPiece::Output(Rc::clone(&head), of_head), SharedPiece::Body(Arc::clone(&body), of_body)];
        ring.send(token(0), &socket, pieces, false);
        assert_eq!(sent(&mut ring)?, length);
        assert!(reader.join().expect("the reader reads")?, "in order, and nothing else");
        assert_eq!((Rc::strong_count(&head), Arc::strong_count(&body)), (1, 1), "let go of");
    }
    Ok(())
}

/// Both pieces exceed the socket buffer, so each is sent in several short writes.
fn send_of_two_pieces_outlives_both() -> Outcome {
    let mut ring = small_ring()?;
    let (socket, mut theirs) = pair()?;
    let (head, body) = (Rc::new(pattern(MUCH / 4)), Arc::new(FileBytes::from(&pattern(MUCH)[..])));
    let expected = [&head[..], &body[..]].concat();
    let (head_watch, body_watch) = (Rc::downgrade(&head), Arc::downgrade(&body));
    let pieces = [SharedPiece::Output(head, 0..MUCH / 4), SharedPiece::Body(body, 0..MUCH)];
    ring.send(token(0), &socket, pieces, false);
    drop(socket);
    ring.submit_and_wait(Some(Duration::from_millis(1)))?;
    assert!(head_watch.upgrade().is_some() && body_watch.upgrade().is_some(), "the operation owns both");
    let reader = std::thread::spawn(move || {
        let mut got = vec![0; expected.len()];
        theirs.read_exact(&mut got).map(|()| got == expected)
    });
    assert_eq!(sent(&mut ring)?, MUCH / 4 + MUCH);
    assert!(reader.join().expect("the reader reads")?);
    assert!(head_watch.upgrade().is_none() && body_watch.upgrade().is_none());
    Ok(())
}

fn read_returns_the_content_of_the_file() -> Outcome {
    let directory = directory()?;
    let content = pattern(50_000);
    let file = file_of(&directory, &content)?;
    let mut ring = small_ring()?;
    for wanted in [1, 50_000, 64 * 1024] {
        ring.read(token(3), &FileRange { file: &file, offset: 0, length: wanted as u64 });
        let Completion::Read { token: at, result } = next(&mut ring)? else {
            return Err("not a read".into());
        };
        let bytes = result?;
        assert_eq!(at, token(3));
        assert!(bytes[..] == content[..wanted.min(content.len())]);
        assert_eq!(Arc::strong_count(&file), 1);
    }
    Ok(())
}

fn poll_reports_once() -> Outcome {
    let mut ring = small_ring()?;
    let (socket, mut theirs) = pair()?;
    ring.poll_readable(token(9), &socket);
    theirs.write_all(b"x")?;
    let Completion::Polled { token: of } = next(&mut ring)? else {
        return Err("readability was expected".into());
    };
    assert_eq!(of, token(9));
    theirs.write_all(b"x")?;
    ring.submit_and_wait(Some(Duration::from_millis(20)))?;
    assert!(ring.completion().is_none());
    Ok(())
}

/// Many rings wait at once: none of their threads counts among those blocked by I/O, whatever else this machine does.
fn wait_is_not_iowait() -> Outcome {
    const RINGS: usize = 32;
    let asleep = Barrier::new(RINGS + 1);
    std::thread::scope(|scope| {
        for _ in 0..RINGS {
            scope.spawn(|| {
                let mut ring = small_ring().expect("a ring");
                // A wait counts only if something is in flight.
                let (socket, _theirs) = pair().expect("sockets");
                ring.arm_recv(token(0), &socket);
                asleep.wait();
                ring.submit_and_wait(Some(Duration::from_secs(1))).expect("waited");
            });
        }
        asleep.wait();
        std::thread::sleep(Duration::from_millis(200)); // they can't tell when they are asleep
        let blocked = blocked_threads()?;
        if blocked < RINGS / 2 { Ok(()) } else { Err(format!("{blocked} threads are blocked by I/O").into()) }
    })
}

/// Threads of this machine that wait for I/O now (`procs_blocked`, proc_stat(5)).
fn blocked_threads() -> Result<usize, Failed> {
    let stat = fs::read_to_string("/proc/stat")?;
    let count = stat.lines().find_map(|line| line.strip_prefix("procs_blocked "));
    Ok(count.ok_or("no procs_blocked")?.parse()?)
}

fn queue_of_two_entries_loses_nothing() -> Outcome {
    const EACH: u32 = 300;
    let directory = directory()?;
    let content = pattern(1000);
    let file = file_of(&directory, &content)?;
    for rung in 0..LADDER.len() {
        let mut ring =
            Ring::new(&Options { submissions: 2, completions: 64, receive_buffers: 8, rung, ..options() })?;
        let mut pairs = Vec::new();
        for slot in 0..EACH {
            let (socket, mut theirs) = pair()?;
            theirs.write_all(b"x")?;
            ring.arm_recv(token(slot), &socket);
            ring.read_then_send(
                token(slot),
                &socket,
                &FilePart { head: b"", file: &file, offset: 0, length: 1000 },
            );
            pairs.push((socket, theirs));
        }
        let (mut receives, mut sends) = (0, 0);
        while receives < EACH || sends < EACH {
            match next(&mut ring)? {
                Completion::Received { result: Ok(Some(_)), .. } => receives += 1,
                Completion::Received { token, result: Err(error), armed: false } => {
                    assert_eq!(error.raw_os_error(), Some(libc::ENOBUFS));
                    ring.arm_recv(token, &pairs[token.slot as usize].0);
                }
                Completion::Sent { result, armed: false, .. } => {
                    assert_eq!(result?, 1000);
                    sends += 1;
                }
                _ => return Err("neither a receive nor a send".into()),
            }
        }
        for (_, theirs) in &mut pairs {
            let mut got = vec![0; 1000];
            theirs.read_exact(&mut got)?;
            assert!(got == content, "no chain was torn");
        }
        ring.finish(PATIENCE);
        assert_eq!(ring.in_flight(), 0);
    }
    Ok(())
}

/// A chain that finds no place in the queue has to be offered again, not only when something else happens. Here it never
/// finds one: there is one place, and the chain has two entries.
fn queue_with_entries_that_wait_does_not_sleep() -> Outcome {
    let directory = directory()?;
    let file = file_of(&directory, &pattern(1000))?;
    for rung in 0..LADDER.len() {
        let mut ring =
            Ring::new(&Options { submissions: 1, completions: 64, receive_buffers: 8, rung, ..options() })?;
        let (socket, _theirs) = pair()?;
        let part = FilePart { head: b"", file: &file, offset: 0, length: 1000 };
        ring.read_then_send(token(0), &socket, &part);
        let begun = Instant::now();
        for _ in 0..10 {
            ring.submit_and_wait(Some(PATIENCE / 10))?;
            if ring.completion().is_some() {
                break; // not a chain, but one after the other
            }
        }
        assert!(begun.elapsed() < PATIENCE / 20, "it slept for {:?}", begun.elapsed());
    }
    Ok(())
}

fn queue_overflow_of_completions_loses_nothing() -> Outcome {
    const EACH: u32 = 200;
    for rung in 0..LADDER.len() {
        let mut ring = Ring::new(&Options {
            submissions: 512,
            completions: 512,
            receive_buffers: 512,
            rung,
            ..options()
        })?;
        let mut small =
            Ring::new(&Options { submissions: 2, completions: 4, receive_buffers: 256, rung, ..options() })?;
        for ring in [&mut ring, &mut small] {
            let mut pairs = Vec::new();
            for slot in 0..EACH {
                let (socket, mut theirs) = pair()?;
                theirs.write_all(b"x")?;
                ring.poll_readable(token(slot), &socket);
                pairs.push((socket, theirs));
            }
            let mut reported = vec![false; EACH as usize];
            for _ in 0..EACH {
                let Completion::Polled { token } = next(ring)? else {
                    return Err("readability was expected".into());
                };
                assert!(!std::mem::replace(&mut reported[token.slot as usize], true), "once each");
            }
            assert_eq!(ring.in_flight(), 0);
        }
    }
    Ok(())
}

fn flight_of_an_ended_operation_cancels_nothing() -> Outcome {
    let mut ring = small_ring()?;
    let (socket, mut theirs) = pair()?;
    let old = ring.arm_recv(token(0), &socket);
    ring.cancel(old);
    assert!(matches!(next(&mut ring)?, Completion::Received { armed: false, .. }));
    // The slot is reused with the next generation.
    let new = ring.arm_recv(token(1), &socket);
    assert_ne!(old, new);
    ring.cancel(old);
    ring.submit_and_wait(Some(Duration::from_millis(20)))?;
    assert!(ring.completion().is_none());
    theirs.write_all(b"still here")?;
    let (of, bytes, armed) = received(next(&mut ring)?)?;
    assert_eq!((of, bytes.as_deref(), armed), (token(1), Some(&b"still here"[..]), true));
    Ok(())
}

fn drop_leaks_what_is_in_flight() -> Outcome {
    let mut ring = small_ring()?;
    let (socket, mut theirs) = pair()?;
    let (idle, mut their_idle) = pair()?;
    let output = Rc::new(vec![1; MUCH]);
    let watch = Rc::downgrade(&output);
    let buffers = Rc::downgrade(ring.receive_buffers());
    ring.send(token(0), &socket, [SharedPiece::Output(output, 0..MUCH)], false);
    ring.arm_recv(token(1), &idle);
    ring.submit_and_wait(Some(Duration::from_millis(1)))?;
    assert_eq!(ring.in_flight(), 2);
    drop((ring, socket, idle));
    assert!(watch.upgrade().is_some(), "output in flight is leaked, not freed");
    assert!(buffers.upgrade().is_some(), "and so are receive buffers");
    // The descriptors are closed: both clients see the end of the stream.
    assert!(theirs.read_to_end(&mut Vec::new())? < MUCH);
    assert_eq!(their_idle.read_to_end(&mut Vec::new())?, 0);

    let ring = small_ring()?;
    let buffers = Rc::downgrade(ring.receive_buffers());
    drop(ring);
    assert!(buffers.upgrade().is_none(), "with nothing in flight nothing is leaked");
    Ok(())
}

fn drop_submits_pending_closes() -> Outcome {
    let mut ring = small_ring()?;
    let (socket, mut theirs) = pair()?;
    ring.close(Rc::into_inner(socket).expect("the only share"));
    drop(ring);
    assert_eq!(theirs.read(&mut [0; 1])?, 0);
    Ok(())
}

fn finish_frees_what_was_in_flight() -> Outcome {
    let directory = directory()?;
    let file = file_of(&directory, &pattern(LARGE_BODY_BYTES))?;
    let mut ring = small_ring()?;
    let buffers = Rc::downgrade(ring.receive_buffers());
    let listener = Rc::new(OwnedFd::from(TcpListener::bind("127.0.0.1:0")?));
    let output = Rc::new(vec![1; MUCH]);
    let watch = Rc::downgrade(&output);
    let (one, their_one) = pair()?;
    let (two, their_two) = pair()?;
    rustix::net::sockopt::set_socket_send_buffer_size(&two, 4096)?;
    ring.arm_accept(token(0), &listener);
    ring.arm_recv(token(1), &one);
    ring.send(token(1), &one, [SharedPiece::Output(output, 0..MUCH)], false);
    ring.read_then_send(token(2), &two, &FilePart { head: b"", file: &file, offset: 0, length: 1 << 17 });
    ring.submit_and_wait(Some(Duration::from_millis(1)))?;
    assert_eq!(ring.in_flight(), 4);
    ring.finish(PATIENCE);
    assert_eq!(ring.in_flight(), 0);
    assert!(watch.upgrade().is_none());
    drop(ring);
    assert!(buffers.upgrade().is_none(), "nothing was in flight, nothing is leaked");
    assert_eq!((Rc::strong_count(&one), Rc::strong_count(&listener), Arc::strong_count(&file)), (1, 1, 1));
    drop((their_one, their_two));
    Ok(())
}

/// Whoever has taken over the process can't use the ring to get past its seccomp filter.
fn restrictions_let_nothing_out() -> Outcome {
    let mut ring = small_ring()?;
    for (number, (name, result)) in ring.try_to_get_out().into_iter().enumerate() {
        let errno = result.map_err(|error| error.raw_os_error());
        let expected = match number {
            0 => Ok(0),
            1 => Err(Some(libc::EBADF)),
            _ => Err(Some(libc::EACCES)),
        };
        assert_eq!(errno, expected, "{name}");
    }
    Ok(())
}
