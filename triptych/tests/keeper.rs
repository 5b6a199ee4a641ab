//! The keeper: upgrades, deploys, crashes and endings, under load.

use std::collections::HashSet;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use conformance::client::{Client, Heard};
use conformance::exposition::Exposition;
use conformance::load::{Download, join_all};
use conformance::program::Running;
use conformance::site::Sites;
use conformance::{deadline, row};
use libtest_mimic::{Completion, Failed, Trial};
use rustix::process::{Pid, Signal, kill_process};

const PATIENCE: Duration = Duration::from_secs(20);

type Outcome = Result<Completion, Failed>;

type Test = fn() -> Outcome;

const DONE: Outcome = Ok(Completion::Completed);

const TRIPTYCH: &str = env!("CARGO_BIN_EXE_triptych");

fn main() -> ExitCode {
    conformance::main(|| {
        let mut trials = Vec::new();
        for io in ["uring", "epoll", "blocking"] {
            let trial = Trial::ignorable_test(format!("{io}::ten_upgrades_under_load"), move || {
                if io == "uring" && uring::available().is_err() {
                    return Ok(Completion::ignored_with("io_uring can't be used here"));
                }
                ten_upgrades_under_load(io)
            });
            trials.push(trial);
        }
        let tests: [(&str, Test); 21] = [
            ("a_download_outlasts_an_upgrade", a_download_outlasts_an_upgrade),
            ("a_download_outlasts_the_grace_period", a_download_outlasts_the_grace_period),
            (
                "an_upgrade_that_hangs_does_not_outlast_the_end",
                an_upgrade_that_hangs_does_not_outlast_the_end,
            ),
            ("a_server_that_hangs_is_killed_in_the_end", a_server_that_hangs_is_killed_in_the_end),
            ("a_switch_that_fails_is_tried_again", a_switch_that_fails_is_tried_again),
            ("other_signals_have_their_meaning", other_signals_have_their_meaning),
            ("a_unix_socket_is_its_users", a_unix_socket_is_its_users),
            ("a_user_may_be_a_number", a_user_may_be_a_number),
            ("an_upgrade_that_fails_changes_nothing", an_upgrade_that_fails_changes_nothing),
            ("a_pid_file_is_there_while_it_serves", a_pid_file_is_there_while_it_serves),
            ("the_keeper_is_upgraded_too", the_keeper_is_upgraded_too),
            ("a_server_that_is_killed_is_replaced", a_server_that_is_killed_is_replaced),
            ("a_server_that_is_ended_is_replaced", a_server_that_is_ended_is_replaced),
            ("without_its_keeper_a_server_ends", without_its_keeper_a_server_ends),
            ("a_release_is_switched_under_load", a_release_is_switched_under_load),
            ("a_switch_closes_idle_connections", a_switch_closes_idle_connections),
            ("a_switch_after_an_upgrade_closes_idle_ones", a_switch_after_an_upgrade_closes_idle_ones),
            ("a_unix_socket_outlasts_an_upgrade", a_unix_socket_outlasts_an_upgrade),
            ("an_inherited_socket_outlasts_upgrades", an_inherited_socket_outlasts_upgrades),
            ("what_the_keeper_does_is_counted", what_the_keeper_does_is_counted),
            ("the_log_is_rotated_across_an_upgrade", the_log_is_rotated_across_an_upgrade),
        ];
        trials.extend(tests.map(|(name, test)| Trial::ignorable_test(name, test)));
        Ok(trials)
    })
}

// ---- the ground

fn serve(program: &Path, arguments: &[&str], root: &Path) -> Result<Running, Failed> {
    let mut command = Command::new(program);
    Running::start(command.args(["--listen", "127.0.0.1:0", "--workers", "2"]).args(arguments).arg(root))
}

/// Asks for an upgrade, and waits until the keeper has become the new program.
fn upgrade(running: &Running) -> Result<(), Failed> {
    let upgrades = || running.errors().matches("triptych: upgraded\n").count();
    let before = upgrades();
    running.signal(Signal::USR2)?;
    deadline::within(PATIENCE, "the upgrade", || upgrades() == before + 1)
        .map_err(|_| format!("no upgrade; it said: {}", running.errors()).into())
}

fn signal(process: u32, signal: Signal) -> Result<(), Failed> {
    let process = Pid::from_raw(process.cast_signed()).ok_or("no process")?;
    Ok(kill_process(process, signal)?)
}

fn is_gone(process: u32) -> bool {
    !Path::new(&format!("/proc/{process}")).exists()
}

