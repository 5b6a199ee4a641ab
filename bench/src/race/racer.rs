//! A server, and those who load it: some who ask for one small file at a steady rate, whose times are shown; some who
//! read cold files while the disk is slow; some who read a large file slowly.

use crate::failure::{Failure, Result};
use crate::load::class::{Arrivals, Asks, Class, Life, Order, Pacing, ReadPace};
use crate::load::engine::Engine;
use crate::load::outcome;
use crate::load::request::Request;
use crate::machine::slow_disk::SlowDisk;
use crate::race::board::{Board, Row, Switch};
use crate::run::corpus::{Corpus, CorpusFile};
use crate::run::options::SEED;
use crate::run::scenario::Files;
use crate::run::trial::request_for;
use crate::server::calls::Counting;
use crate::server::process::{self, Server};
use crate::server::seat::Seat;
use crate::server::target::Target;
use hdrhistogram::Histogram;
use rustix::fs::{Advice, fadvise};
use std::collections::VecDeque;
use std::fs::File;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

/// Connections that ask for the small file.
const CONNECTIONS: usize = 16;
/// Connections that read cold files, and slow readers.
const COLD_CONNECTIONS: usize = 4;
const SLOW_CONNECTIONS: usize = 32;
const SLOW_BYTES_PER_SECOND: u64 = 256 * 1024;
/// A load looks so often whether it is still wanted.
const TURN: Duration = Duration::from_millis(250);
/// The 99th percentile is of so many ticks.
const TICKS: usize = 4;

/// What all racers have in common.
pub(super) struct Start<'a> {
    pub(super) corpus: &'a Corpus,
    pub(super) seat: Seat,
    pub(super) rate: f64,
    /// How many race.
    pub(super) of: usize,
}

/// A server under load.
pub(super) struct Racer {
    server: Server,
    _throttle: SlowDisk,
    without_throttle: Option<String>,
    load: Arc<Load>,
    sampled: Instant,
    cpu: Duration,
    /// Response times of the last ticks.
    recent: VecDeque<Histogram<u64>>,
}

/// What was answered since it was last asked for.
struct Tally {
    /// At the steady rate.
    answers: u64,
    /// Those, and cold files.
    requests: u64,
    errors: u64,
    response: Histogram<u64>,
}

impl Default for Tally {
    fn default() -> Tally {
        Tally { answers: 0, requests: 0, errors: 0, response: outcome::histogram() }
    }
}

impl Racer {
    /// Starts the server.
    pub(super) fn start(target: &Target, number: usize, start: &Start<'_>) -> Result<Racer> {
        let begun = Server::start(target, start.corpus.root(), start.seat, Counting::Cost)?;
        let server = match begun {
            process::Start::Running(server) => server,
            process::Start::Unavailable(reason) => return Err(Failure::new(format!("{target}: {reason}"))),
        };
        let (throttle, record) = SlowDisk::prepare_one_of(start.corpus.root(), &format!("-{number}"));
        throttle.admit(&server.processes())?;
        let cpu = server.cost()?.cpu;
        let load = Load {
            address: server.address(),
            corpus: start.corpus.clone(),
            number,
            of: start.of,
            rate: start.rate,
            tally: Mutex::default(),
        };
        Ok(Racer {
            server,
            _throttle: throttle,
            without_throttle: record.reads_per_second.is_none().then_some(record.means),
            load: Arc::new(load),
            sampled: Instant::now(),
            cpu,
            recent: VecDeque::new(),
        })
    }

    /// Why its disk can't be slowed down, if so.
    pub(super) fn without_throttle(&self) -> Option<&str> {
        self.without_throttle.as_deref()
    }

    /// Its load, for other threads.
    pub(super) fn load(&self) -> Arc<Load> {
        Arc::clone(&self.load)
    }

    /// What has happened since the last sample.
    pub(super) fn sample(&mut self) -> Result<Row> {
        if let Some(end) = self.server.ended() {
            return Err(Failure::new(end));
        }
        let tally = std::mem::take(&mut *self.load.tally());
        let (now, cpu) = (Instant::now(), self.server.cost()?.cpu);
        let (elapsed, used) = (now - self.sampled, cpu.saturating_sub(self.cpu));
        (self.sampled, self.cpu) = (now, cpu);
        self.recent.push_back(tally.response);
        if self.recent.len() > TICKS {
            self.recent.pop_front();
        }
        let mut times = outcome::histogram();
        for recent in &self.recent {
            times.add(recent).map_err(Failure::context("add up response times"))?;
        }
        let p99 = (!times.is_empty()).then(|| times.value_at_quantile(0.99) as f64 / 1e3);
        let cost = (tally.requests > 0).then(|| used.as_secs_f64() * 1e6 / tally.requests as f64);
        let round = |value: f64| (value * 10.0).round() / 10.0;
        let rate = round(tally.answers as f64 / elapsed.as_secs_f64());
        Ok(Row(rate, cost.map(round), p99.map(round), tally.errors))
    }

