//! What the program says on standard error, and that saying it never costs a request.
//!
//! Standard error may be a full disk, a pipe without a reader, or one whose reader has stalled. So a line is only
//! queued, and one thread writes it. Lines that find no room, or that can't be written, are counted, and the number is
//! said as soon as standard error takes lines again. Every line begins with the program's name, so that it can be told from
//! those of others in the same journal.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

/// Lines that may wait for standard error to take them.
const LINES_MAX: usize = 256;
/// The name of the thread that writes.
pub(super) const THREAD: &str = "stderr";
/// How long the end of the process waits for lines that haven't been written, at most.
pub(super) const FINISH_MAX: Duration = Duration::from_secs(1);

static VOICE: Voice = Voice::new();
/// Who speaks.
static NAME: OnceLock<&'static str> = OnceLock::new();

struct Voice {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    waiting: VecDeque<String>,
    /// Lines that were dropped, to be said.
    lost: u64,
    /// Lines that were dropped so far.
    lost_in_all: u64,
    /// Whether the thread is at a line that is no longer waiting.
    writing: bool,
    started: bool,
    /// Whether the last line was cut off by an error, so that the next one must not continue it.
    torn: bool,
}

/// Lets every line from now on begin with this name: a process is one program.
pub(super) fn speak_as(name: &'static str) {
    let _already = NAME.set(name);
}

/// A line as it is written. Names of files, and what a panic says, may have anything in them: it stays one line, and
/// steers no terminal.
fn named(name: Option<&str>, line: fmt::Arguments<'_>) -> String {
    let line = line.to_string().replace(char::is_control, " ");
    match name {
        Some(name) => format!("{name}: {line}\n"),
        // Nobody has said who this is: not a program, but its parts in a test.
        None => format!("{line}\n"),
    }
}

/// Says one line on standard error, at some time soon. This never waits and never fails.
pub(super) fn say(line: fmt::Arguments<'_>) {
    let mut state = VOICE.lock();
    state.push(named(NAME.get().copied(), line));
    if !state.started {
        // Where there is no thread to be had, the next line tries again, and `finish` does without.
        let thread = thread::Builder::new().name(THREAD.to_owned());
        state.started = thread.spawn(|| VOICE.speak()).is_ok();
    }
    VOICE.changed.notify_all();
}

/// So many lines, in words.
pub(super) fn lines(count: u64) -> String {
    if count == 1 { "1 line".to_owned() } else { format!("{count} lines") }
}

/// How many lines were lost so far.
pub(super) fn lost() -> u64 {
    VOICE.lock().lost_in_all
}

/// Waits until all has been said, at most for so long: the process is about to end.
pub(super) fn finish(timeout: Duration) {
    VOICE.finish(timeout, write);
}

impl State {
    /// Lets a line wait, if there is room.
    fn push(&mut self, line: String) {
        if self.waiting.len() < LINES_MAX {
            self.waiting.push_back(line);
        } else {
            self.lost += 1;
            self.lost_in_all += 1;
        }
    }
}

impl Voice {
    const fn new() -> Voice {
        let state = State {
            waiting: VecDeque::new(),
            lost: 0,
            lost_in_all: 0,
            writing: false,
            started: false,
            torn: false,
        };
        Voice { state: Mutex::new(state), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn finish(&self, timeout: Duration, mut write: impl FnMut(&[u8]) -> rustix::io::Result<()>) {
        let mut state = self.lock();
        if state.started {
            let unsaid = |state: &mut State| state.writing || !state.waiting.is_empty();
            let waited = self.changed.wait_timeout_while(state, timeout, unsaid);
            drop(waited);
        } else {
            for line in std::mem::take(&mut state.waiting) {
                let _written = write(line.as_bytes());
            }
        }
    }

    /// Writes line after line, for as long as the process lives.
    fn speak(&self) {
        let mut state = self.lock();
        loop {
            state.writing = false;
            self.changed.notify_all();
            let silent = |state: &mut State| state.waiting.is_empty();
            state = self.changed.wait_while(state, silent).unwrap_or_else(PoisonError::into_inner);
            let Some(line) = state.waiting.pop_front() else { continue };
            state.writing = true;
            state = self.tell(state, line, write);
        }
    }

    /// Writes a line, and behind the last one that waits how many were lost.
    fn tell<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        line: String,
        mut write: impl FnMut(&[u8]) -> rustix::io::Result<()>,
    ) -> MutexGuard<'a, State> {
        let written;
        (state, written) = self.attempt(state, line, &mut write);
        state.lost_in_all += u64::from(!written);
        while state.lost > 0 && !state.torn && state.waiting.is_empty() {
            let lost = std::mem::take(&mut state.lost);
            let written;
            let line = format_args!("{} could not be written here", lines(lost));
            (state, written) = self.attempt(state, named(NAME.get().copied(), line), &mut write);
            if !written {
                // That line was none of those that somebody said.
                state.lost += lost - 1;
                break;
            }
        }
        state
    }

