//! `futures`: a reactor that wakes, and an executor with a run queue. The whole of an async runtime, as far as one server
//! needs it.
//!
//! A connection is a task: an `async` function that reads as if it waited. Where it has to wait it gives the thread back,
//! and what wakes it is a [`Waker`], which puts its token into the run queue. The reactor has one such waker for each
//! socket, and calls it when epoll (edge-triggered) tells of the socket (C19).
//!
//! - Adds: the simple code of `thread`, at the cost of an event loop.
//! - Costs: an allocation for each task and waker, and a hand-over over the queue for each event.
//! - Its limit: the limit of descriptors.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::mem;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use common::service::socket::{self, ACCEPT_PAUSE, AcceptError};
use common::{Slots, Token};
use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::retry_on_intr;
use rustix::net::SocketFlags;

use crate::services::{RECEIVE_BYTES_MAX, Service};
use crate::{Client, Limit, Received, Setup};

/// Events that one wait brings, at most.
const EVENTS_MAX: usize = 1024;

/// Receives in a row, before it is another task's turn.
const RECEIVES_MAX: usize = 16;

pub(super) fn serve(mut setup: Setup) -> io::Result<()> {
    let (listener, bell) = (setup.listener(), setup.end.bell()?);
    let runtime = Rc::new(Runtime::new(setup.service)?);
    runtime.register(&bell, Waker::noop().clone())?;
    runtime.spawn(accept(Rc::clone(&runtime), listener));
    while !bell.has_ended() {
        runtime.run();
        runtime.wait()?;
    }
    // Tasks share the runtime that owns them.
    drop(runtime.tasks.take());
    Ok(())
}

type Task = Pin<Box<dyn Future<Output = ()>>>;

struct Runtime {
    /// The reactor: whom to wake when epoll tells of this token.
    epoll: OwnedFd,
    wakers: RefCell<Slots<Waker>>,
    /// The executor: tasks, without the one that runs, and the queue of those that are to run.
    tasks: RefCell<Slots<Option<Task>>>,
    queue: Arc<RunQueue>,
    /// Whoever waits for a descriptor.
    paused: RefCell<Option<Waker>>,
    service: Arc<Service>,
    buffer: RefCell<Vec<u8>>,
}

#[derive(Default)]
struct RunQueue(Mutex<VecDeque<Token>>);

/// Wakes a task: puts it into the run queue.
struct Schedule(Arc<RunQueue>, Token);

impl Wake for Schedule {
    fn wake(self: Arc<Self>) {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(self.1);
    }
}

impl Runtime {
    fn new(service: Arc<Service>) -> io::Result<Runtime> {
        let (wakers, tasks, queue, paused) = Default::default();
        let (epoll, buffer) =
            (epoll::create(CreateFlags::CLOEXEC)?, RefCell::new(vec![0; RECEIVE_BYTES_MAX]));
        Ok(Runtime { epoll, wakers, tasks, queue, paused, service, buffer })
    }

    /// The reactor: wakes this waker whenever the state of the source changes.
    fn register(&self, source: impl AsFd, waker: Waker) -> io::Result<Token> {
        let token = self.wakers.borrow_mut().insert(waker);
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
        epoll::add(&self.epoll, source, EventData::new_u64(token.to_u64()), flags)?;
        Ok(token)
    }