/// Clients that ask all the time: some on kept connections, some on a new one for each request. None may see anything but
/// whole answers, or be refused.
struct Load {
    stop: AtomicBool,
    answers: AtomicUsize,
}

impl Load {
    const KEPT: usize = 4;
    const NEW: usize = 2;

    /// Runs this while clients ask for `target`, whose content `is_right`.
    fn during(
        address: SocketAddr,
        target: &str,
        is_right: impl Fn(&[u8]) -> bool + Sync,
        act: impl FnOnce() -> Result<(), Failed>,
    ) -> Result<usize, Failed> {
        let load = Load { stop: AtomicBool::new(false), answers: AtomicUsize::new(0) };
        let acted = thread::scope(|scope| {
            let clients: Vec<_> = (0..Load::KEPT + Load::NEW)
                .map(|number| {
                    let (load, is_right) = (&load, &is_right);
                    scope.spawn(move || load.ask(address, target, is_right, number < Load::KEPT))
                })
                .collect();
            let acted = act();
            load.stop.store(true, Relaxed);
            join_all(clients).and(acted)
        });
        acted.map(|()| load.answers.load(Relaxed))
    }

    fn ask(
        &self,
        address: SocketAddr,
        target: &str,
        is_right: impl Fn(&[u8]) -> bool,
        keeps: bool,
    ) -> Result<(), Failed> {
        let mut client = Client::connect(address)?;
        while !self.stop.load(Relaxed) {
            let response = client.get(target).map_err(|failed| {
                format!("after {} answers: {}", self.answers.load(Relaxed), failed.message().unwrap_or("?"))
            })?;
            if response.status != 200 || !is_right(&response.content) {
                return Err(
                    format!("{} {:?}", response.status, response.content.escape_ascii().to_string()).into()
                );
            }
            self.answers.fetch_add(1, Relaxed);
            if !keeps || response.field("connection") == Some("close") {
                client = Client::connect(address)?;
            }
        }
        Ok(())
    }
}

// ---- tests

fn ten_upgrades_under_load(io: &str) -> Outcome {
    let sites = Sites::build()?;
    let mut running = serve(Path::new(TRIPTYCH), &["--io", io], &sites.main())?;
    let address = running.addresses(1)?[0];
    let keeper = running.id();
    let mut servers = HashSet::from([running.server_id()?]);
    let answers = Load::during(
        address,
        "/digits.txt",
        |content| content == b"0123456789",
        || {
            for _ in 0..10 {
                upgrade(&running)?;
                servers.insert(running.server_id()?);
            }
            Ok(())
        },
    )?;
    if servers.len() != 11 || answers < 100 || running.id() != keeper {
        return Err(format!("{} servers, {answers} answers", servers.len()).into());
    }
    running.end()?;
    DONE
}

fn a_download_outlasts_an_upgrade() -> Outcome {
    let sites = Sites::build()?;
    let mut running = serve(Path::new(TRIPTYCH), &[], &sites.main())?;
    let address = running.addresses(1)?[0];
    let mut download = Download::begin(address)?;
    let mut idle = Client::connect(address)?;
    idle.get("/digits.txt")?;
    let old = running.server_id()?;
    upgrade(&running)?;
    // Whoever has been idle meanwhile is answered, and told to come again.
    let response = idle.get("/digits.txt")?;
    if response.field("connection") != Some("close") {
        return Err("a kept connection isn't told".into());
    }
    Client::connect(address)?.get("/digits.txt")?;
    if is_gone(old) {
        return Err("the old server hasn't waited".into());
    }
    download.finish()?;
    drop(download);
    deadline::within(PATIENCE, "the old server to end", || is_gone(old))?;
    running.end()?;
    DONE
}

/// Nobody waits for an old server, so its answers take the time that they take; until the end is asked for.
fn a_download_outlasts_the_grace_period() -> Outcome {
    let sites = Sites::build()?;
    let mut running = serve(Path::new(TRIPTYCH), &["--grace", "500ms"], &sites.main())?;
    let address = running.addresses(1)?[0];
    let (mut whole, mut cut) = (Download::begin(address)?, Download::begin(address)?);
    let old = running.server_id()?;
    upgrade(&running)?;
    // What can't be seen from outside is that nothing happens.
    thread::sleep(Duration::from_millis(1500));
    whole.finish()?;
    drop(whole);
    if is_gone(old) {
        return Err("the old server has left somebody behind".into());
    }
    running.signal(Signal::TERM)?;
    deadline::within(Duration::from_secs(3), "the old server to end", || is_gone(old))?;
    let ended = running.wait(PATIENCE)?;
    if cut.finish().is_ok() {
        return Err("a server that has ended goes on sending".into());
    }
    if !ended.errors.contains("1 connection was cut off in an answer when --grace (500ms) was over") {
        return Err(format!("{ended:?}").into());
    }
    DONE
}

