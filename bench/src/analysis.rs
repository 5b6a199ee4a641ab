//! From trials to verdicts.

pub mod compare;
pub mod figures;
pub mod measure;
pub mod stats;
pub mod verdict;
