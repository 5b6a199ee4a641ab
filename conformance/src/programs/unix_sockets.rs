//! Serving over a unix socket: the same answers, and a path that is taken and given back.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use libtest_mimic::Failed;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;

use super::Needs::{Nothing, Server};
use super::{DONE, Ground, Needs, Outcome, Test};
use crate::client::PATIENCE;
use crate::deadline;
use crate::program::Running;
use crate::site::pattern_of;

pub(super) const TESTS: &[(&str, Needs, Test)] = &[
    ("answers_are_those_of_tcp", Server, answers_are_those_of_tcp),
    ("connections_are_kept_and_give_way", Server, connections_are_kept_and_give_way),
    ("a_drain_cuts_nothing", Server, a_drain_cuts_nothing),
    ("who_takes_nothing_is_given_up", Server, who_takes_nothing_is_given_up),
    ("the_log_calls_clients_unix", Server, the_log_calls_clients_unix),
    ("the_path_is_given_back", Server, the_path_is_given_back),
    ("what_was_left_behind_is_replaced", Server, what_was_left_behind_is_replaced),
    ("two_started_at_once", Server, two_started_at_once),
    ("what_is_in_the_way_is_refused", Nothing, what_is_in_the_way_is_refused),
];

/// The size of `/8m.bin`: more than fits into a unix socket.
const LARGE_BYTES: u64 = 8 << 20;

fn scratch(ground: Ground<'_>, name: &str) -> Result<PathBuf, Failed> {
    Ok(ground.sites.scratch(&format!("unix-{}-{name}", ground.program))?)
}

fn address(path: &Path) -> String {
    format!("unix:{}", path.display())
}

/// The program serving the main site at this path, with additional arguments.
fn serve(ground: Ground<'_>, path: &Path, arguments: &[&str]) -> Result<Running, Failed> {
    let mut command = ground.command(&["--listen", &address(path)])?;
    let mut running = Running::start(command.args(arguments).arg(ground.sites.main()))?;
    let line = format!(" on {} ", address(path));
    deadline::within(PATIENCE, "the program to say where it serves", || {
        running.errors().contains(&line) || running.has_ended()
    })?;
    if running.has_ended() { Err(format!("it said: {}", running.errors()).into()) } else { Ok(running) }
}

fn connect(path: &Path) -> io::Result<UnixStream> {
    let stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// All that is answered to these bytes, without what the clock says.
fn answers(mut stream: impl Read + Write, request: &[u8]) -> Result<Vec<u8>, Failed> {
    // A server that refuses may be gone before it has read all of it.
    let _refused = stream.write_all(request);
    let mut answers = Vec::new();
    if let Err(error) = stream.read_to_end(&mut answers)
        && error.kind() != io::ErrorKind::ConnectionReset
    {
        return Err(error.into());
    }
    // Files hold few lines, and none that begins like this.
    let lines = answers.split_inclusive(|byte| *byte == b'\n').filter(|line| !line.starts_with(b"Date: "));
    Ok(lines.collect::<Vec<_>>().concat())
}

/// Requests of all kinds, each of which ends its connection.
fn requests() -> Vec<Vec<u8>> {
    let ask = |method: &str, target: &str, fields: &str| {
        format!("{method} {target} HTTP/1.1\r\nHost: a\r\n{fields}Connection: close\r\n\r\n").into_bytes()
    };
    let kept = b"GET /digits.txt HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut all = vec![
        ask("GET", "/digits.txt", ""),
        ask("GET", "/8m.bin", ""),
        ask("GET", "/8m.bin", "Range: bytes=1000000-7000000\r\n"),
        ask("GET", "/digits.txt", "Range: bytes=0-1,4-5\r\n"),
        ask("HEAD", "/8m.bin", ""),
        ask("GET", "/", ""),
        ask("GET", "/nothing", ""),
        [&ask("POST", "/digits.txt", "Content-Length: 3\r\n")[..], b"abc"].concat(),
        ask("GET", "/../x", ""),
        b"nonsense\r\n\r\n".to_vec(),
        [&kept[..], kept, &ask("GET", "/8m.bin", "")].concat(),
    ];
    // A second time, from the cache.
    all.extend_from_within(..2);
    all
}

fn answers_are_those_of_tcp(ground: Ground<'_>) -> Outcome {
    let path = scratch(ground, "same")?.join("a.sock");
    for flags in
        [&["--workers", "1"][..], &["--workers", "3", "--listing"], &["--copy", "read"], &["--cache", "off"]]
    {
        let mut running = serve(ground, &path, &[&["-l", "127.0.0.1:0"], flags].concat())?;
        let tcp = running.addresses(1)?[0];
        for request in requests() {
            let over_tcp = || -> Result<Vec<u8>, Failed> {
                let stream = TcpStream::connect(tcp)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                answers(stream, &request)
            };
            let (one, other) = (over_tcp()?, answers(connect(&path)?, &request)?);
            if one.is_empty() || one != other {
                let request = request.escape_ascii();
                let shown = |bytes: &[u8]| bytes[..bytes.len().min(300)].escape_ascii().to_string();
                return Err(format!(
                    "{flags:?}, \"{request}\": {} bytes over TCP, \"{}\", and {} over unix, \"{}\"",
                    one.len(),
                    shown(&one),
                    other.len(),
                    shown(&other)
                )
                .into());
            }
        }
        let half_closed = connect(&path)?;
        (&half_closed).write_all(b"GET /digits.txt HTTP/1.1\r\nHost: a\r\n\r\n")?;
        half_closed.shutdown(Shutdown::Write)?;
        if !answers(&half_closed, b"")?.starts_with(b"HTTP/1.1 200 OK\r\n") {
            return Err("no answer to who has closed its side".into());
        }
        end(running)?;
    }
    DONE
}

