//! Media types by file name extension.

/// The media type of a representation, as it stands in `Content-Type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MediaType {
    essence: &'static str,
}

/// What a file without a known extension is (RFC 9110 §8.3 lets the client decide; `nosniff` forbids it to).
const UNKNOWN: MediaType = MediaType { essence: "application/octet-stream" };

impl MediaType {
    /// HTML that the server writes itself.
    pub const HTML: MediaType = MediaType { essence: "text/html" };
    /// Plain text that the server writes itself.
    pub const TEXT: MediaType = MediaType { essence: "text/plain" };

    /// The value's two parts; joined they are `text/html; charset=utf-8` or `image/png`.
    #[must_use]
    pub fn parts(self) -> [&'static str; 2] {
        let charset = if self.essence.starts_with("text/") { "; charset=utf-8" } else { "" };
        [self.essence, charset]
    }
}

/// The media type for a path, by the extension of its last segment.
#[must_use]
pub fn mime_for(path: &[u8]) -> MediaType {
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let Some(dot) = memchr::memrchr(b'.', name).filter(|dot| *dot > 0) else {
        return UNKNOWN;
    };
    std::str::from_utf8(&name[dot + 1..])
        .ok()
        .and_then(|extension| mime_guess::from_ext(extension).first_raw())
        .map_or(UNKNOWN, |essence| MediaType { essence })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_by_extension() {
        for (path, expected) in [
            (&b"index.html"[..], "text/html; charset=utf-8"),
            (b"a.b/STYLE.CSS", "text/css; charset=utf-8"),
            (b"app.js", "text/javascript; charset=utf-8"),
            (b"data.json", "application/json"),
            (b"picture.svg", "image/svg+xml"),
            (b"font.woff2", "font/woff2"),
            (b"module.wasm", "application/wasm"),
            (b"archive.tar.gz", "application/gzip"),
            (b"README", "application/octet-stream"),
            (b".html", "application/octet-stream"),
            (b"dir.html/file", "application/octet-stream"),
            (b"what.is-this", "application/octet-stream"),
            (b"not-utf8.\xff", "application/octet-stream"),
            (b"dot.", "application/octet-stream"),
        ] {
            assert_eq!(mime_for(path).parts().concat(), expected, "{}", String::from_utf8_lossy(path));
        }
    }
}
