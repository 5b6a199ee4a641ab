//! `triptych`, this project's program: an executable of its own, which cargo builds when it is first asked for.
//!
//! The three backends run inside the harness's executable. The program is more than they are: it chooses among them, and
//! has a heap, processes and limits of its own. So the harness measures the file that people run.

use crate::machine::placement;
use crate::run::options::repository;
use crate::server::target::Backend;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::thread;

/// The package, its executable, and the target's name.
pub(crate) const NAME: &str = "triptych";

/// The executable, built like the harness itself: optimised, unless the harness is built for tests. What cargo has to
/// say goes to standard error.
///
/// # Errors
///
/// Why there is none.
pub(crate) fn program() -> Result<PathBuf, String> {
    static PROGRAM: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    PROGRAM.get_or_init(build_on_all_cpus).clone()
}

/// The harness is pinned to one CPU; a compiler needs more.
fn build_on_all_cpus() -> Result<PathBuf, String> {
    let build = || {
        placement::unpin().map_err(|failure| failure.to_string())?;
        build(&repository().join("Cargo.toml"))
    };
    thread::scope(|scope| scope.spawn(build).join())
        .unwrap_or_else(|_| Err("the thread that builds it has panicked".to_owned()))
}

fn build(manifest: &Path) -> Result<PathBuf, String> {
    // Cargo says which one it is, if it has started the harness.
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["build", "--package", NAME, "--bin", NAME, "--message-format=json-render-diagnostics"]);
    command.arg("--manifest-path").arg(manifest);
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("it can't be built: cargo: {error}"))?;
    if !output.status.success() {
        return Err(format!("it can't be built: cargo build: {}", output.status));
    }
    executable_in(&String::from_utf8_lossy(&output.stdout))
        .ok_or_else(|| "it can't be built: cargo doesn't say where it is".to_owned())
}

/// The program's path, in what cargo tells of what it has built: a line of JSON each.
fn executable_in(messages: &str) -> Option<PathBuf> {
    messages.lines().find_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        let is_program = message["reason"] == "compiler-artifact" && message["target"]["name"] == NAME;
        if is_program { message["executable"].as_str().map(PathBuf::from) } else { None }
    })
}

/// The model that it serves with where it is left the choice.
pub(crate) fn expected_model() -> Backend {
    static MODEL: OnceLock<Backend> = OnceLock::new();
    *MODEL.get_or_init(|| if uring::available().is_ok() { Backend::Uring } else { Backend::Epoll })
}

/// What it says of itself when it serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    /// The model that it has chosen.
    pub(crate) backend: Backend,
    /// "io_uring (1 worker; sandboxed: …)".
    pub(crate) how: String,
}

impl Told {
    /// From its output: "triptych: serving ROOT on http://ADDRESS/ with MODEL (…)".
    pub(crate) fn among(output: &str) -> Option<Told> {
        let line = output.lines().find(|line| line.contains(": serving ") && line.contains(" on http://"))?;
        let (_, said) = line.rsplit_once(" on http://")?;
        let (_, how) = said.split_once(" with ")?;
        let models = [
            ("io_uring", Backend::Uring),
            ("epoll", Backend::Epoll),
            ("a thread for each connection", Backend::Blocking),
        ];
        let (_, backend) = models.into_iter().find(|(words, _)| how.starts_with(words))?;
        Some(Told { backend, how: how.trim_end().to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_tells_where_the_program_is() {
        let messages = [
            r#"{"reason":"compiler-artifact","target":{"name":"common"},"executable":null}"#,
            r#"{"reason":"compiler-artifact","target":{"name":"other"},"executable":"/t/debug/other"}"#,
            "no JSON",
            r#"{"reason":"compiler-artifact","target":{"name":"triptych"},"executable":"/t/debug/triptych"}"#,
            r#"{"reason":"build-finished","success":true}"#,
        ];
        assert_eq!(executable_in(&messages.join("\n")), Some(PathBuf::from("/t/debug/triptych")));
        assert_eq!(executable_in(&messages[..3].join("\n")), None);
    }

    #[test]
    fn what_cannot_be_built_is_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let reason = build(&folder.path().join("Cargo.toml")).unwrap_err();
        assert!(reason.starts_with("it can't be built: cargo build: exit status: "), "{reason}");
        assert!(!reason.contains('\n'), "{reason}");
    }

    #[test]
    fn it_tells_how_it_serves() {
        let line = |how: &str| {
            format!(
                "triptych: warning: few\ntriptych: serving /a with b on http://127.0.0.1:8080/{how}\nmore\n"
            )
        };
        let told = |how: &str| Told::among(&line(how)).map(|told| (told.backend, told.how));
        let sandboxed = "io_uring (1 worker; sandboxed: landlock, seccomp, ring restrictions)";
        assert_eq!(told(&format!(" with {sandboxed}")), Some((Backend::Uring, sandboxed.to_owned())));
        assert_eq!(told(" with epoll (2 workers)"), Some((Backend::Epoll, "epoll (2 workers)".to_owned())));
        let threads = "a thread for each connection (1 worker)";
        assert_eq!(told(&format!(" with {threads}")), Some((Backend::Blocking, threads.to_owned())));
        assert_eq!(told(" (1 worker)"), None);
        assert_eq!(Told::among("triptych: error: no such folder\n"), None);
    }
}
