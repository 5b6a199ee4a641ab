//! Compresses bytes, as small as can be: it is done once, and sent often.

use std::io::{self, Write};

use brotli::enc::BrotliEncoderParams;
use flate2::Compression;
use flate2::write::GzEncoder;

/// Up to this size brotli's best is worth its time: about a second for the largest.
const BEST_BYTES_MAX: usize = 256 * 1024;

/// The greatest effort that brotli knows, and one that takes a tenth of the time.
const BROTLI_BEST: i32 = 11;
const BROTLI_GOOD: i32 = 9;

/// Base-two logarithm of brotli's window, the largest that every decoder must have room for (RFC 7932 §9.1).
const BROTLI_WINDOW: i32 = 22;

/// In brotli (RFC 7932).
pub(super) fn brotli(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let params = BrotliEncoderParams {
        quality: if bytes.len() <= BEST_BYTES_MAX { BROTLI_BEST } else { BROTLI_GOOD },
        lgwin: BROTLI_WINDOW,
        size_hint: bytes.len(),
        ..BrotliEncoderParams::default()
    };
    let mut coded = Vec::new();
    brotli::BrotliCompress(&mut &bytes[..], &mut coded, &params)?;
    Ok(coded)
}

/// In gzip (RFC 1952), without a time or a name: the same bytes give the same result.
pub(super) fn gzip(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes)?;
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Read;

    fn decoded(coded: &[u8], is_brotli: bool) -> Vec<u8> {
        let mut bytes = Vec::new();
        if is_brotli {
            brotli::BrotliDecompress(&mut &coded[..], &mut bytes).expect("brotli");
        } else {
            flate2::read::GzDecoder::new(coded).read_to_end(&mut bytes).expect("gzip");
        }
        bytes
    }

    /// Both efforts of brotli among them.
    #[test]
    fn large_text_comes_back() {
        for length in [BEST_BYTES_MAX, BEST_BYTES_MAX + 1] {
            let text: Vec<u8> = (0..)
                .flat_map(|number: u32| format!("{} ", number * number).into_bytes())
                .take(length)
                .collect();
            for (is_brotli, coded) in [(true, brotli(&text)), (false, gzip(&text))] {
                let coded = coded.expect("coded");
                assert!(coded.len() < length / 2);
                assert!(decoded(&coded, is_brotli) == text);
            }
        }
    }

    #[test]
    fn the_same_bytes_give_the_same_result() {
        assert_eq!(gzip(b"text").expect("coded"), gzip(b"text").expect("coded"));
        assert_eq!(gzip(b"text").expect("coded")[3..8], [0; 5], "no name and no time");
    }

    proptest! {
        #[test]
        fn any_bytes_come_back(bytes in proptest::collection::vec(any::<u8>(), 0..3000), repeated in 1usize..4) {
            let bytes = bytes.repeat(repeated);
            prop_assert_eq!(decoded(&brotli(&bytes).expect("coded"), true), &bytes[..]);
            prop_assert_eq!(decoded(&gzip(&bytes).expect("coded"), false), &bytes[..]);
        }
    }
}
