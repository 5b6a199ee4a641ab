//! The harness that compares Triptych's servers: a load engine, servers under test in processes of their own,
//! and what makes numbers out of it that can be believed.
//!
//! Reading order: [`run`] is a run from beginning to end; [`trial`] is what happens in it again and again;
//! [`target`] and [`serve`] are the server's process, seen from outside and from inside; [`client`] asks.
//! [`stats`] and [`verdict`] judge, [`record`] keeps, [`summary`] and [`chart`] show.
//!
//! The method, and what is wrong with it, is in METHODOLOGY.md.
#![forbid(unsafe_code)]

pub mod cell;
pub mod chart;
pub mod client;
pub mod congestion;
mod connection;
pub mod corpus;
pub mod cpu_time;
pub mod disturbance;
pub mod environment;
pub mod failure;
pub mod fault;
pub mod gate;
pub mod placement;
pub mod plan;
pub mod progress;
pub mod random;
pub mod record;
pub mod request;
pub mod response;
pub mod run;
pub mod serve;
pub mod stats;
pub mod summary;
pub mod svg;
pub mod target;
pub mod trial;
pub mod verdict;
pub mod wording;
