//! `futures`: tasks on a reactor and an executor, which are written out in [`runtime`].
//!
//! A connection is a task: an `async` function that reads as if it blocked. Where it has to wait, it gives the thread
//! back. When epoll(7) reports an event, the reactor wakes the task, that is, puts it into the executor's run queue,
//! and the executor resumes it (C19).
//!
//! - Adds: the simple code of `thread`, on a single thread.
//! - Costs: an allocation per task, another for its waker whenever it runs, and a pass through the queue per event.
//! - Limit: the descriptor limit.

mod runtime;

use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;

use common::Token;
use common::service::socket::{self, AcceptError};
use rustix::net::SocketFlags;

use crate::services::{RECEIVE_BYTES_MAX, Service};
use crate::{Client, Pause, Received, Setup};
use runtime::{Runtime, own_waker, woken};

/// Receives in a row before the task lets others run.
const RECEIVES_MAX: usize = 16;

pub(super) fn serve(mut setup: Setup) -> io::Result<()> {
    let (listener, bell) = (setup.listener(), setup.end.bell()?);
    let (runtime, acceptor) = (Runtime::new()?, Waker::noop().clone());
    runtime.register(&bell, acceptor.clone())?;
    let buffer = RefCell::new(vec![0; RECEIVE_BYTES_MAX]);
    let (pause, acceptor) = (RefCell::default(), RefCell::new(acceptor));
    let server = Rc::new(Server { runtime, service: setup.service, buffer, pause, acceptor });
    server.runtime.spawn(accept(Rc::clone(&server), listener));
    while !bell.has_ended() {
        server.runtime.run();
        let left = server.pause.borrow().left();
        server.service.stats.count_events(server.runtime.wait(left)?);
        if server.pause.borrow_mut().is_over() {
            server.acceptor.borrow().wake_by_ref();
        }
    }
    server.runtime.clear();
    Ok(())
}

/// What all tasks share.
struct Server {
    runtime: Runtime,
    service: Arc<Service>,
    buffer: RefCell<Vec<u8>>,
    pause: RefCell<Pause>,
    /// Wakes the task that accepts.
    acceptor: RefCell<Waker>,
}

/// The task that accepts.
async fn accept(server: Rc<Server>, listener: OwnedFd) {
    let waker = own_waker().await;
    server.acceptor.replace(waker.clone());
    server.runtime.register(&listener, waker).expect("a new epoll instance takes a listener");
    loop {
        match socket::accept(&listener, SocketFlags::NONBLOCK, false) {
            Ok((socket, _)) => on_accept(&server, socket),
            Err(AcceptError::Connection) => {}
            Err(AcceptError::Empty) => woken().await,
            Err(AcceptError::Exhausted) => {
                server.pause.borrow_mut().begin();
                woken().await;
            }
        }
    }
}

fn on_accept(server: &Rc<Server>, socket: OwnedFd) {
    server.runtime.spawn(converse(Rc::clone(server), socket));
}

/// The task of a connection, from its beginning to its end.
async fn converse(server: Rc<Server>, socket: OwnedFd) {
    let mut client = Client { socket, connection: server.service.connect() };
    let waker = own_waker().await;
    client.connection.wake_with(waker.clone());
    let token = server.runtime.register(&client.socket, waker);
    // Sending comes first: a full connection receives only after that.
    while token.is_ok() && on_writable(&mut client) && on_readable(&server, &mut client).await {
        woken().await;
    }
    close(&server, client, token.ok());
}

/// Receives until the socket would block or the connection is full. False if it is over or broken.
async fn on_readable(server: &Server, client: &mut Client) -> bool {
    loop {
        for _ in 0..RECEIVES_MAX {
            match client.receive(&mut server.buffer.borrow_mut()) {
                Received::Some if on_writable(client) => {}
                Received::Nothing => return true,
                Received::Some | Received::Broken => return false,
            }
        }
        own_waker().await.wake();
        woken().await;
    }
}

/// Sends until nothing is left or the socket would block; then the edge for room wakes the task (C18).
/// False if the connection is over or broken.
fn on_writable(client: &mut Client) -> bool {
    client.send()
}

/// Closing the socket removes it from epoll.
fn close(server: &Server, client: Client, token: Option<Token>) {
    client.close();
    token.into_iter().for_each(|token| server.runtime.forget(token));
    if server.pause.borrow_mut().end() {
        server.acceptor.borrow().wake_by_ref();
    }
}
