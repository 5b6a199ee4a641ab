//! What the harness tells the process that it starts: one argument, in JSON.

use crate::machine::cpus::Cpus;
use crate::server::target::{Backend, Mechanism, Settings};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::{fmt, str};

pub(crate) const SUBCOMMAND: &str = "serve-under-test";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LaunchOrder {
    /// Its CPUs, one for each worker that it is to have.
    pub(crate) cpus: Cpus,
    /// Where it listens, on a port that is free.
    pub(crate) address: Ipv4Addr,
    /// The harness: the process doesn't outlive it.
    pub(crate) parent: i32,
    pub(crate) work: Work,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Work {
    /// One of this project's servers, over the files below `root`.
    Backend { backend: Backend, settings: Settings, root: PathBuf },
    /// The content of the file `answer`, whatever is asked.
    Constant { mechanism: Mechanism, answer: PathBuf },
    /// A rung of the lab, by its name, which gives its one answer to everything.
    Rung { rung: String },
    /// hyper, over the files below `root`; with those that were compressed beforehand, if it is to look for them.
    Hyper { root: PathBuf, sends_sidecars: bool },
    /// Another program, which this process becomes. Its output goes to the file `log`.
    Program { program: PathBuf, arguments: Vec<OsString>, variables: Vec<(String, OsString)>, log: PathBuf },
}

impl LaunchOrder {
    /// `None` for everything that isn't the harness's own call.
    pub(crate) fn parse(mut arguments: impl Iterator<Item = OsString>) -> Option<LaunchOrder> {
        let subcommand = arguments.next()?;
        let order = arguments.next()?;
        let whole = subcommand.as_os_str() == SUBCOMMAND && arguments.next().is_none();
        if whole { serde_json::from_str(order.to_str()?).ok() } else { None }
    }
}

/// What a server's process says, each in a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Announcement {
    /// It has taken its place and waits to be released.
    Ready,
    /// It accepts connections there.
    Listening(SocketAddr),
    /// This machine can't run it, for this reason.
    Unavailable(String),
    Failed(String),
}

impl fmt::Display for Announcement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Announcement::Ready => f.write_str("ready"),
            Announcement::Listening(address) => write!(f, "listening {address}"),
            Announcement::Unavailable(reason) => write!(f, "unavailable {reason}"),
            Announcement::Failed(reason) => write!(f, "failed {reason}"),
        }
    }
}

impl Announcement {
    pub(crate) fn parse(line: &str) -> Announcement {
        let line = line.trim_end();
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match (word, rest.parse()) {
            ("ready", _) => Announcement::Ready,
            ("listening", Ok(address)) => Announcement::Listening(address),
            ("unavailable", _) => Announcement::Unavailable(rest.to_owned()),
            ("failed", _) => Announcement::Failed(rest.to_owned()),
            _ => Announcement::Failed(format!("it said {line:?} instead of where it listens")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::target::Cache;

    #[test]
    fn announcements_round_trip() {
        for announcement in [
            Announcement::Ready,
            Announcement::Listening("127.0.0.1:80".parse().unwrap()),
            Announcement::Listening("[::1]:80".parse().unwrap()),
            Announcement::Unavailable("no io_uring here".to_owned()),
            Announcement::Failed("no such folder".to_owned()),
        ] {
            assert_eq!(Announcement::parse(&format!("{announcement}\n")), announcement);
        }
        let strange = Announcement::parse("listening here\n");
        let told = "it said \"listening here\" instead of where it listens".to_owned();
        assert_eq!(strange, Announcement::Failed(told));
    }

    #[test]
    fn only_the_harness_s_own_call() {
        let settings = Settings { without: vec!["unbatched".to_owned()], ..Cache::Off.into() };
        let work = Work::Backend { backend: Backend::Uring, settings, root: PathBuf::from("/srv") };
        let order = LaunchOrder { cpus: Cpus::one(1), address: Ipv4Addr::LOCALHOST, parent: 77, work };
        let json = serde_json::to_string(&order).unwrap();
        let parse = |line: &[&str]| LaunchOrder::parse(line.iter().map(OsString::from));
        assert_eq!(parse(&[SUBCOMMAND, &json]), Some(order));
        let others: [&[&str]; 6] = [
            &[],
            &["--bench"],
            &[SUBCOMMAND],
            &[SUBCOMMAND, "--bench"],
            &["serve", &json],
            &[SUBCOMMAND, &json, "x"],
        ];
        for line in others {
            assert_eq!(parse(line), None, "{line:?}");
        }
    }
}
