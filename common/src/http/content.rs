//! Request content: read and discarded, so that the connection can be reused.
//!
//! None of the supported methods defines a meaning for content. It is still parsed strictly (RFC 9112 §7.1), because
//! the next request starts where it ends.

use crate::http::request::Framing;
use crate::http::scan::is_token_byte;
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

/// What the next byte should be. `bytes` counts toward a bound.
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
    /// The chunk line behind the size.
    ChunkExtensions {
        size: u64,
        bytes: usize,
        within: Within,
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
    TrailerName {
        bytes: usize,
    },
    TrailerValue {
        bytes: usize,
    },
    TrailerLineFeed {
        bytes: usize,
    },
    LastLineFeed,
}

/// A position within chunk extensions: `*( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] )` (RFC 9112
/// §7.1.1). Where another parser sees the end of the line elsewhere, requests can be smuggled, so nothing is skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Within {
    /// Behind the size or a quoted value: the line may end here.
    End,
    /// Behind a blank that only a semicolon may follow: the grammar has no blanks at the end of the line.
    BlankBeforeSemicolon,
    BlankBeforeName,
    Name,
    BlankAfterName,
    BlankBeforeValue,
    Value,
    Quoted,
    /// Behind a backslash.
    QuotedPair,
}

impl Within {
    /// The position after one more byte, if the grammar allows it there.
    fn after(self, byte: u8) -> Option<Within> {
        match (self, byte) {
            (Within::Quoted, b'"') => Some(Within::End),
            (Within::Quoted, b'\\') => Some(Within::QuotedPair),
            (Within::Quoted | Within::QuotedPair, byte) => is_text_byte(byte).then_some(Within::Quoted),
            (Within::End | Within::BlankBeforeSemicolon | Within::Name | Within::Value, b';') => {
                Some(Within::BlankBeforeName)
            }
            // A blank behind a name may turn out to be one in front of the next semicolon.
            (Within::BlankAfterName, b';') => Some(Within::BlankBeforeName),
            (Within::Name | Within::BlankAfterName, b'=') => Some(Within::BlankBeforeValue),
            (Within::End | Within::Value | Within::BlankBeforeSemicolon, b' ' | b'\t') => {
                Some(Within::BlankBeforeSemicolon)
            }
            (Within::Name | Within::BlankAfterName, b' ' | b'\t') => Some(Within::BlankAfterName),
            (Within::BlankBeforeName | Within::BlankBeforeValue, b' ' | b'\t') => Some(self),
            (Within::BlankBeforeValue, b'"') => Some(Within::Quoted),
            (Within::BlankBeforeName | Within::Name, byte) => is_token_byte(byte).then_some(Within::Name),
            (Within::BlankBeforeValue | Within::Value, byte) => is_token_byte(byte).then_some(Within::Value),
            (Within::End | Within::BlankBeforeSemicolon | Within::BlankAfterName, _) => None,
        }
    }

    /// Whether the line may end here.
    fn may_end(self) -> bool {
        matches!(self, Within::End | Within::Name | Within::Value)
    }
}

