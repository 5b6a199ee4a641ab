//! Outputs that can't be written: no disk, pipe or reader may end the server, silence it, or hold up its exit.

use std::fs;
use std::io::{BufRead, BufReader, PipeReader, Read, pipe};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::ioctl_fionread;
use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};

use super::Needs::Server;
use super::{DONE, Ground, Needs, Outcome, Test};
use crate::client::Client;
use crate::deadline;
use crate::load::Download;
use crate::program::{Running, address_in};
use crate::response::Framing;
use crate::row::get;

pub(super) const TESTS: &[(&str, Needs, Test)] = &[
    ("errors_that_nobody_reads", Server, errors_that_nobody_reads),
    ("errors_into_a_broken_pipe", Server, errors_into_a_broken_pipe),
    ("errors_beyond_a_size_limit", Server, errors_beyond_a_size_limit),
    ("log_beyond_a_size_limit", Server, log_beyond_a_size_limit),
    ("log_that_nobody_reads", Server, log_that_nobody_reads),
    ("log_is_read_again", Server, log_is_read_again),
    ("nothing_outlasts_the_grace_period", Server, nothing_outlasts_the_grace_period),
];

const PATIENCE: Duration = Duration::from_secs(20);
/// Enough for `--grace 1s`.
const SOON: Duration = Duration::from_secs(5);
/// A pipe that this much has gone into (64 KiB fit by default, pipe(7)), and nothing for so long, is full.
const MOST_OF_A_PIPE: u64 = 48 * 1024;
const STILL: Duration = Duration::from_millis(300);

/// The program with its standard error going into a pipe, the end of that pipe, and where it serves.
fn serve_into_a_pipe(
    ground: Ground<'_>,
    arguments: &[&str],
) -> Result<(Running, BufReader<PipeReader>, SocketAddr), Failed> {
    let mut command = ground.command(&["--listen", "127.0.0.1:0", "--workers", "1", "--grace", "1s"])?;
    command.args(arguments).arg(ground.sites.main()).stdout(Stdio::null());
    start_into_a_pipe(command)
}

fn start_into_a_pipe(mut command: Command) -> Result<(Running, BufReader<PipeReader>, SocketAddr), Failed> {
    let (errors, theirs) = pipe()?;
    let running = Running::start_writing_to(command.stderr(theirs))?;
    drop(command);
    let timeout = Timespec::try_from(PATIENCE)?;
    if poll(&mut [PollFd::new(&errors, PollFlags::IN)], Some(&timeout))? == 0 {
        return Err("it doesn't say where it serves".into());
    }
    let mut errors = BufReader::new(errors);
    // A line of the statistics may come first.
    let address = errors.by_ref().lines().map_while(Result::ok).find_map(|line| address_in(&line));
    Ok((running, errors, address.ok_or("it doesn't say where it serves")?))
}

fn expect_service(address: SocketAddr) -> Result<(), Failed> {
    match Client::connect(address)?.get("/digits.txt")?.status {
        200 => Ok(()),
        status => Err(format!("the answer is {status}").into()),
    }
}

fn wait_until_full(pipe: &PipeReader) -> Result<(), Failed> {
    let mut last = (0, Instant::now());
    deadline::within(PATIENCE, "the pipe to be full", || {
        let bytes = ioctl_fionread(pipe).unwrap_or_default();
        if bytes != last.0 {
            last = (bytes, Instant::now());
        }
        bytes >= MOST_OF_A_PIPE && last.1.elapsed() >= STILL
    })
}

fn expect_end(running: Running) -> Outcome {
    running.signal(Signal::TERM)?;
    let ended = running.wait(SOON)?;
    if ended.status.code() == Some(0) { DONE } else { Err(format!("{ended:?}").into()) }
}

fn errors_that_nobody_reads(ground: Ground<'_>) -> Outcome {
    let (running, errors, address) = serve_into_a_pipe(ground, &["--stats=1ms"])?;
    wait_until_full(errors.get_ref())?;
    expect_service(address)?;
    let outcome = expect_end(running);
    drop(errors);
    outcome
}

fn errors_into_a_broken_pipe(ground: Ground<'_>) -> Outcome {
    let (running, errors, address) = serve_into_a_pipe(ground, &["--stats=10ms"])?;
    drop(errors);
    for _ in 0..10 {
        expect_service(address)?;
    }
    expect_end(running)
}

/// The program in a shell that lets no file grow beyond a block of 512 or 1024 bytes. It serves the main site.
fn serve_with_a_size_limit(ground: Ground<'_>, script: &str, arguments: &[&str]) -> Result<Running, Failed> {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("ulimit -S -f 1; {script}"), "sh"]).arg(ground.programs.path(ground.program)?);
    shell.args(["--listen", "127.0.0.1:0", "--workers", "1"]).args(arguments).arg(ground.sites.main());
    Running::start(&mut shell)
}

fn errors_beyond_a_size_limit(ground: Ground<'_>) -> Outcome {
    let path = ground.sites.scratch("size-limit")?.join("errors");
    let script = format!("exec \"$@\" 2>'{}'", path.display());
    let running = serve_with_a_size_limit(ground, &script, &["--stats=10ms"])?;
    let errors = || fs::read_to_string(&path).unwrap_or_default();
    let is_full = || matches!(errors().len(), 512 | 1024);
    deadline::within(PATIENCE, "the limit to be reached", is_full)?;
    let address = errors().lines().find_map(address_in).ok_or("it doesn't say where it serves")?;
    for _ in 0..10 {
        expect_service(address)?;
    }
    expect_end(running)
}

