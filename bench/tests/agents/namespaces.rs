//! Agents that reach the server by a network of their own.
//!
//! The test starts itself twice: `near`, in a network namespace, where server and harness are, and from there `far`, in
//! another one, with the agents. A pair of virtual interfaces (veth(4)) joins the two. Namespaces and interfaces end with
//! the last process in them (network_namespaces(7)), and `far` ends with its input, so nothing is left.

use crate::agent::{Agent, token};
use crate::counted::Counted;
use crate::loads::share_every_kind_of_load;
use crate::runs::{Sandbox, check, succeeded};
use crate::{Outcome, Test};
use bench::agent::fleet::Fleet;
use libtest_mimic::Failed;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, ExitCode, Stdio};

pub(crate) const TESTS: &[Test] =
    &[("namespaces::agents_load_a_server_across_a_network", agents_load_a_server_across_a_network)];

const NEAR: &str = "near";
const FAR: &str = "far";
const NEAR_ADDRESS: &str = "10.77.0.1";
const FAR_ADDRESS: &str = "10.77.0.2";

/// What begins a network namespace: as root, or as the root of a user namespace.
const WAYS: [&[&str]; 2] = [&["--net"], &["--net", "--user", "--map-root-user"]];

fn unshare(way: &[&str]) -> Command {
    let mut command = Command::new("unshare");
    command.args(way).arg("--");
    command
}

/// The way that this machine and this user allow.
fn way() -> Result<&'static [&'static str], String> {
    let mut why = String::new();
    for way in WAYS {
        let script = "ip link set lo up && ip link add name near type veth peer name far";
        let tried = unshare(way).args(["sh", "-c", script]).stdin(Stdio::null()).output();
        match tried {
            Ok(output) if output.status.success() => return Ok(way),
            Ok(output) => why = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; "),
            Err(error) => why = format!("unshare: {error}"),
        }
    }
    Err(format!("no network namespace with a veth pair here: {why}"))
}

/// Why there can be no such test; `None` if there can.
pub(crate) fn missing() -> Option<String> {
    way().err()
}

/// What this process does when it was started as a part of the test.
pub(crate) fn play_a_part() -> Option<ExitCode> {
    let part = std::env::args().nth(1)?;
    let played = match part.as_str() {
        NEAR => near(),
        FAR => far(),
        _ => return None,
    };
    Some(match played {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => {
            eprintln!("{part}: {}", failed.message().unwrap_or("it panicked"));
            ExitCode::FAILURE
        }
    })
}

fn agents_load_a_server_across_a_network() -> Outcome {
    let near = unshare(way()?).arg(std::env::current_exe()?).arg(NEAR).stdin(Stdio::null()).output()?;
    if near.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&near.stderr).into_owned().into())
    }
}

fn ip(arguments: &str) -> Outcome {
    let output = Command::new("ip").args(arguments.split(' ')).stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("ip {arguments}: {}", String::from_utf8_lossy(&output.stderr)).into())
}

/// The other process, which is killed when it is dropped.
struct Part(Child);

impl Drop for Part {
    fn drop(&mut self) {
        // At the end of its input it ends its agents; killed, it couldn't.
        drop(self.0.stdin.take());
        let _ended = self.0.wait();
    }
}

fn near() -> Outcome {
    ip("link set lo up")?;
    let mut far = unshare(&["--net"]);
    far.arg(std::env::current_exe()?).arg(FAR).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut far = Part(far.spawn()?);
    let mut output = BufReader::new(far.0.stdout.take().ok_or("no output")?);
    let mut line = || -> Result<String, Failed> {
        let mut line = String::new();
        output.read_line(&mut line)?;
        Ok(line.trim().to_owned())
    };
    // It has left this namespace when it speaks; before, the interface would stay here.
    if line()? != "there" {
        return Err("far didn't come up".into());
    }
    ip(&format!("link add name near type veth peer name far netns {}", far.0.id()))?;
    ip(&format!("addr add {NEAR_ADDRESS}/24 dev near"))?;
    ip("link set near up")?;
    far.0.stdin.as_mut().ok_or("no input")?.write_all(b"go\n")?;
    let names = [line()?, line()?];
    assert!(names.iter().all(|name| name.starts_with(FAR_ADDRESS)), "{names:?}");
    let server = Counted::start(NEAR_ADDRESS)?;
    let mut fleet = Fleet::gather(&names, token()?)?;
    share_every_kind_of_load(&mut fleet, &server, 2)?;
    drop(fleet);
    let sandbox = Sandbox::new()?;
    let [one, two] = names.each_ref().map(String::as_str);
    let common = [
        "run",
        "--window-ms",
        "100",
        "--rounds",
        "2",
        "--targets",
        "epoll,epoll-twin,blocking,nginx,hyper",
        "--only",
        "hot-small,common-rate",
        "--agent",
        one,
        "--agent",
        two,
    ];
    let astray = sandbox.run(&common)?;
    let told = String::from_utf8_lossy(&astray.stderr).into_owned();
    assert!(
        told.contains("127.0.0.1 is each machine's own: ") && told.contains("--server-address"),
        "{told}"
    );
    succeeded(&sandbox.run(&[&common[..], &["--server-address", NEAR_ADDRESS]].concat())?)?;
    let folder = sandbox.result()?;
    check(&folder, 2)?;
    let (record, _) = crate::runs::read(&folder)?;
    assert_eq!(record["server_address"], NEAR_ADDRESS);
    Ok(())
}

fn far() -> Outcome {
    let say = |line: &str| std::io::stdout().write_all(format!("{line}\n").as_bytes());
    say("there")?;
    let mut input = std::io::stdin().lock();
    input.read_line(&mut String::new())?;
    ip("link set lo up")?;
    ip(&format!("addr add {FAR_ADDRESS}/24 dev far"))?;
    ip("link set far up")?;
    let listen = format!("{FAR_ADDRESS}:0");
    let agents = [Agent::listening(&listen, &[])?, Agent::listening(&listen, &[])?];
    for agent in &agents {
        say(&agent.name)?;
    }
    input.read_to_end(&mut Vec::new())?;
    Ok(())
}