/// A byte of a quoted string or of a field's value (RFC 9110 §5.5, §5.6.4): no control character but a tab.
fn is_text_byte(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..)
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
        match (awaits, byte) {
            (Awaits::ChunkSize { size, digits }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = char::from(byte).to_digit(16).map_or(0, u64::from);
                if digits == 16 {
                    return Err(Status::BadRequest);
                }
                Ok(Awaits::ChunkSize { size: size << 4 | digit, digits: digits + 1 })
            }
            (Awaits::ChunkSize { size, digits: 1.. }, _) => after_extensions(size, 0, Within::End, byte),
            (Awaits::ChunkExtensions { size, bytes, within }, _) => {
                after_extensions(size, bytes, within, byte)
            }
            (Awaits::ChunkLineFeed { size: 0 }, b'\n') => Ok(Awaits::TrailerLineStart { bytes: 0 }),
            (Awaits::ChunkLineFeed { size }, b'\n') => self.begin_chunk(size),
            (Awaits::ChunkDataCarriageReturn, b'\r') => Ok(Awaits::ChunkDataLineFeed),
            (Awaits::ChunkDataLineFeed, b'\n') => Ok(FIRST_CHUNK),
            (Awaits::LastLineFeed, b'\n') => Ok(Awaits::Nothing),
            _ => after_trailer(awaits, byte),
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

/// The state after one byte of a chunk line behind its size.
fn after_extensions(size: u64, bytes: usize, within: Within, byte: u8) -> Result<Awaits, Status> {
    if byte == b'\r' && within.may_end() {
        return Ok(Awaits::ChunkLineFeed { size });
    }
    let within = within.after(byte).filter(|_| bytes < CHUNK_LINE_BYTES_MAX).ok_or(Status::BadRequest)?;
    Ok(Awaits::ChunkExtensions { size, bytes: bytes + 1, within })
}

/// The state after one byte of the trailer section: field lines (RFC 9112 §7.1.2), as strict as those of the head.
fn after_trailer(awaits: Awaits, byte: u8) -> Result<Awaits, Status> {
    match (awaits, byte) {
        (Awaits::TrailerLineStart { .. }, b'\r') => Ok(Awaits::LastLineFeed),
        (
            Awaits::TrailerLineStart { bytes: TRAILER_BYTES_MAX.. }
            | Awaits::TrailerName { bytes: TRAILER_BYTES_MAX.. }
            | Awaits::TrailerValue { bytes: TRAILER_BYTES_MAX.. },
            _,
        ) => Err(Status::RequestHeaderFieldsTooLarge),
        (Awaits::TrailerLineStart { bytes } | Awaits::TrailerName { bytes }, _) if is_token_byte(byte) => {
            Ok(Awaits::TrailerName { bytes: bytes + 1 })
        }
        (Awaits::TrailerName { bytes }, b':') => Ok(Awaits::TrailerValue { bytes: bytes + 1 }),
        (Awaits::TrailerValue { bytes }, b'\r') => Ok(Awaits::TrailerLineFeed { bytes: bytes + 1 }),
        (Awaits::TrailerValue { bytes }, _) if is_text_byte(byte) => {
            Ok(Awaits::TrailerValue { bytes: bytes + 1 })
        }
        (Awaits::TrailerLineFeed { bytes }, b'\n') => Ok(Awaits::TrailerLineStart { bytes }),
        _ => Err(Status::BadRequest),
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

    /// Fragments of chunked content, valid and not, in random order.
    const PIECES: &[&str] = &[
        "0",
        "3",
        "\r\n",
        "3\r\nabc\r\n",
        "0\r\n",
        ";",
        "a",
        "=",
        " ",
        "\t",
        "\"",
        "\\",
        ":",
        "A: b\r\n",
        "\0",
        "\n",
        "\r",
        "\r\n\r\n",
    ];

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
            ("A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", Some(Ok(35))),
            ("5\r\nhello\r\n0\r\n", None),
            ("5\r\nhel", None),
            ("\r\n", Some(Err(400))),
            ("g\r\n", Some(Err(400))),
            ("-1\r\n", Some(Err(400))),
            ("0x1\r\n", Some(Err(400))),
            (" 1\r\n", Some(Err(400))),
            ("5 0\r\nhello", Some(Err(400))),
            ("5 ;a\r\nhello\r\n0\t;b\r\n\r\n", Some(Ok(21))),
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
    fn chunk_extensions_are_read_to_the_end_of_the_line() {
        for extensions in [
            "",
            ";a",
            ";a;b",
            ";a=b",
            " ; a = b ; c\t=\td\t;e",
            ";a ;b",
            ";a=\"\"",
            ";a=\"b;c=d\u{fc}\t\"",
            ";a=\"\\\"\\\\\";b=\"\" ;c",
            ";!#$%&'*+-.^_`|~0=!#$%&'*+-.^_`|~0",
        ] {
            let bytes = format!("1{extensions}\r\na\r\n0\r\n\r\n");
            assert_eq!(length(Framing::Chunked, bytes.as_bytes()), Some(Ok(bytes.len())), "{extensions}");
        }
        for extensions in [
            " ",
            "\t",
            ";",
            ";;a",
            "; ",
            ";a;",
            ";a ",
            ";a=b ",
            ";a=",
            ";a= ",
            ";=b",
            ";a==b",
            ";a b",
            ";a=b c",
            ";a=b=c",
            ";a=\"b",
            ";a=\"b\\\"",
            ";a=\"b\"c",
            ";a=\"b\" ",
            ";a=\"b\"\"",
            ";a=b\"c\"",
            ";\"a\"",
            ";a\"",
            ";(a)",
            ";a=b,c",
            ";\u{fc}",
            ";a=\u{fc}",
            ";a=\"\0\"",
            ";a=\"\x7f\"",
            ";a=\"\\\x01\"",
            ";a\x0b",
            " a",
            "=b",
            ";a=\"\r\n\"",
        ] {
            let bytes = format!("1{extensions}\r\na\r\n0\r\n\r\n");
            assert_eq!(length(Framing::Chunked, bytes.as_bytes()), Some(Err(400)), "{extensions:?}");
        }
        let longest = format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(CHUNK_LINE_BYTES_MAX - 1));
        assert_eq!(length(Framing::Chunked, longest.as_bytes()), Some(Ok(longest.len())));
        let blanks = format!("1{};a\r\na\r\n", " ".repeat(CHUNK_LINE_BYTES_MAX));
        assert_eq!(length(Framing::Chunked, blanks.as_bytes()), Some(Err(400)));
    }

    #[test]
    fn trailers_are_field_lines() {
        for trailers in
            ["", "A:\r\n", "A: b\r\n", "A:b \r\nC:\td:e\r\n", "!#$%&'*+-.^_`|~0: \u{fc}\"(,\t\r\n"]
        {
            let bytes = format!("0\r\n{trailers}\r\n");
            assert_eq!(length(Framing::Chunked, bytes.as_bytes()), Some(Ok(bytes.len())), "{trailers}");
        }
        for trailers in [
            "A\r\n",
            ": b\r\n",
            "A : b\r\n",
            "A\t: b\r\n",
            "A b: c\r\n",
            "A: b\r\n c\r\n",
            "A: b\r\n\tc\r\n",
            "A(b): c\r\n",
            "\"A\": b\r\n",
            "\u{fc}: b\r\n",
            "A: \0\r\n",
            "A: b\x7f\r\n",
            "A: b\x01\r\n",
            "A: b\rc\r\n",
            "A: b\n",
            "A\n",
            "A;b\r\n",
        ] {
            let bytes = format!("0\r\n{trailers}\r\n");
            assert_eq!(length(Framing::Chunked, bytes.as_bytes()), Some(Err(400)), "{trailers:?}");
        }
    }

    /// Every byte of the trailers counts but the line feeds, wherever it is.
    #[test]
    fn trailers_are_bounded() {
        for (name, before, repeated, after, most) in [
            ("a long name", "", "n", ":\r\n", TRAILER_BYTES_MAX - 2),
            ("a long value", "n:", "v", "\r\n", TRAILER_BYTES_MAX - 3),
            ("blanks", "n:", " ", "v\r\n", TRAILER_BYTES_MAX - 4),
            ("many lines", "", "n:\r\n", "", TRAILER_BYTES_MAX / 3),
            ("many lines with values", "", "n: v\r\n", "", TRAILER_BYTES_MAX / 5),
            ("a second line", "n: v\r\n", "n", ":\r\n", TRAILER_BYTES_MAX - 7),
        ] {
            for (count, is_within) in [(most, true), (most + 1, false)] {
                let bytes = format!("0\r\n{before}{}{after}\r\n", repeated.repeat(count));
                let expected = if is_within { Ok(bytes.len()) } else { Err(431) };
                assert_eq!(length(Framing::Chunked, bytes.as_bytes()), Some(expected), "{name}, {count}");
            }
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

    /// A second reading of the grammar, of a whole line at once: the line's rest behind the size, without CR LF.
    fn are_extensions(mut rest: &str) -> bool {
        let blanks = |text: &str| text.len() - text.trim_start_matches([' ', '\t']).len();
        let token = |text: &str| text.bytes().take_while(|byte| is_token_byte(*byte)).count();
        while !rest.is_empty() {
            let Some(name) = rest[blanks(rest)..].strip_prefix(';') else { return false };
            let name = &name[blanks(name)..];
            rest = &name[token(name)..];
            if rest.len() == name.len() {
                return false;
            }
            let Some(value) = rest[blanks(rest)..].strip_prefix('=') else { continue };
            let value = &value[blanks(value)..];
            let end = match value.strip_prefix('"') {
                None => token(value),
                Some(quoted) => {
                    let mut escaped = false;
                    let close = quoted.bytes().position(|byte| {
                        let closes = byte == b'"' && !escaped;
                        escaped = byte == b'\\' && !escaped;
                        closes
                    });
                    close.map_or(0, |close| close + 2)
                }
            };
            if end == 0 {
                return false;
            }
            rest = &value[end..];
        }
        true
    }

    proptest! {
        #[test]
        fn extensions_are_those_of_the_grammar(extensions in "([; \t=\"\\\\x(]|;x=\"|\" ;x){0,20}") {
            let bytes = format!("0{extensions}\r\n\r\n");
            let expected = if are_extensions(&extensions) { Ok(bytes.len()) } else { Err(400) };
            prop_assert_eq!(length(Framing::Chunked, bytes.as_bytes()), Some(expected));
        }

        #[test]
        fn pieces_of_chunked_content(
            pieces in proptest::collection::vec(proptest::sample::select(PIECES), 0..12),
            cut in 0usize..60,
        ) {
            let bytes = pieces.concat();
            let once = length(Framing::Chunked, bytes.as_bytes());
            let mut content = Content::new(Framing::Chunked).expect("chunks have no length");
            let (first, second) = bytes.as_bytes().split_at(cut.min(bytes.len()));
            let cut = content.advance(first).and_then(|used| Ok(used + content.advance(second)?));
            let cut = cut.map_err(Status::code);
            prop_assert_eq!(Some(cut).filter(|cut| cut.is_err() || content.is_complete()), once);
        }

        #[test]
        fn arbitrary_bytes(bytes in "[0-9a-f\r\n;:x]{0,60}") {
            let _outcome = length(Framing::Chunked, bytes.as_bytes());
        }
    }
}
