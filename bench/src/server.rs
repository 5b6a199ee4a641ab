//! Servers under test: processes of their own, let in, watched and stopped.
//!
//! [`catalogue`] is the list of them, [`target`] what each is; [`process`] starts one, and [`serve`] is that
//! start seen from inside. [`cost`], [`calls`] and [`memory`] are what is read from outside while it runs,
//! [`gate`] what it has to do before it is timed.

pub mod availability;
pub mod calls;
pub mod catalogue;
pub(crate) mod congestion;
mod constant;
pub(crate) mod cost;
pub mod cpu_time;
mod ending;
pub mod gate;
#[cfg(feature = "hyper")]
mod hyper;
pub(crate) mod memory;
mod order;
mod peer;
pub mod process;
pub mod serve;
pub mod target;
mod tree;