    /// The reactor: waits, unless tasks are to run, and wakes.
    fn wait(&self) -> io::Result<()> {
        let timeout = if !self.queue.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
            Some(Timespec::default())
        } else if self.paused.borrow().is_some() {
            Some(Timespec::try_from(ACCEPT_PAUSE).map_err(io::Error::other)?)
        } else {
            None
        };
        let mut events = Vec::with_capacity(EVENTS_MAX);
        retry_on_intr(|| epoll::wait(&self.epoll, spare_capacity(&mut events), timeout.as_ref()))?;
        self.service.stats.count_events(events.len());
        let wakers = self.wakers.borrow();
        events
            .iter()
            .filter_map(|event| wakers.get(Token::from_u64(event.data.u64())))
            .for_each(Waker::wake_by_ref);
        if events.is_empty() {
            self.end_pause();
        }
        Ok(())
    }

    /// The executor: adds a task, which runs soon.
    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        let token = self.tasks.borrow_mut().insert(Some(Box::pin(task)));
        Arc::new(Schedule(Arc::clone(&self.queue), token)).wake();
    }

    /// The executor: lets every task of the queue go on until it has to wait. Who is woken meanwhile runs next time.
    fn run(&self) {
        let ready = mem::take(&mut *self.queue.0.lock().unwrap_or_else(PoisonError::into_inner));
        for token in ready {
            let Some(mut task) = self.tasks.borrow_mut().get_mut(token).and_then(Option::take) else {
                continue;
            };
            let waker = Waker::from(Arc::new(Schedule(Arc::clone(&self.queue), token)));
            let poll = task.as_mut().poll(&mut Context::from_waker(&waker));
            let mut tasks = self.tasks.borrow_mut();
            match tasks.get_mut(token) {
                Some(place) if poll.is_pending() => *place = Some(task),
                _ => drop(tasks.remove(token)),
            }
        }
    }

    fn end_pause(&self) {
        self.paused.take().into_iter().for_each(Waker::wake);
    }
}

/// The waker of the task that asks.
async fn own_waker() -> Waker {
    poll_fn(|context| Poll::Ready(context.waker().clone())).await
}

/// Gives the thread back until somebody wakes the task.
async fn woken() {
    let mut has_waited = false;
    poll_fn(|_| if mem::replace(&mut has_waited, true) { Poll::Ready(()) } else { Poll::Pending }).await;
}

/// The task that accepts.
async fn accept(runtime: Rc<Runtime>, listener: OwnedFd) {
    let waker = own_waker().await;
    let registered = runtime.register(&listener, waker.clone());
    registered.expect("a new epoll instance takes one descriptor");
    loop {
        match socket::accept(&listener, SocketFlags::NONBLOCK, false) {
            Ok((socket, _)) => runtime.spawn(converse(Rc::clone(&runtime), socket)),
            Err(AcceptError::Connection) => {}
            Err(AcceptError::Empty) => woken().await,
            Err(AcceptError::Exhausted) => {
                Limit::Descriptors.mention();
                runtime.paused.replace(Some(waker.clone()));
                woken().await;
            }
        }
    }
}

/// The task of a connection, from its beginning to its end.
async fn converse(runtime: Rc<Runtime>, socket: OwnedFd) {
    let mut client = Client { socket, connection: runtime.service.connect() };
    let waker = own_waker().await;
    client.connection.wake_with(waker.clone());
    let token = runtime.register(&client.socket, waker);
    // Room comes first: it may be what the next receive needs.
    while token.is_ok() && on_writable(&mut client) && on_readable(&runtime, &mut client).await {
        woken().await;
    }
    close(&runtime, client, token.ok());
}

/// Receives until the socket would block, or the connection is full. False if it is over or broken.
async fn on_readable(runtime: &Runtime, client: &mut Client) -> bool {
    loop {
        for _ in 0..RECEIVES_MAX {
            match client.receive(&mut runtime.buffer.borrow_mut()) {
                Received::Some if on_writable(client) => {}
                Received::Nothing => return true,
                Received::Some | Received::Broken => return false,
            }
        }
        own_waker().await.wake();
        woken().await;
    }
}

/// Sends until there is nothing left, or the socket would block: the edge that comes with room wakes the task (C18).
fn on_writable(client: &mut Client) -> bool {
    client.send()
}

/// Closing the socket takes it out of epoll.
fn close(runtime: &Runtime, client: Client, token: Option<Token>) {
    client.close();
    token.map(|token| runtime.wakers.borrow_mut().remove(token));
    runtime.end_pause();
}
