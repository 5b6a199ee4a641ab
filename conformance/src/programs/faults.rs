//! What goes wrong with files and rules while requests are answered is said to the operator, in bounded numbers.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use common::site::fault_log::BURST_MAX;
use libtest_mimic::{Completion, Failed};
use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};

use super::Needs::Server;
use super::{DONE, Ground, Needs, Outcome, Test};
use crate::client::Client;
use crate::deadline;
use crate::load::Download;
use crate::program::Running;

pub(super) const TESTS: &[(&str, Needs, Test)] = &[
    ("a_file_that_may_not_be_read", Server, a_file_that_may_not_be_read),
    ("a_file_that_shrinks", Server, a_file_that_shrinks),
    ("a_rule_without_its_target", Server, a_rule_without_its_target),
    ("more_fields_than_an_answer_holds", Server, more_fields_than_an_answer_holds),
];

const PATIENCE: Duration = Duration::from_secs(10);

fn serve(ground: Ground<'_>, root: &Path) -> Result<Running, Failed> {
    let mut command = ground.command(&["--listen", "127.0.0.1:0", "--workers", "1"])?;
    Running::start(command.arg(root))
}

/// As [`serve`], by somebody who may read only what permissions allow. `None` if this one can't be had.
fn serve_without_privilege(ground: Ground<'_>, root: &Path) -> Result<Option<Running>, Failed> {
    let start = || -> Result<Option<Running>, Failed> {
        // What a program that root executes is allowed is bounded by this thread's set (capabilities(7)).
        let is_bounded = [CapabilitySet::DAC_OVERRIDE, CapabilitySet::DAC_READ_SEARCH]
            .into_iter()
            .all(|capability| remove_capability_from_bounding_set(capability).is_ok());
        if !is_bounded && rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        serve(ground, root).map(Some)
    };
    thread::scope(|scope| scope.spawn(start).join()).unwrap_or_else(|_| Err("it panicked".into()))
}

fn expect_said(running: &Running, line: &str, times: usize) -> Result<(), Failed> {
    let said = || running.errors().lines().filter(|said| *said == line).count();
    deadline::within(PATIENCE, "a word on the fault", || said() >= times)
        .map_err(|_| format!("not \"{line}\": {}", running.errors()))?;
    if said() == times { Ok(()) } else { Err(format!("{} times: {line}", said()).into()) }
}

/// The first ones are said, the rest is a number: a client that asks all the time doesn't fill the journal.
fn a_file_that_may_not_be_read(ground: Ground<'_>) -> Outcome {
    const ASKED: usize = 100;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("a\n b.txt");
    fs::write(&file, "secret")?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o000))?;
    let Some(mut running) = serve_without_privilege(ground, folder.path())? else {
        return Ok(Completion::ignored_with("needs the right to be less privileged"));
    };
    let mut client = Client::connect(running.addresses(1)?[0])?;
    for _ in 0..ASKED {
        let status = client.get("/a%0A%20b.txt")?.status;
        if status != 403 {
            return Err(format!("{status}").into());
        }
    }
    client.get("/missing")?;
    let begin = format!("{}: {}/", ground.program, folder.path().display());
    let line = format!("{begin}a  b.txt: can't be served: Permission denied (os error 13)");
    let said = || running.errors().lines().filter(|said| said.starts_with(&line)).count();
    let burst = BURST_MAX as usize;
    let is_counted = || running.errors().contains("more faults of files and rules weren't said");
    deadline::within(PATIENCE, "the number of the others", is_counted)
        .map_err(|_| format!("it said: {}", running.errors()))?;
    let untold = |said: &str| {
        let word = said.split(' ').rev().zip(said.split(' ').rev().skip(1));
        let mut numbers = word.filter_map(|(next, number)| (next == "more").then_some(number));
        numbers.next().and_then(|number| number.trim_start_matches('(').parse::<usize>().ok()).unwrap_or(0)
    };
    let errors = running.errors();
    let counted: usize = said() + errors.lines().map(untold).sum::<usize>();
    // A slow machine takes seconds to ask, and one more line is said in each.
    if !(burst..burst + 10).contains(&said()) || counted != ASKED || errors.contains("/missing") {
        return Err(format!("{} lines, {counted} in all: {errors}", said()).into());
    }
    running.end()?;
    DONE
}

fn a_file_that_shrinks(ground: Ground<'_>) -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = fs::canonicalize(folder.path())?.join("8m.bin");
    fs::copy(ground.sites.main().join("8m.bin"), &path)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644))?;
    let mut running = serve(ground, folder.path())?;
    let download = Download::begin(running.addresses(1)?[0])?;
    File::options().write(true).open(&path)?.set_len(1 << 16)?;
    download.expect_cut()?;
    let line = format!(
        "{}: {}: an answer was cut short: the file is shorter than its size was, or can't be read",
        ground.program,
        path.display()
    );
    expect_said(&running, &line, 1)?;
    running.end()?;
    DONE
}

/// Each rule once, and those of which the target depends on the request not at all: clients ask for anything.
fn a_rule_without_its_target(ground: Ground<'_>) -> Outcome {
    let folder = tempfile::tempdir()?;
    fs::write(folder.path().join("_redirects"), "/any/* /other/:splat 200\n/a /b.html 200\n")?;
    let mut running = serve(ground, folder.path())?;
    let mut client = Client::connect(running.addresses(1)?[0])?;
    for target in ["/any/x", "/a", "/a", "/any/y", "/a"] {
        let status = client.get(target)?.status;
        if status != 404 {
            return Err(format!("{status} for {target}").into());
        }
    }
    let (name, root) = (ground.program, folder.path().display());
    expect_said(
        &running,
        &format!("{name}: {root}/_redirects: line 2: there is no /b.html to be served"),
        1,
    )?;
    if running.errors().contains("/other/") {
        return Err(running.errors().into());
    }
    running.end()?;
    DONE
}

fn more_fields_than_an_answer_holds(ground: Ground<'_>) -> Outcome {
    let folder = tempfile::tempdir()?;
    let value = "x".repeat(8000);
    fs::write(folder.path().join("_headers"), format!("/*\n  A: {value}\n  B: {value}\n  C: {value}\n"))?;
    fs::write(folder.path().join("a.txt"), "a")?;
    let mut running = serve(ground, folder.path())?;
    let mut client = Client::connect(running.addresses(1)?[0])?;
    for _ in 0..3 {
        let response = client.get("/a.txt")?;
        if response.field("A").is_none() || response.field("C").is_some() {
            return Err("the wrong fields".into());
        }
    }
    let (name, root) = (ground.program, folder.path().display());
    let line =
        format!("{name}: {root}/_headers: /a.txt has more than 16 KiB of fields; those beyond are left out");
    expect_said(&running, &line, 1)?;
    running.end()?;
    DONE
}
