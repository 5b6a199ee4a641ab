//! The null servers: a constant from memory for every request, nothing parsed, no file, no log, no limit.
//!
//! What they cost is what the client, the kernel and the mechanism cost: no server of that mechanism can cost
//! less. A request ends where an empty line ends what has arrived. That holds as long as no client sends a
//! second request before it has the answer to the first, and none sends a body.

mod epoll;
mod uring;

use crate::server::target::Mechanism;
use std::io;
use std::net::TcpListener;

/// The empty line that ends a request.
const EMPTY_LINE: [u8; 4] = *b"\r\n\r\n";

/// Sends `answer` to every request for as long as the process lives.
pub(crate) fn serve(mechanism: Mechanism, listener: TcpListener, answer: Vec<u8>) -> io::Result<()> {
    match mechanism {
        Mechanism::Epoll => epoll::serve(listener.into(), answer),
        Mechanism::Uring => uring::serve(listener.into(), answer),
    }
}

/// Finds the end of a request by its last four bytes.
#[derive(Clone, Copy, Debug, Default)]
struct RequestEnd {
    last: [u8; EMPTY_LINE.len()],
}

impl RequestEnd {
    /// Whether these bytes complete a request.
    fn comes_with(&mut self, bytes: &[u8]) -> bool {
        if let Some(last) = bytes.last_chunk() {
            self.last = *last;
        } else {
            self.last.rotate_left(bytes.len());
            let kept = self.last.len() - bytes.len();
            self.last[kept..].copy_from_slice(bytes);
        }
        self.last == EMPTY_LINE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_ends_however_it_is_cut() {
        let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        for cut in 0..=request.len() {
            let mut end = RequestEnd::default();
            let (first, second) = request.split_at(cut);
            assert_eq!(end.comes_with(first), cut == request.len(), "cut at {cut}");
            assert!(end.comes_with(second), "cut at {cut}");
        }
        let mut end = RequestEnd::default();
        let ends = request.iter().filter(|byte| end.comes_with(&[**byte])).count();
        assert_eq!(ends, 1);
    }
}