/// Ends a program that must have nothing to complain of.
fn end(running: Running) -> Result<(), Failed> {
    running.signal(Signal::TERM)?;
    let ended = running.wait(PATIENCE)?;
    let has_complained = ended.errors.lines().any(|line| !line.contains(": serving "));
    if ended.status.code() == Some(0) && !has_complained { Ok(()) } else { Err(format!("{ended:?}").into()) }
}

const REQUEST: &[u8] = b"GET /digits.txt HTTP/1.1\r\nHost: a\r\n\r\n";

/// Sends a request and reads its answer.
fn ask(stream: &mut UnixStream) -> Result<(), Failed> {
    stream.write_all(REQUEST)?;
    read_answer(stream)
}

/// A read with a timeout may be interrupted without a signal, by a ring of this process that is torn down.
fn read(stream: &mut UnixStream, bytes: &mut [u8]) -> io::Result<usize> {
    loop {
        match stream.read(bytes) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

/// Reads an answer of a few bytes.
fn read_answer(stream: &mut UnixStream) -> Result<(), Failed> {
    let mut answer = Vec::new();
    while !answer.ends_with(crate::site::DIGITS.as_bytes()) {
        let mut piece = [0; 4096];
        match read(stream, &mut piece)? {
            0 => return Err(format!("the end, after \"{}\"", answer.escape_ascii()).into()),
            count => answer.extend_from_slice(&piece[..count]),
        }
    }
    Ok(())
}

/// With fewer places than clients: one that has nothing under way gives way, which is told by the end of its connection.
fn connections_are_kept_and_give_way(ground: Ground<'_>) -> Outcome {
    let path = scratch(ground, "places")?.join("a.sock");
    let running = serve(ground, &path, &["--connections-max", "2", "--workers", "1"])?;
    let mut kept = [connect(&path)?, connect(&path)?];
    for _ in 0..3 {
        for stream in &mut kept {
            ask(stream)?;
        }
    }
    let (begun, rest) = REQUEST.split_at(REQUEST.len() / 2);
    kept[1].write_all(begun)?;
    ask(&mut connect(&path)?)?;
    if read(&mut kept[0], &mut [0; 1])? != 0 {
        return Err("the idle one has something to read".into());
    }
    kept[1].write_all(rest)?;
    read_answer(&mut kept[1])?;
    drop(kept);
    end(running)?;
    DONE
}

fn a_drain_cuts_nothing(ground: Ground<'_>) -> Outcome {
    let path = scratch(ground, "drain")?.join("a.sock");
    let running = serve(ground, &path, &["--workers", "2"])?;
    let mut stream = connect(&path)?;
    stream.write_all(b"GET /8m.bin HTTP/1.1\r\nHost: a\r\n\r\n")?;
    let mut answer = vec![0; 1000];
    stream.read_exact(&mut answer)?;
    let mut idle = connect(&path)?;
    ask(&mut idle)?;
    running.signal(Signal::TERM)?;
    if read(&mut idle, &mut [0; 1])? != 0 {
        return Err("an idle connection has something to read".into());
    }
    if !connect(&path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
        return Err("connections are accepted in a drain".into());
    }
    stream.read_to_end(&mut answer)?;
    let head = answer.windows(4).position(|window| window == b"\r\n\r\n").ok_or("half a head")? + 4;
    if (answer.len() - head) as u64 != LARGE_BYTES {
        return Err(format!("{} bytes", answer.len()).into());
    }
    pattern_of(LARGE_BYTES).check(0, &answer[head..])?;
    let ended = running.wait(PATIENCE)?;
    if ended.status.code() == Some(0) { DONE } else { Err(format!("{ended:?}").into()) }
}

/// The server ends the connection, and what was not taken is missing.
fn who_takes_nothing_is_given_up(ground: Ground<'_>) -> Outcome {
    let path = scratch(ground, "slow")?.join("a.sock");
    let _running = serve(ground, &path, &["--send-timeout", "500ms"])?;
    let mut stream = connect(&path)?;
    stream.write_all(b"GET /8m.bin HTTP/1.1\r\nHost: a\r\n\r\n")?;
    let patience = Timespec::try_from(PATIENCE)?;
    let mut events = [PollFd::new(&stream, PollFlags::RDHUP)];
    poll(&mut events, Some(&patience))?;
    if events[0].revents().is_empty() {
        return Err("the server waits for who takes nothing".into());
    }
    let mut answer = Vec::new();
    let outcome = stream.read_to_end(&mut answer);
    if answer.is_empty() || answer.len() as u64 >= LARGE_BYTES {
        return Err(format!("{outcome:?} after {} bytes", answer.len()).into());
    }
    DONE
}

fn the_log_calls_clients_unix(ground: Ground<'_>) -> Outcome {
    let path = scratch(ground, "log")?.join("a.sock");
    let running = serve(ground, &path, &["--access-log"])?;
    ask(&mut connect(&path)?)?;
    running.signal(Signal::TERM)?;
    let ended = running.wait(PATIENCE)?;
    if ended.output.starts_with("unix: - - [") && ended.output.contains("\"GET /digits.txt HTTP/1.1\" 200 ") {
        return DONE;
    }
    Err(format!("{ended:?}").into())
}

fn the_path_is_given_back(ground: Ground<'_>) -> Outcome {
    let path = scratch(ground, "path")?.join("a.sock");
    for (flags, mode) in
        [(&[][..], 0o660), (&["--socket-mode", "600"], 0o600), (&["--socket-mode=666"], 0o666)]
    {
        let running = serve(ground, &path, flags)?;
        let there = fs::symlink_metadata(&path)?.permissions().mode() & 0o7777;
        if there != mode {
            return Err(format!("{there:o} with {flags:?}").into());
        }
        end(running)?;
        if fs::symlink_metadata(&path).is_ok() {
            return Err("it is still there".into());
        }
    }
    // What somebody else has put there meanwhile is theirs.
    let running = serve(ground, &path, &[])?;
    fs::remove_file(&path)?;
    let theirs = UnixListener::bind(&path)?;
    let before = fs::symlink_metadata(&path)?.ino();
    end(running)?;
    drop(theirs);
    if fs::symlink_metadata(&path)?.ino() == before { DONE } else { Err("another one is there".into()) }
}

/// As after a crash.
fn what_was_left_behind_is_replaced(ground: Ground<'_>) -> Outcome {
    let path = scratch(ground, "stale")?.join("a.sock");
    for _ in 0..3 {
        let running = serve(ground, &path, &["--workers", "2"])?;
        ask(&mut connect(&path)?)?;
        running.signal(Signal::KILL)?;
        running.wait(PATIENCE)?;
        fs::symlink_metadata(&path)?;
    }
    let running = serve(ground, &path, &[])?;
    ask(&mut connect(&path)?)?;
    end(running)?;
    DONE
}

fn two_started_at_once(ground: Ground<'_>) -> Outcome {
    let path = scratch(ground, "two")?.join("a.sock");
    for _ in 0..5 {
        drop(UnixListener::bind(&path)?);
        let start = || {
            let mut command = ground.command(&["--listen", &address(&path)])?;
            Running::start(command.arg(ground.sites.main()))
        };
        let (mut one, mut other) = (start()?, start()?);
        deadline::within(PATIENCE, "one of two to be refused", || one.has_ended() || other.has_ended())?;
        let (serving, refused) = if other.has_ended() { (one, other) } else { (other, one) };
        let refused = refused.wait(PATIENCE)?;
        if refused.status.code() != Some(1) || !refused.errors.contains(": in use by process ") {
            return Err(format!("{refused:?}").into());
        }
        ask(&mut connect(&path)?)?;
        end(serving)?;
    }
    DONE
}

fn what_is_in_the_way_is_refused(ground: Ground<'_>) -> Outcome {
    let folder = scratch(ground, "way")?;
    let at = |name: &str| folder.join(name);
    fs::write(at("file"), "content")?;
    let _alive = UnixListener::bind(at("alive"))?;
    let in_use = format!("in use by process {}; stop that server", std::process::id());
    for (path, expected) in [
        (at("file"), "something is there that isn't a socket; remove it, or choose another path"),
        (at("alive"), in_use.as_str()),
        (at("none/a.sock"), "there is no such folder; make it first"),
        (at(&"x".repeat(120)), "and 107 is the most; choose a shorter one"),
    ] {
        let mut command = ground.command(&["--listen", &address(&path)])?;
        let ended = Running::start(command.arg(ground.sites.main()))?.wait(Duration::from_secs(10))?;
        let start = format!("{}: error: listen on {}: ", ground.program, address(&path));
        let is_right = ended.errors.starts_with(&start) && ended.errors.contains(expected);
        if ended.status.code() != Some(1) || !is_right || ended.errors.lines().count() != 1 {
            return Err(format!("{}: {ended:?}", path.display()).into());
        }
    }
    if fs::read(at("file"))? == b"content" { DONE } else { Err("the file has changed".into()) }
}

/// For the tests beside: whether anything serves at this address.
pub(super) fn serves(address: SocketAddr) -> Result<(), Failed> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let answer = answers(stream, b"GET /digits.txt HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")?;
    if answer.starts_with(b"HTTP/1.1 200 OK\r\n") { Ok(()) } else { Err("no answer".into()) }
}

/// And at this path.
pub(super) fn serves_at(path: &Path) -> Result<(), Failed> {
    ask(&mut connect(path)?)
}
