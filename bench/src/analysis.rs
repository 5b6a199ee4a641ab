//! From trials to verdicts.

pub(crate) mod compare;
mod contrast;
pub(crate) mod figures;
pub(crate) mod grid;
pub(crate) mod measure;
pub(crate) mod reading;
pub mod simulation;
pub mod stats;
mod student;
pub(crate) mod verdict;
