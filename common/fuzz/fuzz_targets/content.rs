//! However content is split, the same bytes of it are dropped.
#![no_main]

use common::http::content::Content;
use common::http::request::Framing;
use libfuzzer_sys::fuzz_target;

fn run(bytes: &[u8], step: usize) -> Result<(usize, bool), u16> {
    let mut content = Content::new(Framing::Chunked).map_err(|status| status.code())?;
    let mut used = 0;
    for piece in bytes.chunks(step) {
        used += content.advance(piece).map_err(|status| status.code())?;
    }
    Ok((used, content.is_complete()))
}

fuzz_target!(|bytes: &[u8]| {
    let whole = run(bytes, bytes.len().max(1));
    for step in [1, 2, 5] {
        assert_eq!(run(bytes, step), whole);
    }
});
