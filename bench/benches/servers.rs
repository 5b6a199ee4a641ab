//! The three servers, compared over real sockets: `cargo bench --bench servers`.
//!
//! Criterion takes one benchmark after the other; a fair comparison takes them in turns. So the harness
//! decides what runs when ([`bench::run`]): the first benchmark of a cell that criterion asks for runs all
//! rounds of the cell, all servers in each, in random order. Criterion then gets each trial as one sample (its
//! mean time from one answer to the next), once per benchmark and in the order of the rounds, and does what
//! it does well: estimates, outliers, the change since the last run.
//!
//! Criterion's arguments work: a filter chooses cells (of a chosen cell all servers run, for the ratios),
//! `--quick` takes fewer and shorter trials, `--test` runs each cell once and keeps nothing. Variables:
//! `TRIPTYCH_BENCH_ROUNDS`, `TRIPTYCH_BENCH_WINDOW_MS`, `TRIPTYCH_BENCH_SEED`, `TRIPTYCH_BENCH_CORPUS` (a
//! folder on a disk) and `TRIPTYCH_BENCH_RESULTS`.

use bench::failure::{Failure, Result};
use bench::report::chart::Metric;
use bench::report::summary;
use bench::run::cell::Cell;
use bench::run::plan::{Effort, Plan};
use bench::run::{Folders, Report, Run};
use bench::server::serve::serve_if_asked;
use bench::server::target::Backend;
use criterion::{Bencher, Criterion, SamplingMode, Throughput};
use std::cell::RefCell;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Criterion measures how long a sample takes, to plan how many it can afford. A trial that it is told of
/// afterwards takes no time; this stands in for it, so that its plan stays within reason.
const TELLING: Duration = Duration::from_millis(2);
/// Criterion's least.
const SAMPLES_MIN: usize = 10;

fn main() -> ExitCode {
    if let Some(code) = serve_if_asked() {
        return code;
    }
    // First of all, so that `--help` and wrong flags end here.
    let criterion = Criterion::default().configure_from_args();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match compare(criterion, &arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => fail(&failure),
    }
}

fn fail(failure: &Failure) -> ExitCode {
    eprintln!("error: {failure}");
    ExitCode::FAILURE
}

fn compare(mut criterion: Criterion, arguments: &[String]) -> Result<()> {
    let effort = Effort::of(arguments);
    let variable = |name: &str| std::env::var(name).ok();
    let plan = Plan::new(effort, variable)?;
    if arguments.iter().any(|argument| argument == "--list") {
        // Criterion only names them.
        for cell in &plan.cells {
            benchmarks(&mut criterion, *cell, &plan, &Backend::ALL, |_| Vec::new());
        }
        return Ok(());
    }
    let run = Run::prepare(plan.clone(), &folders(effort), command(arguments))?;
    let servers = run.servers().to_vec();
    announce(&run, effort);
    let run = RefCell::new(run);
    for cell in &plan.cells {
        benchmarks(&mut criterion, *cell, &plan, &servers, |backend| samples(&run, *cell, backend));
    }
    criterion.final_summary();
    match run.into_inner().finish()? {
        Some(report) if effort != Effort::Test => show(&report),
        _ => Ok(()),
    }
}

/// One line on what is about to happen.
fn announce(run: &Run, effort: Effort) {
    let plan = run.plan();
    let names: Vec<&str> = run.servers().iter().map(|backend| backend.name()).collect();
    let kept = if effort == Effort::Test { ", nothing is kept" } else { "" };
    eprintln!(
        "{}: {} comparisons, {} × {} ms each{kept}; {}",
        names.join(", "),
        plan.cells.len(),
        plan.rounds,
        plan.window_ms,
        run.placement()
    );
}

