//! The `blocking` server: a thread per connection, textbook system calls.
//!
//! **Waiting is blocking.** A worker accepts; each connection has a thread of its own, which receives a request, opens
//! the file, sends the answer, and starts over. A call that can't go on puts its thread to sleep, so a slow client or a
//! slow disk holds up one thread and nobody else.
//!
//! | stage | what it does |
//! |---|---|
//! | accept | `accept4`, then a thread |
//! | receive | `recv` |
//! | open | `openat2`, `fstat` |
//! | read | `pread`, for the cache |
//! | send | `send` for what is in memory, then `sendfile` (or `pread` and `send`) |
//! | close | `close`, and the thread ends |
//! | deadlines | the socket's `SO_RCVTIMEO` and `SO_SNDTIMEO` |
//!
//! What it costs: a thread for each connection, with its stack (two memory mappings, some KiB of it touched), and two
//! context switches for each wait; six system calls for a small file, two for one from the file cache. No copy of file
//! bytes in user space with `sendfile`, one with `--copy=read`. It needs Linux 5.6, for `openat2(2)`.

#![forbid(unsafe_code)]

mod clients;
mod server;

use common::service::cli::{Io, Model};

pub use server::serve;

/// The model. A worker's descriptors: events of cached files, and the bell that tells of places.
pub const MODEL: Model = Model {
    io: Io::Blocking,
    worker_descriptors: 2,
    available: || Ok(()),
    serve: |listeners, service, ready| serve(listeners, service, ready),
};
