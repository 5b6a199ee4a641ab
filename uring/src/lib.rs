//! The io_uring server: waiting is having submitted.
//!
//! Each worker owns a ring. It queues operations and goes to sleep in `io_uring_enter(2)`, which submits the
//! queue and comes back with a batch of completions; each of them runs one callback, and callbacks only queue
//! more operations. Operations own their memory until they complete, so whoever goes away meanwhile takes
//! nothing with them ([`ring`]). Nothing in this crate decides anything about HTTP.
//!
//! | stage | what happens here |
//! |---|---|
//! | listen | one socket per address and worker (`SO_REUSEPORT`) |
//! | accept | one multishot accept per listener → `on_accept` per connection; armed again when it has ended |
//! | receive | one receive for once, then, for who stays, a multishot one, into a ring of provided buffers → `on_recv` |
//! | open | `OPENAT2` → `on_open`, then fstat(2); listings on a thread of their own |
//! | load | a small file for the cache: `READ` → `on_load` |
//! | send | answers in memory: `SEND`, or `SENDMSG` with a cached body → `on_write_headers`; files: `READ` linked to `SEND`, head and first piece in one buffer → `on_write_file`, or `on_read_file` when the file has become shorter; from 32 KiB on, what the page cache holds by sendfile(2), and a `POLL` for room → `on_room` |
//! | finish | the connection's next step; `CLOSE` → `on_close` |
//!
//! Its cost: one thread per worker, and the kernel's threads for opens that must wait for a disk. A
//! keep-alive request that is answered from memory, as one for a small cached file is, takes one submission, two completions, and a share of one
//! system call. A file takes four submissions (open, read, send, close), three completions and one fstat(2).
//! Bytes of small and of cold files are copied twice: page cache to buffer, buffer to socket. Large files that
//! the page cache holds are not copied; each portion of up to 2 MiB takes a sendfile(2) and the questions whether
//! it is there, the first one a send(2) for its head besides.
//!
//! It can do without some of that, to show what each technique buys ([`common::tune`]): an accept and a receive
//! of their own for each connection and request, a send that waits for its read to come back, an
//! `io_uring_enter` for each operation (a chain is submitted whole), no `DEFER_TASKRUN`.
//!
//! It needs Linux 6.0 (multishot receive), and is at its best from 6.6. Where io_uring is missing or
//! forbidden [`serve`] says so in one line.

#![deny(unsafe_code)]

use std::io;
use std::sync::Arc;
use std::time::Duration;

use common::net::Listeners;
use common::service::Service;
use common::slots::Token;

#[allow(unsafe_code)]
pub mod buffers;
mod chains;
mod client;
mod listener;
mod lister;
mod operation;
pub mod refusal;
#[allow(unsafe_code)]
pub mod ring;
mod server;
mod setup;
mod volumes;

use refusal::Refusal;
use ring::{Completion, Options, Ring};
use server::Server;

/// Serves until the service is drained. `ready` is called once every worker is about to accept.
///
/// # Errors
/// When io_uring can't be used here (one line that says why, and what to do), or a worker can't go on.
pub fn serve(listeners: Listeners, service: &Arc<Service>, ready: impl FnOnce()) -> io::Result<()> {
    probe()?;
    common::workers::run_workers(listeners, service, Server::new, Server::run, ready)
}

/// Whether io_uring can be used here.
///
/// # Errors
/// One line: what forbids it, how to allow it, and what serves without it.
pub fn available() -> Result<(), String> {
    probe().map_err(|refusal| refusal.to_string())
}

/// Makes a ring and receives with it: a kernel that lacks the multishot receive says so only then.
fn probe() -> Result<(), Refusal> {
    let mut ring =
        Ring::new(&Options { submissions: 4, completions: 8, receive_buffers: 1, ..Options::default() })?;
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(Refusal::Setup)?;
    drop(theirs);
    ring.arm_recv(Token { slot: 0, generation: 0 }, &std::rc::Rc::new(ours.into()));
    ring.submit_and_wait(Some(Duration::from_secs(1))).map_err(Refusal::Setup)?;
    match ring.completion() {
        Some(Completion::Received { result: Err(error), .. }) => Err(Refusal::Receive(error)),
        // Its end of file, at once.
        Some(_) | None => Ok(()),
    }
}
