//! The command line: the flags, and the program around a server.

use std::ffi::OsString;
use std::fs::{self, File};
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
use crate::http::cors::Cors;
use crate::http::mime::{MediaTypes, TypeChoice};
use crate::machine::connection::LINGER_TIME;
use crate::machine::context::Counts;
use crate::machine::notice::Notice;
use crate::service::config::Config;
use crate::service::endpoint::Endpoint;
use crate::service::listen::Listeners;
use crate::service::log::{AccessLog, CLOSE_MAX};
use crate::service::say::{self, say};
use crate::service::shared::Service;
use crate::service::shutdown::HURRY_MAX;
use crate::service::start::StartError;
use crate::service::tune::{CopyMode, Tune};
use crate::service::variables;
use crate::site::cache::{CacheConfig, CacheLevel};
use crate::site::root::{IndexName, Site, SiteOptions, Symlinks};
use crate::site::rules::HeaderRules;
use crate::site::variants::Compress;

/// Descriptors reserved, where there are enough, for everything that isn't a connection: so many,
const RESERVED_DESCRIPTORS: u64 = 64;
/// and so many for each worker besides its listeners.
const RESERVED_WORKER_DESCRIPTORS: u64 = 8;
/// What the process holds besides its workers: two ends of what signals come through, the root, the switch that starts
/// the drain, and the list of mounts;
const PROCESS_DESCRIPTORS: u64 = 5;
/// and, now and then, for a moment: two for a look at where the root's path leads, one for the rules in it, a client's
/// socket once more while the pool sends to it, a folder on the way to an error's page, and what is beside a file.
const SPARE_DESCRIPTORS: u64 = 6;
/// A connection's socket, and the file that it is sent.
const CONNECTION_DESCRIPTORS: u64 = 2;
/// Standard input, output and error; for where /proc can't tell what whoever started the process has left open.
const STANDARD_DESCRIPTORS: u64 = 3;
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
    #[arg(env = "TRIPTYCH_WORKERS", allow_negative_numbers = true)]
    workers: Option<u16>,
    /// Maximum number of connections; beyond it the longest idle give way, or new ones wait [default: what the descriptor
    /// limit allows]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    #[arg(env = "TRIPTYCH_CONNECTIONS_MAX", allow_negative_numbers = true)]
    connections_max: Option<u32>,
    /// Time to receive a request head, from its first byte
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = timeout)]
    #[arg(env = "TRIPTYCH_HEAD_TIMEOUT", allow_hyphen_values = true)]
    head_timeout: Duration,
    /// Time between two requests on a connection
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = timeout)]
    #[arg(env = "TRIPTYCH_IDLE_TIMEOUT", allow_hyphen_values = true)]
    idle_timeout: Duration,
    /// Time without progress while sending a response
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = timeout)]
    #[arg(env = "TRIPTYCH_SEND_TIMEOUT", allow_hyphen_values = true)]
    send_timeout: Duration,
    /// Bytes per second that a client must take of a response, on average over four such times; 0 for any rate
    #[arg(long, value_name = "SIZE", default_value = "256B", value_parser = size)]
    #[arg(env = "TRIPTYCH_SEND_RATE_MIN", allow_hyphen_values = true)]
    send_rate_min: u64,
    /// Time to finish responses after SIGINT or SIGTERM
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = grace)]
    #[arg(env = "TRIPTYCH_GRACE", allow_hyphen_values = true)]
    grace: Duration,
    /// Serve files whose names begin with a dot
    #[arg(long, value_parser = BoolishValueParser::new(), env = "TRIPTYCH_HIDDEN")]
    hidden: bool,
    /// Which symbolic links to follow: those that stay beneath the root, or none
    #[arg(long, value_enum, default_value = "beneath", env = "TRIPTYCH_SYMLINKS")]
    symlinks: Symlinks,
    /// List directories that have no index page
    #[arg(long, value_parser = BoolishValueParser::new(), env = "TRIPTYCH_LISTING")]
    listing: bool,
    /// The file that is sent for its directory
    #[arg(long, value_name = "NAME", default_value = "index.html", env = "TRIPTYCH_INDEX")]
    index: IndexName,
    /// Send the root's index page, with 200, for what isn't found where a browser asks for a page
    #[arg(long, value_parser = BoolishValueParser::new(), env = "TRIPTYCH_SPA")]
    spa: bool,
    /// Serve about.html as /about, and send those there who ask for /about.html
    #[arg(long, value_parser = BoolishValueParser::new(), env = "TRIPTYCH_CLEAN_URLS")]
    clean_urls: bool,
    /// Cache-Control of files, where the site's _headers say nothing else
    #[arg(long, value_name = "VALUE", value_parser = cache_control, env = "TRIPTYCH_CACHE_CONTROL")]
    cache_control: Option<FieldLine>,
    /// Field of answers with files, as in _headers; repeatable; in the variable one a line
    #[arg(long, value_name = "NAME: VALUE", value_parser = field_line, value_delimiter = '\n')]
    #[arg(env = "TRIPTYCH_HEADER", hide_env_values = true)]
    header: Vec<FieldLine>,
    /// Let pages of another origin read what is served; without ORIGIN, those of any
    #[arg(long, value_name = "ORIGIN", num_args = 0..=1, require_equals = true, default_missing_value = "*")]
    #[arg(env = "TRIPTYCH_CORS")]
    cors: Option<Cors>,
    /// Media type of an extension, like wasm=application/wasm; repeatable; in the variable one a line
    #[arg(long, value_name = "EXT=TYPE", value_parser = type_choice, value_delimiter = '\n')]
    #[arg(env = "TRIPTYCH_MIME", hide_env_values = true)]
    mime: Vec<LineOf<TypeChoice>>,
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
    #[arg(env = "TRIPTYCH_CACHE_BYTES", allow_hyphen_values = true)]
    cache_bytes: u64,
    /// Number of cached files, over all workers
    #[arg(long, value_name = "N", default_value = "16384", value_parser = clap::value_parser!(u32).range(1..))]
    #[arg(env = "TRIPTYCH_CACHE_ENTRIES", allow_negative_numbers = true)]
    cache_entries: u32,
    /// Files the cache may hold open, over all workers; at most an eighth of all descriptors
    #[arg(long, value_name = "N", default_value = "1024", value_parser = clap::value_parser!(u32).range(1..))]
    #[arg(env = "TRIPTYCH_CACHE_DESCRIPTORS", allow_negative_numbers = true)]
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

