//! Trials: the cache against synthetic requests for real files. What it achieves, and how often it changes its mind.

use std::sync::Arc;
use std::time::Instant;

use super::{Cache, CacheConfig, CacheGauge, Candidate, Moment};
use crate::site::file::SharedFile;
use crate::site::file_bytes::FileBytes;
use crate::site::open::OpenRequest;
use crate::site::root::{Site, SiteOptions};

/// What the cache holds.
const ENTRIES: usize = 100;
/// What there is.
const FILES: usize = 8 * ENTRIES;
/// Pages that a crawler asks for, each once.
const PAGES: u32 = 5000;
/// Enough to fill the cache and to tell the files apart.
const WARM_UP: usize = 200 * ENTRIES;
const REQUESTS: usize = 200 * ENTRIES;

/// Random numbers that are the same in every run (SplitMix64: Steele, Lea and Flood, OOPSLA 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// From 0 to below 1.
    fn fraction(&mut self) -> f64 {
        f64::from(u32::try_from(self.next() >> 32).expect("32 bits")) / f64::from(u32::MAX)
    }
}

/// The shares of requests for the first so many files, by the files' popularity: the nth is requested in proportion
/// to 1 / n^exponent (Zipf's law). Exponent 0: all are equally popular.
fn shares(exponent: f64) -> Vec<f64> {
    let mut sum = 0.0;
    let sums: Vec<f64> = (1..=FILES)
        .map(|rank| {
            sum += f64::from(u32::try_from(rank).expect("a small number")).powf(-exponent);
            sum
        })
        .collect();
    sums.iter().map(|up_to| up_to / sum).collect()
}

/// A site with files of the same size, and a cache for an eighth of them.
struct Trial {
    root: tempfile::TempDir,
    site: Arc<Site>,
    cache: Cache,
    gauge: Arc<CacheGauge>,
    moment: Moment,
    random: Random,
    hits: usize,
}

impl Trial {
    fn new() -> Trial {
        Trial::within(CacheConfig { entries: ENTRIES, ..CacheConfig::default() })
    }

    fn within(bounds: CacheConfig) -> Trial {
        let root = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).expect("a directory");
        let site = Arc::new(Site::open_root(root.path(), SiteOptions::default()).expect("opened"));
        for file in 0..FILES {
            std::fs::write(root.path().join(file.to_string()), "content").expect("written");
        }
        let gauge = Arc::new(CacheGauge::default());
        let cache = Cache::new(bounds, Arc::clone(&gauge)).expect("a cache");
        let moment = Moment { now: Instant::now(), unix_seconds: i64::MAX, next_second: Instant::now() };
        Trial { root, site, cache, gauge, moment, random: Random(7), hits: 0 }
    }

    /// Makes the pages that a crawler asks for: names of the first file.
    fn with_pages(self) -> Trial {
        let (root, first) = (self.root.path(), self.root.path().join("0"));
        for page in 0..PAGES {
            std::fs::hard_link(&first, root.join(format!("page{page}"))).expect("linked");
        }
        self
    }

    /// A request, as a worker carries it out.
    fn request(&mut self, name: &str) {
        if self.cache.get(name.as_bytes(), self.moment.now).is_some() {
            self.hits += 1;
            return;
        }
        let mut request = OpenRequest::new(Arc::clone(&self.site));
        request.set_file(&self.site, name.as_bytes(), b"");
        let opened = request.open().expect("opened");
        let file = Arc::new(SharedFile::new(opened.file));
        let (path, metadata) = (name.as_bytes(), opened.metadata);
        let candidate = Candidate { path, file: &file, metadata, examined: self.moment.now };
        let Some(entry) = self.cache.admit(&self.site, &candidate, self.moment) else { return };
        if entry.wants_bytes {
            self.cache.keep_bytes(name.as_bytes(), &entry, FileBytes::from(&b"content"[..]));
        }
    }

    /// A request for a file drawn by these shares. `shift` turns them: others are popular.
    fn draw(&mut self, shares: &[f64], shift: usize) {
        let drawn = self.random.fraction();
        let rank = shares.partition_point(|up_to| *up_to < drawn).min(FILES - 1);
        self.request(&((rank + shift) % FILES).to_string());
    }

    /// The share of hits of so many requests.
    fn rate(&mut self, shares: &[f64], shift: usize, requests: usize) -> f64 {
        self.hits = 0;
        (0..requests).for_each(|_| self.draw(shares, shift));
        ratio(self.hits, requests)
    }
}

