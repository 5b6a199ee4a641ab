//! The site: files opened beneath one directory, what is kept of them, and how their bytes are reached.
//!
//! [`root`] is the directory, `addresses` what its pages are asked for by, [`open`] a request for one file of it, [`file`](mod@file) an open file, [`volume`] what may
//! be asked of the file system below it. [`cache`] keeps what is asked for again, [`variants`] makes it smaller. [`files`] is what a worker uses of all
//! this. Nothing here knows of connections.

pub(crate) mod addresses;
pub mod cache;
mod closer;
pub mod fault_log;
pub mod file;
pub mod file_bytes;
pub mod files;
pub mod free_list;
mod listing;
pub mod mounts;
pub mod open;
mod reserved;
pub mod residency;
pub mod root;
mod rule_files;
pub mod rules;
pub mod sendfile;
pub mod variants;
pub mod volume;
