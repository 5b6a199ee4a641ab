//! The flags.

use std::ffi::OsString;
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytesize::ByteSize;
use clap::builder::BoolishValueParser;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, CommandFactory, FromArgMatches, Parser, ValueHint};

use crate::http::conditional::EtagPolicy;
use crate::http::cors::Cors;
use crate::http::mime::{MediaTypes, TypeChoice};
use crate::machine::connection::LINGER_TIME;
use crate::machine::proxies::{Proxies, ProxyRange};
use crate::machine::record::LogFormat;
use crate::service::cli::address::{Address, admin_address, port, socket_mode};
use crate::service::cli::descriptors::Descriptors;
use crate::service::cli::generate::Generate;
use crate::service::cli::hints::{self, Detached};
use crate::service::cli::model::{Io, Model};
use crate::service::config::Config;
use crate::service::endpoint::Endpoint;
use crate::service::log::AccessLog;
use crate::service::say::say;
use crate::service::shutdown::END_MIN;
use crate::service::start::StartError;
use crate::service::tune::{CopyMode, Tune};
use crate::service::variables;
use crate::site::cache::CacheLevel;
use crate::site::fault_log::FaultLog;
use crate::site::root::{IndexName, Site, SiteOptions, Symlinks};
use crate::site::rules::HeaderRules;
use crate::site::variants::Compress;

/// Where to listen.
pub(super) const LISTENING: &str = "Where to listen";
/// What is served, and how it is described.
pub(super) const CONTENT: &str = "Content";
/// What clients and the server keep.
pub(super) const CACHING: &str = "Caching";
/// Bounds of time, size and number.
pub(super) const LIMITS: &str = "Limits";
/// What the operator sees and decides.
pub(super) const CONTROL: &str = "Logs and control";
/// Switches that show what something is worth.
pub(super) const COMPARING: &str = "For comparisons";

/// The groups of flags, as the help has them.
const GROUPS: [&str; 6] = [LISTENING, CONTENT, CACHING, LIMITS, CONTROL, COMPARING];

/// The last lines of the help; NAME is the program's.
pub(super) const EXAMPLES: [&str; 3] = [
    "NAME dist                              on http://127.0.0.1:8080/",
    "NAME -l :80 --access-log=www.log www   for everybody, with a log",
    "NAME -p 3000 --spa --cors dist         an application, while it is made",
];