/// Neither a program that isn't this one, and takes no notice, nor one that lets go of its channel.
fn an_upgrade_that_hangs_does_not_outlast_the_end() -> Outcome {
    for script in ["exec sleep 60", "trap '' TERM; exec sleep 60", "exec sleep 60 </dev/null"] {
        let (sites, folder) = (Sites::build()?, tempfile::tempdir()?);
        let program = folder.path().join("triptych");
        fs::copy(TRIPTYCH, &program)?;
        let mut running = serve(&program, &["--grace", "1s"], &sites.main())?;
        let address = running.addresses(1)?[0];
        fs::remove_file(&program)?;
        fs::write(&program, format!("#!/bin/sh\n{script}\n"))?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
        running.signal(Signal::USR2)?;
        deadline::within(PATIENCE, "the upgrade to begin", || running.errors().contains("upgrading to"))?;
        Client::connect(address)?.get("/digits.txt")?;
        running.signal(Signal::TERM)?;
        let ended = running.wait(Duration::from_secs(4)).map_err(|_| format!("{script}: no end"))?;
        let killed = ended.errors.matches("hasn't ended in time, and is killed").count();
        if ended.status.code() != Some(0) || killed > 1 || ended.errors.contains("hasn't started") {
            return Err(format!("{script}: {ended:?}").into());
        }
    }
    DONE
}

/// One that is stopped stands for whatever keeps a process from what it should do.
fn a_server_that_hangs_is_killed_in_the_end() -> Outcome {
    for (grace, signals) in [("500ms", 1), ("60s", 2)] {
        let sites = Sites::build()?;
        let mut running = serve(Path::new(TRIPTYCH), &["--grace", grace], &sites.main())?;
        running.addresses(1)?;
        signal(running.server_id()?, Signal::STOP)?;
        for number in 0..signals {
            running.signal(Signal::TERM)?;
            if number + 1 < signals {
                // Two signals that come at once are one.
                thread::sleep(Duration::from_millis(100));
            }
        }
        let ended = running.wait(Duration::from_secs(4)).map_err(|_| format!("{grace}: no end"))?;
        if ended.status.code() != Some(1) || !ended.errors.contains("hasn't ended in time, and is killed") {
            return Err(format!("{ended:?}").into());
        }
    }
    DONE
}

/// The release that is switched to can't be read at first.
fn a_switch_that_fails_is_tried_again() -> Outcome {
    if !rustix::process::geteuid().is_root() {
        return Ok(Completion::ignored_with("only root can become another user"));
    }
    let outer = tempfile::tempdir()?;
    let current = outer.path().join("current");
    for name in ["one", "two"] {
        fs::create_dir(outer.path().join(name))?;
        fs::write(outer.path().join(name).join("release.txt"), name)?;
    }
    let switch = |name: &str| -> Result<(), Failed> {
        std::os::unix::fs::symlink(name, outer.path().join("next"))?;
        Ok(fs::rename(outer.path().join("next"), &current)?)
    };
    switch("one")?;
    let mut command = Command::new(TRIPTYCH);
    command.args(["--listen", "127.0.0.1:0", "--user", "nobody"]).arg(&current);
    fs::set_permissions(outer.path(), fs::Permissions::from_mode(0o755))?;
    let mut running = Running::start(&mut command)?;
    let address = running.addresses(1)?[0];
    let served = || Some(Client::connect(address).ok()?.get("/release.txt").ok()?.content);
    fs::set_permissions(outer.path().join("two"), fs::Permissions::from_mode(0o700))?;
    switch("two")?;
    let failed = || running.errors().contains("has not started");
    deadline::within(PATIENCE, "a word on the failure", failed)?;
    if served().as_deref() != Some(b"one") {
        return Err("the old release is gone".into());
    }
    fs::set_permissions(outer.path().join("two"), fs::Permissions::from_mode(0o755))?;
    deadline::within(Duration::from_secs(10), "the new release", || served().as_deref() == Some(b"two"))?;
    running.end()?;
    DONE
}

