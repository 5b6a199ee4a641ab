//! A reactor and an executor, the two halves of an async runtime.
//!
//! The **executor** owns the tasks and a queue of those that can run. It runs a task until the task has to wait, and
//! again when the task's [`Waker`] has put it back into the queue.
//!
//! The **reactor** has a waker for each socket. It waits with epoll(7), edge-triggered, and calls the wakers of the
//! sockets that are reported.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::mem;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use common::{Slots, Token};
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventFlags};
use rustix::io::retry_on_intr;

use super::super::{EVENTS_MAX, data, timespec};

type Task = Pin<Box<dyn Future<Output = ()>>>;

pub(super) struct Runtime {
    epoll: OwnedFd,
    wakers: RefCell<Slots<Waker>>,
    /// The task that is running is out of its slot.
    tasks: RefCell<Slots<Option<Task>>>,
    queue: Arc<RunQueue>,
}

/// Tokens of tasks that can run. It is locked because a waker may be called by any thread.
#[derive(Default)]
struct RunQueue(Mutex<VecDeque<Token>>);

impl RunQueue {
    fn tokens(&self) -> MutexGuard<'_, VecDeque<Token>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A task's waker.
struct Schedule(Arc<RunQueue>, Token);

impl Wake for Schedule {
    fn wake(self: Arc<Self>) {
        self.0.tokens().push_back(self.1);
    }
}

// ---- the executor

impl Runtime {
    pub(super) fn new() -> io::Result<Runtime> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        Ok(Runtime { epoll, wakers: RefCell::default(), tasks: RefCell::default(), queue: Arc::default() })
    }

    /// Adds a task to the queue.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        let token = self.tasks.borrow_mut().insert(Some(Box::pin(task)));
        self.queue.tokens().push_back(token);
    }

    /// Runs every task in the queue until it has to wait. Tasks that are woken meanwhile run next time.
    pub(super) fn run(&self) {
        let ready = mem::take(&mut *self.queue.tokens());
        for token in ready {
            // None if the task has ended since it was woken.
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

    /// Drops all tasks, which may share ownership of the runtime.
    pub(super) fn clear(&self) {
        drop(self.tasks.take());
    }
}

// ---- the reactor

impl Runtime {
    /// Calls the waker whenever the socket gets bytes or room.
    pub(super) fn register(&self, source: impl AsFd, waker: Waker) -> io::Result<Token> {
        let token = self.wakers.borrow_mut().insert(waker);
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
        epoll::add(&self.epoll, source, data(token), flags)?;
        Ok(token)
    }

    /// Forgets a socket that is about to be closed.
    pub(super) fn forget(&self, token: Token) {
        drop(self.wakers.borrow_mut().remove(token));
    }

    /// Waits for events and calls their wakers; returns the number of events. Doesn't wait while tasks can run.
    pub(super) fn wait(&self, timeout: Option<Duration>) -> io::Result<usize> {
        let timeout = if self.queue.tokens().is_empty() { timeout } else { Some(Duration::ZERO) };
        let timeout = timeout.map(timespec);
        let mut events = Vec::with_capacity(EVENTS_MAX);
        retry_on_intr(|| epoll::wait(&self.epoll, spare_capacity(&mut events), timeout.as_ref()))?;
        let wakers = self.wakers.borrow();
        for event in &events {
            wakers.get(Token::from_u64(event.data.u64())).into_iter().for_each(Waker::wake_by_ref);
        }
        Ok(events.len())
    }
}

/// The waker of the task that asks.
pub(super) async fn own_waker() -> Waker {
    poll_fn(|context| Poll::Ready(context.waker().clone())).await
}

/// Gives the thread back until the task is woken.
pub(super) async fn woken() {
    let mut has_waited = false;
    poll_fn(|_| if mem::replace(&mut has_waited, true) { Poll::Ready(()) } else { Poll::Pending }).await;
}
