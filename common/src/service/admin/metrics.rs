//! What `/metrics` tells. Everything is read where it is counted anyway: atomic numbers, and for the pool and what is
//! compressed a lock that nobody holds for longer than a look.

use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::fs::fstat;
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use crate::http::status::Class;
use crate::machine::context::Counts;
use crate::machine::latencies::{BOUNDS_NANOS, Latency};
use crate::service::admin::exposition::{Exposition, Kind};
use crate::service::keeper_counts::KeeperCounts;
use crate::service::log::AccessLog;
use crate::service::pool::PoolUse;
use crate::service::say;
use crate::service::shared::Service;
use crate::site::cache::CacheUse;

/// Where the numbers come from.
#[derive(Debug)]
pub(super) struct Source {
    service: Arc<Service>,
    model: &'static str,
    process: Process,
}

/// Of the process itself.
#[derive(Debug)]
pub(super) struct Process {
    started: (SystemTime, Instant),
    /// The list of its descriptors, if the system has one.
    descriptors: Option<File>,
}

impl Process {
    /// Opens what is outside the root.
    pub(super) fn new() -> Process {
        Process {
            started: (SystemTime::now(), Instant::now()),
            descriptors: File::open("/proc/self/fd").ok(),
        }
    }
}

/// What is told, all of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Readings {
    model: &'static str,
    workers: usize,
    connections_max: usize,
    counts: Counts,
    latencies: [Latency; Class::ALL.len()],
    cached: CacheUse,
    compressed_bytes: u64,
    pool: Option<PoolUse>,
    log_lines_lost: u64,
    stderr_lines_lost: u64,
    root: String,
    directory: String,
    rule_faults: usize,
    keeper: Option<KeeperCounts>,
    started: Duration,
    uptime: Duration,
    cpu_time: Duration,
    descriptors: Option<u64>,
    descriptors_max: Option<u64>,
}

impl Source {
    pub(super) fn new(service: Arc<Service>, model: &'static str, process: Process) -> Source {
        Source { service, model, process }
    }

    pub(super) fn service(&self) -> &Service {
        &self.service
    }

    /// The page.
    pub(super) fn text(&self) -> String {
        self.read().text()
    }

    fn read(&self) -> Readings {
        let Service { stats, config, log, compressor, .. } = &*self.service;
        let Process { started, descriptors } = &self.process;
        // As of Linux 6.2 the size of the list is their number. Before, it is 0, and to read the list would take too long
        // for tens of thousands of them.
        let descriptors = descriptors.as_ref().and_then(|list| fstat(list).ok());
        let descriptors = descriptors.and_then(|stat| u64::try_from(stat.st_size).ok());
        let (site, _) = self.service.site.get();
        let directory = site.directory().unwrap_or_default();
        let cpu_time = clock_gettime(ClockId::ProcessCPUTime);
        Readings {
            model: self.model,
            workers: config.workers,
            connections_max: config.connections_max,
            counts: stats.totals(),
            latencies: Class::ALL.map(|class| stats.latency(class)),
            cached: stats.cached(),
            compressed_bytes: compressor.as_ref().map_or(0, |compressor| compressor.bytes()),
            pool: self.service.pool().map(|pool| pool.read()),
            log_lines_lost: log.as_ref().map_or(0, AccessLog::lost),
            stderr_lines_lost: say::lost(),
            root: site.path().to_string_lossy().into_owned(),
            directory: directory.to_string_lossy().into_owned(),
            rule_faults: site.fault_count(),
            keeper: self.service.keeper(),
            started: started.0.duration_since(UNIX_EPOCH).unwrap_or_default(),
            uptime: started.1.elapsed(),
            cpu_time: Duration::try_from(cpu_time).unwrap_or_default(),
            descriptors: descriptors.filter(|descriptors| *descriptors > 0),
            descriptors_max: getrlimit(Resource::Nofile).current,
        }
    }
}

impl Readings {
    fn text(&self) -> String {
        let mut page = Exposition::default();
        self.write_process(&mut page);
        self.write_http(&mut page);
        self.write_connections(&mut page);
        self.write_files(&mut page);
        self.write_model(&mut page);
        self.write_losses(&mut page);
        self.write_site(&mut page);
        self.write_keeper(&mut page);
        page.into_text()
    }