/// Those that other servers take for the same: nothing ends without a drain.
fn other_signals_have_their_meaning() -> Outcome {
    let (sites, folder) = (Sites::build()?, tempfile::tempdir()?);
    let path = folder.path().join("access.log");
    let flag = format!("--access-log={}", path.display());
    let mut running = serve(Path::new(TRIPTYCH), &[&flag], &sites.main())?;
    let address = running.addresses(1)?[0];
    fs::rename(&path, folder.path().join("old.log"))?;
    running.signal(Signal::USR1)?;
    deadline::within(PATIENCE, "a new file", || path.exists())?;
    let mut download = Download::begin(address)?;
    running.signal(Signal::QUIT)?;
    download.finish()?;
    drop(download);
    let ended = running.wait(PATIENCE)?;
    if ended.status.code() == Some(0) { DONE } else { Err(format!("{ended:?}").into()) }
}

/// A proxy joins the group of who serves.
fn a_unix_socket_is_its_users() -> Outcome {
    if !rustix::process::geteuid().is_root() {
        return Ok(Completion::ignored_with("only root can become another user"));
    }
    let folder = tempfile::tempdir()?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
    let path = folder.path().join("www.sock");
    let address = format!("unix:{}", path.display());
    let mut command = Command::new(TRIPTYCH);
    command.args(["--listen", &address, "--user", "nobody"]).arg(folder.path());
    let running = Running::start(&mut command)?;
    let line = format!(" on {address} ");
    deadline::within(PATIENCE, "the program to serve", || running.errors().contains(&line))?;
    let server = fs::metadata(format!("/proc/{}", running.server_id()?))?;
    let socket = fs::metadata(&path)?;
    if (socket.uid(), socket.gid()) != (server.uid(), server.gid()) || socket.uid() == 0 {
        return Err(format!("{}:{} for {}:{}", socket.uid(), socket.gid(), server.uid(), server.gid()).into());
    }
    running.end()?;
    if path.exists() { Err("the socket is still there".into()) } else { DONE }
}

/// As in a container, where no file knows its name; the group has the same number then.
fn a_user_may_be_a_number() -> Outcome {
    if !rustix::process::geteuid().is_root() {
        return Ok(Completion::ignored_with("only root can become another user"));
    }
    let folder = tempfile::tempdir()?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
    let mut running = serve(Path::new(TRIPTYCH), &["--user", "64321"], folder.path())?;
    running.addresses(1)?;
    let server = fs::metadata(format!("/proc/{}", running.server_id()?))?;
    if (server.uid(), server.gid()) != (64321, 64321) {
        return Err(format!("it serves as {}:{}", server.uid(), server.gid()).into());
    }
    running.end()?;
    DONE
}

fn an_upgrade_that_fails_changes_nothing() -> Outcome {
    let (sites, folder) = (Sites::build()?, tempfile::tempdir()?);
    let program = folder.path().join("triptych");
    fs::copy(TRIPTYCH, &program)?;
    let mut running = serve(&program, &[], &sites.main())?;
    let address = running.addresses(1)?[0];
    let server = running.server_id()?;
    let put = |content: &[u8], mode: u32| -> Result<(), Failed> {
        let next = folder.path().join("next");
        fs::write(&next, content)?;
        fs::set_permissions(&next, fs::Permissions::from_mode(mode))?;
        Ok(fs::rename(next, &program)?)
    };
    let answers = Load::during(
        address,
        "/digits.txt",
        |content| content == b"0123456789",
        || {
            for (content, mode, reason) in [
                (&b"#!/bin/sh\necho it is broken >&2\nexit 3\n"[..], 0o755, "(exit status: 3)"),
                (b"#!/bin/sh\nkill -9 $$\n", 0o755, "(signal: 9 (SIGKILL))"),
                (b"nonsense", 0o755, "Exec format error"),
                (b"", 0o644, "Permission denied"),
            ] {
                put(content, mode)?;
                running.signal(Signal::USR2)?;
                let said = || {
                    running.errors().lines().any(|line| {
                        line.starts_with("triptych: error: ")
                            && line.contains(reason)
                            && line.ends_with("the old server goes on")
                    })
                };
                deadline::within(PATIENCE, "a word on the failure", said)
                    .map_err(|_| format!("{reason}; it said: {}", running.errors()))?;
            }
            fs::remove_file(&program)?;
            running.signal(Signal::USR2)?;
            let said = || running.errors().contains("No such file");
            deadline::within(PATIENCE, "a word on the failure", said)
        },
    )?;
    if running.server_id()? != server || answers < 100 || !running.errors().contains("it is broken") {
        return Err(format!("{answers} answers; it said: {}", running.errors()).into());
    }
    put(&fs::read(TRIPTYCH)?, 0o755)?;
    upgrade(&running)?;
    if running.server_id()? == server {
        return Err("the server is the old one".into());
    }
    running.end()?;
    DONE
}

