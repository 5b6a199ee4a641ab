//! The load engine: sends requests, checks every answer, and records how long each took.
//!
//! Begin with [`engine`], the loop, and [`class`], which says what its connections do. Below it are a class
//! at work (`group`), the schedule of an open loop (`schedule`), one connection (`connection`) and the head
//! of an answer (`response`).

mod chunked;
pub mod class;
pub mod coding;
pub(crate) mod connection;
pub(crate) mod descriptors;
pub mod engine;
pub mod error;
pub(crate) mod group;
pub mod introduction;
pub mod outcome;
mod poll_pause;
mod poller;
pub(crate) mod probe;
mod remembered;
pub mod request;
pub mod response;
pub(crate) mod schedule;
mod timers;
pub mod traffic;
