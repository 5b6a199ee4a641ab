//! The access log: where its lines go, and who writes them.
//!
//! Each worker appends lines to its own buffer, and one thread writes them out ten times a second. So a slow or blocked
//! output never stalls an event loop. What can't be written waits, in bounded buffers; lines beyond the bound are
//! dropped and counted, and the number is said once the output takes lines again.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, Mode, OFlags, openat};

use crate::machine::record::{Lines, LogBuffer, LogFormat};
use crate::service::say::{lines, say};
use crate::service::start::{StartError, out_of_descriptors};

const WRITE_INTERVAL: Duration = Duration::from_millis(100);
/// How long closing the log waits for an output that takes nothing, at most.
pub const CLOSE_MAX: Duration = Duration::from_secs(1);
/// How many writes in a row drop lines before that is mentioned: 10 s of an output that is too slow all the time.
const DROPPING_MAX: u32 = 100;

#[derive(Debug, Default)]
struct Shared {
    buffers: Mutex<Vec<Arc<Mutex<Lines>>>>,
    orders: Mutex<Orders>,
    changed: Condvar,
    /// Lines that were lost so far.
    lost: AtomicU64,
}

/// What the writer is to do besides writing, and whether it has ended.
#[derive(Debug, Default)]
struct Orders {
    reopen: Option<Reopen>,
    end: bool,
    ended: bool,
}

/// Where the log goes on.
#[derive(Debug)]
enum Reopen {
    /// In the file that is at its path by now.
    AtPath,
    /// In this one, which somebody else has opened.
    With(File),
}

/// The log of a server: its buffers, and the thread that writes them. Dropping it writes what is left.
#[derive(Debug)]
pub struct AccessLog {
    shared: Arc<Shared>,
    format: LogFormat,
}

impl AccessLog {
    /// A log appended to a file; `-` is standard output.
    ///
    /// # Errors
    /// If the file can't be opened for appending.
    pub fn open(path: &Path) -> Result<AccessLog, StartError> {
        let output = AccessLog::open_file(path)?;
        let path = Some(path).filter(|path| *path != Path::new("-"));
        AccessLog::start(output, path).map_err(StartError::from)
    }

    /// Opens what a log is appended to, without a log: for who hands it to another process, which may not open it.
    ///
    /// # Errors
    /// If the file can't be opened for appending.
    pub fn open_file(path: &Path) -> Result<File, StartError> {
        let opened = if path == Path::new("-") {
            io::stdout().as_fd().try_clone_to_owned().map(File::from)
        } else {
            append_to(path)
        };
        opened.map_err(|error| {
            let path = path.display();
            StartError::new(match out_of_descriptors(&error) {
                Some(line) => format!("access log {path}: {line}"),
                None => format!(
                    "access log {path}: {error}; name a file that can be written, or - for standard output"
                ),
            })
        })
    }

    /// A log written to `output`, which somebody else has opened ([`open_file`](Self::open_file)) and opens again: with
    /// [`reopen_with`](Self::reopen_with), while [`reopen`](Self::reopen) does nothing.
    ///
    /// # Errors
    /// If the writer thread can't be started.
    pub fn over(output: File) -> io::Result<AccessLog> {
        AccessLog::start(output, None)
    }

    /// A log written to `output`, which has been opened at `path` and can be opened there again.
    ///
    /// # Errors
    /// If the writer thread can't be started.
    pub fn start(output: File, path: Option<&Path>) -> io::Result<AccessLog> {
        let shared = Arc::new(Shared::default());
        let writer = Writer {
            shared: Arc::clone(&shared),
            output,
            path: path.map(Path::to_owned),
            batch: Vec::new(),
            written: 0,
            lost: 0,
            failed: false,
            dropping: 0,
        };
        thread::Builder::new().name("access-log".to_owned()).spawn(move || writer.run())?;
        Ok(AccessLog { shared, format: LogFormat::default() })
    }

    /// The same log, with lines in this format.
    #[must_use]
    pub fn in_format(mut self, format: LogFormat) -> AccessLog {
        self.format = format;
        self
    }

