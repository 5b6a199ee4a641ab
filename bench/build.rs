//! Tells the harness what it was built with: a result without its compiler isn't repeatable.

use sha2::{Digest, Sha256};
use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(rustc).arg("--version").output();
    let version = version.ok().and_then(|output| String::from_utf8(output.stdout).ok());
    let version = version.as_deref().map_or("unknown", str::trim);
    println!("cargo::rustc-env=BENCH_RUSTC={version}");
    for (name, variable) in [("BENCH_TARGET", "TARGET"), ("BENCH_OPT_LEVEL", "OPT_LEVEL")] {
        let value = env::var(variable).unwrap_or_else(|_| "unknown".to_owned());
        println!("cargo::rustc-env={name}={value}");
    }
    println!("cargo::rustc-env=BENCH_LOAD_SOURCES={}", load_sources());
    // The report's page is tested where there is a browser; elsewhere these tests are ignored.
    let path = env::var_os("PATH").unwrap_or_default();
    println!("cargo::rustc-check-cfg=cfg(has_chromium)");
    if env::split_paths(&path).any(|folder| folder.join("chromium").is_file()) {
        println!("cargo::rustc-cfg=has_chromium");
    }
    println!("cargo::rerun-if-env-changed=PATH");
    println!("cargo::rerun-if-changed=build.rs");
}

/// A digest of all that makes a load, so that agents on other machines can be told apart that would make another one.
fn load_sources() -> String {
    let mut files = Vec::new();
    for root in ["src/agent", "src/load", "src/agent.rs", "src/random.rs"] {
        println!("cargo::rerun-if-changed={root}");
        collect(Path::new(root), &mut files).unwrap_or_else(|error| panic!("read {root}: {error}"));
    }
    files.sort();
    let mut digest = Sha256::new();
    for file in files {
        let content = fs::read(&file).unwrap_or_else(|error| panic!("read {}: {error}", file.display()));
        digest.update(file.to_string_lossy().as_bytes());
        digest.update((content.len() as u64).to_le_bytes());
        digest.update(content);
    }
    digest.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    if !path.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    fs::read_dir(path)?.try_for_each(|entry| collect(&entry?.path(), files))
}