fn ratio(count: usize, of: usize) -> f64 {
    f64::from(u32::try_from(count).expect("few")) / f64::from(u32::try_from(of).expect("few"))
}

/// The best that a cache could do that knew everything and never changed: it holds the most popular files.
fn optimum(shares: &[f64]) -> f64 {
    shares[ENTRIES - 1]
}

#[test]
fn the_popular_files_are_kept() {
    for exponent in [0.7, 0.9, 1.0, 1.1] {
        let (shares, mut trial) = (shares(exponent), Trial::new());
        trial.rate(&shares, 0, WARM_UP);
        let evicted = trial.gauge.read().evictions;
        let rate = trial.rate(&shares, 0, REQUESTS) / optimum(&shares);
        assert!(rate > 0.95, "exponent {exponent}: {rate:.3} of the optimum");
        let changes = ratio(usize::try_from(trial.gauge.read().evictions - evicted).expect("few"), REQUESTS);
        assert!(changes < 0.002, "exponent {exponent}: {changes} changes per request");
    }
}

/// No file deserves the cache more than another, so changing it would be work for nothing.
#[test]
fn equally_popular_files_do_not_displace_each_other() {
    let (shares, mut trial) = (shares(0.0), Trial::new());
    trial.rate(&shares, 0, WARM_UP);
    let evicted = trial.gauge.read().evictions;
    let rate = trial.rate(&shares, 0, REQUESTS) / optimum(&shares);
    let changes = ratio(usize::try_from(trial.gauge.read().evictions - evicted).expect("few"), REQUESTS);
    assert!(changes < 0.001, "{changes} changes per request");
    assert!(rate > 0.9, "{rate:.3} of the optimum");
}

#[test]
fn a_scan_leaves_the_cache_alone() {
    let (shares, mut trial) = (shares(0.9), Trial::new().with_pages());
    trial.rate(&shares, 0, WARM_UP);
    let (mut hits, evicted) = (0.0, trial.gauge.read().evictions);
    for page in 0..PAGES {
        trial.request(&format!("page{page}"));
        hits += trial.rate(&shares, 0, 2);
    }
    let rate = hits / f64::from(PAGES) / optimum(&shares);
    assert!(rate > 0.95, "{rate:.3} of the optimum");
    let changes = trial.gauge.read().evictions - evicted;
    assert!(changes < u64::from(PAGES) / 200, "{changes} changes in {PAGES} scanned pages");
}

#[test]
fn a_change_of_taste_is_followed() {
    let (shares, mut trial) = (shares(0.9), Trial::new());
    trial.rate(&shares, 0, WARM_UP);
    trial.rate(&shares, FILES / 2, 100 * ENTRIES);
    let rate = trial.rate(&shares, FILES / 2, 100 * ENTRIES) / optimum(&shares);
    assert!(rate > 0.8, "{rate:.3} of the optimum");
}

/// While there is room, a second request is enough, however long ago the first one was, and one is not.
#[test]
fn with_room_the_second_request_is_let_in() {
    let mut trial = Trial::within(CacheConfig::default()).with_pages();
    for page in 0..PAGES {
        trial.request(&format!("page{page}"));
    }
    let wrongly = trial.gauge.read().entries;
    assert!(wrongly < 3, "{wrongly} files were let in at once");
    for page in 0..PAGES {
        trial.request(&format!("page{page}"));
    }
    let kept = trial.gauge.read().entries;
    assert!(kept > u64::from(PAGES) * 9 / 10, "{kept} of {PAGES} files are kept");
}
