//! The command line: the flags, and the program around a server.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use clap::builder::BoolishValueParser;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::Signals;

use crate::http::conditional::EtagPolicy;
use crate::machine::connection::LINGER_TIME;
use crate::machine::context::Counts;
use crate::machine::notice::Notice;
use crate::service::config::Config;
use crate::service::endpoint::Endpoint;
use crate::service::listen::Listeners;
use crate::service::log::{AccessLog, CLOSE_MAX};
use crate::service::say::{self, say};
use crate::service::shared::Service;
use crate::service::start::StartError;
use crate::service::tune::{CopyMode, Tune};
use crate::service::variables;
use crate::site::cache::{CacheConfig, CacheLevel};
use crate::site::root::{Site, SiteOptions, Symlinks};
use crate::site::variants::Compress;

/// Descriptors reserved for everything that isn't a connection: so many,
const RESERVED_DESCRIPTORS: u64 = 64;
/// and so many for each worker besides its listeners: a ring or a poller, a bell, events of files, of a pool.
const WORKER_DESCRIPTORS: u64 = 8;
/// A connection's socket, and the file that it is sent.
const CONNECTION_DESCRIPTORS: u64 = 2;
/// With fewer descriptors than this, a server says how many connections they allow.
const FEW_DESCRIPTORS: u64 = 256;
/// The default of `--connections-max`, if the descriptor limit allows it.
const CONNECTIONS_MAX_DEFAULT: usize = 65_536;

/// The cache may use at most one in this many descriptors; the others are for connections.
const CACHE_SHARE: u64 = 8;

/// How often the root's path is looked at.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(500);

/// How long the word that the grace period is over may take.
const LAST_WORDS_MAX: Duration = Duration::from_millis(20);

/// A backend's `serve`.
pub type Serve = fn(Listeners, &Arc<Service>, &mut dyn FnMut()) -> io::Result<()>;

