//! Tells the harness what it was built with: a result without its compiler isn't repeatable.

use std::env;
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
    println!("cargo::rerun-if-changed=build.rs");
}