/// The seconds per answer of each trial. A failure ends the process here: criterion has no way to pass it on.
fn samples(run: &RefCell<Run>, cell: Cell, backend: Backend) -> Vec<f64> {
    let mut run = run.borrow_mut();
    match run.trials(cell, backend) {
        Ok(trials) => trials.iter().map(|trial| 1.0 / trial.requests_per_second).collect(),
        Err(failure) => {
            fail(&failure);
            std::process::exit(1)
        }
    }
}

/// Criterion's benchmarks of one cell, one per server.
fn benchmarks(
    criterion: &mut Criterion,
    cell: Cell,
    plan: &Plan,
    servers: &[Backend],
    samples: impl Fn(Backend) -> Vec<f64>,
) {
    let mut group = criterion.benchmark_group(cell.id());
    let sample_size = plan.rounds.max(SAMPLES_MIN);
    group
        .throughput(Throughput::ElementsAndBytes { elements: 1, bytes: cell.size.bytes() })
        .sampling_mode(SamplingMode::Flat)
        .sample_size(sample_size)
        .warm_up_time(TELLING / 2)
        .measurement_time(TELLING * 2 * u32::try_from(sample_size).unwrap_or(u32::MAX));
    for backend in servers {
        let mut told = Told::default();
        group.bench_function(backend.name(), |bencher| {
            if told.samples.is_empty() {
                told.samples = samples(*backend);
            }
            told.next(bencher);
        });
    }
    group.finish();
}

/// What criterion has been told of a server's trials in a cell.
#[derive(Default)]
struct Told {
    samples: Vec<f64>,
    asked: usize,
}

impl Told {
    /// Tells the next one. Criterion's first question is its warm-up, which takes nothing from the list.
    fn next(&mut self, bencher: &mut Bencher<'_>) {
        let index = self.asked.saturating_sub(1) % self.samples.len();
        let seconds = self.samples[index];
        self.asked += 1;
        bencher.iter_custom(|requests| {
            std::thread::sleep(TELLING);
            Duration::from_secs_f64(seconds * requests as f64)
        });
    }
}

fn folders(effort: Effort) -> Folders {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
    let named = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let corpus = named("TRIPTYCH_BENCH_CORPUS");
    let results = named("TRIPTYCH_BENCH_RESULTS").unwrap_or_else(|| repository.join("results"));
    Folders {
        corpus: corpus.unwrap_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR"))),
        results: (effort != Effort::Test).then_some(results),
        repository: repository.to_owned(),
    }
}

/// What to type to repeat this run.
fn command(arguments: &[String]) -> String {
    let mut words: Vec<String> = std::env::vars()
        .filter(|(name, _)| {
            name.starts_with("TRIPTYCH_BENCH_") && !name.ends_with("CORPUS") && !name.ends_with("RESULTS")
        })
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    words.push("cargo bench --bench servers".to_owned());
    let own: Vec<&str> =
        arguments.iter().map(String::as_str).filter(|argument| *argument != "--bench").collect();
    if !own.is_empty() {
        words.push("--".to_owned());
        words.extend(own.into_iter().map(str::to_owned));
    }
    words.join(" ")
}

/// The table, what it says, and where the pictures are.
fn show(report: &Report) -> Result<()> {
    let mut text = format!("\n{}\n", summary::terminal(&report.record));
    for sentence in summary::headlines(&report.record) {
        text.push_str(&format!("{sentence}\n"));
    }
    for warning in &report.record.warnings {
        text.push_str(&format!("warning: {warning}\n"));
    }
    if let Some(folder) = &report.folder {
        let folder = folder.canonicalize().unwrap_or_else(|_| folder.clone());
        text.push_str("\nThe pictures:\n");
        for metric in Metric::ALL {
            text.push_str(&format!("  {}\n", folder.join(metric.file_name()).display()));
        }
        text.push_str(&format!("Tables and raw numbers: {}\n", folder.join("SUMMARY.md").display()));
    }
    std::io::stdout().write_all(text.as_bytes()).map_err(Failure::context("write the table"))
}
