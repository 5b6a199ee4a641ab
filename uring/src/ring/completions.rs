//! Decodes completions and matches them to their operations.

use std::io;

use common::Token;
use io_uring::cqueue;

use super::{Completion, Cqe, MESSAGES_MAX, Ring};
use crate::buffers::Received;
use crate::operation::{InFlight, Memory, Operation};

impl Ring {
    /// The next completion collected by the last [`submit_and_wait`](Ring::submit_and_wait).
    pub fn completion(&mut self) -> Option<Completion> {
        while let Some(cqe) = self.batch.pop_front() {
            if let Some(completion) = self.complete(cqe) {
                return Some(completion);
            }
        }
        None
    }

    /// Decodes a completion and finds its operation.
    fn complete(&mut self, cqe: Cqe) -> Option<Completion> {
        let operation = Operation::of(cqe.user_data)?;
        let place = Token::from_u64(cqe.user_data);
        let armed = cqueue::more(cqe.flags);
        match operation {
            Operation::Accept => {
                let result = cqe.descriptor();
                let token = self.land(place, armed)?;
                Some(Completion::Accepted { token, result, armed })
            }
            Operation::Receive => {
                let result = self.received(cqe);
                let token = self.land(place, armed)?;
                Some(Completion::Received { token, result, armed })
            }
            Operation::ReceiveOnce => {
                let InFlight { token, memory } = self.in_flight.remove(place)?;
                let Memory::ReceiveOnce { bytes, .. } = memory else { return None };
                let result = cqe.count().map(|length| self.single_buffers.received(bytes, length));
                Some(Completion::Received {
                    token,
                    result: result.map(|buffer| buffer.map(Received::Single)),
                    armed,
                })
            }
            Operation::Send => self.sent(place, cqe.count()),
            Operation::Read => self.on_read(place, cqe.count()),
            Operation::ReadFirst => self.on_read_first(place, cqe.count()),
            Operation::Open => {
                let result = cqe.descriptor();
                let InFlight { token, memory } = self.in_flight.remove(place)?;
                let Memory::Open { request, .. } = memory else { return None };
                Some(Completion::Opened { token, request, result })
            }
            Operation::Poll => Some(Completion::Polled { token: self.land(place, armed)? }),
            // Reported only if there was nothing to cancel, or if a close failed, which frees the descriptor all the
            // same (close(2)).
            Operation::Close | Operation::Cancel => None,
        }
    }

    /// The token of an operation. Removes the operation from the table unless it stays armed.
    fn land(&mut self, place: Token, armed: bool) -> Option<Token> {
        if armed {
            return self.in_flight.get(place).map(|in_flight| in_flight.token);
        }
        self.in_flight.remove(place).map(|in_flight| in_flight.token)
    }

    fn received(&mut self, cqe: Cqe) -> io::Result<Option<Received>> {
        if cqe.result == -libc::ENOBUFS {
            self.receive_buffers.grow();
        }
        let length = usize::try_from(cqe.result).unwrap_or(0);
        let buffer = cqueue::buffer_select(cqe.flags).map(|id| self.receive_buffers.take(id, length));
        cqe.value()?;
        Ok(buffer.filter(|_| length > 0).map(Received::Provided))
    }

    /// Handles a READ: one without a SEND, or one that failed or fell short before its SEND.
    fn on_read(&mut self, place: Token, result: io::Result<usize>) -> Option<Completion> {
        match self.in_flight.get_mut(place)? {
            InFlight { memory: Memory::Read { .. }, .. } => {
                let InFlight { token, memory } = self.in_flight.remove(place)?;
                let Memory::Read { mut bytes, .. } = memory else { return None };
                let result = result.map(|count| {
                    bytes.truncate(count);
                    bytes
                });
                Some(Completion::Read { token, result })
            }
            InFlight { memory: Memory::Pair { buffer, .. }, .. } => {
                let body_bytes = buffer.body().len();
                if result.as_ref().is_ok_and(|count| *count == body_bytes) {
                    // A success completion that was not skipped: the send is in flight and still needs the buffer.
                    return None;
                }
                self.send_short(place, result)
            }
            // The read of a torn chain: wait for its send to fail.
            _ => None,
        }
    }

    /// Handles a READ whose SEND hasn't been submitted yet.
    fn on_read_first(&mut self, place: Token, result: io::Result<usize>) -> Option<Completion> {
        let InFlight { memory: Memory::Pair { buffer, .. }, .. } = self.in_flight.get_mut(place)? else {
            return None;
        };
        let body_bytes = buffer.body().len();
        if result.as_ref().is_ok_and(|count| *count == body_bytes) && self.send_rest(place) {
            return None;
        }
        self.send_short(place, result)
    }

    /// The file ended early, or can't be read. Its linked SEND was cancelled without a completion, so what was read is
    /// sent here; if that is nothing, the pair is over.
    fn send_short(&mut self, place: Token, result: io::Result<usize>) -> Option<Completion> {
        let InFlight { token, memory: Memory::Pair { buffer, .. } } = self.in_flight.get_mut(place)? else {
            return None;
        };
        let token = *token;
        if let Ok(count) = result
            && count > 0
        {
            buffer.shorten(count);
            if self.send_rest(place) {
                return None;
            }
        }
        self.retire(place);
        Some(Completion::ReadShort { token })
    }

    /// Ends an operation and returns its memory to its pool.
    pub(super) fn retire(&mut self, place: Token) {
        match self.in_flight.remove(place).map(|in_flight| in_flight.memory) {
            Some(Memory::Pair { buffer, .. }) => self.read_buffers.give_back(buffer),
            Some(Memory::Message { mut message, .. }) if self.messages.len() < MESSAGES_MAX => {
                message.clear();
                self.messages.push(message);
            }
            Some(_) | None => {}
        }
    }
}
