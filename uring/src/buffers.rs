//! Memory that the kernel writes into while a request is in flight.
//!
//! Three kinds, and for each one a life that is a numbered list.
//!
//! A **receive buffer** belongs to the ring of provided buffers ([`ProvidedBuffers`], Linux 5.19):
//! 1. the server writes its address into the shared ring and moves the tail: it is the kernel's now, and the
//!    server neither reads nor writes it;
//! 2. a receive takes it from the head, fills it, and names it in its completion: it is the server's again,
//!    as a [`RecvBuffer`], and no other completion can name it;
//! 3. the guard is dropped: back to 1.
//!
//! The buffers and the shared ring live in one allocation that is held by an `Rc`, which every guard shares.
//! It is freed when the last holder is gone; the ring of operations never lets go of its share while a
//! receive is in flight.
//!
//! A **single buffer** ([`SingleBuffer`]) is for one receive, where a ring does without provided ones:
//! 1. it is taken from the pool, and moves into the table of operations in flight: only the kernel touches it,
//!    however long the client is silent;
//! 2. the completion has come: the guard has it;
//! 3. the guard is dropped: back to the pool.
//!
//! A **read buffer** ([`ReadBuffer`]) carries one piece of a file from a READ to a SEND:
//! 1. it is taken from the pool, and the head of the answer is put right in front of the place of the body;
//! 2. it moves into the table of operations in flight, and only the kernel touches its memory;
//! 3. the completion has come: it goes back to the pool, to be taken first, while it is warm.

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

/// The size of a receive buffer: a page holds any usual request, and several pipelined ones.
pub const RECEIVE_BUFFER_BYTES: u32 = 4096;

/// How many receive buffers the kernel has at first. It gets more when a burst uses them up: few buffers stay
/// in the processor's cache, and memory that was never needed is never touched.
const FIRST_GRANT: u16 = 64;

/// Idle single buffers that are kept: as many as the answers of one batch can leave.
const SINGLE_IDLE_MAX: usize = 1024;

/// The shared ring must begin on a page (`io_uring_register_buf_ring(3)`).
const PAGE_BYTES: usize = 4096;

/// The ring of provided buffers: the kernel takes a buffer when data arrives, not before, so thousands of
/// idle connections share a few.
pub struct ProvidedBuffers {
    /// The shared ring, `count` entries; its first page-aligned address is that of the whole allocation.
    entries: NonNull<BufRingEntry>,
    /// The first buffer, behind the entries.
    memory: NonNull<u8>,
    layout: Layout,
    count: u16,
    /// Buffers with a lower number than this are in circulation; the others wait for a burst.
    granted: Cell<u16>,
    /// The tail of the shared ring; wraps with its type, as the kernel's copy does.
    tail: Cell<u16>,
    /// Which buffers are the kernel's.
    lent: Box<[Cell<bool>]>,
}

impl ProvidedBuffers {
    /// `count` buffers, the first of them ready for the kernel. The memory is the operating system's promise
    /// until it is touched.
    ///
    /// # Panics
    /// When `count` isn't a power of two up to 2¹⁵, which is what the kernel takes.
    #[must_use]
    pub fn new(count: u16) -> Rc<ProvidedBuffers> {
        assert!(count.is_power_of_two() && count <= 1 << 15, "a power of two up to 2^15, not {count}");
        let entries_bytes = (usize::from(count) * size_of::<BufRingEntry>()).next_multiple_of(PAGE_BYTES);
        let bytes = entries_bytes + usize::from(count) * RECEIVE_BUFFER_BYTES as usize;
        let layout = Layout::from_size_align(bytes, PAGE_BYTES).expect("less than 2^15 pages of buffers");
        // SAFETY: `alloc` wants a layout of a size that isn't zero: there is at least one buffer.
        let start = unsafe { alloc::alloc(layout) };
        let Some(start) = NonNull::new(start) else { alloc::handle_alloc_error(layout) };
        // SAFETY: `write_bytes` wants valid memory of this length: the entries are the allocation's
        // beginning.
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

    /// Where the shared ring is, for `IORING_REGISTER_PBUF_RING`.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.entries.as_ptr().expose_provenance() as u64
    }

    /// How many buffers there are, in circulation or not.
    #[must_use]
    pub fn count(&self) -> u16 {
        self.count
    }

    /// How many buffers are the kernel's at this moment.
    #[must_use]
    pub fn lent(&self) -> usize {
        self.lent.iter().filter(|lent| lent.get()).count()
    }

    /// Puts as many buffers into circulation as there are already: a burst has used those up.
    pub fn grow(&self) {
        self.grant(self.granted.get());
    }

    fn grant(&self, more: u16) {
        let granted = self.granted.get();
        let target = granted.saturating_add(more).min(self.count);
        self.granted.set(target);
        (granted..target).for_each(|id| self.lend(id));
    }

