//! Tables, words and pictures.

pub mod chart;
pub mod summary;
pub mod svg;
pub mod wording;
