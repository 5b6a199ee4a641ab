//! Other people's servers: where they are found, and how they are started.
//!
//! Their configurations are in `bench/peers/`, with the reason for each line, and are compiled in. What
//! differs from start to start is a name between two `@`.

use crate::failure::{Failure, Result};
use crate::server::availability::Availability;
use rustix::fs::{Access, access};
use rustix::process::{Signal, geteuid};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where distributions install servers, outside of an ordinary user's `PATH`.
const SYSTEM_FOLDERS: [&str; 3] = ["/usr/sbin", "/usr/local/sbin", "/sbin"];

/// A server that may be installed here.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) id: &'static str,
    pub(crate) label: &'static str,
    program: &'static str,
    /// Makes it tell its version.
    version: &'static [&'static str],
    install: &'static str,
    pub(crate) template: Option<&'static str>,
    /// Its command line; `@CONFIG@` is the file with its configuration. Empty: the template is the command line.
    arguments: &'static [&'static str],
    /// What ends it without waiting for its clients.
    pub(crate) signal: Signal,
}

const NGINX_INSTALL: &str = "apt install nginx-core, or nginx";

pub(crate) const NGINX: Peer = Peer {
    id: "nginx",
    label: "nginx",
    program: "nginx",
    version: &["-v"],
    install: NGINX_INSTALL,
    template: Some(include_str!("../../peers/nginx.conf")),
    // Before it has read its configuration it would log into a file of the system's.
    arguments: &["-p", "@RUN@", "-e", "stderr", "-c", "@CONFIG@"],
    signal: Signal::TERM,
};

pub(crate) const NGINX_CACHE: Peer = Peer {
    id: "nginx-open-file-cache",
    label: "nginx, open_file_cache",
    template: Some(include_str!("../../peers/nginx-open-file-cache.conf")),
    ..NGINX
};

pub(crate) const NGINX_THREADS: Peer = Peer {
    id: "nginx-aio-threads",
    label: "nginx, aio threads",
    template: Some(include_str!("../../peers/nginx-aio-threads.conf")),
    ..NGINX
};

pub(crate) const LIGHTTPD: Peer = Peer {
    id: "lighttpd",
    label: "lighttpd",
    program: "lighttpd",
    version: &["-v"],
    install: "apt install lighttpd",
    template: Some(include_str!("../../peers/lighttpd.conf")),
    arguments: &["-D", "-f", "@CONFIG@"],
    signal: Signal::TERM,
};

pub(crate) const H2O: Peer = Peer {
    id: "h2o",
    label: "h2o",
    program: "h2o",
    version: &["-v"],
    install: "apt install h2o",
    template: Some(include_str!("../../peers/h2o.yaml")),
    arguments: &["-c", "@CONFIG@"],
    // Asked to end it waits for its clients, those of idle connections, too; of SIGINT some parents relieve it.
    signal: Signal::KILL,
};

pub(crate) const CADDY: Peer = Peer {
    id: "caddy",
    label: "caddy",
    program: "caddy",
    version: &["version"],
    install: "apt install caddy",
    template: Some(include_str!("../../peers/caddy.Caddyfile")),
    arguments: &["run", "--adapter", "caddyfile", "--config", "@CONFIG@"],
    signal: Signal::TERM,
};

pub(crate) const STATIC_WEB: Peer = Peer {
    id: "static-web-server",
    label: "static-web-server",
    program: "static-web-server",
    version: &["--version"],
    install: "cargo install --locked static-web-server",
    template: Some(include_str!("../../peers/static-web-server.toml")),
    arguments: &["--config-file", "@CONFIG@"],
    signal: Signal::TERM,
};

pub(crate) const MINISERVE: Peer = Peer {
    id: "miniserve",
    label: "miniserve",
    program: "miniserve",
    version: &["--version"],
    install: "cargo install --locked miniserve",
    template: Some(include_str!("../../peers/miniserve.args")),
    arguments: &[],
    signal: Signal::TERM,
};

/// What differs from start to start.
pub(crate) struct Instance<'a> {
    /// The files to serve.
    pub(crate) root: &'a Path,
    /// A folder of its own, for what it writes.
    pub(crate) run: &'a Path,
    /// The port of the loopback to listen on.
    pub(crate) port: u16,
}

#[derive(Debug)]
pub(crate) struct PeerCommand {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<OsString>,
    pub(crate) variables: Vec<(String, OsString)>,
}

impl Peer {
    /// Its executable, in `PATH` or where distributions put servers.
    pub(crate) fn locate(&self) -> Option<PathBuf> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::env::split_paths(&path).chain(SYSTEM_FOLDERS.map(PathBuf::from));
        let mut candidates = folders.map(|folder| folder.join(self.program));
        candidates.find(|program| program.is_file() && access(program, Access::EXEC_OK).is_ok())
    }

    pub(crate) fn find(&self) -> Availability {
        let Some(program) = self.locate() else {
            return Availability::Missing { install: self.install.to_owned() };
        };
        match Command::new(&program).args(self.version).output() {
            Err(error) => Availability::Unavailable { reason: format!("{}: {error}", program.display()) },
            // Some tell it as a result, some as an error.
            Ok(output) => {
                let told = [output.stdout, output.stderr].concat();
                Availability::Found { version: version_in(&String::from_utf8_lossy(&told)) }
            }
        }
    }

    /// Writes its configuration into the run folder, and says how to start it.
    pub(crate) fn prepare(&self, program: PathBuf, instance: &Instance<'_>) -> Result<PeerCommand> {
        let configuration = self.template.map(|template| filled(template, instance)).transpose()?;
        // static-web-server tells the format by the name's ending.
        let file = instance.run.join(if self.id == STATIC_WEB.id { "sws.toml" } else { "configuration" });
        if let Some(text) = &configuration {
            fs::write(&file, text).map_err(Failure::context(format!("write {}", file.display())))?;
        }
        let run = OsString::from(instance.run);
        let argument = |word: &&str| match *word {
            "@CONFIG@" => OsString::from(&file),
            "@RUN@" => run.clone(),
            word => OsString::from(word),
        };
        let arguments = match self.arguments {
            [] => arguments(configuration.as_deref().unwrap_or_default()),
            words => words.iter().map(argument).collect(),
        };
        // caddy keeps state in the user's home; Go's scheduler gets one thread for the one CPU.
        let variables = if self.id == CADDY.id {
            let homes =
                ["HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"].map(|name| (name.to_owned(), run.clone()));
            homes.into_iter().chain([("GOMAXPROCS".to_owned(), OsString::from("1"))]).collect()
        } else {
            Vec::new()
        };
        Ok(PeerCommand { program, arguments, variables })
    }
}