/// Serve a directory over HTTP.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
struct Flags {
    /// The directory to serve
    #[arg(default_value = ".", env = "TRIPTYCH_ROOT")]
    root: PathBuf,
    /// Address to listen on, repeatable; port 0 picks a free port, [::]:8080 also accepts IPv4
    #[arg(short, long, value_name = "ADDR", default_value = "127.0.0.1:8080", value_delimiter = ',')]
    #[arg(env = "TRIPTYCH_LISTEN")]
    listen: Vec<Endpoint>,
    /// Worker threads [default: one per available core]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    #[arg(env = "TRIPTYCH_WORKERS")]
    workers: Option<u16>,
    /// Maximum number of connections; beyond it the longest idle give way, or new ones wait [default: what the descriptor
    /// limit allows]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    #[arg(env = "TRIPTYCH_CONNECTIONS_MAX")]
    connections_max: Option<u32>,
    /// Time to receive a request head, from its first byte
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = timeout)]
    #[arg(env = "TRIPTYCH_HEAD_TIMEOUT")]
    head_timeout: Duration,
    /// Time between two requests on a connection
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = timeout)]
    #[arg(env = "TRIPTYCH_IDLE_TIMEOUT")]
    idle_timeout: Duration,
    /// Time without progress while sending a response
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = timeout)]
    #[arg(env = "TRIPTYCH_SEND_TIMEOUT")]
    send_timeout: Duration,
    /// Bytes per second that a client must take of a response, on average over four such times; 0 for any rate
    #[arg(long, value_name = "SIZE", default_value = "256B", value_parser = size)]
    #[arg(env = "TRIPTYCH_SEND_RATE_MIN")]
    send_rate_min: u64,
    /// Time to finish responses after SIGINT or SIGTERM
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = grace)]
    #[arg(env = "TRIPTYCH_GRACE")]
    grace: Duration,
    /// Serve files whose names begin with a dot
    #[arg(long, value_parser = BoolishValueParser::new(), env = "TRIPTYCH_HIDDEN")]
    hidden: bool,
    /// Which symbolic links to follow: those that stay beneath the root, or none
    #[arg(long, value_enum, default_value = "beneath", env = "TRIPTYCH_SYMLINKS")]
    symlinks: Symlinks,
    /// List directories that have no index.html
    #[arg(long, value_parser = BoolishValueParser::new(), env = "TRIPTYCH_LISTING")]
    listing: bool,
    /// What entity tags are made of: strict, which no restored time deceives; replica, the same on several machines
    /// that serve copies with the same times; or off
    #[arg(long, value_enum, value_name = "POLICY", default_value = "strict", env = "TRIPTYCH_ETAG")]
    etag: EtagPolicy,
    /// Which variants of files to serve: auto, those beside them (.br, .zst, .gz) and text compressed once into the cache;
    /// sidecars, only those beside them; or off
    #[arg(long, value_enum, value_name = "VARIANTS", default_value = "auto", env = "TRIPTYCH_COMPRESS")]
    compress: Compress,
    /// How to move a file to a socket
    #[arg(long, value_enum, default_value = "sendfile", env = "TRIPTYCH_COPY")]
    copy: CopyMode,
    /// Disable an optimization, to measure what it gains; repeatable
    #[arg(long, value_enum, value_name = "SWITCH", value_delimiter = ',', env = "TRIPTYCH_TUNE")]
    tune: Vec<Tune>,
    /// What to cache: nothing, open files, or also the bytes of small files
    #[arg(long, value_enum, value_name = "LEVEL", default_value = "contents", env = "TRIPTYCH_CACHE")]
    cache: CacheLevel,
    /// Total bytes of cached files, over all workers
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = size)]
    #[arg(env = "TRIPTYCH_CACHE_BYTES")]
    cache_bytes: u64,
    /// Number of cached files, over all workers
    #[arg(long, value_name = "N", default_value = "16384", value_parser = clap::value_parser!(u32).range(1..))]
    #[arg(env = "TRIPTYCH_CACHE_ENTRIES")]
    cache_entries: u32,
    /// Files the cache may hold open, over all workers; at most an eighth of all descriptors
    #[arg(long, value_name = "N", default_value = "1024", value_parser = clap::value_parser!(u32).range(1..))]
    #[arg(env = "TRIPTYCH_CACHE_DESCRIPTORS")]
    cache_descriptors: u32,
    /// Log requests to a file, or to standard output [combined format, plus the duration in seconds]
    #[arg(long, value_name = "PATH", num_args = 0..=1, require_equals = true, default_missing_value = "-")]
    #[arg(env = "TRIPTYCH_ACCESS_LOG")]
    access_log: Option<PathBuf>,
    /// Print connections, requests, bytes and events at every interval, and totals at exit
    #[arg(long, value_name = "INTERVAL", num_args = 0..=1, require_equals = true, default_missing_value = "1s")]
    #[arg(value_parser = timeout, env = "TRIPTYCH_STATS")]
    stats: Option<Duration>,
}

fn size(text: &str) -> Result<u64, String> {
    match text.parse::<ByteSize>() {
        Ok(size) => Ok(size.as_u64()),
        Err(error) => Err(format!("{error}; write it like 500KiB, 64MiB or 1GiB")),
    }
}

fn timeout(text: &str) -> Result<Duration, String> {
    match grace(text)? {
        Duration::ZERO => Err("must be longer than nothing, like 10s".to_owned()),
        duration => Ok(duration),
    }
}

/// A time that may be none at all.
fn grace(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if duration > Duration::from_secs(366 * 24 * 3600) => {
            Err("must be at most a year".to_owned())
        }
        Ok(duration) => Ok(duration),
        Err(error) => Err(format!("{error}; write it like 500ms, 10s or 2m")),
    }
}

/// Runs a server as a program: flags, signals, one line per address once it accepts connections, exit code.
///
/// The exit code is 0 after a drain, 1 if the server can't start or has failed, 2 for bad usage.
pub fn run(name: &'static str, serve: Serve) -> ExitCode {
    run_with(name, std::env::args_os(), serve)
}

