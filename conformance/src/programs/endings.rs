//! How a drain ends that clients don't let end by itself: what they get, what the log and the operator are told.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::service::shutdown::HURRY_MAX;
use libtest_mimic::Failed;
use rustix::process::Signal;

use super::Needs::Server;
use super::{DONE, Ground, Needs, Outcome, Test};
use crate::client::{Client, PATIENCE};
use crate::deadline;
use crate::load::{Download, expect_end};
use crate::program::Ended;

pub(super) const TESTS: &[(&str, Needs, Test)] = &[
    ("what_the_kernel_has_taken_arrives", Server, what_the_kernel_has_taken_arrives),
    ("only_answers_are_counted", Server, only_answers_are_counted),
    ("a_drain_says_what_it_waits_for", Server, a_drain_says_what_it_waits_for),
    ("a_second_signal_ends_at_once", Server, a_second_signal_ends_at_once),
    ("a_second_signal_cuts_nothing", Server, a_second_signal_cuts_nothing),
];

const SOON: Duration = Duration::from_secs(10);

fn scratch_log(ground: Ground<'_>, name: &str) -> Result<PathBuf, Failed> {
    Ok(ground.sites.scratch(&format!("endings-{}-{name}", ground.program))?.join("access.log"))
}

/// The content bytes of each line of a log, the fewest first.
fn logged(log: &Path) -> Result<Vec<u64>, Failed> {
    let log = fs::read_to_string(log)?;
    let bytes_of = |line: &str| line.split("\" 200 ").nth(1)?.split(' ').next()?.parse().ok();
    let mut bytes: Vec<u64> = log.lines().filter_map(bytes_of).collect();
    bytes.sort_unstable();
    Ok(bytes)
}

fn expect(ended: &Ended, code: i32, words: Option<&str>) -> Result<(), Failed> {
    let is_usual = |line: &&str| line.contains(": serving ") || line.contains(": waiting up to ");
    let lines: Vec<_> = ended.errors.lines().filter(|line| !is_usual(line)).collect();
    let said = match (words, lines.as_slice()) {
        (None, []) => true,
        (Some(words), [line]) => line.contains(words),
        _ => false,
    };
    if ended.status.code() == Some(code) && said {
        return Ok(());
    }
    Err(format!("not {code} with one line, {words:?}: {ended:?}").into())
}

/// The log tells of each answer that was given up no more than its client gets.
fn expect_no_lies(log: &Path, mut taken: Vec<u64>) -> Result<(), Failed> {
    let logged = logged(log)?;
    taken.sort_unstable();
    let is_true = logged.iter().zip(&taken).all(|(logged, taken)| logged <= taken && *logged > 0);
    if logged.len() == taken.len() && is_true {
        return Ok(());
    }
    Err(format!("logged: {logged:?}; what has arrived: {taken:?}").into())
}

/// Clients that don't read get what was on its way, and its end, although the process is gone. One of them has asked for
/// more, which the server hasn't read.
fn what_the_kernel_has_taken_arrives(ground: Ground<'_>) -> Outcome {
    for workers in ["1", "2"] {
        let log = scratch_log(ground, &format!("grace-{workers}"))?;
        let log_flag = format!("--access-log={}", log.display());
        let mut running = ground.serve(&["--grace", "3s", "--workers", workers, &log_flag])?;
        let address = running.addresses(1)?[0];
        let mut downloads = (0..3).map(|_| Download::begin(address)).collect::<Result<Vec<_>, _>>()?;
        downloads[0].ask_more()?;
        running.signal(Signal::TERM)?;
        let ended = running.wait(SOON)?;
        expect(&ended, 1, Some("3 connections were cut off in an answer when --grace (3s) was over"))?;
        let taken = downloads.into_iter().map(Download::expect_cut).collect::<Result<_, _>>()?;
        expect_no_lies(&log, taken)?;
    }
    DONE
}

