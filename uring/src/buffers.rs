//! Memory that the kernel writes into while an operation is in flight.
//!
//! There are three kinds of buffer, each with its life cycle as a numbered list.
//!
//! A **receive buffer** belongs to the ring of provided buffers ([`ProvidedBuffers`], Linux 5.19):
//! 1. The server writes its address into the shared ring and moves the tail. The kernel owns it now, and the server
//!    neither reads nor writes it.
//! 2. A receive takes it from the head of the ring, fills it, and names it in its completion. The server owns it again,
//!    as a [`RecvBuffer`], and no other completion can name it.
//! 3. The guard is dropped: back to 1.
//!
//! The buffers and the shared ring live in one allocation, held by an `Rc` that every guard shares. It is freed with
//! its last holder. The [ring of operations](crate::ring) keeps its share while any receive is in flight.
//!
//! A **single buffer** ([`SingleBuffer`]) is for one receive, when provided buffers are disabled:
//! 1. It is taken from the pool and moves into the table of operations in flight. Only the kernel touches it, however
//!    long the client stays silent.
//! 2. The completion arrives: the guard owns it.
//! 3. The guard is dropped: back to the pool.
//!
//! A **read buffer** ([`ReadBuffer`]) carries one piece of a file from a READ to a SEND:
//! 1. It is taken from the pool, and the head of the response is written directly in front of the body's position.
//! 2. It moves into the table of operations in flight, and only the kernel touches its memory.
//! 3. The completion arrives: it returns to the pool and is reused first, while it is in the CPU cache.

use std::alloc::{self, Layout};
use std::cell::{Cell, RefCell};
use std::mem;
use std::ops::Range;
use std::ptr::NonNull;
use std::rc::Rc;
use std::slice;
use std::sync::atomic::{AtomicU16, Ordering};

use common::site::free_list::FreeList;
use io_uring::types::BufRingEntry;

/// Size of a receive buffer. A page holds any usual request, and several pipelined ones.
pub const RECEIVE_BUFFER_BYTES: u32 = 4096;

/// Receive buffers the kernel gets at first; it gets more when a burst uses them up. A few buffers stay in the CPU
/// cache, and memory that is never needed is never touched.
const FIRST_GRANT: u16 = 64;

/// Idle single buffers kept for reuse: as many as one batch of completions can return.
const SINGLE_IDLE_MAX: usize = 1024;

/// The shared ring must be page-aligned (`io_uring_register_buf_ring(3)`).
const PAGE_BYTES: usize = 4096;

/// The ring of provided buffers. The kernel takes a buffer only when data arrives, so thousands of idle connections
/// share a few.
pub struct ProvidedBuffers {
    /// The shared ring of `count` entries, at the page-aligned start of the allocation.
    entries: NonNull<BufRingEntry>,
    /// The first buffer, after the entries.
    memory: NonNull<u8>,
    layout: Layout,
    count: u16,
    /// Buffers numbered below this are in circulation; the others are kept for a burst.
    granted: Cell<u16>,
    /// The tail of the shared ring; wraps like the kernel's copy.
    tail: Cell<u16>,
    /// Which buffers the kernel owns.
    lent: Box<[Cell<bool>]>,
}

impl ProvidedBuffers {
    /// `count` buffers, of which the kernel gets the first ones now. Untouched buffers take up no memory.
    ///
    /// # Panics
    /// If `count` isn't a power of two up to 2¹⁵, as the kernel requires.
    #[must_use]
    pub fn new(count: u16) -> Rc<ProvidedBuffers> {
        assert!(
            count.is_power_of_two() && count <= 1 << 15,
            "must be a power of two up to 2^15, not {count}"
        );
        let entries_bytes = (usize::from(count) * size_of::<BufRingEntry>()).next_multiple_of(PAGE_BYTES);
        let bytes = entries_bytes + usize::from(count) * RECEIVE_BUFFER_BYTES as usize;
        let layout = Layout::from_size_align(bytes, PAGE_BYTES).expect("less than 2^15 pages of buffers");
        // SAFETY: `alloc` requires a layout of non-zero size: there is at least one buffer.
        let start = unsafe { alloc::alloc(layout) };
        let Some(start) = NonNull::new(start) else { alloc::handle_alloc_error(layout) };
        // SAFETY: `write_bytes` requires valid memory of this length: the entries are at the start of the allocation.
        unsafe { start.write_bytes(0, entries_bytes) };
        // SAFETY: `add` must stay within the allocation: the buffers follow the entries.
        let memory = unsafe { start.add(entries_bytes) };
        let buffers = Rc::new(ProvidedBuffers {
            entries: start.cast(),
            memory,
            layout,
            count,
            granted: Cell::new(0),
            tail: Cell::new(0),
            lent: vec![Cell::new(false); usize::from(count)].into(),
        });
        buffers.grant(FIRST_GRANT);
        buffers
    }

