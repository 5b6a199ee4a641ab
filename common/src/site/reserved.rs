//! Memory for pages that are made when they are asked for: bounded over all connections, whoever reads them how slowly.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use rustix::io::Errno;

/// Bytes that listings may take up at once, from the first name that is read to the last byte that is sent.
pub(crate) const LISTING_BYTES_MAX: usize = 64 << 20;

/// What is taken of [`LISTING_BYTES_MAX`] now.
static TAKEN: AtomicUsize = AtomicUsize::new(0);

/// A part of the memory; given back on drop.
#[derive(Debug, Default)]
pub(crate) struct Reserved {
    bytes: usize,
}

impl Reserved {
    /// Takes so many bytes more.
    ///
    /// # Errors
    /// `ENOMEM` if there are none left.
    pub(crate) fn grow(&mut self, bytes: usize) -> rustix::io::Result<()> {
        if TAKEN.fetch_add(bytes, Relaxed) + bytes > LISTING_BYTES_MAX {
            TAKEN.fetch_sub(bytes, Relaxed);
            return Err(Errno::NOMEM);
        }
        self.bytes += bytes;
        Ok(())
    }

    /// Gives back all but so many bytes.
    pub(crate) fn shrink_to(&mut self, bytes: usize) {
        let kept = self.bytes.min(bytes);
        TAKEN.fetch_sub(self.bytes - kept, Relaxed);
        self.bytes = kept;
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

    // The only test that takes much of it: others of this process share it.
    #[test]
    fn what_is_taken_is_bounded_and_comes_back() {
        let half = LISTING_BYTES_MAX / 2;
        let mut first = Reserved::default();
        first.grow(half).expect("half of it");
        let mut second = Reserved::default();
        assert_eq!(second.grow(half + 1), Err(Errno::NOMEM));
        first.shrink_to(10);
        second.grow(half + 1).expect("there is room again");
        assert_eq!(first.grow(half), Err(Errno::NOMEM));
        drop(second);
        first.grow(half).expect("all of it came back");
    }
}
