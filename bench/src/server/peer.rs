//! Servers that are programs of their own, other people's and this project's: where they are found, and how they are
//! started.
//!
//! Their configurations are in `bench/peers/`, with the reason for each line, and are compiled in. What
//! differs from start to start is a name between two `@`.

use crate::failure::{Failure, Result};
use crate::server::availability::Availability;
use crate::server::built;
use crate::server::ending::Farewell;
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
    pub(crate) farewell: Farewell,
    /// Whether it sends what was compressed beforehand, by somebody else or by itself.
    pub(crate) sends_sidecars: bool,
    /// Whether it compresses each answer on its way.
    pub(crate) compresses: bool,
}

/// This project's program, which chooses its I/O model itself.
pub(crate) const TRIPTYCH: Peer = Peer {
    id: built::NAME,
    label: "triptych",
    program: built::NAME,
    version: &["--version"],
    install: "cargo build --release -p triptych",
    template: Some(include_str!("../../peers/triptych.args")),
    arguments: &[],
    farewell: Farewell::Drain(Signal::TERM),
    sends_sidecars: false,
    compresses: false,
};

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
    farewell: Farewell::Signal(Signal::TERM),
    sends_sidecars: false,
    compresses: false,
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
    farewell: Farewell::Signal(Signal::TERM),
    sends_sidecars: false,
    compresses: false,
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
    farewell: Farewell::Signal(Signal::KILL),
    sends_sidecars: false,
    compresses: false,
};

pub(crate) const CADDY: Peer = Peer {
    id: "caddy",
    label: "caddy",
    program: "caddy",
    version: &["version"],
    install: "apt install caddy",
    template: Some(include_str!("../../peers/caddy.Caddyfile")),
    arguments: &["run", "--adapter", "caddyfile", "--config", "@CONFIG@"],
    farewell: Farewell::Signal(Signal::TERM),
    sends_sidecars: false,
    compresses: false,
};

pub(crate) const STATIC_WEB: Peer = Peer {
    id: "static-web-server",
    label: "static-web-server",
    program: "static-web-server",
    version: &["--version"],
    install: "cargo install --locked static-web-server",
    template: Some(include_str!("../../peers/static-web-server.toml")),
    arguments: &["--config-file", "@CONFIG@"],
    farewell: Farewell::Signal(Signal::TERM),
    sends_sidecars: false,
    compresses: false,
};

pub(crate) const MINISERVE: Peer = Peer {
    id: "miniserve",
    label: "miniserve",
    program: "miniserve",
    version: &["--version"],
    install: "cargo install --locked miniserve",
    template: Some(include_str!("../../peers/miniserve.args")),
    arguments: &[],
    farewell: Farewell::Signal(Signal::TERM),
    sends_sidecars: false,
    compresses: false,
};

pub(crate) const NGINX_SIDECARS: Peer = Peer {
    id: "nginx-sidecars",
    label: "nginx, gzip_static",
    template: Some(include_str!("../../peers/nginx-sidecars.conf")),
    sends_sidecars: true,
    ..NGINX
};

pub(crate) const LIGHTTPD_DEFLATE: Peer = Peer {
    id: "lighttpd-deflate",
    label: "lighttpd, mod_deflate",
    template: Some(include_str!("../../peers/lighttpd-deflate.conf")),
    sends_sidecars: true,
    ..LIGHTTPD
};

pub(crate) const H2O_SIDECARS: Peer = Peer {
    id: "h2o-sidecars",
    label: "h2o, send-compressed",
    template: Some(include_str!("../../peers/h2o-sidecars.yaml")),
    sends_sidecars: true,
    ..H2O
};

pub(crate) const CADDY_SIDECARS: Peer = Peer {
    id: "caddy-sidecars",
    label: "caddy, precompressed",
    template: Some(include_str!("../../peers/caddy-sidecars.Caddyfile")),
    sends_sidecars: true,
    ..CADDY
};

pub(crate) const STATIC_WEB_SIDECARS: Peer = Peer {
    id: "static-web-server-sidecars",
    label: "static-web-server, static",
    template: Some(include_str!("../../peers/static-web-server-sidecars.toml")),
    sends_sidecars: true,
    ..STATIC_WEB
};