/// As [`run`], with these arguments, of which the first one is the program's name.
pub fn run_with<T: Into<OsString> + Clone>(
    name: &'static str,
    arguments: impl IntoIterator<Item = T>,
    serve: Serve,
) -> ExitCode {
    let flags = match parse(name, arguments) {
        Ok(flags) => flags,
        Err(error) => error.exit(),
    };
    let mut end_wait = say::FINISH_MAX;
    let outcome = outlive_size_limits().and_then(|()| start(name, &flags, serve, &mut end_wait));
    let code = match outcome {
        Ok(()) => ExitCode::SUCCESS,
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
    registered.map(drop).map_err(|error| StartError::new(error.to_string()))
}

fn parse<T: Into<OsString> + Clone>(
    name: &'static str,
    arguments: impl IntoIterator<Item = T>,
) -> Result<Flags, clap::Error> {
    let mut command = Flags::command().name(name);
    let has_switches = Tune::ALL.iter().any(|switch| switch.server() == name);
    command = command.mut_arg("tune", |tune| tune.hide(!has_switches));
    let arguments: Vec<OsString> = arguments.into_iter().map(Into::into).collect();
    let matches = variables::matches(&mut command, &arguments)?;
    let flags = Flags::from_arg_matches(&matches)?;
    let connections_too_few = flags.connections_max.is_some_and(|max| (max as usize) < flags.worker_count());
    if connections_too_few {
        let setting = setting(&matches, "connections_max", "--connections-max", "TRIPTYCH_CONNECTIONS_MAX");
        return Err(command.error(
            ErrorKind::ValueValidation,
            format!("{setting} must be at least the number of workers, {}", flags.worker_count()),
        ));
    }
    if let Some(switch) = flags.tune.iter().find(|switch| switch.server() != name) {
        let setting = setting(&matches, "tune", "--tune", "TRIPTYCH_TUNE");
        return Err(command.error(
            ErrorKind::ArgumentConflict,
            format!("{setting}={} applies to `{}` alone", switch.name(), switch.server()),
        ));
    }
    Ok(flags)
}

/// What the operator would look for: the flag, or the variable where that was set instead.
fn setting(matches: &ArgMatches, id: &str, flag: &'static str, variable: &'static str) -> &'static str {
    match matches.value_source(id) {
        Some(ValueSource::EnvVariable) => variable,
        _ => flag,
    }
}

/// Serves until the end. Notes how long what was said may then be waited for.
fn start(name: &'static str, flags: &Flags, serve: Serve, end_wait: &mut Duration) -> Result<(), StartError> {
    let fail = |error: io::Error| StartError::new(error.to_string());
    // First of all, so that none of them ends the process; those that come early are followed once it serves.
    let signals = Signals::new([SIGHUP, SIGINT, SIGTERM]).map_err(fail)?;
    let site = Site::open_root(&flags.root, flags.site())?;
    let descriptors = raise_descriptor_limit();
    let config = flags.config(descriptors);
    let warning = flags.warning(descriptors, config.connections_max);
    let mut listeners = Listeners::bind(&flags.listen, &config)?;
    let _names = listeners.take_names();
    let mut service = Service::new(site, config).map_err(fail)?;
    service.log = flags.access_log.as_deref().map(AccessLog::open).transpose()?;
    service.unlisted = Some(Arc::new(Notice::new(move |folder| {
        say(format_args!("{name}: {folder} has no index.html; with --listing it would be listed"));
    })));
    tell_faults(name, &service);
    let service = Arc::new(service);
    end_with_panics(name, &service);
    enforce_grace(name, &service).map_err(fail)?;
    follow_signals(signals, &service).map_err(fail)?;
    follow_root(name, &service).map_err(fail)?;
    if let Some(interval) = flags.stats {
        report_stats(name, &service, interval).map_err(fail)?;
    }
    let endpoints = listeners.endpoints().to_vec();
    let workers = match service.config.workers {
        1 => "1 worker".to_owned(),
        workers => format!("{workers} workers"),
    };
    let root = flags.root.display();
    let served = serve(listeners, &service, &mut || {
        if let Some(warning) = &warning {
            say(format_args!("{name}: warning: {warning}"));
        }
        for endpoint in &endpoints {
            say(format_args!("{name}: serving {root} on http://{endpoint}/ ({workers})"));
        }
    });
    if let Some(log) = &service.log {
        log.close(service.end_wait(CLOSE_MAX));
    }
    *end_wait = service.end_wait(say::FINISH_MAX);
    if let Some(reason) = service.shutdown.failure() {
        return Err(StartError::new(reason));
    }
    served.map_err(fail)?;
    if flags.stats.is_some() {
        say(format_args!("{name}: total {}, {}", service.stats.totals(), service.stats.cached()));
    }
    Ok(())
}

