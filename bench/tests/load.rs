//! The load engine against servers that follow a script: what is wrong with an answer must not go unseen.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as the tests themselves do")]

mod scripted;

use bench::load::class::Life;
use bench::load::engine::{Engine, REFUSALS_MAX};
use bench::load::error::LoadError;
use bench::load::outcome::ClassOutcome;
use bench::load::response::HeadError;
use scripted::{
    BODY, Then, WINDOW, class, ends_with, engine, error, only, right_answer, right_server, scripted, send,
};
use sha2::{Digest, Sha256};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// A short load on a server that is expected to be silent, and given up soon. Elsewhere the patience is the usual one:
/// a machine that stands still for a while isn't taken for a server that does.
fn try_silence(address: SocketAddr, life: Life) -> Result<ClassOutcome, LoadError> {
    const SOON: Duration = Duration::from_millis(300);
    engine(address, vec![class(address, life, 3)]).with_stall(SOON).run(WINDOW, None).map(only)
}

/// So much has been begun and ended in a load, well or not.
const ENOUGH: u64 = 12;

fn load(address: SocketAddr, life: Life) -> ClassOutcome {
    until(
        |class| class.answers + class.error_count() >= ENOUGH,
        || engine(address, vec![class(address, life, 3)]),
    )
}

/// The outcome of a load that is long enough for `enough`, however little time a busy machine has for it: each
/// attempt is a new engine with a longer window. The last one stands.
fn until(enough: impl Fn(&ClassOutcome) -> bool, mut engine: impl FnMut() -> Engine) -> ClassOutcome {
    const LONGEST: Duration = Duration::from_secs(8);
    let mut window = WINDOW;
    loop {
        let class = only(engine().run(window, None).unwrap());
        if enough(&class) || window > LONGEST {
            return class;
        }
        window *= 2;
    }
}

fn kept(answer: Vec<u8>) -> ClassOutcome {
    let address = scripted(move |stream, _| {
        send(stream, &answer);
        Then::Keep
    });
    load(address, Life::KeepAlive)
}

fn closed_after(answer: Vec<u8>) -> ClassOutcome {
    let address = scripted(move |stream, request| {
        assert!(request.contains("\r\nConnection: close\r\n"), "{request}");
        send(stream, &answer);
        Then::Close
    });
    load(address, Life::Requests(1))
}

#[test]
fn right_answers_are_counted() {
    let served = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&served);
    let address = scripted(move |stream, request| {
        assert!(request.starts_with("GET /fox HTTP/1.1\r\nHost: 127.0.0.1:"), "{request}");
        counter.fetch_add(1, Ordering::Relaxed);
        send(stream, &right_answer());
        Then::Keep
    });
    let slice = Duration::from_millis(10);
    let mut engine = engine(address, vec![class(address, Life::KeepAlive, 3)]);
    let outcome = engine.run(WINDOW, Some(slice)).unwrap();
    assert!(outcome.elapsed >= WINDOW && outcome.client_cpu < outcome.elapsed);
    let class = outcome.class("fox").unwrap();
    assert!(class.answers >= 3 && class.errors.is_empty() && class.response.is_none());
    assert_eq!(class.answers, served.load(Ordering::Relaxed));
    assert_eq!((class.offered, class.unanswered, class.reopened), (class.answers, 0, 0));
    assert_eq!(class.wire_bytes, class.answers * right_answer().len() as u64);
    assert_eq!(class.service.len(), class.answers);
    assert_eq!(class.timeline.iter().sum::<u64>(), class.answers);
    assert!(class.timeline.len() >= 2, "{:?}", class.timeline);
}

#[test]
fn a_connection_per_request_or_per_three() {
    assert!(closed_after(right_answer()).answers >= ENOUGH);
    let ended = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&ended);
    let address = scripted(move |stream, request| {
        send(stream, &right_answer());
        if request.contains("\r\nConnection: close\r\n") {
            counter.fetch_add(1, Ordering::Relaxed);
            return Then::Close;
        }
        Then::Keep
    });
    let class = until(
        |class| class.answers >= ENOUGH,
        || {
            ended.store(0, Ordering::Relaxed);
            engine(address, vec![class(address, Life::Requests(3), 3)])
        },
    );
    assert!(class.answers >= ENOUGH && class.errors.is_empty(), "{:?}", class.errors);
    // When the time was up, each of the three may have been within its three requests.
    let closed = ended.load(Ordering::Relaxed);
    assert!((closed * 3..=closed * 3 + 6).contains(&class.answers), "{closed}, {}", class.answers);
}

