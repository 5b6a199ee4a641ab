//! The load engine against servers that follow a script: what is wrong with an answer must not go unseen.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as the tests themselves do")]

use bench::load::class::{Arrivals, Asks, Class, Life, Order, Pacing, Reading};
use bench::load::engine::{Engine, REFUSALS_MAX};
use bench::load::fault::Fault;
use bench::load::outcome::{ClassOutcome, Outcome};
use bench::load::request::{Expected, Request};
use bench::load::response::HeadError;
use bench::run::corpus::Corpus;
use bench::run::scenario::Files;
use bench::server::catalogue;
use bench::server::gate;
use bench::server::target::Backend;
use sha2::{Digest, Sha256};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

const BODY: &[u8] = b"The quick brown fox jumps over the lazy dog.";
/// Long enough for many answers, except where the machine has no time for them: see [`until`].
const WINDOW: Duration = Duration::from_millis(60);

/// What a scripted server does with each request.
type Script = dyn Fn(&mut TcpStream, &str) -> Then + Send + Sync;

/// What becomes of the connection afterwards.
enum Then {
    Keep,
    Close,
}

/// Serves by the script, a thread per connection, until the test ends.
fn scripted(script: impl Fn(&mut TcpStream, &str) -> Then + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let script: Arc<Script> = Arc::new(script);
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let script = Arc::clone(&script);
            thread::spawn(move || converse(stream, &*script));
        }
    });
    address
}

fn converse(mut stream: TcpStream, script: &Script) {
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut received = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        while let Some(end) = received.windows(4).position(|window| window == b"\r\n\r\n") {
            let head: Vec<u8> = received.drain(..end + 4).collect();
            if let Then::Close = script(&mut stream, std::str::from_utf8(&head).unwrap()) {
                return;
            }
        }
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(count) => received.extend_from_slice(&buffer[..count]),
        }
    }
}

/// A client that has gone away is none of the server's business.
fn send(stream: &mut TcpStream, bytes: &[u8]) {
    let _client_gone = stream.write_all(bytes);
}

fn right_answer() -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\nServer: script\r\nContent-Length: {}\r\n\r\n", BODY.len());
    [head.as_bytes(), BODY].concat()
}

fn ends_with(head: &str, body: &[u8]) -> Vec<u8> {
    [head.as_bytes(), body].concat()
}

const EXPECTED: Expected = Expected { status: 200, body_bytes: BODY.len() as u64 };

/// A closed class that asks for the fox.
fn class(address: SocketAddr, life: Life, connections: usize) -> Class {
    Class {
        name: "fox".to_owned(),
        connections,
        pacing: Pacing::Closed,
        life,
        reading: Reading::AtOnce,
        asks: Asks::one(Request::new(address, "/fox", EXPECTED)),
    }
}

fn engine(address: SocketAddr, classes: Vec<Class>) -> Engine {
    Engine::connect(address, classes, 1).unwrap()
}

fn only(outcome: Outcome) -> ClassOutcome {
    outcome.classes.into_iter().next().unwrap()
}

/// A short load on a server that is expected to be silent, and given up soon. Elsewhere the patience is the usual one:
/// a machine that stands still for a while isn't taken for a server that does.
fn try_silence(address: SocketAddr, life: Life) -> Result<ClassOutcome, Fault> {
    const SOON: Duration = Duration::from_millis(300);
    engine(address, vec![class(address, life, 3)]).with_stall(SOON).run(WINDOW, None).map(only)
}

/// So much has been begun and ended in a load, well or not.
const ENOUGH: u64 = 12;

