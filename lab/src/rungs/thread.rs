//! `thread`: a thread per connection.
//!
//! Every call waits. The code of a connection is a loop that reads as if there were only one client; the scheduler
//! does the work of an event loop.
//!
//! - Adds: simplicity.
//! - Costs: a stack per connection, and a thread switch per message (C1). A client that must hear something while it
//!   is silent, as in chat, needs a second thread: the first one is blocked in recv(2).
//! - Limit: threads. If none can be started, the connection is closed.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use common::service::socket::{self, ACCEPT_PAUSE, AcceptError};
use rustix::io::{Errno, ioctl_fionbio, retry_on_intr};
use rustix::net::sockopt::{self, Timeout};
use rustix::net::{RecvFlags, SendFlags, Shutdown, SocketFlags, recv, send, shutdown};

use crate::client::end;
use crate::services::{Connection, Kind, RECEIVE_BYTES_MAX, Service};
use crate::{Limit, Setup};

/// Address space for a thread's stack. It uses memory only as it is touched: about 28 KiB here.
const STACK_BYTES: usize = 1 << 20;

/// How often a send that makes no progress checks whether its client has been dropped.
const SEND_WAIT: Duration = Duration::from_secs(1);

/// This thread only waits for the end; the others end with the process.
pub(super) fn serve(mut setup: Setup) -> io::Result<()> {
    let (listener, bell, service) = (setup.listener(), setup.end.bell()?, setup.service);
    ioctl_fionbio(&listener, false)?;
    start(move || accept(&listener, &service))?;
    bell.wait_for_end()
}

fn start(body: impl FnOnce() + Send + 'static) -> io::Result<Thread> {
    Ok(thread::Builder::new().stack_size(STACK_BYTES).spawn(body)?.thread().clone())
}

/// A client, shared by its one or two threads.
struct Client {
    socket: OwnedFd,
    connection: Mutex<Connection>,
    service: Arc<Service>,
    /// Woken when this connection closes.
    acceptor: Thread,
}

fn accept(listener: &OwnedFd, service: &Arc<Service>) {
    loop {
        match socket::accept(listener, SocketFlags::empty(), false) {
            Ok((socket, _)) => on_accept(socket, service),
            Err(AcceptError::Connection | AcceptError::Empty) => {}
            Err(AcceptError::Exhausted) => {
                Limit::Descriptors.mention();
                thread::park_timeout(ACCEPT_PAUSE);
            }
        }
    }
}

fn on_accept(socket: OwnedFd, service: &Arc<Service>) {
    let (connection, service) = (Mutex::new(service.connect()), Arc::clone(service));
    let client = Arc::new(Client { socket, connection, service, acceptor: thread::current() });
    if start(move || converse(&client)).is_err() {
        Limit::Threads.mention();
    }
}

/// The life of a connection.
fn converse(client: &Arc<Client>) {
    let _set = sockopt::set_socket_timeout(&client.socket, Timeout::Send, Some(SEND_WAIT));
    let mut buffer = [0; RECEIVE_BYTES_MAX];
    if client.service.kind() != Kind::Chat {
        loop {
            client.on_readable(&mut buffer);
            if !client.on_writable() {
                return client.close();
            }
        }
    }
    let speaker = Arc::clone(client);
    let started = start(move || {
        while speaker.on_writable() {
            thread::park();
        }
        speaker.close();
    });
    let Ok(speaker) = started else { return Limit::Threads.mention() };
    client.connection().wake_with(Waker::from(Arc::new(Unpark(speaker.clone()))));
    while client.on_readable(&mut buffer) {}
    speaker.unpark();
}

impl Client {
    /// Waits for bytes. False if no more will come.
    fn on_readable(&self, buffer: &mut [u8]) -> bool {
        match retry_on_intr(|| recv(&self.socket, &mut *buffer, RecvFlags::empty())) {
            Ok((0, _)) | Err(_) => self.connection().ended(),
            Ok((count, _)) => self.connection().received(&buffer[..count]),
        }
        self.service.stats.count_events(1);
        self.connection().wants_bytes()
    }

    /// Sends all output, and waits while the socket has no room. False if the connection is over or broken.
    fn on_writable(&self) -> bool {
        loop {
            let output = self.connection().take_output();
            if output.is_empty() {
                return !self.connection().is_over();
            }
            let mut rest = &output[..];
            while !rest.is_empty() {
                match send(&self.socket, rest, SendFlags::NOSIGNAL) {
                    Ok(count) => {
                        self.connection().sent(count);
                        rest = &rest[count..];
                    }
                    Err(Errno::AGAIN | Errno::INTR) if !self.connection().is_dropped() => {}
                    Err(_broken) => return false,
                }
            }
        }
    }

    /// Wakes the connection's other thread if it waits for the socket, and the acceptor if it waits for a descriptor.
    fn close(&self) {
        end(&self.socket, &self.connection());
        let _ended = shutdown(&self.socket, Shutdown::Both);
        self.acceptor.unpark();
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes a thread that is parked.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
