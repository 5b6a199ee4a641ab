//! The claims of the texts behind this project, each with an experiment and a verdict.
//!
//! A claim is data (`bench/claims.toml`): what is said, what would refute it, and the rules for its verdict, all written
//! down before the run. `book` reads them. `evidence` finds what a run measured, `judge` holds it against the rules,
//! and `verdict` makes one verdict of a claim's findings. `chapter` is what a run keeps of it in its folder, and
//! `command` is `bench claims`.

pub(crate) mod book;
pub(crate) mod bound;
pub(crate) mod chapter;
pub mod command;
pub(crate) mod evidence;
pub(crate) mod field;
pub(crate) mod judge;
pub(crate) mod nearest;
pub(crate) mod quantity;
pub(crate) mod rule;
pub(crate) mod verdict;
pub(crate) mod wording;
pub(crate) mod wrk;

#[cfg(test)]
mod tests;
