//! Request content: read and discarded, so that the connection can be reused.
//!
//! None of the supported methods defines a meaning for content. It is still parsed strictly (RFC 9112 §7.1), because
//! the next request starts where it ends.

use crate::http::request::Framing;
use crate::http::status::Status;

/// Longer content is refused with 413.
pub const CONTENT_BYTES_MAX: u64 = 1 << 20;
/// A longer chunk-size line, extensions included, is refused with 400.
pub const CHUNK_LINE_BYTES_MAX: usize = 256;
/// More trailer bytes than this are refused with 431.
pub const TRAILER_BYTES_MAX: usize = 8 * 1024;

/// The part of a request's content that hasn't arrived yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Content {
    total: u64,
    awaits: Awaits,
}

/// What the next byte should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaits {
    Nothing,
    Data {
        left: u64,
    },
    ChunkSize {
        size: u64,
        digits: usize,
    },
    /// Blanks after the chunk size, up to a semicolon.
    ChunkBlank {
        size: u64,
        bytes: usize,
    },
    ChunkExtension {
        size: u64,
        bytes: usize,
    },
    ChunkLineFeed {
        size: u64,
    },
    ChunkData {
        left: u64,
    },
    ChunkDataCarriageReturn,
    ChunkDataLineFeed,
    TrailerLineStart {
        bytes: usize,
    },
    Trailer {
        bytes: usize,
    },
    TrailerLineFeed {
        bytes: usize,
    },
    LastLineFeed,
}

const FIRST_CHUNK: Awaits = Awaits::ChunkSize { size: 0, digits: 0 };

impl Content {
    /// Content with the given framing.
    ///
    /// # Errors
    /// 413 if the announced length exceeds [`CONTENT_BYTES_MAX`].
    pub fn new(framing: Framing) -> Result<Content, Status> {
        let awaits = match framing {
            Framing::Length(length) if length > CONTENT_BYTES_MAX => {
                return Err(Status::ContentTooLarge);
            }
            Framing::Length(0) => Awaits::Nothing,
            Framing::Length(left) => Awaits::Data { left },
            Framing::Chunked => FIRST_CHUNK,
        };
        Ok(Content { total: 0, awaits })
    }

