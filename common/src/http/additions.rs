//! What the rules of a site make of the head of an answer.

/// Fields that are added to a head, and what they change in the rest of it. Whoever makes one has checked that no line
/// is one that the server itself needs to be understood.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Additions {
    /// Whole lines, each with its CR LF.
    pub lines: Box<[u8]>,
    /// The media type instead of the one that the name of the file says.
    pub content_type: Option<Box<[u8]>>,
    /// The value of `Vary`.
    pub vary: Option<Box<[u8]>>,
    /// `X-Content-Type-Options` is one of the lines, or was taken away.
    pub decides_sniffing: bool,
}

/// How long an answer may be kept is said of files: the page for a file that isn't there yet would be kept as long.
const OF_FILES: [&[u8]; 5] =
    [b"cache-control", b"expires", b"cdn-cache-control", b"netlify-cdn-cache-control", b"surrogate-control"];

impl Additions {
    /// The same for a page that is sent in place of the file that the rules were written for.
    #[must_use]
    pub fn for_error(&self) -> Additions {
        let is_of_file = |line: &&[u8]| {
            let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
            OF_FILES.iter().any(|of_file| name.eq_ignore_ascii_case(of_file))
        };
        let lines = self.lines.split_inclusive(|byte| *byte == b'\n').filter(|line| !is_of_file(line));
        let lines = lines.flatten().copied().collect();
        Additions { lines, content_type: None, ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_not_kept_as_long_as_a_file() {
        let lines = b"A: 1\r\ncache-CONTROL: immutable\r\nExpires: x\r\nCache-Control-X: 2\r\n";
        let of_file = Additions {
            lines: lines[..].into(),
            content_type: Some(b"text/css"[..].into()),
            vary: Some(b"Origin"[..].into()),
            decides_sniffing: true,
        };
        let of_error = Additions {
            lines: b"A: 1\r\nCache-Control-X: 2\r\n"[..].into(),
            content_type: None,
            ..of_file.clone()
        };
        assert_eq!(of_file.for_error(), of_error);
    }
}