/// Whichever server there is, and whichever program the keeper is.
fn a_pid_file_is_there_while_it_serves() -> Outcome {
    let (sites, folder) = (Sites::build()?, tempfile::tempdir()?);
    let (path, program) = (folder.path().join("a.pid"), folder.path().join("triptych"));
    fs::copy(TRIPTYCH, &program)?;
    let flag = format!("--pid-file={}", path.display());
    let files = || -> Result<usize, Failed> { Ok(fs::read_dir(folder.path())?.count() - 1) };
    let ended = serve(&program, &[&flag], &sites.main().join("nowhere"))?.wait(PATIENCE)?;
    if ended.status.code() != Some(1) || files()? != 0 {
        return Err(format!("{} files; {ended:?}", files()?).into());
    }
    // As a process leaves it that was killed.
    fs::write(&path, "99999999\n")?;
    let mut running = serve(&program, &[&flag], &sites.main())?;
    running.addresses(1)?;
    let is_right = || fs::read_to_string(&path).is_ok_and(|text| text == format!("{}\n", running.id()));
    deadline::within(PATIENCE, "the file", is_right)?;
    let server = running.server_id()?;
    signal(server, Signal::KILL)?;
    let is_replaced = || running.server_id().is_ok_and(|other| other != server && other != running.id());
    deadline::within(PATIENCE, "another server", is_replaced)?;
    deadline::within(PATIENCE, "it to serve", || running.errors().matches(": serving ").count() == 2)?;
    upgrade(&running)?;
    if !is_right() || files()? != 1 {
        return Err(format!("{} files, {:?}", files()?, fs::read_to_string(&path)).into());
    }
    running.end()?;
    if files()? != 0 {
        return Err("something is left behind".into());
    }
    fs::write(&path, "important")?;
    let refused = serve(&program, &[&flag], &sites.main())?.wait(PATIENCE)?;
    let line = format!("triptych: error: pid file {}: something else is there than", path.display());
    if refused.status.code() != Some(1) || !refused.errors.starts_with(&line) {
        return Err(format!("{refused:?}").into());
    }
    DONE
}

/// What looks after the keeper knows its process: that stays the same, and becomes the new program.
fn the_keeper_is_upgraded_too() -> Outcome {
    let (sites, folder) = (Sites::build()?, tempfile::tempdir()?);
    let program = folder.path().join("triptych");
    fs::copy(TRIPTYCH, &program)?;
    let mut running = serve(&program, &[], &sites.main())?;
    let address = running.addresses(1)?[0];
    let executes = || fs::read_link(format!("/proc/{}/exe", running.id()));
    let descriptors =
        || -> Result<usize, Failed> { Ok(fs::read_dir(format!("/proc/{}/fd", running.id()))?.count()) };
    fs::rename(&program, folder.path().join("old"))?;
    fs::copy(TRIPTYCH, &program)?;
    if executes()? != folder.path().join("old") {
        return Err(format!("it executes {:?}", executes()).into());
    }
    upgrade(&running)?;
    if executes()? != program {
        return Err(format!("it executes {:?}", executes()).into());
    }
    // The old server leaves.
    let first = descriptors()?;
    for _ in 0..3 {
        upgrade(&running)?;
    }
    Client::connect(address)?.get("/digits.txt")?;
    let bounded = || descriptors().is_ok_and(|now| now <= first);
    deadline::within(PATIENCE, "its descriptors to be as many as before", bounded)
        .map_err(|_| format!("{first} descriptors became {:?}", descriptors()))?;
    running.end()?;
    DONE
}

fn a_server_that_is_killed_is_replaced() -> Outcome {
    let sites = Sites::build()?;
    let mut running = serve(Path::new(TRIPTYCH), &[], &sites.main())?;
    let address = running.addresses(1)?[0];
    for _ in 0..2 {
        let server = running.server_id()?;
        signal(server, Signal::KILL)?;
        // Whoever comes meanwhile waits in the queue of the sockets that the keeper holds, or is reset by the kernel,
        // which tears a ring down that still accepts.
        let is_served = || {
            let mut client = Client::connect(address).expect("somebody listens");
            client.get("/digits.txt").is_ok()
        };
        deadline::within(Duration::from_secs(10), "another server", is_served)?;
    }
    let said = running.errors();
    if said.matches("has ended by itself (signal: 9 (SIGKILL)); starting another").count() != 2 {
        return Err(format!("it said: {said}").into());
    }
    running.end()?;
    DONE
}

