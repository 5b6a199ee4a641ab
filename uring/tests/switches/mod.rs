//! The effect of each switch that the ring can see. Each test runs with its switch.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use common::service::tune::Tune;
use libtest_mimic::Failed;
use uring::buffers::RECEIVE_BUFFER_BYTES;
use uring::ring::{Completion, FilePart, LADDER, Options, Ring};

use super::{
    Outcome, PATIENCE, Test, directory, file_of, next, options, pair, pattern, sent, small_ring, token,
};

/// A switch, and its test.
pub(super) const SWITCHES: &[(Tune, Test)] = &[
    (Tune::SingleAccept, ("accepts_one_at_a_time", accepts_one_at_a_time)),
    (Tune::SingleReceive, ("receives_one_at_a_time_into_its_own_memory", receives_one_at_a_time)),
    (Tune::SingleReceive, ("memory_in_flight_is_not_freed", one_shot_receives_in_flight_are_not_freed)),
    (Tune::CoopTaskrun, ("does_not_defer_completions", does_not_defer_completions)),
    (Tune::UnlinkedSend, ("sends_after_the_read_completes", sends_after_the_read_completes)),
    (Tune::Unbatched, ("enters_the_kernel_for_each_operation", enters_the_kernel_for_each_operation)),
];

fn accepts_one_at_a_time() -> Outcome {
    let mut ring = small_ring()?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let listener = Rc::new(OwnedFd::from(listener));
    let mut clients = Vec::new();
    for _ in 0..2 {
        clients.push(TcpStream::connect(address)?);
    }
    for round in 0..2 {
        ring.arm_accept(token(round), &listener);
        let Completion::Accepted { token: of, result: Ok(_), armed: false } = next(&mut ring)? else {
            return Err("a connection was expected".into());
        };
        assert_eq!(of, token(round));
        assert_eq!(ring.in_flight(), 0);
        ring.submit_and_wait(Some(Duration::from_millis(20)))?;
        assert!(ring.completion().is_none(), "the other connection waits");
    }
    let flight = ring.arm_accept(token(2), &listener);
    ring.cancel(flight);
    let Completion::Accepted { result: Err(error), armed: false, .. } = next(&mut ring)? else {
        return Err("the end of the accept was expected".into());
    };
    assert_eq!(error.raw_os_error(), Some(libc::ECANCELED));
    Ok(())
}

/// Decodes a one-shot receive.
fn received_once(completion: Completion) -> Result<Option<Vec<u8>>, Failed> {
    let Completion::Received { result, .. } = completion else { return Err("not a receive".into()) };
    Ok(result?.map(|buffer| buffer.bytes().to_vec()))
}

fn receives_one_at_a_time() -> Outcome {
    let mut ring = small_ring()?;
    let (socket, mut theirs) = pair()?;
    let content = pattern(RECEIVE_BUFFER_BYTES as usize + 5);
    theirs.write_all(&content)?;
    for expected in [&content[..content.len() - 5], &content[content.len() - 5..]] {
        ring.submit_and_wait(Some(Duration::ZERO))?;
        assert!(ring.completion().is_none(), "nothing more is received unless asked for");
        ring.arm_recv(token(0), &socket);
        assert!(received_once(next(&mut ring)?)?.as_deref() == Some(expected));
        assert_eq!((ring.in_flight(), ring.receive_buffers().lent()), (0, 8), "no provided buffer was taken");
    }
    let flight = ring.arm_recv(token(0), &socket);
    ring.cancel(flight);
    let error = received_once(next(&mut ring)?).expect_err("it was cancelled");
    assert!(error.message().is_some_and(|message| message.contains("os error 125")), "{error:?}");
    ring.arm_recv(token(0), &socket);
    drop(theirs);
    assert_eq!(received_once(next(&mut ring)?)?, None, "the client has closed");
    assert_eq!(ring.in_flight(), 0);
    Ok(())
}

/// One-shot receives in flight when the client, the owner of the ring or the ring itself goes away.
fn one_shot_receives_in_flight_are_not_freed() -> Outcome {
    let mut ring = small_ring()?;
    let (socket, mut theirs) = pair()?;
    ring.arm_recv(token(0), &socket);
    drop(socket);
    theirs.write_all(b"late")?;
    assert_eq!(received_once(next(&mut ring)?)?.as_deref(), Some(&b"late"[..]));
    assert_eq!(theirs.read_to_end(&mut Vec::new())?, 0, "the operation held the socket, and has released it");

    let (idle, mut their_idle) = pair()?;
    ring.arm_recv(token(1), &idle);
    ring.submit_and_wait(Some(Duration::from_millis(1)))?;
    ring.finish(PATIENCE);
    assert_eq!((ring.in_flight(), Rc::strong_count(&idle)), (0, 1));

    ring.arm_recv(token(1), &idle);
    ring.submit_and_wait(Some(Duration::from_millis(1)))?;
    drop((ring, idle));
    assert_eq!(
        their_idle.read_to_end(&mut Vec::new())?,
        0,
        "what is in flight is leaked, the descriptor is closed"
    );
    Ok(())
}

fn does_not_defer_completions() -> Outcome {
    let ring = small_ring()?;
    let rung = LADDER.iter().find(|rung| rung.kernel == ring.rung()).ok_or("not on the ladder")?;
    assert!(!rung.defers, "{}", rung.kernel);
    Ok(())
}

/// How often the kernel is entered to send a pair from a file in memory.
fn enters_of_a_pair(options: &Options) -> Result<u64, Failed> {
    let directory = directory()?;
    let content = pattern(1000);
    let file = file_of(&directory, &content)?;
    let mut ring = Ring::new(options)?;
    let (socket, mut theirs) = pair()?;
    ring.read_then_send(token(0), &socket, &FilePart { head: b"head", file: &file, offset: 0, length: 1000 });
    assert_eq!(sent(&mut ring)?, 1004);
    let mut got = vec![0; 1004];
    theirs.read_exact(&mut got)?;
    assert!(got == [b"head", &content[..]].concat());
    Ok(ring.enters())
}

fn sends_after_the_read_completes() -> Outcome {
    assert_eq!(enters_of_a_pair(&Options::default())?, 1, "the chain needs no further system call");
    assert!(enters_of_a_pair(&options())? >= 2, "the send is submitted after the read");
    Ok(())
}

fn enters_the_kernel_for_each_operation() -> Outcome {
    for (options, enters) in [(Options::default(), 0), (options(), 10)] {
        let mut ring = Ring::new(&options)?;
        let (socket, _theirs) = pair()?;
        for slot in 0..10 {
            ring.poll_readable(token(slot), &socket);
        }
        assert_eq!(ring.enters(), enters);
        ring.finish(PATIENCE);
        assert_eq!(ring.in_flight(), 0);
    }
    Ok(())
}