    /// Ends the server.
    pub(super) fn stop(self) -> Result<()> {
        self.server.stop()
    }
}

/// Those who ask a server.
pub(super) struct Load {
    address: SocketAddr,
    corpus: Corpus,
    /// Which of the racers it is, and how many there are: each has cold files of its own, since all serve one folder.
    number: usize,
    of: usize,
    rate: f64,
    tally: Mutex<Tally>,
}

impl Load {
    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for the small file at a steady rate, until the race is over.
    pub(super) fn steadily(&self, board: &Board) {
        let asks = self.asks(self.corpus.entries(Files::Small), Order::InTurn);
        let pacing = Pacing::Open { per_second: self.rate, arrivals: Arrivals::Poisson, steps: Vec::new() };
        let class = Class { pacing, ..Class::closed("steady", CONNECTIONS, asks) };
        while !board.is_over() {
            self.run(&class, || !board.is_over());
        }
    }

    /// Asks for cold files, one after the other, while the disk is slow.
    pub(super) fn coldly(&self, board: &Board) {
        let cold = self.corpus.entries(Files::Cold);
        let own: Vec<CorpusFile> = cold.iter().skip(self.number).step_by(self.of).cloned().collect();
        let class = Class::closed("cold", COLD_CONNECTIONS, self.asks(&own, Order::Once));
        while !board.is_over() {
            if !board.is_on(Switch::Disk) {
                thread::sleep(TURN / 5);
            } else {
                self.evict(&own);
                self.run(&class, || board.is_on(Switch::Disk) && !board.is_over());
            }
        }
    }

    /// Reads a large file slowly while readers are slow.
    pub(super) fn slowly(&self, board: &Board) {
        let asks = self.asks(self.corpus.entries(Files::Large), Order::InTurn);
        let reading = ReadPace::Slow { bytes_per_second: SLOW_BYTES_PER_SECOND };
        let class = Class { reading, life: Life::KeepAlive, ..Class::closed("slow", SLOW_CONNECTIONS, asks) };
        while !board.is_over() {
            if board.is_on(Switch::Readers) {
                self.run(&class, || board.is_on(Switch::Readers) && !board.is_over());
            } else {
                thread::sleep(TURN / 5);
            }
        }
    }

    /// Takes its own cold files out of the page cache, and out of a server's own: a file whose times have changed is another
    /// one to it. Those that stay somewhere are fast, and nothing else comes of it.
    fn evict(&self, files: &[CorpusFile]) {
        for file in files {
            if let Ok(opened) = File::open(self.corpus.root().join(&file.path)) {
                let _still_known = opened.set_modified(SystemTime::now());
                let _only_advice = fadvise(&opened, 0, None, Advice::DontNeed);
            }
        }
    }

    fn asks(&self, files: &[CorpusFile], order: Order) -> Asks {
        let requests: Vec<Request> = files.iter().map(|file| request_for(file, self.address)).collect();
        Asks::new(requests, order)
    }

    /// Runs a class as long as it is wanted, until it has asked for all that there is or goes wrong.
    fn run(&self, class: &Class, is_wanted: impl Fn() -> bool) {
        let engine = Engine::connect(self.address, vec![class.clone()], SEED + self.number as u64);
        let Ok(mut engine) = engine else { return self.note_failure() };
        while is_wanted() {
            let Ok(outcome) = engine.run(TURN, None) else { return self.note_failure() };
            let Some(shown) = outcome.classes.first() else { return };
            let mut tally = self.tally();
            tally.errors += shown.error_count();
            if let Some(response) = &shown.response {
                tally.answers += shown.answers;
                // The bounds are the same.
                let _added = tally.response.add(response);
            }
            if class.reading == ReadPace::AtOnce {
                tally.requests += shown.answers;
            }
            drop(tally);
            if shown.used_up {
                return;
            }
        }
    }

    fn note_failure(&self) {
        self.tally().errors += 1;
        thread::sleep(TURN);
    }
}