/// A panic is a mistake in this program. What it leaves behind in memory that is shared can't be trusted, so whichever
/// thread it is in, the server says so, drains, and ends with an error. Said without the standard library's hook, which
/// would wait for standard error to take it.
fn end_with_panics(name: &'static str, service: &Arc<Service>) {
    let service = Arc::clone(service);
    std::panic::set_hook(Box::new(move |panic| {
        let thread = thread::current();
        let thread = thread.name().unwrap_or("of a connection");
        service.shutdown.fail(format!("thread {thread} has panicked"));
        // The one that writes what is said may hold its lock.
        if thread != say::THREAD {
            say(format_args!("{name}: thread {thread}: {panic}"));
        }
    }));
}

/// Ends the process when the grace period is over, whatever waits then: a thread in a disk that doesn't answer, say.
/// All that can end in time has its own bounds, which come to less. A failure is told at once, not after the drain.
fn enforce_grace(name: &'static str, service: &Arc<Service>) -> io::Result<()> {
    let service = Arc::clone(service);
    thread::Builder::new().name("grace".to_owned()).spawn(move || {
        // Fails only for want of memory, and then it is asked again.
        while !service.shutdown.draining() {
            let _ready = poll(&mut [PollFd::new(&service.shutdown, PollFlags::IN)], None);
        }
        if let Some(reason) = service.shutdown.failure() {
            say(format_args!("{name}: error: {reason}; no new connections are accepted"));
        }
        let left = || service.shutdown.left(Instant::now(), service.config.grace).unwrap_or_default();
        while !left().is_zero() {
            thread::sleep(left());
        }
        say(format_args!("{name}: error: some of the server still waited when --grace was over"));
        say::finish(LAST_WORDS_MAX);
        std::process::exit(1);
    })?;
    Ok(())
}

impl Flags {
    fn worker_count(&self) -> usize {
        let cores = || thread::available_parallelism().map_or(1, std::num::NonZero::get);
        self.workers.map_or_else(cores, usize::from)
    }

    fn site(&self) -> SiteOptions {
        let Flags { hidden, symlinks, listing, etag, compress, .. } = *self;
        SiteOptions { hidden, symlinks, listing, etag, compress }
    }

    fn config(&self, descriptors: u64) -> Config {
        let workers = self.worker_count();
        let cache = self.cache(descriptors);
        Config {
            workers,
            connections_max: self.connections_max(workers, descriptors, cache.descriptors as u64),
            cache,
            head_timeout: self.head_timeout,
            idle_timeout: self.idle_timeout,
            send_timeout: self.send_timeout,
            send_rate_min: self.send_rate_min,
            linger_time: LINGER_TIME,
            grace: self.grace,
            copy: self.copy,
            tune: self.tune.clone(),
            send_buffer_bytes: None,
        }
    }

    /// The requested cache limits, with the descriptors capped at the cache's share.
    fn cache(&self, descriptors: u64) -> CacheConfig {
        if self.cache == CacheLevel::Off {
            return CacheConfig::OFF;
        }
        let share = usize::try_from(descriptors / CACHE_SHARE).unwrap_or(usize::MAX);
        CacheConfig {
            level: self.cache,
            bytes: self.cache_bytes,
            entries: self.cache_entries as usize,
            descriptors: (self.cache_descriptors as usize).min(share).max(1),
        }
    }

