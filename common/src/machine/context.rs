//! What the connections of one worker share while they take their steps: the clock, the files, the counters, the log.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::http::accept_encoding::RecentCodings;
use crate::http::date::{Date, unix_seconds};
use crate::http::status::Class;
use crate::machine::drain::{Drain, DrainFlag};
use crate::machine::latencies::Latencies;
use crate::machine::notice::Notice;
use crate::machine::progress::LOOKS;
use crate::machine::proxies::Proxies;
use crate::machine::record::LogBuffer;
use crate::site::cache::Moment;
use crate::site::files::Files;
use crate::site::free_list::TrimTimer;

/// The time that a client is given for each thing that it does.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// For a whole request head, from its first byte; again for the content that follows it.
    pub head: Duration,
    /// Between requests.
    pub idle: Duration,
    /// Without any progress while an answer is sent.
    pub send: Duration,
    /// Bytes per second that a client takes of its answer, on average: with fewer there is no progress.
    pub send_rate_min: u64,
    /// For what the client still sends behind its last answer.
    pub linger: Duration,
}

impl Timeouts {
    /// Between two looks at a client that is slow to take its answer.
    #[must_use]
    pub fn look(&self) -> Duration {
        self.send / LOOKS
    }
}

/// What a worker counts. It keeps the counts to itself for a turn, so that a request costs no atomic operation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections accepted.
    pub accepted: u64,
    /// Connections closed.
    pub closed: u64,
    /// Requests answered (the answer was begun), by [`Class`].
    pub answers: [u64; Class::ALL.len()],
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes that the kernel has taken.
    pub bytes_out: u64,
    /// Events of epoll, or completions of a ring.
    pub events: u64,
    /// Calls that wait for these: epoll_wait(2), `io_uring_enter(2)`.
    pub waits: u64,
    /// Connections that broke, answers with a status of 500 and above, failed accepts.
    pub errors: u64,
    /// Connections that were cut off while an answer was under way: by the end of a drain.
    pub cut_off: u64,
    /// Connections that were closed because another one needed the place.
    pub gave_way: u64,
    /// Connections that a first byte of a request has come on, each time,
    pub exchanges_begun: u64,
    /// and those that have nothing of a request any more.
    pub exchanges_ended: u64,
    /// Connections that have begun to wait for the rest of a request, each time,
    pub readings_begun: u64,
    /// and those that no longer do.
    pub readings_ended: u64,
    /// Opens of files and directories for requests, successful or not.
    pub opens: u64,
    /// Files that the cache had.
    pub cache_hits: u64,
    /// Files that had to be opened, or are not there.
    pub cache_misses: u64,
}

/// How many numbers [`Counts`] are.
pub const COUNTS: usize = 20;

impl Counts {
    /// As numbers in a row. What ends stands before what begins: who reads them one after the other, while others count,
    /// never sees more ends than beginnings.
    #[must_use]
    pub fn to_array(self) -> [u64; COUNTS] {
        let [successful, redirections, client_errors, server_errors] = self.answers;
        [
            self.closed,
            self.accepted,
            self.readings_ended,
            self.readings_begun,
            self.exchanges_ended,
            self.exchanges_begun,
            successful,
            redirections,
            client_errors,
            server_errors,
            self.bytes_in,
            self.bytes_out,
            self.events,
            self.waits,
            self.errors,
            self.cut_off,
            self.gave_way,
            self.opens,
            self.cache_hits,
            self.cache_misses,
        ]
    }

    /// From the numbers of [`to_array`](Self::to_array).
    #[must_use]
    pub fn from_array(numbers: [u64; COUNTS]) -> Counts {
        let [
            closed,
            accepted,
            readings_ended,
            readings_begun,
            exchanges_ended,
            exchanges_begun,
            successful,
            redirections,
            client_errors,
            server_errors,
            bytes_in,
            bytes_out,
            events,
            waits,
            errors,
            cut_off,
            gave_way,
            opens,
            cache_hits,
            cache_misses,
        ] = numbers;
        Counts {
            accepted,
            closed,
            answers: [successful, redirections, client_errors, server_errors],
            bytes_in,
            bytes_out,
            events,
            waits,
            errors,
            cut_off,
            gave_way,
            exchanges_begun,
            exchanges_ended,
            readings_begun,
            readings_ended,
            opens,
            cache_hits,
            cache_misses,
        }
    }

    /// Requests answered, of all classes.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.answers.iter().sum()
    }
}

/// What connections are handed with every report.
#[derive(Debug)]
pub struct Context {
    now: Instant,
    /// When `date` ceases to be the current second's.
    next_second: Instant,
    unix_seconds: i64,
    date: Date,
    trim: TrimTimer,
    pub(crate) timeouts: Timeouts,
    /// The files of the worker.
    pub(crate) files: Files,
    /// The counts since they were last handed over.
    pub(crate) counts: Counts,
    /// How long answers took since the counts were handed over, if somebody wants to know.
    pub(crate) latencies: Option<Box<Latencies>>,
    pub(crate) recent_codings: RecentCodings,
    pub(crate) log: Option<LogBuffer>,
    pub(crate) drain: Drain,
    /// For the first folder that is asked for, has no index, and isn't listed.
    pub(crate) unlisted: Option<Arc<Notice>>,
    /// For the first connection of a proxy that doesn't begin with the header that it should begin with.
    pub(crate) unintroduced: Option<Arc<Notice>>,
    /// Who is believed when it says whom it speaks for.
    pub(crate) proxies: Arc<Proxies>,
    draining: Arc<DrainFlag>,
    keeps_none: bool,
}