    /// Gives buffer `id` to the kernel.
    fn lend(&self, id: u16) {
        let index = self.tail.get() & (self.count - 1);
        // SAFETY: `add` must stay within the allocation: the index is below the number of entries.
        let mut entry = unsafe { self.entries.add(usize::from(index)) };
        // SAFETY: `as_mut` wants a valid entry that nobody else uses: the memory was zeroed, which is a valid
        // entry, and the kernel reads only entries between head and tail. This one is behind the tail,
        // because there are as many entries as buffers and this buffer isn't in the ring.
        let entry = unsafe { entry.as_mut() };
        entry.set_addr(self.buffer(id).as_ptr().expose_provenance() as u64);
        entry.set_len(RECEIVE_BUFFER_BYTES);
        entry.set_bid(id);
        self.lent[usize::from(id)].set(true);
        self.tail.set(self.tail.get().wrapping_add(1));
        self.publish_tail();
    }

    /// Lets the kernel see the entries up to the tail.
    fn publish_tail(&self) {
        // SAFETY: `tail` wants the address of the first entry of an initialised ring: so it is.
        let tail = unsafe { BufRingEntry::tail(self.entries.as_ptr()) };
        // SAFETY: `from_ptr` wants an aligned, valid address that is only accessed atomically while the
        // reference lives: it is a field of the first entry, which lives as long as `self`; the setters of an
        // entry don't touch it, and the kernel reads it with load-acquire.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        tail.store(self.tail.get(), Ordering::Release);
    }

    fn buffer(&self, id: u16) -> NonNull<u8> {
        debug_assert!(id < self.count, "buffer {id} of {}", self.count);
        // SAFETY: `add` must stay within the allocation: it holds `count` buffers from here on.
        unsafe { self.memory.add(usize::from(id) * RECEIVE_BUFFER_BYTES as usize) }
    }

    /// Takes over buffer `id`, which a completion has named, with `length` bytes received into it.
    ///
    /// # Panics
    /// When the buffer isn't the kernel's to name, or is shorter: then memory is already corrupt.
    pub(crate) fn take(self: &Rc<Self>, id: u16, length: usize) -> RecvBuffer {
        let lent = self.lent.get(usize::from(id)).is_some_and(|lent| lent.replace(false));
        assert!(lent, "a completion names only a buffer that the kernel was given, not {id}");
        assert!(length <= RECEIVE_BUFFER_BYTES as usize, "a receive of {length} bytes fits its buffer");
        RecvBuffer { home: Rc::clone(self), id, length }
    }
}

impl Drop for ProvidedBuffers {
    fn drop(&mut self) {
        // SAFETY: `dealloc` wants what `alloc` returned for this layout: `new` allocated it, and the last
        // holder of the `Rc` is going, so no guard and no receive in flight has a share (see the module).
        unsafe { alloc::dealloc(self.entries.as_ptr().cast(), self.layout) };
    }
}

/// Bytes that have arrived, in a buffer that goes back to where it came from when this is dropped.
pub enum Received {
    /// In one of the provided buffers.
    Provided(RecvBuffer),
    /// In memory of their own.
    Single(SingleBuffer),
}

impl Received {
    /// What has arrived; never empty.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match self {
            Received::Provided(buffer) => buffer.bytes(),
            Received::Single(buffer) => buffer.bytes(),
        }
    }
}

/// A provided buffer that bytes have arrived in.
pub struct RecvBuffer {
    home: Rc<ProvidedBuffers>,
    id: u16,
    length: usize,
}

impl RecvBuffer {
    /// What has arrived; never empty.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: `from_raw_parts` wants initialised memory that nobody writes while the slice lives: the
        // kernel has written `length` bytes, and the buffer is this guard's alone until it is dropped.
        unsafe { slice::from_raw_parts(self.home.buffer(self.id).as_ptr(), self.length) }
    }
}

impl Drop for RecvBuffer {
    fn drop(&mut self) {
        self.home.lend(self.id);
    }
}

/// Single buffers that wait for work. The last one that came back is the first to go.
#[derive(Default)]
pub struct SingleBuffers {
    idle: RefCell<Vec<Vec<u8>>>,
}

impl SingleBuffers {
    /// Memory for one receive, all of it initialised.
    pub(crate) fn take(&self) -> Vec<u8> {
        self.idle.borrow_mut().pop().unwrap_or_else(|| vec![0; RECEIVE_BUFFER_BYTES as usize])
    }

    /// `length` bytes have been received into this memory; none: nothing more will come.
    pub(crate) fn received(self: &Rc<Self>, memory: Vec<u8>, length: usize) -> Option<SingleBuffer> {
        Some(SingleBuffer { home: Rc::clone(self), memory, length }).filter(|_| length > 0)
    }
}

/// Memory that bytes of one receive have arrived in.
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

/// Room in front of the body for the head of the answer, so that one SEND carries both.
pub const HEAD_ROOM_BYTES: usize = 2048;

/// The body of a small read buffer.
pub const SMALL_BODY_BYTES: usize = 16 * 1024;

