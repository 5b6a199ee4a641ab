//! HTTP: what a request says, and what an answer looks like. Pure: no files, no sockets, no clock.
//!
//! Reading: [`scan`], [`request`], [`target`], [`content`]. Deciding: [`conditional`], [`range`], [`plan`].
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
