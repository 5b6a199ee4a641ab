//! Servers under test, in processes of their own.
//!
//! [`catalogue`] lists them, [`target`] says what each is. [`process`] starts one; [`serve`] is that start
//! seen from inside. [`gate`] is what a server has to pass before it is timed. `cost`, [`calls`] and
//! `memory` are read from outside while it runs.

pub mod availability;
pub(crate) mod built;
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
pub(crate) mod install;
pub(crate) mod memory;
mod order;
mod peer;
pub mod process;
mod roster;
pub mod seat;
pub mod serve;
mod shelf;
pub mod target;
mod tree;
