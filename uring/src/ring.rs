//! The ring: operations go in, completions come out, and memory is never the caller's worry.
//!
//! The rules, which every unsafe block in this file leans on:
//!
//! 1. **An operation owns what it points to.** Each one has an entry in the table of operations in flight;
//!    the entry owns, or shares, the memory and the descriptors that the submission names by address and
//!    number. It leaves the table with the operation's last completion, not before.
//! 2. **What is shared is not changed.** Output is an `Rc<Vec<u8>>`: while the ring holds a share nobody gets
//!    a mutable reference. Read buffers are moved in and out whole. Receive buffers have rules of their own
//!    (see [`crate::buffers`]).
//! 3. **A completion names its operation** by kind, place in the table and generation (`user_data`). One that
//!    comes late, or twice, finds nobody.
//! 4. **A ring that is dropped leaks.** The kernel lets go of memory some time after the ring is closed. So
//!    the memory of operations that are still in flight is never freed; their descriptors are closed.
//!    [`Ring::finish`] brings them to their end first.
//! 5. **Nothing is lost.** What finds no room in the submission queue waits in a queue of ours; the next
//!    [`Ring::submit_and_wait`] submits as often as it takes.
//! 6. One thread makes the ring, uses it and drops it: `Ring` isn't `Send`.

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
use crate::setup::build;

use ways::Ways;

pub use crate::operation::{Completion, FilePart, Flight, Socket};
pub use crate::setup::{LADDER, Options, Rung};

/// Kernel threads for what can't be done without waiting: per worker, for files and for the rest.
const KERNEL_WORKERS_MAX: [u32; 2] = [8, 2];

/// Memory for messages that is kept for the next ones.
const MESSAGES_MAX: usize = 1024;

/// The one group of provided buffers of a ring.
const RECEIVE_GROUP: u16 = 0;

/// How often [`Ring::finish`] repeats its cancel: a SEND that is linked behind a READ can't be found before
/// it runs.
const CANCEL_INTERVAL: Duration = Duration::from_millis(10);

/// A completion as the kernel wrote it.
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

    /// The descriptor that an accept or an open has made.
    fn descriptor(self) -> io::Result<OwnedFd> {
        self.value()?;
        // SAFETY: `from_raw_fd` wants a descriptor that is open and nobody else's: the kernel has just made
        // it for this completion, and a completion is read once.
        Ok(unsafe { OwnedFd::from_raw_fd(self.result) })
    }
}

/// One ring of one thread.
pub struct Ring {
    io: NonNull<IoUring>,
    /// Carries the number under which the kernel knows the ring without a look-up (`register_ring_fd`).
    /// `None` only while the ring is dropped.
    submitter: Option<Submitter<'static>>,
    in_flight: Slots<InFlight>,
    receive_buffers: Rc<ProvidedBuffers>,
    single_buffers: Rc<SingleBuffers>,
    read_buffers: ReadBuffers,
    /// Empty, for the next sends of several pieces.
    #[expect(clippy::vec_box, reason = "the kernel is told its address")]
    messages: Vec<Box<Message>>,
    /// Chains that found no room in the submission queue, in order.
    waiting: VecDeque<Box<[Sqe]>>,
    /// Whether entries go straight to the submission queue, to be submitted with others: nothing waits for a
    /// place in it, and the ring batches.
    is_open: bool,
    chains: Chains,
    /// Completions that were taken from the queue and not yet looked at.
    batch: VecDeque<Cqe>,
    /// The newest kernel that the ring asks for.
    rung: &'static str,
    ways: Ways,
    /// How often the kernel was entered.
    enters: u64,
}

/// Starts a READ and the SEND of what it reads. Wants what [`Ring::launch`] wants.
type Pair = unsafe fn(&mut Ring, Token, Memory, Sqe) -> Flight;

impl Ring {
    /// What an operation in flight takes in its table, besides the memory it works on.
    pub const IN_FLIGHT_BYTES: usize = size_of::<Option<InFlight>>() + size_of::<u64>();

