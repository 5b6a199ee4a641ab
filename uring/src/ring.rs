//! The ring: submits operations, returns completions, and keeps all memory in flight valid.
//!
//! The rules that every unsafe block in this file relies on:
//!
//! 1. **An operation owns what it points to.** Each operation has an entry in the table of operations in flight. The
//!    entry owns, or shares, the memory and the descriptors that the submission names by address and number. It is
//!    removed with the operation's last completion, not earlier.
//! 2. **Shared memory isn't modified.** Output is an `Rc<Vec<u8>>`: while the ring holds a share, nobody gets a mutable
//!    reference. Read buffers are moved in and out as a whole. Receive buffers have rules of their own (see
//!    [`crate::buffers`]).
//! 3. **A completion identifies its operation** by kind, slot and generation (`user_data`). A late or repeated
//!    completion finds no operation.
//! 4. **Dropping a ring leaks memory.** The kernel may use memory for some time after the ring is closed. So the memory
//!    of operations still in flight is never freed; their descriptors are closed. Call [`Ring::finish`] first to
//!    complete them.
//! 5. **No submission is lost.** Entries that don't fit into the submission queue wait in a queue of ours; the next
//!    [`Ring::submit_and_wait`] submits as often as needed.
//! 6. One thread creates the ring, uses it and drops it: `Ring` isn't `Send`.

#[cfg(feature = "torn-chains")]
#[deny(unsafe_code)]
mod attempts;
#[deny(unsafe_code)]
mod completions;
#[deny(unsafe_code)]
mod ways;

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use common::machine::chunks::PIECES_MAX;
use common::site::file::read_full;
use common::{FileBytes, FileRange, OpenRequest, SharedPiece, Slots, Token};
use io_uring::squeue::{Entry as Sqe, Flags};
use io_uring::types::{CancelBuilder, Fd, SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, Submitter, opcode};

use crate::buffers::{ProvidedBuffers, ReadBuffer, ReadBuffers, SingleBuffers};
use crate::chains::Chains;
use crate::operation::{InFlight, Memory, Message, Operation, length_of};
use crate::refusal::Refusal;
use crate::restrictions::restrict_and_enable;
use crate::setup::build;

use ways::Ways;

pub use crate::operation::{Completion, FilePart, Flight, Socket};
pub use crate::setup::{LADDER, Options, Rung};

/// Maximum number of kernel worker threads for blocking operations: for files, and for everything else.
const KERNEL_WORKERS_MAX: [u32; 2] = [8, 2];

/// Idle messages kept for reuse.
const MESSAGES_MAX: usize = 1024;

/// The ring's only group of provided buffers.
const RECEIVE_GROUP: u16 = 0;

/// How often [`Ring::finish`] repeats its cancel: a SEND linked to a READ can't be found until it runs.
const CANCEL_INTERVAL: Duration = Duration::from_millis(10);

/// A completion queue entry.
#[derive(Clone, Copy)]
struct Cqe {
    user_data: u64,
    result: i32,
    flags: u32,
}

impl Cqe {
    /// A count, a descriptor number, or the error.
    fn value(self) -> io::Result<u32> {
        u32::try_from(self.result).map_err(|_| io::Error::from_raw_os_error(-self.result))
    }

    fn count(self) -> io::Result<usize> {
        self.value().map(|count| count as usize)
    }

    /// The descriptor created by an accept or an open.
    fn descriptor(self) -> io::Result<OwnedFd> {
        self.value()?;
        // SAFETY: `from_raw_fd` requires an open descriptor that nothing else owns: the kernel has just created it for
        // this completion, and each completion is read once.
        Ok(unsafe { OwnedFd::from_raw_fd(self.result) })
    }
}

