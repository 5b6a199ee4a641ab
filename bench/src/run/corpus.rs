//! The files that are served: generated from a seed, the same on every machine.

use crate::failure::{Failure, Result};
use crate::load::coding::Coding;
use crate::load::request::Sha256Bytes;
use crate::machine::placement;
use crate::random::Random;
use crate::run::newcomers;
use crate::run::scenario::Files;
use crate::run::site::{self, Kind, SiteFile, sidecars};
use rustix::fs::{Advice, fadvise, statvfs, syncfs};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, SystemTime};

const KIB: u64 = 1024;
/// Files for requests that wait for the disk. Each takes one read of the device on any file system.
const COLD_FILES: u64 = 3072;
const COLD_BYTES: u64 = 16 * KIB;
/// Directories of the mix. Each holds nine files of each class, about 5 MB.
const MIX_DIRECTORIES: u64 = 20;
const MIX_FILES_PER_CLASS: u64 = 9;
/// SPECweb99's classes: the step between the sizes of a class in bytes, and its share of the requests.
const MIX_CLASSES: [(u64, f64); 4] = [(102, 0.35), (1_024, 0.50), (10_240, 0.14), (102_400, 0.01)];
/// When the site was built: no server has to fear that a file is just being written. 2025-01-01, in seconds since the
/// Unix epoch.
const SITE_BUILT: u64 = 1_735_689_600;
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
    /// What it is, for files of sets that browsers ask for.
    pub(crate) kind: Option<Kind>,
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
        match files {
            Files::Site => return self.write_site(seed),
            Files::New => return self.write_text(&newcomers::new_files(seed)),
            Files::Pages => return self.write_text(&newcomers::pages(seed)),
            Files::Constant => return self.write_constant(),
            Files::Small | Files::Medium | Files::Large | Files::Mix | Files::Cold => {}
        }
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
            let digest = Sha256::digest(&content).into();
            entries.push(CorpusFile { path, bytes, weight, digest, kind: None });
        }
        Ok(entries)
    }

    /// Writes what the lab answers to any request, so that other servers can answer the same.
    fn write_constant(&self) -> Result<Vec<CorpusFile>> {
        let answer = lab::services::ANSWER;
        let head_bytes = memchr::memmem::find(answer, b"\r\n\r\n").map_or(0, |end| end + 4);
        let (path, content) = ("constant.txt".to_owned(), &answer[head_bytes..]);
        let whole = self.root.join(&path);
        if !fs::read(&whole).is_ok_and(|found| found == content) {
            put(&whole, content)
                .map_err(Failure::context(format!("write the corpus file {}", whole.display())))?;
        }
        let digest = Sha256::digest(content).into();
        Ok(vec![CorpusFile { path, bytes: content.len() as u64, weight: 1.0, digest, kind: None }])
    }

    /// Writes the site, with its files compressed beside them. Compressing takes a while, so all CPUs take part; it is
    /// done once.
    fn write_site(&self, seed: u64) -> Result<Vec<CorpusFile>> {
        let plan = site::plan(seed);
        let missing = plan.iter().filter(|file| !self.root.join(&file.path).exists());
        // Compressed files take less room than what they are made of.
        self.require_room(missing.map(|file| 2 * file.bytes as u64).sum())?;
        let has_zstd = sidecars::has_zstd();
        let next = Mutex::new(plan.iter().enumerate());
        let work = || -> Result<Vec<(usize, Written)>> {
            placement::unpin()?;
            let mut written = Vec::new();
            loop {
                let file = next.lock().map_or(None, |mut next| next.next());
                let Some((number, file)) = file else {
                    return Ok(written);
                };
                let doing = || format!("write the file {} of the site", self.root.join(&file.path).display());
                written.push((number, self.write_page(file).map_err(Failure::context(doing()))?));
            }
        };
        let panicked = |_| Failure::new("a thread that writes the site has panicked");
        let results = thread::scope(|scope| -> Result<Vec<Vec<(usize, Written)>>> {
            let cpus = scope.spawn(placement::unpin).join().map_err(panicked)??;
            let workers: Vec<_> = (0..cpus).map(|_| scope.spawn(work)).collect();
            workers.into_iter().map(|worker| worker.join().map_err(panicked)?).collect()
        })?;
        let mut written: Vec<(usize, Written)> = results.concat();
        written.sort_unstable_by_key(|(number, _)| *number);
        let doing = || Failure::context(format!("compress the site in {}", self.root.display()));
        if has_zstd {
            let stale = written.iter().filter(|(_, file)| file.lacks_zstd);
            let stale: Vec<PathBuf> = stale.map(|(_, file)| self.root.join(&file.entry.path)).collect();
            sidecars::write_zstd(&stale).map_err(doing())?;
        }
        for (_, file) in &written {
            date(&self.root.join(&file.entry.path)).map_err(doing())?;
        }
        Ok(written.into_iter().map(|(_, file)| file.entry).collect())
    }

    /// Writes text that nothing compressed lies beside.
    fn write_text(&self, plan: &[SiteFile]) -> Result<Vec<CorpusFile>> {
        let missing = plan.iter().filter(|file| !self.root.join(&file.path).exists());
        self.require_room(missing.map(|file| file.bytes as u64).sum())?;
        let write = |file: &SiteFile| -> io::Result<CorpusFile> {
            let content = self.write_content(file)?;
            date(&self.root.join(&file.path))?;
            Ok(entry(file, &content))
        };
        let doing = |file: &SiteFile| format!("write the file {}", self.root.join(&file.path).display());
        plan.iter().map(|file| write(file).map_err(Failure::context(doing(file)))).collect()
    }

    /// Writes a file, unless it is there, and returns what it says.
    fn write_content(&self, file: &SiteFile) -> io::Result<Vec<u8>> {
        let content = file.content();
        let whole = self.root.join(&file.path);
        if !fs::read(&whole).is_ok_and(|found| found == content) {
            put(&whole, &content)?;
        }
        Ok(content)
    }

    /// Writes a file of the site and its sidecars, unless they are there.
    fn write_page(&self, file: &SiteFile) -> io::Result<Written> {
        let content = self.write_content(file)?;
        let whole = self.root.join(&file.path);
        let is_coded = file.kind.is_text() && content.len() >= sidecars::BYTES_MIN;
        let bytes = content.len() as u64;
        let is_there = |coding: Coding| {
            let found = fs::read(sidecars::path(&whole, coding));
            found.is_ok_and(|found| coding.decode(&found, bytes).is_ok_and(|says| says == content))
        };
        for coding in sidecars::WRITTEN.into_iter().filter(|_| is_coded) {
            if !is_there(coding) {
                put(&sidecars::path(&whole, coding), &sidecars::coded(coding, &content)?)?;
            }
        }
        let entry = entry(file, &content);
        Ok(Written { entry, lacks_zstd: is_coded && !is_there(Coding::Zstd) })
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
                "{resident} bytes of files that should be cold stay in the page cache of {}; name a folder on a local disk with --corpus",
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

/// A file of the site that is there.
#[derive(Clone)]
struct Written {
    entry: CorpusFile,
    /// Whether it is to be compressed by zstd(1).
    lacks_zstd: bool,
}

fn entry(file: &SiteFile, content: &[u8]) -> CorpusFile {
    CorpusFile {
        path: file.path.clone(),
        bytes: content.len() as u64,
        weight: file.weight,
        digest: Sha256::digest(content).into(),
        kind: Some(file.kind),
    }
}

/// Gives a file and its sidecars the time at which the site was built: servers compare them.
fn date(file: &Path) -> io::Result<()> {
    let built = SystemTime::UNIX_EPOCH + Duration::from_secs(SITE_BUILT);
    let sidecars = [Coding::Gzip, Coding::Br, Coding::Zstd].map(|coding| sidecars::path(file, coding));
    for path in [file.to_owned()].into_iter().chain(sidecars) {
        match fs::metadata(&path).and_then(|found| found.modified()) {
            Ok(modified) if modified != built => {
                File::options().write(true).open(&path)?.set_modified(built)?
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
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
        Files::Site | Files::New | Files::Pages | Files::Constant => {
            unreachable!("text has plans of its own")
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
    fn the_site_has_its_files_compressed_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let corpus = Corpus { root: folder.path().to_owned(), sets: BTreeMap::new() };
        let page =
            site::plan(5).into_iter().find(|file| file.kind == Kind::Json && file.bytes > 2_000).unwrap();
        let picture = site::plan(5).into_iter().find(|file| file.kind == Kind::Avif).unwrap();
        let written = corpus.write_page(&page).unwrap();
        let whole = folder.path().join(&page.path);
        let content = fs::read(&whole).unwrap();
        assert_eq!((written.entry.bytes, written.lacks_zstd), (content.len() as u64, true));
        let sidecar = |coding| sidecars::path(&whole, coding);
        for coding in sidecars::WRITTEN {
            let coded = fs::read(sidecar(coding)).unwrap();
            assert!(coded.len() < content.len() / 2);
            assert_eq!(coding.decode(&coded, written.entry.bytes).unwrap(), content, "{coding}");
            fs::write(sidecar(coding), b"spoilt").unwrap();
        }
        corpus.write_page(&page).unwrap();
        for coding in sidecars::WRITTEN {
            let coded = fs::read(sidecar(coding)).unwrap();
            assert_eq!(coding.decode(&coded, written.entry.bytes).unwrap(), content, "{coding}");
        }
        date(&whole).unwrap();
        let modified = |path: &Path| fs::metadata(path).unwrap().modified().unwrap();
        assert_eq!(modified(&whole), modified(&sidecar(Coding::Br)));
        assert!(modified(&whole) < SystemTime::now() - Duration::from_secs(3_600));
        corpus.write_page(&picture).unwrap();
        assert!(!sidecars::path(&folder.path().join(&picture.path), Coding::Gzip).exists());
    }

    #[test]
    fn nothing_lies_beside_new_files() {
        let folder = tempfile::tempdir().unwrap();
        let corpus = Corpus { root: folder.path().to_owned(), sets: BTreeMap::new() };
        let plan = newcomers::pages(5);
        let entries = corpus.write_text(&plan).unwrap();
        assert_eq!(entries, corpus.write_text(&plan).unwrap());
        for entry in &entries {
            let found = fs::read(folder.path().join(&entry.path)).unwrap();
            assert_eq!((found.len() as u64, Sha256::digest(&found).into()), (entry.bytes, entry.digest));
            assert!(entry.kind.is_some_and(Kind::is_text));
        }
        assert_eq!(fs::read_dir(folder.path().join("pages")).unwrap().count(), newcomers::PAGES);
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
