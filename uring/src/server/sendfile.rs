//! Large files that the page cache holds: sent from the callback, without a copy.
//!
//! The ring can only copy a file, twice, or hand its `SPLICE` to a kernel thread. So the pages of a large file
//! that the page cache holds go to the socket by `sendfile(2)`, a system call for up to a megabyte. What waits
//! still waits in the ring: for a disk as a READ, because `sendfile` is only asked for what is in memory, and for
//! room in the socket as a POLL.

use std::sync::Arc;

use common::connection::Step;
use common::sendfile::{SENDFILE_BYTES_MIN, Sent, send_cached};
use common::slots::Token;
use rustix::io::Errno;

use super::Server;
use crate::client::Doing;
use crate::volumes::Reading;

impl Server {
    /// Where `--copy` says so.
    pub(super) fn send_nothing(&mut self, _token: Token) -> bool {
        false
    }

    /// Sends what the page cache holds of a large file, as far as the socket takes it. False if it isn't one, or
    /// if it has to be read.
    pub(super) fn send_cached(&mut self, token: Token) -> bool {
        let Some(client) = self.clients.get_mut(token) else { return false };
        let is_large = |step: Step<'_>| {
            let Step::Send(answer) = step else { return false };
            // What is left of a large file may be small.
            let is_under_way = answer.bytes().is_empty();
            answer.file.is_some_and(|range| is_under_way || range.length >= SENDFILE_BYTES_MIN as u64)
        };
        if !is_large(client.connection.step()) || !client.set_nonblocking(true) {
            return false;
        }
        let Step::Send(answer) = client.connection.step() else { return false };
        let Some(range) = answer.file else { return false };
        if self.volumes.reading(range.file) != Reading::Ring {
            return false;
        }
        client.file.get_or_insert_with(|| Arc::clone(range.file));
        match send_cached(&client.socket, answer.bytes(), &range) {
            Ok(Sent::Bytes { count, full: _ }) => client.connection.sent(&mut self.worker, count),
            Ok(Sent::Unready) => return false,
            Err(Errno::AGAIN | Errno::INTR) => {}
            Ok(Sent::Shorter) => client.connection.cut_short(&mut self.worker),
            Err(_) => client.connection.failed(&mut self.worker),
        }
        match client.connection.step() {
            // There is no room, or it is the others' turn: a POLL ends when there is, at once if there is now.
            Step::Send(_) => {
                self.ring.poll_room(token, &client.socket);
                client.doing = Doing::Sending;
            }
            Step::Receive => self.let_go_of_file(token),
            Step::Open(_) | Step::Load(_) | Step::Close(_) => self.start_response(token),
        }
        true
    }

    /// The socket has room, or there is an error that the next call will meet.
    pub(super) fn on_room(&mut self, token: Token) {
        self.landed(token, |_, _| {});
    }
}
