//! The flags.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytesize::ByteSize;
use clap::builder::BoolishValueParser;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser};

use crate::http::conditional::EtagPolicy;
use crate::http::cors::Cors;
use crate::http::mime::{MediaTypes, TypeChoice};
use crate::machine::connection::LINGER_TIME;
use crate::machine::proxies::{Proxies, ProxyRange};
use crate::machine::record::LogFormat;
use crate::service::cli::Outside;
use crate::service::cli::descriptors::Descriptors;
use crate::service::cli::model::{Io, Model};
use crate::service::config::Config;
use crate::service::endpoint::Endpoint;
use crate::service::listen::{Listeners, Names};
use crate::service::log::AccessLog;
use crate::service::socket_path::SOCKET_MODE;
use crate::service::start::StartError;
use crate::service::tune::{CopyMode, Tune};
use crate::service::variables;
use crate::site::cache::CacheLevel;
use crate::site::root::{IndexName, SiteOptions, Symlinks};
use crate::site::rules::HeaderRules;
use crate::site::variants::Compress;

/// Serve a directory over HTTP.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
pub struct Flags {
    /// The directory to serve
    #[arg(default_value = ".", env = "TRIPTYCH_ROOT")]
    pub(super) root: PathBuf,
    /// Address to listen on, repeatable; port 0 picks a free port, [::]:8080 also accepts IPv4
    #[arg(short, long, value_name = "ADDR", default_value = "127.0.0.1:8080", value_delimiter = ',')]
    #[arg(env = "TRIPTYCH_LISTEN")]
    pub(super) listen: Vec<Endpoint>,
    /// Worker threads [default: one per available core]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    #[arg(env = "TRIPTYCH_WORKERS", allow_negative_numbers = true)]
    pub(super) workers: Option<u16>,
    /// Maximum number of connections; beyond it the longest idle give way, or new ones wait [default: what the descriptor
    /// limit allows]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    #[arg(env = "TRIPTYCH_CONNECTIONS_MAX", allow_negative_numbers = true)]
    pub(super) connections_max: Option<u32>,
    /// Time to receive a request head, from its first byte
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = timeout)]
    #[arg(env = "TRIPTYCH_HEAD_TIMEOUT", allow_hyphen_values = true)]
    pub(super) head_timeout: Duration,
    /// Time between two requests on a connection
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = timeout)]
    #[arg(env = "TRIPTYCH_IDLE_TIMEOUT", allow_hyphen_values = true)]
    pub(super) idle_timeout: Duration,
    /// Time without progress while sending a response
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = timeout)]
    #[arg(env = "TRIPTYCH_SEND_TIMEOUT", allow_hyphen_values = true)]
    pub(super) send_timeout: Duration,
    /// Bytes per second that a client must take of a response, on average over four such times; 0 for any rate
    #[arg(long, value_name = "SIZE", default_value = "256B", value_parser = size)]
    #[arg(env = "TRIPTYCH_SEND_RATE_MIN", allow_hyphen_values = true)]
    pub(super) send_rate_min: u64,
    /// Time to finish responses after SIGINT or SIGTERM
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = grace)]
    #[arg(env = "TRIPTYCH_GRACE", allow_hyphen_values = true)]
    pub(super) grace: Duration,
    /// Time to go on accepting connections after SIGINT or SIGTERM, before the drain begins
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = grace)]
    #[arg(env = "TRIPTYCH_DRAIN_DELAY", allow_hyphen_values = true)]
    pub(super) drain_delay: Duration,
    /// Serve files whose names begin with a dot
    #[arg(long, value_parser = BoolishValueParser::new(), env = "TRIPTYCH_HIDDEN")]
    pub(super) hidden: bool,
    /// Which symbolic links to follow: those that stay beneath the root, or none
    #[arg(long, value_enum, default_value = "beneath", env = "TRIPTYCH_SYMLINKS")]
    pub(super) symlinks: Symlinks,
    /// List directories that have no index page
    #[arg(long, value_parser = BoolishValueParser::new(), env = "TRIPTYCH_LISTING")]
    pub(super) listing: bool,
    /// The file that is sent for its directory
    #[arg(long, value_name = "NAME", default_value = "index.html", env = "TRIPTYCH_INDEX")]
    pub(super) index: IndexName,
    /// Send the root's index page, with 200, for what isn't found where a browser asks for a page
    #[arg(long, value_parser = BoolishValueParser::new(), env = "TRIPTYCH_SPA")]
    pub(super) spa: bool,
    /// Serve about.html as /about, and send those there who ask for /about.html
    #[arg(long, value_parser = BoolishValueParser::new(), env = "TRIPTYCH_CLEAN_URLS")]
    pub(super) clean_urls: bool,
    /// Cache-Control of files, where the site's _headers say nothing else
    #[arg(long, value_name = "VALUE", value_parser = cache_control, env = "TRIPTYCH_CACHE_CONTROL")]
    pub(super) cache_control: Option<FieldLine>,
    /// Field of answers with files, as in _headers; repeatable; in the variable one a line
    #[arg(long, value_name = "NAME: VALUE", value_parser = field_line, value_delimiter = '\n')]
    #[arg(env = "TRIPTYCH_HEADER", hide_env_values = true)]
    pub(super) header: Vec<FieldLine>,
    /// Let pages of another origin read what is served; without ORIGIN, those of any
    #[arg(long, value_name = "ORIGIN", num_args = 0..=1, require_equals = true, default_missing_value = "*")]
    #[arg(env = "TRIPTYCH_CORS")]
    pub(super) cors: Option<Cors>,
    /// Media type of an extension, like wasm=application/wasm; repeatable; in the variable one a line
    #[arg(long, value_name = "EXT=TYPE", value_parser = type_choice, value_delimiter = '\n')]
    #[arg(env = "TRIPTYCH_MIME", hide_env_values = true)]
    pub(super) mime: Vec<LineOf<TypeChoice>>,
    /// What entity tags are made of: strict, which no restored time deceives; replica, the same on several machines
    /// that serve copies with the same times; or off
    #[arg(long, value_enum, value_name = "POLICY", default_value = "strict", env = "TRIPTYCH_ETAG")]
    pub(super) etag: EtagPolicy,
    /// Which variants of files to serve: auto, those beside them (.br, .zst, .gz) and text compressed once into the cache;
    /// sidecars, only those beside them; or off
    #[arg(long, value_enum, value_name = "VARIANTS", default_value = "auto", env = "TRIPTYCH_COMPRESS")]
    pub(super) compress: Compress,
    /// The I/O model: auto is io_uring where the system allows it, else epoll
    #[arg(long, value_enum, value_name = "MODEL", default_value = "auto", env = "TRIPTYCH_IO")]
    pub(super) io: Io,
    /// What must be in force of the sandbox: what the kernel has, all of it, or nothing
    #[arg(long, value_enum, value_name = "MODE", default_value = "auto", env = "TRIPTYCH_SANDBOX")]
    sandbox: SandboxMode,
    /// The user that serves; root alone can become another
    #[arg(long, value_name = "NAME", env = "TRIPTYCH_USER")]
    user: Option<String>,
    /// How to move a file to a socket
    #[arg(long, value_enum, default_value = "sendfile", env = "TRIPTYCH_COPY")]
    pub(super) copy: CopyMode,
    /// Disable an optimization, to measure what it gains; repeatable
    #[arg(long, value_enum, value_name = "SWITCH", value_delimiter = ',', env = "TRIPTYCH_TUNE")]
    pub(super) tune: Vec<Tune>,
    /// What to cache: nothing, open files, or also the bytes of small files
    #[arg(long, value_enum, value_name = "LEVEL", default_value = "contents", env = "TRIPTYCH_CACHE")]
    pub(super) cache: CacheLevel,
    /// Total bytes of cached files, over all workers
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = size)]
    #[arg(env = "TRIPTYCH_CACHE_BYTES", allow_hyphen_values = true)]
    pub(super) cache_bytes: u64,
    /// Number of cached files, over all workers
    #[arg(long, value_name = "N", default_value = "16384", value_parser = clap::value_parser!(u32).range(1..))]
    #[arg(env = "TRIPTYCH_CACHE_ENTRIES", allow_negative_numbers = true)]
    pub(super) cache_entries: u32,
    /// Files the cache may hold open, over all workers; at most an eighth of all descriptors
    #[arg(long, value_name = "N", default_value = "1024", value_parser = clap::value_parser!(u32).range(1..))]
    #[arg(env = "TRIPTYCH_CACHE_DESCRIPTORS", allow_negative_numbers = true)]
    pub(super) cache_descriptors: u32,
    /// Log requests to a file, or to standard output
    #[arg(long, value_name = "PATH", num_args = 0..=1, require_equals = true, default_missing_value = "-")]
    #[arg(env = "TRIPTYCH_ACCESS_LOG")]
    pub(super) access_log: Option<PathBuf>,
    /// What a line of the log is: the combined format, plus the duration in seconds; or a JSON object
    #[arg(
        long,
        value_enum,
        value_name = "FORMAT",
        default_value = "combined",
        env = "TRIPTYCH_ACCESS_LOG_FORMAT"
    )]
    pub(super) access_log_format: LogFormat,
    /// Proxies whose X-Forwarded-For tells the log who has asked: addresses like 10.0.0.0/8 or ::1, and unix for all that
    /// come through a unix socket; repeatable
    #[arg(long, value_name = "ADDR", value_delimiter = ',', env = "TRIPTYCH_TRUSTED_PROXIES")]
    pub(super) trusted_proxies: Vec<ProxyRange>,
    /// Connections of these proxies begin with a header of the PROXY protocol, version 1 or 2; others are served without
    #[arg(long, value_parser = BoolishValueParser::new(), env = "TRIPTYCH_PROXY_PROTOCOL")]
    pub(super) proxy_protocol: bool,
    /// Print connections, requests, bytes and events at every interval, and totals at exit
    #[arg(long, value_name = "INTERVAL", num_args = 0..=1, require_equals = true, default_missing_value = "1s")]
    #[arg(value_parser = timeout, env = "TRIPTYCH_STATS")]
    pub(super) stats: Option<Duration>,
}

