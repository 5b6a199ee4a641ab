//! `echo`: bytes come back.

use super::output::Output;

/// Sends the bytes back. The client may always go on.
pub(super) fn received(bytes: &[u8], output: &mut Output) -> bool {
    output.push(bytes);
    true
}
