//! The servers under test as real processes. This executable is server and test at once, as the harness is.

use bench::machine::placement::Placement;
use bench::run::corpus::Corpus;
use bench::run::scenario::Files;
use bench::server::availability::Availability;
use bench::server::calls::Counting;
use bench::server::catalogue;
use bench::server::process::Server;
use bench::server::serve::serve_if_asked;
use bench::server::target::{Backend, Family, Target};
use libtest_mimic::{Arguments, Failed, Trial};
#[path = "processes/servers.rs"]
mod servers;
use servers::{FOR_ALL, FOR_COUNTED, Test, lives};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Starts a server, tells its process number, and waits to be killed.
const ORPHAN: &str = "orphan";

/// Servers that are compared with several workers.
const SCALE: [&str; 5] = ["epoll", "uring", "triptych", "nginx", "h2o"];

fn main() -> ExitCode {
    if let Some(code) = serve_if_asked() {
        return code;
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [first, target, root] = &arguments[..]
        && first == ORPHAN
    {
        return orphan(target, Path::new(root));
    }
    let folder = match tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")) {
        Ok(folder) => folder,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    let corpus =
        match Corpus::create(folder.path(), 11, [Files::Small, Files::Medium, Files::Large, Files::Constant])
        {
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
        add("a_root_that_is_missing_is_one_line", a_root_that_is_missing_is_one_line);
    }
    for target in catalogue::catalogue() {
        // What isn't there shows as ignored, with the reason as its kind.
        let missing = match target.find() {
            Availability::Found { .. } => None,
            Availability::Missing { install } => Some(format!("to install: {install}")),
            Availability::Unavailable { reason } => Some(reason),
        };
        let mut add = |name: &str, test: Test, missing: &Option<String>| {
            let (target, corpus) = (target.clone(), Arc::clone(corpus));
            let trial = Trial::test(format!("{target}::{name}"), move || test(&target, &corpus));
            let ignored = trial.with_ignored_flag(missing.is_some());
            tests.push(ignored.with_kind(missing.clone().unwrap_or_default()));
        };
        for (name, test) in FOR_ALL {
            add(name, test, &missing);
        }
        for (name, test) in FOR_COUNTED {
            add(name, test, &missing.clone().or_else(servers::uncounted));
        }
        if SCALE.contains(&target.id()) {
            let few = servers::too_few_cpus();
            add("has_a_worker_for_each_cpu", servers::has_a_worker_for_each_cpu, &missing.clone().or(few));
        }
        if target.id() == "nginx" {
            let missing = missing.clone().or_else(servers::uncounted);
            add("the_clocks_agree_with_perf", servers::the_clocks_agree_with_perf, &missing);
        }
        if !matches!(target.family(), Family::Null(_)) {
            add("dies_with_the_harness", dies_with_the_harness, &missing);
        }
    }
    tests
}

/// However the harness ends, its server doesn't outlive it, nor what descends from it.
fn dies_with_the_harness(target: &Target, corpus: &Corpus) -> Result<(), Failed> {
    // Killed, the harness leaves the server's run folder behind.
    let folder = tempfile::tempdir()?;
    let mut harness = Command::new(std::env::current_exe()?)
        .env("TMPDIR", folder.path())
        .args([ORPHAN, target.id()])
        .arg(corpus.root())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    let output = harness.stdout.take().ok_or("no output")?;
    BufReader::new(output).read_line(&mut line)?;
    let processes: Vec<u32> = line.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    assert!(!processes.is_empty() && processes.iter().all(|process| lives(*process)), "it runs: {line:?}");
    harness.kill()?;
    harness.wait()?;
    let deadline = Instant::now() + Duration::from_secs(5);
    while processes.iter().any(|process| lives(*process)) {
        assert!(Instant::now() < deadline, "the server outlived the harness");
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn orphan(target: &str, root: &Path) -> ExitCode {
    let Some(target) = catalogue::named(target) else {
        return ExitCode::FAILURE;
    };
    match servers::start(&target, root, Counting::Cost) {
        Ok(server) => {
            let processes: Vec<String> = server.processes().iter().map(u32::to_string).collect();
            println(&processes.join(" "));
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
    let target = catalogue::ours(backend);
    let failure = match Server::start(&target, &missing, Placement::choose()?, Counting::Cost) {
        Ok(_) => return Err("it started".into()),
        Err(failure) => failure.to_string(),
    };
    assert!(failure.starts_with(&format!("start {backend}: ")), "{failure}");
    assert!(failure.contains("missing") && !failure.contains('\n'), "{failure}");
    Ok(())
}
