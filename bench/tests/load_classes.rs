//! The load engine's ways to ask, against servers that follow a script: once, by weight, at times of its own, idly,
//! slowly, and at the gate.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as the tests themselves do")]

mod scripted;

use bench::load::class::{Arrivals, Asks, Class, Life, Order, Pacing, ReadPace};
use bench::load::engine::Engine;
use bench::load::error::LoadError;
use bench::load::request::{Expected, Request};
use bench::run::corpus::Corpus;
use bench::run::scenario::Files;
use bench::server::catalogue;
use bench::server::gate;
use bench::server::target::Backend;
use scripted::{
    Then, WINDOW, class, ends_with, engine, error, only, right_answer, right_server, scripted, send,
};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

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
        assert!(class.used_up && class.answers == 50 && class.errors.is_empty(), "{class:?}");
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
            engine = engine.with_busy_polling();
        }
        let class = only(engine.run(Duration::from_millis(600), None).unwrap());
        assert!(class.errors.is_empty(), "{life:?}: {:?}", class.errors);
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
        let mut engine = if wakeful { engine.with_busy_polling() } else { engine };
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
            reading: ReadPace::Slow { bytes_per_second: 256 * 1024 },
            asks: sized(address, &[20_000], Order::InTurn),
            ..class(address, Life::KeepAlive, 2)
        };
        let engine = Engine::connect(address, vec![paced, cold, slow], 1).unwrap();
        let mut engine = if wakeful { engine.with_busy_polling() } else { engine };
        let outcome = engine.run(Duration::from_millis(900), None).unwrap();
        let answers: Vec<u64> = outcome.classes.iter().map(|class| class.answers).collect();
        // Four turns would be enough for what is due, and for no more than eight of the others' answers.
        assert_eq!(answers[0], 4, "{answers:?}");
        assert!(answers[1] > 20 && answers[2] >= 2, "{answers:?}");
        assert!(outcome.classes.iter().all(|class| class.errors.is_empty()), "{outcome:?}");
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
    assert_eq!(error(&class), LoadError::Closed);
    assert!(class.error_count() >= 2, "{:?}", class.errors);
    assert_eq!(class.answers + class.error_count() + class.unanswered, 49);
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
    assert_eq!((idle.answers, idle.error_count()), (0, 0));
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
    assert_eq!(error(&class), LoadError::Closed);
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
        reading: ReadPace::Slow { bytes_per_second: 1024 * 1024 },
        asks: sized(address, &[BYTES], Order::InTurn),
        ..class(address, Life::KeepAlive, 8)
    };
    let mut engine = Engine::connect(address, vec![slow], 1).unwrap();
    // It doesn't wait for their answers.
    let begun = Instant::now();
    let outcome = engine.run(Duration::from_millis(500), None).unwrap();
    assert!(begun.elapsed() < Duration::from_millis(1_500));
    assert!(outcome.client_busy() < 0.5, "{}", outcome.client_busy());
    assert_eq!((outcome.classes[0].answers, outcome.classes[0].error_count()), (0, 0));
    // The answers under way go on.
    let class = only(engine.run(Duration::from_millis(5_500), None).unwrap());
    assert!(class.errors.is_empty(), "{:?}", class.errors);
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
    let pass = |address| gate::pass(&catalogue::ours(Backend::Epoll), address, &corpus, |_| true);
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
