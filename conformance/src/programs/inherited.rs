//! Listening sockets that are passed to the program, as by systemd: what is served, and what is refused.

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};
use std::time::Duration;

use libtest_mimic::Failed;
use rustix::net::{AddressFamily, SocketType};
use rustix::process::Signal;

use super::Needs::{Nothing, Server};
use super::unix_sockets::{serves, serves_at};
use super::{DONE, Ground, Needs, Outcome, Test};
use crate::client::{Client, PATIENCE};
use crate::deadline;
use crate::program::Running;

pub(super) const TESTS: &[(&str, Needs, Test)] = &[
    ("a_socket_is_served", Server, a_socket_is_served),
    ("a_unix_socket_is_served", Server, a_unix_socket_is_served),
    ("several_of_one_address_are_one", Server, several_of_one_address_are_one),
    ("who_passes_it_may_not_know_the_process", Server, who_passes_it_may_not_know_the_process),
    ("what_the_operator_says_counts", Server, what_the_operator_says_counts),
    ("for_another_process", Server, for_another_process),
    ("lies_are_refused", Nothing, lies_are_refused),
];

/// The program with a socket as its descriptor 3, and with what `variables` say of it: shell assignments, in which `$$`
/// is the number of its process. The socket comes as standard output, which `redirections` move.
fn with_socket(
    ground: Ground<'_>,
    socket: OwnedFd,
    variables: &str,
    redirections: &str,
    arguments: &[&str],
) -> Result<Running, Failed> {
    let mut command = Command::new("sh");
    let script = format!("exec {redirections} 1>/dev/null; export {variables}; exec \"$@\"");
    command.args(["-c", &script, "sh"]).arg(ground.programs.path(ground.program)?);
    command.args(arguments).arg(ground.sites.main());
    Running::start_writing_to(command.stdout(Stdio::from(socket)).stderr(Stdio::piped()))
}

const ONE: &str = "3>&1";
const OURS: &str = "LISTEN_FDS=1 LISTEN_PID=$$";

fn listener() -> Result<(TcpListener, OwnedFd), Failed> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let theirs = listener.try_clone()?.into();
    Ok((listener, theirs))
}

fn expect_end(running: Running, lines: usize) -> Outcome {
    running.signal(Signal::TERM)?;
    let ended = running.wait(PATIENCE)?;
    let is_right = ended.status.code() == Some(0) && ended.errors.lines().count() == lines;
    if is_right { DONE } else { Err(format!("{ended:?}").into()) }
}

/// Nobody is refused: while nobody serves, connections wait in the socket.
fn a_socket_is_served(ground: Ground<'_>) -> Outcome {
    for workers in ["1", "3"] {
        let (listener, socket) = listener()?;
        let address = listener.local_addr()?;
        let mut early = Client::connect(address)?;
        let mut running = with_socket(ground, socket, OURS, ONE, &["--workers", workers])?;
        if running.addresses(1)? != [address] {
            return Err(format!("it said: {}", running.errors()).into());
        }
        early.get("/digits.txt")?;
        for _ in 0..10 {
            serves(address)?;
        }
        drop(early);
        expect_end(running, 1)?;
        // It is whoever has opened it that closes it.
        TcpStream::connect(address)?;
    }
    DONE
}

fn a_unix_socket_is_served(ground: Ground<'_>) -> Outcome {
    let path = ground.sites.scratch(&format!("inherited-{}", ground.program))?.join("a.sock");
    let listener = UnixListener::bind(&path)?;
    let socket = listener.try_clone()?.into();
    let running = with_socket(ground, socket, OURS, ONE, &["--workers", "2"])?;
    let line = format!(" on unix:{}", path.display());
    deadline::within(PATIENCE, "the line of the socket", || running.errors().contains(&line))?;
    serves_at(&path)?;
    expect_end(running, 1)?;
    if path.exists() { DONE } else { Err("it has removed the path of another".into()) }
}

fn several_of_one_address_are_one(ground: Ground<'_>) -> Outcome {
    let (listener, socket) = listener()?;
    let (variables, both) = ("LISTEN_FDS=2 LISTEN_PID=$$ LISTEN_FDNAMES=web:web", "3>&1 4>&1");
    for workers in ["1", "2"] {
        let socket = socket.try_clone()?;
        let mut running = with_socket(ground, socket, variables, both, &["--workers", workers])?;
        running.addresses(1)?;
        for _ in 0..10 {
            serves(listener.local_addr()?)?;
        }
        expect_end(running, 1)?;
    }
    DONE
}

