//! The HTTP core that Triptych's three servers share.
//!
//! HTTP decides, the backend moves bytes: [`connection::Connection`] is a state machine without I/O. Below
//! it are pure functions, each testable alone: [`request::parse_http_get`] reads a head,
//! [`target::resolve`] finds the path, [`plan::plan`] decides the answer, [`head`] builds its bytes.
//! Around it is what every server needs: a [`site`] to open files beneath, [`net`] to listen on,
//! [`shutdown`] to drain, [`stats`] and [`log`] to be seen, [`wheel`] and [`slots`] to keep connections in,
//! and [`cli`], which makes a program of a server.

#![forbid(unsafe_code)]

mod answer;
pub mod cache;
pub mod cli;
pub mod conditional;
pub mod config;
pub mod connection;
pub mod content;
pub mod date;
mod exchange;
pub mod file_bytes;
pub mod head;
mod listing;
pub mod log;
pub mod mime;
pub mod net;
pub mod plan;
pub mod range;
pub mod request;
pub mod scan;
pub mod sendfile;
pub mod service;
pub mod shutdown;
pub mod site;
pub mod slots;
pub mod spares;
pub mod start;
pub mod stats;
pub mod status;
pub mod target;
pub mod tune;
pub mod wheel;
pub mod worker;
pub mod workers;

pub use config::{CacheConfig, CacheLevel, Config, Copy};
pub use connection::{Close, Connection, FileRange, Send, Step};
pub use file_bytes::FileBytes;
pub use head::{build_404, build_ok_headers};
pub use mime::mime_for;
pub use net::{Listeners, listen_socket};
pub use request::parse_http_get;
pub use service::Service;
pub use shutdown::{Drain, Shutdown};
pub use site::{OpenRequest, Opened, SharedFile, Site, SiteOptions, Symlinks};
pub use slots::{Slots, Token};
pub use start::StartError;
pub use tune::Tune;
pub use wheel::Wheel;
pub use worker::Worker;
pub use workers::run_workers;
