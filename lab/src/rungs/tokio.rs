//! `tokio`: the async runtime that most Rust servers use, on one thread.
//!
//! What `futures` does by hand, done well: a reactor on epoll(7), an executor with a run queue, timers, and a budget
//! that makes busy tasks yield (C19).
//!
//! - Adds: no reactor to write, and an ecosystem.
//! - Costs: a task per connection, and a pass through the run queue per event.
//! - Limit: the descriptor limit.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::net::TcpListener as Listener;
use std::sync::Arc;
use std::task::Poll;

use common::service::socket::{ACCEPT_PAUSE, AcceptError};
use tokio::net::{TcpListener, TcpStream};
use tokio::{runtime, time};

use super::accept_error;
use crate::client::end;
use crate::services::{Connection, RECEIVE_BYTES_MAX, Service};
use crate::{Limit, Setup};

thread_local! {
    /// Shared by all tasks of the thread: none holds it while it waits.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; RECEIVE_BYTES_MAX]);
}

pub(super) fn serve(mut setup: Setup) -> io::Result<()> {
    let (listener, bell) = (Listener::from(setup.listener()), setup.end.bell()?);
    runtime::Builder::new_current_thread().enable_all().build()?.block_on(async move {
        let _accepting = tokio::spawn(accept(TcpListener::from_std(listener)?, setup.service));
        // A thread of the runtime's pool waits for the end: the reactor takes sockets, not the bell.
        tokio::task::spawn_blocking(move || bell.wait_for_end()).await?
    })
}

/// The task that accepts.
async fn accept(listener: TcpListener, service: Arc<Service>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => on_accept(stream, &service),
            Err(error) if accept_error(&error) == AcceptError::Exhausted => {
                Limit::Descriptors.mention();
                time::sleep(ACCEPT_PAUSE).await;
            }
            Err(_of_one_connection) => {}
        }
    }
}

fn on_accept(stream: TcpStream, service: &Arc<Service>) {
    let _conversing = tokio::spawn(converse(stream, Arc::clone(service)));
}

/// The task of a connection, from its beginning to its end.
async fn converse(stream: TcpStream, service: Arc<Service>) {
    let mut connection = service.connect();
    connection.wake_with(poll_fn(|context| Poll::Ready(context.waker().clone())).await);
    while ready(&stream, &connection).await {
        service.stats.count_events(1);
        if !on_readable(&stream, &mut connection) || !on_writable(&stream, &mut connection) {
            break;
        }
    }
    close(stream, &connection);
}

/// Waits until the socket has bytes that the connection wants, or room for its output. The output may come from
/// another task, which wakes this one. False if the connection is over.
async fn ready(stream: &TcpStream, connection: &Connection) -> bool {
    poll_fn(|context| {
        let readable = connection.wants_bytes() && stream.poll_read_ready(context).is_ready();
        let writable = connection.has_output() && stream.poll_write_ready(context).is_ready();
        if readable || writable || connection.is_over() {
            return Poll::Ready(!connection.is_over());
        }
        Poll::Pending
    })
    .await
}

/// Receives once. If more is waiting, the socket stays ready. False if the connection is broken.
fn on_readable(stream: &TcpStream, connection: &mut Connection) -> bool {
    if !connection.wants_bytes() {
        return true;
    }
    BUFFER.with_borrow_mut(|buffer| {
        match stream.try_read(buffer) {
            Ok(0) => connection.ended(),
            Ok(count) => connection.received(&buffer[..count]),
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        }
        true
    })
}

/// Sends until nothing is left or the socket would block; then the task waits for room (C18). False if the connection
/// is broken.
fn on_writable(stream: &TcpStream, connection: &mut Connection) -> bool {
    loop {
        let output = connection.output();
        if output.is_empty() {
            return true;
        }
        match stream.try_write(output) {
            Ok(count) => connection.sent(count),
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        }
    }
}

fn close(stream: TcpStream, connection: &Connection) {
    end(&stream, connection);
    drop(stream);
}