    /// Writes a line while the lock is released, and counts it if that fails.
    fn attempt<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        mut line: String,
        write: &mut impl FnMut(&[u8]) -> rustix::io::Result<()>,
    ) -> (MutexGuard<'a, State>, bool) {
        if state.torn {
            line.insert(0, '\n');
        }
        drop(state);
        let written = write(line.as_bytes()).is_ok();
        state = self.lock();
        state.torn = !written;
        state.lost += u64::from(!written);
        (state, written)
    }
}

/// Writes to standard error past the lock of the standard library: a panic elsewhere must not wait for this.
fn write(mut bytes: &[u8]) -> rustix::io::Result<()> {
    let stderr = io::stderr();
    while !bytes.is_empty() {
        match rustix::io::write(&stderr, bytes) {
            Ok(0) => return Err(Errno::IO),
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::INTR) => {}
            // Whoever started this process may have made the descriptor non-blocking.
            Err(Errno::AGAIN) => {
                poll(&mut [PollFd::new(&stderr.as_fd(), PollFlags::OUT)], None)?;
            }
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn every_line_begins_with_the_name() {
        assert_eq!(named(Some("triptych"), format_args!("serving {}", 1)), "triptych: serving 1\n");
        assert_eq!(named(None, format_args!("a")), "a\n");
        assert_eq!(named(Some("x"), format_args!("a\nb\u{1b}[2Jc")), "x: a b [2Jc\n");
    }

    #[test]
    fn so_many_lines_wait() {
        let voice = Voice::new();
        let mut state = voice.lock();
        for number in 0..LINES_MAX + 5 {
            state.push(format!("{number}\n"));
        }
        assert_eq!((state.waiting.len(), state.lost, state.lost_in_all), (LINES_MAX, 5, 5));
        assert_eq!(state.waiting.front().map(String::as_str), Some("0\n"));
    }

    #[test]
    fn the_end_waits_for_what_is_not_said_yet() {
        const TIMEOUT: Duration = Duration::from_millis(500);
        for (writing, waiting, waits) in [(false, 0, false), (true, 0, true), (false, 1, true)] {
            let voice = Voice::new();
            let mut state = voice.lock();
            (state.started, state.writing) = (true, writing);
            state.waiting.extend(vec!["waits\n".to_owned(); waiting]);
            drop(state);
            let begun = Instant::now();
            voice.finish(TIMEOUT, |_| panic!("a thread writes it"));
            assert_eq!(begun.elapsed() >= TIMEOUT, waits, "writing: {writing}, waiting: {waiting}");
        }
        // There was no thread to be had.
        let voice = Voice::new();
        voice.lock().waiting.extend(["a\n".to_owned(), "b\n".to_owned()]);
        let mut written = Vec::new();
        voice.finish(TIMEOUT, |bytes| {
            written.extend_from_slice(bytes);
            Ok(())
        });
        assert_eq!(written, b"a\nb\n");
    }

    /// How many lines were lost is said behind the last one that waits, once standard error takes lines again.
    #[test]
    fn lost_lines_are_counted_and_said() {
        // What waits behind the line, how many were lost before it, how many writes go well until one fails; what is
        // written then, and how many are lost.
        for (waiting, lost, good, expected, left) in [
            (0, 0, 9, "a\n", 0),
            (0, 7, 9, "a\n7 lines could not be written here\n", 0),
            (0, 1, 9, "a\n1 line could not be written here\n", 0),
            (1, 7, 9, "a\n", 7),
            (0, 0, 0, "", 1),
            (0, 7, 0, "", 8),
            (0, 7, 1, "a\n", 7),
            (0, 1, 1, "a\n", 1),
        ] {
            let voice = Voice::new();
            let mut state = voice.lock();
            state.waiting.extend(vec!["waits".to_owned(); waiting]);
            (state.lost, state.lost_in_all) = (lost, lost + 10);
            let mut written = String::new();
            let mut writes = 0;
            let mut state = voice.tell(state, "a\n".to_owned(), |bytes| {
                writes += 1;
                if writes > good {
                    return Err(Errno::NOSPC);
                }
                written.push_str(std::str::from_utf8(bytes).expect("UTF-8"));
                Ok(())
            });
            assert_eq!((written.as_str(), state.lost), (expected, left));
            assert_eq!(state.lost_in_all, lost + 10 + u64::from(good == 0), "only what somebody said counts");
            assert!(writes <= 2, "what fails isn't tried again at once");
            assert_eq!(state.torn, writes > good);
            // A line that may have been cut off is not continued by the next one.
            state.lost = 0;
            let newline = if state.torn { "\n" } else { "" };
            let mut next = Vec::new();
            let state = voice.tell(state, "b\n".to_owned(), |bytes| {
                next.extend_from_slice(bytes);
                Ok(())
            });
            assert_eq!((String::from_utf8_lossy(&next), state.torn), (format!("{newline}b\n").into(), false));
        }
    }
}
