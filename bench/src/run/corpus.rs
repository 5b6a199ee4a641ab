//! The files that are served: generated from a seed, the same on every machine.

use crate::failure::{Failure, Result};
use crate::load::request::Sha256Bytes;
use crate::random::Random;
use crate::run::scenario::Files;
use rustix::fs::{Advice, fadvise, statvfs, syncfs};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

const KIB: u64 = 1024;
/// Files for requests that wait for the disk. Each takes one read of the device on any file system.
const COLD_FILES: u64 = 3072;
const COLD_BYTES: u64 = 16 * KIB;
/// Directories of the mix. Each holds nine files of each class, about 5 MB.
const MIX_DIRECTORIES: u64 = 20;
const MIX_FILES_PER_CLASS: u64 = 9;
/// SPECweb99's classes: the step between the sizes of a class in bytes, and its share of the requests.
const MIX_CLASSES: [(u64, f64); 4] = [(102, 0.35), (1_024, 0.50), (10_240, 0.14), (102_400, 0.01)];
/// Room for results and the logs of peers.
const SPARE_BYTES: u64 = 64 * KIB * KIB;

/// A file of the corpus.
#[derive(Clone, Debug, PartialEq)]
pub struct CorpusFile {
    /// Its path below the root; a slash and it make a request's target.
    pub path: String,
    pub(crate) bytes: u64,
    /// Its share of the requests for its set, unnormalised.
    pub(crate) weight: f64,
    pub(crate) digest: Sha256Bytes,
}

/// A folder with the files that some scenarios ask for.
#[derive(Clone, Debug)]
pub struct Corpus {
    root: PathBuf,
    sets: BTreeMap<Files, Vec<CorpusFile>>,
}

impl Corpus {
    /// Writes the files of `sets` into a folder within `parent`, unless they are there already, and brings
    /// them to the disk, so that no write-back runs beside a measurement.
    pub fn create(parent: &Path, seed: u64, sets: impl IntoIterator<Item = Files>) -> Result<Corpus> {
        let root = parent.join(format!("corpus-{seed}"));
        fs::create_dir_all(&root)
            .map_err(Failure::context(format!("make the corpus folder {}", root.display())))?;
        let mut corpus = Corpus { root, sets: BTreeMap::new() };
        for files in sets {
            if !corpus.sets.contains_key(&files) {
                let entries = corpus.write(files, seed)?;
                corpus.sets.insert(files, entries);
            }
        }
        let folder = File::open(&corpus.root).map_err(Failure::context("open the corpus folder"))?;
        syncfs(&folder).map_err(Failure::context("bring the corpus to the disk"))?;
        Ok(corpus)
    }

    fn write(&self, files: Files, seed: u64) -> Result<Vec<CorpusFile>> {
        let plan = plan(files);
        let missing = |path: &str, bytes: u64| {
            !fs::metadata(self.root.join(path)).is_ok_and(|found| found.len() == bytes)
        };
        let wanted: u64 =
            plan.iter().filter(|(path, bytes, _)| missing(path, *bytes)).map(|file| file.1).sum();
        self.require_room(wanted)?;
        let mut entries = Vec::with_capacity(plan.len());
        for (path, bytes, weight) in plan {
            let content = content(&path, bytes, seed);
            let whole = self.root.join(&path);
            if !fs::read(&whole).is_ok_and(|found| found == content) {
                put(&whole, &content)
                    .map_err(Failure::context(format!("write the corpus file {}", whole.display())))?;
            }
            entries.push(CorpusFile { path, bytes, weight, digest: Sha256::digest(&content).into() });
        }
        Ok(entries)
    }

    /// Where the files don't fit, it says so before it fills the disk.
    fn require_room(&self, bytes: u64) -> Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        let found = statvfs(&self.root).map_err(Failure::context("ask for the room on the disk"))?;
        let free = found.f_bavail.saturating_mul(found.f_frsize);
        if free >= bytes + SPARE_BYTES {
            return Ok(());
        }
        let mib = |bytes: u64| bytes.div_ceil(KIB * KIB);
        Err(Failure::new(format!(
            "the corpus needs {} MiB in {}, where {} MiB are free; make room, or name another folder with --corpus",
            mib(bytes + SPARE_BYTES),
            self.root.display(),
            mib(free)
        )))
    }

    /// The folder to serve.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The files of a set; empty for one that wasn't asked for.
    pub fn entries(&self, files: Files) -> &[CorpusFile] {
        self.sets.get(&files).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn sets(&self) -> impl Iterator<Item = Files> {
        self.sets.keys().copied()
    }

    /// Takes the files of a set out of the page cache (posix_fadvise(2), `POSIX_FADV_DONTNEED`), and looks
    /// whether they are gone.
    pub(crate) fn evict(&self, files: Files) -> Result<Eviction> {
        for entry in self.entries(files) {
            let path = self.root.join(&entry.path);
            File::open(&path)
                .and_then(|file| Ok(fadvise(&file, 0, None, Advice::DontNeed)?))
                .map_err(Failure::context(format!("evict {} from the page cache", path.display())))?;
        }
        let Some(resident) = self.resident_bytes(files) else {
            return Ok(Eviction::Unverified);
        };
        if resident > 0 {
            return Err(Failure::new(format!(
                "{resident} bytes of the cold files stay in the page cache of {}; name a folder on a local disk with --corpus",
                self.root.display()
            )));
        }
        Ok(Eviction::Verified)
    }

    /// Bytes of a set that are in the page cache, by fincore(1); `None` where it isn't there.
    fn resident_bytes(&self, files: Files) -> Option<u64> {
        /// Well below what a command line may hold.
        const FILES_PER_CALL: usize = 1024;
        let mut sum = 0;
        for entries in self.entries(files).chunks(FILES_PER_CALL) {
            let output = Command::new("fincore")
                .args(["--noheadings", "--raw", "--bytes", "--output", "RES"])
                .args(entries.iter().map(|entry| self.root.join(&entry.path)))
                .output()
                .ok()?;
            if !output.status.success() {
                return None;
            }
            for line in String::from_utf8(output.stdout).ok()?.lines() {
                sum += line.trim().parse::<u64>().ok()?;
            }
        }
        Some(sum)
    }
}