    /// The requested maximum, as far as the descriptor limit allows besides the cache.
    fn connections_max(&self, workers: usize, descriptors: u64, cached: u64) -> usize {
        let asked = self.connections_max.map_or(CONNECTIONS_MAX_DEFAULT, |max| max as usize);
        // Where there are few, a part of the reserve is of more use to clients: what finds none waits for another.
        let of_workers = workers as u64 * (WORKER_DESCRIPTORS + self.listen.len() as u64);
        let reserved = (RESERVED_DESCRIPTORS + of_workers).min(descriptors / 2);
        let allowed = descriptors.saturating_sub(reserved + cached) / CONNECTION_DESCRIPTORS;
        let allowed = usize::try_from(allowed).unwrap_or(usize::MAX);
        asked.min(allowed).max(workers)
    }

    /// What the operator should know about connections that the descriptors don't allow.
    fn warning(&self, descriptors: u64, connections_max: usize) -> Option<String> {
        let allowed = match self.connections_max {
            Some(asked) if connections_max < asked as usize => format!("{connections_max} of {asked}"),
            None if descriptors < FEW_DESCRIPTORS => format!("only {connections_max}"),
            _ => return None,
        };
        Some(format!(
            "{descriptors} descriptors allow {allowed} connections; raise the hard limit (`ulimit -Hn`, LimitNOFILE=)"
        ))
    }
}

/// Raises the soft limit to the hard limit and returns it.
fn raise_descriptor_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let current = if setrlimit(Resource::Nofile, raised).is_ok() { limit.maximum } else { limit.current };
    current.unwrap_or(u64::MAX)
}

/// The first SIGINT or SIGTERM starts the drain. A second one ends the process at once, with the signal's exit code.
/// SIGHUP opens the log's file again.
fn follow_signals(mut signals: Signals, service: &Arc<Service>) -> io::Result<()> {
    let service = Arc::clone(service);
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for signal in signals.forever() {
            if signal == SIGHUP {
                if let Some(log) = &service.log {
                    log.reopen();
                }
            } else if service.shutdown.draining() {
                std::process::exit(128 + signal);
            } else {
                service.shutdown.drain();
            }
        }
    })?;
    Ok(())
}

/// Says what is wrong with the site's rules.
fn tell_faults(name: &'static str, service: &Service) {
    for fault in service.site.take_faults() {
        say(format_args!("{name}: {fault}"));
    }
}

