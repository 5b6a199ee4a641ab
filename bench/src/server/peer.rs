//! A server that is a program of its own, other people's or this project's: where it is found, and how it is started.
//! `roster` has all of them.
//!
//! Their configurations are in `bench/peers/`, with the reason for each line, and are compiled in. What
//! differs from start to start is a name between two `@`.

use crate::failure::{Failure, Result};
use crate::server::availability::Availability;
use crate::server::ending::Farewell;
use crate::server::seat::Seat;
use crate::server::{built, shelf};
use rustix::process::geteuid;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A server that may be installed here.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) id: &'static str,
    /// What people call it.
    pub(crate) name: &'static str,
    /// What its configuration is about, if there are several.
    pub(crate) variant: &'static str,
    pub(crate) program: &'static str,
    pub(crate) origin: Origin,
    /// Makes it tell its version; empty if nothing does.
    pub(crate) version: &'static [&'static str],
    pub(crate) install: &'static str,
    pub(crate) template: Option<&'static str>,
    /// The name of the file that gets its configuration.
    pub(crate) file: &'static str,
    /// Its command line; `@CONFIG@` is the file with its configuration. Empty: the template is the command line.
    pub(crate) arguments: &'static [&'static str],
    /// What it has to be built with, among what it tells with `-V`.
    pub(crate) needs: &'static [&'static str],
    /// What ends it without waiting for its clients.
    pub(crate) farewell: Farewell,
    /// Whether it sends what was compressed beforehand, by somebody else or by itself.
    pub(crate) sends_sidecars: bool,
    /// Whether it compresses each answer on its way.
    pub(crate) compresses: bool,
}

/// Which copy of a program it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// This project's own, built when it is asked for.
    Built,
    /// The system's; where it has none, that of the project's own environment.
    System,
    /// That of the project's own environment, if it is newer than the system's, which is the target `of`.
    Latest { of: &'static str },
    /// That of the project's own environment; where it has none, the system's.
    Newest,
}

