//! What the harness's client costs, beside wrk: both ask the same server in turns, and the CPU time of each is
//! divided by its answers. Needs wrk and a quiet machine.
//!
//!     cargo run --release -p bench --example against_wrk

use bench::analysis::stats::ratio_estimate;
use bench::load::class::{Class, Life, Pacing, Reading};
use bench::load::engine::Engine;
use bench::machine::placement::{Placement, pin};
use bench::report::wording;
use bench::run::corpus::Corpus;
use bench::run::scenario::Files;
use bench::run::trial::asks;
use bench::server::calls::Counting;
use bench::server::catalogue;
use bench::server::cpu_time::CpuClock;
use bench::server::process::{Server, Start};
use bench::server::serve::serve_if_asked;
use bench::server::target::Backend;
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use std::error::Error;
use std::io::{Read, Write};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

const ROUNDS: usize = 10;

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
    pin(placement.client)?;
    let target = catalogue::ours(backend);
    let server = match Server::start(&target, corpus.root(), placement, Counting::Cost)? {
        Start::Running(server) => server,
        Start::Unavailable(reason) => return Err(reason.into()),
    };
    let address = server.address();
    let files = corpus.entries(Files::Small);
    let class = Class {
        name: "hot".to_owned(),
        connections: 64,
        pacing: Pacing::Closed,
        life: Life::KeepAlive,
        reading: Reading::AtOnce,
        asks: asks(files, Files::Small, address),
    };
    let mut engine = Engine::connect(address, vec![class], 1)?;
    let mut pairs = Vec::new();
    for round in 1..=ROUNDS {
        let outcome = engine.run(Duration::from_secs(2), None)?;
        let ours = outcome.client_cpu.as_secs_f64() * 1e6 / outcome.classes[0].answers as f64;
        let wrk = wrk(&format!("http://{address}/{}", files[0].path))?;
        println(&format!("round {round}: client {ours:.2} µs, wrk {wrk:.2} µs a request"));
        pairs.push((ours, wrk));
    }
    server.stop()?;
    let ratio = ratio_estimate(&pairs).ok_or("no rounds")?;
    println(&format!("the client's CPU time is {} of wrk's", wording::ratio(&ratio)));
    Ok(())
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
