//! The load engine: asks, checks every answer, and says how long each took.

pub mod client;
mod connection;
pub mod fault;
pub mod request;
pub mod response;
