//! What server and client run on, and what else goes on there.

pub mod disturbance;
pub mod environment;
pub mod placement;
