//! Whole runs of `bench claims` as a program: what is said, what is kept, and what is refused.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as the tests themselves do")]

use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The machine has few CPUs, and each run wants two.
static MACHINE: Mutex<()> = Mutex::new(());

fn command(folder: &TempDir, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench"));
    command
        .arg("claims")
        .args(arguments)
        .env("TMPDIR", folder.path())
        .env("TRIPTYCH_BENCH_CORPUS", folder.path().join("corpus"))
        .env("TRIPTYCH_BENCH_RESULTS", folder.path().join("results"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn folder() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The lines about claims.
fn lines(output: &Output) -> Vec<String> {
    text(&output.stdout).lines().filter(|line| line.starts_with('C')).map(str::to_owned).collect()
}

fn result(folder: &TempDir) -> PathBuf {
    let results = fs::read_dir(folder.path().join("results")).unwrap();
    let folders: Vec<PathBuf> = results.map(|entry| entry.unwrap().path()).collect();
    assert_eq!(folders.len(), 1, "{folders:?}");
    folders[0].clone()
}

fn claims(folder: &Path) -> Vec<Value> {
    let text = fs::read_to_string(folder.join("claims.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn what_is_shown_needs_no_run() {
    let folder = folder();
    let output = command(&folder, &["C3", "c16", "C17"]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let lines = lines(&output);
    assert!(lines[0].starts_with("C3   holds "), "{lines:?}");
    assert!(lines[1].starts_with("C16  holds "), "{lines:?}");
    assert!(lines[2].starts_with("C17  can't be told here ") && lines[2].contains("one CPU"), "{lines:?}");
    assert_eq!(lines.len(), 3);
    assert!(!folder.path().join("results").exists(), "nothing was measured");
}

#[test]
fn a_run_ends_with_a_verdict_for_each_claim() {
    let _alone = MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = folder();
    let options = ["C19", "C16", "C21", "--tier", "quick", "--rounds", "3", "--window-ms", "30"];
    let output = command(&folder, &options).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let told = lines(&output);
    let names: Vec<&str> = told.iter().map(|line| line.split_whitespace().next().unwrap()).collect();
    assert_eq!(names, ["C16", "C19", "C21"]);
    let result = result(&folder);
    let judged = claims(&result);
    for (claim, line) in judged.iter().zip(&told) {
        let verdict = claim["verdict"].as_str().unwrap();
        assert!(["holds", "does-not-hold", "holds-under-a-condition", "cannot-be-told"].contains(&verdict));
        assert!(line.contains(claim["sentence"].as_str().unwrap()), "{line}");
        assert!(claim["findings"].as_array().is_some_and(|findings| !findings.is_empty()));
    }
    // CPU time of 30,000 requests a second is far from noise.
    assert_eq!(judged[2]["number"]["unit"], "share");
    let of = |name: &str| fs::read_to_string(result.join(name)).unwrap();
    assert_eq!(of("claims.toml"), include_str!("../claims.toml"), "the rules as they were before the run");
    assert!(of("scenes.json").contains("epoll_wait("), "what was shown is kept");
    assert!(of("SUMMARY.md").contains("## What is claimed, and what this machine says"));
    assert!(of("report.html").contains("class=\"scorecard\""));
    assert!(bench::record::read_trials(&result).unwrap().len() >= 9);
    // Drawn anew, by the rules in the folder.
    let output = Command::new(env!("CARGO_BIN_EXE_bench")).arg("report").arg(&result).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(claims(&result), judged);
}

/// Processes with the folder in their environment, as all have that a run starts.
fn processes(folder: &TempDir) -> Vec<String> {
    let mark = folder.path().to_str().unwrap().as_bytes();
    let is_of_it = |path: &PathBuf| {
        let environment = fs::read(path.join("environ")).unwrap_or_default();
        environment.windows(mark.len()).any(|window| window == mark)
    };
    let all = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    all.filter(is_of_it).map(|path| path.display().to_string()).collect()
}

#[test]
fn an_interrupted_run_keeps_what_it_has_and_can_be_resumed() {
    let _alone = MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = folder();
    let options = ["C21", "--tier", "quick", "--rounds", "4", "--window-ms", "100"];
    let run = command(&folder, &options).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(120);
    let trials = || {
        let results = fs::read_dir(folder.path().join("results")).ok()?.next()?.ok()?;
        fs::read_to_string(results.path().join("trials.jsonl")).ok()
    };
    while trials().is_none_or(|text| text.lines().count() < 2) || processes(&folder).len() < 2 {
        assert!(Instant::now() < deadline, "it takes too long");
        std::thread::sleep(Duration::from_millis(5));
    }
    let pid = rustix::process::Pid::from_raw(i32::try_from(run.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let output = run.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    assert_eq!(processes(&folder), Vec::<String>::new(), "left running");
    let told = text(&output.stderr);
    assert!(
        told.contains("error: interrupted; to go on: cargo run --release -p bench -- claims --resume "),
        "{told}"
    );
    assert!(lines(&output)[0].starts_with("C21  can't be told here "), "{:?}", lines(&output));
    let result = result(&folder);
    assert_eq!(claims(&result).len(), 1);
    let before = bench::record::read_trials(&result).unwrap().len();
    let output = command(&folder, &["--resume", result.to_str().unwrap()]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(bench::record::read_trials(&result).unwrap().len() > before);
    assert!(lines(&output)[0].starts_with("C21  "));
}

/// The same command under a limit that prlimit(1) sets; not as root, for whom some limits don't hold. None where that can't
/// be had.
fn limited(folder: &TempDir, limit: &str, arguments: &[&str]) -> Option<Command> {
    let whole = command(folder, arguments);
    let mut limited = Command::new("prlimit");
    limited.arg(limit);
    if rustix::process::getuid().is_root() {
        limited.args(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]);
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    }
    limited.arg(whole.get_program());
    let mut probe = Command::new(limited.get_program());
    probe.args(limited.get_args()).arg("--version");
    let changed = whole.get_envs().filter_map(|(name, value)| Some((name, value?)));
    limited.args(whole.get_args()).envs(changed);
    limited.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    probe.output().is_ok_and(|output| output.status.success()).then_some(limited)
}

/// What a machine doesn't allow is no failure of a server: it is measured as far as it goes, and the verdict says so.
#[test]
fn limits_of_the_machine_are_told_in_the_verdicts() {
    let _alone = MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
    let table = [
        ("--nofile=256", "C22", " descriptors are needed, and 256 allowed", 100),
        ("--nofile=1024", "C22", " descriptors are needed, and 1024 allowed", 900),
        ("--nproc=700", "C1", " threads are needed, and 700 allowed (ulimit -u)", 100),
    ];
    for (limit, claim, told, reached) in table {
        let folder = folder();
        let options = [claim, "--tier", "quick", "--rounds", "3", "--window-ms", "20"];
        let Some(mut run) = limited(&folder, limit, &options) else {
            eprintln!(
                "not tried: prlimit(1) or setpriv(1) isn't there, or the program can't be run by somebody else"
            );
            return;
        };
        let output = run.output().unwrap();
        assert!(output.status.success(), "{limit}: {}", text(&output.stderr));
        let line = lines(&output).remove(0);
        assert!(
            line.starts_with(&format!("{claim} ")) && line.contains(" can't be told here "),
            "{limit}: {line}"
        );
        assert!(line.contains(told), "{limit}: {line}");
        let judged = claims(&result(&folder)).remove(0);
        let findings = judged["findings"].as_array().unwrap();
        let found = findings.iter().find(|finding| finding["number"]["unit"] == "count");
        assert_eq!(found.unwrap()["number"]["value"], f64::from(reached), "{limit}: {line}");
    }
}

#[test]
fn mistakes_are_one_line() {
    let folder = folder();
    let error = |arguments: &[&str]| {
        let output = command(&folder, arguments).output().unwrap();
        (output.status.code(), text(&output.stderr))
    };
    let (code, told) = error(&["C166"]);
    assert_eq!((code, told.as_str()), (Some(1), "error: no claim \"C166\"; the nearest are C16, C1, C6\n"));
    let (code, told) = error(&["--tier", "full"]);
    assert!(code == Some(2) && told.contains("invalid value 'full'"), "{told}");
    let (code, told) = error(&["--resume", folder.path().to_str().unwrap()]);
    assert!(code == Some(1) && told.ends_with("asks about no claims\n"), "{told}");
}