/// A ring, used by one thread.
pub struct Ring {
    io: NonNull<IoUring>,
    /// Holds the ring's registered index, which saves the kernel a lookup (`register_ring_fd`). `None` only during
    /// drop.
    submitter: Option<Submitter<'static>>,
    in_flight: Slots<InFlight>,
    receive_buffers: Rc<ProvidedBuffers>,
    single_buffers: Rc<SingleBuffers>,
    read_buffers: ReadBuffers,
    /// Idle messages, for sends of several pieces.
    #[expect(clippy::vec_box, reason = "the kernel holds its address")]
    messages: Vec<Box<Message>>,
    /// Chains that didn't fit into the submission queue, in order.
    waiting: VecDeque<Box<[Sqe]>>,
    /// Whether entries go straight into the submission queue: the ring batches, and no chain is waiting.
    is_open: bool,
    chains: Chains,
    /// Completions taken from the queue but not yet handled.
    batch: VecDeque<Cqe>,
    /// The newest kernel version whose setup flags are in use.
    rung: &'static str,
    /// `NO_IOWAIT` where the kernel has it (6.15): a thread that waits for clients isn't waiting for a disk, and tools
    /// that show iowait shouldn't call its CPU busy.
    wait_flags: EnterFlags,
    ways: Ways,
    /// Number of `io_uring_enter(2)` calls.
    enters: u64,
}

/// Starts a READ and the SEND of what it reads. Requires what [`Ring::launch`] requires.
type Pair = unsafe fn(&mut Ring, Token, Memory, Sqe) -> Flight;

impl Ring {
    /// Table space per operation in flight, in bytes, not counting the memory it works on.
    pub const IN_FLIGHT_BYTES: usize = size_of::<Option<InFlight>>() + size_of::<u64>();

    /// A ring for the calling thread.
    ///
    /// # Errors
    /// If io_uring is missing, forbidden or too old, or if memory or descriptors have run out.
    pub fn new(options: &Options) -> Result<Ring, Refusal> {
        let ways = Ways::without(&options.without);
        let (io, rung) = build(options).map_err(Refusal::Setup)?;
        let io = NonNull::from(Box::leak(Box::new(io)));
        // SAFETY: `as_ref` requires a valid pointer and no mutable reference while this one lives: the ring is on the
        // heap and only used through shared references, and `drop` drops the submitter first.
        let shared: &'static IoUring = unsafe { io.as_ref() };
        let is_iowait = !shared.params().is_feature_no_iowait();
        let mut submitter = shared.submitter();
        let registered = submitter.register_ring_fd();
        let ring = Ring {
            io,
            submitter: Some(submitter),
            in_flight: Slots::new(),
            receive_buffers: ProvidedBuffers::new(options.receive_buffers),
            single_buffers: Rc::default(),
            read_buffers: ReadBuffers::default(),
            messages: Vec::new(),
            waiting: VecDeque::new(),
            is_open: ways.batches,
            ways,
            enters: 0,
            chains: Chains::default(),
            batch: VecDeque::new(),
            rung,
            wait_flags: if is_iowait { EnterFlags::empty() } else { EnterFlags::NO_IOWAIT },
        };
        registered.map_err(Refusal::Setup)?;
        ring.submitter().register_iowq_max_workers(&mut { KERNEL_WORKERS_MAX }).map_err(Refusal::Setup)?;
        ring.register_receive_buffers().map_err(Refusal::Buffers)?;
        restrict_and_enable(ring.submitter()).map_err(Refusal::Setup)?;
        Ok(ring)
    }

    fn register_receive_buffers(&self) -> io::Result<()> {
        let (address, count) = (self.receive_buffers.address(), self.receive_buffers.count());
        let submitter = self.submitter();
        // SAFETY: `register_buf_ring_with_flags` requires memory for this many entries that stays valid until the ring
        // is gone: the provided buffers are laid out for it, and `drop` frees them after the ring, or never if a
        // receive is in flight.
        unsafe { submitter.register_buf_ring_with_flags(address, count, RECEIVE_GROUP, 0) }
    }

    /// Whether the time that a thread waits for this ring counts as idle, not as iowait (Linux 6.15).
    #[must_use]
    pub fn waits_idly(&self) -> bool {
        self.wait_flags.contains(EnterFlags::NO_IOWAIT)
    }