    fn write_process(&self, page: &mut Exposition) {
        use Kind::{Counter, Gauge};
        page.family("triptych_build_info", Gauge, "The version, and the I/O model that serves; always 1.")
            .sample(&[("version", env!("CARGO_PKG_VERSION")), ("model", self.model)], 1);
        page.family("triptych_workers", Gauge, "Worker threads.").sample(&[], self.workers);
        page.family("triptych_uptime_seconds", Gauge, "Time since the server was started.")
            .sample(&[], self.uptime.as_secs_f64());
        page.family("process_start_time_seconds", Gauge, "When the server was started, in Unix time.")
            .sample(&[], self.started.as_secs_f64());
        page.family("process_cpu_seconds_total", Counter, "CPU time of the process, of user and system.")
            .sample(&[], self.cpu_time.as_secs_f64());
        if let Some(descriptors) = self.descriptors {
            page.family("process_open_fds", Gauge, "Open descriptors.").sample(&[], descriptors);
        }
        if let Some(max) = self.descriptors_max {
            page.family("process_max_fds", Gauge, "How many descriptors the process may have.")
                .sample(&[], max);
        }
    }

    fn write_http(&self, page: &mut Exposition) {
        use Kind::{Counter, Histogram};
        let mut requests = page.family(
            "triptych_http_requests_total",
            Counter,
            "Requests answered, by class of status, counted when the answer begins.",
        );
        for class in Class::ALL {
            requests.sample(&[("class", class.name())], self.counts.answers[class as usize]);
        }
        let mut durations = page.family(
            "triptych_http_request_duration_seconds",
            Histogram,
            "From a whole request to the last byte of its answer in the kernel, by class of status. Exact to a turn of the \
             worker's loop: what comes and leaves in one turn takes no time. Answers that were cut short don't count.",
        );
        for class in Class::ALL {
            let Latency { buckets, nanos } = &self.latencies[class as usize];
            let bounds = BOUNDS_NANOS.map(|nanos| Duration::from_nanos(nanos).as_secs_f64());
            let sum = Duration::from_nanos(*nanos).as_secs_f64();
            durations.histogram(&[("class", class.name())], &bounds, buckets, sum);
        }
        page.family("triptych_received_bytes_total", Counter, "Bytes received from clients.")
            .sample(&[], self.counts.bytes_in);
        page.family("triptych_sent_bytes_total", Counter, "Bytes for clients that the kernel has taken.")
            .sample(&[], self.counts.bytes_out);
        page.family(
            "triptych_errors_total",
            Counter,
            "Connections that broke, answers with a status of 500 and above, and failed accepts.",
        )
        .sample(&[], self.counts.errors);
    }

    fn write_connections(&self, page: &mut Exposition) {
        use Kind::{Counter, Gauge};
        let Counts { accepted, closed, cut_off, gave_way, .. } = self.counts;
        page.family("triptych_connections_accepted_total", Counter, "Connections accepted.")
            .sample(&[], accepted);
        page.family("triptych_connections_closed_total", Counter, "Connections closed, by either side.")
            .sample(&[], closed);
        let [idle, reading, answering] = self.states();
        page.family(
            "triptych_connections_open",
            Gauge,
            "Open connections. reading: half a request is here; answering: an answer is under way; idle: neither, so they wait \
             for a request, or for the client to close.",
        )
        .sample(&[("state", "idle")], idle)
        .sample(&[("state", "reading")], reading)
        .sample(&[("state", "answering")], answering);
        page.family("triptych_connections_max", Gauge, "How many connections there may be.")
            .sample(&[], self.connections_max);
        page.family(
            "triptych_connections_gave_way_total",
            Counter,
            "Connections closed without an answer because another one needed the place.",
        )
        .sample(&[], gave_way);
        page.family(
            "triptych_connections_cut_off_total",
            Counter,
            "Connections cut off in an answer by the end of a drain.",
        )
        .sample(&[], cut_off);
    }

    /// The open connections that are idle, in a request, in an answer. They are counted one after the other while they
    /// change, so a number may be off by those of that moment; none is below zero, and all together are what is open.
    fn states(&self) -> [u64; 3] {
        let Counts { exchanges_begun, exchanges_ended, readings_begun, readings_ended, .. } = self.counts;
        let open = self.counts.active();
        let busy = exchanges_begun.saturating_sub(exchanges_ended).min(open);
        let reading = readings_begun.saturating_sub(readings_ended).min(busy);
        [open - busy, reading, busy - reading]
    }

