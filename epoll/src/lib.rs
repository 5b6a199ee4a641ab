//! Triptych's `epoll`: an edge-triggered event loop with a pool of threads for what the page cache doesn't hold.
//!
//! # The model
//!
//! A worker is one thread with a listener and an epoll instance of its own, and thousands of clients. Waiting is
//! *returning*: a function does what can be done at once, notes what its client waits for, and returns to the loop; an
//! edge brings the client back. The price is that nothing may ever wait in the loop, and files have no edges: epoll(7)
//! refuses regular files, and poll(2) reports every one of them ready, even if its bytes are on a disk that takes ten
//! milliseconds. So the loop asks only for what is in memory (`RESOLVE_CACHED` for names, `RWF_NOWAIT` for contents),
//! and only of file systems that can tell ([`Volume`](common::Volume)). Everything else goes to a pool of threads whose
//! one task is to wait.
//!
//! # The stages
//!
//! | stage | here |
//! |---|---|
//! | listen | one `SO_REUSEPORT` socket per worker and address |
//! | accept | `accept4` until `EAGAIN`, bounded: `on_accept`; a turn at once, since its request has often come with it; then registered `IN\|OUT\|RDHUP\|ET` once, never modified |
//! | receive | `recv` into the worker's buffer until short or `EAGAIN`: `on_readable` |
//! | open | `openat2(RESOLVE_CACHED)` and `fstat` in the loop, else a job of the pool: `on_open` |
//! | read | `preadv2(RWF_NOWAIT)` in the loop, else a job of the pool: `on_read` |
//! | send | under 32 KiB: `preadv2(RWF_NOWAIT)` behind the head and one `send`; more: the head, and `sendfile` of what is in the page cache; the rest is a job of the pool, whose thread waits for the file, but not for the client: `on_send`, `on_sent`, `on_writable` |
//! | close | `close` |
//! | deadlines | a timer wheel |
//!
//! # The cost
//!
//! Threads: one per worker, up to 64 that wait for files. System calls of a request on a warm connection: `recv`,
//! `openat2`, `fstat`, `preadv2`, `send`, `close`, and its part of an `epoll_wait`; from the file cache, `recv` and
//! `send` alone. Copies: page cache to buffer, buffer to socket; none by `sendfile`. Memory: about a hundred
//! bytes per idle client; a receive and a send buffer per worker.
//!
//! `sendfile` can't be told not to wait for a disk. Before each portion (up to 2 MiB) one byte in 128 KiB is asked for
//! with `RWF_NOWAIT`, so the loop waits for a disk only if a page in between was evicted and its neighbours weren't.
//!
//! # Optimizations you can disable
//!
//! For comparison, chosen when the loop starts: `--tune=level-triggered` registers a client for what it waits for and
//! modifies that; `--tune=always-pool` opens and sends every file in the pool; `--tune=loop-reads` opens and reads every file
//! in the loop, and every client waits for the disk then; `--copy=read` copies large files, too, through the worker's
//! buffer.
//!
//! # The least kernel
//!
//! 5.6 (`openat2`). From 5.12 on (`RESOLVE_CACHED`) cached names are opened in the loop; before, the pool opens
//! them all.

#![forbid(unsafe_code)]

mod client;
mod page_cache;
mod poller;
mod server;

use common::service::cli::{Io, Model};

pub use server::serve;

/// The model. A worker's descriptors: the poller, events of the pool and of cached files, and the bell that tells of
/// places.
pub const MODEL: Model = Model {
    io: Io::Epoll,
    worker_descriptors: 4,
    available: || Ok(()),
    serve: |listeners, service, ready| serve(listeners, service, ready),
};