    /// A buffer for another worker.
    #[must_use]
    pub fn buffer(&self) -> LogBuffer {
        let buffer = LogBuffer::of(self.format);
        self.shared.buffers.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&buffer.lines));
        buffer
    }

    /// How many lines were lost so far.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Relaxed)
    }

    /// Opens the file once more, soon: the one at its path may be another by now, because logs are rotated. What was
    /// appended before this belongs to the old one, as far as that takes it.
    pub fn reopen(&self) {
        self.order(Reopen::AtPath);
    }

    /// Goes on in this file, soon, as after [`reopen`](Self::reopen). Of several that are handed over in a row, the last
    /// one counts.
    pub fn reopen_with(&self, output: File) {
        self.order(Reopen::With(output));
    }

    fn order(&self, reopen: Reopen) {
        self.shared.orders().reopen = Some(reopen);
        self.shared.changed.notify_all();
    }

    /// Writes the pending lines and closes the log. Lines appended later are lost, as are those that the output doesn't
    /// take within this time.
    pub fn close(&self, timeout: Duration) {
        let mut orders = self.shared.orders();
        if std::mem::replace(&mut orders.end, true) {
            return;
        }
        self.shared.changed.notify_all();
        let waited = self.shared.changed.wait_timeout_while(orders, timeout, |orders| !orders.ended);
        let (orders, _timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        if !orders.ended {
            say(format_args!("access log: the output is blocked; what it hasn't taken is lost"));
        }
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.close(CLOSE_MAX);
    }
}

/// Opens a file at its end. Non-blocking, so that a FIFO holds up neither the start nor the writer.
fn append_to(path: &Path) -> io::Result<File> {
    let flags = OFlags::WRONLY
        | OFlags::APPEND
        | OFlags::CREATE
        | OFlags::CLOEXEC
        | OFlags::NONBLOCK
        | OFlags::NOCTTY;
    Ok(File::from(openat(CWD, path, flags, Mode::from_raw_mode(0o666))?))
}

impl Shared {
    fn orders(&self) -> MutexGuard<'_, Orders> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the next write is due, and returns what has been ordered.
    fn wait(&self) -> Orders {
        let idle = |orders: &mut Orders| !orders.end && orders.reopen.is_none();
        let waited = self.changed.wait_timeout_while(self.orders(), WRITE_INTERVAL, idle);
        let (mut orders, _timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        Orders { reopen: orders.reopen.take(), end: orders.end, ended: orders.ended }
    }
}

/// The thread that writes.
struct Writer {
    shared: Arc<Shared>,
    output: File,
    path: Option<PathBuf>,
    /// Whole lines, taken from the workers. Those take up to 1 MiB each while the output refuses these.
    batch: Vec<u8>,
    /// How much of the batch has been written.
    written: usize,
    /// Lines that were dropped, to be said.
    lost: u64,
    failed: bool,
    /// How many writes in a row went well while lines were dropped.
    dropping: u32,
}

impl Writer {
    fn run(mut self) {
        loop {
            let orders = self.shared.wait();
            if let Some(reopen) = orders.reopen {
                // What has been logged by now belongs to the old file.
                self.turn();
                self.reopen(reopen);
            }
            self.turn();
            if orders.end {
                break;
            }
        }
        self.give_up();
        self.say_lost();
        self.shared.orders().ended = true;
        self.shared.changed.notify_all();
    }

    /// Counts what the output hasn't taken as lost.
    fn give_up(&mut self) {
        let left = self.batch[self.written..].iter().filter(|byte| **byte == b'\n').count() as u64;
        self.lost += left;
        self.shared.lost.fetch_add(left, Relaxed);
    }

    /// Takes the lines of the workers and writes them, as far as that goes.
    fn turn(&mut self) {
        let dropped = self.collect();
        self.lost += dropped;
        self.shared.lost.fetch_add(dropped, Relaxed);
        self.write();
        let is_dropping = dropped > 0 && self.batch.is_empty();
        self.dropping = if is_dropping { self.dropping + 1 } else { 0 };
        if self.batch.is_empty() && (!is_dropping || self.dropping >= DROPPING_MAX) {
            self.say_lost();
        }
    }

