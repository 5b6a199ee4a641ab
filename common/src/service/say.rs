//! What the program says on standard error, and that saying it never costs a request.
//!
//! Standard error may be a full disk, a pipe without a reader, or one whose reader has stalled. So a line is only
//! queued, and one thread writes it. Lines that find no room, or that can't be written, are counted, and the number is
//! said as soon as standard error takes lines again.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
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

static VOICE: Voice = Voice {
    state: Mutex::new(State {
        waiting: VecDeque::new(),
        lost: 0,
        lost_in_all: 0,
        writing: false,
        started: false,
        torn: false,
    }),
    changed: Condvar::new(),
};

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

/// Says one line on standard error, at some time soon. This never waits and never fails.
pub(super) fn say(line: fmt::Arguments<'_>) {
    let mut state = VOICE.lock();
    if state.waiting.len() < LINES_MAX {
        state.waiting.push_back(format!("{line}\n"));
    } else {
        state.lost += 1;
        state.lost_in_all += 1;
    }
    if !state.started {
        // Where there is no thread to be had, the next line tries again, and `finish` does without.
        let thread = thread::Builder::new().name(THREAD.to_owned());
        state.started = thread.spawn(|| VOICE.speak()).is_ok();
    }
    VOICE.changed.notify_all();
}

/// How many lines were lost so far.
pub(super) fn lost() -> u64 {
    VOICE.lock().lost_in_all
}

/// Waits until all has been said, at most for so long: the process is about to end.
pub(super) fn finish(timeout: Duration) {
    let mut state = VOICE.lock();
    if state.started {
        let unsaid = |state: &mut State| state.writing || !state.waiting.is_empty();
        let waited = VOICE.changed.wait_timeout_while(state, timeout, unsaid);
        drop(waited);
    } else {
        for line in std::mem::take(&mut state.waiting) {
            let _written = write(line.as_bytes());
        }
    }
}

impl Voice {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
            let written;
            (state, written) = self.attempt(state, line);
            state.lost_in_all += u64::from(!written);
            while state.lost > 0 && !state.torn && state.waiting.is_empty() {
                let lost = std::mem::take(&mut state.lost);
                let written;
                (state, written) = self.attempt(state, format!("{lost} lines could not be written here\n"));
                if !written {
                    // That line was none of those that somebody said.
                    state.lost += lost - 1;
                    break;
                }
            }
        }
    }

    /// Writes a line while the lock is released, and counts it if that fails.
    fn attempt<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        mut line: String,
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
