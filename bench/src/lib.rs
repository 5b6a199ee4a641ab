//! The harness that compares Triptych's servers: a load engine, servers under test in processes of their own,
//! and the statistics.
//!
//! Reading order: [`run`] is a run from beginning to end, and [`run::trial`] what it repeats. [`server`] is
//! the process under test, from outside and from inside. [`load`] sends requests, [`agent`] from other machines. [`machine`] is what both
//! run on. `analysis` judges, [`record`] stores, [`report`] draws. [`claims`] holds what is said about I/O models
//! against a run, `race` shows servers live, and `website` writes the pages of `www` that tell of runs.
//!
//! METHODOLOGY.md has the method and its biases.
#![forbid(unsafe_code)]

pub mod agent;
pub mod analysis;
pub mod claims;
pub mod cli;
pub mod failure;
pub mod load;
pub mod load_cli;
pub mod machine;
pub(crate) mod nearest;
pub mod race;
pub mod random;
pub mod record;
pub mod report;
pub mod run;
pub mod selftest;
pub mod server;
pub(crate) mod terminal;
pub(crate) mod website;
