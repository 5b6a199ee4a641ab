//! The `blocking` server: a thread per connection, textbook system calls.
//!
//! **Waiting is blocking.** A worker accepts; each connection has a thread of its own, which reads a request,
//! opens the file, sends the answer, and begins again. Where a call has nothing to do the kernel puts the
//! thread to sleep: a slow client or a slow disk holds up its own thread and nobody else.
//!
//! | stage | what it does |
//! |---|---|
//! | accept | `accept4`, then a thread |
//! | receive | `recv`; deadlines are the socket's `SO_RCVTIMEO` |
//! | open | `openat2`, `fstat` |
//! | send | `send` for the head, then `sendfile` (or `pread` and `send`); `SO_SNDTIMEO` |
//! | finish | `close`, and the thread ends |
//!
//! What it costs: a thread for each connection, with its stack (two memory mappings, some KiB of it touched)
//! and two context switches for each wait; six system calls for a small file, two for one from the
//! file cache. No copy of file bytes in
//! user space with `sendfile`, one with `--copy=read`. Linux 5.6, for `openat2(2)`.

#![forbid(unsafe_code)]

mod clients;
mod server;

pub use server::serve;
