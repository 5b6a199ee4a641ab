//! Memory for pages that are made when they are asked for: bounded over all connections, whoever reads them how slowly.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use rustix::io::Errno;

/// Bytes that listings may take up at once, from the first name that is read to the last byte that is sent.
const LISTING_BYTES_MAX: usize = 64 << 20;

static LISTINGS: Memory = Memory { bytes_max: LISTING_BYTES_MAX, taken: AtomicUsize::new(0) };

/// Memory of which no more than so many bytes are taken at once.
#[derive(Debug)]
struct Memory {
    bytes_max: usize,
    taken: AtomicUsize,
}

/// A part of the memory; given back on drop.
#[derive(Debug)]
pub(crate) struct Reserved {
    of: &'static Memory,
    bytes: usize,
}

impl Reserved {
    /// Nothing yet, of what there is for listings.
    pub(crate) fn for_listing() -> Reserved {
        Reserved { of: &LISTINGS, bytes: 0 }
    }

    /// Takes so many bytes more.
    ///
    /// # Errors
    /// `ENOMEM` if there are none left.
    pub(crate) fn grow(&mut self, bytes: usize) -> rustix::io::Result<()> {
        if self.of.taken.fetch_add(bytes, Relaxed) + bytes > self.of.bytes_max {
            self.of.taken.fetch_sub(bytes, Relaxed);
            return Err(Errno::NOMEM);
        }
        self.bytes += bytes;
        Ok(())
    }

    /// Gives back all but so many bytes.
    pub(crate) fn shrink_to(&mut self, bytes: usize) {
        let kept = self.bytes.min(bytes);
        self.of.taken.fetch_sub(self.bytes - kept, Relaxed);
        self.bytes = kept;
    }

    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_bounded_and_comes_back() {
        static HUNDRED: Memory = Memory { bytes_max: 100, taken: AtomicUsize::new(0) };
        let [mut first, mut second] = [(); 2].map(|()| Reserved { of: &HUNDRED, bytes: 0 });
        first.grow(40).expect("some of it");
        first.grow(10).expect("half of it");
        assert_eq!(second.grow(51), Err(Errno::NOMEM));
        second.grow(50).expect("the last byte, too");
        assert_eq!(first.grow(1), Err(Errno::NOMEM));
        first.shrink_to(60);
        assert_eq!((first.bytes(), second.bytes()), (50, 50), "it has no more");
        first.shrink_to(10);
        assert_eq!(second.grow(41), Err(Errno::NOMEM));
        second.grow(40).expect("what came back");
        drop(second);
        first.grow(90).expect("all of it came back");
        assert_eq!(Reserved::for_listing().of.bytes_max, LISTING_BYTES_MAX);
    }
}
