//! An agent as a process, and what a harness needs to command it.

use bench::agent::fleet::Fleet;
use bench::agent::token::{Token, VARIABLE};
use libtest_mimic::Failed;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub(crate) const TOKEN: &str = "a token of the tests";
/// Longer than anything here takes, even on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// A running agent, which is killed when it is dropped.
pub(crate) struct Agent {
    child: Child,
    /// Where it listens.
    pub(crate) name: String,
}

impl Agent {
    /// On any port of the loopback.
    pub(crate) fn start(arguments: &[&str]) -> Result<Agent, Failed> {
        Agent::listening("127.0.0.1:0", arguments)
    }

    pub(crate) fn listening(address: &str, arguments: &[&str]) -> Result<Agent, Failed> {
        let mut child = Command::new(env!("CARGO_BIN_EXE_bench"))
            .args(["agent", "--listen", address])
            .args(arguments)
            .env(VARIABLE, TOKEN)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = child.stdout.take().ok_or("no output")?;
        let mut agent = Agent { child, name: String::new() };
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        let rest = line.strip_prefix("an agent listens on ").ok_or_else(|| format!("it said {line:?}"))?;
        agent.name = rest.split(' ').next().unwrap_or_default().to_owned();
        Ok(agent)
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<(), Failed> {
        Ok(kill(Pid::from_raw(i32::try_from(self.child.id())?), signal)?)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

pub(crate) fn token() -> Result<Token, Failed> {
    Ok(Token::new(TOKEN.to_owned())?)
}

/// These agents.
pub(crate) fn fleet(agents: &[&Agent]) -> Result<Fleet, Failed> {
    let names: Vec<String> = agents.iter().map(|agent| agent.name.clone()).collect();
    Ok(Fleet::gather(&names, token()?)?)
}

/// Waits for something that has to happen.
pub(crate) fn within_deadline(mut done: impl FnMut() -> bool) -> Result<(), Failed> {
    let deadline = Instant::now() + DEADLINE;
    while !done() {
        if Instant::now() > deadline {
            return Err("it takes too long".into());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}
