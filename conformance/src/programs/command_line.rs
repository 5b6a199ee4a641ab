//! Flags and errors: exit code 2 for bad usage, exit code 1 and one line if the server can't start.

use std::net::TcpListener;
use std::process::Stdio;
use std::time::Duration;

use libtest_mimic::Failed;

use super::Needs::{Nothing, Server};
use super::{DONE, Ground, Needs, Outcome, Test};
use crate::backend::Backend;
use crate::client::Client;
use crate::confined;
use crate::deadline;
use crate::program::{Ended, Program, Running};

pub(super) const TESTS: &[(&str, Needs, Test)] = &[
    ("version", Nothing, version),
    ("help", Nothing, help),
    ("generated", Nothing, generated),
    ("help_that_cannot_be_written", Nothing, help_that_cannot_be_written),
    ("a_site_is_checked", Nothing, a_site_is_checked),
    ("a_value_without_its_equals_sign", Nothing, a_value_without_its_equals_sign),
    ("bad_usage", Nothing, bad_usage),
    ("bad_addresses", Nothing, bad_addresses),
    ("a_wrong_variable_is_named", Nothing, a_wrong_variable_is_named),
    ("root_is_missing", Nothing, root_is_missing),
    ("root_is_a_file", Nothing, root_is_a_file),
    ("port_in_use", Nothing, port_in_use),
    ("port_in_use_by_the_same_program", Server, port_in_use_by_the_same_program),
    ("two_started_at_once", Server, two_started_at_once),
    ("address_of_another_machine", Nothing, address_of_another_machine),
    ("log_cannot_be_written", Nothing, log_cannot_be_written),
    ("a_negative_time_is_told_as_such", Nothing, a_negative_time_is_told_as_such),
    ("io_uring_is_forbidden", Nothing, io_uring_is_forbidden),
    ("io_uring_is_missing", Nothing, io_uring_is_missing),
];

const PATIENCE: Duration = Duration::from_secs(10);

fn run(ground: Ground<'_>, arguments: &[&str]) -> Result<Ended, Failed> {
    Running::start(&mut ground.command(arguments)?)?.wait(PATIENCE)
}

fn expect_code(ended: &Ended, code: i32) -> Result<(), Failed> {
    if ended.status.code() == Some(code) { Ok(()) } else { Err(format!("not {code}: {ended:?}").into()) }
}

/// Expects exit code 1 and one line on standard error that contains `expected`.
fn expect_refusal(ended: &Ended, ground: Ground<'_>, expected: &str) -> Result<(), Failed> {
    expect_code(ended, 1)?;
    let line = ended.errors.strip_suffix('\n').unwrap_or_default();
    let is_error =
        line.strip_prefix(&format!("{}: error: ", ground.program)).is_some_and(|rest| !rest.is_empty());
    if is_error && !line.contains('\n') && line.contains(expected) && ended.output.is_empty() {
        Ok(())
    } else {
        Err(format!("not one line with \"{expected}\": {ended:?}").into())
    }
}

fn version(ground: Ground<'_>) -> Outcome {
    for flag in ["--version", "-V"] {
        let ended = run(ground, &[flag])?;
        expect_code(&ended, 0)?;
        if ended.output != format!("{} {}\n", ground.program, env!("CARGO_PKG_VERSION"))
            || !ended.errors.is_empty()
        {
            return Err(format!("{ended:?}").into());
        }
    }
    DONE
}

