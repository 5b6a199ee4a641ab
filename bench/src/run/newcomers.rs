//! Text for the question what compressing costs the others: a thousand files that a server hasn't seen, and the few that
//! everybody asks for meanwhile.

use crate::random::Random;
use crate::run::scenario::whole;
use crate::run::site::{Kind, SiteFile};

const KIB: f64 = 1024.0;
/// Files that nobody has asked for.
pub(crate) const NEW_FILES: usize = 1_000;
/// Their sizes in bytes; the logarithm is evenly spread, so that half of them have less than 32 KiB.
const NEW_BYTES: (f64, f64) = (10.0 * KIB, 100.0 * KIB);
/// Files that are asked for all the time.
pub(crate) const PAGES: usize = 8;
const PAGE_BYTES: usize = 4 * 1024;
/// Everything that compression is worth while for.
const KINDS: [Kind; 5] = [Kind::Html, Kind::Css, Kind::Js, Kind::Json, Kind::Svg];

/// The new files that follow from `seed`.
pub(crate) fn new_files(seed: u64) -> Vec<SiteFile> {
    let mut random = Random::stream(seed, 0x4E57);
    let (least, most) = NEW_BYTES;
    let file = |number: usize| {
        let bytes = whole(least * (most / least).powf(random.fraction()));
        file("new", number, bytes, random.draw())
    };
    (0..NEW_FILES).map(file).collect()
}

/// The files that are asked for all the time.
pub(crate) fn pages(seed: u64) -> Vec<SiteFile> {
    let mut random = Random::stream(seed, 0x5047);
    (0..PAGES).map(|number| file("pages", number, PAGE_BYTES, random.draw())).collect()
}

fn file(folder: &str, number: usize, bytes: usize, seed: u64) -> SiteFile {
    let kind = KINDS[number % KINDS.len()];
    SiteFile { kind, path: format!("{folder}/{number:04}.{}", kind.ending()), bytes, weight: 1.0, seed }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn sizes_are_spread_evenly_on_a_logarithmic_scale() {
        let files = new_files(7);
        assert_eq!(files, new_files(7), "the same seed, the same files");
        assert_ne!(files[0], new_files(8)[0]);
        let below = |bytes: f64| files.iter().filter(|file| (file.bytes as f64) < bytes).count();
        assert_eq!((below(NEW_BYTES.0), below(NEW_BYTES.1)), (0, NEW_FILES));
        // Half of them, give or take three standard deviations.
        assert!((450..550).contains(&below((NEW_BYTES.0 * NEW_BYTES.1).sqrt())));
        let paths: BTreeSet<&str> = files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(paths.len(), NEW_FILES);
    }

    #[test]
    fn all_of_them_are_text() {
        for file in new_files(3).iter().take(20).chain(&pages(3)) {
            assert!(file.kind.is_text(), "{}", file.path);
            let content = file.content();
            assert!(content.len() + 1 >= file.bytes && content.len() < file.bytes + 8_192, "{}", file.path);
        }
    }
}
