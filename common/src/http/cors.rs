//! Who else may read what is served: the fields with which a browser lets pages of other origins have an answer (the
//! CORS protocol of the Fetch standard, §3.3).

use std::str::FromStr;

use crate::http::target::is_authority;

/// Answers are shared with the pages of one other origin, or of all (`*`). Never with credentials, so that nothing is
/// shared that isn't public anyway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cors {
    /// The fields of any answer, as whole lines.
    lines: &'static str,
}

/// What a preflight is told: all methods that there are, and any field of a request. `Authorization` must be named (Fetch
/// §3.3.4). A day is more than browsers keep it.
const PREFLIGHT: &str = "Access-Control-Allow-Methods: GET, HEAD, OPTIONS\r\n\
    Access-Control-Allow-Headers: *, Authorization\r\nAccess-Control-Max-Age: 86400\r\n";

impl Cors {
    /// The fields of any answer, as whole lines. A script sees all fields of an answer: readers of ranges need
    /// `Content-Range`.
    #[must_use]
    pub fn lines(self) -> &'static str {
        self.lines
    }

    /// The fields of an answer to OPTIONS besides.
    #[must_use]
    pub fn preflight_lines(self) -> &'static str {
        PREFLIGHT
    }
}

impl FromStr for Cors {
    type Err = String;

    /// The lines stay in memory as long as the process. The value is the same for every request, so that no `Vary` is
    /// needed.
    fn from_str(origin: &str) -> Result<Cors, String> {
        if origin != "*" {
            let authority = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
            let hint = "write one origin as browsers do, like https://example.com, or * for all";
            let authority = authority.ok_or(hint)?;
            if !is_authority(authority.as_bytes()) {
                return Err(format!("{hint}; it has no path"));
            }
            // A browser compares byte by byte, and writes hosts in small letters.
            if authority.bytes().any(|byte| byte.is_ascii_uppercase()) {
                return Err(format!("{hint}; in small letters"));
            }
        }
        let lines = format!("Access-Control-Allow-Origin: {origin}\r\nAccess-Control-Expose-Headers: *\r\n");
        Ok(Cors { lines: lines.leak() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins() {
        for origin in ["*", "https://example.com", "http://localhost:5173", "http://[::1]:80"] {
            let cors: Cors = origin.parse().expect("an origin");
            let first = format!("Access-Control-Allow-Origin: {origin}\r\n");
            assert!(cors.lines().starts_with(&first), "{}", cors.lines());
        }
        for origin in [
            "",
            "1",
            "null",
            "example.com",
            "https://",
            "https://example.com/",
            "https://a.example, https://b.example",
            "https://a.example\r\nX: y",
            "https://me@example.com",
            "https://Example.com",
            "HTTPS://example.com",
            "ftp://example.com",
        ] {
            let error = origin.parse::<Cors>().expect_err("no origin");
            assert!(error.contains("like https://example.com, or *"), "{origin}: {error}");
        }
    }
}
