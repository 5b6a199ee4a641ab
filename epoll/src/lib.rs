//! Triptych's `epoll`: an edge-triggered event loop with a pool of threads for what the page cache doesn't hold.
//!
//! # The model
//!
//! A worker is one thread with a listener and an epoll instance of its own, and thousands of clients. Waiting
//! is *returning*: a function does what can be done at once, notes what its client waits for, and returns to
//! the loop; an edge brings the client back. The price is that nobody may ever wait in the loop, and a file
//! has no edges: epoll(7) refuses regular files, and poll(2) calls each of them ready, even when its bytes are
//! on a disk that takes ten milliseconds. So the loop asks for what is in memory only (`RESOLVE_CACHED` for
//! names, `RWF_NOWAIT` for contents), and whatever is missing goes to a pool of threads, whose one task is to
//! wait.
//!
//! # The stages
//!
//! | stage | here |
//! |---|---|
//! | listen | one `SO_REUSEPORT` socket per worker and address |
//! | accept | [`accept4`](https://man7.org/linux/man-pages/man2/accept4.2.html) until `EAGAIN`, bounded; a turn at once, since its request has often come with it; if it stays, registered `IN\|OUT\|RDHUP\|ET` once, never modified |
//! | receive | `recv` into the worker's buffer until short or `EAGAIN`: `on_readable` |
//! | open | `openat2(RESOLVE_CACHED)` and `fstat` in the loop, else a job of the pool: `on_opened` |
//! | send | under 32 KiB: `preadv2(RWF_NOWAIT)` behind the head and one `send`; more: the head, and `sendfile` of what is cached: `send_response`, `on_writable`; what is not cached is a job of the pool: `on_read` |
//! | finish | the next step, or a note what the client waits for |
//!
//! # The cost
//!
//! Threads: one per worker, two to 32 for the disk. System calls of a request on a warm connection: `recv`,
//! `openat2`, `fstat`, `preadv2`, `send`, `close`, and its part of an `epoll_wait`; from the file cache, `recv` and
//! `send` alone. Copies: page cache to buffer, buffer to socket; none by `sendfile`. Memory: about a hundred
//! bytes per idle client; a receive and a send buffer per worker; for cold files up to 64 buffers of 256 KiB,
//! made when they are needed.
//!
//! `sendfile` can't be told not to wait for a disk. Before each portion (up to 2 MiB) one byte in 128 KiB is asked for with
//! `RWF_NOWAIT`, so the loop waits for a disk only if a page in between was driven out and its neighbours
//! weren't.
//!
//! # To do without
//!
//! For comparison, chosen when the loop starts: `--tune=level-triggered` registers a client for what it waits for and
//! modifies that (`trigger.rs`); `--tune=always-pool` opens and reads every file in the pool; `--copy=read` reads larger
//! files into the buffer of the worker, too, and sends from there.
//!
//! # The least kernel
//!
//! 5.6 (`openat2`). From 5.12 on (`RESOLVE_CACHED`) cached names are opened in the loop; before, the pool opens
//! them all.

#![forbid(unsafe_code)]

mod accept;
mod client;
mod page_cache;
pub mod poller;
pub mod pool;
mod server;
mod trigger;

pub use server::serve;
