//! Two other load generators and the kernel's own accounts, where they are there to be asked: the same server
//! has to look equally fast and equally dear to all.

use super::{CheckResult, Reading};
use crate::analysis::stats::median;
use crate::failure::{Failure, Result};
use crate::load::class::Class;
use crate::load::engine::Engine;
use crate::machine::placement::{Placement, pin};
use crate::run::corpus::Corpus;
use crate::run::options::repository;
use crate::run::scenario::Files;
use crate::run::trial::asks;
use crate::server::availability::Availability;
use crate::server::calls::Counting;
use crate::server::catalogue;
use crate::server::process::Server;
use crate::server::target::Target;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use std::io::ErrorKind;
use std::process::Command;
use std::time::Duration;

/// This project's own, and the three that the field compares itself with; those that aren't installed are
/// left out.
const SERVERS: [&str; 4] = ["epoll", "nginx", "lighttpd", "h2o"];

/// Many short rounds: within each, the machine's pace is the same for both.
const ROUNDS: usize = 11;
const SEED: u64 = 1;
const CONNECTIONS: usize = 64;
/// From this share of a CPU on another generator was the limit, and not the server.
const LIMIT_BUSY: f64 = 0.98;
/// Two generators can't be expected to agree more closely.
const TOLERANCE: f64 = 0.05;
const WINDOW: Duration = Duration::from_secs(1);

pub(super) fn wrk() -> Result<CheckResult> {
    let connections = CONNECTIONS.to_string();
    let duration = format!("-d{}s", WINDOW.as_secs());
    compare("wrk", &["-t1", "-c", &connections, &duration], |output| {
        let line = output.lines().find_map(|line| line.trim().strip_prefix("Requests/sec:"))?;
        line.trim().parse().ok()
    })
}

pub(super) fn oha() -> Result<CheckResult> {
    let connections = CONNECTIONS.to_string();
    let duration = format!("{}s", WINDOW.as_secs());
    compare("oha", &["--no-tui", "-j", "-c", &connections, "-z", &duration], |output| {
        let report: serde_json::Value = serde_json::from_str(output).ok()?;
        report["summary"]["requestsPerSec"].as_f64()
    })
}

/// Both load the same servers in turns. Where the server was the limit, the rates have to agree (by the median of
/// their ratios within each turn); where the other generator was, it can't know the server's rate, and ours must
/// not be lower.
fn compare(program: &str, arguments: &[&str], rate_of: fn(&str) -> Option<f64>) -> Result<CheckResult> {
    if let Err(error) = Command::new(program).arg("--version").output()
        && error.kind() == ErrorKind::NotFound
    {
        return Ok(CheckResult::Skipped(format!("{program} isn't installed")));
    }
    let bench = Bench::prepare()?;
    let mut readings = Vec::new();
    for target in servers() {
        let server = bench.start(&target)?;
        let mut engine = bench.engine(&server)?.without_pause();
        let (mut ours, mut ratios, mut busy) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let outcome = engine.run(WINDOW, None).map_err(Failure::context("load"))?;
            let rate = outcome.classes[0].answers as f64 / outcome.elapsed.as_secs_f64();
            ours.push(rate);
            let before = cpu_of_children()?;
            let output = Command::new(program)
                .args(arguments)
                .arg(format!("http://{}/{}", server.address(), bench.path()))
                .output()
                .map_err(Failure::context(program.to_owned()))?;
            busy.push((cpu_of_children()? - before).as_secs_f64() / WINDOW.as_secs_f64());
            let output = String::from_utf8_lossy(&output.stdout);
            let their_rate =
                rate_of(&output).ok_or_else(|| Failure::new(format!("{program} tells no rate")))?;
            ratios.push(their_rate / rate);
        }
        server.stop()?;
        let ours = median(&ours).unwrap_or_default();
        let theirs = ours * median(&ratios).unwrap_or_default();
        let busy = median(&busy).unwrap_or_default();
        readings.push(agreement(&target, program, ours, theirs, busy));
    }
    Ok(CheckResult::Made(readings))
}

fn agreement(target: &Target, program: &str, ours: f64, theirs: f64, busy: f64) -> Reading {
    const UNIT: &str = "requests/s";
    if busy < LIMIT_BUSY {
        return Reading::near(format!("rate of {target}, beside {program}'s"), ours, theirs, TOLERANCE, UNIT);
    }
    let busy = (busy * 100.0).min(100.0);
    let what = format!("rate of {target}, beside that of {program}, which was the limit ({busy:.0} % busy)");
    Reading::at_least(what, ours, theirs * (1.0 - TOLERANCE), UNIT)
}

/// CPU time of the programs that have been run and waited for.
pub(crate) fn cpu_of_children() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)
        .map_err(|errno| Failure::new(format!("ask what programs have used: {errno}")))?;
    let microseconds = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Ok(Duration::from_micros(microseconds.unsigned_abs()))
}

/// What a server's processes cost by their clocks has to be what `/proc/PID/stat` counts in ticks.
pub(super) fn accounts() -> Result<CheckResult> {
    let bench = Bench::prepare()?;
    let mut readings = Vec::new();
    for target in servers() {
        let server = bench.start(&target)?;
        let mut engine = bench.engine(&server)?;
        let before = server.cost()?;
        engine.run(WINDOW, None).map_err(Failure::context("load"))?;
        let cost = server.cost()? - before;
        server.stop()?;
        let ticks = (cost.user + cost.system).as_secs_f64();
        let what = format!("CPU time of {target}, beside its accounts in /proc");
        readings.push(Reading::near(what, cost.cpu.as_secs_f64(), ticks, TOLERANCE, "s"));
    }
    Ok(CheckResult::Made(readings))
}

fn servers() -> impl Iterator<Item = Target> {
    let named = SERVERS.into_iter().filter_map(catalogue::named);
    named.filter(|target| matches!(target.find(), Availability::Found { .. }))
}

struct Bench {
    corpus: Corpus,
    placement: Placement,
    _folder: tempfile::TempDir,
}

impl Bench {
    fn prepare() -> Result<Bench> {
        let parent = repository().join("target");
        std::fs::create_dir_all(&parent).map_err(Failure::context("make a folder of files"))?;
        let folder = tempfile::tempdir_in(parent).map_err(Failure::context("make a folder of files"))?;
        let corpus = Corpus::create(folder.path(), SEED, [Files::Small])?;
        let placement = Placement::choose()?;
        // Children inherit it; servers move on to their own.
        pin(placement.client)?;
        Ok(Bench { corpus, placement, _folder: folder })
    }

    fn path(&self) -> &str {
        &self.corpus.entries(Files::Small)[0].path
    }

    fn start(&self, target: &Target) -> Result<Server> {
        Server::running(target, self.corpus.root(), self.placement, Counting::Cost)
    }

    fn engine(&self, server: &Server) -> Result<Engine> {
        let class = Class::closed(
            "hot",
            CONNECTIONS,
            asks(self.corpus.entries(Files::Small), Files::Small, server.address()),
        );
        Engine::connect(server.address(), vec![class], SEED).map_err(Failure::context("connect"))
    }
}
