//! Content codings (RFC 9110 §8.4.1): what a browser of today can read, and how it reads it.

use brotli::Decompressor;
use flate2::bufread::{MultiGzDecoder, ZlibDecoder};
use ruzstd::decoding::StreamingDecoder;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io::{self, Read};

/// How a body is coded.
#[expect(missing_docs, reason = "their names are those of RFC 9110, RFC 7932 and RFC 8878")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Coding {
    Zstd,
    Br,
    Gzip,
    Deflate,
    Identity,
}

impl Coding {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Coding::Zstd => "zstd",
            Coding::Br => "br",
            Coding::Gzip => "gzip",
            Coding::Deflate => "deflate",
            Coding::Identity => "identity",
        }
    }

    /// Reads the value of a Content-Encoding field; `None` for what this client didn't say that it accepts.
    pub(crate) fn parse(value: &[u8]) -> Option<Coding> {
        let all = [Coding::Br, Coding::Gzip, Coding::Zstd, Coding::Deflate, Coding::Identity];
        all.into_iter().find(|coding| value.eq_ignore_ascii_case(coding.name().as_bytes()))
    }

    /// What `body` says. Of a body that says more than `bytes_max` bytes, one more is returned: enough to see that it
    /// is the wrong one.
    ///
    /// # Errors
    ///
    /// It isn't coded like this.
    pub fn decode(self, body: &[u8], bytes_max: u64) -> io::Result<Vec<u8>> {
        /// What the decoder takes from the body at once.
        const CHUNK: usize = 16 * 1024;
        let reader: Box<dyn Read + '_> = match self {
            Coding::Identity => Box::new(body),
            Coding::Br => Box::new(Decompressor::new(body, CHUNK)),
            Coding::Gzip => Box::new(MultiGzDecoder::new(body)),
            Coding::Deflate => Box::new(ZlibDecoder::new(body)),
            Coding::Zstd => Box::new(StreamingDecoder::new(body).map_err(io::Error::other)?),
        };
        let mut decoded = Vec::new();
        reader.take(bytes_max.saturating_add(1)).read_to_end(&mut decoded)?;
        Ok(decoded)
    }
}

impl fmt::Display for Coding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// "Hello, hello, hello!", by gzip(1), brotli(1), zstd(1) and Python's zlib.
    const CODED: [(Coding, &[u8]); 4] = [
        (
            Coding::Gzip,
            &[
                31, 139, 8, 0, 0, 0, 0, 0, 2, 3, 243, 72, 205, 201, 201, 215, 81, 200, 64, 162, 20, 1, 172,
                235, 46, 228, 20, 0, 0, 0,
            ],
        ),
        (Coding::Deflate, &[120, 156, 243, 72, 205, 201, 201, 215, 81, 200, 64, 162, 20, 1, 72, 158, 6, 214]),
        (
            Coding::Zstd,
            &[
                40, 181, 47, 253, 4, 104, 125, 0, 0, 72, 72, 101, 108, 108, 111, 44, 32, 104, 33, 1, 0, 50,
                10, 23, 159, 131, 38, 47,
            ],
        ),
        (
            Coding::Br,
            &[
                139, 9, 128, 72, 101, 108, 108, 111, 44, 32, 104, 101, 108, 108, 111, 44, 32, 104, 101, 108,
                108, 111, 33, 3,
            ],
        ),
    ];

    #[test]
    fn names_round_trip() {
        for coding in [Coding::Zstd, Coding::Br, Coding::Gzip, Coding::Deflate, Coding::Identity] {
            assert_eq!(Coding::parse(coding.name().to_uppercase().as_bytes()), Some(coding));
        }
        for other in ["", "x-gzip", "gzip, br", "brotli"] {
            assert_eq!(Coding::parse(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn what_other_programs_have_written_is_read() {
        for (coding, body) in CODED {
            assert_eq!(coding.decode(body, 100).unwrap(), b"Hello, hello, hello!", "{coding}");
            assert_eq!(coding.decode(body, 4).unwrap(), b"Hello", "{coding}: no more than it takes to know");
            assert!(coding.decode(&body[..body.len() - 2], 100).is_err(), "{coding}: cut short");
            assert!(coding.decode(b"Hello, hello, hello!", 100).is_err(), "{coding}: not coded at all");
        }
        assert_eq!(Coding::Identity.decode(b"Hello", 100).unwrap(), b"Hello");
    }
}
