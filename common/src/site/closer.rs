//! The closer: closes files where a close may wait.
//!
//! close(2) of a file on FUSE or NFS asks whoever plays the file system, and waits for the answer. A thread does it,
//! one for each mount that has files to be closed, and only as long as there are some: a mount that is dead holds up
//! nobody but itself.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::site::mounts::MountId;

/// A close needs hardly any.
const STACK_BYTES: usize = 64 * 1024;

/// The files of one mount that are to be closed.
struct Queue {
    mount: MountId,
    files: VecDeque<OwnedFd>,
    /// Whether a thread closes them.
    has_thread: bool,
}

/// The mounts that have files to be closed.
static QUEUES: Mutex<Vec<Queue>> = Mutex::new(Vec::new());

/// Closes a file of this mount soon, in another thread. Where no thread can be had, the file waits for the next one.
pub(crate) fn close_elsewhere(file: OwnedFd, mount: MountId) {
    let mut queues = lock();
    let index = queues.iter().position(|queue| queue.mount == mount).unwrap_or_else(|| {
        queues.push(Queue { mount, files: VecDeque::new(), has_thread: false });
        queues.len() - 1
    });
    let queue = &mut queues[index];
    queue.files.push_back(file);
    if !queue.has_thread {
        let thread = thread::Builder::new().name("closer".to_owned()).stack_size(STACK_BYTES);
        queue.has_thread = thread.spawn(move || while close_next(mount) {}).is_ok();
    }
}

/// Closes the first file of a mount; false if there was none left.
fn close_next(mount: MountId) -> bool {
    let mut queues = lock();
    let Some(index) = queues.iter().position(|queue| queue.mount == mount) else { return false };
    let Some(file) = queues[index].files.pop_front() else {
        queues.swap_remove(index);
        return false;
    };
    drop(queues);
    drop(file);
    true
}

/// A panic can't leave the list half changed.
fn lock() -> MutexGuard<'static, Vec<Queue>> {
    QUEUES.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{ErrorKind, Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::UnixStream;
    use std::time::{Duration, Instant};

    #[test]
    fn every_file_is_closed() {
        let pairs: Vec<_> = (0..20).map(|_| UnixStream::pair().expect("a pair")).collect();
        for (index, (mut kept, given)) in pairs.into_iter().enumerate() {
            close_elsewhere(given.into(), 7_000 + index as u64 % 3);
            kept.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
            assert_eq!(kept.read(&mut [0]).expect("the end"), 0);
        }
    }

    /// A close that waits, as on a dead file system: that of a TCP socket which lingers until its bytes have arrived.
    #[test]
    fn a_close_that_waits_holds_up_no_other_mount() {
        const LINGER: Duration = Duration::from_secs(60);
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let mut lingering = TcpStream::connect(listener.local_addr().expect("a name")).expect("connected");
        let (mut peer, _) = listener.accept().expect("accepted");
        lingering.set_nonblocking(true).expect("non-blocking");
        while lingering.write(&[0; 100_000]).is_ok() {}
        rustix::net::sockopt::set_socket_linger(&lingering, Some(LINGER)).expect("set");
        let begun = Instant::now();
        close_elsewhere(lingering.into(), 8_000);
        let (mut kept, given) = UnixStream::pair().expect("a pair");
        kept.set_read_timeout(Some(LINGER / 4)).expect("a timeout");
        close_elsewhere(given.into(), 8_001);
        assert_eq!(kept.read(&mut [0]).expect("the end"), 0);
        assert!(begun.elapsed() < LINGER / 2, "it waited for {:?}", begun.elapsed());
        // Files of the same mount are closed one after the other.
        let (mut kept, given) = UnixStream::pair().expect("a pair");
        kept.set_nonblocking(true).expect("non-blocking");
        close_elsewhere(given.into(), 8_000);
        assert_eq!(kept.read(&mut [0]).expect_err("still open").kind(), ErrorKind::WouldBlock);
        peer.set_read_timeout(Some(LINGER / 4)).expect("a timeout");
        peer.read_to_end(&mut Vec::new()).expect("all of it");
        kept.set_nonblocking(false).expect("blocking");
        kept.set_read_timeout(Some(LINGER / 4)).expect("a timeout");
        assert_eq!(kept.read(&mut [0]).expect("the end"), 0);
    }
}