    /// The address of the shared ring, for `IORING_REGISTER_PBUF_RING`.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.entries.as_ptr().expose_provenance() as u64
    }

    /// The number of buffers, in circulation or not.
    #[must_use]
    pub fn count(&self) -> u16 {
        self.count
    }

    /// The number of buffers the kernel owns right now.
    #[must_use]
    pub fn lent(&self) -> usize {
        self.lent.iter().filter(|lent| lent.get()).count()
    }

    /// Doubles the number of buffers in circulation, after a burst has used them up.
    pub fn grow(&self) {
        self.grant(self.granted.get());
    }

    fn grant(&self, more: u16) {
        let granted = self.granted.get();
        let target = granted.saturating_add(more).min(self.count);
        self.granted.set(target);
        (granted..target).for_each(|id| self.lend(id));
    }

    /// Hands buffer `id` to the kernel.
    fn lend(&self, id: u16) {
        let index = self.tail.get() & (self.count - 1);
        // SAFETY: `add` must stay within the allocation: the index is below the number of entries.
        let mut entry = unsafe { self.entries.add(usize::from(index)) };
        // SAFETY: `as_mut` requires a valid entry that nothing else accesses: zeroed memory is a valid entry, and the
        // kernel reads only entries between head and tail. This one is beyond the tail, because there are as many
        // entries as buffers and this buffer isn't in the ring.
        let entry = unsafe { entry.as_mut() };
        entry.set_addr(self.buffer(id).as_ptr().expose_provenance() as u64);
        entry.set_len(RECEIVE_BUFFER_BYTES);
        entry.set_bid(id);
        self.lent[usize::from(id)].set(true);
        self.tail.set(self.tail.get().wrapping_add(1));
        self.publish_tail();
    }

    /// Makes the entries up to the tail visible to the kernel.
    fn publish_tail(&self) {
        // SAFETY: `tail` requires the address of the first entry of an initialised ring, which `entries` is.
        let tail = unsafe { BufRingEntry::tail(self.entries.as_ptr()) };
        // SAFETY: `from_ptr` requires an aligned, valid address that is accessed only atomically while the reference
        // lives: it is a field of the first entry, which lives as long as `self`. An entry's setters don't touch it,
        // and the kernel reads it with load-acquire.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        tail.store(self.tail.get(), Ordering::Release);
    }

    fn buffer(&self, id: u16) -> NonNull<u8> {
        debug_assert!(id < self.count, "buffer {id} of {}", self.count);
        // SAFETY: `add` must stay within the allocation, which holds `count` buffers from `memory` on.
        unsafe { self.memory.add(usize::from(id) * RECEIVE_BUFFER_BYTES as usize) }
    }

    /// Takes over buffer `id`, which a completion has named, with `length` bytes received into it.
    ///
    /// # Panics
    /// If the kernel doesn't own the buffer, or `length` exceeds it: memory is corrupt then.
    pub(crate) fn take(self: &Rc<Self>, id: u16, length: usize) -> RecvBuffer {
        let lent = self.lent.get(usize::from(id)).is_some_and(|lent| lent.replace(false));
        assert!(lent, "a completion names only a buffer that the kernel was given, not {id}");
        assert!(length <= RECEIVE_BUFFER_BYTES as usize, "a receive of {length} bytes fits its buffer");
        RecvBuffer { home: Rc::clone(self), id, length }
    }
}

