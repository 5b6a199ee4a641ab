//! What is probably meant where flags don't go together.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use clap::Command;

use crate::service::endpoint::Endpoint;
use crate::service::start::StartError;
use crate::site::root::RootError;

/// A flag and the argument behind it, which isn't its value: `--access-log a.log` logs to standard output, and `a.log` is
/// the directory to serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Detached {
    flag: String,
    value: OsString,
}

impl Detached {
    /// The first one, if the command line has any. Only a value behind an equals sign is one for such a flag.
    pub(super) fn find(command: &Command, arguments: &[OsString]) -> Option<Detached> {
        let takes_equals = |flag: &str| {
            let long = flag.strip_prefix("--")?;
            command.get_arguments().find(|arg| arg.is_require_equals_set() && arg.get_long() == Some(long))
        };
        let flags = arguments.iter().take_while(|argument| *argument != "--");
        flags.zip(arguments.iter().skip(1)).find_map(|(flag, value)| {
            let flag = flag.to_str()?;
            takes_equals(flag)?;
            let is_value = !value.as_encoded_bytes().starts_with(b"-");
            is_value.then(|| Detached { flag: flag.to_owned(), value: value.clone() })
        })
    }

    /// What to say where there is a directory to serve besides.
    pub(super) fn line(&self) -> String {
        let Detached { flag, value } = self;
        let value = value.display();
        format!("{value} behind {flag} is taken for the directory to serve; write {flag}={value}")
    }

    /// Why the root can't be opened, and what that may have to do with a flag.
    pub(super) fn explain(detached: Option<&Detached>, root: &Path, error: &RootError) -> StartError {
        match detached.filter(|detached| OsStr::new(&detached.value) == root.as_os_str()) {
            Some(Detached { flag, value }) => {
                StartError::new(format!("{error}; or write {flag}={}, if it is for that", value.display()))
            }
            None => StartError::new(error.to_string()),
        }
    }
}

/// What is wrong with addresses that this setting names together, if two of them can't be had together.
pub(super) fn overlap(setting: &str, endpoints: &[Endpoint]) -> Option<String> {
    let pairs = endpoints.iter().enumerate().flat_map(|(at, one)| {
        endpoints[at + 1..].iter().map(move |other| (one, other)).filter(|(one, other)| one.overlaps(other))
    });
    let (one, other) = pairs.into_iter().next()?;
    Some(if one == other {
        format!("{setting} has {one} twice")
    } else {
        format!("{setting}: {one} and {other} overlap, one includes the other; leave one of them out")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::cli::flags::command;

    #[test]
    fn a_value_without_its_equals_sign() {
        let found = |arguments: &[&str]| {
            let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
            Detached::find(&command("x", &[]), &arguments).map(|detached| detached.line())
        };
        let hint = "foo behind --access-log is taken for the directory to serve; write --access-log=foo";
        assert_eq!(found(&["x", "--access-log", "foo", "site"]).as_deref(), Some(hint));
        assert!(found(&["x", "-p", "1", "--stats", "1s"]).is_some_and(|hint| hint.contains("--stats=1s")));
        for none in [
            &["x", "--access-log=foo", "site"][..],
            &["x", "--access-log", "--stats", "-p"],
            &["x", "site", "--access-log"],
            &["x", "--grace", "1s"],
            &["x", "--", "--access-log", "foo"],
        ] {
            assert_eq!(found(none), None, "{none:?}");
        }
    }

    #[test]
    fn addresses_that_exclude_each_other() {
        for (endpoints, expected) in [
            (&["127.0.0.1:1", "0.0.0.0:1"][..], Some("127.0.0.1:1 and 0.0.0.0:1 overlap")),
            (&["[::]:1", "unix:x", "127.0.0.1:1"], Some("[::]:1 and 127.0.0.1:1 overlap")),
            (&["[::1]:1", "[::]:1"], Some("overlap")),
            (&["[::]:1", "0.0.0.0:1"], Some("overlap")),
            (&["127.0.0.1:1", "127.0.0.1:1"], Some("--listen has 127.0.0.1:1 twice")),
            (&["unix:x", "unix:x"], Some("--listen has unix:x twice")),
            (&["127.0.0.1:1", "[::1]:1", "127.0.0.2:1", "unix:x", "unix:y"], None),
            (&["0.0.0.0:1", "[::1]:1", "0.0.0.0:2"], None),
            (&["127.0.0.1:0", "127.0.0.1:0", "[::]:0"], None),
        ] {
            let endpoints: Vec<Endpoint> =
                endpoints.iter().map(|text| text.parse().expect("an endpoint")).collect();
            let line = overlap("--listen", &endpoints);
            match (line, expected) {
                (None, None) => {}
                (Some(line), Some(expected)) => assert!(line.contains(expected), "{line}"),
                (line, _) => panic!("{endpoints:?}: {line:?}"),
            }
        }
    }
}