/// A value of its own line: `None` for an empty one, with which a variable of several lines may end.
type LineOf<T> = Option<T>;

/// `Name: value` or `! Name`.
#[derive(Clone, Debug)]
struct FieldLine(String);

fn field_line(text: &str) -> Result<FieldLine, String> {
    let line = text.trim_ascii();
    if line.is_empty() {
        return Ok(FieldLine(String::new()));
    }
    if !line.contains(':') && !line.starts_with('!') {
        return Err("write it like 'Name: value', or '! Name' to take a field away".to_owned());
    }
    match HeaderRules::of_everything(&[line]) {
        Ok(_) => Ok(FieldLine(line.to_owned())),
        Err((_, problem)) => Err(format!("`{}` {}", shown(line), problem.text())),
    }
}

/// The name that a message shows of a line.
fn shown(line: &str) -> String {
    line.split(':').next().unwrap_or_default().trim().chars().filter(|part| !part.is_control()).collect()
}

fn cache_control(value: &str) -> Result<FieldLine, String> {
    field_line(&format!("Cache-Control: {value}")).map_err(|_| {
        "is not what a field may hold; write it like 'public, max-age=3600' or no-cache".to_owned()
    })
}

fn type_choice(text: &str) -> Result<LineOf<TypeChoice>, String> {
    if text.trim_ascii().is_empty() { Ok(None) } else { text.parse().map(Some) }
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
    if text.strip_prefix('-').is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit())) {
        return Err("a time can't be negative; write it like 500ms, 10s or 2m".to_owned());
    }
    match humantime::parse_duration(text) {
        Ok(duration) if duration > Duration::from_secs(366 * 24 * 3600) => {
            Err("must be at most a year; write it like 500ms, 10s or 2m".to_owned())
        }
        Ok(duration) => Ok(duration),
        Err(error) => Err(format!("{error}; write it like 500ms, 10s or 2m")),
    }
}

