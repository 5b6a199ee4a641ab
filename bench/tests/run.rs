//! Whole runs of the harness as a program: what they leave behind, and what they do when something goes wrong.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as the tests themselves do")]

use bench::machine::disturbance::Disturbance;
use bench::record::trial::{Pass, Trial};
use bench::record::{Record, read_record, read_trials};
use bench::run::scenario::Files;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The machine has few CPUs, and each run wants two.
static MACHINE: Mutex<()> = Mutex::new(());

/// Longer than anything here takes, even on a busy machine.
const DEADLINE: Duration = Duration::from_secs(120);

/// Folders for a run, and the machine to itself.
struct Sandbox {
    folder: TempDir,
    _alone: MutexGuard<'static, ()>,
}

impl Sandbox {
    fn new() -> Sandbox {
        let alone = MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
        Sandbox { folder: tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap(), _alone: alone }
    }

    /// A command whose lock, corpus and results are its own.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bench"));
        command
            .args(arguments)
            .env("TMPDIR", self.folder.path())
            .env("TRIPTYCH_BENCH_CORPUS", self.folder.path().join("corpus"))
            .env("TRIPTYCH_BENCH_RESULTS", self.results())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn results(&self) -> PathBuf {
        self.folder.path().join("results")
    }

    fn run(&self, arguments: &[&str]) -> Output {
        ended(self.command(arguments).spawn().unwrap())
    }

    fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments).spawn().unwrap()
    }

    /// The folder of the only run.
    fn result(&self) -> PathBuf {
        let folders: Vec<PathBuf> =
            fs::read_dir(self.results()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(folders.len(), 1, "{folders:?}");
        folders[0].clone()
    }

    /// Waits until the run has written so many trials.
    fn await_trials(&self, count: usize) {
        within_deadline(|| {
            let lines = |entry: fs::DirEntry| fs::read_to_string(entry.path().join("trials.jsonl")).ok();
            let folder = fs::read_dir(self.results()).ok().and_then(|mut entries| entries.next()?.ok());
            folder.and_then(lines).is_some_and(|text| text.lines().count() >= count)
        });
    }
}