    /// Goes on in another file; if there is none to be had, in the one that is open.
    fn reopen(&mut self, reopen: Reopen) {
        self.output = match (reopen, &self.path) {
            (Reopen::With(output), _) => output,
            (Reopen::AtPath, None) => return,
            (Reopen::AtPath, Some(path)) => match append_to(path) {
                Ok(output) => output,
                Err(error) => {
                    let path = path.display();
                    return say(format_args!(
                        "access log {path}: {error}; the file that is open stays in use"
                    ));
                }
            },
        };
        // A line that the other file has only half of begins anew in this one.
        let line = self.batch[..self.written].iter().rposition(|byte| *byte == b'\n');
        self.written = line.map_or(0, |end| end + 1);
    }

    /// Moves the pending lines of all workers into the batch, unless the last one is still there. Returns how many
    /// lines were dropped.
    fn collect(&mut self) -> u64 {
        let mut dropped = 0;
        let has_room = self.batch.is_empty();
        for buffer in &*self.shared.buffers.lock().unwrap_or_else(PoisonError::into_inner) {
            let mut lines = buffer.lock().unwrap_or_else(PoisonError::into_inner);
            dropped += std::mem::take(&mut lines.dropped);
            if has_room {
                self.batch.append(&mut lines.waiting);
            }
        }
        dropped
    }

    /// Writes what the output takes. The rest stays for the next time, so that no line is cut or lost by an error that
    /// passes.
    fn write(&mut self) {
        while self.written < self.batch.len() {
            let error = match self.output.write(&self.batch[self.written..]) {
                Ok(0) => ErrorKind::WriteZero.into(),
                Ok(count) => {
                    self.written += count;
                    continue;
                }
                Err(error) => error,
            };
            match error.kind() {
                ErrorKind::Interrupted => {}
                ErrorKind::WouldBlock if self.has_room_soon() => {}
                ErrorKind::WouldBlock => return,
                _ => {
                    if !std::mem::replace(&mut self.failed, true) {
                        say(format_args!(
                            "access log: {error}; lines wait, then are dropped, until it can be written"
                        ));
                    }
                    return;
                }
            }
        }
        self.batch.clear();
        self.written = 0;
    }

    /// Whether a non-blocking output takes something before the next write is due.
    fn has_room_soon(&self) -> bool {
        let interval = Timespec::try_from(WRITE_INTERVAL).ok();
        poll(&mut [PollFd::new(&self.output, PollFlags::OUT)], interval.as_ref()).is_ok_and(|ready| ready > 0)
    }

