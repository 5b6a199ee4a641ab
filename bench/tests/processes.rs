//! The servers under test as real processes. This executable is server and test at once, as the harness is.

use bench::machine::placement::Placement;
use bench::run::cell::Cell;
use bench::run::corpus::Corpus;
use bench::run::plan::{Effort, Plan};
use bench::run::trial::{self, Place};
use bench::server::gate;
use bench::server::serve::serve_if_asked;
use bench::server::target::{Backend, Server, Start};
use libtest_mimic::{Arguments, Failed, Trial};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Starts a server, tells its process number, and waits to be killed.
const ORPHAN: &str = "orphan";

fn main() -> ExitCode {
    if let Some(code) = serve_if_asked() {
        return code;
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [first, backend, root] = &arguments[..]
        && first == ORPHAN
    {
        return orphan(backend, Path::new(root));
    }
    let folder = match tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")) {
        Ok(folder) => folder,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    let corpus = match Corpus::create(folder.path(), 11) {
        Ok(corpus) => Arc::new(corpus),
        Err(failure) => {
            eprintln!("error: {failure}");
            return ExitCode::FAILURE;
        }
    };
    let mut arguments = Arguments::from_args();
    // They share two CPUs.
    arguments.test_threads = Some(1);
    let conclusion = libtest_mimic::run(&arguments, tests(&corpus));
    drop(folder);
    conclusion.exit_code()
}

fn tests(corpus: &Arc<Corpus>) -> Vec<Trial> {
    let mut tests = Vec::new();
    for backend in Backend::ALL {
        let missing = backend == Backend::Uring && uring::available().is_err();
        let mut add = |name: &str, test: fn(Backend, &Corpus) -> Result<(), Failed>| {
            let corpus = Arc::clone(corpus);
            let run = move || test(backend, &corpus);
            tests.push(Trial::test(format!("{backend}::{name}"), run).with_ignored_flag(missing));
        };
        add("passes_the_gate_on_its_cpu_and_ends", passes_the_gate_on_its_cpu_and_ends);
        add("every_cell_has_a_trial", every_cell_has_a_trial);
        add("dies_with_the_harness", dies_with_the_harness);
        add("a_root_that_is_missing_is_one_line", a_root_that_is_missing_is_one_line);
    }
    tests
}

fn start(backend: Backend, root: &Path) -> Result<Server, Failed> {
    match Server::start(backend, root, Placement::choose()?)? {
        Start::Running(server) => Ok(server),
        Start::Unavailable(reason) => Err(reason.into()),
    }
}

fn passes_the_gate_on_its_cpu_and_ends(backend: Backend, corpus: &Corpus) -> Result<(), Failed> {
    let placement = Placement::choose()?;
    let server = start(backend, corpus.root())?;
    gate::pass(server.address(), corpus)?;
    let threads = server.threads()?;
    assert!(threads.iter().all(|thread| thread.is_pinned_to(placement.server)), "{threads:?}");
    assert!(server.clock().settled()? > Duration::ZERO);
    let begun = Instant::now();
    server.stop()?;
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    Ok(())
}

fn every_cell_has_a_trial(backend: Backend, corpus: &Corpus) -> Result<(), Failed> {
    let plan = Plan::new(Effort::Test, |_| None)?;
    let placement = Placement::choose()?;
    for (number, cell) in Cell::all().into_iter().enumerate() {
        let place = Place { number, round: 0, position: 0 };
        let trial = trial::run(backend, cell, place, &plan, corpus, placement)?;
        assert!(trial.answers >= cell.connections as u64, "{cell}: {}", trial.answers);
        assert!(trial.server_cpu_ns > 0 && trial.requests_per_second > 0.0, "{cell}");
        assert!(trial.misplaced.is_empty(), "{cell}: {:?}", trial.misplaced);
        let head_bytes = trial.wire_bytes_per_answer - cell.size.bytes() as f64;
        assert!((50.0..2_000.0).contains(&head_bytes), "{cell}: {head_bytes}");
    }
    Ok(())
}

/// However the harness ends, its server doesn't outlive it.
fn dies_with_the_harness(backend: Backend, corpus: &Corpus) -> Result<(), Failed> {
    let mut harness = Command::new(std::env::current_exe()?)
        .args([ORPHAN, backend.name()])
        .arg(corpus.root())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    let output = harness.stdout.take().ok_or("no output")?;
    BufReader::new(output).read_line(&mut line)?;
    let status = format!("/proc/{}/status", line.trim());
    assert!(fs::exists(&status)?, "the server runs: {line:?}");
    harness.kill()?;
    harness.wait()?;
    let deadline = Instant::now() + Duration::from_secs(5);
    // Killed, it may stay a zombie until whoever adopted it looks.
    let lives = || fs::read_to_string(&status).is_ok_and(|text| !text.contains("\nState:\tZ"));
    while lives() {
        assert!(Instant::now() < deadline, "the server outlived the harness");
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn orphan(backend: &str, root: &Path) -> ExitCode {
    let Some(backend) = Backend::from_name(backend) else {
        return ExitCode::FAILURE;
    };
    match start(backend, root) {
        Ok(server) => {
            println(&server.id().to_string());
            let _until_killed = std::io::stdin().lines().next();
            ExitCode::SUCCESS
        }
        Err(_) => ExitCode::FAILURE,
    }
}

fn println(line: &str) {
    let _unread = writeln!(std::io::stdout(), "{line}");
}

fn a_root_that_is_missing_is_one_line(backend: Backend, corpus: &Corpus) -> Result<(), Failed> {
    let missing = corpus.root().join("missing");
    let failure = match Server::start(backend, &missing, Placement::choose()?) {
        Ok(_) => return Err("it started".into()),
        Err(failure) => failure.to_string(),
    };
    assert!(failure.starts_with(&format!("start {backend}: ")), "{failure}");
    assert!(failure.contains("missing") && !failure.contains('\n'), "{failure}");
    Ok(())
}
