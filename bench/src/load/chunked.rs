//! The chunked transfer coding (RFC 9112 §7.1), for servers that send what they have coded without its length.

/// The longest line of a chunk's size or of a trailer.
const LINE_BYTES_MAX: usize = 4 * 1024;

/// What isn't a chunked body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotChunked;

enum State {
    /// Within the line of a size: the number so far, whether it has digits, and whether it is over.
    Size {
        value: u64,
        digits: bool,
        over: bool,
    },
    Data {
        left: u64,
    },
    /// The line's end behind a chunk.
    DataEnd,
    /// Lines behind the last chunk, up to an empty one.
    Trailer {
        empty: bool,
    },
    Done,
}

/// A body that comes in chunks.
pub(crate) struct Chunks {
    state: State,
    line_bytes: usize,
    body_bytes: u64,
}

impl Chunks {
    pub(crate) fn new() -> Chunks {
        Chunks { state: SIZE, line_bytes: 0, body_bytes: 0 }
    }

    /// The bytes of the body so far, without the frame.
    pub(crate) fn body_bytes(&self) -> u64 {
        self.body_bytes
    }

    pub(crate) fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Takes what has come, and passes what belongs to the body on to `on_body`.
    ///
    /// # Errors
    ///
    /// It can't be chunks, or goes on after the last one.
    pub(crate) fn take(
        &mut self,
        mut received: &[u8],
        mut on_body: impl FnMut(&[u8]),
    ) -> Result<(), NotChunked> {
        while let Some((&byte, rest)) = received.split_first() {
            if let State::Data { left } = &mut self.state {
                let count = usize::try_from(*left).unwrap_or(usize::MAX).min(received.len());
                let (body, rest) = received.split_at(count);
                on_body(body);
                self.body_bytes += count as u64;
                *left -= count as u64;
                if *left == 0 {
                    self.begin(State::DataEnd);
                }
                received = rest;
                continue;
            }
            self.line_byte(byte)?;
            received = rest;
        }
        Ok(())
    }

    fn line_byte(&mut self, byte: u8) -> Result<(), NotChunked> {
        self.line_bytes += 1;
        if self.line_bytes > LINE_BYTES_MAX {
            return Err(NotChunked);
        }
        match (&mut self.state, byte) {
            (State::Size { value: 0, digits: true, .. }, b'\n') => self.begin(State::Trailer { empty: true }),
            (State::Size { value, digits: true, .. }, b'\n') => {
                let left = *value;
                self.begin(State::Data { left });
            }
            (State::Size { digits: true, over, .. }, b'\r' | b';' | b' ' | b'\t') => *over = true,
            (State::Size { over: true, .. }, _) => {}
            (State::Size { value, digits, .. }, digit) => {
                let digit = char::from(digit).to_digit(16).ok_or(NotChunked)?;
                *value = value
                    .checked_mul(16)
                    .and_then(|value| value.checked_add(digit.into()))
                    .ok_or(NotChunked)?;
                *digits = true;
            }
            (State::DataEnd, b'\r') if self.line_bytes == 1 => {}
            (State::DataEnd, b'\n') => self.begin(SIZE),
            (State::Trailer { empty: true }, b'\n') => self.begin(State::Done),
            (State::Trailer { empty }, b'\n') => *empty = true,
            (State::Trailer { .. }, b'\r') => {}
            (State::Trailer { empty }, _) => *empty = false,
            (State::DataEnd | State::Data { .. } | State::Done, _) => return Err(NotChunked),
        }
        Ok(())
    }

    fn begin(&mut self, state: State) {
        (self.state, self.line_bytes) = (state, 0);
    }
}

const SIZE: State = State::Size { value: 0, digits: false, over: false };

#[cfg(test)]
mod tests {
    use super::*;

    fn body_of(received: &[u8], at_once: usize) -> Result<Option<Vec<u8>>, NotChunked> {
        let (mut chunks, mut body) = (Chunks::new(), Vec::new());
        for piece in received.chunks(at_once) {
            chunks.take(piece, |bytes| body.extend_from_slice(bytes))?;
        }
        assert_eq!(chunks.body_bytes(), body.len() as u64);
        Ok(chunks.is_done().then_some(body))
    }

    #[test]
    fn bodies_in_pieces_of_any_size() {
        let table: [(&str, &[u8], &[u8]); 4] = [
            ("nothing", b"0\r\n\r\n", b""),
            ("two chunks", b"5\r\nHello\r\n6\r\n, you!\r\n0\r\n\r\n", b"Hello, you!"),
            ("an extension, and upper case", b"B;name=\"v\"\r\nHello, you!\r\n00\r\n\r\n", b"Hello, you!"),
            ("a trailer", b"1\r\nx\r\n0\r\nDigest: y\r\nA: b\r\n\r\n", b"x"),
        ];
        for (name, received, body) in table {
            for at_once in 1..=received.len() {
                assert_eq!(body_of(received, at_once), Ok(Some(body.to_vec())), "{name}, {at_once} at once");
                let cut = &received[..received.len() - 1];
                assert_eq!(body_of(cut, at_once), Ok(None), "{name}, cut short, {at_once} at once");
            }
        }
    }

    #[test]
    fn what_is_no_chunk() {
        let long = [b"5;".as_slice(), &[b'x'; LINE_BYTES_MAX]].concat();
        let table: [(&str, &[u8]); 7] = [
            ("no size", b"\r\nHello"),
            ("no number", b"five\r\nHello"),
            ("signed", b"+5\r\nHello"),
            ("over u64", b"11111111111111111\r\n"),
            ("more than the size", b"5\r\nHello, you\r\n"),
            ("more than the body", b"0\r\n\r\nH"),
            ("an endless line", &long),
        ];
        for (name, received) in table {
            assert_eq!(body_of(received, 3), Err(NotChunked), "{name}");
        }
    }
}
