//! The load engine: asks, checks every answer, and says how long each took.
//!
//! [`engine`] is the loop and the place to begin; [`class`] says what its connections do. Below it are a class
//! at work (`group`), the arrivals of an open loop (`schedule`), one connection (`connection`) and the head of
//! an answer ([`response`]).

pub mod class;
mod connection;
mod descriptors;
pub mod engine;
pub mod error;
pub(crate) mod group;
pub mod outcome;
mod poll_pause;
pub(crate) mod probe;
pub mod request;
pub mod response;
pub(crate) mod schedule;
mod timers;
mod waiting;