fn who_passes_it_may_not_know_the_process(ground: Ground<'_>) -> Outcome {
    for variables in ["LISTEN_FDS=1", "LISTEN_FDS=1 LISTEN_PID="] {
        let (listener, socket) = listener()?;
        let mut running = with_socket(ground, socket, variables, ONE, &[])?;
        running.addresses(1)?;
        serves(listener.local_addr()?)?;
        expect_end(running, 1)?;
    }
    DONE
}

/// It says that the socket isn't served, even if what is said of it is a lie.
fn what_the_operator_says_counts(ground: Ground<'_>) -> Outcome {
    for (variables, arguments, words) in [
        (OURS.to_owned(), &["-l", "127.0.0.1:0"][..], "--listen is given, so the sockets (1) of LISTEN_FDS"),
        (OURS.to_owned(), &["-p", "0"], "--port is given, so the sockets (1) of LISTEN_FDS"),
        (format!("{OURS} TRIPTYCH_PORT=0"), &[], "TRIPTYCH_PORT is given, so the sockets (1) of LISTEN_FDS"),
        ("LISTEN_FDS=many".to_owned(), &["-p", "0"], "--port is given, so the sockets of LISTEN_FDS"),
    ] {
        let (listener, socket) = listener()?;
        let mut running = with_socket(ground, socket, &variables, ONE, arguments)?;
        let own = running.addresses(1)?[0];
        let line = format!("{}: warning: {words} are not served\n", ground.program);
        if own == listener.local_addr()? || !running.errors().contains(&line) {
            return Err(format!("{variables}: it said: {}", running.errors()).into());
        }
        serves(own)?;
        expect_end(running, 2)?;
    }
    DONE
}

/// What another process is to have is nobody's here.
fn for_another_process(ground: Ground<'_>) -> Outcome {
    let (_listener, socket) = listener()?;
    let variables = "LISTEN_FDS=1 LISTEN_PID=1 TRIPTYCH_PORT=0";
    let mut running = with_socket(ground, socket, variables, ONE, &[])?;
    serves(running.addresses(1)?[0])?;
    expect_end(running, 1)
}

fn lies_are_refused(ground: Ground<'_>) -> Outcome {
    const WRONG: &str = "is no listening stream socket of TCP or unix";
    let accepted = {
        let (listener, _) = listener()?;
        OwnedFd::from(TcpStream::connect(listener.local_addr()?)?)
    };
    let bound = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
    let third = format!("LISTEN_FDS=3: descriptor 4 (b) {WRONG}");
    let first = format!("LISTEN_FDS=1: descriptor 3 {WRONG}");
    for (socket, variables, redirections, expected) in [
        (listener()?.1, "LISTEN_FDS=3 LISTEN_PID=$$ LISTEN_FDNAMES=a:b", ONE, third.as_str()),
        (listener()?.1, OURS, "3>/dev/null", &first),
        (listener()?.1, OURS, "3>&-", &first),
        (UdpSocket::bind("127.0.0.1:0")?.into(), OURS, ONE, &first),
        (std::os::unix::net::UnixDatagram::unbound()?.into(), OURS, ONE, &first),
        (accepted, OURS, ONE, &first),
        (bound, OURS, ONE, &first),
        (listener()?.1, "LISTEN_FDS=many LISTEN_PID=$$", ONE, "LISTEN_FDS=many is no number of sockets"),
        (listener()?.1, "LISTEN_FDS=-1", ONE, "LISTEN_FDS=-1 is no number of sockets"),
        (listener()?.1, "LISTEN_FDS=4000000000", ONE, "it is at most 128"),
        (listener()?.1, "LISTEN_FDS=1 LISTEN_PID=me", ONE, "LISTEN_PID=me is no process"),
    ] {
        let ended =
            with_socket(ground, socket, variables, redirections, &[])?.wait(Duration::from_secs(10))?;
        let start = format!("{}: error: ", ground.program);
        let is_right = ended.errors.starts_with(&start) && ended.errors.contains(expected);
        if ended.status.code() != Some(1) || !is_right || ended.errors.lines().count() != 1 {
            return Err(format!("{variables}, {redirections}, not \"{expected}\": {ended:?}").into());
        }
    }
    DONE
}