/// Half a request, an idle connection, and one that lingers: nobody is owed anything.
fn only_answers_are_counted(ground: Ground<'_>) -> Outcome {
    let mut running = ground.serve(&["--grace", "3s"])?;
    let address = running.addresses(1)?[0];
    let mut idle = Client::connect(address)?;
    idle.get("/digits.txt")?;
    let mut partial = Client::connect(address)?;
    partial.send(b"GET /digits.txt HTTP/1.1\r\n")?;
    running.signal(Signal::TERM)?;
    expect_end(&mut idle)?;
    let ended = running.wait(SOON)?;
    expect(&ended, 0, None)?;
    expect_end(&mut partial)?;
    DONE
}

/// Who waits is told what for, and how not to; who needn't wait is told nothing.
fn a_drain_says_what_it_waits_for(ground: Ground<'_>) -> Outcome {
    for (count, words) in [(1, "1 connection"), (2, "2 connections")] {
        let mut running = ground.serve(&["--workers", "2", "--grace", "20s"])?;
        let address = running.addresses(1)?[0];
        let mut downloads = (0..count).map(|_| Download::begin(address)).collect::<Result<Vec<_>, _>>()?;
        let mut idle = Client::connect(address)?;
        idle.get("/digits.txt")?;
        running.signal(Signal::INT)?;
        let name = ground.program;
        let line = format!("{name}: waiting up to 20s for {words}; a second signal ends it at once\n");
        deadline::within(PATIENCE, "a word on what is waited for", || running.errors().ends_with(&line))?;
        for download in &mut downloads {
            download.finish()?;
        }
        let ended = running.wait(SOON)?;
        expect(&ended, 0, None)?;
    }
    let mut running = ground.serve(&["--grace", "20s"])?;
    let mut idle = Client::connect(running.addresses(1)?[0])?;
    idle.get("/digits.txt")?;
    running.signal(Signal::INT)?;
    expect_end(&mut idle)?;
    drop(idle);
    let ended = running.wait(SOON)?;
    if ended.errors.contains("waiting") { Err(format!("{ended:?}").into()) } else { DONE }
}

fn a_second_signal_ends_at_once(ground: Ground<'_>) -> Outcome {
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let log = scratch_log(ground, &format!("signal-{code}"))?;
        let log_flag = format!("--access-log={}", log.display());
        let mut running = ground.serve(&["--workers", "2", &log_flag])?;
        let address = running.addresses(1)?[0];
        let stuck = [Download::begin(address)?, Download::begin(address)?];
        let mut partial = Client::connect(address)?;
        partial.send(b"GET /digits.txt HTTP/1.1\r\n")?;
        running.signal(signal)?;
        // Wait until the first signal has been handled: two pending signals would merge into one.
        deadline::within(PATIENCE, "the drain to begin", || TcpStream::connect(address).is_err())?;
        running.signal(signal)?;
        let begun = Instant::now();
        let ended = running.wait(SOON)?;
        if begun.elapsed() > HURRY_MAX * 2 {
            return Err(format!("after {:?}: {ended:?}", begun.elapsed()).into());
        }
        expect(&ended, code, Some("2 connections were cut off in an answer by a second signal"))?;
        let taken = stuck.into_iter().map(Download::expect_cut).collect::<Result<_, _>>()?;
        expect_no_lies(&log, taken)?;
        expect_end(&mut partial)?;
    }
    DONE
}

/// Nothing is under way but a request that isn't whole.
fn a_second_signal_cuts_nothing(ground: Ground<'_>) -> Outcome {
    let mut running = ground.serve(&[])?;
    let address = running.addresses(1)?[0];
    let mut partial = Client::connect(address)?;
    partial.send(b"GET /digits.txt HTTP/1.1\r\n")?;
    running.signal(Signal::TERM)?;
    deadline::within(PATIENCE, "the drain to begin", || TcpStream::connect(address).is_err())?;
    running.signal(Signal::TERM)?;
    expect(&running.wait(SOON)?, 143, None)?;
    expect_end(&mut partial)?;
    DONE
}