/// The flags. `-h` fits a screen: it shows one line of each, the first paragraph of what is said here, and a flag that is
/// rarely needed is in `--help` alone.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
pub struct Flags {
    /// The directory to serve; else the current one
    #[arg(default_value = ".", env = "TRIPTYCH_ROOT", value_hint = ValueHint::DirPath)]
    pub(super) root: PathBuf,
    /// Port for this machine alone: 127.0.0.1:N
    ///
    /// 0 picks a free port. For other addresses use --listen.
    #[arg(short, long, value_name = "N", value_parser = port, help_heading = LISTENING)]
    #[arg(env = "TRIPTYCH_PORT", allow_negative_numbers = true)]
    pub(super) port: Option<u16>,
    /// :8080 for all, localhost:8080, unix:PATH, ...
    ///
    /// Repeatable. 127.0.0.1:8080 or [::1]:8080 is that address, 8080 alone is 127.0.0.1:8080, as with --port, localhost:8080 this machine alone in
    /// IPv4 and IPv6, :8080 or [::]:8080 all addresses of both, 0.0.0.0:8080 all of IPv4, and unix:/run/www.sock a unix
    /// socket. Port 0 picks a free one. Without this flag and --port, sockets that whoever starts the server has opened are
    /// served (systemd's LISTEN_FDS), if there are any.
    #[arg(short, long, value_name = "ADDR", default_value = "127.0.0.1:8080", value_delimiter = ',')]
    #[arg(env = "TRIPTYCH_LISTEN", help_heading = LISTENING)]
    pub(super) listen: Vec<Address>,
    /// Who may connect to unix sockets: their permissions, in octal digits
    #[arg(long, value_name = "MODE", default_value = "660", value_parser = socket_mode)]
    #[arg(env = "TRIPTYCH_SOCKET_MODE", allow_negative_numbers = true)]
    #[arg(help_heading = LISTENING, hide_short_help = true)]
    pub(super) socket_mode: u32,
    /// The flag or variable that says where to listen; `None` if none does.
    #[arg(skip)]
    pub(super) listens_by: Option<&'static str>,
    /// What is behind a flag without being its value.
    #[arg(skip)]
    pub(super) detached: Option<Detached>,
    /// Worker threads; else one for each core
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    #[arg(env = "TRIPTYCH_WORKERS", allow_negative_numbers = true, help_heading = LIMITS)]
    pub(super) workers: Option<u16>,
    /// Maximum number of connections; else what the descriptor limit allows. Beyond it the longest idle give way, or new
    /// ones wait
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    #[arg(env = "TRIPTYCH_CONNECTIONS_MAX", allow_negative_numbers = true)]
    #[arg(help_heading = LIMITS, hide_short_help = true)]
    pub(super) connections_max: Option<u32>,
    /// Time to receive a request head, from its first byte
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = timeout)]
    #[arg(env = "TRIPTYCH_HEAD_TIMEOUT", allow_hyphen_values = true)]
    #[arg(help_heading = LIMITS, hide_short_help = true)]
    pub(super) head_timeout: Duration,
    /// Time between two requests on a connection
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = timeout)]
    #[arg(env = "TRIPTYCH_IDLE_TIMEOUT", allow_hyphen_values = true)]
    #[arg(help_heading = LIMITS, hide_short_help = true)]
    pub(super) idle_timeout: Duration,
    /// Time without progress while sending a response
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = timeout)]
    #[arg(env = "TRIPTYCH_SEND_TIMEOUT", allow_hyphen_values = true)]
    #[arg(help_heading = LIMITS, hide_short_help = true)]
    pub(super) send_timeout: Duration,
    /// Bytes per second that a client must take of a response, averaged over four send timeouts; 0 for any rate
    #[arg(long, value_name = "SIZE", default_value = "256B", value_parser = size)]
    #[arg(env = "TRIPTYCH_SEND_RATE_MIN", allow_hyphen_values = true)]
    #[arg(help_heading = LIMITS, hide_short_help = true)]
    pub(super) send_rate_min: u64,
    /// How long to finish responses when stopping (30s)
    ///
    /// From SIGINT or SIGTERM to the end of the process, at most.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = grace)]
    #[arg(env = "TRIPTYCH_GRACE", allow_hyphen_values = true, help_heading = LIMITS)]
    pub(super) grace: Duration,
    /// After SIGINT or SIGTERM, keep accepting connections for so long, then drain
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = grace)]
    #[arg(env = "TRIPTYCH_DRAIN_DELAY", allow_hyphen_values = true)]
    #[arg(help_heading = LIMITS, hide_short_help = true)]
    pub(super) drain_delay: Duration,
    /// Serve names that begin with a dot
    #[arg(long, value_parser = BoolishValueParser::new(), env = "TRIPTYCH_HIDDEN")]
    #[arg(help_heading = CONTENT, hide_short_help = true)]
    pub(super) hidden: bool,
    /// Which symbolic links to follow: those that stay beneath the root, or none
    #[arg(long, value_enum, default_value = "beneath", env = "TRIPTYCH_SYMLINKS")]
    #[arg(help_heading = CONTENT, hide_short_help = true)]
    pub(super) symlinks: Symlinks,
    /// List directories without an index page
    #[arg(long, value_parser = BoolishValueParser::new(), env = "TRIPTYCH_LISTING", help_heading = CONTENT)]
    pub(super) listing: bool,
    /// The file that is sent for its directory
    #[arg(long, value_name = "NAME", default_value = "index.html", env = "TRIPTYCH_INDEX")]
    #[arg(help_heading = CONTENT, hide_short_help = true)]
    pub(super) index: IndexName,
    /// Serve the index page for unknown routes
    ///
    /// The root's index page, with 200, for what isn't found where a browser asks for a page.
    #[arg(long, value_parser = BoolishValueParser::new(), env = "TRIPTYCH_SPA", help_heading = CONTENT)]
    pub(super) spa: bool,
    /// Serve about.html as /about
    ///
    /// Who asks for /about.html is sent there.
    #[arg(long, value_parser = BoolishValueParser::new(), env = "TRIPTYCH_CLEAN_URLS", help_heading = CONTENT)]
    pub(super) clean_urls: bool,
    /// Cache-Control of files
    ///
    /// Where the site's _headers say nothing else.
    #[arg(long, value_name = "VALUE", value_parser = cache_control, env = "TRIPTYCH_CACHE_CONTROL")]
    #[arg(help_heading = CACHING)]
    pub(super) cache_control: Option<FieldLine>,
    /// Add a header field to file responses; repeatable
    ///
    /// As in _headers. In the variable, one per line.
    #[arg(long, value_name = "NAME: VALUE", value_parser = field_line, value_delimiter = '\n')]
    #[arg(env = "TRIPTYCH_HEADER", hide_env_values = true, help_heading = CONTENT)]
    pub(super) header: Vec<FieldLine>,
    /// Allow cross-origin requests (CORS)
    ///
    /// Without ORIGIN, those of any.
    #[arg(long, value_name = "ORIGIN", num_args = 0..=1, require_equals = true, default_missing_value = "*")]
    #[arg(env = "TRIPTYCH_CORS", help_heading = CONTENT)]
    pub(super) cors: Option<Cors>,
    /// Media type of an extension, like wasm=application/wasm; repeatable; in the variable one a line
    #[arg(long, value_name = "EXT=TYPE", value_parser = type_choice, value_delimiter = '\n')]
    #[arg(env = "TRIPTYCH_MIME", hide_env_values = true)]
    #[arg(help_heading = CONTENT, hide_short_help = true)]
    pub(super) mime: Vec<LineOf<TypeChoice>>,
    /// What entity tags are made of: strict, which no restored time deceives; replica, the same on several machines
    /// that serve copies with the same times; or off
    #[arg(long, value_enum, value_name = "POLICY", default_value = "strict", env = "TRIPTYCH_ETAG")]
    #[arg(help_heading = CACHING, hide_short_help = true)]
    pub(super) etag: EtagPolicy,
    /// Which variants of files to serve: auto, those beside them (.br, .zst, .gz) and text compressed once into the cache;
    /// sidecars, only those beside them; or off
    #[arg(long, value_enum, value_name = "VARIANTS", default_value = "auto", env = "TRIPTYCH_COMPRESS")]
    #[arg(help_heading = CONTENT, hide_short_help = true)]
    pub(super) compress: Compress,
    /// auto, uring, epoll or blocking
    ///
    /// The I/O model: auto is io_uring where the system allows it, else epoll.
    #[arg(long, value_enum, value_name = "MODEL", default_value = "auto", env = "TRIPTYCH_IO")]
    #[arg(help_heading = COMPARING)]
    pub(super) io: Io,
    /// What must be in force of the sandbox: what the kernel has, all of it, or nothing
    #[arg(long, value_enum, value_name = "MODE", default_value = "auto", env = "TRIPTYCH_SANDBOX")]
    #[arg(help_heading = CONTROL, hide_short_help = true)]
    sandbox: SandboxMode,
    /// The user that serves, by name or number; root alone can become another
    #[arg(long, value_name = "USER", env = "TRIPTYCH_USER", help_heading = CONTROL, hide_short_help = true)]
    user: Option<String>,
    /// A file that has the number of the process that takes signals, while it serves
    ///
    /// What an earlier one has left there is replaced; it is removed at the end.
    #[arg(long, value_name = "PATH", env = "TRIPTYCH_PID_FILE", value_hint = ValueHint::FilePath)]
    #[arg(help_heading = CONTROL, hide_short_help = true)]
    pid_file: Option<PathBuf>,
    /// How to move a file to a socket
    #[arg(long, value_enum, default_value = "sendfile", env = "TRIPTYCH_COPY")]
    #[arg(help_heading = COMPARING, hide_short_help = true)]
    pub(super) copy: CopyMode,
    /// Disable an optimization, to measure what it gains; repeatable
    #[arg(long, value_enum, value_name = "SWITCH", value_delimiter = ',', env = "TRIPTYCH_TUNE")]
    #[arg(help_heading = COMPARING, hide_short_help = true)]
    pub(super) tune: Vec<Tune>,
    /// What to cache: nothing, open files, or also the bytes of small files
    #[arg(long, value_enum, value_name = "LEVEL", default_value = "contents", env = "TRIPTYCH_CACHE")]
    #[arg(help_heading = CACHING, hide_short_help = true)]
    pub(super) cache: CacheLevel,
    /// Total bytes of cached files, over all workers
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = size)]
    #[arg(env = "TRIPTYCH_CACHE_BYTES", allow_hyphen_values = true)]
    #[arg(help_heading = CACHING, hide_short_help = true)]
    pub(super) cache_bytes: u64,
    /// Number of cached files, over all workers
    #[arg(long, value_name = "N", default_value = "16384", value_parser = clap::value_parser!(u32).range(1..))]
    #[arg(env = "TRIPTYCH_CACHE_ENTRIES", allow_negative_numbers = true)]
    #[arg(help_heading = CACHING, hide_short_help = true)]
    pub(super) cache_entries: u32,
    /// Files the cache may hold open, over all workers; at most an eighth of all descriptors
    #[arg(long, value_name = "N", default_value = "1024", value_parser = clap::value_parser!(u32).range(1..))]
    #[arg(env = "TRIPTYCH_CACHE_DESCRIPTORS", allow_negative_numbers = true)]
    #[arg(help_heading = CACHING, hide_short_help = true)]
    pub(super) cache_descriptors: u32,
    /// Log requests; without PATH, to the output
    ///
    /// As combined or JSON lines: --access-log-format.
    #[arg(long, value_name = "PATH", num_args = 0..=1, require_equals = true, default_missing_value = "-")]
    #[arg(env = "TRIPTYCH_ACCESS_LOG", value_hint = ValueHint::FilePath, help_heading = CONTROL)]
    pub(super) access_log: Option<PathBuf>,
    /// What a line of the log is: the combined format, plus the duration in seconds; or a JSON object
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "combined")]
    #[arg(env = "TRIPTYCH_ACCESS_LOG_FORMAT", help_heading = CONTROL, hide_short_help = true)]
    pub(super) access_log_format: LogFormat,
    /// Proxies whose X-Forwarded-For tells the log who has asked: addresses like 10.0.0.0/8 or ::1, and unix for all that
    /// come through a unix socket; repeatable
    #[arg(long, value_name = "ADDR", value_delimiter = ',', env = "TRIPTYCH_TRUSTED_PROXIES")]
    #[arg(help_heading = CONTROL, hide_short_help = true)]
    pub(super) trusted_proxies: Vec<ProxyRange>,
    /// Connections of these proxies begin with a header of the PROXY protocol, version 1 or 2; others are served without
    #[arg(long, value_parser = BoolishValueParser::new(), env = "TRIPTYCH_PROXY_PROTOCOL")]
    #[arg(help_heading = CONTROL, hide_short_help = true)]
    pub(super) proxy_protocol: bool,
    /// Address for /healthz, /readyz and /metrics
    ///
    /// For whoever looks after the server; port 0 picks a free one.
    #[arg(long, value_name = "ADDR", value_parser = admin_address, env = "TRIPTYCH_ADMIN", help_heading = CONTROL)]
    pub(super) admin: Option<SocketAddr>,
    /// Print counts at every interval (1s)
    ///
    /// Connections, requests, bytes and events, and totals at exit.
    #[arg(long, value_name = "INTERVAL", num_args = 0..=1, require_equals = true, default_missing_value = "1s")]
    #[arg(value_parser = timeout, env = "TRIPTYCH_STATS", help_heading = CONTROL)]
    pub(super) stats: Option<Duration>,
    /// Check flags, rules and the root; serve nothing
    ///
    /// What is wrong with _headers and _redirects is said by file and line. Exit code 0 if nothing is, 1 if something is,
    /// 2 for flags. Nothing is bound, opened for writing, or taken over.
    #[arg(long, conflicts_with_all = ["check_health", "generate"], help_heading = CONTROL)]
    pub(super) check: bool,
    /// Ask the admin listener of a running server: exit code 0 if it is healthy, else 1
    ///
    /// For supervisors that start a program to find out. It asks the address of --admin, or of its variable.
    #[arg(long, requires = "admin", help_heading = CONTROL, hide_short_help = true)]
    pub(super) check_health: bool,
    /// Write completions for a shell, or a manual page, to standard output
    #[arg(long, value_enum, value_name = "WHAT", help_heading = CONTROL, hide_short_help = true)]
    pub(super) generate: Option<Generate>,
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
        Duration::ZERO => Err("must be greater than 0, like 10s".to_owned()),
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