/// What must be in force of the sandbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum SandboxMode {
    /// What the kernel has of it
    #[default]
    Auto,
    /// All of it, or the server doesn't start
    Require,
    /// Nothing
    Off,
}

/// A value of its own line: `None` for an empty one, with which a variable of several lines may end.
pub(super) type LineOf<T> = Option<T>;

/// `Name: value` or `! Name`.
#[derive(Clone, Debug)]
pub(super) struct FieldLine(String);

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

pub(super) fn parse<T: Into<OsString> + Clone>(
    name: &'static str,
    models: &[Model],
    arguments: impl IntoIterator<Item = T>,
) -> Result<Flags, clap::Error> {
    let mut command = Flags::command().name(name);
    let has_switches = |switch: Tune| models.iter().any(|model| model.io == switch.io());
    command = command.mut_arg("tune", |tune| tune.hide(!Tune::ALL.into_iter().any(has_switches)));
    let has_choice = models.len() > 1;
    for flag in ["io", "sandbox", "user"] {
        command = command.mut_arg(flag, |flag| if has_choice { flag } else { flag.hide(true) });
    }
    let arguments: Vec<OsString> = arguments.into_iter().map(Into::into).collect();
    let matches = variables::matches(&mut command, &arguments)?;
    let flags = Flags::from_arg_matches(&matches)?;
    let io = if has_choice { flags.io } else { models[0].io };
    if !has_choice && flags.io != Io::Auto && flags.io != io {
        let setting = setting(&matches, "io", "--io", "TRIPTYCH_IO");
        let asked = flags.io.name();
        let line = format!("{setting}={asked}: this is `{name}`; `triptych` has the choice");
        return Err(command.error(ErrorKind::ArgumentConflict, line));
    }
    if !has_choice && (flags.user.is_some() || flags.sandbox != SandboxMode::Auto) {
        let line = format!("--user, --sandbox: this is `{name}`; `triptych` has them");
        return Err(command.error(ErrorKind::ArgumentConflict, line));
    }
    if let Some(switch) = flags.tune.iter().find(|switch| switch.io() != io) {
        let setting = setting(&matches, "tune", "--tune", "TRIPTYCH_TUNE");
        let server = switch.io().name();
        let hint = if has_choice { format!("; choose --io={server}") } else { String::new() };
        let line = format!("{setting}={} applies to `{server}` alone{hint}", switch.name());
        return Err(command.error(ErrorKind::ArgumentConflict, line));
    }
    if flags.proxy_protocol && flags.trusted_proxies.is_empty() {
        let setting = setting(&matches, "proxy_protocol", "--proxy-protocol", "TRIPTYCH_PROXY_PROTOCOL");
        let line =
            format!("{setting} needs --trusted-proxies, which says whose connections begin with a header");
        return Err(command.error(ErrorKind::MissingRequiredArgument, line));
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

impl Flags {
    pub(super) fn worker_count(&self) -> usize {
        let cores = || thread::available_parallelism().map_or(1, std::num::NonZero::get);
        self.workers.map_or_else(cores, usize::from)
    }

    /// Opens what a server needs from outside its root, and the names that say that it is alive, to be held for as long
    /// as it is.
    ///
    /// # Errors
    /// One line for the operator.
    pub fn open_outside(&self) -> Result<(Outside, Names), StartError> {
        let config = Config { workers: self.worker_count(), ..Config::default() };
        let mut listeners = Listeners::bind(&self.listen, &config)?;
        let names = listeners.take_names();
        Ok((Outside { bound: listeners.into_bound(), log: self.open_log()? }, names))
    }

    /// Opens the access log's file, if there is to be one.
    ///
    /// # Errors
    /// One line for the operator.
    pub fn open_log(&self) -> Result<Option<File>, StartError> {
        self.access_log.as_deref().map(AccessLog::open_file).transpose()
    }

    /// Where the access log's file can be opened again; `None` if there is none, or it is standard output.
    #[must_use]
    pub fn log_path(&self) -> Option<&Path> {
        self.access_log.as_deref().filter(|path| *path != Path::new("-"))
    }

    /// What must be in force of the sandbox.
    #[must_use]
    pub fn sandbox(&self) -> SandboxMode {
        self.sandbox
    }

    /// The user that serves, if it is to be another one.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// The directory to serve.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn site(&self) -> SiteOptions {
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

    pub(super) fn config(&self, descriptors: &Descriptors) -> Config {
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
            drain_delay: self.drain_delay,
            proxies: Arc::new(Proxies {
                ranges: self.trusted_proxies.clone(),
                send_header: self.proxy_protocol,
            }),
            copy: self.copy,
            tune: self.tune.clone(),
            socket_mode: SOCKET_MODE,
            send_buffer_bytes: None,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::service::cli::descriptors::tests::descriptors;
    use crate::service::cli::model::tests::model;

    pub(in super::super) fn flags(arguments: &[&str]) -> Result<Flags, clap::Error> {
        parse("blocking", &[model(Io::Blocking, || Ok(()))], ["blocking"].iter().chain(arguments))
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
        assert_eq!((defaults.grace, defaults.drain_delay), (config.grace, config.drain_delay));
        assert_eq!(defaults.access_log_format, LogFormat::Combined);
        assert!(defaults.trusted_proxies.is_empty() && !defaults.proxy_protocol);
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
            (&["--drain-delay", "-1s"], "can't be negative"),
            (&["--drain-delay", "5"], "write it like 500ms"),
            (&["--access-log-format", "xml"], "possible values: combined, json"),
            (&["--trusted-proxies", "10.0.0.0/33"], "'10.0.0.0/33' for '--trusted-proxies"),
            (&["--trusted-proxies=::1,lb.example"], "write it like 10.0.0.0/8, 2001:db8::1 or unix"),
            (&["--trusted-proxies="], "write it like 10.0.0.0/8"),
            (&["--proxy-protocol"], "--proxy-protocol needs --trusted-proxies"),
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
        let [uring, epoll, blocking] = [Io::Uring, Io::Epoll, Io::Blocking].map(|io| model(io, || Ok(())));
        let all = [uring, epoll, blocking];
        for (models, arguments, expected) in [
            (&all[..1], ["", "--tune", "level-triggered"], "`epoll` alone"),
            (&all[2..], ["", "--tune", "unbatched"], "`uring` alone"),
            (&all[1..2], ["", "--io", "uring"], "--io=uring: this is `x`; `triptych` has the choice"),
            (&all[..], ["", "--tune", "unbatched"], "`uring` alone; choose --io=uring"),
            (&all[..], ["", "--io", "kqueue"], "possible values: auto, uring, epoll, blocking"),
        ] {
            let error = parse("x", models, arguments).expect_err("of another server");
            assert!(error.to_string().contains(expected), "{error}");
        }
        assert!(parse("x", &all, ["", "--tune=unbatched", "--io=uring"]).is_ok());
        assert!(parse("x", &all[..1], ["", "--io=uring"]).is_ok());
    }

    #[test]
    fn proxies_are_trusted_as_the_flags_say() {
        let with = |arguments: &[&str]| {
            let proxies = flags(arguments).expect("good flags").config(&descriptors(1 << 20)).proxies;
            let ranges: Vec<_> = proxies.ranges.iter().map(ToString::to_string).collect();
            (ranges.join(" "), proxies.send_header)
        };
        assert_eq!(with(&[]), (String::new(), false));
        assert_eq!(
            with(&["--trusted-proxies=10.1.0.0/8, ::1,unix"]),
            ("10.0.0.0/8 ::1/128 unix".into(), false)
        );
        let both = ["--trusted-proxies", "127.0.0.1", "--trusted-proxies=unix", "--proxy-protocol"];
        assert_eq!(with(&both), ("127.0.0.1/32 unix".into(), true));
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
        let uring = model(Io::Uring, || Ok(()));
        let parsed =
            parse("uring", &[uring], ["uring", "--tune=unbatched,single-accept", "--tune", "coop-taskrun"]);
        let config = parsed.expect("good flags").config(&descriptors(1 << 20));
        assert_eq!(config.tune, [Tune::Unbatched, Tune::SingleAccept, Tune::CoopTaskrun]);
        assert!(config.tuned(Tune::Unbatched) && !config.tuned(Tune::UnlinkedSend));
    }

    #[test]
    fn the_command_is_well_formed() {
        Flags::command().debug_assert();
    }
}