/// What differs from start to start.
pub(crate) struct Instance<'a> {
    /// The files to serve.
    pub(crate) root: &'a Path,
    /// A folder of its own, for what it writes.
    pub(crate) run: &'a Path,
    /// Where it runs and listens.
    pub(crate) seat: Seat,
    /// The port to listen on.
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
        self.origin == Origin::Built
    }

    /// "nginx, aio threads": to be told apart while nobody knows its version.
    pub(crate) fn label(&self) -> String {
        let newest = if matches!(self.origin, Origin::Latest { .. }) { " (newest)" } else { "" };
        self.called(newest)
    }

    /// "nginx 1.31.3, aio threads".
    pub(crate) fn label_in(&self, version: &str) -> String {
        self.called(&format!(" {version}"))
    }

    fn called(&self, which: &str) -> String {
        let comma = if self.variant.is_empty() { "" } else { ", " };
        format!("{}{which}{comma}{}", self.name, self.variant)
    }

    /// Its executable.
    pub(crate) fn locate(&self) -> Option<PathBuf> {
        let (installed, own) = (|| shelf::installed(self.program), || shelf::own(self.program));
        match self.origin {
            Origin::Built => built::program().ok(),
            Origin::System => installed().or_else(own),
            Origin::Latest { .. } => own(),
            Origin::Newest => own().or_else(installed),
        }
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
        let found = self.version_of(&program).and_then(|version| {
            self.check_age(&version)?;
            self.check_build(&program)?;
            Ok(version)
        });
        match found {
            Ok(version) => Availability::Found { version },
            Err(reason) => Availability::Unavailable { reason },
        }
    }

    pub(crate) fn version_of(&self, program: &Path) -> std::result::Result<String, String> {
        if self.version.is_empty() {
            return Ok(shelf::noted(self.program).unwrap_or_else(|| UNKNOWN.to_owned()));
        }
        let output = Command::new(program).args(self.version).output();
        let output = output.map_err(|error| format!("{}: {error}", program.display()))?;
        // Some tell it as a result, some as an error.
        let told = [output.stdout, output.stderr].concat();
        Ok(version_in(&String::from_utf8_lossy(&told)))
    }

    /// The same version twice would only take time, and an older one isn't the newest.
    fn check_age(&self, version: &str) -> std::result::Result<(), String> {
        let Origin::Latest { of } = self.origin else {
            return Ok(());
        };
        let Some(installed) = shelf::installed(self.program) else {
            return Err(format!("it is what {of} runs, since the system has none"));
        };
        let installed = self.version_of(&installed)?;
        if is_newer(version, &installed) {
            return Ok(());
        }
        Err(format!("{version} isn't newer than the system's {installed}, which {of} runs"))
    }

    fn check_build(&self, program: &Path) -> std::result::Result<(), String> {
        if self.needs.is_empty() {
            return Ok(());
        }
        let output = Command::new(program).arg("-V").output();
        let told = output.map_err(|error| format!("{}: {error}", program.display()))?.stderr;
        let told = String::from_utf8_lossy(&told);
        let missing = self.needs.iter().find(|need| !told.split_whitespace().any(|word| word == **need));
        missing.map_or(Ok(()), |need| Err(format!("it was built without {need}")))
    }

    /// Writes its configuration into the run folder, and says how to start it.
    pub(crate) fn prepare(&self, program: PathBuf, instance: &Instance<'_>) -> Result<PeerCommand> {
        let takes_brotli = self.template.is_some_and(|template| template.contains("@BROTLI_MODULE@"));
        let brotli = if takes_brotli { Brotli::of(&program) } else { Brotli::Missing };
        let fill = |template| filled(template, instance, &brotli);
        let configuration = self.template.map(fill).transpose()?;
        let file = instance.run.join(self.file);
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
        // caddy keeps state in the user's home; Go's scheduler gets a thread for each CPU.
        let variables = if self.name == "caddy" {
            let homes =
                ["HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"].map(|name| (name.to_owned(), run.clone()));
            homes
                .into_iter()
                .chain([("GOMAXPROCS".to_owned(), instance.seat.workers().to_string().into())])
                .collect()
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

    /// The line that gives each of nginx's workers a CPU of its own: without the mask it would take any of the machine.
    fn nginx_affinity(&self) -> String {
        let cpus = self.seat.placement.server;
        if cpus.count() == 1 {
            return "# One has the one CPU anyway.".to_owned();
        }
        let last = cpus.iter().last().unwrap_or_default();
        let mask = (0..=last).rev().map(|cpu| if cpus.contains(cpu) { '1' } else { '0' });
        format!("worker_cpu_affinity auto {};", mask.collect::<String>())
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
        ("@ADDRESS@", instance.seat.address.to_string()),
        ("@PORT@", instance.port.to_string()),
        ("@WORKERS@", instance.seat.workers().to_string()),
        ("@NGINX_AFFINITY@", instance.nginx_affinity()),
        ("@NGINX_REUSEPORT@", if instance.seat.workers() > 1 { " reuseport" } else { "" }.to_owned()),
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

/// The version of a program that doesn't tell.
const UNKNOWN: &str = "unknown version";

/// The first thing in what a program tells of itself that looks like a version.
fn version_in(told: &str) -> String {
    let mut words =
        told.split(|c: char| c.is_whitespace() || c == '/').map(|word| word.trim_start_matches('v'));
    let is_version = |word: &&str| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.');
    words.find(is_version).unwrap_or(UNKNOWN).to_owned()
}

/// Whether a version is above another, number by number: "1.31.3" above "1.9".
fn is_newer(version: &str, than: &str) -> bool {
    let numbers = |version: &str| -> Vec<u64> {
        version.split(|c: char| !c.is_ascii_digit()).map_while(|number| number.parse().ok()).collect()
    };
    numbers(version) > numbers(than)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::cpus::Cpus;
    use crate::machine::placement::{Distance, Placement};
    use crate::server::roster;
    use std::net::Ipv4Addr;

    #[test]
    fn versions_are_compared_by_number() {
        for (version, than, is) in [
            ("1.31.3", "1.22.1", true),
            ("1.31.3", "1.9", true),
            ("1.31.3", "1.31.3", false),
            ("1.22.1", "1.31.3", false),
            ("2.11.7", "2.11", true),
            ("2.0.0-beta", "1.9", true),
            ("unknown version", "1.0", false),
        ] {
            assert_eq!(is_newer(version, than), is, "{version}, {than}");
        }
    }

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

    #[test]
    fn templates_are_filled() {
        let instance = Instance {
            root: Path::new("/the root"),
            run: Path::new("/run/x"),
            seat: seat(1..2),
            port: 40_123,
        };
        for peer in roster::all() {
            let text = filled(peer.template.unwrap(), &instance, &Brotli::Missing).unwrap();
            assert!(!text.contains('@'), "{}: {text}", peer.id);
            assert!(text.contains("/the root") && text.contains("40123"), "{}: {text}", peer.id);
            assert!(text.contains("10.1.2.3"), "{} listens elsewhere: {text}", peer.id);
        }
    }

    fn seat(cpus: std::ops::Range<usize>) -> Seat {
        let (server, client) = (Cpus::of(cpus).unwrap(), Cpus::one(0));
        let placement = Placement { server, client, distance: Distance::Cores };
        Seat { placement, address: Ipv4Addr::new(10, 1, 2, 3) }
    }

    #[test]
    fn servers_that_scale_have_a_worker_for_each_cpu() {
        let (root, run) = (Path::new("/srv"), tempfile::tempdir().unwrap());
        let named = |id| roster::all().find(|peer| peer.id == id).unwrap();
        let with = |cpus: std::ops::Range<usize>, id| {
            let instance = Instance { root, run: run.path(), seat: seat(cpus), port: 1 };
            filled(named(id).template.unwrap(), &instance, &Brotli::Missing).unwrap()
        };
        for (peer, one, three) in [
            ("nginx", "\nworker_processes 1;", "\nworker_processes 3;"),
            ("h2o", "\nnum-threads: 1\n", "\nnum-threads: 3\n"),
            ("triptych", "\n--workers=1\n", "\n--workers=3\n"),
        ] {
            let (alone, together) = (with(1..2, peer), with(1..4, peer));
            assert!(alone.contains(one) && together.contains(three), "{peer}: {together}");
        }
        let (alone, together) = (with(1..2, "nginx"), with(1..4, "nginx"));
        assert!(!alone.contains("\nworker_cpu_affinity") && !alone.contains("16384 reuseport"), "{alone}");
        assert!(together.contains("\nworker_cpu_affinity auto 1110;"), "{together}");
        assert!(together.contains("16384 reuseport;"), "{together}");
        let instance = Instance { root, run: run.path(), seat: seat(1..4), port: 1 };
        let command = named("caddy").prepare(PathBuf::from("caddy"), &instance).unwrap();
        assert!(command.variables.contains(&("GOMAXPROCS".to_owned(), "3".into())));
    }

    #[test]
    fn a_path_that_would_end_a_string_is_refused() {
        let instance =
            Instance { root: Path::new("/a\"b"), run: Path::new("/run/x"), seat: seat(1..2), port: 1 };
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
        let instance = Instance { root: &root, run: run.path(), seat: seat(1..2), port: 40_123 };
        for peer in roster::all() {
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
        let nginx = roster::all().find(|peer| peer.id == "nginx").unwrap();
        let words = nginx.prepare(PathBuf::new(), &instance).unwrap().arguments;
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
        let instance =
            Instance { root: Path::new("/srv"), run: Path::new("/run/x"), seat: seat(1..2), port: 1 };
        let sidecars = roster::all().find(|peer| peer.id == "nginx-sidecars").unwrap();
        let template = sidecars.template.unwrap();
        let with = |brotli| filled(template, &instance, &brotli).unwrap();
        assert!(with(Brotli::BuiltIn).contains("\n    brotli_static on;"));
        assert!(with(Brotli::Module("/m.so".into())).contains("\nload_module \"/m.so\";"));
        assert!(!with(Brotli::Missing).contains("brotli_static on"));
    }
}
