//! What a second worker costs: each of the three servers with one worker and with two, in turns, the client on the same
//! CPUs; the server's CPU time divided by its answers. Once with as many requests as the client gets answered, once
//! with as many for both, by a Poisson process. Wants two CPUs and a quiet machine.
//!
//!     cargo run --release -p bench --example scaling

use bench::analysis::stats::ratio_estimate;
use bench::load::class::{Arrivals, Class, Life, Pacing, ReadPace};
use bench::load::engine::Engine;
use bench::report::wording;
use bench::run::corpus::Corpus;
use bench::run::scenario::Files;
use bench::run::trial::asks;
use bench::server::cpu_time::CpuClock;
use bench::server::target::Backend;
use common::{Config, Listeners, Service, Site, SiteOptions};
use rustix::process::Pid;
use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

const ROUNDS: usize = 9;
const CONNECTIONS: usize = 64;
const PER_SECOND: f64 = 30_000.0;
const WARM_UP: Duration = Duration::from_millis(200);
const WINDOW: Duration = Duration::from_secs(1);

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments[..] {
        [] => compare(),
        ["serve", backend, workers, root] => serve(backend, workers, Path::new(root)),
        _ => Err("this example takes no arguments".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Serves until its input ends.
fn serve(backend: &str, workers: &str, root: &Path) -> Outcome<()> {
    let config = Config { workers: workers.parse()?, grace: Duration::ZERO, ..Config::default() };
    let site = Site::open_root(root, SiteOptions::default())?;
    let listeners = Listeners::bind(&["127.0.0.1:0".parse()?], &config)?;
    let address = listeners.endpoints()[0].address().ok_or("a TCP address")?;
    let service = Arc::new(Service::new(site, config)?);
    let draining = Arc::clone(&service);
    thread::spawn(move || {
        let _end_or_error = std::io::stdin().read_to_end(&mut Vec::new());
        draining.shutdown.drain();
    });
    let ready = || println(&address.to_string());
    match Backend::from_name(backend).ok_or("no such server")? {
        Backend::Blocking => blocking::serve(listeners, &service, ready)?,
        Backend::Epoll => epoll::serve(listeners, &service, ready)?,
        Backend::Uring => uring::serve(listeners, &service, ready)?,
    }
    Ok(())
}

fn compare() -> Outcome<()> {
    let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR"))?;
    let corpus = Corpus::create(folder.path(), 11, [Files::Small])?;
    let loads = [
        ("as fast as it goes", Pacing::Closed),
        (
            "at 30,000 a second",
            Pacing::Open { per_second: PER_SECOND, arrivals: Arrivals::Poisson, steps: Vec::new() },
        ),
    ];
    for backend in Backend::ALL {
        if backend == Backend::Uring
            && let Err(reason) = uring::available()
        {
            println(&format!("{backend}: {reason}"));
            continue;
        }
        for (name, pacing) in &loads {
            let mut pairs = Vec::new();
            for round in 0..ROUNDS {
                let one = |workers| cost(backend, workers, &corpus, pacing.clone());
                // Neither always goes first.
                let (two, one) = if round % 2 == 0 {
                    let two = one(2)?;
                    (two, one(1)?)
                } else {
                    let first = one(1)?;
                    (one(2)?, first)
                };
                pairs.push((two, one));
            }
            let median = |mut costs: Vec<f64>| {
                costs.sort_by(f64::total_cmp);
                costs[costs.len() / 2]
            };
            let two = median(pairs.iter().map(|pair| pair.0).collect());
            let one = median(pairs.iter().map(|pair| pair.1).collect());
            let ratio = ratio_estimate(&pairs).ok_or("no rounds")?;
            println(&format!(
                "{backend}, {name}: one worker {one:.2} µs a request, two {two:.2} µs, {}",
                wording::ratio(&ratio)
            ));
        }
    }
    Ok(())
}

/// CPU time of a fresh server per request, in microseconds.
fn cost(backend: Backend, workers: usize, corpus: &Corpus, pacing: Pacing) -> Outcome<f64> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["serve", backend.name(), &workers.to_string()])
        .arg(corpus.root())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let cost = measured(&mut child, corpus, pacing);
    drop(child.stdin.take());
    child.wait()?;
    cost
}

fn measured(child: &mut Child, corpus: &Corpus, pacing: Pacing) -> Outcome<f64> {
    let mut line = String::new();
    BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut line)?;
    let address: SocketAddr = line.trim().parse()?;
    let class = Class {
        name: "hot".to_owned(),
        connections: CONNECTIONS,
        pacing,
        life: Life::KeepAlive,
        reading: ReadPace::AtOnce,
        asks: asks(corpus.entries(Files::Small), Files::Small, address),
    };
    let mut engine = Engine::connect(address, vec![class], 1)?;
    engine.run(WARM_UP, None)?;
    let clock = CpuClock::of(Pid::from_child(child))?;
    let before = clock.now()?;
    let outcome = engine.run(WINDOW, None)?;
    Ok((clock.now()? - before).as_secs_f64() * 1e6 / outcome.classes[0].answers as f64)
}

fn println(line: &str) {
    let _unread = writeln!(std::io::stdout(), "{line}");
}
