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
    extension(path).map_or(UNKNOWN, look_up)
}

/// What follows the last dot of the last segment; a dot that begins it is none.
fn extension(path: &[u8]) -> Option<&[u8]> {
    let name = &path[memchr::memrchr(b'/', path).map_or(0, |slash| slash + 1)..];
    let dot = memchr::memrchr(b'.', name).filter(|dot| *dot > 0)?;
    Some(&name[dot + 1..])
}

fn look_up(extension: &[u8]) -> MediaType {
    std::str::from_utf8(extension)
        .ok()
        .and_then(|extension| mime_guess::from_ext(extension).first_raw())
        .map_or(UNKNOWN, |essence| MediaType { essence })
}

/// Extensions that are remembered.
const RECENT_MAX: usize = 32;

/// Longer extensions are looked up each time.
const EXTENSION_BYTES_MAX: usize = 8;

/// The media types of the extensions that were asked for last: a site has few, and a search among all that
/// there are takes ten comparisons that ignore case.
#[derive(Clone, Debug)]
pub(crate) struct RecentTypes {
    /// By a hash of the extension. The extension stands in one number, and is never empty.
    known: [(u64, MediaType); RECENT_MAX],
}

impl Default for RecentTypes {
    fn default() -> Self {
        RecentTypes { known: [(0, UNKNOWN); RECENT_MAX] }
    }
}

impl RecentTypes {
    /// As [`mime_for`].
    pub(crate) fn mime_for(&mut self, path: &[u8]) -> MediaType {
        let Some(extension) = extension(path) else { return UNKNOWN };
        let mut bytes = [0; EXTENSION_BYTES_MAX];
        let Some(start) = bytes.get_mut(..extension.len()) else { return look_up(extension) };
        start.copy_from_slice(extension);
        let number = u64::from_le_bytes(bytes);
        // The golden ratio spreads them (Knuth, The Art of Computer Programming, volume 3, section 6.4).
        let hash = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()[0];
        let (known, media_type) = &mut self.known[usize::from(hash) % RECENT_MAX];
        if *known != number {
            (*known, *media_type) = (number, look_up(extension));
        }
        *media_type
    }
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

    #[test]
    fn what_is_remembered_is_what_is_looked_up() {
        let mut recent = RecentTypes::default();
        let longest = "x".repeat(EXTENSION_BYTES_MAX);
        let longer = "x".repeat(EXTENSION_BYTES_MAX + 1);
        let extensions = mime_guess::get_extensions("*", "*").expect("all that there are").iter().copied();
        let extensions = extensions.chain(["", "HTML", "webmanifest", "x", &longest, &longer]);
        for extension in extensions.collect::<Vec<_>>().repeat(2) {
            let path = format!("a/b.{extension}");
            let expected = mime_for(path.as_bytes());
            assert_eq!(recent.mime_for(path.as_bytes()), expected, "{path}");
            assert_eq!(recent.mime_for(path.as_bytes()), expected, "{path}, again");
        }
    }
}
