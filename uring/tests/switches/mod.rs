//! What each switch changes, as far as the ring can tell; each test runs with its switch.

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

/// A switch, and what is tested.
pub(super) const SWITCHES: &[(Tune, Test)] = &[
    (Tune::SingleAccept, ("accepts_one_at_a_time", accepts_one_at_a_time)),
    (Tune::SingleReceive, ("receives_one_at_a_time_into_its_own_memory", receives_one_at_a_time)),
    (Tune::SingleReceive, ("memory_in_flight_is_not_freed", single_receives_end_well)),
    (Tune::CoopTaskrun, ("asks_for_nothing_that_defers", asks_for_nothing_that_defers)),
    (Tune::UnlinkedSend, ("sends_when_the_read_has_come_back", sends_when_the_read_has_come_back)),
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
        assert!(ring.completion().is_none(), "the other one waits");
    }
    let flight = ring.arm_accept(token(2), &listener);
    ring.cancel(flight);
    let Completion::Accepted { result: Err(error), armed: false, .. } = next(&mut ring)? else {
        return Err("the end of the accept was expected".into());
    };
    assert_eq!(error.raw_os_error(), Some(libc::ECANCELED));
    Ok(())
}

/// What a receive that is for once has come to.
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
        assert!(ring.completion().is_none(), "nothing is received unasked");
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

/// Receives in flight when the client, the ring's owner or the ring goes.
fn single_receives_end_well() -> Outcome {
    let mut ring = small_ring()?;
    let (socket, mut theirs) = pair()?;
    ring.arm_recv(token(0), &socket);
    drop(socket);
    theirs.write_all(b"late")?;
    assert_eq!(received_once(next(&mut ring)?)?.as_deref(), Some(&b"late"[..]));
    assert_eq!(
        theirs.read_to_end(&mut Vec::new())?,
        0,
        "the operation held the socket, and has let go of it"
    );

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

fn asks_for_nothing_that_defers() -> Outcome {
    let ring = small_ring()?;
    let rung = LADDER.iter().find(|rung| rung.kernel == ring.rung()).ok_or("not on the ladder")?;
    assert!(!rung.defers, "{}", rung.kernel);
    Ok(())
}

/// How often the kernel is entered until a pair of a file that is in memory has been sent.
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

fn sends_when_the_read_has_come_back() -> Outcome {
    assert_eq!(enters_of_a_pair(&Options::default())?, 1, "the chain runs by itself");
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
