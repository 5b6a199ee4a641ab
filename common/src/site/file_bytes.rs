//! The bytes of a small file that was read whole, for the cache; or of a page that was made.
//!
//! Cached bytes come and go in no particular order. On a heap they would leave holes that fit nothing else, and with
//! per-thread arenas they would do so in the arena of whichever thread read them. So all but the smallest get pages of
//! their own, and eviction returns their memory to the system completely.

use std::fmt;
use std::ops::{Deref, DerefMut};

use memmap2::MmapMut;

use crate::site::reserved::Reserved;

/// From this size on, bytes get pages of their own. At worst a third of them is wasted, in the last page.
pub const PAGES_BYTES_MIN: usize = 8 * 1024;

/// The bytes of a small file. Their address doesn't change when this is moved.
pub struct FileBytes {
    memory: Memory,
    length: usize,
    /// What a page has taken of the memory for pages.
    _reserved: Option<Reserved>,
}

enum Memory {
    Heap(Box<[u8]>),
    Pages(MmapMut),
}

impl FileBytes {
    /// A zeroed buffer to read a file into.
    #[must_use]
    pub fn zeroed(length: usize) -> FileBytes {
        let pages = if length >= PAGES_BYTES_MIN { MmapMut::map_anon(length).ok() } else { None };
        // The number of mappings is limited (vm.max_map_count); beyond it, fall back to the heap.
        let memory = pages.map_or_else(|| Memory::Heap(vec![0; length].into()), Memory::Pages);
        FileBytes { memory, length, _reserved: None }
    }

    /// A page that was made.
    pub(crate) fn of_page(page: Vec<u8>, reserved: Reserved) -> FileBytes {
        FileBytes { length: page.len(), memory: Memory::Heap(page.into()), _reserved: Some(reserved) }
    }

    /// Shortens the buffer to `length` bytes.
    pub fn truncate(&mut self, length: usize) {
        self.length = self.length.min(length);
    }
}

impl Deref for FileBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.memory {
            Memory::Heap(bytes) => &bytes[..self.length],
            Memory::Pages(bytes) => &bytes[..self.length],
        }
    }
}

impl DerefMut for FileBytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        match &mut self.memory {
            Memory::Heap(bytes) => &mut bytes[..self.length],
            Memory::Pages(bytes) => &mut bytes[..self.length],
        }
    }
}

impl From<&[u8]> for FileBytes {
    fn from(bytes: &[u8]) -> FileBytes {
        let mut copy = FileBytes::zeroed(bytes.len());
        copy.copy_from_slice(bytes);
        copy
    }
}

impl fmt::Debug for FileBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.memory {
            Memory::Heap(_) => "on the heap",
            Memory::Pages(_) => "in pages",
        };
        write!(f, "{} bytes {kind}", self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_keep_their_address_when_moved() {
        for length in [0, 1, PAGES_BYTES_MIN - 1, PAGES_BYTES_MIN, PAGES_BYTES_MIN + 1, 64 * 1024] {
            let content: Vec<u8> = (0..=250).cycle().take(length).collect();
            let bytes = FileBytes::from(content.as_slice());
            let place = bytes.as_ptr();
            let moved = Box::new(bytes);
            assert_eq!((&moved[..], moved.as_ptr()), (content.as_slice(), place), "{length}");
        }
    }

    #[test]
    fn truncation_shortens_the_buffer() {
        for length in [100, PAGES_BYTES_MIN] {
            let mut bytes = FileBytes::zeroed(length);
            bytes.truncate(length + 1);
            assert_eq!(bytes.len(), length);
            bytes.truncate(10);
            bytes.fill(7);
            assert_eq!(&bytes[..], [7; 10]);
        }
    }

    #[test]
    fn only_small_files_are_on_the_heap() {
        let is_on_heap = |length| matches!(FileBytes::zeroed(length).memory, Memory::Heap(_));
        assert!(is_on_heap(0) && is_on_heap(PAGES_BYTES_MIN - 1));
        assert!(!is_on_heap(PAGES_BYTES_MIN));
    }
}
