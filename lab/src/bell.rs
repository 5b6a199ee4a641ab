//! The bell: how to reach a thread that waits for sockets.
//!
//! It rings for two reasons: a client has work that its socket doesn't report, such as a line of chat from another
//! client; or the server ends. It is an eventfd(2), so whatever waits for sockets can wait for it, too.

use std::io;
use std::mem;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Wake, Waker};

use common::Token;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::retry_on_intr;

/// The bell of one waiting thread.
#[derive(Debug)]
pub struct Bell {
    event: OwnedFd,
    /// The clients it has rung for.
    tokens: Mutex<Vec<Token>>,
    has_ended: AtomicBool,
}

impl Bell {
    /// Rings for a client.
    pub fn ring(&self, token: Token) {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.push(token);
        if tokens.len() == 1 {
            self.sound();
        }
    }

    /// The clients it has rung for since the last answer. It stops ringing, unless the server has ended.
    pub fn answer(&self) -> Vec<Token> {
        if !self.has_ended() {
            // Fails only if it isn't ringing.
            let _count = rustix::io::read(&self.event, &mut [0; 8]);
        }
        mem::take(&mut *self.tokens.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether the server has ended.
    pub fn has_ended(&self) -> bool {
        self.has_ended.load(Relaxed)
    }

    /// Waits until the server has ended, for threads that wait for nothing else.
    ///
    /// # Errors
    /// Those of poll(2).
    pub fn wait_for_end(&self) -> io::Result<()> {
        while !self.has_ended() {
            retry_on_intr(|| poll(&mut [PollFd::new(&self.event, PollFlags::IN)], None))?;
        }
        Ok(())
    }

    /// A waker that rings for a client.
    pub fn waker(self: &Arc<Self>, token: Token) -> Waker {
        Waker::from(Arc::new(Ringer { bell: Arc::clone(self), token }))
    }

    fn sound(&self) {
        // Can't fail: the counter is never above two, one for clients and one for the end.
        let _written = rustix::io::write(&self.event, &1u64.to_ne_bytes());
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

struct Ringer {
    bell: Arc<Bell>,
    token: Token,
}

impl Wake for Ringer {
    fn wake(self: Arc<Self>) {
        self.bell.ring(self.token);
    }
}

/// The end of the server, which every bell tells of.
#[derive(Debug, Default)]
pub struct End {
    bells: Mutex<(bool, Vec<Arc<Bell>>)>,
}

impl End {
    /// A bell for a thread that waits.
    ///
    /// # Errors
    /// When the process is out of descriptors (`eventfd(2)`).
    pub fn bell(&self) -> io::Result<Arc<Bell>> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let bell = Bell { event, tokens: Mutex::default(), has_ended: AtomicBool::new(false) };
        let bell = Arc::new(bell);
        let mut bells = self.bells.lock().unwrap_or_else(PoisonError::into_inner);
        if bells.0 {
            bell.end();
        }
        bells.1.push(Arc::clone(&bell));
        Ok(bell)
    }

    /// Ends the server: every bell rings from now on.
    pub fn begin(&self) {
        let mut bells = self.bells.lock().unwrap_or_else(PoisonError::into_inner);
        bells.0 = true;
        bells.1.iter().for_each(|bell| bell.end());
    }
}

impl Bell {
    fn end(&self) {
        self.has_ended.store(true, Relaxed);
        self.sound();
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    const TOKEN: Token = Token { slot: 7, generation: 3 };

    fn rings(bell: &Bell) -> bool {
        let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut [PollFd::new(&bell, PollFlags::IN)], Some(&now)).expect("polled") == 1
    }

    #[test]
    fn it_rings_until_it_is_answered() {
        let end = End::default();
        let bell = end.bell().expect("a bell");
        assert!(!rings(&bell));
        bell.waker(TOKEN).wake();
        bell.ring(TOKEN);
        assert!(rings(&bell));
        assert_eq!(bell.answer(), [TOKEN; 2]);
        assert!(!rings(&bell) && bell.answer().is_empty());
        bell.ring(TOKEN);
        assert!(rings(&bell));
    }

    #[test]
    fn the_end_reaches_everybody_and_stays() {
        let end = End::default();
        let early = end.bell().expect("a bell");
        thread::scope(|scope| {
            scope.spawn(|| early.wait_for_end().expect("waited"));
            end.begin();
        });
        let late = end.bell().expect("a bell");
        for bell in [early, late] {
            assert!(bell.answer().is_empty());
            assert!(rings(&bell) && bell.has_ended());
        }
    }
}