/// Who asks all processes to end gets one end: the server waits for its keeper to say so.
fn a_server_that_is_ended_is_replaced() -> Outcome {
    let sites = Sites::build()?;
    let mut running = serve(Path::new(TRIPTYCH), &[], &sites.main())?;
    let address = running.addresses(1)?[0];
    let server = running.server_id()?;
    for of_the_keeper in [Signal::TERM, Signal::INT, Signal::HUP] {
        signal(server, of_the_keeper)?;
    }
    Client::connect(address)?.get("/digits.txt")?;
    if running.server_id()? != server {
        return Err("it has ended".into());
    }
    let mut download = Download::begin(address)?;
    signal(server, Signal::TERM)?;
    running.signal(Signal::TERM)?;
    download.finish()?;
    drop(download);
    let ended = running.wait(PATIENCE)?;
    if ended.status.code() != Some(0) {
        return Err(format!("{ended:?}").into());
    }
    DONE
}

/// Nobody could start another one any more.
fn without_its_keeper_a_server_ends() -> Outcome {
    let sites = Sites::build()?;
    let mut running = serve(Path::new(TRIPTYCH), &[], &sites.main())?;
    let address = running.addresses(1)?[0];
    let server = running.server_id()?;
    let mut download = Download::begin(address)?;
    running.signal(Signal::KILL)?;
    download.finish()?;
    drop(download);
    deadline::within(PATIENCE, "the server to end", || is_gone(server))?;
    if Client::connect(address).is_ok() {
        return Err("somebody still listens".into());
    }
    DONE
}

/// `current` is switched from release to release, and each one is deleted once another is served.
fn a_release_is_switched_under_load() -> Outcome {
    let outer = tempfile::tempdir()?;
    let current = outer.path().join("current");
    let release = |name: &str| -> Result<PathBuf, Failed> {
        let folder = outer.path().join(name);
        fs::create_dir(&folder)?;
        fs::write(folder.join("release.txt"), name)?;
        Ok(folder)
    };
    release("release-0")?;
    std::os::unix::fs::symlink("release-0", &current)?;
    let mut running = serve(Path::new(TRIPTYCH), &[], &current)?;
    let address = running.addresses(1)?[0];
    let is_release = |content: &[u8]| content.starts_with(b"release-");
    let answers = Load::during(address, "/release.txt", is_release, || {
        for number in 1..=3 {
            let name = format!("release-{number}");
            release(&name)?;
            std::os::unix::fs::symlink(&name, outer.path().join("next"))?;
            fs::rename(outer.path().join("next"), &current)?;
            let is_served = || {
                let mut client = Client::connect(address).ok()?;
                (client.get("/release.txt").ok()?.content == name.as_bytes()).then_some(())
            };
            deadline::within(Duration::from_secs(5), "the release", || is_served().is_some())?;
        }
        Ok(())
    })?;
    if answers < 100 {
        return Err(format!("{answers} answers").into());
    }
    running.end()?;
    DONE
}

/// A root that is a link, first to the site with files of all sizes.
struct Switched {
    _sites: Sites,
    outer: tempfile::TempDir,
    running: Running,
    address: SocketAddr,
}

impl Switched {
    fn serve() -> Result<Switched, Failed> {
        let (sites, outer) = (Sites::build()?, tempfile::tempdir()?);
        let current = outer.path().join("current");
        std::os::unix::fs::symlink(sites.main(), &current)?;
        let mut running = serve(Path::new(TRIPTYCH), &[], &current)?;
        let address = running.addresses(1)?[0];
        Ok(Switched { _sites: sites, outer, running, address })
    }

    /// Leads it elsewhere, and waits until that is served.
    fn switch(&self) -> Result<(), Failed> {
        let next = self.outer.path().join("two");
        fs::create_dir(&next)?;
        fs::write(next.join("digits.txt"), "two")?;
        std::os::unix::fs::symlink("two", self.outer.path().join("next"))?;
        fs::rename(self.outer.path().join("next"), self.outer.path().join("current"))?;
        let served = || Some(Client::connect(self.address).ok()?.get("/digits.txt").ok()?.content);
        deadline::within(PATIENCE, "the other release", || served().as_deref() == Some(b"two"))
    }
}

/// An idle client must find that out in a second, in order, and not after half of `--grace` (30 s).
fn expect_end(client: &mut Client, max: Duration) -> Result<(), Failed> {
    match client.hear(Instant::now() + max)? {
        Heard::End => Ok(()),
        other => Err(format!("not closed: {other:?}").into()),
    }
}

