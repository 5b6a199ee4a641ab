//! What goes on beside the workers: signals, the end of the grace period, a root that is replaced, statistics.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use signal_hook::consts::{SIGHUP, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;

use crate::machine::context::Counts;
use crate::service::cli::cut_off;
use crate::service::log::AccessLog;
use crate::service::say::{self, say};
use crate::service::shared::Service;
use crate::service::shutdown::{HURRY_MAX, QUIET};
use crate::site::mounts;
use crate::site::root::Site;

/// How often the root's path is looked at.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(500);

/// That the root's path leads nowhere is said when so many looks have found it.
const LOST_LOOKS: u32 = 2;

/// A drain that takes longer says what it waits for. By then idle connections are closed.
const WORD_DELAY: Duration = Duration::from_millis(500);
const _: () = assert!(WORD_DELAY.as_millis() >= 2 * QUIET.as_millis());

/// How long the word that the grace period is over may take.
const LAST_WORDS_MAX: Duration = Duration::from_millis(20);

/// A panic is a mistake in this program. What it leaves behind in memory that is shared can't be trusted, so whichever
/// thread it is in, the server says so, drains, and ends with an error. Said without the standard library's hook, which
/// would wait for standard error to take it.
pub(super) fn end_with_panics(service: &Arc<Service>) {
    let service = Arc::clone(service);
    std::panic::set_hook(Box::new(move |panic| {
        let thread = thread::current();
        let thread = thread.name().unwrap_or("of a connection");
        service.shutdown.fail(format!("thread {thread} has panicked"));
        // The one that writes what is said may hold its lock.
        if thread != say::THREAD {
            say(format_args!("thread {thread}: {panic}"));
        }
    }));
}

/// Ends the process when the grace period is over, whatever waits then: a thread in a disk that doesn't answer, say.
/// All that can end in time has its own bounds, which come to less. A failure is told at once, not after the drain.
pub(super) fn enforce_grace(service: &Arc<Service>) -> io::Result<()> {
    let service = Arc::clone(service);
    thread::Builder::new().name("grace".to_owned()).spawn(move || {
        service.shutdown.wait_until_due();
        if let Some(reason) = service.shutdown.failure() {
            say(format_args!("error: {reason}; no new connections are accepted"));
        }
        thread::sleep(left(&service).min(WORD_DELAY));
        if let Some(line) = waits_for(&service, io::stderr().is_terminal()) {
            say(format_args!("{line}"));
        }
        while !left(&service).is_zero() {
            thread::sleep(left(&service));
        }
        if let Some(cut_off) = cut_off(&service) {
            say(format_args!("{cut_off}"));
        }
        say(format_args!("error: some of the server still waited when --grace was over"));
        say::finish(LAST_WORDS_MAX);
        std::process::exit(1);
    })?;
    Ok(())
}

/// Until the process has to be gone.
fn left(service: &Service) -> Duration {
    service.shutdown.left(Instant::now(), service.config.grace).unwrap_or_default()
}

/// What a drain still waits for, if it does.
fn waits_for(service: &Service, at_terminal: bool) -> Option<String> {
    let connections = match service.stats.active() {
        0 => return None,
        _ if service.shutdown.hurried_by().is_some() || left(service).is_zero() => return None,
        1 => "1 connection".to_owned(),
        more => format!("{more} connections"),
    };
    let grace = humantime::format_duration(service.config.grace);
    let again = if at_terminal { "press Ctrl-C again to end" } else { "a second signal ends it" };
    Some(format!("waiting up to {grace} for {connections}; {again} at once"))
}

/// The first SIGINT, SIGTERM or SIGQUIT starts the drain, at once or after `--drain-delay`. A second one ends the process
/// at once, with the signal's exit code. SIGHUP and SIGUSR1 open the log's file again.
pub(super) fn follow_signals(mut signals: Signals, service: &Arc<Service>) -> io::Result<()> {
    let service = Arc::clone(service);
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for signal in signals.forever() {
            match signal {
                SIGHUP | SIGUSR1 => service.log.iter().for_each(AccessLog::reopen),
                SIGUSR2 => say(format_args!("SIGUSR2: only `triptych` can be upgraded while it runs")),
                _ => end(&service, signal),
            }
        }
    })?;
    Ok(())
}

/// Does what a signal asks for that is to end the process.
pub(super) fn end(service: &Arc<Service>, signal: i32) {
    if service.shutdown.is_announced() {
        service.hurry(signal);
        // What ends the process in time says who has been cut off.
        thread::sleep(HURRY_MAX);
        std::process::exit(128 + signal);
    }
    begin_end(service);
}