    /// A ring of the calling thread.
    ///
    /// # Errors
    /// When io_uring isn't there, is forbidden or too old, or memory or descriptors have run out.
    pub fn new(options: &Options) -> Result<Ring, Refusal> {
        let ways = Ways::without(&options.without);
        let (io, rung) = build(options).map_err(Refusal::Setup)?;
        let io = NonNull::from(Box::leak(Box::new(io)));
        // SAFETY: `as_ref` wants a valid pointer and no mutable reference while this one lives: the ring is
        // on the heap, is only ever used through shared references, and `drop` takes the submitter away
        // first.
        let shared: &'static IoUring = unsafe { io.as_ref() };
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
        };
        registered.map_err(Refusal::Setup)?;
        ring.submitter().register_iowq_max_workers(&mut { KERNEL_WORKERS_MAX }).map_err(Refusal::Setup)?;
        ring.register_receive_buffers().map_err(Refusal::Buffers)?;
        Ok(ring)
    }

    fn register_receive_buffers(&self) -> io::Result<()> {
        let (address, count) = (self.receive_buffers.address(), self.receive_buffers.count());
        let submitter = self.submitter();
        // SAFETY: `register_buf_ring_with_flags` wants memory for so many entries that stays valid until the
        // ring is gone: the provided buffers are laid out for it, and `drop` lets them go after the ring, or
        // never while a receive is in flight.
        unsafe { submitter.register_buf_ring_with_flags(address, count, RECEIVE_GROUP, 0) }
    }

    /// The version of the kernel whose setup flags are in use.
    #[must_use]
    pub fn rung(&self) -> &'static str {
        self.rung
    }

    /// How many system calls the ring has made: to submit, to wait, or for both.
    #[must_use]
    pub fn enters(&self) -> u64 {
        self.enters
    }

    /// Frees buffers that have gone unneeded since the last call.
    pub fn trim(&mut self) {
        self.read_buffers.trim();
    }

    /// How many operations are in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// The buffers that receives are served from.
    #[must_use]
    pub fn receive_buffers(&self) -> &Rc<ProvidedBuffers> {
        &self.receive_buffers
    }

    /// Accepts connections until further notice (multishot, 5.19); or one, where
    /// [`SingleAccept`](common::Tune::SingleAccept) says so.
    pub fn arm_accept(&mut self, token: Token, listener: &Rc<OwnedFd>) -> Flight {
        let accept = (self.ways.accept)(Fd(listener.as_raw_fd()));
        let memory = Memory::Accept { _listener: Rc::clone(listener) };
        // SAFETY: `launch` wants the operation to own its memory: it names no address, only the listener.
        unsafe { self.launch(token, memory, [(Operation::Accept, accept)]) }
    }

    /// Receives until further notice (multishot, 6.0), into provided buffers; or once, where
    /// [`SingleReceive`](common::Tune::SingleReceive) says so.
    pub fn arm_recv(&mut self, token: Token, socket: &Socket) -> Flight {
        (self.ways.receive)(self, token, socket)
    }

    /// Receives once, what there is or comes first: into a provided buffer; or into memory of its own, where
    /// [`SingleReceive`](common::Tune::SingleReceive) says so.
    pub fn recv(&mut self, token: Token, socket: &Socket) -> Flight {
        (self.ways.receive_first)(self, token, socket)
    }

    /// Receives into provided buffers, once or until further notice.
    fn receive_provided<const GOES_ON: bool>(&mut self, token: Token, socket: &Socket) -> Flight {
        let socket_fd = Fd(socket.as_raw_fd());
        let receive = if GOES_ON {
            opcode::RecvMulti::new(socket_fd, RECEIVE_GROUP).build()
        } else {
            // No address and no length: both come with the buffer that is selected.
            let receive = opcode::Recv::new(socket_fd, ptr::null_mut(), 0).buf_group(RECEIVE_GROUP);
            receive.build().flags(Flags::BUFFER_SELECT)
        };
        let memory = Memory::Receive { _socket: Rc::clone(socket) };
        // SAFETY: `launch` wants the operation to own its memory: it names none but the group of provided
        // buffers, which outlive it (see `drop`).
        unsafe { self.launch(token, memory, [(Operation::Receive, receive)]) }
    }

    /// Receives what there is, into memory of its own.
    fn receive_once(&mut self, token: Token, socket: &Socket) -> Flight {
        let mut bytes = self.single_buffers.take();
        let receive = opcode::Recv::new(Fd(socket.as_raw_fd()), bytes.as_mut_ptr(), length_of(bytes.len()));
        let memory = Memory::ReceiveOnce { _socket: Rc::clone(socket), bytes };
        // SAFETY: `launch` wants the operation to own its memory: it owns the bytes, which are as many as are
        // received at most, and stay where they are when the vector moves.
        unsafe { self.launch(token, memory, [(Operation::ReceiveOnce, receive.build())]) }
    }

    /// Sends pieces of memory, at most [`PIECES_MAX`], with one operation: SEND, or SENDMSG for several. A send takes
    /// what the socket has room for; the ring sends the rest as there is room again, and reports each step (with
    /// `MSG_WAITALL` it would report only the end, and nobody could tell a slow reader from one that has stopped).
    /// `more`: what follows belongs to them, so a segment that isn't full may wait (`MSG_MORE`).
    ///
    /// # Panics
    /// When there is nothing to send, or too many pieces.
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
            // SAFETY: `zeroed` wants a type that zeros are a value of: a header of plain numbers and pointers.
            let mut message = self.messages.pop().unwrap_or_else(|| Message::new(unsafe { mem::zeroed() }));
            message.fill(pieces, more);
            Memory::Message { socket, message }
        };
        let send = memory.rest().expect("something is to be sent");
        // SAFETY: `launch` wants the operation to own its memory: it has shares of the pieces, so the bytes neither move
        // nor change, and a message is on the heap.
        unsafe { self.launch(token, memory, [(Operation::Send, send)]) }
    }

    /// Reads a range of a file into memory of its own.
    pub fn read(&mut self, token: Token, range: &FileRange<'_>) -> Flight {
        let mut bytes = FileBytes::zeroed(usize::try_from(range.length).expect("a range that fits memory"));
        let file = Fd(range.file.as_fd().as_raw_fd());
        let read = opcode::Read::new(file, bytes.as_mut_ptr(), length_of(bytes.len())).offset(range.offset);
        let memory = Memory::Read { _file: Arc::clone(range.file), bytes };
        // SAFETY: `launch` wants the operation to own its memory: it owns the bytes, which are as many as are
        // read at most, and stay where they are when their owner moves.
        unsafe { self.launch(token, memory, [(Operation::Read, read.build())]) }
    }

    /// Reads as much of the part as a buffer holds, behind the head in the same buffer, and sends both with one
    /// operation, as [`send`](Ring::send) does. The send is linked behind the read, or follows its completion, where
    /// [`UnlinkedSend`](common::Tune::UnlinkedSend) says so. When the read falls short there is one
    /// [`Completion::ReadShort`], and nothing is sent.
    pub fn read_then_send(&mut self, token: Token, socket: &Socket, part: &FilePart<'_>) -> Flight {
        let mut buffer = self.buffer_for(part);
        let body = buffer.body();
        let file = Fd(part.file.as_fd().as_raw_fd());
        let read =
            opcode::Read::new(file, body.as_mut_ptr(), length_of(body.len())).offset(part.offset).build();
        let memory = pair_memory(socket, part, buffer);
        // SAFETY: `pair` wants the operation to own its memory: it owns the buffer, and the read stays within
        // what that has room for.
        unsafe { (self.ways.pair)(self, token, memory, read) }
    }

    /// Links the SEND behind the READ.
    ///
    /// # Safety
    /// As [`launch`](Ring::launch).
    unsafe fn pair_linked(&mut self, token: Token, mut memory: Memory, read: Sqe) -> Flight {
        // Of a pair that succeeds, only the send is worth a completion. A read that fails, or that falls
        // short, shows itself, and the kernel drops the send in silence.
        let read = read.flags(Flags::IO_LINK | Flags::SKIP_SUCCESS);
        let send = memory.rest().expect("something is to be sent");
        // SAFETY: `launch` wants the operation to own its memory: the caller vouches for the read, and the
        // send stays within the same buffer.
        unsafe { self.launch(token, memory, [(Operation::Read, read), (Operation::Send, send)]) }
    }

    /// Leaves the SEND to the READ's completion.
    ///
    /// # Safety
    /// As [`launch`](Ring::launch).
    unsafe fn pair_unlinked(&mut self, token: Token, memory: Memory, read: Sqe) -> Flight {
        // SAFETY: `launch` wants what this function wants.
        unsafe { self.launch(token, memory, [(Operation::ReadFirst, read)]) }
    }

    /// As [`read_then_send`](Ring::read_then_send), but reads at once, with pread(2): for file systems whose
    /// files are always in memory, or that can't be read without waiting anyhow. Those would take a read
    /// through a kernel thread.
    ///
    /// # Errors
    /// When the read fails, or the file ends early: then nothing will be sent.
    pub fn read_now_then_send(
        &mut self,
        token: Token,
        socket: &Socket,
        part: &FilePart<'_>,
    ) -> io::Result<Flight> {
        let mut buffer = self.buffer_for(part);
        let body = buffer.body();
        let read = read_full(part.file, body, part.offset);
        if !matches!(read, Ok(length) if length == body.len()) {
            self.read_buffers.give_back(buffer);
            return Err(read.err().unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into()));
        }
        let mut memory = pair_memory(socket, part, buffer);
        let send = memory.rest().expect("something is to be sent");
        // SAFETY: `launch` wants the operation to own its memory: it owns the buffer, which has been filled
        // for the length of the send.
        Ok(unsafe { self.launch(token, memory, [(Operation::Send, send)]) })
    }

    fn buffer_for(&mut self, part: &FilePart<'_>) -> ReadBuffer {
        let mut buffer = self.read_buffers.take(part.length);
        let body_bytes = usize::try_from(part.length).unwrap_or(usize::MAX).min(buffer.body_bytes_max());
        buffer.put_head(part.head, body_bytes);
        buffer
    }

    /// Opens a file (`OPENAT2`): at once if its path is in the kernel's cache.
    pub fn open(&mut self, token: Token, request: &Arc<OpenRequest>) -> Flight {
        let site = request.site();
        let (root, how) = (Fd(site.root().as_raw_fd()), ptr::from_ref(site.how()));
        let open = opcode::OpenAt2::new(root, request.path().as_ptr(), how.cast()).build();
        let memory = Memory::Open { request: Arc::clone(request) };
        // SAFETY: `launch` wants the operation to own its memory: it has a share of the request, whose path doesn't
        // change while it lives, and through it of the site, which owns the root and has `how` (laid out as openat2(2)
        // wants it) for good.
        unsafe { self.launch(token, memory, [(Operation::Open, open)]) }
    }

    /// Waits until the descriptor is readable, once.
    pub fn poll_readable(&mut self, token: Token, descriptor: &Rc<OwnedFd>) -> Flight {
        self.poll(token, descriptor, libc::POLLIN)
    }

    /// Waits until the socket has room, once.
    pub fn poll_writable(&mut self, token: Token, socket: &Socket) -> Flight {
        self.poll(token, socket, libc::POLLOUT)
    }

    fn poll(&mut self, token: Token, descriptor: &Rc<OwnedFd>, events: i16) -> Flight {
        let events = u32::from(events.cast_unsigned());
        let poll = opcode::PollAdd::new(Fd(descriptor.as_raw_fd()), events).build();
        let memory = Memory::Poll { _descriptor: Rc::clone(descriptor) };
        // SAFETY: `launch` wants the operation to own its memory: it names no address, only the descriptor.
        unsafe { self.launch(token, memory, [(Operation::Poll, poll)]) }
    }

    /// Closes a descriptor. Nothing is reported.
    pub fn close(&mut self, descriptor: OwnedFd) {
        let close = opcode::Close::new(Fd(descriptor.into_raw_fd())).build().flags(Flags::SKIP_SUCCESS);
        // SAFETY: `push` wants the entry's memory to outlive it: it names none.
        unsafe { self.push([close.user_data(Operation::Close.user_data(NOBODY))]) };
    }

    /// Asks for the end of an operation, which will still report: with `ECANCELED`, or with what it came to
    /// meanwhile. Nothing happens if it is already over.
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
        // SAFETY: `push` wants the entry's memory to outlive it: it names none.
        unsafe { self.push([cancel.user_data(Operation::Cancel.user_data(NOBODY))]) };
    }

    /// Takes an operation on: its memory into the table, its entries towards the kernel.
    ///
    /// # Safety
    /// Every address and descriptor in the entries belongs to `memory`, and stays good wherever that moves.
    unsafe fn launch<const N: usize>(
        &mut self,
        token: Token,
        memory: Memory,
        entries: [(Operation, Sqe); N],
    ) -> Flight {
        let place = self.in_flight.insert(InFlight { token, memory });
        let entries = entries.map(|(operation, entry)| entry.user_data(operation.user_data(place)));
        // SAFETY: `push` wants the entries' memory to outlive them: the caller vouches that it is in the
        // table, and there it stays until the completion, or for ever.
        unsafe { self.push(entries) };
        Flight(place)
    }

    /// Hands a chain of entries to the submission queue, or lets it wait its turn.
    ///
    /// # Safety
    /// The memory that the entries name is valid until their operations have completed.
    unsafe fn push<const N: usize>(&mut self, entries: [Sqe; N]) {
        // SAFETY: `offer` wants what this function wants.
        if self.is_open && unsafe { self.offer(&entries) } {
            return;
        }
        // SAFETY: `push_apart` wants what this function wants.
        unsafe { self.push_apart(&entries) };
    }

    /// For a chain that doesn't just join the others in the submission queue: there is no room for it, or each
    /// is submitted by itself.
    ///
    /// # Safety
    /// The memory that the entries name is valid until their operations have completed.
    #[cold]
    unsafe fn push_apart(&mut self, chain: &[Sqe]) {
        // SAFETY: `offer` wants what this function wants.
        if self.waiting.is_empty() && unsafe { self.offer(chain) } {
            let submitted = self.submitter().submit();
            // What the kernel didn't take goes with the next enter, which fails again if this one did.
            let _entered = self.entered(submitted);
        } else {
            self.waiting.push_back(chain.into());
            self.is_open = false;
        }
    }

    /// Pushes a whole chain, if there is room for it. A chain that a submission tears apart is no chain.
    ///
    /// # Safety
    /// The memory that the entries name is valid until their operations have completed.
    unsafe fn offer(&mut self, chain: &[Sqe]) -> bool {
        // SAFETY: `submission_shared` wants to be the only such value: it lives in this function and `queued`
        // alone, neither of which calls the other while it does.
        let mut queue = unsafe { self.io().submission_shared() };
        // SAFETY: `push_multiple` wants what this function wants.
        let pushed = unsafe { queue.push_multiple(chain) }.is_ok();
        drop(queue);
        if pushed {
            self.chains.on_pushed(chain);
        }
        pushed
    }

    /// Moves what waits into the submission queue, as far as there is room.
    fn fill(&mut self) {
        while let Some(chain) = self.waiting.pop_front() {
            // SAFETY: `offer` wants memory that outlives the operations: these are entries that `push` took,
            // which wants the same.
            if !unsafe { self.offer(&chain) } {
                self.waiting.push_front(chain);
                return;
            }
        }
        self.is_open = self.ways.batches;
    }

    /// Submits everything that is queued and waits until something has completed, at most for `timeout`
    /// (`None`: as long as it takes). Then [`completion`](Ring::completion) hands out what there is.
    ///
    /// # Errors
    /// Only those after which the ring can't go on.
    pub fn submit_and_wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.submit()?;
        let is_idle = self.waiting.is_empty() && self.batch.is_empty();
        let timeout = if is_idle { timeout } else { Some(Duration::ZERO) };
        let entered = match timeout {
            None => self.submitter().submit_and_wait(1),
            Some(timeout) => {
                let timeout = Timespec::from(timeout);
                self.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&timeout))
            }
        };
        self.entered(entered)?;
        self.collect();
        Ok(())
    }

    /// Submits until nothing waits for a place in the submission queue, or the kernel takes no more.
    fn submit(&mut self) -> io::Result<()> {
        while !self.waiting.is_empty() {
            self.fill();
            if self.waiting.is_empty() {
                break;
            }
            let submitter = self.submitter();
            let length = self.queued();
            // SAFETY: `enter` wants arguments that are right: it submits what is queued, and gives deferred
            // work the chance to run (which `GETEVENTS` does, io_uring_enter(2)), so that an overflow can
            // clear.
            let entered = unsafe { submitter.enter::<()>(length, 0, EnterFlags::GETEVENTS.bits(), None) };
            self.entered(entered)?;
            if self.queued() == length {
                break;
            }
            self.collect();
        }
        Ok(())
    }

    /// Lets the kernel take so many entries of those that are queued, as it does when it runs out of memory in
    /// the middle of a submission. For tests of that moment.
    ///
    /// # Errors
    /// As [`submit_and_wait`](Ring::submit_and_wait).
    #[cfg(feature = "torn-chains")]
    pub fn submit_only(&mut self, entries: u32) -> io::Result<()> {
        // SAFETY: `enter` wants arguments that are right: it submits what is queued, or less, and names no
        // memory.
        let entered = unsafe { self.submitter().enter::<()>(entries, 0, 0, None) };
        self.entered(entered)
    }

    /// How many entries the kernel has not taken yet.
    fn queued(&self) -> u32 {
        // SAFETY: `submission_shared` wants to be the only such value: see `offer`.
        let queue = unsafe { self.io().submission_shared() };
        length_of(queue.len())
    }

    /// Sorts out what an enter came to.
    fn entered(&mut self, result: io::Result<usize>) -> io::Result<()> {
        self.enters += 1;
        let left = self.queued();
        if let Some(place) = self.chains.on_submitted(left) {
            self.abandon(place);
        }
        match result {
            Ok(_) => Ok(()),
            Err(error) => match error.raw_os_error() {
                // The timeout, a signal; no memory or no room for completions just now: what is left over
                // goes with the next enter.
                Some(libc::ETIME | libc::EINTR | libc::EAGAIN | libc::EBUSY) => Ok(()),
                _ => Err(error),
            },
        }
    }

    /// Ends an operation whose chain the kernel has torn, and the client with it: its SEND, which can't be
    /// called back, fails on a socket that is shut. The READ may still be writing then, so nobody gets the
    /// buffer any more.
    #[cold]
    fn abandon(&mut self, place: Token) {
        let buffer = self.in_flight.get_mut(place).and_then(|in_flight| in_flight.memory.abandon());
        if let Some(buffer) = buffer {
            self.read_buffers.give_up(buffer);
        }
    }

    /// Takes everything out of the completion queue, so that the kernel has room again.
    fn collect(&mut self) {
        // SAFETY: `as_ref` wants a valid pointer and no mutable reference: see `io`, which can't be used here
        // because the batch is borrowed apart.
        let io = unsafe { self.io.as_ref() };
        // SAFETY: `completion_shared` wants to be the only such value: this is the only function that makes
        // one.
        let queue = unsafe { io.completion_shared() };
        self.batch.extend(queue.map(|entry| Cqe {
            user_data: entry.user_data(),
            result: entry.result(),
            flags: entry.flags(),
        }));
    }

    /// Bytes have left: sends the rest, or ends the operation.
    fn sent(&mut self, place: Token, result: io::Result<usize>) -> Option<Completion> {
        let InFlight { token, memory } = self.in_flight.get_mut(place)?;
        let token = *token;
        let bytes = *result.as_ref().unwrap_or(&0);
        memory.advance(bytes);
        let rest = if bytes > 0 { memory.rest() } else { None };
        let armed = rest.is_some();
        match rest {
            // SAFETY: `push` wants the entry's memory to outlive it: the operation stays in the table, and
            // owns what is left of its output as it owned the whole.
            Some(send) => unsafe { self.push([send.user_data(Operation::Send.user_data(place))]) },
            None => self.retire(place),
        }
        Some(Completion::Sent { token, result, armed })
    }

    /// Sends what is left of an operation's bytes; whether there are any.
    fn send_rest(&mut self, place: Token) -> bool {
        let send = self.in_flight.get_mut(place).and_then(|in_flight| in_flight.memory.rest());
        let Some(send) = send else { return false };
        // SAFETY: `push` wants the entry's memory to outlive it: the operation stays in the table, and owns
        // what it sends.
        unsafe { self.push([send.user_data(Operation::Send.user_data(place))]) };
        true
    }

    /// Cancels everything and waits for the ends, at most for `bound`. What they bring is dropped.
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
        // SAFETY: `as_ref` wants a valid pointer and no mutable reference: `new` put the ring on the heap,
        // all use it shared, and only `drop` frees it.
        unsafe { self.io.as_ref() }
    }

    fn submitter(&self) -> &Submitter<'static> {
        self.submitter.as_ref().expect("the submitter is there until the ring is dropped")
    }
}

/// A place that no operation has: those that own nothing carry it.
const NOBODY: Token = Token { slot: u32::MAX, generation: 0 };

impl Drop for Ring {
    fn drop(&mut self) {
        // Descriptors may still be on their way to be closed. Where that fails, they are lost, not unsafe.
        let _submitted = self.submit_and_wait(Some(Duration::ZERO));
        while self.completion().is_some() {}
        if let Some(mut submitter) = self.submitter.take() {
            // It failed if it was never registered. The registration would keep the ring open.
            let _unregistered = submitter.unregister_ring_fd();
        }
        // SAFETY: `from_raw` wants what `into_raw` gave, once: `new` leaked this box, and the submitter,
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

/// The buffer holds the head and the beginning of the part, or will.
fn pair_memory(socket: &Socket, part: &FilePart<'_>, mut buffer: ReadBuffer) -> Memory {
    let more = (buffer.body().len() as u64) < part.length;
    Memory::Pair { socket: Rc::clone(socket), _file: Arc::clone(part.file), buffer, more }
}