/// What they would be answered is of the old release. An answer under way is finished.
fn a_switch_closes_idle_connections() -> Outcome {
    deadline::in_one_of_three(|| {
        let switched = Switched::serve()?;
        let mut idle = Client::connect(switched.address)?;
        idle.get("/digits.txt")?;
        let mut download = Download::begin(switched.address)?;
        switched.switch()?;
        expect_end(&mut idle, Duration::from_secs(1))?;
        download.finish()?;
        switched.running.end()
    })?;
    DONE
}

/// The server before the upgrade keeps idle connections for half of `--grace`, but not for a root that is gone.
fn a_switch_after_an_upgrade_closes_idle_ones() -> Outcome {
    deadline::in_one_of_three(|| {
        let switched = Switched::serve()?;
        let mut idle = Client::connect(switched.address)?;
        idle.get("/digits.txt")?;
        let mut download = Download::begin(switched.address)?;
        upgrade(&switched.running)?;
        switched.switch()?;
        expect_end(&mut idle, Duration::from_secs(2))?;
        download.finish()?;
        switched.running.end()
    })?;
    DONE
}

fn a_unix_socket_outlasts_an_upgrade() -> Outcome {
    let (sites, folder) = (Sites::build()?, tempfile::tempdir()?);
    let path = folder.path().join("www.sock");
    let address = format!("unix:{}", path.display());
    let mut command = Command::new(TRIPTYCH);
    let running = Running::start(command.args(["--listen", &address]).arg(sites.main()))?;
    let asks = || -> Option<()> {
        use std::io::{Read, Write};
        let mut stream = UnixStream::connect(&path).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        stream.write_all(&row::get("/digits.txt", &["Connection: close"])).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        answer.ends_with("0123456789").then_some(())
    };
    deadline::within(PATIENCE, "an answer", || asks().is_some())?;
    for _ in 0..2 {
        upgrade(&running)?;
        asks().ok_or("no answer")?;
    }
    running.end()?;
    if path.exists() {
        return Err("the socket is still there".into());
    }
    DONE
}

/// What a service manager says of its sockets is for the first program: neither its servers nor the program that follows
/// it reads that again.
fn an_inherited_socket_outlasts_upgrades() -> Outcome {
    let sites = Sites::build()?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let script = "exec 3>&1 1>/dev/null; export LISTEN_FDS=1 LISTEN_PID=$$ LISTEN_FDNAMES=web; exec \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh", TRIPTYCH]).arg(sites.main());
    command.stdout(Stdio::from(OwnedFd::from(listener))).stderr(Stdio::piped());
    let mut running = Running::start_writing_to(&mut command)?;
    for _ in 0..2 {
        if running.addresses(1)? != [address] {
            return Err(format!("it said: {}", running.errors()).into());
        }
        Client::connect(address)?.get("/digits.txt")?;
        let variables = fs::read(format!("/proc/{}/environ", running.server_id()?))?;
        if variables.split(|byte| *byte == 0).any(|variable| variable.starts_with(b"LISTEN_")) {
            return Err("the serving process was told of sockets that it hasn't".into());
        }
        upgrade(&running)?;
    }
    Client::connect(address)?.get("/digits.txt")?;
    running.end()?;
    DONE
}

