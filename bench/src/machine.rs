//! What server and client run on, and what else goes on there.

pub mod calm;
pub mod disturbance;
pub mod doctor;
pub mod environment;
pub mod placement;
pub mod slow_disk;
pub mod spin;
