//! `bench compare` as a program, on two synthetic runs: what it says, how long that is, and how it exits.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as the tests themselves do")]

use bench::record::{read_record, read_trials};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

/// Who takes part, and the CPU time of a request in nanoseconds.
const SERVERS: [(&str, f64); 6] = [
    ("blocking", 11_700.0),
    ("epoll", 8_300.0),
    ("uring", 7_900.0),
    ("epoll-twin", 8_300.0),
    ("null-epoll", 6_100.0),
    ("nginx", 15_500.0),
];
const ROUNDS: usize = 12;
const NOISE: f64 = 0.02;
/// As many lines as a terminal shows.
const SCREEN: usize = 24;

/// Seeded noise that nobody else depends on: the low bits of a linear congruence, summed to something like a bell.
struct Noise(u64);

impl Noise {
    fn draw(&mut self) -> f64 {
        let mut uniform = || {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) as f64 / f64::from(1_u32 << 31)
        };
        (0..12).map(|_| uniform()).sum::<f64>() - 6.0
    }
}

/// A run of `hot-small` as the harness writes it: plan and machine of the committed run, trials of these costs.
fn write_run(folder: &Path, started: &str, seed: u64, cost: impl Fn(&str) -> f64) {
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../results/reference");
    let mut record = serde_json::to_value(read_record(&committed).unwrap()).unwrap();
    record["started"] = json!(started);
    record["cells"].as_array_mut().unwrap().retain(|cell| cell["scenario"] == "hot-small");
    let trials = read_trials(&committed).unwrap();
    let whole = |trial: &Value| {
        trial["scenario"] == "hot-small" && trial["pass"] == "timing" && trial["void"].is_null()
    };
    let template = trials.iter().map(|trial| serde_json::to_value(trial).unwrap()).find(whole).unwrap();
    let mut noise = Noise(seed);
    let mut lines = String::new();
    for round in 0..ROUNDS {
        let common = 1.0 + 0.05 * noise.draw();
        for (position, (target, usual)) in SERVERS.into_iter().enumerate() {
            let mut trial = template.clone();
            let nanoseconds = usual * cost(target) * common * (NOISE * noise.draw()).exp();
            let answers = trial["classes"][0]["answers"].as_f64().unwrap();
            trial["target"] = json!(target);
            trial["number"] = json!(round * SERVERS.len() + position);
            trial["round"] = json!(round);
            trial["cost"]["cpu_ns"] = json!(format!("{:.0}", nanoseconds * answers).parse::<u64>().unwrap());
            trial["classes"][0]["faults"] = json!({});
            lines.push_str(&format!("{trial}\n"));
        }
    }
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("run.json"), record.to_string()).unwrap();
    fs::write(folder.join("trials.jsonl"), lines).unwrap();
}

/// Two runs, the second of which costs so much more of each server.
fn pair(cost: impl Fn(&str) -> f64) -> (TempDir, [PathBuf; 2]) {
    let home = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let folders = ["before", "after"].map(|name| home.path().join(name));
    write_run(&folders[0], "2026-01-02T03:04:05Z", 1, |_| 1.0);
    write_run(&folders[1], "2026-01-03T03:04:05Z", 2, cost);
    (home, folders)
}

fn compare(folders: &[PathBuf; 2], more: &[&str]) -> (Output, Vec<String>) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_bench")).arg("compare").args(folders).args(more).output().unwrap();
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    (output, text.lines().map(str::to_owned).collect())
}

#[test]
fn two_runs_of_one_commit_do_not_differ_and_that_takes_one_screen() {
    let (_home, folders) = pair(|_| 1.0);
    let (output, lines) = compare(&folders, &[]);
    assert!(output.status.success(), "{output:?}");
    assert!(
        lines[0].starts_with("before: 2026-01-02T03:04:05Z (") && lines[0].contains("), after: 2026-01-03")
    );
    assert!(lines[0].ends_with("; 3 comparisons of 3 servers in 1 cell"), "{lines:?}");
    assert!(
        lines[1].starts_with("no difference beyond noise; half of the comparisons would have shown "),
        "{lines:?}"
    );
    assert!(lines.len() <= SCREEN && lines.iter().all(|line| line.chars().count() <= 200), "{lines:?}");
    assert!(!lines.iter().any(|line| line.contains('→')), "each comparison is for --verbose: {lines:?}");
    let (_, all) = compare(&folders, &["--verbose"]);
    let each: Vec<&String> = all.iter().filter(|line| line.contains('→')).collect();
    assert_eq!(each.len(), 3, "{all:?}");
    assert!(each[0].starts_with("  hot-small, blocking: CPU time per request 1"), "{all:?}");
}

#[test]
fn a_regression_comes_right_behind_the_verdict_and_fails() {
    let (_home, folders) = pair(|target| if target == "blocking" { 1.15 } else { 1.0 });
    let (output, lines) = compare(&folders, &[]);
    assert_eq!(output.status.code(), Some(1), "{lines:?}");
    assert_eq!(lines[1], "1 regression; 1 change beyond noise, 0 for the better:");
    assert!(lines[2].starts_with("  hot-small, blocking: CPU time per request worse, 1"), "{lines:?}");
    assert!(lines[2].contains(", 1.1") && lines[2].ends_with("] without the machine's drift"), "{lines:?}");
}

#[test]
fn an_improvement_is_a_success() {
    let (_home, folders) = pair(|target| if target == "uring" { 0.85 } else { 1.0 });
    let (output, lines) = compare(&folders, &[]);
    assert!(output.status.success(), "{lines:?}");
    assert_eq!(lines[1], "no regression; 1 change beyond noise, 1 for the better:");
    assert!(lines[2].starts_with("  hot-small, uring: CPU time per request better, "), "{lines:?}");
}

#[test]
fn a_slower_machine_is_no_difference() {
    let (_home, folders) = pair(|_| 1.3);
    let (output, lines) = compare(&folders, &[]);
    assert!(output.status.success(), "{lines:?}");
    assert!(lines[1].starts_with("no difference beyond noise"), "{lines:?}");
    let drift = lines.iter().find(|line| line.starts_with("taken out: the machine's drift, ")).unwrap();
    assert!(drift.ends_with("more CPU time per request (by nginx, null-epoll)"), "{drift}");
}