/// `-h` fits a screen, and `--help` has everything.
fn help(ground: Ground<'_>) -> Outcome {
    let short = run(ground, &["-h"])?;
    expect_code(&short, 0)?;
    let lines = short.output.lines().count();
    let widest = short.output.lines().map(str::len).max().unwrap_or_default();
    let has_examples = short.output.matches(&format!("\n  {} ", ground.program)).count() == 3;
    if lines > 40 || widest > 80 || short.output.contains("TRIPTYCH_") || !has_examples {
        return Err(format!("{lines} lines, {widest} columns: {}", short.output).into());
    }
    let long = run(ground, &["--help"])?;
    expect_code(&long, 0)?;
    for word in [
        "ROOT",
        "--listen",
        "--workers",
        "--connections-max",
        "--head-timeout",
        "--idle-timeout",
        "--send-timeout",
        "--send-rate-min",
        "--grace",
        "--hidden",
        "--symlinks",
        "--listing",
        "--index",
        "--spa",
        "--clean-urls",
        "--cache-control",
        "--header",
        "--cors",
        "--mime",
        "--access-log",
        "--stats",
        "--copy",
        "TRIPTYCH_LISTEN",
        "--port",
        "--socket-mode",
        "--generate",
        "[env: TRIPTYCH_SOCKET_MODE=]",
    ] {
        if !long.output.contains(word) {
            return Err(format!("--help doesn't mention {word}").into());
        }
    }
    for word in ["ROOT", "--port", "--listen", "--listing", "Where to listen:", "Limits:"] {
        if !short.output.contains(word) {
            return Err(format!("-h doesn't mention {word}: {}", short.output).into());
        }
    }
    if long.output.contains("--tune") != (ground.program.backend() != Backend::Blocking) {
        return Err("--tune is for epoll and uring".into());
    }
    DONE
}

/// All that `--help` has is in each of them. A reader that goes away is no fault.
fn generated(ground: Ground<'_>) -> Outcome {
    let help = run(ground, &["--help"])?.output;
    let flags: Vec<&str> = help.lines().filter(|line| line.trim_start().starts_with('-')).collect();
    let flags: Vec<&str> = flags.iter().filter_map(|line| Some(line.split_once("--")?.1)).collect();
    let flags: Vec<&str> = flags.iter().filter_map(|flag| flag.split(['[', ' ']).next()).collect();
    if flags.len() < 30 {
        return Err(format!("{flags:?}").into());
    }
    for what in ["complete-bash", "complete-zsh", "complete-fish", "man"] {
        let ended = run(ground, &["--generate", what])?;
        expect_code(&ended, 0)?;
        let text = ended.output.replace("\\-", "-");
        let dashes = if what == "complete-fish" { "-l " } else { "--" };
        let missing = flags.iter().find(|flag| !text.contains(&format!("{dashes}{flag}")));
        if missing.is_some() || !ended.errors.is_empty() {
            return Err(format!("{what}: {missing:?}, {}", ended.errors).into());
        }
        let (reader, writer) = std::io::pipe()?;
        drop(reader);
        let mut command = ground.command(&["--generate", what])?;
        let unread = Running::start_writing_to(command.stdout(writer).stderr(Stdio::piped()))?;
        let unread = unread.wait(PATIENCE)?;
        if unread.status.code() != Some(0) || !unread.errors.is_empty() {
            return Err(format!("{what}, unread: {unread:?}").into());
        }
    }
    let full = std::fs::File::options().write(true).open("/dev/full")?;
    let mut command = ground.command(&["--generate", "man"])?;
    let lost = Running::start_writing_to(command.stdout(full).stderr(Stdio::piped()))?.wait(PATIENCE)?;
    expect_refusal(&lost, ground, "standard output: No space left on device")?;
    DONE
}

/// A disk that is full, or a reader that has had enough.
fn help_that_cannot_be_written(ground: Ground<'_>) -> Outcome {
    for flag in ["-h", "--help", "--version"] {
        let full = std::fs::File::options().write(true).open("/dev/full")?;
        let mut command = ground.command(&[flag])?;
        let lost = Running::start_writing_to(command.stdout(full).stderr(Stdio::piped()))?.wait(PATIENCE)?;
        expect_refusal(&lost, ground, "standard output: No space left on device")?;
        let (reader, writer) = std::io::pipe()?;
        drop(reader);
        let mut command = ground.command(&[flag])?;
        let unread = Running::start_writing_to(command.stdout(writer).stderr(Stdio::piped()))?;
        let unread = unread.wait(PATIENCE)?;
        if unread.status.code() != Some(0) || !unread.errors.is_empty() {
            return Err(format!("{flag}, unread: {unread:?}").into());
        }
    }
    DONE
}

