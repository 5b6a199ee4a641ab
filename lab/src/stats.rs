//! Counters, and the line a second that shows them.

use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use crate::services::Service;

/// This many threads count without sharing cache lines.
const SHARDS: usize = 16;

/// The counters of a server. Each thread has its own shard, so counting is an addition in its CPU's cache.
#[derive(Debug, Default)]
pub struct Stats {
    shards: [Shard; SHARDS],
}

/// The counters of a thread; with many threads, of several. It fills two cache lines because CPUs prefetch them in
/// pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard {
    opened: AtomicU64,
    closed: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    events: AtomicU64,
}

thread_local! {
    static SHARD: usize = {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        NEXT.fetch_add(1, Relaxed) % SHARDS
    };
}

/// The counters at some moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Connections that are open now.
    pub connections: u64,
    /// Bytes received so far.
    pub bytes_in: u64,
    /// Bytes sent so far.
    pub bytes_out: u64,
    /// Events so far: readiness or completions that waiting has reported to the rung.
    pub events: u64,
}

impl Stats {
    fn shard(&self) -> &Shard {
        &self.shards[SHARD.with(|shard| *shard)]
    }

    pub(crate) fn count_opened(&self) {
        self.shard().opened.fetch_add(1, Relaxed);
    }

    pub(crate) fn count_closed(&self) {
        self.shard().closed.fetch_add(1, Relaxed);
    }

    pub(crate) fn count_in(&self, bytes: usize) {
        self.shard().bytes_in.fetch_add(bytes as u64, Relaxed);
    }

    pub(crate) fn count_out(&self, bytes: usize) {
        self.shard().bytes_out.fetch_add(bytes as u64, Relaxed);
    }

    /// Counts events that a wait has reported.
    pub fn count_events(&self, events: usize) {
        self.shard().events.fetch_add(events as u64, Relaxed);
    }

    /// The counters of all threads.
    #[must_use]
    pub fn read(&self) -> Reading {
        let sum = |counter: fn(&Shard) -> &AtomicU64| {
            self.shards.iter().map(|shard| counter(shard).load(Relaxed)).fold(0, u64::wrapping_add)
        };
        // Closed ones first, so that a close in between never makes the difference negative.
        let closed = sum(|shard| &shard.closed);
        Reading {
            connections: sum(|shard| &shard.opened).saturating_sub(closed),
            bytes_in: sum(|shard| &shard.bytes_in),
            bytes_out: sum(|shard| &shard.bytes_out),
            events: sum(|shard| &shard.events),
        }
    }
}

const HEADER: &str = "connections         in/s        out/s     events/s";

/// Prints a line a second on standard output for as long as somebody reads it.
///
/// # Errors
/// When the thread can't be started.
pub(crate) fn print_every_second(service: Arc<Service>) -> io::Result<()> {
    thread::Builder::new().name("stats".to_owned()).spawn(move || {
        // An error means that nobody reads any more.
        let _unread = print_lines(&service, &mut io::stdout());
    })?;
    Ok(())
}

pub(crate) fn print_lines(service: &Service, out: &mut impl Write) -> io::Result<()> {
    let (mut before, mut then) = (service.stats.read(), Instant::now());
    writeln!(out, "{HEADER}")?;
    loop {
        thread::sleep((then + Duration::from_secs(1)).saturating_duration_since(Instant::now()));
        let (reading, now) = (service.stats.read(), Instant::now());
        writeln!(out, "{}", Line { before, reading, elapsed: now - then })?;
        out.flush()?;
        (before, then) = (reading, now);
    }
}

/// What happened between two readings.
struct Line {
    before: Reading,
    reading: Reading,
    elapsed: Duration,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let a_second = |counter: fn(&Reading) -> u64| {
            let micros = self.elapsed.as_micros().max(1);
            let rate = u128::from(counter(&self.reading) - counter(&self.before)) * 1_000_000 / micros;
            u64::try_from(rate).unwrap_or(u64::MAX)
        };
        write!(
            f,
            "{:>11} {:>12} {:>12} {:>12}",
            thousands(self.reading.connections),
            bytes(a_second(|reading| reading.bytes_in)),
            bytes(a_second(|reading| reading.bytes_out)),
            thousands(a_second(|reading| reading.events)),
        )
    }
}

/// `1,234,567`.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    groups.join(",")
}

/// `1.2 MiB`: at least two significant digits, at most four before the unit.
fn bytes(number: u64) -> String {
    let mut tenths = u128::from(number) * 10;
    for unit in ["B", "KiB", "MiB", "GiB", "TiB"] {
        if tenths < 10_000 || unit == "TiB" {
            return if unit == "B" {
                format!("{number} B")
            } else {
                format!("{}.{} {unit}", tenths / 10, tenths % 10)
            };
        }
        tenths /= 1024;
    }
    unreachable!("the last unit takes any number")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        for (number, expected) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(thousands(number), expected);
        }
        for (number, expected) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "0.9 KiB"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (999 * 1024, "999.0 KiB"),
            (1 << 20, "1.0 MiB"),
            (12_345_678, "11.7 MiB"),
            (u64::MAX, "16777215.9 TiB"),
        ] {
            assert_eq!(bytes(number), expected);
        }
    }

    #[test]
    fn every_line_has_the_columns_of_the_header() {
        let elapsed = Duration::from_millis(500);
        let idle = Line { before: Reading::default(), reading: Reading::default(), elapsed };
        let reading =
            Reading { connections: 10_000, bytes_in: 50 << 20, bytes_out: 400 << 30, events: 5_000_000 };
        let busy = Line { before: Reading::default(), reading, elapsed };
        assert_eq!(idle.to_string(), "          0          0 B          0 B            0");
        assert_eq!(busy.to_string(), "     10,000    100.0 MiB    800.0 GiB   10,000,000");
        assert!([idle, busy].iter().all(|line| line.to_string().len() == HEADER.len()));
    }

    #[test]
    fn all_threads_count() {
        let stats = Stats::default();
        thread::scope(|scope| {
            for _ in 0..3 * SHARDS {
                scope.spawn(|| {
                    stats.count_opened();
                    stats.count_in(1);
                    stats.count_out(2);
                    stats.count_events(3);
                });
            }
        });
        stats.count_closed();
        let threads = 3 * SHARDS as u64;
        let expected = Reading {
            connections: threads - 1,
            bytes_in: threads,
            bytes_out: 2 * threads,
            events: 3 * threads,
        };
        assert_eq!(stats.read(), expected);
    }
}