/// Begins the drain; where a delay is wanted, after that. A thread of its own waits for it, because a second signal may
/// come. If there can't be one, there is no delay.
fn begin_end(service: &Arc<Service>) {
    service.shutdown.announce();
    let delay = service.config.drain_delay;
    let theirs = Arc::clone(service);
    let wait = move || {
        thread::sleep(delay);
        theirs.drain();
    };
    // Clients come to the other process already.
    let is_delayed = !delay.is_zero() && !service.shutdown.has_handed_over();
    if !is_delayed || thread::Builder::new().name("drain-delay".to_owned()).spawn(wait).is_err() {
        return service.drain();
    }
    let delay = humantime::format_duration(delay);
    say(format_args!(
        "connections are accepted for another {delay} (--drain-delay), then it drains; a second signal ends it \
         at once"
    ));
}

/// Says what is wrong with the site's rules, and of faults of files what wasn't said.
pub(super) fn tell_faults(service: &Service) {
    let (site, _) = service.site.get();
    for fault in service.site.take_faults().into_iter().chain(site.take_overfull()) {
        say(format_args!("{fault}"));
    }
    if let Some(log) = &site.options().fault_log {
        log.flush(Instant::now());
    }
}

/// Follows the root to where its path leads, and looks at its rules and at what is mounted, in a thread that may wait for
/// any disk.
///
/// Where the process may read nothing beyond the root that it has opened, it stays there, and `on_moved` is called each
/// time that the path is found to lead elsewhere.
pub(super) fn follow_root(service: &Arc<Service>, on_moved: Option<Box<dyn Fn() + Send>>) -> io::Result<()> {
    let service = Arc::clone(service);
    let mut lost_looks = 0;
    thread::Builder::new().name("root".to_owned()).spawn(move || {
        loop {
            // Without the list, what is mounted over a cached file is seen when the cache's entry has expired.
            let mounted = wait_for_mounts(mounts::list());
            match &on_moved {
                Some(on_moved) => {
                    let has_moved = service.site.stay(mounted);
                    service.set_outdated(has_moved);
                    if has_moved {
                        on_moved();
                    }
                }
                None => {
                    if mounted {
                        service.site.renew();
                    }
                    service.site.follow();
                }
            }
            tell_faults(&service);
            // The server that has taken over says it.
            if !service.shutdown.has_handed_over() {
                tell_lost(&service.site.get().0, &mut lost_looks);
            }
        }
    })?;
    Ok(())
}

/// Says once that the root's path leads nowhere, until it has led somewhere again. `looks`: how many in a row have found
/// that. Not at the first one, since a deployment may be at it.
fn tell_lost(site: &Site, looks: &mut u32) {
    let lost = site.lost();
    *looks = if lost.is_some() { looks.saturating_add(1) } else { 0 };
    if let (Some(error), LOST_LOOKS) = (lost, *looks) {
        let path = site.path().display();
        say(format_args!(
            "root {path} leads nowhere now: {error}; the directory that it was is served until it leads to one again"
        ));
    }
}

/// Waits for [`FOLLOW_INTERVAL`], or until something is mounted or unmounted (proc_pid_mountinfo(5)): true.
fn wait_for_mounts(mounts: Option<&File>) -> bool {
    let mut events: Vec<_> = mounts.iter().map(|file| PollFd::new(*file, PollFlags::PRI)).collect();
    let interval = Timespec::try_from(FOLLOW_INTERVAL).expect("half a second");
    let has_changed = poll(&mut events, Some(&interval)).is_ok_and(|changed| changed > 0);
    if has_changed {
        // Mounts often come in numbers, and whatever poll(2) says, this thread doesn't spin.
        thread::sleep(FOLLOW_INTERVAL / 5);
    }
    has_changed
}

/// Prints one line to standard error at every interval.
pub(super) fn report_stats(service: &Arc<Service>, interval: Duration) -> io::Result<()> {
    let service = Arc::clone(service);
    thread::Builder::new().name("stats".to_owned()).spawn(move || {
        let mut earlier: (Counts, Instant) = (service.stats.totals(), Instant::now());
        loop {
            thread::sleep(interval);
            let later = (service.stats.totals(), Instant::now());
            let cached = service.stats.cached();
            say(format_args!("{}, {cached}", later.0.since(earlier.0, later.1 - earlier.1)));
            earlier = later;
        }
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::service::config::Config;
    use crate::service::worker::Worker;
    use crate::site::root::SiteOptions;

    #[test]
    fn a_drain_says_what_it_waits_for() {
        let site = Site::open_root(Path::new("."), SiteOptions::default()).expect("opened");
        let service = Arc::new(Service::new(site, Config::default()).expect("made"));
        let mut worker = Worker::new(Arc::clone(&service), 0);
        service.shutdown.drain();
        assert_eq!(waits_for(&service, true), None, "nothing");
        worker.count_accepted();
        worker.flush();
        let line = "waiting up to 30s for 1 connection; press Ctrl-C again to end at once";
        assert_eq!(waits_for(&service, true).as_deref(), Some(line));
        worker.count_accepted();
        worker.flush();
        let line = "waiting up to 30s for 2 connections; a second signal ends it at once";
        assert_eq!(waits_for(&service, false).as_deref(), Some(line));
        service.hurry(2);
        assert_eq!(waits_for(&service, true), None, "it no longer waits");
    }
}