/// As before a deployment: while a server has the address, and without a trace.
fn a_site_is_checked(ground: Ground<'_>) -> Outcome {
    let other = TcpListener::bind("127.0.0.1:0")?;
    let address = other.local_addr()?.to_string();
    let folder = tempfile::tempdir()?;
    let root = folder.path().to_str().ok_or("not UTF-8")?;
    let log = format!("--access-log={root}/access.log");
    let check = || run(ground, &["--check", "--listen", &address, &log, root]);
    let name = ground.program;
    std::fs::write(folder.path().join("_headers"), "/*\n  A: b\n")?;
    let ended = check()?;
    expect_code(&ended, 0)?;
    let fine = format!("{name}: {root}: 1 rule in _headers, no rules in _redirects; nothing is wrong\n");
    if ended.errors != fine || folder.path().join("access.log").exists() {
        return Err(format!("{ended:?}").into());
    }
    std::fs::write(folder.path().join("_redirects"), "/a /b\n\nnonsense\n/c\n")?;
    let ended = check()?;
    expect_code(&ended, 1)?;
    let lines: Vec<&str> = ended.errors.lines().collect();
    let is_told = |line: &&str, number: u32| {
        line.starts_with(&format!("{name}: error: {root}/_redirects: line {number}: "))
    };
    let counted = "2 faults in its rules; without those, 1 rule in _headers, 1 rule in _redirects";
    let [first, second, sum] = lines[..] else { return Err(format!("{ended:?}").into()) };
    if !is_told(&first, 3) || !is_told(&second, 4) || sum != format!("{name}: error: {root}: {counted}") {
        return Err(format!("{ended:?}").into());
    }
    expect_refusal(&run(ground, &["--check", "/nowhere/at/all"])?, ground, "/nowhere/at/all")?;
    expect_code(&run(ground, &["--check", "--workers", "0", root])?, 2)?;
    DONE
}

/// `foo` is the root then, whatever was meant.
fn a_value_without_its_equals_sign(ground: Ground<'_>) -> Outcome {
    let ended = run(ground, &["--access-log", "foo", "site"])?;
    expect_code(&ended, 2)?;
    if !ended.errors.contains("write --access-log=foo") {
        return Err(format!("{ended:?}").into());
    }
    let ended = run(ground, &["-l", "127.0.0.1:0", "--access-log", "/nowhere/a.log"])?;
    expect_refusal(&ended, ground, "or write --access-log=/nowhere/a.log")?;
    DONE
}

/// One line each, which says what would be right.
fn bad_addresses(ground: Ground<'_>) -> Outcome {
    for (arguments, expected) in [
        (&["-l", "nowhere"][..], "names aren't looked up; write it like 127.0.0.1:8080"),
        (&["-l", "localhost"], "the port is missing; write it like localhost:8080"),
        (&["-l", "127.0.0.1:99999"], "a port is a number from 0 (any free one) to 65535"),
        (&["-l", "http://127.0.0.1:8080/"], "write it like 127.0.0.1:8080"),
        (&["-l", "/run/x.sock"], "write unix:/run/x.sock"),
        (&["-l", "unix:"], "the path is missing"),
        (&["-l", "::1:8080"], "like [::1]:8080"),
        (&["-l", "8080", "-l", "0.0.0.0:8080"], "--listen: 127.0.0.1:8080 and 0.0.0.0:8080 overlap"),
        (&["-l", "unix:a", "-l", "unix:a"], "--listen has unix:a twice"),
        (&["-p", "http"], "a port is a number"),
        (&["-p", "-1"], "a port is a number"),
        (&["-p", "1", "-l", ":2"], "--port and --listen both say where to listen"),
        (&["--socket-mode", "rw"], "octal digits, like 660"),
        (&["--lisen", ":1"], "'--listen'"),
        (&["--generate", "complete-csh"], "complete-bash, complete-zsh, complete-fish, man"),
    ] {
        let ended = run(ground, arguments)?;
        expect_code(&ended, 2)?;
        let name = format!("{}: error: ", ground.program);
        let is_named = ended.errors.starts_with(&name);
        if !is_named || !ended.errors.contains(expected) || !ended.output.is_empty() {
            return Err(format!("{arguments:?}: {ended:?}").into());
        }
    }
    let mut command = ground.command(&[])?;
    let both = command.env("TRIPTYCH_PORT", "1").env("TRIPTYCH_LISTEN", ":2");
    let ended = Running::start(both)?.wait(PATIENCE)?;
    expect_code(&ended, 2)?;
    if !ended.errors.contains("TRIPTYCH_PORT and TRIPTYCH_LISTEN both say where to listen") {
        return Err(format!("{ended:?}").into());
    }
    DONE
}