/// Runs a server as a program: flags, signals, one line per address once it accepts connections, exit code.
///
/// A worker holds `worker_descriptors`, besides its listeners.
///
/// The exit code is 0 after a drain, 1 if the server can't start or has failed, or if answers were cut off, 2 for bad
/// usage. After a second signal it is 128 and the signal's number.
pub fn run(name: &'static str, worker_descriptors: u64, serve: Serve) -> ExitCode {
    run_with(name, std::env::args_os(), worker_descriptors, serve)
}

/// As [`run`], with these arguments, of which the first one is the program's name.
pub fn run_with<T: Into<OsString> + Clone>(
    name: &'static str,
    arguments: impl IntoIterator<Item = T>,
    worker_descriptors: u64,
    serve: Serve,
) -> ExitCode {
    let flags = match parse(name, arguments) {
        Ok(flags) => flags,
        Err(error) => error.exit(),
    };
    let mut end_wait = say::FINISH_MAX;
    let descriptors = Descriptors::count(worker_descriptors);
    let outcome = flags
        .check(&descriptors)
        .and_then(|()| outlive_size_limits())
        .and_then(|()| start(name, &flags, &descriptors, serve, &mut end_wait));
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
    if let Some(switch) = flags.tune.iter().find(|switch| switch.server() != name) {
        let setting = setting(&matches, "tune", "--tune", "TRIPTYCH_TUNE");
        return Err(command.error(
            ErrorKind::ArgumentConflict,
            format!("{setting}={} applies to `{}` alone", switch.name(), switch.server()),
        ));
    }
    if let Err(problem) = flags.fields() {
        let setting = setting(&matches, "header", "--header", "TRIPTYCH_HEADER");
        return Err(command.error(ErrorKind::ValueValidation, format!("{setting}: {problem}")));
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
fn start(
    name: &'static str,
    flags: &Flags,
    descriptors: &Descriptors,
    serve: Serve,
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
    tell_faults(name, &service);
    let service = Arc::new(service);
    end_with_panics(name, &service);
    enforce_grace(name, &service)?;
    follow_signals(signals, &service)?;
    follow_root(name, &service)?;
    if let Some(interval) = flags.stats {
        report_stats(name, &service, interval)?;
    }
    let endpoints = listeners.endpoints().to_vec();
    let workers = workers(service.config.workers);
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
        if let Some(cut_off) = cut_off(&service) {
            say(format_args!("{name}: {cut_off}"));
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
        let Flags { hidden, symlinks, listing, etag, compress, spa, clean_urls, cors, .. } = *self;
        let types: Vec<TypeChoice> = self.mime.iter().flatten().cloned().collect();
        SiteOptions {
            hidden,
            symlinks,
            listing,
            etag,
            compress,
            index: self.index.clone(),
            spa,
            clean_urls,
            media_types: MediaTypes::new(&types),
            // What can't be read was refused with the other flags.
            fields: Arc::new(self.fields().unwrap_or_default()),
            cors,
        }
    }

    /// What the flags say of fields: each is a rule for everything, and the later ones count.
    fn fields(&self) -> Result<HeaderRules, String> {
        let cors: Vec<&str> = self.cors.iter().flat_map(|cors| cors.lines().lines()).collect();
        let lines = |lines: &mut dyn Iterator<Item = &FieldLine>| -> Vec<String> {
            lines.map(|line| line.0.clone()).filter(|line| !line.is_empty()).collect()
        };
        let (cache, header) = (lines(&mut self.cache_control.iter()), lines(&mut self.header.iter()));
        let mut rules = HeaderRules::default();
        for lines in
            [cors, cache.iter().map(String::as_str).collect(), header.iter().map(String::as_str).collect()]
        {
            let own = HeaderRules::of_everything(&lines)
                .map_err(|(line, problem)| format!("`{}` {}", shown(line), problem.text()))?;
            rules = rules.then(own);
        }
        Ok(rules)
    }

    /// What the server needs of descriptors besides those for connections.
    fn held(&self, descriptors: &Descriptors) -> u64 {
        let addresses = self.listen.len() as u64;
        // Each address has a name, too.
        let of_process = PROCESS_DESCRIPTORS + addresses + u64::from(self.access_log.is_some());
        let of_workers = self.worker_count() as u64 * (descriptors.worker + addresses);
        descriptors.inherited + of_process + of_workers + SPARE_DESCRIPTORS
    }

    /// Whether there are enough descriptors for this server to serve at all.
    fn check(&self, descriptors: &Descriptors) -> Result<(), StartError> {
        let (limit, needed) = (descriptors.limit, self.held(descriptors) + CONNECTION_DESCRIPTORS);
        if needed <= limit {
            return Ok(());
        }
        let workers = workers(self.worker_count());
        Err(StartError::new(format!(
            "this process may have {limit} descriptors, but needs at least {needed} for {workers} and a connection; \
             raise the limit (`ulimit -n`, LimitNOFILE=), or start fewer --workers"
        )))
    }

    fn config(&self, descriptors: &Descriptors) -> Config {
        let workers = self.worker_count();
        let cache = self.cache(descriptors);
        Config {
            workers,
            connections_max: self.connections_max(descriptors, cache.descriptors as u64),
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

    /// The requested cache limits, with the descriptors capped at the cache's share. Where there are few, connections have
    /// them.
    fn cache(&self, descriptors: &Descriptors) -> CacheConfig {
        let left = descriptors.limit.saturating_sub(self.held(descriptors) + CONNECTION_DESCRIPTORS);
        let share = (descriptors.limit / CACHE_SHARE).min(left / 2);
        let share = usize::try_from(share).unwrap_or(usize::MAX);
        if self.cache == CacheLevel::Off || share < self.worker_count() {
            return CacheConfig::OFF;
        }
        CacheConfig {
            level: self.cache,
            bytes: self.cache_bytes,
            entries: self.cache_entries as usize,
            descriptors: (self.cache_descriptors as usize).min(share).max(1),
        }
    }

    /// The requested maximum, as far as the descriptor limit allows besides the cache.
    fn connections_max(&self, descriptors: &Descriptors, cached: u64) -> usize {
        let asked = self.connections_max.map_or(CONNECTIONS_MAX_DEFAULT, |max| max as usize);
        // Where there are few, a part of the reserve is of more use to clients: what finds none waits for another.
        let of_worker = RESERVED_WORKER_DESCRIPTORS + self.listen.len() as u64;
        let reserved = RESERVED_DESCRIPTORS + self.worker_count() as u64 * of_worker;
        let reserved = reserved.min(descriptors.limit / 2).max(self.held(descriptors));
        let allowed = descriptors.limit.saturating_sub(reserved + cached) / CONNECTION_DESCRIPTORS;
        let allowed = usize::try_from(allowed).unwrap_or(usize::MAX);
        asked.min(allowed).max(1)
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

/// What there is of descriptors, and what takes them.
#[derive(Clone, Copy, Debug)]
struct Descriptors {
    /// How many the process may have.
    limit: u64,
    /// Whoever started it has left so many open.
    inherited: u64,
    /// A worker holds so many, besides its listeners.
    worker: u64,
}

impl Descriptors {
    /// Raises the limit as far as that is allowed, and counts what is open before anything is opened here.
    fn count(worker: u64) -> Descriptors {
        let limit = raise_descriptor_limit();
        // One of them is the list itself.
        let open = fs::read_dir("/proc/self/fd").map(|open| (open.count() as u64).saturating_sub(1));
        Descriptors { limit, inherited: open.unwrap_or(STANDARD_DESCRIPTORS), worker }
    }
}

fn workers(count: usize) -> String {
    if count == 1 { "1 worker".to_owned() } else { format!("{count} workers") }
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
                service.hurry(signal);
                // What ends the process in time says who has been cut off.
                thread::sleep(HURRY_MAX);
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

    fn descriptors(limit: u64) -> Descriptors {
        Descriptors { limit, inherited: 3, worker: 4 }
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
        assert_eq!(defaults.cache(&descriptors(1 << 20)), config.cache);
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
            (&["--grace", "-1s"], "can't be negative; write it like 500ms"),
            (&["--grace=-1s"], "can't be negative"),
            (&["--grace", "5"], "write it like 500ms"),
            (&["--grace", "99999999999999999999999s"], "write it like 500ms"),
            (&["--head-timeout", "-5ms"], "can't be negative"),
            (&["--send-rate-min", "-5B"], "write it like 500KiB"),
            (&["--workers", "-2"], "-2 is not in 1..=1024"),
            (&["--connections-max", "-1"], "-1 is not in 1.."),
            (&["--workers", "0"], "0 is not in 1..=1024"),
            (&["--listen", "8080"], "write it like 127.0.0.1:8080"),
            (&["--symlinks", "all"], "possible values: beneath, deny"),
            (&["--copy", "magic"], "possible values: sendfile, read"),
            (&["--cache", "some"], "possible values: off, descriptors, contents"),
            (&["--cache-bytes", "much"], "write it like 500KiB"),
            (&["--cache-entries", "0"], "0 is not in 1.."),
            (&["--cache-descriptors", "-1"], "-1 is not in 1.."),
            (&["--nonsense"], "unexpected argument"),
            (&["--index", "a/b"], "write one name, like index.html"),
            (&["--index", ".index"], "hidden"),
            (&["--index", "_headers"], "for rules"),
            (&["--cache-control", ""], "write it like 'public, max-age=3600'"),
            (&["--cache-control", "no-cache\r\nA: b"], "write it like 'public, max-age=3600'"),
            (&["--header", "X-Frame-Options"], "write it like 'Name: value'"),
            (&["--header", "X:"], "`X` has no value"),
            (&["--header", "X Y: z"], "`X Y` is not a field name"),
            (&["--header", "X: a\rb"], "`X` has a control character"),
            (&["--header", "Content-Length: 3"], "`Content-Length` is a field that the server alone sets"),
            (&["--header", "transfer-encoding: chunked"], "`transfer-encoding` is a field"),
            (&["--header", "Date: x"], "`Date` is a field"),
            (&["--header", "! ETag"], "`! ETag` is a field"),
            (&["--header", "Content-Type: a/b", "--header", "Content-Type: c/d"], "--header: `Content-Type`"),
            (&["--cors=example.com"], "like https://example.com, or *"),
            (&["--cors="], "like https://example.com, or *"),
            (&["--mime", "wasm"], "write it like ext=type/subtype"),
            (&["--mime", "wasm=app"], "`app` is no media type"),
            (&["--mime", "tar.gz=application/gzip"], "the last dot"),
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

    /// Lines of a variable come the same way as several flags.
    #[test]
    fn fields_of_flags() {
        let lines = |arguments: &[&str]| {
            let options = flags(arguments).expect("good flags").site();
            String::from_utf8_lossy(options.fields.fields_for(b"x").lines()).replace("\r\n", "|")
        };
        assert_eq!(lines(&[]), "");
        assert_eq!(lines(&["--cache-control=no-cache"]), "Cache-Control: no-cache|");
        assert_eq!(lines(&["--header=A: 1\nB:2\n", "--header", "a: 3"]), "A: 1, 3|B: 2|");
        assert_eq!(
            lines(&["--header=cache-control: b", "--cache-control=a", "--cors"]),
            "Access-Control-Allow-Origin: *|Access-Control-Expose-Headers: *|cache-control: b|"
        );
        assert_eq!(
            lines(&["--cors=https://a.example", "--header", "! Access-Control-Expose-Headers"]),
            "Access-Control-Allow-Origin: https://a.example|"
        );
        let options = flags(&["--mime=a=b/c\n\nd=e/f\n", "--cors", "www"]).expect("good flags").site();
        assert_eq!(options.media_types.mime_for(b"x.d").parts().concat(), "e/f");
        assert!(options.cors.is_some() && !options.spa && !options.clean_urls);
        assert_eq!(options.index.as_str(), "index.html");
    }

    #[test]
    fn switches_are_repeatable() {
        let parsed = parse("uring", ["uring", "--tune=unbatched,single-accept", "--tune", "coop-taskrun"]);
        let config = parsed.expect("good flags").config(&descriptors(1 << 20));
        assert_eq!(config.tune, [Tune::Unbatched, Tune::SingleAccept, Tune::CoopTaskrun]);
        assert!(config.tuned(Tune::Unbatched) && !config.tuned(Tune::UnlinkedSend));
    }

    #[test]
    fn the_cache_leaves_descriptors_for_connections() {
        let parsed = flags(&["--cache-bytes=1.5MiB", "--cache-entries=7"]).expect("good flags");
        let cache = parsed.cache(&descriptors(800));
        assert_eq!((cache.bytes, cache.entries, cache.descriptors), (3 << 19, 7, 100));
        let off = flags(&["--cache=off"]).expect("good flags");
        assert_eq!(off.cache(&descriptors(800)), CacheConfig::OFF);
    }

    #[test]
    fn as_many_connections_as_descriptors_allow() {
        let with = |arguments: &[&str]| flags(arguments).expect("good flags");
        let one = with(&["--workers=1"]);
        // 64 are reserved, 9 are the worker's; what is left is for sockets and files.
        assert_eq!(one.connections_max(&descriptors(800), 100), 313);
        assert_eq!(with(&["--workers=10"]).connections_max(&descriptors(800), 100), 273);
        assert_eq!(one.connections_max(&descriptors(64), 8), 12, "half of what there is, at least");
        let asked = with(&["--workers=9", "--connections-max=7"]);
        assert_eq!(asked.connections_max(&descriptors(800), 100), 7, "places are of all workers together");
        // 3 are inherited, 5 and a name are the process's, 5 the worker's, 6 to spare, and 2 a connection's.
        for (limit, connections) in [(22, 1), (24, 1), (26, 2), (32, 4)] {
            let descriptors = descriptors(limit);
            one.check(&descriptors).expect("enough");
            let cached = one.cache(&descriptors).descriptors as u64;
            assert_eq!(
                one.connections_max(&descriptors, cached),
                connections,
                "{limit}, {cached} are cached"
            );
        }
        let refused = one.check(&descriptors(21)).expect_err("too few").to_string();
        assert!(
            refused.contains("may have 21 ") && refused.contains("needs at least 22 for 1 worker "),
            "{refused}"
        );
        let more = with(&["--workers=4", "-l", "127.0.0.1:0", "-l", "[::1]:0", "--access-log"]);
        assert!(more.check(&descriptors(3 + 5 + 2 + 1 + 4 * 6 + 6 + 2)).is_ok());
        assert!(more.check(&descriptors(3 + 5 + 2 + 1 + 4 * 6 + 6 + 1)).is_err());
    }

    #[test]
    fn the_command_is_well_formed() {
        Flags::command().debug_assert();
    }
}
