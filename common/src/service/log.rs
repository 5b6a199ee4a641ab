//! The access log: combined format, with the duration appended.
//!
//! Each worker appends lines to its own buffer, and one thread writes them out ten times a second. So a slow or blocked
//! output never stalls an event loop: lines beyond the buffer's limit are dropped and counted.
//! dropped and counted.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::machine::record::{Lines, LogBuffer};
use crate::service::start::StartError;

const WRITE_INTERVAL: Duration = Duration::from_millis(100);

#[derive(Debug, Default)]
struct Shared {
    buffers: Mutex<Vec<Arc<Mutex<Lines>>>>,
    ended: Mutex<bool>,
    end: Condvar,
}

/// The log of a server: its buffers, and the thread that writes them. Dropping it writes what is left.
#[derive(Debug)]
pub struct AccessLog {
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl AccessLog {
    /// A log appended to a file; `-` is standard output.
    ///
    /// # Errors
    /// If the file can't be opened for appending.
    pub fn open(path: &Path) -> Result<AccessLog, StartError> {
        let fail = |error: io::Error| {
            StartError::new(format!(
                "access log {}: {error}; name a file that can be written, or - for standard output",
                path.display()
            ))
        };
        if path == Path::new("-") {
            AccessLog::start(io::stdout()).map_err(fail)
        } else {
            let file: File = OpenOptions::new().create(true).append(true).open(path).map_err(fail)?;
            AccessLog::start(file).map_err(fail)
        }
    }

    /// A log written to `output`.
    ///
    /// # Errors
    /// If the writer thread can't be started.
    pub fn start(output: impl Write + Send + 'static) -> io::Result<AccessLog> {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let writer =
            thread::Builder::new().name("access-log".to_owned()).spawn(move || theirs.write(output))?;
        Ok(AccessLog { shared, writer: Mutex::new(Some(writer)) })
    }

    /// A buffer for another worker.
    #[must_use]
    pub fn buffer(&self) -> LogBuffer {
        let buffer = LogBuffer::default();
        self.shared.buffers.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&buffer.0));
        buffer
    }
}

impl AccessLog {
    /// Writes the pending lines and closes the log. Lines appended later are lost.
    pub fn close(&self) {
        *self.shared.ended.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.shared.end.notify_all();
        if let Some(writer) = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ended = writer.join();
        }
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    fn write(&self, mut output: impl Write) {
        let mut batch = Vec::new();
        let mut failed = false;
        loop {
            let ended = self.wait();
            let dropped = self.collect(&mut batch);
            if dropped > 0 {
                eprintln!("access log: {dropped} lines dropped, the output is too slow");
            }
            let result = output.write_all(&batch).and_then(|()| output.flush());
            if let (Err(error), false) = (&result, failed) {
                eprintln!("access log: {error}; lines are lost until writing succeeds again");
            }
            failed = result.is_err();
            batch.clear();
            if ended {
                return;
            }
        }
    }

    /// Waits until the next write is due; true if the log is closing.
    fn wait(&self) -> bool {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let (ended, _timeout) = self
            .end
            .wait_timeout_while(ended, WRITE_INTERVAL, |ended| !*ended)
            .unwrap_or_else(PoisonError::into_inner);
        *ended
    }

    /// Moves the pending lines of all workers into the batch and returns how many were dropped.
    fn collect(&self, batch: &mut Vec<u8>) -> u64 {
        let mut dropped = 0;
        for buffer in &*self.buffers.lock().unwrap_or_else(PoisonError::into_inner) {
            let mut lines = buffer.lock().unwrap_or_else(PoisonError::into_inner);
            batch.append(&mut lines.waiting);
            dropped += std::mem::take(&mut lines.dropped);
        }
        dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::record::tests::{LINE, record};

    #[derive(Clone, Default)]
    struct Output(Arc<Mutex<Vec<u8>>>);

    impl Write for Output {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("not poisoned").write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn dropping_the_log_writes_what_is_left() {
        let output = Output::default();
        let log = AccessLog::start(output.clone()).expect("started");
        let buffers = [log.buffer(), log.buffer()];
        for buffer in &buffers {
            buffer.append(&record());
        }
        drop(log);
        assert_eq!(*output.0.lock().expect("not poisoned"), LINE.repeat(2).as_bytes());
    }
}
