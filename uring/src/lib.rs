//! The io_uring server: waiting is having submitted.
//!
//! Each worker owns a ring. It queues operations and goes to sleep in `io_uring_enter(2)`, which submits the queue and
//! comes back with a batch of completions; each of them runs one callback, and callbacks only queue more operations.
//! Operations own their memory until they complete, so a client that leaves takes nothing with it ([`ring`]).
//!
//! | stage | what happens here |
//! |---|---|
//! | listen | one socket per address and worker (`SO_REUSEPORT`) |
//! | accept | one multishot accept per listener → `on_accept` per connection; armed again when it has ended. Where few places are left a poll → `on_acceptable`, and `accept4` |
//! | receive | a one-shot receive first; connections that stay switch to multishot; both into a ring of provided buffers → `on_recv` |
//! | open | `OPENAT2` → `on_open`, then fstat(2); listings, and what is on volumes that make opens wait, in a pool of threads → `on_done` |
//! | read | `READ`, for the cache → `on_read` |
//! | send | memory: `SEND`, or `SENDMSG` for several pieces; files: `READ` linked to `SEND`, with head and first part in one buffer → `on_send`; from 32 KiB on, what the page cache holds by sendfile(2), and a `POLL` for room → `on_writable`; files that nobody can ask about, in the pool → `on_sent` |
//! | close | `CLOSE`, when nothing of the client is in flight any more: `on_close` |
//! | deadlines | a timer wheel |
//!
//! The kernel carries out a READ or an OPENAT2 at once if it can. On overlayfs, FUSE or NFS it can't, or doesn't notice
//! that it can't and waits inside `io_uring_enter`; such files are left to the pool that `epoll` has, too
//! ([`Volume`](common::Volume)).
//!
//! Its cost: one thread per worker, and the kernel's threads for opens that must wait for a disk. A keep-alive request
//! that is answered from memory, as one for a small cached file is, takes one submission, two completions, and a share
//! of one system call. A file takes four submissions (open, read, send, close), three completions and one fstat(2).
//! Bytes of small and of cold files are copied twice: page cache to buffer, buffer to socket. Large files that are in the
//! page cache are not copied: each portion of up to 2 MiB takes a sendfile(2) and the questions whether it is there, and
//! the first one a send(2) for its head.
//!
//! Optimizations can be disabled to show what each buys ([`common::Tune`]): an accept and a receive for each connection
//! and request, a send that waits for its read to come back, an `io_uring_enter` for each operation (a chain is submitted
//! whole), no `DEFER_TASKRUN`.
//!
//! It needs Linux 6.0 (multishot receive), and is at its best from 6.6. Where io_uring is missing or forbidden [`serve`]
//! says so in one line.

#![deny(unsafe_code)]

#[allow(unsafe_code)]
pub mod buffers;
mod chains;
mod client;
mod listener;
mod operation;
mod probe;
pub mod refusal;
mod restrictions;
#[allow(unsafe_code)]
pub mod ring;
mod server;
mod setup;

use common::service::cli::{Io, Model};

pub use probe::available;
pub use server::serve;

/// The model. A worker's descriptors: the ring, events of the pool and of cached files, and the bell that tells of
/// places, the latter three and the drain's for the ring once more.
pub const MODEL: Model = Model {
    io: Io::Uring,
    worker_descriptors: 8,
    available,
    serve: |listeners, service, ready| serve(listeners, service, ready),
};
