//! The probe: whether io_uring can be used here.

use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;

use common::Token;

use crate::refusal::Refusal;
use crate::ring::{Completion, Options, Ring};

/// Whether io_uring can be used here.
///
/// # Errors
/// One line: what forbids it, how to allow it, and what serves without it.
pub fn available() -> Result<(), String> {
    probe().map_err(|refusal| refusal.to_string())
}

/// Makes a ring and receives with it: a kernel that lacks the multishot receive says so only then.
pub(crate) fn probe() -> Result<(), Refusal> {
    let mut ring =
        Ring::new(&Options { submissions: 4, completions: 8, receive_buffers: 1, ..Options::default() })?;
    let (ours, theirs) = UnixStream::pair().map_err(Refusal::Setup)?;
    drop(theirs);
    ring.arm_recv(Token { slot: 0, generation: 0 }, &Rc::new(ours.into()));
    ring.submit_and_wait(Some(Duration::from_secs(1))).map_err(Refusal::Setup)?;
    match ring.completion() {
        Some(Completion::Received { result: Err(error), .. }) => Err(Refusal::Receive(error)),
        // The end of the stream, at once.
        Some(_) | None => Ok(()),
    }
}
