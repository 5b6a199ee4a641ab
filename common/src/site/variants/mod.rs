//! Variants: the same file in a content coding, for clients that accept it.
//!
//! A variant is a file that the site has beside it (`style.css.br`), or is made here: what is cached and is text is
//! compressed once, by a thread of lowest priority (`compressor.rs`), never on the way of a request. Until it is there,
//! the file is sent as it is.
//!
//! **Freshness.** A file beside another is a cached file like any other; where it isn't, the entry of the file itself
//! notes that, and leaves when a file of that name appears. What was compressed belongs to the entry that its bytes
//! are from, and ends with it.

mod compressor;
mod encode;
mod jobs;

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use crate::http::accept_encoding::{CODINGS, Coding};
use crate::http::mime::MediaType;
use crate::site::cache::CachedFile;
use crate::site::file::Metadata;
use crate::site::file_bytes::FileBytes;

pub(crate) use compressor::{Compressed, Compressor};

/// Which variants of a file there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Compress {
    /// Those that the site has beside the file, and those that are made of text.
    #[default]
    Auto,
    /// Those that the site has beside the file.
    Sidecars,
    /// None.
    Off,
}

impl Compress {
    /// Whether files of this type may have variants.
    pub(crate) fn applies_to(self, media_type: MediaType) -> bool {
        self != Compress::Off && media_type.is_compressible()
    }
}

/// What is known of the variants of a cached file.
#[derive(Debug, Default)]
pub(crate) struct Variants {
    /// A bit for each coding that the site has no file in.
    absent: AtomicU8,
    compressed: OnceLock<Arc<Compressed>>,
    /// The same, ready to be sent.
    entries: [OnceLock<Arc<CachedFile>>; CODINGS],
}

impl Variants {
    /// Whether the site has no file in this coding.
    pub(crate) fn lacks(&self, coding: Coding) -> bool {
        self.absent.load(Relaxed) & bit(coding) != 0
    }

    /// The site was found to have no file in this coding.
    pub(crate) fn note_absence(&self, coding: Coding) {
        self.absent.fetch_or(bit(coding), Relaxed);
    }

    /// The file in a coding that it was compressed in, if it was. `request` asks for that, and `entry` makes an entry of
    /// the bytes.
    pub(crate) fn compressed(
        &self,
        coding: Coding,
        request: impl FnOnce() -> Option<Arc<Compressed>>,
        entry: impl FnOnce(&Arc<FileBytes>) -> CachedFile,
    ) -> Option<Arc<CachedFile>> {
        let compressed = match self.compressed.get() {
            Some(compressed) => compressed,
            None => {
                let compressed = request()?;
                self.compressed.get_or_init(|| compressed)
            }
        };
        if compressed.is_stale() {
            return None;
        }
        let bytes = compressed.bytes(coding)?;
        Some(Arc::clone(self.entries[coding as usize].get_or_init(|| Arc::new(entry(bytes)))))
    }
}

/// Whether what is beside a file is of that version of it, and complete as far as can be told: no coding makes nothing of
/// anything. What copies a site may write the two in any order, so only the second counts.
pub(crate) fn is_fresh(sidecar: &Metadata, file: &Metadata) -> bool {
    sidecar.modified_seconds >= file.modified_seconds && sidecar.size > 0
}

fn bit(coding: Coding) -> u8 {
    1 << coding as u8
}