fn load(address: SocketAddr, life: Life) -> ClassOutcome {
    until(
        |class| class.answers + class.fault_count() >= ENOUGH,
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

/// The first fault of the only kind that there is, and that at least one answer came to grief by it.
fn fault(class: &ClassOutcome) -> Fault {
    assert_eq!(class.faults.len(), 1, "{:?}", class.faults);
    class.any_fault().unwrap().clone()
}

fn right_server() -> SocketAddr {
    scripted(|stream, request| {
        send(stream, &right_answer());
        if request.contains("\r\nConnection: close\r\n") { Then::Close } else { Then::Keep }
    })
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
    assert!(class.answers >= 3 && class.faults.is_empty() && class.response.is_none());
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
    assert!(class.answers >= ENOUGH && class.faults.is_empty(), "{:?}", class.faults);
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
        assert!(class.answers >= 20 && class.faults.is_empty());
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
        assert!(class.answers > 0 && class.faults.is_empty(), "{piece_bytes} bytes a piece");
        assert_eq!(engine.verify(0, 2, &[digest]), Ok(()), "{piece_bytes} bytes a piece");
    }
}

#[test]
fn what_is_wrong_is_named() {
    let want = BODY.len() as u64;
    let table: [(&str, Vec<u8>, Fault); 6] = [
        (
            "another status",
            ends_with("HTTP/1.1 404 Not Found\r\nContent-Length: 44\r\n\r\n", BODY),
            Fault::Status { got: 404, want: 200 },
        ),
        (
            "another length",
            ends_with("HTTP/1.1 200 OK\r\nContent-Length: 43\r\n\r\n", &BODY[1..]),
            Fault::Length { got: 43, want },
        ),
        ("no HTTP", b"hello, who is there?\r\n\r\n".to_vec(), Fault::Head(HeadError::NotHttp)),
        ("no length", ends_with("HTTP/1.1 200 OK\r\n\r\n", BODY), Fault::Head(HeadError::NoLength)),
        (
            "a transfer coding",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_vec(),
            Fault::Head(HeadError::TransferCoding),
        ),
        ("too many bytes", [right_answer(), b"!".to_vec()].concat(), Fault::Surplus),
    ];
    for (name, answer, fault) in table {
        for class in [kept(answer.clone()), closed_after(answer)] {
            assert_eq!((class.answers, class.any_fault()), (0, Some(&fault)), "{name}");
            let faults = class.faults[fault.kind()].count;
            // More than the three connections at first: the load goes on.
            assert!(faults > 3, "{name}: {faults}");
            assert_eq!(class.service.len(), class.fault_count(), "{name}: failures stay in the record");
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
    assert_eq!(fault(&class), Fault::Surplus);
    // The answer itself was right, and is recorded once.
    assert_eq!((class.answers, class.service.len()), (class.fault_count(), class.answers));
    // On a kept connection it is the beginning of an answer that isn't one, or of no answer at all.
    let address = scripted(|stream, _| {
        send(stream, &right_answer());
        thread::sleep(Duration::from_millis(5));
        send(stream, b"!");
        Then::Keep
    });
    let class = load(address, Life::KeepAlive);
    let fault = class.any_fault().unwrap();
    assert!(matches!(fault, Fault::Head(HeadError::NotHttp) | Fault::Surplus), "{fault}");
}

#[test]
fn a_body_that_ends_early_is_short() {
    for missing in [1, BODY.len()] {
        let answer = right_answer();
        let sent = answer[..answer.len() - missing].to_vec();
        let class = closed_after(sent);
        let want = BODY.len() as u64;
        assert_eq!(fault(&class), Fault::Short { got: want - missing as u64, want });
    }
}

#[test]
fn an_end_before_the_answer_is_seen() {
    let address = scripted(|_, _| Then::Close);
    for life in [Life::KeepAlive, Life::Requests(1)] {
        let class = load(address, life);
        assert_eq!((class.answers, fault(&class)), (0, Fault::Closed));
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
    assert!(class.answers >= 3 && class.fault_count() >= 3, "{class:?}");
    assert!(class.faults.keys().all(|kind| ["closed", "reset"].contains(kind)), "{:?}", class.faults);
}

#[test]
fn a_connection_whose_end_is_announced_is_opened_again() {
    let address = scripted(|stream, _| {
        let head = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 44\r\n\r\n";
        send(stream, &ends_with(head, BODY));
        Then::Close
    });
    let class = load(address, Life::KeepAlive);
    assert!(class.answers > 3 && class.faults.is_empty(), "{:?}", class.faults);
    assert_eq!(class.reopened, class.answers);
}

#[test]
fn a_silent_server_is_given_up() {
    let address = scripted(|_, _| Then::Keep);
    let begun = Instant::now();
    let fault = try_silence(address, Life::KeepAlive).unwrap_err();
    assert!(matches!(fault, Fault::Stalled { owed: 3, .. }), "{fault}");
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_connection_that_should_end_and_does_not_is_given_up() {
    let address = scripted(|stream, _| {
        send(stream, &right_answer());
        Then::Keep
    });
    let fault = try_silence(address, Life::Requests(1)).unwrap_err();
    assert!(matches!(fault, Fault::Stalled { owed: 3, .. }), "{fault}");
}

/// One connection that gets nothing is a fault of its own, while the others go on.
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
    assert_eq!(fault(&class), Fault::Timeout { waited: stall });
    assert_eq!(class.fault_count(), 1);
    assert!(class.answers > 20, "{}", class.answers);
    assert!(class.service.max() >= 1_000_000_000, "{}", class.service.max());
}

#[test]
fn nobody_listens() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let Err(fault) = Engine::connect(address, vec![class(address, Life::KeepAlive, 1)], 1) else {
        panic!("it connected");
    };
    assert_eq!(fault.kind(), "refused");
    // Without a connection of long life nobody is refused before the load.
    let mut engine = engine(address, vec![class(address, Life::Requests(1), 64)]);
    let begun = Instant::now();
    let fault = engine.run(Duration::from_secs(20), None).unwrap_err();
    assert!(matches!(fault, Fault::Refused { attempts, .. } if attempts > REFUSALS_MAX), "{fault}");
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[test]
fn more_connections_than_descriptors() {
    let address = right_server();
    let Err(fault) = Engine::connect(address, vec![class(address, Life::KeepAlive, usize::MAX / 2)], 1)
    else {
        panic!("it connected");
    };
    assert!(matches!(fault, Fault::Descriptors { .. }), "{fault}");
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
    assert!(only(engine.run(WINDOW, None).unwrap()).faults.is_empty());
    let digest = Sha256::digest(BODY).into();
    assert_eq!(engine.verify(0, 2, &[digest]), Err(Fault::Content));
}

/// Bodies of so many bytes as the path says.
fn sized_server(asked: Arc<Mutex<Vec<usize>>>) -> SocketAddr {
    scripted(move |stream, request| {
        let path = request.split(' ').nth(1).unwrap().trim_start_matches('/');
        let bytes = path.parse().unwrap();
        asked.lock().unwrap().push(bytes);
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\n\r\n");
        send(stream, &ends_with(&head, &vec![b'x'; bytes]));
        if request.contains("\r\nConnection: close\r\n") { Then::Close } else { Then::Keep }
    })
}

fn sized(address: SocketAddr, sizes: &[usize], order: Order) -> Asks {
    let request = |bytes: &usize| {
        let expected = Expected { status: 200, body_bytes: *bytes as u64 };
        Request::new(address, &format!("/{bytes}"), expected)
    };
    Asks::new(sizes.iter().map(request).collect::<Vec<_>>(), order)
}

#[test]
fn what_may_be_asked_for_once_is_asked_for_once() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let address = sized_server(Arc::clone(&asked));
    let sizes: Vec<usize> = (1..=50).collect();
    for pacing in
        [Pacing::Closed, Pacing::Open { per_second: 2_000.0, arrivals: Arrivals::Poisson, steps: Vec::new() }]
    {
        asked.lock().unwrap().clear();
        let asks = sized(address, &sizes, Order::Once);
        let once = Class { pacing, asks, ..class(address, Life::KeepAlive, 3) };
        let mut engine = engine(address, vec![once]);
        let begun = Instant::now();
        let outcome = engine.run(Duration::from_secs(20), None).unwrap();
        assert!(begun.elapsed() < Duration::from_secs(5) && outcome.elapsed < Duration::from_secs(5));
        let class = only(outcome);
        assert!(class.used_up && class.answers == 50 && class.faults.is_empty(), "{class:?}");
        assert_eq!((class.offered, class.unanswered), (50, 0));
        let again = only(engine.run(Duration::from_secs(20), None).unwrap());
        assert!(again.used_up && (again.answers, again.offered) == (0, 0));
        let mut asked = asked.lock().unwrap().clone();
        asked.sort_unstable();
        assert_eq!(asked, sizes);
    }
}

/// What was asked for, in order, by an open loop on one connection.
fn asked_for(seed: u64) -> Vec<usize> {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let address = sized_server(Arc::clone(&asked));
    let weighted = Class {
        pacing: Pacing::Open { per_second: 1_000.0, arrivals: Arrivals::Poisson, steps: Vec::new() },
        asks: sized(address, &[1, 2, 3], Order::Weighted(vec![5.0, 1.0, 1.0])),
        ..class(address, Life::KeepAlive, 1)
    };
    let mut engine = Engine::connect(address, vec![weighted], seed).unwrap();
    let class = only(engine.run(Duration::from_millis(300), None).unwrap());
    let asked = asked.lock().unwrap().clone();
    assert_eq!(class.answers, asked.len() as u64);
    assert_eq!(class.answers + class.unanswered, class.offered);
    asked
}

#[test]
fn a_seed_decides_what_is_asked_for() {
    let (first, second, other) = (asked_for(3), asked_for(3), asked_for(4));
    // How many are answered within the window is the server's business.
    let common = first.len().min(second.len()).min(other.len());
    assert!(common > 20, "{common}");
    assert_eq!(first[..common], second[..common]);
    assert_ne!(first[..common], other[..common]);
    assert!(first.iter().filter(|size| **size == 1).count() > first.len() / 2);
}

#[test]
fn an_open_loop_keeps_its_rate_and_opens_what_it_needs() {
    let lives = [Life::KeepAlive, Life::Requests(1), Life::Requests(5)];
    for (life, wakeful) in lives.into_iter().flat_map(|life| [(life, false), (life, true)]) {
        let address = right_server();
        let pacing = Pacing::Open { per_second: 500.0, arrivals: Arrivals::Constant, steps: Vec::new() };
        let mut engine = engine(address, vec![Class { pacing, ..class(address, life, 16) }]);
        if wakeful {
            engine = engine.with_wakefulness();
        }
        let class = only(engine.run(Duration::from_millis(600), None).unwrap());
        assert!(class.faults.is_empty(), "{life:?}: {:?}", class.faults);
        assert_eq!(class.offered, 299, "{life:?}");
        assert_eq!(class.answers + class.unanswered, 299, "{life:?}");
        let (response, lag) = (class.response.unwrap(), class.lag.unwrap());
        assert_eq!((response.len(), lag.len()), (299, class.answers), "{life:?}");
        assert!(response.max() >= class.service.max(), "{life:?}");
    }
}

/// Ratios of CPU times, so that a machine that has little time for the client doesn't matter.
#[test]
fn waiting_awake_is_not_work_and_work_is() {
    let run = |per_second, wakeful| {
        let address = right_server();
        let pacing = Pacing::Open { per_second, arrivals: Arrivals::Poisson, steps: Vec::new() };
        let engine = engine(address, vec![Class { pacing, ..class(address, Life::KeepAlive, 4) }]);
        let mut engine = if wakeful { engine.with_wakefulness() } else { engine };
        engine.run(Duration::from_millis(250), None).unwrap()
    };
    let asleep = run(40.0, false);
    assert_eq!(asleep.client_spun, Duration::ZERO);
    let awake = run(40.0, true);
    assert_eq!(awake.classes[0].offered, asleep.classes[0].offered, "the same schedule");
    assert!(awake.client_spun > awake.client_cpu / 2, "{awake:?}");
    assert!(awake.client_busy() < 0.5, "{}", awake.client_busy());
    // More than any client can ask for: it never waits.
    let saturated = run(5e6, true);
    assert!(saturated.client_spun < saturated.client_cpu / 4, "{saturated:?}");
}

/// While the open class's next request is far away: what others wait for is served when it is there.
#[test]
fn other_classes_are_served_while_an_open_one_waits() {
    for wakeful in [false, true] {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let address = sized_server(asked);
        let paced = Class {
            pacing: Pacing::Open { per_second: 5.0, arrivals: Arrivals::Constant, steps: Vec::new() },
            asks: sized(address, &[5], Order::InTurn),
            ..class(address, Life::KeepAlive, 2)
        };
        let cold = Class { asks: sized(address, &[9], Order::InTurn), ..class(address, Life::KeepAlive, 2) };
        let slow = Class {
            reading: Reading::Slow { bytes_per_second: 256 * 1024 },
            asks: sized(address, &[20_000], Order::InTurn),
            ..class(address, Life::KeepAlive, 2)
        };
        let engine = Engine::connect(address, vec![paced, cold, slow], 1).unwrap();
        let mut engine = if wakeful { engine.with_wakefulness() } else { engine };
        let outcome = engine.run(Duration::from_millis(900), None).unwrap();
        let answers: Vec<u64> = outcome.classes.iter().map(|class| class.answers).collect();
        // Four turns would be enough for what is due, and for no more than eight of the others' answers.
        assert_eq!(answers[0], 4, "{answers:?}");
        assert!(answers[1] > 20 && answers[2] >= 2, "{answers:?}");
        assert!(outcome.classes.iter().all(|class| class.faults.is_empty()), "{outcome:?}");
    }
}

/// A server that answers one request, however many connections there are: the open loop's requests line up.
#[test]
fn failures_and_waiting_stay_in_the_record() {
    let answered = AtomicU64::new(0);
    let address = scripted(move |stream, _| {
        if answered.fetch_add(1, Ordering::Relaxed) == 0 {
            send(stream, &right_answer());
            return Then::Keep;
        }
        thread::sleep(Duration::from_millis(150));
        Then::Close
    });
    let pacing = Pacing::Open { per_second: 100.0, arrivals: Arrivals::Constant, steps: Vec::new() };
    let mut engine = engine(address, vec![Class { pacing, ..class(address, Life::KeepAlive, 2) }]);
    let class = only(engine.run(Duration::from_millis(500), None).unwrap());
    assert_eq!((class.offered, class.answers), (49, 1));
    assert_eq!(fault(&class), Fault::Closed);
    assert!(class.fault_count() >= 2, "{:?}", class.faults);
    assert_eq!(class.answers + class.fault_count() + class.unanswered, 49);
    let response = class.response.unwrap();
    assert_eq!(response.len(), 49);
    assert!(response.value_at_quantile(0.5) > 100_000_000, "{}", response.value_at_quantile(0.5));
}

#[test]
fn idle_connections_ask_once_and_are_kept() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let address = sized_server(Arc::clone(&asked));
    let idle = Class {
        name: "idle".to_owned(),
        pacing: Pacing::Idle,
        asks: sized(address, &[7], Order::InTurn),
        ..class(address, Life::KeepAlive, 150)
    };
    let hot = Class { asks: sized(address, &[5], Order::InTurn), ..class(address, Life::KeepAlive, 1) };
    let mut engine = engine(address, vec![idle, hot]);
    assert_eq!(*asked.lock().unwrap(), [7; 150]);
    let outcome = engine.run(WINDOW, None).unwrap();
    let [idle, hot] = &outcome.classes[..] else { panic!("two classes") };
    assert_eq!((idle.answers, idle.fault_count()), (0, 0));
    assert!(hot.answers > 0);
    assert_eq!(asked.lock().unwrap().iter().filter(|bytes| **bytes == 7).count(), 150);
}

#[test]
fn an_idle_connection_that_ends_is_a_fault() {
    let address = scripted(|stream, _| {
        send(stream, &right_answer());
        // After the check that it was accepted.
        thread::sleep(Duration::from_millis(100));
        Then::Close
    });
    let idle = Class { pacing: Pacing::Idle, ..class(address, Life::KeepAlive, 1) };
    let mut engine = engine(address, vec![idle]);
    let class = only(engine.run(Duration::from_millis(350), None).unwrap());
    assert_eq!(fault(&class), Fault::Closed);
    assert!(class.answers >= 1, "it is opened again");
}

/// The kernel takes what fits into the two buffers; the rest can't have left the server sooner than its
/// reader read.
#[test]
fn slow_readers_read_slowly_and_cost_little() {
    const BYTES: usize = 3 * 1024 * 1024;
    let asked = Arc::new(Mutex::new(Vec::new()));
    let address = sized_server(Arc::clone(&asked));
    let slow = Class {
        name: "slow".to_owned(),
        reading: Reading::Slow { bytes_per_second: 1024 * 1024 },
        asks: sized(address, &[BYTES], Order::InTurn),
        ..class(address, Life::KeepAlive, 8)
    };
    let mut engine = Engine::connect(address, vec![slow], 1).unwrap();
    // It doesn't wait for their answers.
    let begun = Instant::now();
    let outcome = engine.run(Duration::from_millis(500), None).unwrap();
    assert!(begun.elapsed() < Duration::from_millis(1_500));
    assert!(outcome.client_busy() < 0.5, "{}", outcome.client_busy());
    assert_eq!((outcome.classes[0].answers, outcome.classes[0].fault_count()), (0, 0));
    // The answers under way go on.
    let class = only(engine.run(Duration::from_millis(5_500), None).unwrap());
    assert!(class.faults.is_empty(), "{:?}", class.faults);
    assert!((8..=16).contains(&class.answers), "{}", class.answers);
    let quickest = Duration::from_nanos(class.service.min());
    assert!(quickest > Duration::from_millis(2_500), "{quickest:?}");
}

/// A server over the corpus that spoils what `spoil` tells it to.
fn corpus_server(corpus: &Corpus, spoil: fn(&str, &mut Vec<u8>)) -> SocketAddr {
    let root = corpus.root().to_owned();
    scripted(move |stream, request| {
        let path = request.split(' ').nth(1).unwrap().trim_start_matches('/');
        let (status, mut body) = match std::fs::read(root.join(path)) {
            Ok(body) => ("200 OK", body),
            Err(_) => ("404 Not Found", Vec::new()),
        };
        spoil(path, &mut body);
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len());
        send(stream, &ends_with(&head, &body));
        if request.contains("Connection: close") { Then::Close } else { Then::Keep }
    })
}

#[test]
fn the_gate_lets_equal_work_through_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let corpus = Corpus::create(folder.path(), 3, [Files::Medium, Files::Large]).unwrap();
    let pass = |address| gate::pass(&catalogue::ours(Backend::Epoll), address, &corpus);
    assert_eq!(pass(corpus_server(&corpus, |_, _| {})), Ok(()));
    let one_byte = |path: &str, body: &mut Vec<u8>| {
        if path == "10MiB.bin" {
            body[7_654_321] ^= 1;
        }
    };
    let failure = pass(corpus_server(&corpus, one_byte)).unwrap_err().to_string();
    assert_eq!(failure, "gate, 10MiB.bin: the body's SHA-256 isn't the file's");
    let cut = |path: &str, body: &mut Vec<u8>| {
        if path == "100KiB.bin" {
            body.pop();
        }
    };
    let failure = pass(corpus_server(&corpus, cut)).unwrap_err().to_string();
    assert!(failure.starts_with("gate, 100KiB.bin: the answer's Content-Length is 102399"), "{failure}");
}
