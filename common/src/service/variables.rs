//! Flags that are set by environment variables: an empty one counts as unset, and an error names the variable.

use std::env;
use std::ffi::OsString;

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command, Error};

/// Parses the arguments, the first of which is the program's name, and the variables of those that are missing.
///
/// # Errors
/// One line that names the variable, if it is a variable that is wrong; otherwise what clap says.
pub(super) fn matches(command: &mut Command, arguments: &[OsString]) -> Result<ArgMatches, Error> {
    *command = keep(command.clone(), |arg| {
        arg.get_env().and_then(env::var_os).is_none_or(|value| !value.is_empty())
    });
    let error = match command.try_get_matches_from_mut(arguments) {
        Ok(matches) => return Ok(matches),
        Err(error) => error,
    };
    // Only with the variables out of the way can it be told whose fault it was: clap names the flag in both cases.
    let Ok(plain) = keep(command.clone(), |_| false).try_get_matches_from(arguments) else {
        return Err(error);
    };
    let missing = |arg: &&Arg| plain.value_source(arg.get_id().as_str()) != Some(ValueSource::CommandLine);
    for suspect in command.get_arguments().filter(missing) {
        let alone = keep(command.clone(), |arg| arg.get_id() == suspect.get_id());
        if let (Some(variable), Err(error)) = (suspect.get_env(), alone.try_get_matches_from(&arguments[..1]))
        {
            return Err(named(error, &variable.to_string_lossy()));
        }
    }
    Err(error)
}

/// The command, with only some of its arguments' variables.
fn keep(command: Command, keeps: impl Fn(&Arg) -> bool) -> Command {
    command.mut_args(|arg| if keeps(&arg) { arg } else { arg.env(Resettable::Reset) })
}

/// The error in one line, about the variable.
fn named(mut error: Error, variable: &str) -> Error {
    if error.insert(ContextKind::InvalidArg, ContextValue::String(variable.to_owned())).is_none() {
        return Error::raw(ErrorKind::InvalidUtf8, format!("{variable}: not valid UTF-8\n"));
    }
    let text = error.render().to_string();
    // What follows an empty line is a tip or the way to --help.
    let lines: Vec<&str> = text.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
    let line = lines.join(" ");
    Error::raw(error.kind(), format!("{}\n", line.strip_prefix("error: ").unwrap_or(&line)))
}
