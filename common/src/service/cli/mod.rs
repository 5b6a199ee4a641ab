//! The command line: the flags, and the program around a server.

mod beside;
mod descriptors;
mod flags;
mod model;

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::Signals;

use crate::machine::notice::Notice;
use crate::service::cli::descriptors::Descriptors;
use crate::service::cli::flags::{Flags, parse};
use crate::service::cli::model::Choice;
use crate::service::listen::Listeners;
use crate::service::log::{AccessLog, CLOSE_MAX};
use crate::service::say::{self, say};
use crate::service::shared::Service;
use crate::service::start::StartError;
use crate::site::root::Site;

pub use model::{Io, Model, Serve};

/// Runs a server as a program: flags, signals, one line per address once it accepts connections, exit code. `models` are
/// those that it can serve with, the best one first.
///
/// The exit code is 0 after a drain, 1 if the server can't start or has failed, or if answers were cut off, 2 for bad
/// usage. After a second signal it is 128 and the signal's number.
pub fn run(name: &'static str, models: &[Model]) -> ExitCode {
    run_with(name, models, std::env::args_os())
}

/// As [`run`], with these arguments, of which the first one is the program's name.
pub fn run_with<T: Into<OsString> + Clone>(
    name: &'static str,
    models: &[Model],
    arguments: impl IntoIterator<Item = T>,
) -> ExitCode {
    let flags = match parse(name, models, arguments) {
        Ok(flags) => flags,
        Err(error) => error.exit(),
    };
    let mut end_wait = say::FINISH_MAX;
    let choice = Choice::of(models, flags.io);
    let descriptors = Descriptors::count(choice.model.worker_descriptors);
    let outcome = flags
        .check(&descriptors)
        .and_then(|()| outlive_size_limits())
        .and_then(|()| start(name, &flags, &descriptors, &choice, &mut end_wait));
    let code = match outcome {
        Ok(code) => code,
        Err(error) => {
            say(format_args!("{name}: error: {error}"));
            ExitCode::FAILURE
        }
    };
    say::finish(end_wait);
    code
}

/// A log that reaches a size limit (setrlimit(2), `RLIMIT_FSIZE`) is a log that can't be written, and no reason to end:
/// with a handler for SIGXFSZ the write fails with `EFBIG` instead. Nobody asks whether it has run.
fn outlive_size_limits() -> Result<(), StartError> {
    let registered = signal_hook::flag::register(SIGXFSZ, Arc::default());
    Ok(registered.map(drop)?)
}

/// Serves until the end. Notes how long what was said may then be waited for.
fn start(
    name: &'static str,
    flags: &Flags,
    descriptors: &Descriptors,
    choice: &Choice,
    end_wait: &mut Duration,
) -> Result<ExitCode, StartError> {
    // First of all, so that none of them ends the process; those that come early are followed once it serves.
    let signals = Signals::new([SIGHUP, SIGINT, SIGTERM])?;
    let options = flags.site();
    let index = options.index.clone();
    let site = Site::open_root(&flags.root, options)?;
    let config = flags.config(descriptors);
    let warning = flags.warning(descriptors.limit, config.connections_max);
    let mut listeners = Listeners::bind(&flags.listen, &config)?;
    let _names = listeners.take_names();
    let mut service = Service::new(site, config)?;
    service.log = flags.access_log.as_deref().map(AccessLog::open).transpose()?;
    service.unlisted = Some(Arc::new(Notice::new(move |folder| {
        let index = index.as_str();
        say(format_args!("{name}: {folder} has no {index}; with --listing it would be listed"));
    })));
    beside::tell_faults(name, &service);
    let service = Arc::new(service);
    beside::end_with_panics(name, &service);
    beside::enforce_grace(name, &service)?;
    beside::follow_signals(signals, &service)?;
    beside::follow_root(name, &service)?;
    if let Some(interval) = flags.stats {
        beside::report_stats(name, &service, interval)?;
    }
    let endpoints = listeners.endpoints();
    let workers = workers(service.config.workers);
    let how = choice.text();
    let root = flags.root.display();
    let served = (choice.model.serve)(listeners, &service, &mut || {
        if let Some(reason) = choice.reason() {
            say(format_args!("{name}: without io_uring: {reason}"));
        }
        if let Some(warning) = &warning {
            say(format_args!("{name}: warning: {warning}"));
        }
        for endpoint in &endpoints {
            say(format_args!("{name}: serving {root} on http://{endpoint}/{how} ({workers})"));
        }
    });
    if let Some(log) = &service.log {
        log.close(service.end_wait(CLOSE_MAX));
    }
    *end_wait = service.end_wait(say::FINISH_MAX);
    let cut_off = cut_off(&service);
    if let Some(reason) = service.shutdown.failure() {
        if let Some(cut_off) = cut_off {
            say(format_args!("{name}: {cut_off}"));
        }
        return Err(StartError::new(reason));
    }
    served?;
    if flags.stats.is_some() {
        say(format_args!("{name}: total {}, {}", service.stats.totals(), service.stats.cached()));
    }
    match (service.shutdown.hurried_by(), cut_off) {
        (None, None) => Ok(ExitCode::SUCCESS),
        (None, Some(cut_off)) => Err(StartError::new(cut_off)),
        (Some(signal), cut_off) => {
            if let Some(cut_off) = cut_off {
                say(format_args!("{name}: {cut_off}"));
            }
            Ok(u8::try_from(128 + signal).map_or(ExitCode::FAILURE, ExitCode::from))
        }
    }
}

/// How many clients have been cut off in an answer by the end, and why, if there are any.
fn cut_off(service: &Service) -> Option<String> {
    let connections = match service.stats.totals().cut_off {
        0 => return None,
        1 => "1 connection was".to_owned(),
        more => format!("{more} connections were"),
    };
    Some(match service.shutdown.hurried_by() {
        Some(_) => format!("{connections} cut off in an answer by a second signal"),
        None => {
            let grace = humantime::format_duration(service.config.grace);
            format!("{connections} cut off in an answer when --grace ({grace}) was over")
        }
    })
}

fn workers(count: usize) -> String {
    if count == 1 { "1 worker".to_owned() } else { format!("{count} workers") }
}