    /// The kernel version whose setup flags are in use.
    #[must_use]
    pub fn rung(&self) -> &'static str {
        self.rung
    }

    /// The number of system calls made to submit, to wait, or both.
    #[must_use]
    pub fn enters(&self) -> u64 {
        self.enters
    }

    /// Frees the buffers unused since the last call.
    pub fn trim(&mut self) {
        self.read_buffers.trim();
    }

    /// The number of operations in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// The number of chains that the submission queue had no room for: they go with the next submission.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The buffers for receives.
    #[must_use]
    pub fn receive_buffers(&self) -> &Rc<ProvidedBuffers> {
        &self.receive_buffers
    }

    /// Arms a multishot accept (5.19), or with [`SingleAccept`](common::Tune::SingleAccept) a one-shot accept.
    pub fn arm_accept(&mut self, token: Token, listener: &Rc<OwnedFd>) -> Flight {
        let accept = (self.ways.accept)(Fd(listener.as_raw_fd()));
        let memory = Memory::Accept { _listener: Rc::clone(listener) };
        // SAFETY: `launch` requires the operation to own its memory: it names no address, only the listener.
        unsafe { self.launch(token, memory, [(Operation::Accept, accept)]) }
    }

    /// Arms a multishot receive (6.0) into provided buffers, or with [`SingleReceive`](common::Tune::SingleReceive) a
    /// one-shot receive.
    pub fn arm_recv(&mut self, token: Token, socket: &Socket) -> Flight {
        (self.ways.receive)(self, token, socket)
    }

    /// Starts a one-shot receive into a provided buffer, or with [`SingleReceive`](common::Tune::SingleReceive) into
    /// its own memory.
    pub fn recv(&mut self, token: Token, socket: &Socket) -> Flight {
        (self.ways.receive_first)(self, token, socket)
    }

    /// Receives into provided buffers, one-shot or multishot.
    fn receive_provided<const MULTISHOT: bool>(&mut self, token: Token, socket: &Socket) -> Flight {
        let socket_fd = Fd(socket.as_raw_fd());
        let receive = if MULTISHOT {
            opcode::RecvMulti::new(socket_fd, RECEIVE_GROUP).build()
        } else {
            // No address and no length: the selected buffer provides both.
            let receive = opcode::Recv::new(socket_fd, ptr::null_mut(), 0).buf_group(RECEIVE_GROUP);
            receive.build().flags(Flags::BUFFER_SELECT)
        };
        let memory = Memory::Receive { _socket: Rc::clone(socket) };
        // SAFETY: `launch` requires the operation to own its memory: it names only the group of provided buffers, which
        // outlives it (see `drop`).
        unsafe { self.launch(token, memory, [(Operation::Receive, receive)]) }
    }

    /// Receives once, into memory owned by the operation.
    fn receive_once(&mut self, token: Token, socket: &Socket) -> Flight {
        let mut bytes = self.single_buffers.take();
        let receive = opcode::Recv::new(Fd(socket.as_raw_fd()), bytes.as_mut_ptr(), length_of(bytes.len()));
        let memory = Memory::ReceiveOnce { _socket: Rc::clone(socket), bytes };
        // SAFETY: `launch` requires the operation to own its memory: it owns the bytes, at least as many as are
        // received, and moving the vector doesn't move them.
        unsafe { self.launch(token, memory, [(Operation::ReceiveOnce, receive.build())]) }
    }

    /// Sends pieces of memory, at most [`PIECES_MAX`], with one operation: SEND, or SENDMSG for several. After a short
    /// write, the ring sends the rest when the socket has room again, and reports each step. (With `MSG_WAITALL` it
    /// would report only the end, which makes a slow reader look like a stalled one.) `more`: more data of the same
    /// response follows, so a partial segment may wait (`MSG_MORE`).
    ///
    /// # Panics
    /// If there is nothing to send, or there are too many pieces.
    pub fn send(
        &mut self,
        token: Token,
        socket: &Socket,
        pieces: impl IntoIterator<Item = SharedPiece>,
        more: bool,
    ) -> Flight {
        let mut pieces: ArrayVec<SharedPiece, PIECES_MAX> = pieces.into_iter().collect();
        let socket = Rc::clone(socket);
        let mut memory = if pieces.len() == 1
            && let Some(piece) = pieces.pop()
        {
            Memory::Send { socket, piece, more }
        } else {
            // SAFETY: `zeroed` requires a type for which all zeros are valid: a header of plain numbers and pointers.
            let mut message = self.messages.pop().unwrap_or_else(|| Message::new(unsafe { mem::zeroed() }));
            message.fill(pieces, more);
            Memory::Message { socket, message }
        };
        let send = memory.rest().expect("something is to be sent");
        // SAFETY: `launch` requires the operation to own its memory: it has shares of the pieces, so the bytes neither
        // move nor change, and a message is on the heap.
        unsafe { self.launch(token, memory, [(Operation::Send, send)]) }
    }

    /// Reads a range of a file into memory owned by the operation.
    pub fn read(&mut self, token: Token, range: &FileRange<'_>) -> Flight {
        let mut bytes = FileBytes::zeroed(usize::try_from(range.length).expect("a range that fits memory"));
        let file = Fd(range.file.as_fd().as_raw_fd());
        let read = opcode::Read::new(file, bytes.as_mut_ptr(), length_of(bytes.len())).offset(range.offset);
        let memory = Memory::Read { _file: Arc::clone(range.file), bytes };
        // SAFETY: `launch` requires the operation to own its memory: it owns the bytes, at least as many as are read,
        // and moving their owner doesn't move them.
        unsafe { self.launch(token, memory, [(Operation::Read, read.build())]) }
    }

    /// Reads as much of the part as fits a buffer, after the head in the same buffer, and sends both with one
    /// operation, like [`send`](Ring::send). The send is linked to the read, or with
    /// [`UnlinkedSend`](common::Tune::UnlinkedSend) submitted after the read completes. If the file ends early,
    /// what there is of it is sent; if that is nothing, there is one [`Completion::ReadShort`] and nothing is sent.
    pub fn read_then_send(&mut self, token: Token, socket: &Socket, part: &FilePart<'_>) -> Flight {
        let mut buffer = self.buffer_for(part);
        let body = buffer.body();
        let file = Fd(part.file.as_fd().as_raw_fd());
        let read =
            opcode::Read::new(file, body.as_mut_ptr(), length_of(body.len())).offset(part.offset).build();
        let memory = pair_memory(socket, part, buffer);
        // SAFETY: `pair` requires the operation to own its memory: it owns the buffer, and the read stays within the
        // buffer's capacity.
        unsafe { (self.ways.pair)(self, token, memory, read) }
    }

    /// Submits the READ with the SEND linked to it.
    ///
    /// # Safety
    /// See [`launch`](Ring::launch).
    unsafe fn pair_linked(&mut self, token: Token, mut memory: Memory, read: Sqe) -> Flight {
        // If both succeed, only the send needs a completion. A read that fails or falls short is reported, and the
        // kernel drops the send silently.
        let read = read.flags(Flags::IO_LINK | Flags::SKIP_SUCCESS);
        let send = memory.rest().expect("something is to be sent");
        // SAFETY: `launch` requires the operation to own its memory: the caller guarantees it for the read, and the
        // send stays within the same buffer.
        unsafe { self.launch(token, memory, [(Operation::Read, read), (Operation::Send, send)]) }
    }

    /// Submits only the READ; its completion submits the SEND.
    ///
    /// # Safety
    /// See [`launch`](Ring::launch).
    unsafe fn pair_unlinked(&mut self, token: Token, memory: Memory, read: Sqe) -> Flight {
        // SAFETY: `launch` requires what this function requires.
        unsafe { self.launch(token, memory, [(Operation::ReadFirst, read)]) }
    }

    /// Like [`read_then_send`](Ring::read_then_send), but reads immediately, with pread(2). For file systems whose
    /// files are always in memory or that can't be read without blocking anyway; the ring would use a kernel thread for
    /// them.
    ///
    /// # Errors
    /// If the read fails, or the file ends early. Nothing is sent then.
    pub fn read_now_then_send(
        &mut self,
        token: Token,
        socket: &Socket,
        part: &FilePart<'_>,
    ) -> io::Result<Flight> {
        let mut buffer = self.buffer_for(part);
        let body = buffer.body();
        match read_full(part.file, body, part.offset) {
            Ok(length) if length > 0 => buffer.shorten(length),
            nothing => {
                self.read_buffers.give_back(buffer);
                return Err(nothing.err().unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into()));
            }
        }
        let mut memory = pair_memory(socket, part, buffer);
        let send = memory.rest().expect("something is to be sent");
        // SAFETY: `launch` requires the operation to own its memory: it owns the buffer, which has been filled for the
        // length of the send.
        Ok(unsafe { self.launch(token, memory, [(Operation::Send, send)]) })
    }

    fn buffer_for(&mut self, part: &FilePart<'_>) -> ReadBuffer {
        let mut buffer = self.read_buffers.take(part.length);
        let body_bytes = usize::try_from(part.length).unwrap_or(usize::MAX).min(buffer.body_bytes_max());
        buffer.put_head(part.head, body_bytes);
        buffer
    }

    /// Opens a file (`OPENAT2`); completes at once if the path is in the kernel's caches.
    pub fn open(&mut self, token: Token, request: &Arc<OpenRequest>) -> Flight {
        let site = request.site();
        let (root, how) = (Fd(site.root().as_raw_fd()), ptr::from_ref(site.how()));
        let open = opcode::OpenAt2::new(root, request.path().as_ptr(), how.cast()).build();
        let memory = Memory::Open { request: Arc::clone(request) };
        // SAFETY: `launch` requires the operation to own its memory: it has a share of the request, whose path doesn't
        // change while it lives, and through it of the site, which owns the root and `how` (laid out as openat2(2)
        // requires) for as long.
        unsafe { self.launch(token, memory, [(Operation::Open, open)]) }
    }

    /// Waits once until the descriptor is readable.
    pub fn poll_readable(&mut self, token: Token, descriptor: &Rc<OwnedFd>) -> Flight {
        self.poll(token, descriptor, libc::POLLIN)
    }

    /// Waits once until the socket has room.
    pub fn poll_writable(&mut self, token: Token, socket: &Socket) -> Flight {
        self.poll(token, socket, libc::POLLOUT)
    }

    fn poll(&mut self, token: Token, descriptor: &Rc<OwnedFd>, events: i16) -> Flight {
        let events = u32::from(events.cast_unsigned());
        let poll = opcode::PollAdd::new(Fd(descriptor.as_raw_fd()), events).build();
        let memory = Memory::Poll { _descriptor: Rc::clone(descriptor) };
        // SAFETY: `launch` requires the operation to own its memory: it names no address, only the descriptor.
        unsafe { self.launch(token, memory, [(Operation::Poll, poll)]) }
    }

    /// Closes a descriptor. Reports no completion.
    pub fn close(&mut self, descriptor: OwnedFd) {
        let close = opcode::Close::new(Fd(descriptor.into_raw_fd())).build().flags(Flags::SKIP_SUCCESS);
        // SAFETY: `push` requires the entry's memory to outlive it: it names none.
        unsafe { self.push([close.user_data(Operation::Close.user_data(NO_OPERATION))]) };
    }

    /// Cancels an operation. It still completes, with `ECANCELED` or with the result it had already reached. Has no
    /// effect if the operation has completed.
    pub fn cancel(&mut self, flight: Flight) {
        let Some(in_flight) = self.in_flight.get(flight.0) else { return };
        let operations: &[Operation] = match in_flight.memory {
            Memory::Accept { .. } => &[Operation::Accept],
            Memory::Receive { .. } => &[Operation::Receive],
            Memory::Send { .. } | Memory::Message { .. } | Memory::Abandoned { .. } => &[Operation::Send],
            Memory::Read { .. } => &[Operation::Read],
            Memory::ReceiveOnce { .. } => &[Operation::ReceiveOnce],
            Memory::Pair { .. } => &[Operation::Read, Operation::ReadFirst, Operation::Send],
            Memory::Open { .. } => &[Operation::Open],
            Memory::Poll { .. } => &[Operation::Poll],
        };
        for operation in operations {
            self.push_cancel(CancelBuilder::user_data(operation.user_data(flight.0)));
        }
    }

    fn push_cancel(&mut self, which: CancelBuilder) {
        let cancel = opcode::AsyncCancel2::new(which).build().flags(Flags::SKIP_SUCCESS);
        // SAFETY: `push` requires the entry's memory to outlive it: it names none.
        unsafe { self.push([cancel.user_data(Operation::Cancel.user_data(NO_OPERATION))]) };
    }

    /// Starts an operation: moves its memory into the table and its entries into the submission queue.
    ///
    /// # Safety
    /// Every address and descriptor in the entries belongs to `memory` and stays valid if `memory` moves.
    unsafe fn launch<const N: usize>(
        &mut self,
        token: Token,
        memory: Memory,
        entries: [(Operation, Sqe); N],
    ) -> Flight {
        let place = self.in_flight.insert(InFlight { token, memory });
        let entries = entries.map(|(operation, entry)| entry.user_data(operation.user_data(place)));
        // SAFETY: `push` requires the entries' memory to outlive them: the caller guarantees that the table owns it
        // now, and there it stays until the completion, or forever.
        unsafe { self.push(entries) };
        Flight(place)
    }

    /// Queues a chain of entries for submission.
    ///
    /// # Safety
    /// The memory named by the entries is valid until their operations have completed.
    unsafe fn push<const N: usize>(&mut self, entries: [Sqe; N]) {
        // SAFETY: `offer` requires what this function requires.
        if self.is_open && unsafe { self.offer(&entries) } {
            return;
        }
        // SAFETY: `push_apart` requires what this function requires.
        unsafe { self.push_apart(&entries) };
    }

    /// The slow path of `push`: the submission queue is full, or each chain is submitted by itself.
    ///
    /// # Safety
    /// The memory named by the entries is valid until their operations have completed.
    #[cold]
    unsafe fn push_apart(&mut self, chain: &[Sqe]) {
        // SAFETY: `offer` requires what this function requires.
        if self.waiting.is_empty() && unsafe { self.offer(chain) } {
            let submitted = self.submitter().submit();
            // Anything the kernel didn't take goes with the next enter, which reports the error if it persists.
            let _entered = self.entered(submitted);
        } else {
            self.waiting.push_back(chain.into());
            self.is_open = false;
        }
    }

    /// Pushes a whole chain if it fits into the submission queue; a chain split over two submissions isn't one.
    ///
    /// # Safety
    /// The memory named by the entries is valid until their operations have completed.
    unsafe fn offer(&mut self, chain: &[Sqe]) -> bool {
        // SAFETY: `submission_shared` requires that no other such value exists: only this function and `queued` create
        // one, and neither calls the other while it exists.
        let mut queue = unsafe { self.io().submission_shared() };
        // SAFETY: `push_multiple` requires what this function requires.
        let pushed = unsafe { queue.push_multiple(chain) }.is_ok();
        drop(queue);
        if pushed {
            self.chains.on_pushed(chain);
        }
        pushed
    }

    /// Moves waiting chains into the submission queue, as far as they fit.
    fn fill(&mut self) {
        while let Some(chain) = self.waiting.pop_front() {
            // SAFETY: `offer` requires memory that outlives the operations: `push`, which requires the same, accepted
            // these entries.
            if !unsafe { self.offer(&chain) } {
                self.waiting.push_front(chain);
                return;
            }
        }
        self.is_open = self.ways.batches;
    }

    /// Submits everything queued and waits for at least one completion, at most for `timeout` (`None`: indefinitely).
    /// [`completion`](Ring::completion) then returns what has arrived.
    ///
    /// # Errors
    /// Only errors after which the ring can't be used any more.
    pub fn submit_and_wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.submit()?;
        let is_idle = self.waiting.is_empty() && self.batch.is_empty();
        let timeout = if is_idle { timeout } else { Some(Duration::ZERO) };
        let timeout = timeout.map(Timespec::from);
        let mut arguments = SubmitArgs::new();
        if let Some(timeout) = &timeout {
            arguments = arguments.timespec(timeout);
        }
        let entered = self.submitter().submit_with_args_and_flags(1, &arguments, self.wait_flags);
        self.entered(entered)?;
        self.collect();
        Ok(())
    }

    /// Submits until no chain waits for the submission queue, or the kernel takes no more.
    fn submit(&mut self) -> io::Result<()> {
        while !self.waiting.is_empty() {
            self.fill();
            if self.waiting.is_empty() {
                break;
            }
            let submitter = self.submitter();
            let length = self.queued();
            // SAFETY: `enter` requires valid arguments: it submits what is queued and names no memory. `GETEVENTS` lets
            // deferred work run (io_uring_enter(2)), so that an overflow can clear.
            let entered = unsafe { submitter.enter::<()>(length, 0, EnterFlags::GETEVENTS.bits(), None) };
            self.entered(entered)?;
            if self.queued() == length {
                break;
            }
            self.collect();
        }
        Ok(())
    }

    /// Submits only this many of the queued entries, as the kernel does when it runs out of memory during a submission.
    /// For tests.
    ///
    /// # Errors
    /// See [`submit_and_wait`](Ring::submit_and_wait).
    #[cfg(feature = "torn-chains")]
    pub fn submit_only(&mut self, entries: u32) -> io::Result<()> {
        // SAFETY: `enter` requires valid arguments: it submits what is queued, or less, and names no memory.
        let entered = unsafe { self.submitter().enter::<()>(entries, 0, 0, None) };
        self.entered(entered)
    }

    /// Carries out an operation that names no memory, or memory that is there for ever, and returns its result.
    #[cfg(feature = "torn-chains")]
    fn attempt(&mut self, entry: Sqe) -> io::Result<usize> {
        // SAFETY: `push` requires the entry's memory to outlive it: only `try_to_get_out` calls this, with static memory.
        unsafe { self.push([entry]) };
        self.submit_and_wait(Some(Duration::from_secs(10)))?;
        let completion = self.batch.pop_front().ok_or(io::ErrorKind::TimedOut)?;
        completion.count()
    }

    /// The number of entries that the kernel hasn't taken yet.
    fn queued(&self) -> u32 {
        // SAFETY: `submission_shared` requires that no other such value exists: see `offer`.
        let queue = unsafe { self.io().submission_shared() };
        length_of(queue.len())
    }

    /// Handles the result of an enter.
    fn entered(&mut self, result: io::Result<usize>) -> io::Result<()> {
        self.enters += 1;
        let left = self.queued();
        if let Some(place) = self.chains.on_submitted(left) {
            self.abandon(place);
        }
        match result {
            Ok(_) => Ok(()),
            Err(error) => match error.raw_os_error() {
                // The timeout, a signal, or temporarily no memory or no room for completions. What is left goes with
                // the next enter.
                Some(libc::ETIME | libc::EINTR | libc::EAGAIN | libc::EBUSY) => Ok(()),
                _ => Err(error),
            },
        }
    }

    /// Ends an operation whose chain was torn, and closes its client: the SEND can't be recalled, but it fails on a
    /// socket that is shut down. The READ may still be writing then, so the buffer is never reused.
    #[cold]
    fn abandon(&mut self, place: Token) {
        let buffer = self.in_flight.get_mut(place).and_then(|in_flight| in_flight.memory.abandon());
        if let Some(buffer) = buffer {
            self.read_buffers.give_up(buffer);
        }
    }

    /// Empties the completion queue, so that the kernel has room again.
    fn collect(&mut self) {
        // SAFETY: `as_ref` requires a valid pointer and no mutable reference: see `io`, which can't be called here
        // because it would borrow all of `self`.
        let io = unsafe { self.io.as_ref() };
        // SAFETY: `completion_shared` requires that no other such value exists: only this function creates one.
        let queue = unsafe { io.completion_shared() };
        self.batch.extend(queue.map(|entry| Cqe {
            user_data: entry.user_data(),
            result: entry.result(),
            flags: entry.flags(),
        }));
    }

    /// Handles a completed send: submits the rest, or ends the operation.
    fn sent(&mut self, place: Token, result: io::Result<usize>) -> Option<Completion> {
        let InFlight { token, memory } = self.in_flight.get_mut(place)?;
        let token = *token;
        let bytes = *result.as_ref().unwrap_or(&0);
        memory.advance(bytes);
        let rest = if bytes > 0 { memory.rest() } else { None };
        let armed = rest.is_some();
        match rest {
            // SAFETY: `push` requires the entry's memory to outlive it: the operation stays in the table and still owns
            // the rest of its output.
            Some(send) => unsafe { self.push([send.user_data(Operation::Send.user_data(place))]) },
            None => self.retire(place),
        }
        Some(Completion::Sent { token, result, armed })
    }

    /// Sends the rest of an operation's bytes; returns whether there were any.
    fn send_rest(&mut self, place: Token) -> bool {
        let send = self.in_flight.get_mut(place).and_then(|in_flight| in_flight.memory.rest());
        let Some(send) = send else { return false };
        // SAFETY: `push` requires the entry's memory to outlive it: the operation stays in the table and owns what it
        // sends.
        unsafe { self.push([send.user_data(Operation::Send.user_data(place))]) };
        true
    }

    /// Cancels all operations and waits for them to end, at most for `bound`. Their results are dropped.
    pub fn finish(&mut self, bound: Duration) {
        let end = Instant::now() + bound;
        loop {
            while self.completion().is_some() {}
            let left = end.saturating_duration_since(Instant::now());
            if self.in_flight.is_empty() && self.waiting.is_empty() || left.is_zero() {
                return;
            }
            self.push_cancel(CancelBuilder::any().all());
            if self.submit_and_wait(Some(left.min(CANCEL_INTERVAL))).is_err() {
                return;
            }
        }
    }

    fn io(&self) -> &IoUring {
        // SAFETY: `as_ref` requires a valid pointer and no mutable reference: `new` put the ring on the heap, it is
        // only used through shared references, and only `drop` frees it.
        unsafe { self.io.as_ref() }
    }

    fn submitter(&self) -> &Submitter<'static> {
        self.submitter.as_ref().expect("the submitter exists until the ring is dropped")
    }
}