#[test]
fn several_runs_on_the_same_connections() {
    let address = right_server();
    let mut engine = engine(address, vec![class(address, Life::KeepAlive, 20)]);
    for _ in 0..3 {
        let class = only(engine.run(WINDOW, None).unwrap());
        assert!(class.answers >= 20 && class.errors.is_empty());
    }
}

#[test]
fn an_answer_in_pieces_is_one_answer() {
    for piece_bytes in [1, 7, 50] {
        let address = scripted(move |stream, _| {
            for piece in right_answer().chunks(piece_bytes) {
                send(stream, piece);
            }
            Then::Keep
        });
        let digest = Sha256::digest(BODY).into();
        let mut engine = engine(address, vec![class(address, Life::KeepAlive, 2)]);
        let class = only(engine.run(WINDOW, None).unwrap());
        assert!(class.answers > 0 && class.errors.is_empty(), "{piece_bytes} bytes a piece");
        assert_eq!(engine.verify(0, 2, &[digest]), Ok(()), "{piece_bytes} bytes a piece");
    }
}

#[test]
fn what_is_wrong_is_named() {
    let want = BODY.len() as u64;
    let table: [(&str, Vec<u8>, LoadError); 6] = [
        (
            "another status",
            ends_with("HTTP/1.1 404 Not Found\r\nContent-Length: 44\r\n\r\n", BODY),
            LoadError::Status { got: 404, want: 200 },
        ),
        (
            "another length",
            ends_with("HTTP/1.1 200 OK\r\nContent-Length: 43\r\n\r\n", &BODY[1..]),
            LoadError::Length { got: 43, want },
        ),
        ("no HTTP", b"hello, who is there?\r\n\r\n".to_vec(), LoadError::Head(HeadError::NotHttp)),
        ("no length", ends_with("HTTP/1.1 200 OK\r\n\r\n", BODY), LoadError::Head(HeadError::NoLength)),
        (
            "a transfer coding",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_vec(),
            LoadError::Head(HeadError::TransferCoding),
        ),
        ("too many bytes", [right_answer(), b"!".to_vec()].concat(), LoadError::Surplus),
    ];
    for (name, answer, error) in table {
        for class in [kept(answer.clone()), closed_after(answer)] {
            assert_eq!((class.answers, class.first_error()), (0, Some(&error)), "{name}");
            let errors = class.errors[error.kind()].count;
            // More than the three connections at first: the load goes on.
            assert!(errors > 3, "{name}: {errors}");
            assert_eq!(class.service.len(), class.error_count(), "{name}: failures stay in the record");
        }
    }
}

#[test]
fn surplus_after_a_pause_is_still_surplus() {
    let address = scripted(|stream, _| {
        send(stream, &right_answer());
        thread::sleep(Duration::from_millis(5));
        send(stream, b"!");
        Then::Close
    });
    let class = load(address, Life::Requests(1));
    assert_eq!(error(&class), LoadError::Surplus);
    // The answer itself was right, and is recorded once.
    assert_eq!((class.answers, class.service.len()), (class.error_count(), class.answers));
    // On a kept connection it is the beginning of an answer that isn't one, or of no answer at all.
    let address = scripted(|stream, _| {
        send(stream, &right_answer());
        thread::sleep(Duration::from_millis(5));
        send(stream, b"!");
        Then::Keep
    });
    let class = load(address, Life::KeepAlive);
    let error = class.first_error().unwrap();
    assert!(matches!(error, LoadError::Head(HeadError::NotHttp) | LoadError::Surplus), "{error}");
}

#[test]
fn a_body_that_ends_early_is_short() {
    for missing in [1, BODY.len()] {
        let answer = right_answer();
        let sent = answer[..answer.len() - missing].to_vec();
        let class = closed_after(sent);
        let want = BODY.len() as u64;
        assert_eq!(error(&class), LoadError::Short { got: want - missing as u64, want });
    }
}

#[test]
fn an_end_before_the_answer_is_seen() {
    let address = scripted(|_, _| Then::Close);
    for life in [Life::KeepAlive, Life::Requests(1)] {
        let class = load(address, life);
        assert_eq!((class.answers, error(&class)), (0, LoadError::Closed));
    }
}