    /// Says that an error is over, and what is missing in the log.
    fn say_lost(&mut self) {
        let lost = std::mem::take(&mut self.lost);
        let is_whole = self.batch.is_empty();
        let recovered = is_whole && std::mem::take(&mut self.failed);
        if let Some(line) = word(recovered, self.failed, lost) {
            say(format_args!("access log: {line}"));
            self.dropping = 0;
        }
    }
}

/// What is to be said of lines that were lost, and of an error that is over.
fn word(recovered: bool, failed: bool, lost: u64) -> Option<String> {
    let were_lost = match lost {
        0 => "no line was lost".to_owned(),
        1 => "1 line was lost".to_owned(),
        more => format!("{} were lost", lines(more)),
    };
    match (recovered, lost) {
        (false, 0) => None,
        (true, _) => Some(format!("it can be written again, {were_lost}")),
        (false, _) if failed => Some(were_lost),
        (false, _) => Some(format!("{were_lost}, the output is too slow")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::record::tests::{LINE, record};
    use std::io::Read;
    use std::time::Instant;

    #[test]
    fn dropping_the_log_writes_what_is_left() {
        let (mut output, theirs) = io::pipe().expect("a pipe");
        let log = AccessLog::start(File::from(std::os::fd::OwnedFd::from(theirs)), None).expect("started");
        let buffers = [log.buffer(), log.buffer()];
        for buffer in &buffers {
            buffer.append(&record());
        }
        drop(log);
        let mut written = String::new();
        output.read_to_string(&mut written).expect("closed by the writer");
        assert_eq!(written, LINE.repeat(2));
    }

    #[test]
    fn what_was_lost_is_said_in_english() {
        for (recovered, failed, lost, expected) in [
            (false, false, 0, None),
            (true, false, 0, Some("it can be written again, no line was lost")),
            (true, false, 1, Some("it can be written again, 1 line was lost")),
            (false, true, 1, Some("1 line was lost")),
            (false, true, 2, Some("2 lines were lost")),
            (false, false, 1, Some("1 line was lost, the output is too slow")),
        ] {
            assert_eq!(word(recovered, failed, lost).as_deref(), expected);
        }
    }

    #[test]
    fn a_blocked_output_does_not_hold_up_the_end() {
        let (output, theirs) = io::pipe().expect("a pipe");
        let log = AccessLog::start(File::from(std::os::fd::OwnedFd::from(theirs)), None).expect("started");
        let buffer = log.buffer();
        for _ in 0..10_000 {
            buffer.append(&record());
        }
        let begun = Instant::now();
        log.close(CLOSE_MAX);
        assert!(begun.elapsed() < CLOSE_MAX * 5, "it took {:?}", begun.elapsed());
        // The write fails now, and what is left is counted.
        drop(output);
        while log.lost() == 0 {
            assert!(begun.elapsed() < Duration::from_secs(10), "no line was lost");
            thread::yield_now();
        }
        assert!(log.lost() < 10_000, "a pipe takes some of them");
    }

    /// A writer without a thread.
    fn writer(output: File, path: Option<&Path>) -> Writer {
        Writer {
            shared: Arc::default(),
            output,
            path: path.map(Path::to_owned),
            batch: Vec::new(),
            written: 0,
            lost: 0,
            failed: false,
            dropping: 0,
        }
    }

    /// A line that the old file has only a part of is whole in the new one.
    #[test]
    fn a_file_that_is_reopened_begins_with_a_whole_line() {
        const BATCH: &str = "one\ntwo\nthree\n";
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("log");
        for (written, expected) in
            [(0, BATCH), (2, BATCH), (4, "two\nthree\n"), (6, "two\nthree\n"), (13, "three\n")]
        {
            let mut writer = writer(append_to(&path).expect("opened"), Some(&path));
            writer.batch.extend(BATCH.as_bytes());
            writer.written = written;
            std::fs::rename(&path, folder.path().join("old")).expect("renamed");
            writer.reopen(Reopen::AtPath);
            writer.write();
            assert_eq!(std::fs::read_to_string(&path).expect("read"), expected, "{written}");
            assert_eq!((writer.batch.len(), writer.written), (0, 0));
            std::fs::remove_file(&path).expect("removed");
        }
        let mut writer = writer(append_to(&path).expect("opened"), Some(&path.join("none")));
        writer.batch.extend(BATCH.as_bytes());
        writer.written = 2;
        writer.reopen(Reopen::AtPath);
        writer.write();
        assert_eq!(std::fs::read_to_string(&path).expect("read"), BATCH[2..], "it goes on in the one it has");
    }

    #[test]
    fn what_an_output_does_not_take_waits() {
        let (mut theirs, ours) = io::pipe().expect("a pipe");
        rustix::io::ioctl_fionbio(&ours, true).expect("non-blocking");
        let mut writer = writer(File::from(std::os::fd::OwnedFd::from(ours)), None);
        let lines = Arc::new(Mutex::new(Lines { waiting: vec![b'x'; 100_000], dropped: 3 }));
        writer.shared.buffers.lock().expect("not poisoned").push(Arc::clone(&lines));
        assert_eq!((writer.collect(), writer.batch.len()), (3, 100_000));
        writer.write();
        let part = writer.written;
        assert!(part > 0 && part < 100_000 && !writer.failed && !writer.has_room_soon(), "{part} bytes");
        *lines.lock().expect("not poisoned") = Lines { waiting: b"more".to_vec(), dropped: 1 };
        assert_eq!((writer.collect(), writer.batch.len()), (1, 100_000), "it waits where it is");
        let mut read = vec![0; part];
        theirs.read_exact(&mut read).expect("what was written");
        assert!(writer.has_room_soon());
        writer.write();
        assert_eq!((writer.batch.len(), writer.written), (0, 0));
        assert_eq!((writer.collect(), &writer.batch[..]), (0, &b"more"[..]));
    }

    /// The number of lines that were dropped is said when no more are, or once they have been for long; never while the
    /// output takes nothing.
    #[test]
    fn dropped_lines_are_said_in_the_end() {
        let (mut theirs, ours) = io::pipe().expect("a pipe");
        for end in [theirs.as_fd(), ours.as_fd()] {
            rustix::io::ioctl_fionbio(end, true).expect("non-blocking");
        }
        let mut writer = writer(File::from(std::os::fd::OwnedFd::from(ours)), None);
        let lines = Arc::new(Mutex::new(Lines::default()));
        writer.shared.buffers.lock().expect("not poisoned").push(Arc::clone(&lines));
        // How many lines have not been said, and how many turns in a row have dropped some.
        let mut turn = |dropped: u64, waiting: usize| {
            *lines.lock().expect("not poisoned") = Lines { waiting: vec![b'x'; waiting], dropped };
            writer.turn();
            (writer.lost, writer.dropping)
        };
        assert_eq!(turn(0, 1), (0, 0));
        for turns in 1..DROPPING_MAX {
            assert_eq!(turn(2, 1), (2 * u64::from(turns), turns), "it may be over soon");
        }
        assert_eq!(turn(2, 1), (0, 0), "it has lasted too long");
        assert_eq!(turn(3, 1), (3, 1));
        assert_eq!(turn(0, 1), (0, 0), "it is over");
        assert_eq!(turn(0, 100_000), (0, 0), "the pipe is full");
        assert_eq!(turn(4, 0), (4, 0));
        assert_eq!(turn(0, 0), (4, 0), "nobody reads");
        while turn(0, 0) != (0, 0) {
            while theirs.read(&mut [0; 65_536]).is_ok() {}
        }
        assert_eq!(
            writer.shared.lost.load(Relaxed),
            2 * u64::from(DROPPING_MAX) + 3 + 4,
            "all of them count"
        );
    }

    /// What a reader takes soon isn't left for the next write: else a pipe would carry 64 KiB in each interval.
    #[test]
    fn a_write_goes_on_while_it_is_read() {
        const BYTES: usize = 4 << 20;
        let (mut theirs, ours) = io::pipe().expect("a pipe");
        rustix::io::ioctl_fionbio(&ours, true).expect("non-blocking");
        let reader = thread::spawn(move || {
            let mut read = 0;
            loop {
                match theirs.read(&mut [0; 4096]).expect("read") {
                    0 => return read,
                    count => read += count,
                }
            }
        });
        let mut writer = writer(File::from(std::os::fd::OwnedFd::from(ours)), None);
        writer.batch = vec![b'x'; BYTES];
        // Once is enough, unless the reader is kept from it for a while.
        for _ in 0..20 {
            writer.write();
        }
        assert_eq!((writer.batch.len(), writer.written), (0, 0));
        drop(writer);
        assert_eq!(reader.join().expect("read"), BYTES);
    }

    #[test]
    fn what_is_left_at_the_end_is_lost() {
        let mut writer = writer(File::options().write(true).open("/dev/full").expect("opened"), None);
        writer.batch.extend(b"one\ntwo\nthree\n");
        for (written, left) in [(0, 3), (2, 3), (4, 2), (14, 0)] {
            (writer.written, writer.lost) = (written, 5);
            writer.shared.lost.store(100, Relaxed);
            writer.give_up();
            assert_eq!((writer.lost, writer.shared.lost.load(Relaxed)), (5 + left, 100 + left), "{written}");
        }
    }

    #[test]
    fn an_error_that_passes_loses_nothing() {
        let full = File::options().write(true).open("/dev/full").expect("opened");
        let mut writer = writer(full, None);
        writer.batch.extend(b"a line\n");
        writer.write();
        writer.say_lost();
        assert_eq!((writer.batch.len(), writer.written, writer.failed), (7, 0, true), "it isn't over");
        let (mut theirs, ours) = io::pipe().expect("a pipe");
        writer.output = File::from(std::os::fd::OwnedFd::from(ours));
        writer.write();
        (writer.lost, writer.dropping) = (5, 7);
        writer.say_lost();
        assert_eq!((writer.failed, writer.lost, writer.dropping), (false, 0, 0), "it has been said");
        drop(writer);
        let mut written = String::new();
        theirs.read_to_string(&mut written).expect("closed");
        assert_eq!(written, "a line\n");
    }

    /// A hundred waits that are cut short take no time worth speaking of; ten seconds otherwise.
    #[test]
    fn an_order_is_not_waited_with() {
        for end in [true, false] {
            let shared = Shared::default();
            let begun = Instant::now();
            for _ in 0..100 {
                let reopen = (!end).then_some(Reopen::AtPath);
                *shared.orders() = Orders { reopen, end, ended: false };
                let ordered = shared.wait();
                assert_eq!((ordered.end, ordered.reopen.is_some()), (end, !end));
                assert!(shared.orders().reopen.is_none(), "once is enough");
            }
            assert!(begun.elapsed() < WRITE_INTERVAL * 50, "it took {:?}", begun.elapsed());
        }
    }

    #[test]
    fn a_log_goes_on_where_its_file_was() {
        let folder = tempfile::tempdir().expect("a directory");
        let [path, old] = ["log", "old"].map(|name| folder.path().join(name));
        let log = AccessLog::open(&path).expect("opened");
        let buffer = log.buffer();
        buffer.append(&record());
        std::fs::rename(&path, &old).expect("renamed");
        log.reopen();
        let begun = Instant::now();
        while !path.exists() {
            assert!(begun.elapsed() < Duration::from_secs(10), "there is no new file");
            thread::yield_now();
        }
        buffer.append(&record());
        log.close(Duration::from_secs(10));
        let [new, old] = [path, old].map(|path| std::fs::read_to_string(path).expect("read"));
        assert!(new.ends_with(LINE) && old + &new == LINE.repeat(2), "{new}");
    }

    /// As a keeper does it, for a process that may open nothing: its lines from before are in the old file.
    #[test]
    fn a_log_goes_on_in_a_file_that_is_handed_over() {
        let folder = tempfile::tempdir().expect("a directory");
        let [first, second, third] = ["1", "2", "3"].map(|name| folder.path().join(name));
        let open = |path: &Path| AccessLog::open_file(path).expect("opened");
        let lines = |path: &Path| std::fs::read_to_string(path).expect("read").lines().count();
        std::fs::write(&second, "kept\n").expect("written");
        let log = AccessLog::over(open(&first)).expect("started");
        let buffer = log.buffer();
        for _ in 0..3 {
            buffer.append(&record());
        }
        log.reopen_with(open(&second));
        let begun = Instant::now();
        while lines(&first) < 3 {
            assert!(begun.elapsed() < Duration::from_secs(10), "the old file has {} lines", lines(&first));
            thread::yield_now();
        }
        log.reopen(); // there is no path
        // The writer takes the next order only after it has gone on in the second file.
        while log.shared.orders().reopen.is_some() {
            thread::yield_now();
        }
        buffer.append(&record());
        log.reopen_with(open(&third));
        buffer.append(&record());
        log.close(Duration::from_secs(10));
        assert_eq!(lines(&first), 3);
        let rest = (lines(&second), lines(&third));
        assert!(rest == (1 + 1, 1) || rest == (1 + 2, 0), "{rest:?}");
    }

    #[test]
    fn the_last_file_handed_over_counts() {
        let folder = tempfile::tempdir().expect("a directory");
        let [first, second] = ["1", "2"].map(|name| folder.path().join(name));
        let full = File::options().write(true).open("/dev/full").expect("opened");
        let mut writer = writer(full, None);
        writer.batch.extend(b"a line\n");
        writer.turn();
        let shared = Arc::clone(&writer.shared);
        let log = AccessLog { shared, format: LogFormat::Combined };
        for path in [&first, &second] {
            log.reopen_with(AccessLog::open_file(path).expect("opened"));
        }
        let ordered = writer.shared.wait().reopen.expect("ordered");
        writer.reopen(ordered);
        writer.turn();
        let written = [first, second].map(|path| std::fs::read_to_string(path).expect("read"));
        assert_eq!(written, ["", "a line\n"], "what the full device didn't take isn't lost");
        assert!(!writer.failed);
        log.shared.orders().end = true; // there is no thread to wait for
    }
}
