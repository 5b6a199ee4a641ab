//! The files that are served: generated from a seed, the same on every machine.

use crate::failure::{Failure, Result};
use crate::load::client::Sha256Bytes;
use crate::random::Random;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

/// The size of a file of the corpus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Size {
    /// 1 KiB: the cost of a request.
    Small,
    /// 100 KiB: a picture or a script.
    Medium,
    /// 10 MiB: the cost of a byte.
    Large,
}

impl Size {
    /// All sizes, in order.
    pub const ALL: [Size; 3] = [Size::Small, Size::Medium, Size::Large];

    /// In bytes.
    pub const fn bytes(self) -> u64 {
        match self {
            Size::Small => 1024,
            Size::Medium => 100 * 1024,
            Size::Large => 10 * 1024 * 1024,
        }
    }

    /// For people.
    pub const fn label(self) -> &'static str {
        match self {
            Size::Small => "1 KiB",
            Size::Medium => "100 KiB",
            Size::Large => "10 MiB",
        }
    }

    /// The file's name below the root of the corpus.
    pub const fn file_name(self) -> &'static str {
        match self {
            Size::Small => "1KiB.bin",
            Size::Medium => "100KiB.bin",
            Size::Large => "10MiB.bin",
        }
    }
}

/// A folder with one file of each size.
#[derive(Clone, Debug)]
pub struct Corpus {
    root: PathBuf,
    digests: [Sha256Bytes; Size::ALL.len()],
}

impl Corpus {
    /// Writes the files of `seed` into a folder within `parent`, unless they are there already, and brings
    /// them to the disk, so that no write-back runs beside a measurement.
    ///
    /// # Errors
    ///
    /// The folder can't be made or written.
    pub fn create(parent: &Path, seed: u64) -> Result<Corpus> {
        let root = parent.join(format!("corpus-{seed}"));
        fs::create_dir_all(&root)
            .map_err(Failure::context(format!("make the corpus folder {}", root.display())))?;
        let mut digests = [[0; 32]; Size::ALL.len()];
        for (size, digest) in Size::ALL.into_iter().zip(&mut digests) {
            let content = content(size, seed);
            *digest = Sha256::digest(&content).into();
            let path = root.join(size.file_name());
            if fs::read(&path).is_ok_and(|found| found == content) {
                continue;
            }
            write_through(&path, &content)
                .map_err(Failure::context(format!("write the corpus file {}", path.display())))?;
        }
        Ok(Corpus { root, digests })
    }

    /// The folder to serve.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// SHA-256 of the file of this size, as it was generated.
    pub fn digest(&self, size: Size) -> &Sha256Bytes {
        match size {
            Size::Small => &self.digests[0],
            Size::Medium => &self.digests[1],
            Size::Large => &self.digests[2],
        }
    }
}

fn content(size: Size, seed: u64) -> Vec<u8> {
    let length = usize::try_from(size.bytes()).expect("a corpus file fits into memory");
    let mut bytes = vec![0; length];
    Random::stream(seed, size.bytes()).fill(&mut bytes);
    bytes
}

fn write_through(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(content)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_seed_same_files() {
        let folder = tempfile::tempdir().unwrap();
        let first = Corpus::create(folder.path(), 5).unwrap();
        let path = first.root().join(Size::Small.file_name());
        let before = fs::read(&path).unwrap();
        fs::write(&path, b"spoilt").unwrap();
        let second = Corpus::create(folder.path(), 5).unwrap();
        assert_eq!(fs::read(&path).unwrap(), before);
        assert_eq!(first.digest(Size::Small), second.digest(Size::Small));
        assert_eq!(before.len(), 1024);
        let other = Corpus::create(folder.path(), 6).unwrap();
        assert_ne!(first.digest(Size::Large), other.digest(Size::Large));
    }

    #[test]
    fn unwritable_parent_is_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, b"").unwrap();
        let failure = Corpus::create(&file, 1).unwrap_err().to_string();
        assert!(failure.starts_with("make the corpus folder"), "{failure}");
        assert!(!failure.contains('\n'));
    }
}