#[test]
fn a_kept_connection_has_to_be_kept() {
    let address = scripted(|stream, _| {
        send(stream, &right_answer());
        Then::Close
    });
    let class = load(address, Life::KeepAlive);
    // The next request may meet the end of the stream, or the reset that it provokes.
    assert!(class.answers >= 3 && class.error_count() >= 3, "{class:?}");
    assert!(class.errors.keys().all(|kind| ["closed", "reset"].contains(kind)), "{:?}", class.errors);
}

#[test]
fn a_connection_whose_end_is_announced_is_opened_again() {
    let address = scripted(|stream, _| {
        let head = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 44\r\n\r\n";
        send(stream, &ends_with(head, BODY));
        Then::Close
    });
    let class = load(address, Life::KeepAlive);
    assert!(class.answers > 3 && class.errors.is_empty(), "{:?}", class.errors);
    assert_eq!(class.reopened, class.answers);
}

#[test]
fn a_silent_server_is_given_up() {
    let address = scripted(|_, _| Then::Keep);
    let begun = Instant::now();
    let error = try_silence(address, Life::KeepAlive).unwrap_err();
    assert!(matches!(error, LoadError::Stalled { owed: 3, .. }), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_connection_that_should_end_and_does_not_is_given_up() {
    let address = scripted(|stream, _| {
        send(stream, &right_answer());
        Then::Keep
    });
    let error = try_silence(address, Life::Requests(1)).unwrap_err();
    assert!(matches!(error, LoadError::Stalled { owed: 3, .. }), "{error}");
}

/// One connection that gets nothing is a error of its own, while the others go on.
#[test]
fn a_silent_connection_is_given_up() {
    let silent = AtomicU64::new(0);
    let address = scripted(move |stream, _| {
        if silent.fetch_add(1, Ordering::Relaxed) != 4 {
            thread::sleep(Duration::from_millis(2));
            send(stream, &right_answer());
        }
        Then::Keep
    });
    let stall = Duration::from_secs(1);
    let mut engine = engine(address, vec![class(address, Life::KeepAlive, 3)]).with_stall(stall);
    let class = only(engine.run(Duration::from_secs(2), None).unwrap());
    assert_eq!(error(&class), LoadError::Timeout { waited: stall });
    assert_eq!(class.error_count(), 1);
    assert!(class.answers > 20, "{}", class.answers);
    assert!(class.service.max() >= 1_000_000_000, "{}", class.service.max());
}

#[test]
fn nobody_listens() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let Err(error) = Engine::connect(address, vec![class(address, Life::KeepAlive, 1)], 1) else {
        panic!("it connected");
    };
    assert_eq!(error.kind(), "refused");
    // Without a connection of long life nobody is refused before the load.
    let mut engine = engine(address, vec![class(address, Life::Requests(1), 64)]);
    let begun = Instant::now();
    let error = engine.run(Duration::from_secs(20), None).unwrap_err();
    assert!(matches!(error, LoadError::Refused { attempts, .. } if attempts > REFUSALS_MAX), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[test]
fn more_connections_than_descriptors() {
    let address = right_server();
    let Err(error) = Engine::connect(address, vec![class(address, Life::KeepAlive, usize::MAX / 2)], 1)
    else {
        panic!("it connected");
    };
    assert!(matches!(error, LoadError::Descriptors { .. }), "{error}");
}

#[test]
fn service_time_is_what_the_server_takes() {
    let pause = Duration::from_millis(4);
    let address = scripted(move |stream, _| {
        thread::sleep(pause);
        send(stream, &right_answer());
        Then::Keep
    });
    let class = load(address, Life::KeepAlive);
    let least = Duration::from_nanos(class.service.min());
    assert!(least + Duration::from_micros(100) >= pause, "{least:?}");
}

#[test]
fn right_length_and_wrong_bytes_pass_a_load_and_fail_a_check() {
    let mut spoilt = right_answer();
    *spoilt.last_mut().unwrap() = b'?';
    let address = scripted(move |stream, _| {
        send(stream, &spoilt);
        Then::Keep
    });
    let mut engine = engine(address, vec![class(address, Life::KeepAlive, 2)]);
    assert!(only(engine.run(WINDOW, None).unwrap()).errors.is_empty());
    let digest = Sha256::digest(BODY).into();
    assert_eq!(engine.verify(0, 2, &[digest]), Err(LoadError::Content));
}