impl Drop for ProvidedBuffers {
    fn drop(&mut self) {
        // SAFETY: `dealloc` requires what `alloc` returned for this layout: `new` allocated it. This is the last holder
        // of the `Rc`, so no guard and no receive in flight has a share (see the module docs).
        unsafe { alloc::dealloc(self.entries.as_ptr().cast(), self.layout) };
    }
}

/// Received bytes, in a buffer that returns to its pool on drop.
pub enum Received {
    /// In a provided buffer.
    Provided(RecvBuffer),
    /// In a buffer of their own.
    Single(SingleBuffer),
}

impl Received {
    /// The bytes; never empty.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match self {
            Received::Provided(buffer) => buffer.bytes(),
            Received::Single(buffer) => buffer.bytes(),
        }
    }
}

/// A provided buffer with received bytes.
pub struct RecvBuffer {
    home: Rc<ProvidedBuffers>,
    id: u16,
    length: usize,
}

impl RecvBuffer {
    /// The bytes; never empty.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: `from_raw_parts` requires initialised memory that nothing writes while the slice lives: the kernel
        // has written `length` bytes, and the buffer belongs to this guard alone until it is dropped.
        unsafe { slice::from_raw_parts(self.home.buffer(self.id).as_ptr(), self.length) }
    }
}

impl Drop for RecvBuffer {
    fn drop(&mut self) {
        self.home.lend(self.id);
    }
}

/// Idle single buffers; the most recently used is reused first.
#[derive(Default)]
pub struct SingleBuffers {
    idle: RefCell<Vec<Vec<u8>>>,
}

impl SingleBuffers {
    /// A buffer for one receive, fully initialised.
    pub(crate) fn take(&self) -> Vec<u8> {
        self.idle.borrow_mut().pop().unwrap_or_else(|| vec![0; RECEIVE_BUFFER_BYTES as usize])
    }

    /// Wraps a completed receive of `length` bytes; `None` if `length` is 0, the end of the stream.
    pub(crate) fn received(self: &Rc<Self>, memory: Vec<u8>, length: usize) -> Option<SingleBuffer> {
        Some(SingleBuffer { home: Rc::clone(self), memory, length }).filter(|_| length > 0)
    }
}

/// A buffer filled by a single receive.
pub struct SingleBuffer {
    home: Rc<SingleBuffers>,
    memory: Vec<u8>,
    length: usize,
}

impl SingleBuffer {
    fn bytes(&self) -> &[u8] {
        &self.memory[..self.length]
    }
}

impl Drop for SingleBuffer {
    fn drop(&mut self) {
        let mut idle = self.home.idle.borrow_mut();
        if idle.len() < SINGLE_IDLE_MAX {
            idle.push(mem::take(&mut self.memory));
        }
    }
}

/// Space before the body for the head of the response, so that one SEND carries both.
pub const HEAD_ROOM_BYTES: usize = 2048;

/// Body size of a small read buffer, in bytes.
pub const SMALL_BODY_BYTES: usize = 16 * 1024;

/// Body size of a large read buffer, in bytes.
pub const LARGE_BODY_BYTES: usize = 128 * 1024;

/// Maximum number of large buffers in flight. Beyond it, large files are sent in small pieces, so that thousands of
/// slow readers don't hold a large buffer each.
pub const LARGE_OUT_MAX: usize = 128;

/// Idle read buffers kept for reuse, of each kind.
const IDLE_MAX: usize = 64;

/// This many are kept even if unused.
const IDLE_MIN: usize = 1;

/// The body is aligned to a cache line.
const BODY_ALIGN: usize = 64;

/// A buffer for one piece of a file, with space for the response head in front.
pub struct ReadBuffer(Box<ReadMemory>);

struct ReadMemory {
    memory: Vec<u8>,
    /// Offset of the body.
    body_start: usize,
    body_bytes_max: usize,
    /// The unsent bytes: from somewhere in the head or body to somewhere in the body.
    unsent: Range<usize>,
}

impl ReadBuffer {
    fn new(body_bytes_max: usize) -> ReadBuffer {
        let memory = vec![0; HEAD_ROOM_BYTES + BODY_ALIGN + body_bytes_max];
        let padding = memory.as_ptr().wrapping_add(HEAD_ROOM_BYTES).align_offset(BODY_ALIGN);
        let body_start = HEAD_ROOM_BYTES + padding;
        ReadBuffer(Box::new(ReadMemory {
            memory,
            body_start,
            body_bytes_max,
            unsent: body_start..body_start,
        }))
    }

