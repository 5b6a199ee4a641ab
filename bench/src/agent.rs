//! Load from other machines: `bench agent` there, and the harness here that tells it what to do.
//!
//! An agent listens, and works for one harness at a time. That way round one agent serves many runs, and neither side
//! has to open more than one port. The conversation is a line of JSON each way (`message`), of bounded length
//! (`lines`). It begins with the agent's greeting: the version of the protocol, a digest of the sources that make the
//! load, and a challenge that only who knows the token can answer (`token`). After that the harness measures how the
//! agent's clock differs from its own, hands out the classes of connections, and names a moment to begin ([`fleet`]).
//!
//! An agent is no weapon: it gives load only to addresses that its owner has allowed, by default those of private
//! networks, and has bounds for connections, rate and time (`permit`). A harness that is gone stops the load.
//!
//! The conversation isn't encrypted, and the token protects only its beginning: agents are for networks that one trusts.

pub mod fleet;
mod lines;
pub mod listen;
pub(crate) mod message;
pub(crate) mod outcome;
mod permit;
pub mod token;