/// Waits until the admin listener has told these of the keeper: starts, restarts, upgrades, failed ones, switches, failed
/// ones. Then the rest of the page.
fn expect_counts(admin: SocketAddr, expected: [f64; 6]) -> Result<Exposition, Failed> {
    const NAMES: [&str; 6] = [
        "server_starts",
        "server_restarts",
        "upgrades",
        "upgrades_failed",
        "root_switches",
        "root_switches_failed",
    ];
    let read = || -> Result<(Exposition, [f64; 6]), Failed> {
        let response = Client::connect(admin)?.get("/metrics")?;
        let page = Exposition::read(&String::from_utf8(response.content)?)?;
        let mut told = [0.0; 6];
        for (told, name) in told.iter_mut().zip(NAMES) {
            *told = page.value(&format!("triptych_keeper_{name}_total"))?;
        }
        Ok((page, told))
    };
    let until = Instant::now() + PATIENCE;
    loop {
        let (page, told) = read()?;
        if told == expected {
            return Ok(page);
        }
        if Instant::now() > until {
            return Err(format!("{told:?}, not {expected:?}").into());
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Whichever server answers, and whichever program the keeper is.
fn what_the_keeper_does_is_counted() -> Outcome {
    let outer = tempfile::tempdir()?;
    let (program, current) = (outer.path().join("triptych"), outer.path().join("current"));
    fs::copy(TRIPTYCH, &program)?;
    for name in ["one", "two"] {
        fs::create_dir(outer.path().join(name))?;
    }
    std::os::unix::fs::symlink("one", &current)?;
    let mut running = serve(&program, &["--admin", "127.0.0.1:0"], &current)?;
    running.addresses(1)?;
    let said = running.errors();
    let admin = said.lines().find_map(|line| line.split_once(": admin on http://")?.1.strip_suffix('/'));
    let admin: SocketAddr = admin.ok_or("no admin listener")?.parse()?;
    let page = expect_counts(admin, [1.0, 0.0, 0.0, 0.0, 0.0, 0.0])?;
    let version = format!("triptych_keeper_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
    page.value(&version)?;
    signal(running.server_id()?, Signal::KILL)?;
    expect_counts(admin, [2.0, 1.0, 0.0, 0.0, 0.0, 0.0])?;
    let put = |content: &[u8]| -> Result<(), Failed> {
        let next = outer.path().join("next");
        fs::write(&next, content)?;
        fs::set_permissions(&next, fs::Permissions::from_mode(0o755))?;
        Ok(fs::rename(next, &program)?)
    };
    put(b"#!/bin/sh\nexit 3\n")?;
    running.signal(Signal::USR2)?;
    expect_counts(admin, [3.0, 1.0, 1.0, 1.0, 0.0, 0.0])?;
    put(b"nonsense")?;
    running.signal(Signal::USR2)?;
    expect_counts(admin, [3.0, 1.0, 2.0, 2.0, 0.0, 0.0])?;
    put(&fs::read(TRIPTYCH)?)?;
    upgrade(&running)?;
    let page = expect_counts(admin, [4.0, 1.0, 3.0, 2.0, 0.0, 0.0])?;
    page.value(&version)?;
    let info = |name: &str| -> Result<String, Failed> {
        let directory = fs::canonicalize(outer.path())?.join(name);
        let (root, directory) = (current.display(), directory.display());
        Ok(format!("triptych_root_info{{root=\"{root}\",directory=\"{directory}\"}}"))
    };
    page.value(&info("one")?)?;
    fs::write(outer.path().join("two/_redirects"), "nonsense\n/a\n")?;
    std::os::unix::fs::symlink("two", outer.path().join("next"))?;
    fs::rename(outer.path().join("next"), &current)?;
    let is_served = || {
        let page = expect_counts(admin, [5.0, 1.0, 3.0, 2.0, 1.0, 0.0]).ok();
        let faults = page.as_ref().and_then(|page| page.value("triptych_rule_faults").ok());
        faults == Some(2.0)
            && info("two").is_ok_and(|info| page.is_some_and(|page| page.value(&info).is_ok()))
    };
    deadline::within(PATIENCE, "the other release to be told", || {
        thread::sleep(Duration::from_millis(20));
        is_served()
    })?;
    running.end()?;
    DONE
}

fn the_log_is_rotated_across_an_upgrade() -> Outcome {
    let (sites, folder) = (Sites::build()?, tempfile::tempdir()?);
    let path = folder.path().join("access.log");
    let flag = format!("--access-log={}", path.display());
    let mut running = serve(Path::new(TRIPTYCH), &[&flag], &sites.main())?;
    let address = running.addresses(1)?[0];
    let ask = |target: &str| -> Result<(), Failed> {
        Client::connect(address)?.get(target)?;
        Ok(())
    };
    let has = |name: &str, target: &str| {
        let lines = || fs::read_to_string(folder.path().join(name)).unwrap_or_default();
        deadline::within(PATIENCE, "a line", || lines().contains(&format!("GET {target} ")))
            .map_err(|_| format!("no line of {target} in {name}: {}", lines()))
    };
    ask("/one")?;
    has("access.log", "/one")?;
    upgrade(&running)?;
    ask("/two")?;
    has("access.log", "/two")?;
    fs::rename(&path, folder.path().join("old.log"))?;
    running.signal(Signal::HUP)?;
    deadline::within(PATIENCE, "a new file", || path.exists())?;
    deadline::within(PATIENCE, "a line in it", || {
        let _asked = ask("/three");
        fs::read_to_string(&path).is_ok_and(|lines| lines.contains("GET /three "))
    })?;
    upgrade(&running)?;
    ask("/four")?;
    has("access.log", "/four")?;
    running.end()?;
    DONE
}