    /// Writes the head directly in front of the body, which will be `body_bytes` long.
    ///
    /// # Panics
    /// If the head is longer than [`HEAD_ROOM_BYTES`], or the body doesn't fit.
    pub fn put_head(&mut self, head: &[u8], body_bytes: usize) {
        let ReadMemory { memory, body_start, body_bytes_max, unsent } = &mut *self.0;
        assert!(body_bytes <= *body_bytes_max, "a body of {body_bytes} bytes in {body_bytes_max}");
        *unsent = *body_start - head.len()..*body_start + body_bytes;
        memory[unsent.start..*body_start].copy_from_slice(head);
    }

    /// The body has only this many bytes. Nothing of the buffer has been sent yet.
    pub(crate) fn shorten(&mut self, body_bytes: usize) {
        let ReadMemory { body_start, unsent, .. } = &mut *self.0;
        unsent.end = unsent.end.min(*body_start + body_bytes);
    }

    /// The capacity for the body, in bytes.
    #[must_use]
    pub fn body_bytes_max(&self) -> usize {
        self.0.body_bytes_max
    }

    /// The body.
    pub fn body(&mut self) -> &mut [u8] {
        let ReadMemory { memory, body_start, unsent, .. } = &mut *self.0;
        &mut memory[*body_start..unsent.end]
    }

    /// Address and length of the unsent bytes: head, then body. Valid while the buffer lives, even if it moves.
    #[must_use]
    pub fn unsent(&self) -> (*const u8, usize) {
        let ReadMemory { memory, unsent, .. } = &*self.0;
        (memory.as_ptr().wrapping_add(unsent.start), unsent.len())
    }

    /// Marks this many bytes as sent.
    pub fn advance(&mut self, bytes: usize) {
        let unsent = &mut self.0.unsent;
        unsent.start = unsent.end.min(unsent.start + bytes);
    }
}

/// Idle read buffers; the most recently used is reused first.
pub struct ReadBuffers {
    small: FreeList<ReadBuffer>,
    large: FreeList<ReadBuffer>,
    large_out: usize,
}

impl Default for ReadBuffers {
    fn default() -> ReadBuffers {
        let idle = || FreeList::new(IDLE_MIN, IDLE_MAX);
        ReadBuffers { small: idle(), large: idle(), large_out: 0 }
    }
}

impl ReadBuffers {
    /// A buffer for as much of `body_bytes` as possible.
    pub fn take(&mut self, body_bytes: u64) -> ReadBuffer {
        if body_bytes <= SMALL_BODY_BYTES as u64 || self.large_out == LARGE_OUT_MAX {
            return self.small.take().unwrap_or_else(|| ReadBuffer::new(SMALL_BODY_BYTES));
        }
        self.large_out += 1;
        self.large.take().unwrap_or_else(|| ReadBuffer::new(LARGE_BODY_BYTES))
    }

    /// Leaks the buffer, because the kernel may write into it at any time.
    pub(crate) fn give_up(&mut self, buffer: ReadBuffer) {
        if buffer.body_bytes_max() == LARGE_BODY_BYTES {
            self.large_out -= 1;
        }
        mem::forget(buffer);
    }

    /// Returns a buffer whose operation has completed.
    pub fn give_back(&mut self, buffer: ReadBuffer) {
        let kind = if buffer.body_bytes_max() == LARGE_BODY_BYTES {
            self.large_out -= 1;
            &mut self.large
        } else {
            &mut self.small
        };
        kind.put(buffer);
    }