/// The flags, as the program of this name has them: in groups, with help for one that can serve with these models.
pub(super) fn command(name: &'static str, models: &[Model]) -> Command {
    let own = Flags::command();
    let group = |arg: &Arg| GROUPS.iter().position(|group| arg.get_help_heading() == Some(*group));
    let mut flags: Vec<Arg> = own.get_arguments().cloned().collect();
    flags.sort_by_key(group);
    let help =
        Arg::new("help").short('h').long("help").help("Print this; --help has all flags and variables");
    let version = Arg::new("version").short('V').long("version").help("Print the version");
    let examples = EXAMPLES.map(|line| format!("  {line}")).join("\n");
    let has_switches = |switch: Tune| models.iter().any(|model| model.io == switch.io());
    Command::new(name)
        .version(env!("CARGO_PKG_VERSION"))
        .about("Serve a directory over HTTP")
        .max_term_width(100)
        .disable_help_flag(true)
        .disable_version_flag(true)
        .args(flags)
        .arg(help.action(ArgAction::Help).help_heading(CONTROL))
        .arg(version.action(ArgAction::Version).help_heading(CONTROL))
        .mut_arg("tune", |tune| tune.hide(!Tune::ALL.into_iter().any(has_switches)))
        .mut_args(|flag| {
            let is_of_triptych = ["io", "sandbox", "user", "pid_file"].contains(&flag.get_id().as_str());
            if is_of_triptych { flag.hide(models.len() < 2) } else { flag }
        })
        .after_help(format!("Examples:\n{}", examples.replace("NAME", name)))
}

