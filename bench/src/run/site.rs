//! A generated site: 2,000 files of the types and sizes that sites are made of, which compress as real ones do.
//!
//! The sizes are log-normal, after what the HTTP Archive's Web Almanac 2024 reports: 18 KB of HTML a page, 620 KB of
//! scripts in 24 files, 80 KB of styles in 8, all as transferred and so times what compression takes off; self-hosted
//! WOFF2 with a median of 39 KB and quartiles of 18 and 75 KB; AVIF with nine in ten below 45 KB (chapters Page Weight
//! and Fonts). Of JSON and SVG it says nothing that could be used; their sizes are guesses. How many files there are of
//! each type is a choice. A file's popularity follows Zipf's law and doesn't depend on its type.

pub(crate) mod sidecars;
mod text;

use crate::random::Random;
use crate::run::scenario::whole;
use std::f64::consts::TAU;

/// How many files the site has.
pub(crate) const SITE_FILES: usize = 2_000;
/// No size is further from the median than this many standard deviations: 2 % are cut there.
const DEVIATIONS_MAX: f64 = 2.33;
const BYTES_MIN: f64 = 256.0;

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Html,
    Css,
    Js,
    Json,
    Svg,
    Woff2,
    Avif,
}

/// How many files there are of a type, and how large.
struct Shape {
    kind: Kind,
    files: usize,
    /// In bytes.
    median: f64,
    /// The standard deviation of the size's logarithm.
    spread: f64,
}

const SHAPES: [Shape; 7] = [
    Shape { kind: Kind::Html, files: 140, median: 72_000.0, spread: 0.7 },
    Shape { kind: Kind::Css, files: 80, median: 20_000.0, spread: 1.1 },
    Shape { kind: Kind::Js, files: 200, median: 28_000.0, spread: 1.2 },
    Shape { kind: Kind::Json, files: 160, median: 3_000.0, spread: 1.3 },
    Shape { kind: Kind::Svg, files: 420, median: 2_000.0, spread: 1.2 },
    Shape { kind: Kind::Woff2, files: 100, median: 39_000.0, spread: 0.85 },
    Shape { kind: Kind::Avif, files: 900, median: 11_000.0, spread: 1.1 },
];

/// A file of the site before it is written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SiteFile {
    pub(crate) kind: Kind,
    pub(crate) path: String,
    /// About so many bytes: text ends where a sentence does.
    pub(crate) bytes: usize,
    /// Its share of the requests, unnormalised.
    pub(crate) weight: f64,
    /// What its content follows from.
    pub(crate) seed: u64,
}

impl Kind {
    pub(crate) const fn ending(self) -> &'static str {
        match self {
            Kind::Html => "html",
            Kind::Css => "css",
            Kind::Js => "js",
            Kind::Json => "json",
            Kind::Svg => "svg",
            Kind::Woff2 => "woff2",
            Kind::Avif => "avif",
        }
    }

    /// Whether compression is worth while: the formats of pictures and fonts do it themselves.
    pub(crate) const fn is_text(self) -> bool {
        !matches!(self, Kind::Woff2 | Kind::Avif)
    }

    /// What a browser sends with a request for a file of this type: Chromium's fields, but for those that only servers
    /// with a program behind them look at.
    pub(crate) fn fields(self) -> String {
        const IMAGE: &str = "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8";
        let (accept, destination) = match self {
            Kind::Html => (
                "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8",
                "document",
            ),
            Kind::Css => ("text/css,*/*;q=0.1", "style"),
            Kind::Js => ("*/*", "script"),
            Kind::Json => ("*/*", "empty"),
            Kind::Svg | Kind::Avif => (IMAGE, "image"),
            Kind::Woff2 => ("*/*", "font"),
        };
        format!(
            "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 \
             Safari/537.36\r\nAccept: {accept}\r\nSec-Fetch-Dest: {destination}\r\n\
             Accept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en-US,en;q=0.9\r\n"
        )
    }
}

