//! `echo`: bytes come back.

use super::output::Output;

/// Sends the bytes back. The connection always stays open.
pub(super) fn received(bytes: &[u8], output: &mut Output) -> bool {
    output.push(bytes);
    true
}