/// Used by entries that own nothing; no operation has this place.
const NO_OPERATION: Token = Token { slot: u32::MAX, generation: 0 };

impl Drop for Ring {
    fn drop(&mut self) {
        // Pending closes are submitted here. If that fails, descriptors leak, which is safe.
        let _submitted = self.submit_and_wait(Some(Duration::ZERO));
        while self.completion().is_some() {}
        if let Some(mut submitter) = self.submitter.take() {
            // Fails if it was never registered. A remaining registration would keep the ring open.
            let _unregistered = submitter.unregister_ring_fd();
        }
        // SAFETY: `from_raw` requires a pointer from `into_raw`, used once: `new` leaked this box, and the submitter,
        // which borrowed from it, is gone.
        drop(unsafe { Box::from_raw(self.io.as_ptr()) });
        let places: Vec<_> = self.in_flight.tokens().collect();
        for in_flight in places.into_iter().filter_map(|place| self.in_flight.remove(place)) {
            if let Memory::Receive { .. } = in_flight.memory {
                mem::forget(Rc::clone(&self.receive_buffers));
            }
            in_flight.memory.leak();
        }
    }
}

/// The memory of a pair. The buffer holds the head and the part's first piece, or will once it has been read.
fn pair_memory(socket: &Socket, part: &FilePart<'_>, mut buffer: ReadBuffer) -> Memory {
    let more = (buffer.body().len() as u64) < part.length;
    Memory::Pair { socket: Rc::clone(socket), _file: Arc::clone(part.file), buffer, more }
}
