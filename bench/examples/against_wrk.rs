//! What the harness's client costs, beside wrk: both ask the same server in turns, and the CPU time of each is
//! divided by its answers. So is that of a loop that sends a request on every connection, receives on every
//! connection, and does nothing else: what the kernel takes for those two calls, no client can do without.
//! Needs wrk and a quiet machine.
//!
//!     cargo run --release -p bench --example against_wrk

use bench::analysis::stats::ratio_estimate;
use bench::load::class::{Class, Life, Pacing, ReadPace};
use bench::load::engine::Engine;
use bench::machine::placement::{Placement, pin};
use bench::report::wording;
use bench::run::corpus::Corpus;
use bench::run::scenario::Files;
use bench::run::trial::asks;
use bench::server::calls::Counting;
use bench::server::catalogue;
use bench::server::cpu_time::CpuClock;
use bench::server::gate;
use bench::server::process::{Server, Start};
use bench::server::serve::serve_if_asked;
use bench::server::target::Backend;
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use rustix::time::{ClockId, clock_gettime};
use std::error::Error;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

const ROUNDS: usize = 10;
const CONNECTIONS: usize = 64;
const WINDOW: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    if let Some(code) = serve_if_asked() {
        return code;
    }
    match compare(Backend::Epoll) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn compare(backend: Backend) -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR"))?;
    let corpus = Corpus::create(folder.path(), 11, [Files::Small])?;
    let placement = Placement::choose()?;
    pin(placement.client.first())?;
    let target = catalogue::ours(backend);
    let server = match Server::start(&target, corpus.root(), placement, Counting::Cost)? {
        Start::Running(server) => server,
        Start::Unavailable(reason) => return Err(reason.into()),
    };
    let address = server.address();
    let files = corpus.entries(Files::Small);
    let class = Class {
        name: "hot".to_owned(),
        connections: CONNECTIONS,
        pacing: Pacing::Closed,
        life: Life::KeepAlive,
        reading: ReadPace::AtOnce,
        asks: asks(files, Files::Small, address),
    };
    let mut engine = Engine::connect(address, vec![class], 1)?;
    let url = format!("http://{address}/{}", files[0].path);
    let request = format!("GET /{} HTTP/1.1\r\nHost: {address}\r\n\r\n", files[0].path);
    let mut bare = Bare::connect(address, &request)?;
    let (mut pairs, mut floors) = (Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        let outcome = engine.run(WINDOW, None)?;
        let ours = outcome.client_cpu.as_secs_f64() * 1e6 / outcome.classes[0].answers as f64;
        let wrk = wrk(&url)?;
        let floor = bare.run(WINDOW)?;
        println(&format!(
            "round {round}: client {ours:.2} µs, wrk {wrk:.2} µs, bare calls {floor:.2} µs a request"
        ));
        pairs.push((ours, wrk));
        floors.push((floor, wrk));
    }
    server.stop()?;
    for (what, pairs) in [("the client's CPU time", &pairs), ("that of a bare send and recv", &floors)] {
        let ratio = ratio_estimate(pairs).ok_or("no rounds")?;
        println(&format!("{what} is {} of wrk's", wording::ratio(&ratio)));
    }
    Ok(())
}

/// Asks and receives, and neither looks at an answer nor at the time.
struct Bare<'a> {
    connections: Vec<TcpStream>,
    request: &'a [u8],
    /// The length of an answer, head and body.
    answer_bytes: usize,
}

impl Bare<'_> {
    fn connect(address: SocketAddr, request: &str) -> Result<Bare<'_>, Box<dyn Error>> {
        let connections =
            (0..CONNECTIONS).map(|_| TcpStream::connect(address)).collect::<std::io::Result<Vec<_>>>()?;
        let answer_bytes = gate::learn(address, request.as_bytes())?.answer.len();
        Ok(Bare { connections, request: request.as_bytes(), answer_bytes })
    }

    /// CPU time per request, in microseconds.
    fn run(&mut self, window: Duration) -> Result<f64, Box<dyn Error>> {
        let before = thread_cpu()?;
        let end = Instant::now() + window;
        let (mut requests, mut buffer) = (0, [0; 4096]);
        while Instant::now() < end {
            for connection in &mut self.connections {
                connection.write_all(self.request)?;
            }
            for connection in &mut self.connections {
                connection.read_exact(&mut buffer[..self.answer_bytes])?;
                requests += 1;
            }
        }
        Ok((thread_cpu()? - before).as_secs_f64() * 1e6 / f64::from(requests))
    }
}

fn thread_cpu() -> Result<Duration, Box<dyn Error>> {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Ok(Duration::new(u64::try_from(time.tv_sec)?, u32::try_from(time.tv_nsec)?))
}

/// CPU time per request of wrk with 64 connections, in microseconds.
fn wrk(url: &str) -> Result<f64, Box<dyn Error>> {
    let mut child = Command::new("wrk")
        .args(["-t1", "-c64", "-d2s", url])
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("wrk: {error}"))?;
    let clock = CpuClock::of(Pid::from_child(&child))?;
    let mut report = String::new();
    let mut output = child.stdout.take().ok_or("no output")?;
    output.read_to_string(&mut report)?;
    // Ended, but not yet waited for, a process still has its clock.
    waitid(WaitId::Pid(Pid::from_child(&child)), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)?;
    let used = clock.now()?;
    child.wait()?;
    let requests = report
        .lines()
        .find_map(|line| line.trim().split_once(" requests in "))
        .and_then(|(count, _)| count.parse::<f64>().ok())
        .ok_or("wrk's report has no count")?;
    Ok(used.as_secs_f64() * 1e6 / requests)
}

fn println(line: &str) {
    let _unread = writeln!(std::io::stdout(), "{line}");
}
