//! HTTP parsing, decisions and response heads. Pure: no files, no sockets, no clock.
//!
//! Parsing: [`scan`], [`request`], [`target`], [`content`], [`view`], [`proxy_header`]. Decisions: [`accept_encoding`], [`conditional`],
//! [`range`], [`plan`]. Writing: [`head`], [`cors`], [`error_page`], [`markup`], [`status`], [`date`], [`mime`].

pub mod accept_encoding;
pub mod additions;
pub mod conditional;
pub mod content;
pub mod cors;
pub mod date;
pub(crate) mod digits;
pub mod error_page;
pub mod head;
pub mod markup;
pub mod mime;
pub mod plan;
pub mod proxy_header;
pub mod range;
pub mod request;
pub mod scan;
pub mod status;
pub mod target;
pub mod view;