fn within_deadline(mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !done() {
        assert!(Instant::now() < deadline, "it takes too long");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn ended(mut child: Child) -> Output {
    // A pipe that nobody empties would stop a run that says much.
    let mut pipes = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let stderr = std::thread::spawn(move || {
        let mut text = Vec::new();
        pipes.1.read_to_end(&mut text).map(|_| text)
    });
    let mut stdout = Vec::new();
    pipes.0.read_to_end(&mut stdout).unwrap();
    let stderr = stderr.join().unwrap().unwrap();
    Output { status: child.wait().unwrap(), stdout, stderr }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn read(folder: &Path) -> (Record, Vec<Trial>) {
    (read_record(folder).unwrap(), read_trials(folder).unwrap())
}

/// Short, and with nothing but what is always there.
const SHORT: [&str; 8] = [
    "run",
    "--targets",
    "epoll,epoll-twin,null-epoll,blocking",
    "--window-ms",
    "30",
    "--rounds",
    "2",
    "--only",
];

fn short<'a>(scenarios: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&SHORT[..], &[scenarios], more].concat()
}

fn error_line(output: &Output) -> String {
    let stderr = text(&output.stderr);
    let lines: Vec<&str> = stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(lines.len(), 1, "{stderr}");
    lines[0].to_owned()
}

#[test]
fn a_run_measures_everything_and_draws_it() {
    let sandbox = Sandbox::new();
    let output =
        sandbox.run(&short("hot-small,churn,hot-under-cold,overload,mix,idle", &["--tier", "quick"]));
    assert!(output.status.success(), "{}", text(&output.stderr));
    let folder = sandbox.result();
    let (record, trials) = read(&folder);
    assert!(record.finished.is_some());
    for cell in &record.cells {
        assert!(cell.failures.is_empty(), "{cell:?}");
        for target in &cell.targets {
            let mine = |trial: &&Trial| trial.cell == cell.id && trial.target == *target;
            let timing: Vec<&Trial> =
                trials.iter().filter(mine).filter(|trial| trial.pass == Pass::Timing).collect();
            assert!(timing.iter().any(|trial| trial.place.round == 1), "{}: {target}", cell.id);
            for trial in timing {
                assert!(trial.answers() > 0 && trial.cost.cpu_ns > 0, "{}: {target}", cell.id);
                assert_eq!(trial.errors(), 0, "{}: {target}: {:?}", cell.id, trial.classes);
                assert!(trial.misplaced.is_empty(), "{}: {target}: {:?}", cell.id, trial.misplaced);
            }
        }
    }
    let has_counts = |trial: &Trial| {
        trial.pass == Pass::Counting && (trial.calls.is_some() || !trial.unmeasured.is_empty())
    };
    assert!(trials.iter().any(has_counts), "system calls are counted, or it is said why not");
    for file in ["SUMMARY.md", "report.html", "verdicts.json"] {
        assert!(fs::metadata(folder.join(file)).is_ok_and(|found| found.len() > 500), "{file}");
    }
    assert!(text(&output.stdout).contains("report.html"), "it says where the report lies");
    let warnings = serde_json::to_value(&record).unwrap()["warnings"].clone();
    for warning in warnings.as_array().unwrap() {
        let line = format!("warning: {}\n", warning.as_str().unwrap());
        assert!(text(&output.stderr).contains(&line), "{line}: {}", text(&output.stderr));
    }
    // Drawing again changes nothing.
    let before = fs::read(folder.join("report.html")).unwrap();
    assert!(sandbox.run(&["report", folder.to_str().unwrap()]).status.success());
    assert!(fs::read(folder.join("report.html")).unwrap() == before);
}

#[test]
fn the_program_is_measured_as_it_is_run() {
    let sandbox = Sandbox::new();
    let output = sandbox.run(&[
        "run",
        "--targets",
        "epoll,uring,triptych",
        "--window-ms",
        "30",
        "--rounds",
        "2",
        "--only",
        "hot-small,common-rate",
    ]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let folder = sandbox.result();
    let (record, trials) = read(&folder);
    for cell in &record.cells {
        let takes_part = cell.targets.iter().any(|id| id == "triptych");
        assert_eq!(takes_part, cell.id.scenario == "hot-small", "{cell:?}");
    }
    let mut mine = trials.iter().filter(|trial| trial.target == "triptych").peekable();
    assert!(mine.peek().is_some());
    for trial in mine {
        assert!(trial.answers() > 0 && trial.errors() == 0 && trial.cost.cpu_ns > 0, "{trial:?}");
        assert!(trial.misplaced.is_empty(), "{:?}", trial.misplaced);
    }
    let targets = serde_json::to_value(&record).unwrap()["targets"].clone();
    let program = targets.as_array().unwrap().iter().find(|target| target["id"] == "triptych").unwrap();
    let model = if uring::available().is_ok() { "io_uring" } else { "epoll" };
    assert_eq!(program["label"], format!("triptych ({model})"));
    let version = program["version"].as_str().unwrap();
    assert!(version.contains(&format!(" with {model} (1 worker")), "what it says of itself: {version}");
    let summary = fs::read_to_string(folder.join("SUMMARY.md")).unwrap();
    assert!(summary.contains(&format!("triptych ({model})")), "{summary}");
}

#[test]
fn the_site_is_asked_for_as_browsers_do() {
    let sandbox = Sandbox::new();
    let output = sandbox.run(&[
        "run",
        "--targets",
        "epoll,epoll-twin,hyper-sidecars,null-epoll,hyper",
        "--window-ms",
        "100",
        "--rounds",
        "2",
        "--only",
        "site",
    ]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let folder = sandbox.result();
    let (record, trials) = read(&folder);
    assert_eq!(
        record.cells[0].targets,
        ["epoll", "epoll-twin", "hyper-sidecars"],
        "no null server, no other peer"
    );
    assert!(record.cells[0].failures.is_empty(), "{:?}", record.cells[0].failures);
    let mut not_modified = 0;
    for trial in &trials {
        assert!(trial.errors() == 0 && trial.answers() > 0, "{}: {:?}", trial.target, trial.classes);
        let classes = serde_json::to_value(&trial.classes).unwrap();
        let traffic = &classes[0]["traffic"];
        not_modified += traffic["not_modified"].as_u64().unwrap();
        if trial.target == "hyper-sidecars" {
            let coded = ["br", "zstd"].map(|coding| traffic["text"][coding]["answers"].as_u64().unwrap_or(0));
            assert!(coded.iter().sum::<u64>() > 0, "it sends sidecars: {traffic}");
        }
    }
    let share = not_modified as f64 / trials.iter().map(Trial::answers).sum::<u64>() as f64;
    assert!((0.2..0.47).contains(&share), "one time in three, not {share}");
    let page = fs::read_to_string(folder.join("report.html")).unwrap();
    assert!(page.contains("on the wire per answer: "), "bytes are told beside the cost");
    assert!(page.contains("id=\"picture-wire-site\""), "and drawn");
}

#[test]
fn new_files_are_compressed_while_others_are_asked_for() {
    let sandbox = Sandbox::new();
    let output = sandbox.run(&[
        "run",
        "--targets",
        "epoll,epoll-twin,epoll-compress-off,null-epoll,hyper",
        "--window-ms",
        "1200",
        "--rounds",
        "1",
        "--budget",
        "20s",
        "--only",
        "compression",
    ]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let folder = sandbox.result();
    let (record, trials) = read(&folder);
    assert_eq!(record.cells.len(), 2);
    for cell in &record.cells {
        let mut targets = cell.targets.clone();
        targets.sort();
        assert_eq!(targets, ["epoll", "epoll-compress-off", "epoll-twin"], "{}", cell.id);
        assert!(cell.failures.is_empty(), "{:?}", cell.failures);
    }
    let (mut new_coded, mut hot_coded) = (0, 0);
    for trial in &trials {
        let what = format!("{}: {}", trial.cell, trial.target);
        assert!(trial.errors() == 0 && trial.answers() > 0, "{what}: {:?}", trial.classes);
        let classes = serde_json::to_value(&trial.classes).unwrap();
        let new = &classes[1]["introduction"];
        let visits: Vec<u64> =
            (0..3).map(|visit| new["visits"][visit]["answers"].as_u64().unwrap()).collect();
        assert_eq!(new["files"], 1_000, "{what}");
        // What came in the window alone: in the warm-up, nobody has heard of them.
        assert!(visits.iter().all(|visit| (1..600).contains(visit)), "{what}: {visits:?}");
        assert!(visits[0] >= visits[1] && visits[1] >= visits[2], "{what}: {visits:?}");
        let coded = new["coded"].as_u64().unwrap();
        assert!(coded <= visits[2], "no file is compressed before its third visit: {what}: {new}");
        let text = classes[0]["traffic"]["text"].as_object().unwrap();
        let is_hot_coded = text.keys().any(|coding| coding != "identity");
        if trial.target == "epoll-compress-off" {
            assert!(coded == 0 && !is_hot_coded, "{what}: {new}, {text:?}");
        }
        new_coded += coded;
        hot_coded += u64::from(is_hot_coded);
        if trial.cell.scenario == "compress-cold" && trial.void.is_none() {
            assert!(trial.device_read_bytes.is_none_or(|bytes| bytes > 0), "{what}");
        }
    }
    // Not in every trial: on a busy machine, who compresses with the lowest priority waits for long.
    assert!(new_coded > 0 && hot_coded > 0, "{new_coded}, {hot_coded}");
    let summary = fs::read_to_string(folder.join("SUMMARY.md")).unwrap();
    for said in ["until all new files had come compressed: ", "bytes of a new file's answers by its visits: "]
    {
        assert!(summary.contains(said), "{summary}");
    }
    let page = fs::read_to_string(folder.join("report.html")).unwrap();
    assert!(page.contains("id=\"picture-compress-cold\""));
}

#[test]
fn relative_rates_relate_to_what_was_seen_before_the_scenario() {
    let sandbox = Sandbox::new();
    let output = sandbox.run(&short("hot-small,common-rate,overload", &["--tier", "quick"]));
    assert!(output.status.success(), "{}", text(&output.stderr));
    let (record, trials) = read(&sandbox.result());
    assert!(!record.capacities.contains_key("hot-small"), "nothing there is relative");
    let common = &record.capacities["common-rate"][&Files::Small];
    let overload = &record.capacities["overload"][&Files::Medium];
    for seen in [common, overload] {
        let ids: Vec<&str> = seen.keys().map(String::as_str).collect();
        assert_eq!(ids, ["blocking", "epoll"], "twins and null servers don't set the pace");
    }
    let slowest = common.values().copied().reduce(f64::min).unwrap();
    for trial in trials.iter().filter(|trial| trial.pass == Pass::Timing) {
        let expected = match trial.cell.scenario.as_str() {
            "common-rate" => slowest * 0.7,
            // A second at half of it, two at 150 %, three at half.
            // The twin is offered what its original is.
            "overload" => overload[trial.target.trim_end_matches("-twin")] * 5.0 / 6.0,
            _ => continue,
        };
        let offered = trial.classes[0].offered_per_second.unwrap();
        assert!((offered / expected - 1.0).abs() < 1e-9, "{}: {offered}, not {expected}", trial.cell);
    }
}

#[test]
fn an_interrupted_run_goes_on_where_it_was() {
    let sandbox = Sandbox::new();
    let child = sandbox.start(&short("common-rate,churn", &[]));
    sandbox.await_trials(3);
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let output = ended(child);
    assert_eq!(output.status.code(), Some(1));
    let line = error_line(&output);
    let folder = sandbox.result();
    assert!(line.contains(&format!("run --resume {}", folder.display())), "{line}");
    let (begun, before) = read(&folder);
    assert_eq!(begun.finished, None);
    let output = sandbox.run(&["run", "--resume", folder.to_str().unwrap()]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let (record, after) = read(&folder);
    assert!(record.finished.is_some());
    assert!(begun.capacities.contains_key("common-rate"));
    assert_eq!(record.capacities, begun.capacities, "its rates stay what they were");
    assert_eq!(after[..before.len()], before, "nothing that was measured is lost");
    let numbers: Vec<usize> = after.iter().map(|trial| trial.place.number).collect();
    assert_eq!(numbers, (0..after.len()).collect::<Vec<_>>());
    let standing = |trial: &&Trial| trial.pass == Pass::Timing && trial.counts();
    for cell in &record.cells {
        for target in &cell.targets {
            let mine = |trial: &&Trial| trial.cell == cell.id && trial.target == *target;
            let rounds: Vec<usize> =
                after.iter().filter(standing).filter(mine).map(|trial| trial.place.round).collect();
            assert_eq!(rounds, [0, 1], "{}: {target}", cell.id);
        }
    }
    let again = sandbox.run(&["run", "--resume", folder.to_str().unwrap()]);
    assert_eq!(again.status.code(), Some(1));
    assert!(error_line(&again).contains("finished"));
}

#[test]
fn a_run_says_what_it_waits_for() {
    let sandbox = Sandbox::new();
    let cpus = std::thread::available_parallelism().unwrap().get();
    let busy = || Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
    let mut others: Vec<Child> = (0..cpus).map(|_| busy()).collect();
    let output = sandbox.run(&[
        "run",
        "--targets",
        "epoll",
        "--only",
        "hot-small",
        "--rounds",
        "1",
        "--window-ms",
        "400",
        "--budget",
        "20s",
    ]);
    for other in &mut others {
        other.kill().unwrap();
        other.wait().unwrap();
    }
    let said = text(&output.stderr);
    let waits: Vec<&str> = said.lines().filter(|line| line.starts_with("waiting for ")).collect();
    assert!(waits.contains(&"waiting for a quiet machine (another process uses the CPU)"), "{said}");
    assert!(
        waits.iter().collect::<std::collections::BTreeSet<_>>().len() == waits.len(),
        "once each: {said}"
    );
}

fn without_histograms(trial: &Trial) -> serde_json::Value {
    let mut value = serde_json::to_value(trial).unwrap();
    for class in value["classes"].as_array_mut().unwrap() {
        for times in ["service", "response"] {
            class[times].as_object_mut().map(|times| times.remove("histogram"));
        }
    }
    value
}

#[test]
fn what_was_disturbed_is_measured_again() {
    let sandbox = Sandbox::new();
    assert!(sandbox.run(&short("common-rate,churn", &[])).status.success());
    let folder = sandbox.result();
    let (record, mut before) = read(&folder);
    for trial in before.iter_mut().filter(|trial| trial.cell.scenario == "common-rate") {
        trial.disturbance = Some(Disturbance { others: 0.0, stolen: 0.5 });
    }
    let lines: Vec<String> =
        before.iter().map(|trial| serde_json::to_string(trial).unwrap() + "\n").collect();
    fs::write(folder.join("trials.jsonl"), lines.concat()).unwrap();
    let output = sandbox.run(&["run", "--resume", folder.to_str().unwrap()]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let (renewed, after) = read(&folder);
    assert!(renewed.finished > record.finished);
    assert_ne!(renewed.capacities["common-rate"], record.capacities["common-rate"]);
    let (old, new) = after.split_at(before.len());
    for (is, was) in old.iter().zip(&before) {
        let disturbed = was.cell.scenario == "common-rate" && was.counts();
        assert_eq!(is.void.is_some(), disturbed || was.void.is_some(), "{}", was.cell);
        let unvoided = Trial { void: was.void.clone(), ..is.clone() };
        if disturbed {
            // Nothing is made of its histograms any more.
            assert_eq!(without_histograms(&unvoided), without_histograms(was), "it is kept as it was");
        } else {
            assert_eq!(unvoided, *was, "it is kept as it was");
        }
    }
    assert!(!new.is_empty() && new.iter().all(|trial| trial.cell.scenario == "common-rate"));
    for cell in &renewed.cells {
        for target in &cell.targets {
            let mine = |trial: &&Trial| trial.cell == cell.id && trial.target == *target && trial.counts();
            let rounds: Vec<usize> = after.iter().filter(mine).map(|trial| trial.place.round).collect();
            assert_eq!(rounds, [0, 1], "{}: {target}", cell.id);
        }
    }
}

#[test]
fn a_server_that_dies_voids_its_own_comparison_alone() {
    let sandbox = Sandbox::new();
    let child = sandbox.start(&[
        "run",
        "--targets",
        "epoll,blocking",
        "--window-ms",
        "400",
        "--rounds",
        "2",
        "--only",
        "hot-small,hot-medium",
    ]);
    sandbox.await_trials(1);
    within_deadline(|| end_a_server_of(child.id()));
    let output = ended(child);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    assert!(error_line(&output).contains("signal: 9"), "{}", text(&output.stderr));
    let (record, trials) = read(&sandbox.result());
    assert!(record.finished.is_some());
    let failures: usize = record.cells.iter().map(|cell| cell.failures.len()).sum();
    assert_eq!(failures, 1, "{:?}", record.cells);
    let whole = record.cells.iter().find(|cell| cell.failures.is_empty()).unwrap();
    let count = trials.iter().filter(|trial| trial.cell == whole.id && trial.counts()).count();
    assert_eq!(count, 4, "the other comparison is whole");
    assert!(sandbox.result().join("report.html").exists());
}

/// Kills a server under test of this harness, if one runs just now.
fn end_a_server_of(harness: u32) -> bool {
    let children = fs::read_to_string(format!("/proc/{harness}/task/{harness}/children")).unwrap_or_default();
    let is_server = |pid: &&str| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        text(&line).contains("serve-under-test")
    };
    let Some(pid) = children.split_whitespace().find(is_server) else {
        return false;
    };
    let pid = rustix::process::Pid::from_raw(pid.parse().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).is_ok()
}

#[test]
fn two_runs_do_not_measure_each_other() {
    let sandbox = Sandbox::new();
    let first = sandbox.start(&short("hot-small", &[]));
    sandbox.await_trials(1);
    // It mustn't end before the second one has begun, however long that takes.
    let pid = rustix::process::Pid::from_child(&first);
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    let second = sandbox.run(&short("hot-small", &[]));
    rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
    assert_eq!(second.status.code(), Some(1));
    let line = error_line(&second);
    assert!(line.contains(&format!("process {}", first.id())), "{line}");
    assert!(ended(first).status.success());
}

#[test]
fn mistakes_are_one_line_and_leave_nothing() {
    let sandbox = Sandbox::new();
    let file = sandbox.folder.path().join("file");
    fs::write(&file, "").unwrap();
    let below_a_file = file.join("results");
    let table: [(Vec<&str>, i32, &str); 8] = [
        (vec!["run", "--targets", "apache"], 1, "no target \"apache\"; the nearest are "),
        (vec!["run", "--only", "hot"], 1, "no scenario \"hot\"; the nearest are "),
        (
            vec![
                "run",
                "--only",
                "hot-small",
                "--targets",
                "epoll",
                "--results",
                below_a_file.to_str().unwrap(),
            ],
            1,
            "make the results folder ",
        ),
        (
            vec![
                "run",
                "--only",
                "hot-small",
                "--targets",
                "epoll",
                "--corpus",
                below_a_file.to_str().unwrap(),
            ],
            1,
            "make the folder ",
        ),
        (vec!["run", "--resume", "/nowhere"], 1, "read /nowhere/run.json"),
        (vec!["report", "/nowhere"], 1, "read /nowhere/run.json"),
        (vec!["compare", "/nowhere", "/nowhere"], 1, "read /nowhere/run.json"),
        (vec!["load", "ftp://127.0.0.1/"], 2, "http"),
    ];
    for (arguments, code, expected) in table {
        let output = sandbox.run(&arguments);
        let line = error_line(&output);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {line}");
        assert!(line.contains(expected), "{arguments:?}: {line}");
    }
    for arguments in [&["run", "--rounds", "0"][..], &["run", "--budget", "soon"], &["walk"], &["load"]] {
        assert_eq!(sandbox.run(arguments).status.code(), Some(2), "{arguments:?}");
    }
    assert!(!sandbox.results().exists(), "nothing was begun");
}

#[test]
fn a_corpus_in_memory_is_refused() {
    let sandbox = Sandbox::new();
    let memory = Path::new("/dev/shm");
    if !memory.is_dir() {
        return;
    }
    let folder = tempfile::tempdir_in(memory).unwrap();
    let output = sandbox.run(&["run", "--only", "hot-small", "--corpus", folder.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(error_line(&output).contains("only lives in memory"), "{}", error_line(&output));
}

#[test]
fn a_run_of_another_version_is_not_read() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.folder.path().join("run.json"), r#"{"format": 1}"#).unwrap();
    let folder = sandbox.folder.path().to_str().unwrap();
    for arguments in [&["report", folder][..], &["run", "--resume", folder], &["compare", folder, folder]] {
        let output = sandbox.run(arguments);
        assert_eq!(output.status.code(), Some(1));
        assert!(error_line(&output).contains("format is 1"), "{}", error_line(&output));
    }
}

#[test]
fn targets_doctor_and_scenarios_tell_what_is_there() {
    let sandbox = Sandbox::new();
    let targets = sandbox.run(&["targets"]);
    assert!(targets.status.success() && text(&targets.stdout).lines().any(|line| line.starts_with("epoll ")));
    let doctor = sandbox.run(&["doctor"]);
    assert!(doctor.status.success() && text(&doctor.stdout).contains("bias the numbers"));
    let help = sandbox.run(&["--help"]);
    assert!(help.status.success() && text(&help.stdout).contains("compare"));
}
