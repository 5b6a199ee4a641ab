//! Servers under test: processes of their own, let in, watched and stopped.

pub mod congestion;
pub mod cpu_time;
pub mod gate;
pub mod serve;
pub mod target;
