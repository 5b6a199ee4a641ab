//! `reuseport`: several threads, each an `epoll-edge` of its own with a listener of its own, all on one port.
//!
//! With `SO_REUSEPORT` (socket(7)) the kernel gives every new connection to one of the listeners, by a hash of its
//! addresses. Nothing is shared, so nothing is locked; only a line of a chat crosses from thread to thread, and rings.
//!
//! - Adds: all processors (C17).
//! - Costs: connections don't move. A worker whose clients are busy stays busy, while others rest.
//! - Its limit: the limit of descriptors.

use std::io;
use std::thread;

use super::epoll_edge::Server;
use crate::Setup;

pub(super) fn serve(setup: Setup) -> io::Result<()> {
    let mut workers = Vec::new();
    for listener in setup.listeners {
        let server = Server::new(listener, setup.service.clone(), setup.end.bell()?)?;
        let worker = thread::Builder::new().name(format!("worker-{}", workers.len()));
        workers.push(worker.spawn(move || server.run())?);
    }
    for worker in workers {
        worker.join().map_err(|_panic| io::Error::other("a worker panicked"))??;
    }
    Ok(())
}