/// The files of the site that follows from `seed`, the most popular first.
pub(crate) fn plan(seed: u64) -> Vec<SiteFile> {
    let mut random = Random::stream(seed, 0x5173);
    let mut files = Vec::with_capacity(SITE_FILES);
    for shape in SHAPES {
        for number in 0..shape.files {
            let (ending, hash) = (shape.kind.ending(), random.draw() >> 32);
            let path = match shape.kind {
                Kind::Html => format!("site/guide/{:02}/page-{number:03}.{ending}", number / 20),
                Kind::Json => format!("site/data/{number:03}.{ending}"),
                _ => format!("site/assets/{ending}/{number:03}-{hash:08x}.{ending}"),
            };
            let bytes = size(&shape, &mut random);
            files.push(SiteFile { kind: shape.kind, path, bytes, weight: 0.0, seed: random.draw() });
        }
    }
    random.shuffle(&mut files);
    for (rank, file) in files.iter_mut().enumerate() {
        file.weight = 1.0 / (rank + 1) as f64;
    }
    files
}

/// A draw from the log-normal distribution (Box and Muller).
fn size(shape: &Shape, random: &mut Random) -> usize {
    let radius = (-2.0 * (1.0 - random.fraction()).ln()).sqrt();
    let normal = radius * (TAU * random.fraction()).cos();
    let deviation = shape.spread * normal.clamp(-DEVIATIONS_MAX, DEVIATIONS_MAX);
    whole((shape.median * deviation.exp()).max(BYTES_MIN))
}

impl SiteFile {
    pub(crate) fn content(&self) -> Vec<u8> {
        let random = Random::new(self.seed);
        match self.kind {
            Kind::Html => text::html(random, self.bytes).into_bytes(),
            Kind::Css => text::css(random, self.bytes).into_bytes(),
            Kind::Js => text::js(random, self.bytes).into_bytes(),
            Kind::Json => text::json(random, self.bytes).into_bytes(),
            Kind::Svg => text::svg(random, self.bytes).into_bytes(),
            Kind::Woff2 => noise(b"wOF2\0\x01\0\0", random, self.bytes),
            Kind::Avif => noise(b"\0\0\0\x20ftypavif\0\0\0\0avifmif1miafMA1B", random, self.bytes),
        }
    }
}

