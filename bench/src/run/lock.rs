//! One run at a time: two would measure each other.

use crate::failure::{Failure, Result};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::Path;

/// Holds the machine until it is dropped, or the process ends.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    pub(crate) fn take() -> Result<Lock> {
        Lock::take_at(&std::env::temp_dir().join("triptych-bench.lock"))
    }

    fn take_at(path: &Path) -> Result<Lock> {
        let doing = format!("take the lock {}", path.display());
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(Failure::context(&doing))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let mut holder = String::new();
                // Only to be told; a holder that hasn't written yet stays unnamed.
                let _unnamed = file.read_to_string(&mut holder);
                let who = match holder.trim() {
                    "" => "another run".to_owned(),
                    pid => format!("another run (process {pid})"),
                };
                return Err(Failure::new(format!("{who} measures on this machine; wait for its end")));
            }
            Err(errno) => return Err(Failure::context(&doing)(errno)),
        }
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .map_err(Failure::context(&doing))?;
        Ok(Lock { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_is_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let first = Lock::take_at(&path).unwrap();
        let failure = Lock::take_at(&path).unwrap_err().to_string();
        assert!(failure.contains(&format!("process {}", std::process::id())), "{failure}");
        drop(first);
        assert!(Lock::take_at(&path).is_ok());
    }
}
