//! The service: what makes a program of a server. Endpoints, workers, deadlines, draining, counters, the log, the
//! command line. Nothing here knows HTTP's grammar.

pub mod admin;
pub mod cli;
pub mod config;
pub mod current_site;
pub mod endpoint;
pub mod idles;
pub mod inherited;
pub mod keeper_counts;
pub mod listen;
pub mod log;
pub mod places;
pub mod pool;
mod say;
pub mod shared;
pub mod shutdown;
pub mod slots;
pub mod socket;
pub mod socket_path;
pub mod start;
pub mod stats;
pub mod tune;
mod variables;
pub mod wheel;
pub mod worker;
pub mod workers;