/// What a format of its own has compressed already.
fn noise(begin: &[u8], mut random: Random, bytes: usize) -> Vec<u8> {
    let mut content = vec![0; bytes.max(begin.len())];
    random.fill(&mut content);
    content[..begin.len()].copy_from_slice(begin);
    content
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::coding::Coding;

    #[test]
    fn the_same_seed_makes_the_same_site() {
        let (first, second) = (plan(7), plan(7));
        assert_eq!(first, second);
        assert_eq!(first.len(), SITE_FILES);
        for (one, other) in first.iter().zip(&second).take(60) {
            assert!(one.content() == other.content(), "{}", one.path);
        }
        let other = plan(8);
        assert_ne!(first[0], other[0]);
        let mut paths: Vec<&str> = first.iter().map(|file| file.path.as_str()).collect();
        paths.sort_unstable();
        paths.dedup();
        assert_eq!(paths.len(), SITE_FILES, "no path twice");
    }

    /// With n draws the median of a log-normal distribution is known to about 1.25·σ/√n, and quartiles to 1.36·σ/√n:
    /// three times that is allowed.
    #[test]
    fn sizes_are_those_of_the_distributions() {
        for seed in [1, 20_260_101] {
            let files = plan(seed);
            for shape in SHAPES {
                let mut sizes: Vec<usize> =
                    files.iter().filter(|file| file.kind == shape.kind).map(|file| file.bytes).collect();
                sizes.sort_unstable();
                assert_eq!(sizes.len(), shape.files);
                let at = |share: f64| sizes[whole(share * sizes.len() as f64)] as f64;
                let allowed = 3.0 * 1.36 * shape.spread / (shape.files as f64).sqrt();
                for (share, deviations) in [(0.25, -0.674), (0.5, 0.0), (0.75, 0.674)] {
                    let expected: f64 = shape.median * (deviations * shape.spread).exp();
                    let off = (at(share) / expected).ln().abs();
                    let kind = shape.kind;
                    assert!(off < allowed, "{kind:?}: {} instead of {expected:.0} at {share}", at(share));
                }
                let largest = shape.median * (DEVIATIONS_MAX * shape.spread).exp();
                assert!(*sizes.last().unwrap() as f64 <= largest + 1.0);
            }
        }
    }

    #[test]
    fn files_are_as_long_as_planned_and_what_they_are_named() {
        for file in plan(3).iter().take(400) {
            let content = file.content();
            let beyond = content.len() as f64 - file.bytes as f64;
            // A text has a frame, and ends where a rule, a statement or a paragraph does.
            assert!(
                (-1.0..=8_192.0).contains(&beyond),
                "{}: {} for {}",
                file.path,
                content.len(),
                file.bytes
            );
            assert_eq!(file.kind.is_text(), std::str::from_utf8(&content).is_ok(), "{}", file.path);
            match file.kind {
                Kind::Json => {
                    assert!(serde_json::from_slice::<serde_json::Value>(&content).is_ok(), "{}", file.path)
                }
                Kind::Svg => {
                    let text = std::str::from_utf8(&content).unwrap();
                    assert!(roxmltree::Document::parse(text).is_ok(), "{}", file.path);
                }
                _ => {}
            }
        }
    }

    #[test]
    fn popularity_is_zipf_s_and_independent_of_the_type() {
        let files = plan(20_260_101);
        assert!((files[0].weight / files[99].weight - 100.0).abs() < 1e-9);
        let ranks = |kind| {
            let mine = files.iter().enumerate().filter(move |(_, file)| file.kind == kind);
            let ranks: Vec<usize> = mine.map(|(rank, _)| rank).collect();
            ranks.iter().sum::<usize>() as f64 / ranks.len() as f64
        };
        for shape in SHAPES {
            // Three standard errors of the mean of so many ranks.
            let allowed = 3.0 * SITE_FILES as f64 / 12_f64.sqrt() / (shape.files as f64).sqrt();
            let mean = ranks(shape.kind);
            assert!((mean - SITE_FILES as f64 / 2.0).abs() < allowed, "{:?}: {mean}", shape.kind);
        }
    }

    /// What gzip takes off is what it takes off such files on the web: neither noise nor repetition.
    #[test]
    fn text_compresses_as_real_text_does() {
        let ratio = |content: &[u8]| {
            content.len() as f64 / sidecars::coded(Coding::Gzip, content).unwrap().len() as f64
        };
        let prose = text::prose(Random::new(5), 60_000);
        let found = ratio(prose.as_bytes());
        assert!((2.2..3.2).contains(&found), "prose: {found:.2}");
        // Twice as much of a text that repeats itself would hardly take more room.
        let longer = text::prose(Random::new(5), 240_000);
        let growth = longer.len() as f64 / ratio(longer.as_bytes()) / (prose.len() as f64 / found);
        assert!((3.0..4.0).contains(&growth), "four times the prose takes {growth:.2} times the room");
        let expected = [
            (Kind::Html, 2.6..5.5),
            (Kind::Css, 3.0..6.5),
            (Kind::Js, 2.4..5.0),
            (Kind::Json, 2.4..5.5),
            (Kind::Svg, 1.9..3.2),
            (Kind::Woff2, 0.99..1.01),
            (Kind::Avif, 0.99..1.01),
        ];
        for (kind, range) in expected {
            let content =
                SiteFile { kind, path: String::new(), bytes: 40_000, weight: 0.0, seed: 9 }.content();
            let found = ratio(&content);
            assert!(range.contains(&found), "{kind:?}: {found:.2}");
        }
    }
}
