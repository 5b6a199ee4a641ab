//! How the harness speaks to people: in colours where there is a terminal, unless `NO_COLOR` is set.
//!
//! What isn't read by a person gets the same text without them.

use crate::failure::{Failure, Result};
use anstyle::{AnsiColor, Style};
use std::io::{ErrorKind, Write};
use std::process::ExitCode;

const ERROR: Style = AnsiColor::Red.on_default().bold();
const WARNING: Style = AnsiColor::Yellow.on_default().bold();
const NOTE: Style = AnsiColor::Cyan.on_default().bold();
const HEADING: Style = Style::new().bold();

/// Writes to the standard output; a reader that is gone (`| head`) is no failure.
pub(crate) fn say(text: &str) -> Result<ExitCode> {
    match anstream::stdout().write_all(text.as_bytes()) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        Err(error) => Err(Failure::new(format!("write to the standard output: {error}"))),
    }
}

/// What ended the program.
pub(crate) fn fail(failure: &Failure) -> ExitCode {
    anstream::eprintln!("{ERROR}error:{ERROR:#} {failure}");
    ExitCode::FAILURE
}

/// What makes results worth less, a line each.
pub(crate) fn warn(warnings: &[String]) {
    for warning in warnings {
        anstream::eprintln!("{WARNING}warning:{WARNING:#} {warning}");
    }
}

/// What else there is to know.
pub(crate) fn note(text: &str) {
    anstream::eprintln!("{NOTE}note:{NOTE:#} {text}");
}

/// A text whose headings, which are the lines that aren't indented, stand out, and what isn't ranked, too.
pub(crate) fn headed(text: &str) -> String {
    const UNRANKED: &str = "not ranked: ";
    let line = |line: &str| match line.split_once(UNRANKED) {
        _ if line.is_empty() => "\n".to_owned(),
        Some((before, why)) => format!("{before}{WARNING}{UNRANKED}{WARNING:#}{why}\n"),
        None if line.starts_with(' ') => format!("{line}\n"),
        None => format!("{HEADING}{line}{HEADING:#}\n"),
    };
    text.lines().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_change_no_letter() {
        let table = "\nhot-small: CPU (less is better)\n  epoll  8 µs\n  h2o  9 µs  not ranked: errors\n";
        let headed = headed(table);
        assert_ne!(headed, table);
        assert_eq!(anstream::adapter::strip_str(&headed).to_string(), table);
        assert!(headed.contains("  epoll  8 µs\n"), "rows stay as they are: {headed:?}");
    }
}
