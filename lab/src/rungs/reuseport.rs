//! `reuseport`: several threads, each an `epoll-edge` of its own with a listener of its own, all on one port.
//!
//! With `SO_REUSEPORT` (socket(7)) the kernel assigns every new connection to one of the listeners, by a hash of its
//! addresses. The threads share nothing, except that a line of chat may go to another thread's client.
//!
//! - Adds: all CPUs, without locks (C17).
//! - Costs: connections can't move. One worker may be overloaded while another is idle.
//! - Limit: the descriptor limit.

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
