//! HTTP parsing, decisions and response heads. Pure: no files, no sockets, no clock.
//!
//! Parsing: [`scan`], [`request`], [`target`], [`content`]. Decisions: [`conditional`], [`range`], [`plan`].
//! Writing: [`head`], [`status`], [`date`], [`mime`].

pub mod conditional;
pub mod content;
pub mod date;
mod digits;
pub mod head;
pub mod mime;
pub mod plan;
pub mod range;
pub mod request;
pub mod scan;
pub mod status;
pub mod target;