    fn write_files(&self, page: &mut Exposition) {
        use Kind::{Counter, Gauge};
        let Counts { opens, cache_hits, cache_misses, .. } = self.counts;
        let CacheUse { entries, descriptors, bytes, evictions } = self.cached;
        page.family(
            "triptych_file_opens_total",
            Counter,
            "Opens of files and directories for requests, successful or not.",
        )
        .sample(&[], opens);
        page.family("triptych_cache_hits_total", Counter, "Look-ups of files that the cache had.")
            .sample(&[], cache_hits);
        page.family("triptych_cache_misses_total", Counter, "Look-ups of files that it didn't have.")
            .sample(&[], cache_misses);
        page.family("triptych_cache_evictions_total", Counter, "Files that left the cache.")
            .sample(&[], evictions);
        page.family("triptych_cache_entries", Gauge, "Cached files.").sample(&[], entries);
        page.family("triptych_cache_bytes", Gauge, "Bytes of cached files in memory.").sample(&[], bytes);
        page.family("triptych_cache_descriptors", Gauge, "Cached files that are held open.")
            .sample(&[], descriptors);
        page.family("triptych_compressed_bytes", Gauge, "Bytes of what was compressed and is kept.")
            .sample(&[], self.compressed_bytes);
        if let Some(PoolUse { waiting, busy, idle }) = self.pool {
            page.family("triptych_pool_queue_length", Gauge, "Jobs that wait for a thread of the pool.")
                .sample(&[], waiting);
            page.family("triptych_pool_threads", Gauge, "Threads of the pool, which wait for files.")
                .sample(&[("state", "busy")], busy)
                .sample(&[("state", "idle")], idle);
        }
    }

    /// What there is of one model alone.
    fn write_model(&self, page: &mut Exposition) {
        let (waits, events) = match self.model {
            "uring" => (
                ("triptych_ring_enters_total", "Calls of io_uring_enter(2)."),
                ("triptych_ring_completions_total", "Completions of the rings."),
            ),
            "epoll" => (
                ("triptych_epoll_waits_total", "Calls of epoll_wait(2)."),
                ("triptych_epoll_events_total", "Events of epoll."),
            ),
            _ => return,
        };
        for ((name, help), count) in [(waits, self.counts.waits), (events, self.counts.events)] {
            page.family(name, Kind::Counter, help).sample(&[], count);
        }
    }

    fn write_site(&self, page: &mut Exposition) {
        page.family(
            "triptych_root_info",
            Kind::Gauge,
            "What is served: the root as the flags have it, and the directory that it has led to; always 1.",
        )
        .sample(&[("root", &self.root), ("directory", &self.directory)], 1);
        page.family(
            "triptych_rule_faults",
            Kind::Gauge,
            "Faults of _headers and _redirects, as they are now: what they are about is not in force.",
        )
        .sample(&[], self.rule_faults);
    }

    fn write_keeper(&self, page: &mut Exposition) {
        let Some(keeper) = &self.keeper else { return };
        page.family("triptych_keeper_build_info", Kind::Gauge, "The version of the keeper; always 1.")
            .sample(&[("version", &keeper.version)], 1);
        for (name, help, count) in [
            (
                "triptych_keeper_server_starts_total",
                "Processes that the keeper has started to serve.",
                keeper.starts,
            ),
            (
                "triptych_keeper_server_restarts_total",
                "Of these, in the place of one that had ended by itself, or had not started.",
                keeper.restarts,
            ),
            ("triptych_keeper_upgrades_total", "Upgrades that were tried.", keeper.upgrades),
            ("triptych_keeper_upgrades_failed_total", "Of these, failed.", keeper.failed_upgrades),
            (
                "triptych_keeper_root_switches_total",
                "Switches to another directory of the root's path that were tried.",
                keeper.switches,
            ),
            ("triptych_keeper_root_switches_failed_total", "Of these, failed.", keeper.failed_switches),
        ] {
            page.family(name, Kind::Counter, help).sample(&[], count);
        }
    }

    fn write_losses(&self, page: &mut Exposition) {
        page.family("triptych_log_lines_lost_total", Kind::Counter, "Lines that the access log lacks.")
            .sample(&[], self.log_lines_lost);
        page.family(
            "triptych_stderr_lines_lost_total",
            Kind::Counter,
            "Lines that standard error didn't take.",
        )
        .sample(&[], self.stderr_lines_lost);
    }
}