/// The help that fits a screen: what a value may be, what it is by default, and its variable are for `--help`.
fn screen(command: Command) -> Command {
    command.mut_args(|arg| {
        let takes_value = arg.get_action().takes_values();
        let arg = arg.hide_env(true);
        if takes_value { arg.hide_default_value(true).hide_possible_values(true) } else { arg }
    })
}

pub(super) fn parse<T: Into<OsString> + Clone>(
    name: &'static str,
    models: &[Model],
    arguments: impl IntoIterator<Item = T>,
) -> Result<Flags, clap::Error> {
    let mut command = command(name, models);
    let has_choice = models.len() > 1;
    let arguments: Vec<OsString> = arguments.into_iter().map(Into::into).collect();
    let matches = match variables::matches(&mut command, &arguments) {
        Err(error) if error.kind() == ErrorKind::DisplayHelp => {
            // Of the two, clap tells only by what it has written.
            let is_long = error.render().to_string() == command.render_long_help().to_string();
            let short = screen(command).try_get_matches_from([name, "-h"]);
            return Err(if is_long { error } else { short.err().unwrap_or(error) });
        }
        Err(error) if error.kind() == ErrorKind::UnknownArgument => {
            let detached = Detached::find(&command, &arguments).map(|detached| detached.line());
            return Err(detached.map_or(error, |line| command.error(ErrorKind::UnknownArgument, line)));
        }
        outcome => outcome?,
    };
    let mut flags = Flags::from_arg_matches(&matches)?;
    flags.detached = Detached::find(&command, &arguments);
    if let Err(line) = flags.choose_address(&matches).and_then(|()| flags.check_log_format(&matches)) {
        return Err(command.error(ErrorKind::ArgumentConflict, line));
    }
    let io = if has_choice { flags.io } else { models[0].io };
    if !has_choice && flags.io != Io::Auto && flags.io != io {
        let setting = setting(&matches, "io", "--io", "TRIPTYCH_IO");
        let asked = flags.io.name();
        let line = format!("{setting}={asked}: this is `{name}`; `triptych` has the choice");
        return Err(command.error(ErrorKind::ArgumentConflict, line));
    }
    if !has_choice && flags.needs_keeper() {
        let line = format!("--user, --sandbox, --pid-file: this is `{name}`; `triptych` has them");
        return Err(command.error(ErrorKind::ArgumentConflict, line));
    }
    if let Some(switch) = flags.tune.iter().find(|switch| switch.io() != io) {
        let setting = setting(&matches, "tune", "--tune", "TRIPTYCH_TUNE");
        let server = switch.io().name();
        let hint = if has_choice { format!("; choose --io={server}") } else { String::new() };
        let line = format!("{setting}={} applies to `{server}` alone{hint}", switch.name());
        return Err(command.error(ErrorKind::ArgumentConflict, line));
    }
    if [Tune::AlwaysPool, Tune::LoopReads].iter().all(|switch| flags.tune.contains(switch)) {
        let setting = setting(&matches, "tune", "--tune", "TRIPTYCH_TUNE");
        let line = format!("{setting}: files are read in the pool or in the loop: always-pool or loop-reads");
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
    /// Puts the port among the addresses, if it counts: the command line does before the variables.
    fn choose_address(&mut self, matches: &ArgMatches) -> Result<(), String> {
        let given = |id| matches.value_source(id).filter(|source| *source != ValueSource::DefaultValue);
        let (port, listen) = (given("port"), given("listen"));
        let port_setting = setting(matches, "port", "--port", "TRIPTYCH_PORT");
        let listen_setting = setting(matches, "listen", "--listen", "TRIPTYCH_LISTEN");
        let port_counts = match (port, listen) {
            (Some(port), Some(listen)) if port == listen => {
                return Err(format!(
                    "{port_setting} and {listen_setting} both say where to listen; {listen_setting} takes several \
                     addresses, and a port alone is one"
                ));
            }
            (Some(port), Some(_)) => port == ValueSource::CommandLine,
            (port, _) => port.is_some(),
        };
        if let (true, Some(port)) = (port_counts, self.port) {
            self.listen = vec![Address::of_port(port)];
        }
        self.listens_by = if port_counts { Some(port_setting) } else { listen.map(|_| listen_setting) };
        // One by itself is what its bind says of it.
        let several = self.listens_by.filter(|_| self.listen.len() > 1);
        several.and_then(|setting| hints::overlap(setting, &self.endpoints())).map_or(Ok(()), Err)
    }

    /// Who says how lines are to look wants to have some.
    fn check_log_format(&self, matches: &ArgMatches) -> Result<(), String> {
        let source = matches.value_source("access_log_format");
        if self.access_log.is_some() || source == Some(ValueSource::DefaultValue) {
            return Ok(());
        }
        let setting =
            setting(matches, "access_log_format", "--access-log-format", "TRIPTYCH_ACCESS_LOG_FORMAT");
        Err(format!("{setting} needs --access-log[=PATH], which says where the lines go"))
    }

    /// What is to be bound.
    pub(super) fn endpoints(&self) -> Vec<Endpoint> {
        self.listen.iter().flat_map(Address::endpoints).collect()
    }

    pub(super) fn worker_count(&self) -> usize {
        let cores = || thread::available_parallelism().map_or(1, std::num::NonZero::get);
        self.workers.map_or_else(cores, usize::from)
    }

    /// What matters of the configuration to listening sockets.
    pub(super) fn listening(&self) -> Config {
        Config { workers: self.worker_count(), socket_mode: self.socket_mode, ..Config::default() }
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

    /// From the signal that asks for the end to the exit of the process, at most.
    #[must_use]
    pub fn end_max(&self) -> Duration {
        self.drain_delay + self.grace.max(END_MIN)
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

    /// The file for the keeper's process id, if there is to be one.
    #[must_use]
    pub fn pid_file(&self) -> Option<&Path> {
        self.pid_file.as_deref()
    }

    /// Whether something is asked for that only a process with a keeper has.
    fn needs_keeper(&self) -> bool {
        self.user.is_some() || self.pid_file.is_some() || self.sandbox != SandboxMode::Auto
    }

    /// The directory to serve.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Opens the root, and reads the rules in it.
    pub(super) fn open_site(&self) -> Result<Site, StartError> {
        let fault_log = FaultLog::new(|fault| say(format_args!("{fault}")));
        let options = SiteOptions { fault_log: Some(Arc::new(fault_log)), ..self.site() };
        Site::open_root(&self.root, options)
            .map_err(|error| Detached::explain(self.detached.as_ref(), &self.root, &error))
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
            fault_log: None,
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
            measures_latencies: self.admin.is_some(),
            copy: self.copy,
            tune: self.tune.clone(),
            socket_mode: self.socket_mode,
            send_buffer_bytes: None,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Lines of the short help: a terminal's, with some of them to scroll.
    const LINES_MAX: usize = 40;
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
        assert_eq!(defaults.endpoints(), ["127.0.0.1:8080".parse().expect("an address")]);
        assert_eq!((defaults.socket_mode, defaults.listens_by), (config.socket_mode, None));
        assert_eq!(defaults.head_timeout, config.head_timeout);
        assert_eq!(defaults.idle_timeout, config.idle_timeout);
        assert_eq!(defaults.send_timeout, config.send_timeout);
        assert_eq!((defaults.grace, defaults.drain_delay), (config.grace, config.drain_delay));
        assert_eq!(defaults.access_log_format, LogFormat::Combined);
        assert!(defaults.trusted_proxies.is_empty() && !defaults.proxy_protocol);
        assert_eq!(flags(&["--grace=0s"]).expect("allowed").grace, Duration::ZERO);
        assert_eq!(defaults.cache(&descriptors(1 << 20)), config.cache);
        assert!(defaults.access_log.is_none() && defaults.stats.is_none() && defaults.admin.is_none());
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
            (&["--head-timeout", "0s"][..], "greater than 0"),
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
            (&["--access-log-format", "json"], "--access-log-format needs --access-log[=PATH]"),
            (&["--access-log", "a.log", "site"], "a.log behind --access-log is taken for the directory"),
            (&["-l", "127.0.0.1:1", "-l", "0.0.0.0:1"], "--listen: 127.0.0.1:1 and 0.0.0.0:1 overlap"),
            (&["-l", "1,127.0.0.1:1"], "--listen has 127.0.0.1:1 twice"),
            (&["--trusted-proxies", "10.0.0.0/33"], "'10.0.0.0/33' for '--trusted-proxies"),
            (&["--trusted-proxies=::1,lb.example"], "write it like 10.0.0.0/8, 2001:db8::1 or unix"),
            (&["--trusted-proxies="], "write it like 10.0.0.0/8"),
            (&["--proxy-protocol"], "--proxy-protocol needs --trusted-proxies"),
            (&["--workers", "-2"], "-2 is not in 1..=1024"),
            (&["--connections-max", "-1"], "-1 is not in 1.."),
            (&["--workers", "0"], "0 is not in 1..=1024"),
            (&["--listen", "nowhere"], "write it like 127.0.0.1:8080"),
            (&["--port", "http"], "a port is a number from 0"),
            (&["-p", "65536"], "to 65535, like 8080"),
            (&["-p", "-1"], "a port is a number"),
            (&["-p", "1", "-l", ":2"], "--port and --listen both say where to listen"),
            (&["--socket-mode", "rw"], "write it in octal digits, like 660"),
            (&["--socket-mode", "-1"], "write it in octal digits"),
            (&["--socket-mode", "444"], "nobody could connect"),
            (&["--check-health"], "--admin <ADDR>"),
            (&["--admin", "somewhere"], "write it like 127.0.0.1:9090"),
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
    }

    #[test]
    fn models_have_flags_of_their_own() {
        let [uring, epoll, blocking] = [Io::Uring, Io::Epoll, Io::Blocking].map(|io| model(io, || Ok(())));
        let all = [uring, epoll, blocking];
        for (models, arguments, expected) in [
            (&all[..1], ["", "--tune", "level-triggered"], "`epoll` alone"),
            (&all[2..], ["", "--tune", "unbatched"], "`uring` alone"),
            (&all[1..2], ["", "--sandbox", "off"], "this is `x`; `triptych` has them"),
            (&all[1..2], ["", "--user", "nobody"], "this is `x`; `triptych` has them"),
            (&all[1..2], ["", "--pid-file", "a"], "this is `x`; `triptych` has them"),
            (&all[1..2], ["", "--io", "uring"], "--io=uring: this is `x`; `triptych` has the choice"),
            (&all[..], ["", "--tune", "unbatched"], "`uring` alone; choose --io=uring"),
            (
                &all[1..2],
                ["", "--tune", "loop-reads,always-pool"],
                "--tune: files are read in the pool or in the",
            ),
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
        command("x", &models()).debug_assert();
    }

    fn models() -> [Model; 3] {
        [Io::Uring, Io::Epoll, Io::Blocking].map(|io| model(io, || Ok(())))
    }

    #[test]
    fn a_port_is_an_address_of_this_machine() {
        for arguments in [&["-p", "81"][..], &["--port=81"], &["-l", "81"]] {
            let parsed = flags(arguments).expect("good flags");
            assert_eq!(parsed.endpoints(), ["127.0.0.1:81".parse().expect("an address")]);
            let setting = if arguments[0] == "-l" { "--listen" } else { "--port" };
            assert_eq!(parsed.listens_by, Some(setting));
        }
        let parsed = flags(&["-l", "unix:/run/x.sock", "-l", ":0", "--socket-mode=600"]).expect("good flags");
        assert_eq!((parsed.endpoints().len(), parsed.socket_mode), (2, 0o600));
    }

    /// Everything is in a group, and has a variable unless it is over at once.
    #[test]
    fn every_flag_has_its_group_and_its_variable() {
        for arg in Flags::command().get_arguments() {
            let id = arg.get_id().as_str();
            let is_grouped = arg.get_help_heading().is_some_and(|heading| GROUPS.contains(&heading));
            assert!(is_grouped || id == "root", "{id}");
            let variable = format!("TRIPTYCH_{}", id.to_uppercase());
            let own = arg.get_env().map(|variable| variable.to_string_lossy().into_owned());
            assert_eq!(
                own,
                (!["check", "check_health", "generate"].contains(&id)).then_some(variable),
                "{id}"
            );
        }
    }

    fn help(name: &'static str, models: &[Model], flag: &str) -> String {
        let error = parse(name, models, [name, flag]).expect_err("help");
        assert_eq!((error.kind(), error.exit_code()), (ErrorKind::DisplayHelp, 0));
        let text = error.render().to_string();
        assert!(text.starts_with("Serve a directory over HTTP\n"), "{text}");
        text
    }

    #[test]
    fn the_short_help_fits_a_screen() {
        let all = models();
        for (name, models) in [("triptych", &all[..]), ("blocking", &all[2..])] {
            for width in [80, 100] {
                let command = screen(command(name, models)).term_width(width);
                let text = command.clone().render_help().to_string();
                let lines: Vec<&str> = text.lines().collect();
                assert!(lines.len() <= LINES_MAX, "{} lines:\n{text}", lines.len());
                assert!(lines.iter().all(|line| line.chars().count() <= width), "{text}");
                let shown = |arg: &&Arg| {
                    !arg.is_hide_set() && !arg.is_hide_short_help_set() && arg.get_long().is_some()
                };
                for arg in command.get_arguments().filter(shown) {
                    let flag = format!("--{}", arg.get_long().expect("long"));
                    let help = arg.get_help().expect("help").to_string();
                    let is_whole = |line: &&&str| line.contains(&flag) && line.trim_end().ends_with(&help);
                    assert_eq!(lines.iter().filter(is_whole).count(), 1, "{flag} in one line:\n{text}");
                }
                let at = |word: &str| text.find(&format!("{word}:\n"));
                let groups = GROUPS.map(at);
                let (last, first) = (groups.len() - usize::from(models.len() == 1), groups[0]);
                assert!(
                    first.is_some()
                        && groups[..last].is_sorted()
                        && groups[..last].iter().all(Option::is_some)
                );
                assert!(at("Options").is_none(), "a flag without a group:\n{text}");
            }
            let text = help(name, models, "-h");
            assert!(!text.contains("TRIPTYCH_") && !text.contains("[default"), "{text}");
            assert_eq!(
                text.lines().filter(|line| line.starts_with(&format!("  {name} "))).count(),
                3,
                "{text}"
            );
        }
    }

    #[test]
    fn the_long_help_has_everything() {
        let all = models();
        let text = help("triptych", &all, "--help");
        for arg in command("triptych", &all).get_arguments() {
            let id = arg.get_id().as_str();
            let words = [
                arg.get_long().map(|long| format!("--{long}")),
                arg.get_env().map(|variable| format!("[env: {}", variable.to_string_lossy())),
            ];
            for word in words.into_iter().flatten() {
                assert!(text.contains(&word), "{id} lacks {word}:\n{text}");
            }
        }
        for word in ["[default: 660]", "Examples:", "- uring:", "unix:/run/www.sock"] {
            assert!(text.contains(word), "{word}:\n{text}");
        }
        assert!(!help("blocking", &all[2..], "--help").contains("--tune"));
    }

    #[test]
    fn shells_and_man_know_every_flag() {
        let all = models();
        for what in [Generate::CompleteBash, Generate::CompleteZsh, Generate::CompleteFish, Generate::Man] {
            let text = what.text("triptych", command("triptych", &all)).expect("written");
            let text = String::from_utf8(text).expect("text").replace("\\-", "-");
            for arg in command("triptych", &all).get_arguments().filter(|arg| !arg.is_hide_set()) {
                let Some(long) = arg.get_long() else { continue };
                let flag =
                    if what == Generate::CompleteFish { format!("-l {long}") } else { format!("--{long}") };
                assert!(text.contains(&flag), "{what:?} lacks {flag}");
            }
        }
    }
}