impl Context {
    pub(crate) fn new(
        files: Files,
        timeouts: Timeouts,
        log: Option<LogBuffer>,
        draining: Arc<DrainFlag>,
    ) -> Context {
        let now = Instant::now();
        let mut context = Context {
            now,
            next_second: now,
            unix_seconds: 0,
            date: Date::EPOCH,
            trim: TrimTimer::new(now),
            timeouts,
            files,
            counts: Counts::default(),
            latencies: None,
            recent_codings: RecentCodings::default(),
            log,
            drain: Drain::Serving,
            unlisted: None,
            unintroduced: None,
            proxies: Arc::default(),
            draining,
            keeps_none: false,
        };
        context.tick();
        context
    }

    /// Reads the clock and renews the date. Whether memory that has gone unneeded should be freed now.
    pub(crate) fn tick(&mut self) -> bool {
        self.now = Instant::now();
        self.now >= self.next_second && self.on_second(SystemTime::now())
    }

    /// What is due once a second.
    fn on_second(&mut self, time: SystemTime) -> bool {
        self.unix_seconds = unix_seconds(time).unwrap_or(0);
        self.date = Date::from_unix(self.unix_seconds);
        let into_second = time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.subsec_nanos());
        self.next_second = self.now + Duration::from_nanos(1_000_000_000 - u64::from(into_second));
        let is_due = self.trim.is_due(self.now);
        if is_due {
            self.files.trim();
        }
        is_due
    }

    /// The time of the last tick.
    #[must_use]
    pub(crate) fn now(&self) -> Instant {
        self.now
    }

    /// The time of the last tick, by both clocks.
    pub(crate) fn moment(&self) -> Moment {
        Moment { now: self.now, unix_seconds: self.unix_seconds, next_second: self.next_second }
    }

    /// What the clock of the day says at a moment since the last tick, without a look at it.
    pub(crate) fn unix_time(&self, at: Instant) -> Duration {
        let next = Duration::from_secs(self.unix_seconds.max(0).unsigned_abs() + 1);
        next.saturating_sub(self.next_second.saturating_duration_since(at))
            + at.saturating_duration_since(self.next_second)
    }

    /// The current second, for a header field.
    pub(crate) fn date(&self) -> Date {
        self.date
    }

    /// Whether connections may be kept for another request: not once a drain has begun, even in this very turn.
    pub(crate) fn keeps_connections(&self) -> bool {
        self.drain == Drain::Serving && !self.draining.is_raised() && !self.keeps_none
    }

    /// Connections aren't kept for another request from now on.
    pub(crate) fn keep_no_connection(&mut self) {
        self.keeps_none = true;
    }

    /// Counts something that went wrong: an accept that failed, a connection that broke.
    pub(crate) fn count_error(&mut self) {
        self.counts.errors += 1;
    }

    #[cfg(test)]
    pub(crate) fn advance(&mut self, by: Duration) -> bool {
        self.now += by;
        self.on_second(SystemTime::now())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::site::cache::CacheConfig;
    use crate::site::free_list::UNNEEDED_AFTER;
    use crate::site::root::{Site, SiteOptions};

    const UNIX_SECONDS: i64 = 784_111_777;

    #[test]
    fn the_date_is_renewed_when_its_second_is_over() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let site = Site::open_root(root, SiteOptions::default()).expect("opened");
        let files = Files::new((Arc::new(site), 0), CacheConfig::OFF, Arc::default(), None);
        let second = Duration::from_secs(1);
        let timeouts =
            Timeouts { head: second, idle: second, send: second, send_rate_min: 0, linger: second };
        let mut context = Context::new(files, timeouts, None, Arc::default());
        context.on_second(SystemTime::UNIX_EPOCH + Duration::from_millis(784_111_777_250));
        let Moment { now, unix_seconds, next_second } = context.moment();
        assert_eq!((unix_seconds, next_second - now), (UNIX_SECONDS, Duration::from_millis(750)));
        assert_eq!(context.date().as_bytes(), Date::from_unix(UNIX_SECONDS).as_bytes());
        for (at, millis) in [(0, 250), (749, 999), (750, 1000), (2750, 3000)] {
            let time = context.unix_time(now + Duration::from_millis(at));
            assert_eq!(time, Duration::from_millis(784_111_777_000 + millis), "{at}");
        }
        context.next_second = now + second * 3600;
        context.trim = TrimTimer::new(now - UNNEEDED_AFTER);
        assert!(!context.tick(), "memory is looked at once a second, too");
        assert_eq!(context.moment().unix_seconds, UNIX_SECONDS);
        context.next_second = now;
        assert!(context.tick() && context.moment().unix_seconds > UNIX_SECONDS);
    }
}
