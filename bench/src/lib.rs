//! The harness that compares Triptych's servers: a load engine, servers under test in processes of their own,
//! and what makes numbers out of it that can be believed.
//!
//! Reading order: [`run`] is a run from beginning to end, and [`run::trial`] what happens in it again and again;
//! [`server`] is the process under test, from outside and from inside; [`load`] asks; [`machine`] is what both
//! stand on. [`analysis`] judges, [`record`] keeps, [`report`] shows.
//!
//! The method, and what is wrong with it, is in METHODOLOGY.md.
#![forbid(unsafe_code)]

pub mod analysis;
pub mod cli;
pub mod failure;
pub mod load;
pub mod load_cli;
pub mod machine;
pub mod random;
pub mod record;
pub mod report;
pub mod run;
pub mod selftest;
pub mod server;
