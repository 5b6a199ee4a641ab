//! What server and client run on, and what else goes on there.

pub mod disturbance;
pub(crate) mod doctor;
pub(crate) mod environment;
pub mod placement;
pub(crate) mod slow_disk;
pub(crate) mod spin;
pub(crate) mod threads;