    /// Whether all of the content has been discarded.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.awaits == Awaits::Nothing
    }

    /// Discards the content at the start of `bytes` and returns its length in bytes.
    ///
    /// # Errors
    /// 400 for malformed chunks, 413 or 431 when a limit is exceeded.
    pub fn advance(&mut self, bytes: &[u8]) -> Result<usize, Status> {
        let mut used = 0;
        while used < bytes.len() && !self.is_complete() {
            used += self.drop_some(&bytes[used..])?;
        }
        Ok(used)
    }

    /// Discards the next run of data, or the next byte of framing.
    fn drop_some(&mut self, bytes: &[u8]) -> Result<usize, Status> {
        let run = |left: u64| usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        match self.awaits {
            Awaits::Nothing => Ok(0),
            Awaits::Data { left } => {
                let taken = run(left);
                let left = left - taken as u64;
                self.awaits = if left == 0 { Awaits::Nothing } else { Awaits::Data { left } };
                Ok(taken)
            }
            Awaits::ChunkData { left } => {
                let taken = run(left);
                let left = left - taken as u64;
                self.awaits =
                    if left == 0 { Awaits::ChunkDataCarriageReturn } else { Awaits::ChunkData { left } };
                Ok(taken)
            }
            framing => {
                self.awaits = self.after(framing, bytes[0])?;
                Ok(1)
            }
        }
    }

    /// The state after one byte of chunked framing.
    fn after(&mut self, awaits: Awaits, byte: u8) -> Result<Awaits, Status> {
        const BAD: Result<Awaits, Status> = Err(Status::BadRequest);
        match (awaits, byte) {
            (Awaits::ChunkSize { size, digits }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = char::from(byte).to_digit(16).map_or(0, u64::from);
                if digits == 16 {
                    return BAD;
                }
                Ok(Awaits::ChunkSize { size: size << 4 | digit, digits: digits + 1 })
            }
            (Awaits::ChunkSize { digits: 0, .. }, _) => BAD,
            (
                Awaits::ChunkSize { size, .. }
                | Awaits::ChunkBlank { size, .. }
                | Awaits::ChunkExtension { size, .. },
                b'\r',
            ) => Ok(Awaits::ChunkLineFeed { size }),
            (Awaits::ChunkSize { size, .. }, b';') => Ok(Awaits::ChunkExtension { size, bytes: 1 }),
            (Awaits::ChunkSize { size, .. }, b' ' | b'\t') => Ok(Awaits::ChunkBlank { size, bytes: 1 }),
            (Awaits::ChunkBlank { size, bytes }, b';') => {
                Ok(Awaits::ChunkExtension { size, bytes: bytes + 1 })
            }
            (Awaits::ChunkBlank { size, bytes }, b' ' | b'\t') if bytes < CHUNK_LINE_BYTES_MAX => {
                Ok(Awaits::ChunkBlank { size, bytes: bytes + 1 })
            }
            (Awaits::ChunkSize { .. }, _) => BAD,
            (Awaits::ChunkExtension { size, bytes }, b'\t' | b' '..=b'~' | 0x80..)
                if bytes < CHUNK_LINE_BYTES_MAX =>
            {
                Ok(Awaits::ChunkExtension { size, bytes: bytes + 1 })
            }
            (Awaits::ChunkLineFeed { size: 0 }, b'\n') => Ok(Awaits::TrailerLineStart { bytes: 0 }),
            (Awaits::ChunkLineFeed { size }, b'\n') => self.begin_chunk(size),
            (Awaits::ChunkDataCarriageReturn, b'\r') => Ok(Awaits::ChunkDataLineFeed),
            (Awaits::ChunkDataLineFeed, b'\n') => Ok(FIRST_CHUNK),
            (Awaits::TrailerLineStart { .. }, b'\r') => Ok(Awaits::LastLineFeed),
            (
                Awaits::TrailerLineStart { bytes: TRAILER_BYTES_MAX.. }
                | Awaits::Trailer { bytes: TRAILER_BYTES_MAX.. },
                _,
            ) => Err(Status::RequestHeaderFieldsTooLarge),
            (Awaits::Trailer { bytes }, b'\r') => Ok(Awaits::TrailerLineFeed { bytes: bytes + 1 }),
            (Awaits::TrailerLineStart { bytes }, b'!'..=b'~')
            | (Awaits::Trailer { bytes }, b'\t' | b' '..=b'~' | 0x80..) => {
                Ok(Awaits::Trailer { bytes: bytes + 1 })
            }
            (Awaits::TrailerLineFeed { bytes }, b'\n') => Ok(Awaits::TrailerLineStart { bytes }),
            (Awaits::LastLineFeed, b'\n') => Ok(Awaits::Nothing),
            (
                Awaits::ChunkBlank { .. }
                | Awaits::ChunkExtension { .. }
                | Awaits::ChunkLineFeed { .. }
                | Awaits::ChunkDataCarriageReturn
                | Awaits::ChunkDataLineFeed
                | Awaits::TrailerLineStart { .. }
                | Awaits::Trailer { .. }
                | Awaits::TrailerLineFeed { .. }
                | Awaits::LastLineFeed
                | Awaits::Nothing
                | Awaits::Data { .. }
                | Awaits::ChunkData { .. },
                _,
            ) => BAD,
        }
    }

    fn begin_chunk(&mut self, size: u64) -> Result<Awaits, Status> {
        self.total = self.total.saturating_add(size);
        if self.total > CONTENT_BYTES_MAX {
            return Err(Status::ContentTooLarge);
        }
        Ok(Awaits::ChunkData { left: size })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The content's length in bytes, or the refusal. Checks that the result doesn't depend on how the bytes are split.
    fn length(framing: Framing, bytes: &[u8]) -> Option<Result<usize, u16>> {
        let once = run(framing, bytes, bytes.len().max(1));
        for step in [1, 2, 3, 7] {
            assert_eq!(run(framing, bytes, step), once, "split every {step} bytes: {}", bytes.escape_ascii());
        }
        once
    }

    fn run(framing: Framing, bytes: &[u8], step: usize) -> Option<Result<usize, u16>> {
        let mut content = match Content::new(framing) {
            Ok(content) => content,
            Err(status) => return Some(Err(status.code())),
        };
        let mut used = 0;
        for piece in bytes.chunks(step) {
            match content.advance(piece) {
                Ok(taken) => used += taken,
                Err(status) => return Some(Err(status.code())),
            }
        }
        content.is_complete().then_some(Ok(used))
    }

    #[test]
    fn content_by_length() {
        assert_eq!(length(Framing::Length(0), b"GET"), Some(Ok(0)));
        assert_eq!(length(Framing::Length(5), b"helloGET"), Some(Ok(5)));
        assert_eq!(length(Framing::Length(5), b"hell"), None);
        assert_eq!(length(Framing::Length(CONTENT_BYTES_MAX + 1), b""), Some(Err(413)));
    }

    #[test]
    fn content_in_chunks() {
        let long_extension = format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(CHUNK_LINE_BYTES_MAX));
        let long_trailer = format!("0\r\nA: {}\r\n\r\n", "x".repeat(TRAILER_BYTES_MAX));
        for (bytes, expected) in [
            ("0\r\n\r\nGET", Some(Ok(5))),
            ("5\r\nhello\r\n0\r\n\r\n", Some(Ok(15))),
            ("0005\r\nhello\r\n1;a=b\r\n!\r\n0\r\nTrailer: x\r\n\r\nGET", Some(Ok(40))),
            ("A\r\n0123456789\r\na \r\n0123456789\r\n0\r\n\r\n", Some(Ok(36))),
            ("5\r\nhello\r\n0\r\n", None),
            ("5\r\nhel", None),
            ("\r\n", Some(Err(400))),
            ("g\r\n", Some(Err(400))),
            ("-1\r\n", Some(Err(400))),
            ("0x1\r\n", Some(Err(400))),
            (" 1\r\n", Some(Err(400))),
            ("5 0\r\nhello", Some(Err(400))),
            ("5 ;a\r\nhello\r\n0\t\r\n\r\n", Some(Ok(19))),
            ("1\na", Some(Err(400))),
            ("1\r\na\n", Some(Err(400))),
            ("1\r\nab", Some(Err(400))),
            ("1\rx", Some(Err(400))),
            ("1;a\nb\r\n", Some(Err(400))),
            ("0\r\nA: b\n", Some(Err(400))),
            ("0\r\n A: b\r\n", Some(Err(400))),
            ("0\r\n\rx", Some(Err(400))),
            ("00000000000000001\r\n", Some(Err(400))),
            ("ffffffffffffffff\r\n", Some(Err(413))),
            ("100001\r\n", Some(Err(413))),
            (&long_extension, Some(Err(400))),
            (&long_trailer, Some(Err(431))),
        ] {
            assert_eq!(length(Framing::Chunked, bytes.as_bytes()), expected, "{}", bytes.escape_debug());
        }
    }

    #[test]
    fn chunks_add_up_to_the_bound() {
        let chunk = format!("80000\r\n{}\r\n", "x".repeat(0x80000));
        let most = format!("{chunk}{chunk}0\r\n\r\n");
        assert_eq!(run(Framing::Chunked, most.as_bytes(), 65_536), Some(Ok(most.len())));
        let more = format!("{chunk}{chunk}1\r\n");
        assert_eq!(run(Framing::Chunked, more.as_bytes(), 65_536), Some(Err(413)));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes(bytes in "[0-9a-f\r\n;:x]{0,60}") {
            let _outcome = length(Framing::Chunked, bytes.as_bytes());
        }
    }
}