fn log_beyond_a_size_limit(ground: Ground<'_>) -> Outcome {
    let path = ground.sites.scratch("size-limit")?.join("access.log");
    let flag = format!("--access-log={}", path.display());
    let mut running = serve_with_a_size_limit(ground, "exec \"$@\"", &[&flag])?;
    let address = running.addresses(1)?[0];
    for _ in 0..20 {
        expect_service(address)?;
    }
    deadline::within(PATIENCE, "a word on the log", || running.errors().contains("access log: "))?;
    expect_service(address)?;
    // What waits is written as soon as it can be.
    let none = Rlimit { current: None, maximum: None };
    prlimit(Pid::from_raw(running.server_id()?.cast_signed()), Resource::Fsize, none)?;
    let again = || running.errors().contains("access log: it can be written again, no line was lost");
    deadline::within(PATIENCE, "the log to be written again", again)?;
    let outcome = expect_end(running);
    let lines = fs::read_to_string(&path)?.lines().count();
    if lines == 21 { outcome } else { Err(format!("{lines} lines instead of 21").into()) }
}

/// Asks with a line of about 3 KB for the log.
fn ask_at_length(address: SocketAddr, count: usize) -> Result<(), Failed> {
    let mut client = Client::connect(address)?;
    let agent = format!("User-Agent: {}", "u".repeat(3000));
    for _ in 0..count {
        client.send(&get("/digits.txt", &[&agent]))?;
        client.response(Framing::Content)?;
    }
    Ok(())
}

/// The program with its log going into a pipe, and the end of that pipe.
fn log_into_a_pipe(ground: Ground<'_>) -> Result<(Running, PipeReader), Failed> {
    let (log, theirs) = pipe()?;
    let mut command = ground.command(&["--listen", "127.0.0.1:0", "--workers", "1", "--grace", "1s"])?;
    command.arg("--access-log").arg(ground.sites.main()).stdout(theirs).stderr(Stdio::piped());
    Ok((Running::start_writing_to(&mut command)?, log))
}

fn log_that_nobody_reads(ground: Ground<'_>) -> Outcome {
    let (mut running, log) = log_into_a_pipe(ground)?;
    ask_at_length(running.addresses(1)?[0], 60)?;
    wait_until_full(&log)?;
    expect_service(running.addresses(1)?[0])?;
    let outcome = expect_end(running);
    drop(log);
    outcome
}

/// Nobody reads what it says, nobody reads the log, and a client doesn't read its answer: the end comes in time.
fn nothing_outlasts_the_grace_period(ground: Ground<'_>) -> Outcome {
    deadline::in_one_of_three(|| end_with_everything_blocked(ground))?;
    DONE
}

fn end_with_everything_blocked(ground: Ground<'_>) -> Result<(), Failed> {
    const GRACE: Duration = Duration::from_secs(1);
    const NOISE: Duration = Duration::from_millis(200);
    let (log, theirs) = pipe()?;
    let mut command = ground.command(&["--listen", "127.0.0.1:0", "--workers", "1", "--grace", "1s"])?;
    command.args(["--access-log", "--stats=1ms"]).arg(ground.sites.main()).stdout(theirs);
    let (running, errors, address) = start_into_a_pipe(command)?;
    ask_at_length(address, 60)?;
    wait_until_full(&log)?;
    wait_until_full(errors.get_ref())?;
    let stuck = Download::begin(address)?;
    running.signal(Signal::TERM)?;
    let begun = Instant::now();
    let ended = running.wait(SOON)?;
    let elapsed = begun.elapsed();
    drop((log, errors, stuck));
    // The client that takes nothing is cut off.
    if ended.status.code() != Some(1) || !(GRACE * 3 / 4..GRACE + NOISE).contains(&elapsed) {
        return Err(format!("after {elapsed:?}: {ended:?}").into());
    }
    Ok(())
}

/// A reader that was away misses lines, but is told how many, once, and misses none of those that follow.
fn log_is_read_again(ground: Ground<'_>) -> Outcome {
    const COUNT: usize = 1000;
    let (mut running, mut log) = log_into_a_pipe(ground)?;
    let address = running.addresses(1)?[0];
    ask_at_length(address, COUNT)?;
    let reader = thread::spawn(move || {
        let mut text = String::new();
        log.read_to_string(&mut text).map(|_| text)
    });
    let mut lost = Vec::new();
    deadline::within(PATIENCE, "a word on the lines lost", || {
        lost = running.errors().lines().filter_map(lines_lost_in).collect();
        !lost.is_empty()
    })?;
    ask_at_length(address, 10)?;
    running.signal(Signal::TERM)?;
    let ended = running.wait(SOON)?;
    let log = reader.join().map_err(|_| "the reader has panicked")??;
    let lost: Vec<usize> = ended.errors.lines().filter_map(lines_lost_in).collect();
    if lost.len() != 1 || log.lines().count() + lost[0] != COUNT + 10 || !log.ends_with('\n') {
        return Err(format!("{} lines, and it said: {}", log.lines().count(), ended.errors).into());
    }
    let name = format!("{}: ", ground.program);
    if let Some(line) = ended.errors.lines().find(|line| !line.starts_with(&name)) {
        return Err(format!("nobody knows who said `{line}`").into());
    }
    DONE
}

/// `epoll: access log: 12 lines were lost, …`
fn lines_lost_in(line: &str) -> Option<usize> {
    let (_, line) = line.split_once(": access log: ")?;
    let (number, _) = line.split_once(" line")?;
    number.parse().ok()
}
