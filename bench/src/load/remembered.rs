//! What a browser keeps of an answer to ask again with: validators, by file.

use crate::load::coding::Coding;
use crate::load::error::LoadError;
use crate::load::request::Request;
use crate::load::response::Head;

/// What is known of a file from the last answer that had it.
#[derive(Debug, Default)]
pub(crate) struct Remembered {
    tag: Box<[u8]>,
    modified: Box<[u8]>,
    shape: Option<(Option<Coding>, Option<u64>)>,
    /// The request that asks whether it is still the same; empty while that can't be asked.
    again: Box<[u8]>,
}

impl Remembered {
    /// The request that asks whether the file is still what it was; `None` while nothing is known to ask with.
    pub(crate) fn again(&self) -> Option<&[u8]> {
        (!self.again.is_empty()).then_some(&*self.again)
    }

    /// Takes the validators from an answer to `request`, whose head is the beginning of `received`.
    ///
    /// # Errors
    ///
    /// The server has given this strong tag to other bytes before (RFC 9110 §8.8.1).
    pub(crate) fn note(&mut self, request: &Request, head: &Head, received: &[u8]) -> Result<(), LoadError> {
        if head.status != 200 {
            return Ok(());
        }
        let (tag, modified) = (head.tag.of(received), head.modified.of(received));
        let shape = Some((head.coding, (!head.is_chunked).then_some(head.body_bytes)));
        if *tag == *self.tag && *modified == *self.modified {
            let is_strong = tag.starts_with(b"\"");
            if is_strong && self.shape.is_some_and(|known| Some(known) != shape) {
                return Err(LoadError::Tag);
            }
        } else {
            (self.tag, self.modified) = (tag.into(), modified.into());
            self.again = request.again(tag, modified);
        }
        self.shape = shape;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::request::Expected;
    use crate::load::response::parse_head;

    fn answer(fields: &str, body_bytes: u64) -> Vec<u8> {
        format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: {body_bytes}\r\n\r\n").into_bytes()
    }

    fn request() -> Request {
        let expected = Expected { status: 200, body_bytes: 9 };
        Request::negotiated("h", "/a", "Accept: */*\r\n", true, expected)
    }

    #[test]
    fn validators_are_asked_with() {
        let tag = "ETag: \"x\"\r\n";
        let modified = "last-modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n";
        let both = [tag, modified].concat();
        let table = [
            ("none", "", None),
            ("a tag", tag, Some("If-None-Match: \"x\"\r\n")),
            ("a date", modified, Some("If-Modified-Since: Thu, 01 Jan 2026 00:00:00 GMT\r\n")),
            (
                "both, as browsers do",
                &both,
                Some("If-None-Match: \"x\"\r\nIf-Modified-Since: Thu, 01 Jan 2026 00:00:00 GMT\r\n"),
            ),
        ];
        for (name, fields, expected) in table {
            let received = answer(fields, 9);
            let mut remembered = Remembered::default();
            let head = parse_head(&received).unwrap().unwrap();
            remembered.note(&request(), &head, &received).unwrap();
            let again = remembered.again().map(|bytes| String::from_utf8(bytes.to_vec()).unwrap());
            let expected =
                expected.map(|fields| format!("GET /a HTTP/1.1\r\nHost: h\r\nAccept: */*\r\n{fields}\r\n"));
            assert_eq!(again, expected, "{name}");
        }
    }

    #[test]
    fn the_last_answer_counts_and_a_304_changes_nothing() {
        let mut remembered = Remembered::default();
        let mut note = |received: &[u8]| {
            let head = parse_head(received).unwrap().unwrap();
            remembered.note(&request(), &head, received).unwrap();
            String::from_utf8(remembered.again().unwrap().to_vec()).unwrap()
        };
        assert!(note(&answer("ETag: \"first\"\r\n", 9)).contains("\"first\""));
        assert!(note(&answer("ETag: \"second\"\r\nContent-Encoding: br\r\n", 4)).contains("\"second\""));
        assert!(note(b"HTTP/1.1 304 Not Modified\r\nETag: \"third\"\r\n\r\n").contains("\"second\""));
    }

    #[test]
    fn a_strong_tag_for_other_bytes_is_found_out() {
        let table = [
            ("another length", "ETag: \"x\"\r\n", "ETag: \"x\"\r\n", 5, Err(LoadError::Tag)),
            (
                "another coding",
                "ETag: \"x\"\r\n",
                "ETag: \"x\"\r\nContent-Encoding: gzip\r\n",
                9,
                Err(LoadError::Tag),
            ),
            ("the same", "ETag: \"x\"\r\n", "ETag: \"x\"\r\n", 9, Ok(())),
            ("a weak one may", "ETag: W/\"x\"\r\n", "ETag: W/\"x\"\r\n", 5, Ok(())),
            ("another tag", "ETag: \"x\"\r\n", "ETag: \"y\"\r\n", 5, Ok(())),
            ("no tag", "", "", 5, Ok(())),
        ];
        for (name, first, second, body_bytes, expected) in table {
            let mut remembered = Remembered::default();
            let mut note = |received: Vec<u8>| {
                let head = parse_head(&received).unwrap().unwrap();
                remembered.note(&request(), &head, &received)
            };
            assert_eq!(note(answer(first, 9)), Ok(()));
            assert_eq!(note(answer(second, body_bytes)), expected, "{name}");
        }
    }
}