pub(crate) const NGINX_GZIP: Peer = Peer {
    id: "nginx-gzip",
    label: "nginx, gzip",
    template: Some(include_str!("../../peers/nginx-gzip.conf")),
    compresses: true,
    ..NGINX
};

pub(crate) const CADDY_ENCODE: Peer = Peer {
    id: "caddy-encode",
    label: "caddy, encode",
    template: Some(include_str!("../../peers/caddy-encode.Caddyfile")),
    compresses: true,
    ..CADDY
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
    /// Whether it is this project's own.
    pub(crate) fn is_ours(&self) -> bool {
        self.id == TRIPTYCH.id
    }

    /// Its executable: built here, or in `PATH`, or where distributions put servers.
    pub(crate) fn locate(&self) -> Option<PathBuf> {
        if self.is_ours() {
            return built::program().ok();
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::env::split_paths(&path).chain(SYSTEM_FOLDERS.map(PathBuf::from));
        let mut candidates = folders.map(|folder| folder.join(self.program));
        candidates.find(|program| program.is_file() && access(program, Access::EXEC_OK).is_ok())
    }

    pub(crate) fn find(&self) -> Availability {
        if self.is_ours()
            && let Err(reason) = built::program()
        {
            return Availability::Unavailable { reason };
        }
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
        let brotli = if self.id == NGINX_SIDECARS.id { Brotli::of(&program) } else { Brotli::Missing };
        let fill = |template| filled(template, instance, &brotli);
        let configuration = self.template.map(fill).transpose()?;
        // static-web-server tells the format by the name's ending.
        let file =
            instance.run.join(if self.program == STATIC_WEB.program { "sws.toml" } else { "configuration" });
        if self.template.is_some_and(|template| template.contains("@CACHE@")) {
            let cache = instance.cache();
            fs::create_dir_all(&cache).map_err(Failure::context(format!("make {}", cache.display())))?;
        }
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
        let variables = if self.program == CADDY.program {
            let homes =
                ["HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"].map(|name| (name.to_owned(), run.clone()));
            homes.into_iter().chain([("GOMAXPROCS".to_owned(), OsString::from("1"))]).collect()
        } else {
            Vec::new()
        };
        Ok(PeerCommand { program, arguments, variables })
    }
}

impl Instance<'_> {
    /// A folder for what a server keeps from start to start, beside the files that it was made from.
    fn cache(&self) -> PathBuf {
        let mut name = self.root.file_name().unwrap_or_default().to_owned();
        name.push(".lighttpd");
        self.root.with_file_name(name)
    }
}

/// Whether nginx can send `.br` files: with ngx_brotli, which isn't part of it.
#[derive(Debug, PartialEq, Eq)]
enum Brotli {
    Missing,
    BuiltIn,
    Module(PathBuf),
}

impl Brotli {
    /// Asks `nginx -V` how it was built and where its modules are.
    fn of(program: &Path) -> Brotli {
        let Ok(output) = Command::new(program).arg("-V").output() else {
            return Brotli::Missing;
        };
        Brotli::among(&String::from_utf8_lossy(&output.stderr))
    }

    fn among(told: &str) -> Brotli {
        let words = || told.split_whitespace().map(|word| word.trim_matches('\''));
        if words().any(|word| word.starts_with("--add-module=") && word.contains("brotli")) {
            return Brotli::BuiltIn;
        }
        let folder = words().find_map(|word| word.strip_prefix("--modules-path="));
        let module = folder.map(|folder| Path::new(folder).join("ngx_http_brotli_static_module.so"));
        module.filter(|module| module.is_file()).map_or(Brotli::Missing, Brotli::Module)
    }

    /// The lines that load it, and that make use of it.
    fn lines(&self) -> (String, String) {
        let none = || "# It isn't.".to_owned();
        let on = || "brotli_static on;".to_owned();
        match self {
            Brotli::Missing => (none(), none()),
            Brotli::BuiltIn => ("# It is built in.".to_owned(), on()),
            Brotli::Module(module) => (format!("load_module \"{}\";", module.display()), on()),
        }
    }
}

