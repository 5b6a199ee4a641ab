//! The sandbox, from inside the serving process: what somebody who has taken it over can't do.
//!
//! The program under test is this executable, restarted with `TRIPTYCH_ATTEMPT`: it is the whole program, and makes one
//! attempt once it serves.

#[path = "sandbox/attempts.rs"]
mod attempts;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use conformance::client::Client;
use conformance::program::Running;
use conformance::{confined, deadline};
use libtest_mimic::{Completion, Failed, Trial};
use rustix::process::{Signal, getuid};

use attempts::{ATTEMPT, ON};

const PATIENCE: Duration = Duration::from_secs(20);

type Outcome = Result<Completion, Failed>;

const DONE: Outcome = Ok(Completion::Completed);

fn main() -> ExitCode {
    if let Some(code) = confined::become_if_asked() {
        return code;
    }
    if std::env::var_os(ATTEMPT).is_some() {
        return triptych::run_with(attempts::make);
    }
    conformance::main(|| {
        let mut trials: Vec<_> = ATTEMPTS
            .iter()
            .map(|attempt| trial(&format!("attempt::{}", attempt.name), || try_it(attempt)))
            .collect();
        trials.extend([
            trial("without_it_all_is_possible", without_it_all_is_possible),
            trial("what_the_kernel_lacks_is_said", what_the_kernel_lacks_is_said),
            trial("user_is_another", user_is_another),
            trial("user_that_there_is_not", user_that_there_is_not),
        ]);
        Ok(trials)
    })
}

fn trial(name: &str, test: impl FnOnce() -> Outcome + Send + 'static) -> Trial {
    Trial::ignorable_test(name.to_owned(), test)
}