fn bad_usage(ground: Ground<'_>) -> Outcome {
    for arguments in [
        &["--nonsense"][..],
        &["one", "two"],
        &["--workers", "0"],
        &["--workers", "many"],
        &["--listen", "nowhere"],
        &["--connections-max", "0"],
        &["--head-timeout", "soon"],
        &["--idle-timeout", "0s"],
        &["--grace", "-1s"],
        &["--grace", "3000years"],
        &["--workers", "-1"],
        &["--symlinks", "all"],
        &["--stats=often"],
        &["--copy", "magic"],
        &["--index", "a/b"],
        &["--cache-control", "no-cache\r\nA: b"],
        &["--cache-control", ""],
        &["--header", "X"],
        &["--header", "Content-Length: 3"],
        &["--cors=example.com"],
        &["--mime", "wasm"],
        &["--access-log-format", "json"],
    ] {
        let ended = run(ground, arguments)?;
        expect_code(&ended, 2)
            .map_err(|failed| format!("{arguments:?}: {}", failed.message().unwrap_or_default()))?;
        if ended.errors.is_empty() || !ended.output.is_empty() {
            return Err(format!("{arguments:?}: {ended:?}").into());
        }
    }
    DONE
}

fn a_negative_time_is_told_as_such(ground: Ground<'_>) -> Outcome {
    for flag in ["--grace", "--head-timeout", "--idle-timeout", "--send-timeout"] {
        for arguments in [&[flag, "-1s"][..], &[&format!("{flag}=-1s")]] {
            let ended = run(ground, arguments)?;
            expect_code(&ended, 2)?;
            if !ended.errors.contains("can't be negative; write it like") || !ended.errors.contains(flag) {
                return Err(format!("{arguments:?}: {ended:?}").into());
            }
        }
    }
    DONE
}

/// Who sets variables never wrote the flag, so the message must name what they wrote.
fn a_wrong_variable_is_named(ground: Ground<'_>) -> Outcome {
    for (variable, value, hint) in [
        ("TRIPTYCH_WORKERS", "zero", "zero"),
        ("TRIPTYCH_LISTING", "perhaps", "perhaps"),
        ("TRIPTYCH_SYMLINKS", "all", "beneath, deny"),
        ("TRIPTYCH_LISTEN", "127.0.0.1:0,nowhere", "nowhere"),
        ("TRIPTYCH_PORT", "http", "a port is a number from 0 (any free one) to 65535"),
        ("TRIPTYCH_SOCKET_MODE", "rw", "octal digits"),
        ("TRIPTYCH_STATS", "often", "often"),
        ("TRIPTYCH_INDEX", "a/b", "index.html"),
        ("TRIPTYCH_SPA", "perhaps", "perhaps"),
        ("TRIPTYCH_CLEAN_URLS", "perhaps", "perhaps"),
        ("TRIPTYCH_CACHE_CONTROL", "a\u{7f}", "max-age=3600"),
        ("TRIPTYCH_HEADER", "A: b\nDate: now\n", "`Date` is a field that the server alone sets"),
        ("TRIPTYCH_CORS", "1", "https://example.com"),
        ("TRIPTYCH_MIME", "a=b/c\nwasm", "ext=type/subtype"),
    ] {
        let mut command = ground.command(&["--grace", "1s"])?;
        let ended = Running::start(command.env(variable, value))?.wait(PATIENCE)?;
        expect_code(&ended, 2)?;
        let line = ended.errors.strip_suffix('\n').unwrap_or_default();
        if !line.contains(variable) || !line.contains(hint) || line.contains('\n') || line.contains("'--") {
            return Err(format!("{variable}={value}: {}", ended.errors).into());
        }
    }
    // The flag that is wrong besides a good variable.
    let mut command = ground.command(&["--workers", "0"])?;
    let ended = Running::start(command.env("TRIPTYCH_WORKERS", "2"))?.wait(PATIENCE)?;
    if ended.status.code() != Some(2) || !ended.errors.contains("'--workers <N>'") {
        return Err(format!("{ended:?}").into());
    }
    DONE
}

