//! From trials to verdicts.

pub mod stats;
pub mod verdict;
