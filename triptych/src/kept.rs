//! The serving process: what it needs from outside its root comes from the keeper, and so does every order.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use common::service::cli::{Around, Flags, Io, Outside, Program};
use common::{Bound, Service, StartError};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};

use crate::channel::{Channel, Counts, Message, Sender};
use crate::sandbox::{Mode, Sandbox};

/// So long may a server take to close its listeners.
pub(crate) const CLOSE_MAX: Duration = Duration::from_secs(1);

/// A process with a keeper.
pub(crate) struct Kept {
    program: Program<'static>,
    /// From when it is opened until it is followed.
    channel: Option<Channel>,
    sender: Option<Arc<Sender>>,
    /// Tells when connections are to be accepted, or that this will never be said.
    may_accept: Option<Receiver<()>>,
    outside: Option<Outside>,
    /// What the keeper has done so far.
    counts: Counts,
    sandbox: Sandbox,
    inside: fn(),
}

impl Kept {
    /// A process that was started with a keeper's channel as its standard input.
    pub(crate) fn new(program: Program<'static>, mode: Mode, inside: fn()) -> io::Result<Kept> {
        // Who asks for the end asks the keeper. Some ask all processes at once: that would be a second time.
        for signal in [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2] {
            signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)))?;
        }
        Ok(Kept {
            program,
            channel: None,
            sender: None,
            may_accept: None,
            outside: None,
            counts: Counts::default(),
            sandbox: Sandbox::new(mode),
            inside,
        })
    }
}

fn lost(error: &io::Error) -> StartError {
    StartError::new(format!("the keeper is gone: {error}"))
}

impl Around for Kept {
    fn addresses(&mut self, _flags: &Flags) -> Result<u64, StartError> {
        let mut outside = Outside { bound: Vec::new(), log: None, admin: None };
        let end = || lost(&io::ErrorKind::UnexpectedEof.into());
        let channel = self.channel.insert(Channel::over(io::stdin().as_fd().try_clone_to_owned()?));
        self.sender = Some(Arc::new(channel.sender()?));
        loop {
            match channel.receive().map_err(|error| lost(&error))?.ok_or_else(end)? {
                (Message::Listen(address), sockets) => {
                    let endpoint = address.parse().map_err(StartError::new)?;
                    match outside.bound.iter_mut().find(|bound| bound.endpoint == endpoint) {
                        Some(bound) => bound.sockets.extend(sockets),
                        None => outside.bound.push(Bound { endpoint, sockets }),
                    }
                }
                (Message::Admin(address), mut socket) => {
                    outside.admin = address.parse().ok().zip(socket.pop());
                }
                (Message::Log, mut file) => outside.log = file.pop().map(Into::into),
                (Message::Counts(counts), _) => self.counts = counts,
                (Message::Unknown, _) => {}
                (Message::Serve, _) => break,
                // It wants to end before this has begun.
                (_, _) => return Err(lost(&io::ErrorKind::Interrupted.into())),
            }
        }
        let addresses = outside.bound.len() as u64;
        self.outside = Some(outside);
        Ok(addresses)
    }

    fn outside(&mut self, _flags: &Flags) -> Result<Outside, StartError> {
        self.outside.take().ok_or_else(|| lost(&io::ErrorKind::NotFound.into()))
    }

    fn confine(&mut self, root: BorrowedFd<'_>) -> Result<(), StartError> {
        self.sandbox.confine(root)
    }

    fn follow(&mut self, service: &Arc<Service>) -> io::Result<()> {
        let Some(channel) = self.channel.take() else { return Ok(()) };
        service.set_keeper(std::mem::take(&mut self.counts).into());
        let (program, service) = (self.program, Arc::clone(service));
        let (accept, may_accept) = mpsc::channel();
        self.may_accept = Some(may_accept);
        let sender = self.sender.clone();
        let orders = move || obey(program, channel, sender.as_deref(), accept, &service);
        thread::Builder::new().name("keeper".to_owned()).spawn(orders)?;
        Ok(())
    }

    fn on_moved(&self) -> Option<Box<dyn Fn() + Send>> {
        let sender = Arc::clone(self.sender.as_ref()?);
        Some(Box::new(move || {
            // Without a keeper this process is about to end.
            let _gone = sender.send(&Message::Moved);
        }))
    }

    fn ready(&mut self, io: Io) -> Result<String, StartError> {
        self.sandbox.seal(io)
    }

    fn serving(&mut self) {
        let _gone = self.sender.as_ref().map(|sender| sender.send(&Message::Ready));
        // The server before this one closes its listeners first, so whoever has seen this one never sees that one again.
        // Meanwhile connections wait in the sockets' queues.
        let _accept_or_end = self.may_accept.take().map(|may_accept| may_accept.recv());
        (self.inside)();
    }
}

/// Does what the keeper says, until it is gone: nobody could start another server then, so this one drains.
fn obey(
    program: Program<'static>,
    mut channel: Channel,
    sender: Option<&Sender>,
    accept: mpsc::Sender<()>,
    service: &Arc<Service>,
) {
    let mut accept = Some(accept);
    while let Ok(Some((message, mut descriptors))) = channel.receive() {
        match message {
            Message::Accept => drop(accept.take()),
            Message::End(signal) => {
                drop(accept.take());
                program.end(service, signal);
            }
            Message::HandOver => {
                service.shutdown.hand_over();
                service.wait_until_closed(CLOSE_MAX);
                let _gone = sender.map(|sender| sender.send(&Message::Closed));
            }
            Message::Counts(counts) => service.set_keeper(counts.into()),
            Message::Reload => {
                if let (Some(log), Some(file)) = (&service.log, descriptors.pop()) {
                    log.reopen_with(file.into());
                }
            }
            _ => {}
        }
    }
    service.drain();
}
