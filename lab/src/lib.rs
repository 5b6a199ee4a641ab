//! The lab: twelve ways to wait for many connections, one file each.
//!
//! The [`rungs`] differ only in how they wait. They all drive the same [`services`], which do no I/O, and have the
//! same functions in the same order, so that any two files can be read side by side:
//!
//! | function | what it does |
//! |---|---|
//! | `serve` | sets up what the rung waits with, and waits until the server ends |
//! | `accept` | takes connections from the listener |
//! | `on_accept` | adds one of them |
//! | `on_readable` | receives bytes for the connection; `on_received` where the kernel receives |
//! | `on_writable` | sends the connection's output; `on_sent` where the kernel sends |
//! | `close` | ends a connection |
//!
//! Start with [`services`], then read `rungs/thread.rs`, `rungs/epoll_level.rs` and `rungs/epoll_edge.rs`.

#![forbid(unsafe_code)]

mod bell;
pub mod cli;
mod client;
mod limits;
mod pause;
pub mod rungs;
pub mod services;
mod setup;
pub mod show;
mod stats;

pub use bell::{Bell, End};
pub use client::{Client, Received};
pub use limits::{Limit, raise_descriptors};
pub use pause::Pause;
pub use setup::{Setup, listen_on};
pub use stats::{Reading, Stats};