/// The template with the names replaced.
fn filled(template: &str, instance: &Instance<'_>) -> Result<String> {
    let path = |path: &Path| {
        let plain = |text: &&str| !text.contains(['"', '\\', '$', '\n', '{', '}']);
        path.to_str().filter(plain).map(str::to_owned).ok_or_else(|| {
            Failure::new(format!("{} can't stand in a configuration; use another folder", path.display()))
        })
    };
    let is_root = geteuid().is_root();
    let names = [
        ("@ROOT@", path(instance.root)?),
        ("@RUN@", path(instance.run)?),
        ("@PORT@", instance.port.to_string()),
        // Started by root, these two would go on as nobody, who may not be allowed to read the files.
        ("@NGINX_USER@", if is_root { "user root;" } else { "# not started by root" }.to_owned()),
        ("@H2O_USER@", if is_root { "user: root" } else { "# not started by root" }.to_owned()),
    ];
    Ok(names.into_iter().fold(template.to_owned(), |text, (name, value)| text.replace(name, &value)))
}

/// A line each; what begins with a number sign is a reason.
fn arguments(text: &str) -> Vec<OsString> {
    let lines = text.lines().map(str::trim);
    lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(OsString::from).collect()
}

/// The first thing in what a program tells of itself that looks like a version.
fn version_in(told: &str) -> String {
    let mut words =
        told.split(|c: char| c.is_whitespace() || c == '/').map(|word| word.trim_start_matches('v'));
    let is_version = |word: &&str| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.');
    words.find(is_version).unwrap_or("unknown version").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_as_programs_tell_them() {
        let table = [
            ("nginx version: nginx/1.22.1\n", "1.22.1"),
            ("Version:      2.44.1\nBuilt:        \n", "2.44.1"),
            ("\nh2o version 2.2.5\nOpenSSL: 3\n", "2.2.5"),
            ("lighttpd/1.4.69 (ssl) - a light and fast webserver\n", "1.4.69"),
            ("v2.6.2 h1:x=\n", "2.6.2"),
            ("", "unknown version"),
        ];
        for (told, version) in table {
            assert_eq!(version_in(told), version, "{told:?}");
        }
    }

    const ALL: [&Peer; 8] =
        [&NGINX, &NGINX_CACHE, &NGINX_THREADS, &LIGHTTPD, &H2O, &CADDY, &STATIC_WEB, &MINISERVE];

    #[test]
    fn templates_are_filled() {
        let instance = Instance { root: Path::new("/the root"), run: Path::new("/run/x"), port: 40_123 };
        for peer in ALL {
            let text = filled(peer.template.unwrap(), &instance).unwrap();
            assert!(!text.contains('@'), "{}: {text}", peer.id);
            assert!(text.contains("/the root") && text.contains("40123"), "{}: {text}", peer.id);
        }
    }

    #[test]
    fn a_path_that_would_end_a_string_is_refused() {
        let instance = Instance { root: Path::new("/a\"b"), run: Path::new("/run/x"), port: 1 };
        let failure = filled("@ROOT@", &instance).unwrap_err().to_string();
        assert!(failure.contains("use another folder"), "{failure}");
    }

    #[test]
    fn command_lines_have_reasons_too() {
        assert_eq!(arguments("# why\n--port\n 80 \n\n"), ["--port", "80"]);
    }

    #[test]
    fn command_lines_are_filled_and_configurations_written() {
        let run = tempfile::tempdir().unwrap();
        let instance = Instance { root: Path::new("/srv"), run: run.path(), port: 40_123 };
        for peer in ALL {
            let command = peer.prepare(PathBuf::from(peer.program), &instance).unwrap();
            let words: Vec<&str> = command.arguments.iter().map(|word| word.to_str().unwrap()).collect();
            assert!(
                !words.is_empty() && !words.iter().any(|word| word.contains('@')),
                "{}: {words:?}",
                peer.id
            );
            let config = words.iter().find(|word| Path::new(word).is_file());
            assert_eq!(config.is_some(), peer.id != "miniserve", "{}: {words:?}", peer.id);
        }
        let words = NGINX.prepare(PathBuf::new(), &instance).unwrap().arguments;
        assert_eq!(words[2..5], ["-e", "stderr", "-c"]);
    }

    /// A reader of the report sees why each line is there.
    #[test]
    fn every_line_has_a_reason() {
        for peer in ALL {
            let mut reason = false;
            for line in peer.template.unwrap().lines().map(str::trim) {
                let is_frame = line.ends_with('{') || line == "}";
                if line.starts_with('#') {
                    reason = true;
                } else if line.is_empty() {
                    reason = false;
                } else if !is_frame {
                    assert!(reason, "{}: no reason in front of {line:?}", peer.id);
                }
            }
        }
    }
}
