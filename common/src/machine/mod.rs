//! The step machine: HTTP decides, the backend moves bytes.
//!
//! A [`Connection`](connection::Connection) does no I/O. Its backend reports what has happened and carries out the
//! [`Step`](step::Step) that is next. Between the two, an `exchange` connects a `reader` of requests with a
//! `responder`; what is to be sent waits as [`chunks`].

pub mod chunks;
pub mod connection;
pub mod context;
pub mod drain;
mod exchange;
pub mod latencies;
pub mod notice;
mod outgoing;
pub mod peer;
pub mod progress;
pub mod proxies;
mod reader;
pub mod record;
mod responder;
pub mod step;
mod timing;
