//! From trials to verdicts.

pub(crate) mod compare;
pub(crate) mod figures;
pub(crate) mod measure;
pub mod stats;
pub(crate) mod verdict;