/// On what an attempt is made.
#[derive(Clone, Copy, Debug)]
enum Target {
    Path(&'static str),
    /// A file in the root, or a new one.
    Root(&'static str),
    /// A file beside the root.
    Outside(&'static str),
    /// The process of the tests.
    Process,
    Nothing,
}

/// What becomes of it.
#[derive(Clone, Copy, Debug)]
enum Expected {
    Works,
    /// Landlock refuses it; without that part of the kernel nothing does.
    Denied,
    /// The filter of system calls refuses it.
    Forbidden,
    /// The filter ends the process.
    Killed,
}

#[derive(Debug)]
struct Attempt {
    name: &'static str,
    kind: &'static str,
    on: Target,
    expected: Expected,
}

const fn attempt(name: &'static str, kind: &'static str, on: Target, expected: Expected) -> Attempt {
    Attempt { name, kind, on, expected }
}

const ATTEMPTS: &[Attempt] = &[
    attempt("reads_the_root", "read", Target::Root("file.txt"), Expected::Works),
    attempt("lists_the_root", "list", Target::Root("."), Expected::Works),
    attempt("reads_what_is_beside_the_root", "read", Target::Outside("secret.txt"), Expected::Denied),
    attempt("reads_the_system", "read", Target::Path("/etc/passwd"), Expected::Denied),
    attempt("reads_processes", "read", Target::Path("/proc/self/environ"), Expected::Denied),
    attempt("lists_the_system", "list", Target::Path("/"), Expected::Denied),
    attempt("writes_in_the_root", "write-openat2", Target::Root("file.txt"), Expected::Denied),
    attempt("creates_in_the_root", "create-openat2", Target::Root("new"), Expected::Denied),
    attempt("creates_elsewhere", "create-openat2", Target::Outside("new"), Expected::Denied),
    attempt("writes", "write", Target::Root("file.txt"), Expected::Forbidden),
    attempt("removes", "remove", Target::Root("file.txt"), Expected::Forbidden),
    attempt("renames", "rename", Target::Root("file.txt"), Expected::Forbidden),
    attempt("makes_a_directory", "make-directory", Target::Root("directory"), Expected::Forbidden),
    attempt("changes_permissions", "permit", Target::Root("file.txt"), Expected::Forbidden),
    attempt("connects", "connect", Target::Path("127.0.0.1:9"), Expected::Forbidden),
    attempt("listens", "listen", Target::Path("127.0.0.1:0"), Expected::Forbidden),
    attempt("sends_datagrams", "udp", Target::Path("127.0.0.1:0"), Expected::Forbidden),
    attempt("connects_in_this_machine", "abstract", Target::Path("somebody"), Expected::Forbidden),
    attempt("signals_others", "signal", Target::Process, Expected::Forbidden),
    attempt("starts_a_process", "spawn", Target::Nothing, Expected::Forbidden),
    attempt("becomes_a_program", "execute", Target::Nothing, Expected::Killed),
    attempt("makes_a_namespace", "unshare", Target::Nothing, Expected::Killed),
    attempt("mounts", "mount", Target::Path("/tmp"), Expected::Killed),
    attempt("makes_a_ring", "ring", Target::Nothing, Expected::Killed),
];

/// A root with a file, and a file beside it.
struct Ground {
    folder: tempfile::TempDir,
}

impl Ground {
    fn new() -> Result<Ground, Failed> {
        let folder = tempfile::tempdir()?;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
        let ground = Ground { folder };
        fs::create_dir(ground.root())?;
        fs::write(ground.root().join("file.txt"), "of the root")?;
        fs::write(ground.folder.path().join("secret.txt"), "a secret")?;
        Ok(ground)
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    fn target(&self, target: Target) -> PathBuf {
        match target {
            Target::Path(path) => path.into(),
            Target::Root(name) => self.root().join(name),
            Target::Outside(name) => self.folder.path().join(name),
            Target::Process => std::process::id().to_string().into(),
            Target::Nothing => PathBuf::new(),
        }
    }

    /// The program that makes this attempt.
    fn command(&self, kind: &str, on: &Path, arguments: &[&str]) -> Result<Command, Failed> {
        let mut command = Command::new(std::env::current_exe()?);
        command.env(ATTEMPT, kind).env(ON, on);
        command.args(["--listen", "127.0.0.1:0", "--workers", "1"]).args(arguments).arg(self.root());
        Ok(command)
    }

    fn attempt(&self, kind: &str, on: &Path, arguments: &[&str]) -> Result<(Running, String), Failed> {
        let running = Running::start(&mut self.command(kind, on, arguments)?)?;
        let result = || {
            let said = running.errors();
            let (_, result) = said.split_once(&format!("attempt {kind}: "))?;
            Some(result.split_once('\n')?.0.to_owned())
        };
        let was_killed = || running.errors().contains("has ended by itself (signal: 31 (SIGSYS)");
        let serves = || running.errors().contains(": serving ");
        deadline::within(PATIENCE, "the attempt", || result().is_some() && serves() || was_killed())?;
        let result = result().unwrap_or_else(|| "killed".to_owned());
        Ok((running, result))
    }
}

fn try_it(Attempt { kind, on, expected, .. }: &Attempt) -> Outcome {
    let ground = Ground::new()?;
    let (mut running, result) = ground.attempt(kind, &ground.target(*on), &[])?;
    let said = running.errors();
    if let (Expected::Denied, false) = (expected, said.contains("landlock")) {
        return Ok(Completion::ignored_with("this kernel has no landlock"));
    }
    let expected = match expected {
        Expected::Works => "it worked",
        Expected::Denied => "Permission denied (os error 13)",
        Expected::Forbidden => "Operation not permitted (os error 1)",
        Expected::Killed => "killed",
    };
    if result != expected {
        return Err(format!("{result} instead of {expected}; it said: {said}").into());
    }
    if fs::read_to_string(ground.root().join("file.txt"))? != "of the root" {
        return Err("the file is another".into());
    }
    // Whatever became of the server, its keeper lives.
    if running.has_ended() {
        return Err(format!("the keeper has ended: {}", running.errors()).into());
    }
    end(running)
}

fn end(running: Running) -> Outcome {
    running.signal(Signal::TERM)?;
    running.wait(PATIENCE)?;
    DONE
}

/// The attempts are real: without a sandbox they do what they are called.
fn without_it_all_is_possible() -> Outcome {
    for (kind, on) in [
        ("read", Target::Path("/etc/passwd")),
        ("list", Target::Path("/")),
        ("create-openat2", Target::Outside("new")),
        ("write", Target::Root("file.txt")),
        ("make-directory", Target::Root("directory")),
        ("permit", Target::Root("file.txt")),
        ("rename", Target::Root("file.txt")),
        ("remove", Target::Root("file.moved")),
        ("listen", Target::Path("127.0.0.1:0")),
        ("udp", Target::Path("127.0.0.1:0")),
        ("signal", Target::Process),
        ("spawn", Target::Nothing),
        ("ring", Target::Nothing),
    ] {
        let ground = Ground::new()?;
        fs::write(ground.root().join("file.moved"), "")?;
        let (running, result) = ground.attempt(kind, &ground.target(on), &["--sandbox=off"])?;
        let is_lacking = kind == "ring" && uring::available().is_err();
        if result != "it worked" && !is_lacking {
            return Err(format!("{kind}: {result}").into());
        }
        if !running.errors().contains("; no sandbox)") {
            return Err(format!("it said: {}", running.errors()).into());
        }
        end(running)?;
    }
    DONE
}

/// A part that isn't there is named; who requires it is refused.
fn what_the_kernel_lacks_is_said() -> Outcome {
    for (errno, reason) in
        [(libc::ENOSYS, "this kernel has no landlock (Linux 5.13)"), (libc::EOPNOTSUPP, "landlock is off")]
    {
        let ground = Ground::new()?;
        let command = ground.command("none", Path::new(""), &[])?;
        let mut running = Running::start(confined::without_landlock(&command, errno)?.env(ATTEMPT, "none"))?;
        Client::connect(running.addresses(1)?[0])?.get("/file.txt")?;
        let said = running.errors();
        if !said.contains("; sandboxed: seccomp") || !said.contains(reason) {
            return Err(format!("it said: {said}").into());
        }
        end(running)?;
        let command = ground.command("none", Path::new(""), &["--sandbox=require"])?;
        let running = Running::start(confined::without_landlock(&command, errno)?.env(ATTEMPT, "none"))?;
        let ended = running.wait(PATIENCE)?;
        let expected = format!("triptych: error: --sandbox=require, but {reason}");
        if ended.status.code() != Some(1) || !ended.errors.starts_with(&expected) {
            return Err(format!("{ended:?}").into());
        }
    }
    DONE
}

/// The keeper stays root; who serves doesn't.
fn user_is_another() -> Outcome {
    if !getuid().is_root() {
        return Ok(Completion::ignored_with("needs root"));
    }
    let ground = Ground::new()?;
    let mut running = Running::start(&mut ground.command("none", Path::new(""), &["--user=nobody"])?)?;
    Client::connect(running.addresses(1)?[0])?.get("/file.txt")?;
    let ids = |process: u32| -> Result<String, Failed> {
        let status = fs::read_to_string(format!("/proc/{process}/status"))?;
        let ids =
            status.lines().filter(|line| ["Uid:", "Gid:", "Groups:"].iter().any(|id| line.starts_with(id)));
        Ok(ids.collect::<Vec<_>>().join(" ").split_whitespace().collect::<Vec<_>>().join(" "))
    };
    let (keeper, server) = (ids(running.id())?, ids(running.server_id()?)?);
    if !keeper.starts_with("Uid: 0 0 0 0") || !server.starts_with("Uid: 65534 65534 65534 65534 Gid: 65534") {
        return Err(format!("{keeper}; {server}").into());
    }
    if !server.ends_with("Groups:") {
        return Err(format!("it is in other groups: {server}").into());
    }
    end(running)
}

fn user_that_there_is_not() -> Outcome {
    let ground = Ground::new()?;
    let command = &mut ground.command("none", Path::new(""), &["--user=nobody-of-this-name"])?;
    let ended = Running::start(command)?.wait(PATIENCE)?;
    let expected = "triptych: error: --user nobody-of-this-name: there is no such user";
    if ended.status.code() != Some(1) || !ended.errors.starts_with(expected) {
        return Err(format!("{ended:?}").into());
    }
    DONE
}
