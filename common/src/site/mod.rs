//! The site: files opened beneath one directory, what is kept of them, and how their bytes are reached.
//!
//! [`root`] is the directory, [`open`] a request for one file of it, [`file`](mod@file) an open file. [`cache`] keeps what is
//! asked for again. [`files`] is what a worker uses of all this. Nothing here knows of connections.

pub mod cache;
pub mod file;
pub mod file_bytes;
pub mod files;
pub mod free_list;
mod listing;
pub mod open;
pub mod root;
pub mod sendfile;