/// The template with the names replaced.
fn filled(template: &str, instance: &Instance<'_>, brotli: &Brotli) -> Result<String> {
    let path = |path: &Path| {
        let plain = |text: &&str| !text.contains(['"', '\\', '$', '\n', '{', '}']);
        path.to_str().filter(plain).map(str::to_owned).ok_or_else(|| {
            Failure::new(format!("{} can't stand in a configuration; use another folder", path.display()))
        })
    };
    let is_root = geteuid().is_root();
    let (brotli_module, brotli_static) = brotli.lines();
    let names = [
        ("@CACHE@", path(&instance.cache())?),
        ("@BROTLI_MODULE@", brotli_module),
        ("@BROTLI_STATIC@", brotli_static),
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

    const ALL: [&Peer; 16] = [
        &NGINX_GZIP,
        &CADDY_ENCODE,
        &TRIPTYCH,
        &NGINX,
        &NGINX_CACHE,
        &NGINX_THREADS,
        &LIGHTTPD,
        &H2O,
        &CADDY,
        &STATIC_WEB,
        &MINISERVE,
        &NGINX_SIDECARS,
        &LIGHTTPD_DEFLATE,
        &H2O_SIDECARS,
        &CADDY_SIDECARS,
        &STATIC_WEB_SIDECARS,
    ];

    #[test]
    fn templates_are_filled() {
        let instance = Instance { root: Path::new("/the root"), run: Path::new("/run/x"), port: 40_123 };
        for peer in ALL {
            let text = filled(peer.template.unwrap(), &instance, &Brotli::Missing).unwrap();
            assert!(!text.contains('@'), "{}: {text}", peer.id);
            assert!(text.contains("/the root") && text.contains("40123"), "{}: {text}", peer.id);
        }
    }

    #[test]
    fn a_path_that_would_end_a_string_is_refused() {
        let instance = Instance { root: Path::new("/a\"b"), run: Path::new("/run/x"), port: 1 };
        let failure = filled("@ROOT@", &instance, &Brotli::Missing).unwrap_err().to_string();
        assert!(failure.contains("use another folder"), "{failure}");
    }

    #[test]
    fn command_lines_have_reasons_too() {
        assert_eq!(arguments("# why\n--port\n 80 \n\n"), ["--port", "80"]);
    }

    #[test]
    fn command_lines_are_filled_and_configurations_written() {
        let run = tempfile::tempdir().unwrap();
        let root = run.path().join("srv");
        let instance = Instance { root: &root, run: run.path(), port: 40_123 };
        for peer in ALL {
            let command = peer.prepare(PathBuf::from(peer.program), &instance).unwrap();
            let words: Vec<&str> = command.arguments.iter().map(|word| word.to_str().unwrap()).collect();
            assert!(
                !words.is_empty() && !words.iter().any(|word| word.contains('@')),
                "{}: {words:?}",
                peer.id
            );
            let config = words.iter().find(|word| Path::new(word).is_file());
            let is_a_command_line = peer.arguments.is_empty();
            assert_eq!(config.is_some(), !is_a_command_line, "{}: {words:?}", peer.id);
        }
        let words = NGINX.prepare(PathBuf::new(), &instance).unwrap().arguments;
        assert_eq!(words[2..5], ["-e", "stderr", "-c"]);
    }

    #[test]
    fn nginx_tells_whether_it_knows_brotli() {
        let folder = tempfile::tempdir().unwrap();
        let module = folder.path().join("ngx_http_brotli_static_module.so");
        let dynamic =
            format!("configure arguments: --modules-path={} --with-compat", folder.path().display());
        assert_eq!(Brotli::among("configure arguments: --with-http_gzip_static_module"), Brotli::Missing);
        assert_eq!(Brotli::among(&dynamic), Brotli::Missing);
        fs::write(&module, "").unwrap();
        assert_eq!(Brotli::among(&dynamic), Brotli::Module(module));
        let built_in = "--prefix=/x --add-module='/src/ngx_brotli'";
        assert_eq!(Brotli::among(built_in), Brotli::BuiltIn);
        let instance = Instance { root: Path::new("/srv"), run: Path::new("/run/x"), port: 1 };
        let template = NGINX_SIDECARS.template.unwrap();
        let with = |brotli| filled(template, &instance, &brotli).unwrap();
        assert!(with(Brotli::BuiltIn).contains("\n    brotli_static on;"));
        assert!(with(Brotli::Module("/m.so".into())).contains("\nload_module \"/m.so\";"));
        assert!(!with(Brotli::Missing).contains("brotli_static on"));
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