/// The body of a large read buffer.
pub const LARGE_BODY_BYTES: usize = 128 * 1024;

/// Large buffers in flight at once. Past it a large file goes in small pieces: thousands of slow readers must
/// not cost a large buffer each.
pub const LARGE_OUT_MAX: usize = 128;

/// Idle read buffers that are kept, of each kind.
const IDLE_MAX: usize = 64;

/// So many of them stay, however little there is to do.
const IDLE_MIN: usize = 1;

/// The body begins on a cache line.
const BODY_ALIGN: usize = 64;

/// Memory for one piece of a file with the head of its answer in front.
pub struct ReadBuffer(Box<ReadMemory>);

struct ReadMemory {
    memory: Vec<u8>,
    /// Where the body begins.
    body_start: usize,
    body_bytes_max: usize,
    /// What is to be sent: from somewhere before the body to somewhere in it.
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

    /// Puts the head right in front of the body, which will have so many bytes.
    ///
    /// # Panics
    /// When the head is longer than [`HEAD_ROOM_BYTES`], or the body than there is room for.
    pub fn put_head(&mut self, head: &[u8], body_bytes: usize) {
        let ReadMemory { memory, body_start, body_bytes_max, unsent } = &mut *self.0;
        assert!(body_bytes <= *body_bytes_max, "a body of {body_bytes} bytes in {body_bytes_max}");
        *unsent = *body_start - head.len()..*body_start + body_bytes;
        memory[unsent.start..*body_start].copy_from_slice(head);
    }

    /// How long a piece of a file this buffer can carry.
    #[must_use]
    pub fn body_bytes_max(&self) -> usize {
        self.0.body_bytes_max
    }

    /// The body.
    pub fn body(&mut self) -> &mut [u8] {
        let ReadMemory { memory, body_start, unsent, .. } = &mut *self.0;
        &mut memory[*body_start..unsent.end]
    }

    /// Where what has not been sent begins, and how long it is: head, then body. Good while the buffer lives,
    /// wherever it moves.
    #[must_use]
    pub fn unsent(&self) -> (*const u8, usize) {
        let ReadMemory { memory, unsent, .. } = &*self.0;
        (memory.as_ptr().wrapping_add(unsent.start), unsent.len())
    }

    /// So many bytes have left.
    pub fn advance(&mut self, bytes: usize) {
        let unsent = &mut self.0.unsent;
        unsent.start = unsent.end.min(unsent.start + bytes);
    }
}

/// Read buffers that wait for work. The last one that came back is the first to go.
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
    /// A buffer for as much as possible of `body_bytes`.
    pub fn take(&mut self, body_bytes: u64) -> ReadBuffer {
        if body_bytes <= SMALL_BODY_BYTES as u64 || self.large_out == LARGE_OUT_MAX {
            return self.small.take().unwrap_or_else(|| ReadBuffer::new(SMALL_BODY_BYTES));
        }
        self.large_out += 1;
        self.large.take().unwrap_or_else(|| ReadBuffer::new(LARGE_BODY_BYTES))
    }

    /// The kernel may write into the buffer for all time: it is leaked.
    pub(crate) fn give_up(&mut self, buffer: ReadBuffer) {
        if buffer.body_bytes_max() == LARGE_BODY_BYTES {
            self.large_out -= 1;
        }
        mem::forget(buffer);
    }

    /// The buffer's operation is over.
    pub fn give_back(&mut self, buffer: ReadBuffer) {
        let kind = if buffer.body_bytes_max() == LARGE_BODY_BYTES {
            self.large_out -= 1;
            &mut self.large
        } else {
            &mut self.small
        };
        kind.put(buffer);
    }

    /// Frees the idle buffers that have gone unneeded since the last call.
    pub fn trim(&mut self) {
        self.small.trim();
        self.large.trim();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receive_buffer_is_either_the_kernels_or_a_guards() {
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
    fn the_head_stands_right_in_front_of_the_body() {
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
    fn read_buffers_come_back_last_in_first_out() {
        let mut buffers = ReadBuffers::default();
        let (one, two) = (buffers.take(1), buffers.take(1));
        let last = two.unsent();
        buffers.give_back(one);
        buffers.give_back(two);
        assert_eq!(buffers.take(1).unsent(), last);
    }

    #[test]
    fn read_buffers_that_nobody_wants_are_freed() {
        let mut buffers = ReadBuffers::default();
        let out: Vec<_> = [1, 1, 1, u64::MAX, u64::MAX].map(|body_bytes| buffers.take(body_bytes)).into();
        out.into_iter().for_each(|buffer| buffers.give_back(buffer));
        buffers.trim();
        assert_eq!((buffers.small.len(), buffers.large.len()), (3, 2), "they were out until now");
        let out = [buffers.take(1), buffers.take(1), buffers.take(u64::MAX)];
        out.into_iter().for_each(|buffer| buffers.give_back(buffer));
        buffers.trim();
        assert_eq!((buffers.small.len(), buffers.large.len()), (2, 1), "so many were wanted");
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