/// Follows the root to where its path leads, and looks at its rules and at what is mounted, in a thread that may wait for
/// any disk.
fn follow_root(name: &'static str, service: &Arc<Service>) -> io::Result<()> {
    let service = Arc::clone(service);
    // Without it, what is mounted over a cached file is seen when the cache's entry has expired.
    let mounts = File::open("/proc/self/mountinfo").ok();
    thread::Builder::new().name("root".to_owned()).spawn(move || {
        loop {
            if wait_for_mounts(mounts.as_ref()) {
                service.site.renew();
            }
            service.site.follow();
            tell_faults(name, &service);
        }
    })?;
    Ok(())
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
fn report_stats(name: &'static str, service: &Arc<Service>, interval: Duration) -> io::Result<()> {
    let service = Arc::clone(service);
    thread::Builder::new().name("stats".to_owned()).spawn(move || {
        let mut earlier: (Counts, Instant) = (service.stats.totals(), Instant::now());
        loop {
            thread::sleep(interval);
            let later = (service.stats.totals(), Instant::now());
            let cached = service.stats.cached();
            say(format_args!("{name}: {}, {cached}", later.0.since(earlier.0, later.1 - earlier.1)));
            earlier = later;
        }
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(arguments: &[&str]) -> Result<Flags, clap::Error> {
        parse("blocking", ["blocking"].iter().chain(arguments))
    }

    #[test]
    fn flags_default_to_what_the_help_says() {
        let defaults = flags(&[]).expect("no flags are good flags");
        let config = Config::default();
        assert_eq!(defaults.root, PathBuf::from("."));
        assert_eq!(defaults.listen, ["127.0.0.1:8080".parse().expect("an address")]);
        assert_eq!(defaults.head_timeout, config.head_timeout);
        assert_eq!(defaults.idle_timeout, config.idle_timeout);
        assert_eq!(defaults.send_timeout, config.send_timeout);
        assert_eq!(defaults.grace, config.grace);
        assert_eq!(flags(&["--grace=0s"]).expect("allowed").grace, Duration::ZERO);
        assert_eq!(defaults.cache(1 << 20), config.cache);
        assert!(defaults.access_log.is_none() && defaults.stats.is_none());
    }

    #[test]
    fn optional_values_never_eat_the_root() {
        let parsed = flags(&["--stats", "--access-log", "www"]).expect("good flags");
        assert_eq!(parsed.root, PathBuf::from("www"));
        assert_eq!(parsed.stats, Some(Duration::from_secs(1)));
        assert_eq!(parsed.access_log, Some(PathBuf::from("-")));
        let parsed = flags(&["--stats=250ms", "--access-log=a.log", "-l", "[::]:0", "-l", "127.0.0.1:1"])
            .expect("good flags");
        assert_eq!(parsed.stats, Some(Duration::from_millis(250)));
        assert_eq!(parsed.listen.len(), 2);
    }

    #[test]
    fn bad_values_are_refused_with_a_hint() {
        for (arguments, expected) in [
            (&["--head-timeout", "0s"][..], "longer than nothing"),
            (&["--idle-timeout", "soon"], "write it like"),
            (&["--grace", "100000000years"], "at most a year"),
            (&["--workers", "0"], "0 is not in 1..=1024"),
            (&["--workers", "2", "--connections-max", "1"], "at least the number of workers, 2"),
            (&["--listen", "8080"], "write it like 127.0.0.1:8080"),
            (&["--symlinks", "all"], "possible values: beneath, deny"),
            (&["--copy", "magic"], "possible values: sendfile, read"),
            (&["--cache", "some"], "possible values: off, descriptors, contents"),
            (&["--cache-bytes", "much"], "write it like 500KiB"),
            (&["--cache-entries", "0"], "0 is not in 1.."),
            (&["--cache-descriptors", "-1"], "unexpected argument"),
            (&["--nonsense"], "unexpected argument"),
        ] {
            let error = flags(arguments).expect_err("refused");
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains(expected), "{error}");
        }
        for (arguments, expected) in [
            (["uring", "--tune", "level-triggered"], "`epoll` alone"),
            (["blocking", "--tune", "unbatched"], "`uring` alone"),
        ] {
            let error = parse(arguments[0], arguments).expect_err("of another server");
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    #[test]
    fn switches_are_repeatable() {
        let parsed = parse("uring", ["uring", "--tune=unbatched,single-accept", "--tune", "coop-taskrun"]);
        let config = parsed.expect("good flags").config(1 << 20);
        assert_eq!(config.tune, [Tune::Unbatched, Tune::SingleAccept, Tune::CoopTaskrun]);
        assert!(config.tuned(Tune::Unbatched) && !config.tuned(Tune::UnlinkedSend));
    }

    #[test]
    fn the_cache_leaves_descriptors_for_connections() {
        let parsed = flags(&["--cache-bytes=1.5MiB", "--cache-entries=7"]).expect("good flags");
        let cache = parsed.cache(800);
        assert_eq!((cache.bytes, cache.entries, cache.descriptors), (3 << 19, 7, 100));
        // 64 are reserved, 9 are the worker's; what is left is for sockets and files.
        assert_eq!(parsed.connections_max(1, 800, 100), 313);
        assert_eq!(parsed.connections_max(10, 800, 100), 273);
        assert_eq!(parsed.connections_max(1, 64, 8), 12);
        assert_eq!(
            parsed.connections_max(8, 64, 8),
            12,
            "half of what there is, at least, is for connections"
        );
        let asked = flags(&["--connections-max=7"]).expect("good flags");
        assert_eq!(asked.connections_max(1, 800, 100), 7);
        let off = flags(&["--cache=off"]).expect("good flags");
        assert_eq!(off.cache(800), CacheConfig::OFF);
    }

    #[test]
    fn the_command_is_well_formed() {
        Flags::command().debug_assert();
    }
}
