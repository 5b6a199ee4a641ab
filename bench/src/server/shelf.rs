//! Where executables are found: in the system, and in the project's own environment, which `bench targets --install`
//! fills.

use crate::run::options::repository;
use rustix::fs::{Access, access};
use std::path::{Path, PathBuf};

/// Names another folder for the environment than the usual one.
pub(crate) const VARIABLE: &str = "TRIPTYCH_BENCH_PEERS";

/// Where distributions install servers, outside of an ordinary user's `PATH`.
const SYSTEM_FOLDERS: [&str; 3] = ["/usr/sbin", "/usr/local/sbin", "/sbin"];

/// The folder of the environment, whether it is there or not: `target/bench/peers`, unless the variable names another.
pub(crate) fn folder() -> PathBuf {
    let named = std::env::var_os(VARIABLE).filter(|folder| !folder.is_empty()).map(PathBuf::from);
    let folder = named.unwrap_or_else(|| repository().join("target/bench/peers"));
    // Servers are started in folders of their own.
    std::path::absolute(&folder).unwrap_or(folder)
}

/// The folder in it that has the executables.
pub(crate) fn executables(folder: &Path) -> PathBuf {
    folder.join("bin")
}

/// The folder in it that cargo installs into.
pub(crate) fn cargo(folder: &Path) -> PathBuf {
    folder.join("cargo")
}

/// An executable of the environment.
pub(crate) fn own(program: &str) -> Option<PathBuf> {
    among([executables(&folder())].into_iter(), program)
}

/// An executable of the system: in `PATH`, or where distributions put servers.
pub(crate) fn installed(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    among(std::env::split_paths(&path).chain(SYSTEM_FOLDERS.map(PathBuf::from)), program)
}

/// The version of what cargo has installed in the environment, as cargo notes it: `"httpsd 0.1.4 (registry+…)" = [`.
pub(crate) fn noted(package: &str) -> Option<String> {
    noted_in(&std::fs::read_to_string(cargo(&folder()).join(".crates.toml")).ok()?, package)
}

fn noted_in(notes: &str, package: &str) -> Option<String> {
    let mut lines = notes.lines().filter_map(|line| line.strip_prefix('"')?.split_once(' '));
    let (_, rest) = lines.find(|(name, _)| *name == package)?;
    rest.split_whitespace().next().map(str::to_owned)
}

fn among(folders: impl Iterator<Item = PathBuf>, program: &str) -> Option<PathBuf> {
    let mut candidates = folders.map(|folder| folder.join(program));
    candidates.find(|program| program.is_file() && access(program, Access::EXEC_OK).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn cargo_notes_versions() {
        let notes = "[v1]\n\"a 1.2.3 (registry+https://x)\" = [\"a\"]\n\"httpsd 0.1.4 (registry+x)\" = [\"httpsd\"]\n";
        assert_eq!(noted_in(notes, "httpsd").as_deref(), Some("0.1.4"));
        assert_eq!(noted_in(notes, "http"), None);
    }

    #[test]
    fn the_first_that_can_be_run() {
        let folder = tempfile::tempdir().unwrap();
        let folders = ["a", "b", "c"].map(|name| folder.path().join(name));
        folders.iter().for_each(|folder| fs::create_dir(folder).unwrap());
        let file = |folder: usize, mode: u32| {
            let path = folders[folder].join("nginx");
            fs::write(&path, "").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            path
        };
        file(0, 0o644);
        let right = file(1, 0o755);
        file(2, 0o755);
        assert_eq!(among(folders.clone().into_iter(), "nginx"), Some(right), "the first is no executable");
        assert_eq!(among(folders.into_iter(), "caddy"), None);
    }
}
