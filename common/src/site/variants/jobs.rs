//! What the compressor has yet to do, in two stages: gzip takes a millisecond, and every client accepts it; brotli takes
//! fifty of them. So no new file waits for the brotli of those before it.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::http::accept_encoding::Coding;
use crate::site::file::{Metadata, SharedFile};
use crate::site::file_bytes::FileBytes;
use crate::site::variants::compressor::Compressed;

/// Files that wait; any other is compressed when it is asked for again. Each holds its bytes, at most 64 KiB,
pub(super) const JOBS_MAX: usize = 256;

/// or a descriptor.
pub(super) const OPEN_JOBS_MAX: usize = 16;

/// Bytes of files that wait for brotli. Where there are more, the oldest goes first.
pub(super) const BROTLI_BYTES_MAX: usize = 32 * 1024 * 1024;

/// A file to be compressed.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) path: Box<[u8]>,
    pub(super) content: Content,
    pub(super) target: Arc<Compressed>,
    /// What was made of an earlier state of the file, perhaps with the same content.
    pub(super) earlier: Option<Arc<Compressed>>,
}

/// Where a file's bytes are.
#[derive(Debug)]
pub(super) enum Content {
    Memory(Arc<FileBytes>),
    File(Arc<SharedFile>, Metadata),
}

impl Job {
    /// Makes what isn't there yet in this coding. Returns what is left to do.
    pub(super) fn carry_out(self, coding: Coding) -> Option<Job> {
        let Job { path, content, target, earlier } = self;
        let bytes = match content {
            Content::Memory(bytes) => bytes,
            Content::File(file, metadata) => Arc::new(target.verify(&file, &metadata)?),
        };
        target.make(coding, &bytes, earlier.as_deref());
        let is_complete = target.is_made(Coding::Brotli);
        (!is_complete).then_some(Job { path, content: Content::Memory(bytes), target, earlier })
    }

    fn is_open(&self) -> bool {
        matches!(self.content, Content::File(..))
    }

    fn bytes(&self) -> usize {
        match &self.content {
            Content::Memory(bytes) => bytes.len(),
            Content::File(..) => 0,
        }
    }
}

/// The jobs, of both stages.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    new: VecDeque<Job>,
    /// How many of those hold a descriptor.
    open: usize,
    brotli: VecDeque<Job>,
    /// How many bytes those hold.
    brotli_bytes: usize,
}

impl Jobs {
    /// Whether there is room for a new file.
    pub(super) fn has_room(&self) -> bool {
        self.new.len() < JOBS_MAX
    }

    /// Whether there is room for one that holds a descriptor.
    pub(super) fn has_room_for_open(&self) -> bool {
        self.has_room() && self.open < OPEN_JOBS_MAX
    }

    /// A new file.
    pub(super) fn push(&mut self, job: Job) {
        self.open += usize::from(job.is_open());
        self.new.push_back(job);
    }

    /// What is left to do of a file whose gzip is made.
    pub(super) fn push_brotli(&mut self, job: Job) {
        self.brotli_bytes += job.bytes();
        self.brotli.push_back(job);
    }

    /// The next one, and what to make of it.
    pub(super) fn pop(&mut self) -> Option<(Coding, Job)> {
        if self.brotli_bytes <= BROTLI_BYTES_MAX
            && let Some(job) = self.new.pop_front()
        {
            self.open -= usize::from(job.is_open());
            return Some((Coding::Gzip, job));
        }
        let job = self.brotli.pop_front()?;
        self.brotli_bytes -= job.bytes();
        Some((Coding::Brotli, job))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.new.is_empty() && self.brotli.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(name: &str, bytes: usize) -> Job {
        Job {
            path: name.as_bytes().into(),
            content: Content::Memory(Arc::new(FileBytes::zeroed(bytes))),
            target: Arc::new(Compressed::new(None)),
            earlier: None,
        }
    }

    /// Carries out the next job, and says what it was.
    fn step(jobs: &mut Jobs) -> (Coding, String) {
        let (coding, job) = jobs.pop().expect("there is more");
        let name = String::from_utf8(job.path.to_vec()).expect("text");
        let target = Arc::clone(&job.target);
        let next = job.carry_out(coding);
        assert!(target.is_made(coding));
        assert_eq!(next.is_some(), coding == Coding::Gzip);
        if let Some(next) = next {
            jobs.push_brotli(next);
        }
        (coding, name)
    }

    /// No new file waits for the brotli of another, unless that has grown too much to be held.
    #[test]
    fn gzip_of_new_files_comes_first() {
        let mut jobs = Jobs::default();
        assert!(jobs.is_empty() && jobs.pop().is_none());
        let expect = |jobs: &mut Jobs, steps: &[(Coding, &str)]| {
            for (coding, name) in steps {
                assert_eq!(step(jobs), (*coding, (*name).to_owned()));
            }
        };
        let (gzip, brotli) = (Coding::Gzip, Coding::Brotli);
        ["a", "b", "c"].into_iter().for_each(|name| jobs.push(job(name, 2000)));
        expect(&mut jobs, &[(gzip, "a"), (gzip, "b"), (gzip, "c"), (brotli, "a")]);
        jobs.push(job("d", 2000));
        assert!(!jobs.is_empty());
        expect(&mut jobs, &[(gzip, "d"), (brotli, "b"), (brotli, "c")]);
        assert!(!jobs.is_empty(), "one has its second stage before it");
        expect(&mut jobs, &[(brotli, "d")]);
        assert!(jobs.is_empty());
        for number in 0..=BROTLI_BYTES_MAX / (1 << 20) {
            jobs.push_brotli(job(&number.to_string(), 1 << 20));
        }
        jobs.push(job("e", 2000));
        expect(&mut jobs, &[(brotli, "0"), (gzip, "e"), (brotli, "1")]);
    }

    #[test]
    fn what_is_made_already_is_left() {
        let whole = job("a", 2000);
        whole.target.make(Coding::Brotli, &[0; 2000], None);
        let target = Arc::clone(&whole.target);
        assert!(whole.carry_out(Coding::Gzip).is_none());
        assert!(target.is_made(Coding::Gzip));
    }
}