    /// Frees the buffers unused since the last call.
    pub fn trim(&mut self) {
        self.small.trim();
        self.large.trim();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receive_buffer_belongs_to_the_kernel_or_to_a_guard() {
        let buffers = ProvidedBuffers::new(128);
        assert_eq!(buffers.lent(), usize::from(FIRST_GRANT));
        let guard = buffers.take(3, 0);
        assert!(guard.bytes().is_empty());
        assert_eq!(buffers.lent(), 63);
        drop(guard);
        assert_eq!(buffers.lent(), 64);
        buffers.grow();
        assert_eq!(buffers.lent(), 128);
        buffers.grow();
        assert_eq!(buffers.lent(), 128, "there are no more");
    }

    #[test]
    #[should_panic(expected = "a completion names only a buffer that the kernel was given")]
    fn a_buffer_is_never_handed_out_twice() {
        let buffers = ProvidedBuffers::new(8);
        let _first = buffers.take(0, 1);
        let _second = buffers.take(0, 1);
    }

    #[test]
    fn a_guard_keeps_the_memory() {
        let buffers = ProvidedBuffers::new(1);
        let guard = buffers.take(0, 0);
        let memory = Rc::downgrade(&buffers);
        drop(buffers);
        assert!(memory.upgrade().is_some());
        drop(guard);
        assert!(memory.upgrade().is_none());
    }

    #[test]
    fn the_tail_wraps() {
        let buffers = ProvidedBuffers::new(2);
        for round in 0..70_000u32 {
            drop(buffers.take((round % 2) as u16, 0));
        }
        assert_eq!(buffers.lent(), 2);
    }

    #[test]
    fn the_head_is_directly_in_front_of_the_body() {
        let mut buffers = ReadBuffers::default();
        for body_bytes in [1, 1 << 40] {
            let mut buffer = buffers.take(body_bytes);
            let body_bytes = buffer.body_bytes_max();
            for head in [&b"HTTP/1.1 200 OK\r\n\r\n"[..], b"", &[b'x'; HEAD_ROOM_BYTES]] {
                buffer.put_head(head, body_bytes);
                let body = buffer.body().as_ptr().cast::<u8>();
                let (first, length) = buffer.unsent();
                assert_eq!((first.wrapping_add(head.len()), length), (body, head.len() + body_bytes));
                assert_eq!(body.align_offset(BODY_ALIGN), 0);
                buffer.advance(head.len() + 1);
                assert_eq!(buffer.unsent(), (body.wrapping_add(1), body_bytes - 1));
            }
            buffers.give_back(buffer);
        }
    }

    #[test]
    fn read_buffers_are_reused_last_in_first_out() {
        let mut buffers = ReadBuffers::default();
        let (one, two) = (buffers.take(1), buffers.take(1));
        let last = two.unsent();
        buffers.give_back(one);
        buffers.give_back(two);
        assert_eq!(buffers.take(1).unsent(), last);
    }

    #[test]
    fn unused_read_buffers_are_freed() {
        let mut buffers = ReadBuffers::default();
        let out: Vec<_> = [1, 1, 1, u64::MAX, u64::MAX].map(|body_bytes| buffers.take(body_bytes)).into();
        out.into_iter().for_each(|buffer| buffers.give_back(buffer));
        buffers.trim();
        assert_eq!((buffers.small.len(), buffers.large.len()), (3, 2), "they were out until now");
        let out = [buffers.take(1), buffers.take(1), buffers.take(u64::MAX)];
        out.into_iter().for_each(|buffer| buffers.give_back(buffer));
        buffers.trim();
        assert_eq!((buffers.small.len(), buffers.large.len()), (2, 1), "that many were used");
        buffers.trim();
        assert_eq!((buffers.small.len(), buffers.large.len()), (IDLE_MIN, IDLE_MIN));
    }

    #[test]
    fn large_buffers_are_bounded() {
        let mut buffers = ReadBuffers::default();
        let out: Vec<_> = (0..=LARGE_OUT_MAX).map(|_| buffers.take(u64::MAX)).collect();
        let sizes: Vec<_> = out.iter().map(ReadBuffer::body_bytes_max).collect();
        assert_eq!(sizes[..LARGE_OUT_MAX], [LARGE_BODY_BYTES; LARGE_OUT_MAX]);
        assert_eq!(sizes[LARGE_OUT_MAX], SMALL_BODY_BYTES);
        out.into_iter().for_each(|buffer| buffers.give_back(buffer));
        assert_eq!((buffers.small.len(), buffers.large.len(), buffers.large_out), (1, IDLE_MAX, 0));
    }
}