/// Whether files are known to have left the page cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Eviction {
    /// No page of them is left.
    Verified,
    /// fincore(1) isn't there to tell; the device's reads have to.
    Unverified,
}

/// Path, size and weight of each file of a set.
fn plan(files: Files) -> Vec<(String, u64, f64)> {
    match files {
        Files::Small => vec![("1KiB.bin".to_owned(), KIB, 1.0)],
        Files::Medium => vec![("100KiB.bin".to_owned(), 100 * KIB, 1.0)],
        Files::Large => vec![("10MiB.bin".to_owned(), 10 * KIB * KIB, 1.0)],
        Files::Cold => (0..COLD_FILES).map(|file| (format!("cold/{file:04}.bin"), COLD_BYTES, 1.0)).collect(),
        Files::Mix => {
            let mut plan = Vec::new();
            for directory in 1..=MIX_DIRECTORIES {
                for (class, (step, share)) in MIX_CLASSES.into_iter().enumerate() {
                    for file in 1..=MIX_FILES_PER_CLASS {
                        let bytes = step * file;
                        let weight = share / MIX_FILES_PER_CLASS as f64 / directory as f64;
                        plan.push((format!("mix/{directory:02}/class{class}-{file}.bin"), bytes, weight));
                    }
                }
            }
            plan
        }
    }
}

/// The bytes follow from the seed and the path, so a set doesn't change when another one joins it.
fn content(path: &str, bytes: u64, seed: u64) -> Vec<u8> {
    let stream = path.bytes().fold(bytes, |hash, byte| hash.wrapping_mul(0x100_0000_01B3) ^ u64::from(byte));
    let mut content = vec![0; usize::try_from(bytes).expect("a corpus file fits into memory")];
    Random::stream(seed, stream).fill(&mut content);
    content
}

fn put(path: &Path, content: &[u8]) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    File::create(path)?.write_all(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_seed_same_files() {
        let folder = tempfile::tempdir().unwrap();
        let create = |seed| Corpus::create(folder.path(), seed, [Files::Small, Files::Medium]).unwrap();
        let first = create(5);
        let path = first.root().join("1KiB.bin");
        let before = fs::read(&path).unwrap();
        fs::write(&path, b"spoilt").unwrap();
        let second = create(5);
        assert_eq!(fs::read(&path).unwrap(), before);
        assert_eq!(first.entries(Files::Small), second.entries(Files::Small));
        assert_eq!((before.len(), first.sets().count(), first.entries(Files::Large).len()), (1024, 2, 0));
        assert_ne!(create(6).entries(Files::Small)[0].digest, first.entries(Files::Small)[0].digest);
    }

    #[test]
    fn the_mix_has_specweb_s_shares() {
        let plan = plan(Files::Mix);
        let all: f64 = plan.iter().map(|(_, _, weight)| weight).sum();
        for (low, high, share) in [(0, 1_000, 0.35), (1_000, 10_000, 0.5), (10_000, 100_000, 0.14)] {
            let mine = plan.iter().filter(|(_, bytes, _)| (low..high).contains(bytes));
            let found = mine.map(|(_, _, weight)| weight).sum::<f64>() / all;
            assert!((found - share).abs() < 1e-9, "{low}: {found}");
        }
        let weight = |path: &str| plan.iter().find(|file| file.0 == path).unwrap().2;
        let zipf = weight("mix/01/class1-3.bin") / weight("mix/04/class1-3.bin");
        assert!((zipf - 4.0).abs() < 1e-9, "the fourth directory is asked a fourth as often");
    }

    #[test]
    fn evicted_files_have_to_be_read_again() {
        let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let corpus = Corpus::create(folder.path(), 5, [Files::Medium]).unwrap();
        let path = corpus.root().join("100KiB.bin");
        fs::read(&path).unwrap();
        let resident = corpus.resident_bytes(Files::Medium);
        match corpus.evict(Files::Medium) {
            Ok(Eviction::Verified) => assert_eq!(resident, Some(100 * KIB)),
            Ok(Eviction::Unverified) => assert_eq!(resident, None),
            // A file system in memory keeps its only copy.
            Err(failure) => assert!(failure.to_string().contains("--corpus"), "{failure}"),
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_before() {
        let folder = tempfile::tempdir().unwrap();
        let corpus = Corpus::create(folder.path(), 5, []).unwrap();
        assert_eq!(corpus.require_room(1), Ok(()));
        let failure = corpus.require_room(u64::MAX / 2).unwrap_err().to_string();
        assert!(failure.starts_with("the corpus needs ") && failure.contains("--corpus"), "{failure}");
    }
}
