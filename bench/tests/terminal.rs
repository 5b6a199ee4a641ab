//! What people see of the harness: colours on a terminal alone, help that fits, and a first word.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as the tests themselves do")]

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::process::{Command, Stdio};

const COLUMNS: usize = 80;

fn bench() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench"));
    command.env_remove("NO_COLOR").env_remove("CLICOLOR").env_remove("CLICOLOR_FORCE").stdin(Stdio::null());
    command
}

/// What it writes to a terminal.
fn on_a_terminal(mut command: Command) -> String {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let slave = OpenOptions::new().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    command.env("TERM", "xterm").stdout(slave.try_clone().unwrap()).stderr(slave);
    let mut child = command.spawn().unwrap();
    // The command has the terminal's other end open as long as it lives.
    drop(command);
    let mut text = Vec::new();
    // When the last one has closed it, reading fails with EIO.
    let _at_its_end = File::from(master).read_to_end(&mut text);
    child.wait().unwrap();
    String::from_utf8(text).unwrap()
}

fn mistyped() -> Command {
    let mut command = bench();
    command.args(["run", "--only", "hot-smal", "--targets", "epoll"]);
    command
}

#[test]
fn colours_are_for_terminals_and_for_those_who_like_them() {
    let expected = "no scenario \"hot-smal\"; the nearest are hot-small, ";
    let coloured = on_a_terminal(mistyped());
    assert!(coloured.contains("\u{1b}[") && coloured.contains(expected), "{coloured:?}");
    let mut plain = mistyped();
    plain.env("NO_COLOR", "1");
    let plain = on_a_terminal(plain);
    assert!(plain.starts_with(&format!("error: {expected}")), "{plain:?}");
    let piped = mistyped().output().unwrap();
    let piped = String::from_utf8(piped.stderr).unwrap();
    assert!(piped.starts_with(&format!("error: {expected}")), "{piped:?}");
    assert!(!plain.contains('\u{1b}') && !piped.contains('\u{1b}'));
}

#[test]
fn a_mistyped_name_gives_three_and_not_all() {
    for (option, typed, nearest) in
        [("--only", "chrun", "churn"), ("--only", "under", "hot-under-cold"), ("--targets", "ngnix", "nginx")]
    {
        let only = if option == "--only" { None } else { Some(["--only", "hot-small"]) };
        let output = bench().args(["run", option, typed]).args(only.into_iter().flatten()).output().unwrap();
        let line = String::from_utf8(output.stderr).unwrap();
        let (_, names) = line.trim_end().split_once("; the nearest are ").unwrap();
        let names: Vec<&str> = names.split(", ").collect();
        assert_eq!((names[0], names.len()), (nearest, 3), "{line}");
    }
}

#[test]
fn the_first_word_is_what_to_do_first() {
    let output = bench().output().unwrap();
    assert!(output.status.success());
    let said = String::from_utf8(output.stdout).unwrap();
    let doctor = said.find("bench doctor").unwrap();
    assert!(doctor < said.find("bench run").unwrap(), "{said}");
    assert!(said.lines().all(|line| line.chars().count() <= COLUMNS), "{said}");
    // Every command that it names is one.
    for line in said.lines().filter_map(|line| line.strip_prefix("  bench ")) {
        let command = line.split(' ').next().unwrap();
        assert!(bench().args([command, "--help"]).output().unwrap().status.success(), "{command}");
    }
}

#[test]
fn help_fits() {
    let commands = [
        "run", "claims", "load", "agent", "race", "targets", "doctor", "selftest", "report", "compare",
        "readme", "site", "help",
    ];
    let all = commands.into_iter().map(Some).chain([None]);
    for command in all {
        for flag in ["-h", "--help"] {
            let arguments: Vec<&str> =
                command.into_iter().filter(|name| *name != "help").chain([flag]).collect();
            let output = bench().args(&arguments).env("COLUMNS", COLUMNS.to_string()).output().unwrap();
            let help = String::from_utf8(output.stdout).unwrap();
            let longest = help.lines().max_by_key(|line| line.chars().count()).unwrap();
            assert!(longest.chars().count() <= COLUMNS, "{command:?} {flag}: {longest:?}");
            assert!(flag == "--help" || help.lines().count() <= 40, "{command:?} {flag}: {help}");
        }
    }
}