fn root_is_missing(ground: Ground<'_>) -> Outcome {
    let ended = run(ground, &["--listen", "127.0.0.1:0", "/nowhere/at/all"])?;
    expect_refusal(&ended, ground, "/nowhere/at/all")?;
    DONE
}

fn root_is_a_file(ground: Ground<'_>) -> Outcome {
    let mut command = ground.command(&["--listen", "127.0.0.1:0"])?;
    let ended = Running::start(command.arg(ground.sites.main().join("digits.txt")))?.wait(PATIENCE)?;
    expect_refusal(&ended, ground, "not a directory")?;
    DONE
}

fn port_in_use(ground: Ground<'_>) -> Outcome {
    let other = TcpListener::bind("127.0.0.1:0")?;
    let address = other.local_addr()?.to_string();
    let ended = run(ground, &["--listen", &address])?;
    expect_refusal(&ended, ground, "address in use")?;
    DONE
}

/// Workers share a port among themselves. That must not let another server share it.
fn port_in_use_by_the_same_program(ground: Ground<'_>) -> Outcome {
    let mut first = ground.serve(&["--workers", "2"])?;
    let address = first.addresses(1)?[0].to_string();
    let ended = run(ground, &["--listen", &address])?;
    expect_refusal(&ended, ground, "address in use")?;
    DONE
}

/// One of them serves, and the other is refused: they must not share the port, nor take it from each other.
fn two_started_at_once(ground: Ground<'_>) -> Outcome {
    for workers in ["1", "3"].repeat(10) {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let start = || {
            let mut command = ground.command(&["--listen", &address, "--workers", workers])?;
            Running::start(command.arg(ground.sites.main()))
        };
        let (mut one, mut other) = (start()?, start()?);
        deadline::within(PATIENCE, "one of two to be refused", || one.has_ended() || other.has_ended())?;
        let (mut serving, refused) = if other.has_ended() { (one, other) } else { (other, one) };
        expect_refusal(&refused.wait(PATIENCE)?, ground, "address in use")?;
        Client::connect(serving.addresses(1)?[0])?.get("/digits.txt")?;
    }
    DONE
}

fn address_of_another_machine(ground: Ground<'_>) -> Outcome {
    // 192.0.2.0/24 is reserved for documentation (RFC 5737): no machine has it.
    let ended = run(ground, &["--listen", "192.0.2.1:0"])?;
    expect_refusal(&ended, ground, "192.0.2.1")?;
    DONE
}

fn log_cannot_be_written(ground: Ground<'_>) -> Outcome {
    let ended = run(ground, &["--listen", "127.0.0.1:0", "--access-log=/nowhere/at/all.log"])?;
    expect_refusal(&ended, ground, "/nowhere/at/all.log")?;
    DONE
}

/// Like a container with a strict seccomp policy.
fn io_uring_is_forbidden(ground: Ground<'_>) -> Outcome {
    expect_service_or_refusal(ground, libc::EPERM, "seccomp")
}

/// Like a kernel built without io_uring.
fn io_uring_is_missing(ground: Ground<'_>) -> Outcome {
    expect_service_or_refusal(ground, libc::ENOSYS, "kernel")
}

/// Without io_uring, the other servers work. `uring` explains the problem and names an alternative.
fn expect_service_or_refusal(ground: Ground<'_>, errno: i32, reason: &str) -> Outcome {
    let command = ground.command(&["--listen", "127.0.0.1:0"])?;
    let mut command = confined::without_io_uring(&command, errno)?;
    match ground.program {
        Program::Of(Backend::Blocking | Backend::Epoll) => {
            Running::start(command.arg(ground.sites.main()))?.addresses(1)?;
        }
        Program::Triptych => {
            let mut running = Running::start(command.arg(ground.sites.main()))?;
            running.addresses(1)?;
            let said = running.errors();
            if !said.contains(reason) || !said.contains("/ with epoll (") {
                return Err(format!("it said: {said}").into());
            }
        }
        Program::Of(Backend::Uring) => {
            let ended = Running::start(&mut command)?.wait(PATIENCE)?;
            expect_refusal(&ended, ground, reason)?;
            expect_refusal(&ended, ground, "`epoll` serves the same site")?;
        }
    }
    DONE
}
