//! The machine, fed with what was recorded: after each report it is asked for its next step.
//!
//! It is the machine that the servers use (`common::Connection`), with the same site and settings, and it is told what
//! the calls of the server returned. It must want what the server did next; if not, the recording is no good.

use std::path::Path;
use std::sync::Arc;

use common::{Close, Config, Connection, Service, Site, SiteOptions, Step, Worker};
use libtest_mimic::Failed;

use super::REQUESTS_TO_BE_CACHED;
use super::recording::{Row, grouped};

/// What was reported to a connection.
#[derive(Clone, Copy, Debug)]
pub(super) enum Report {
    Received(usize),
    Opened,
    Sent(usize),
    HalfClosed,
}

/// One connection, and what it has been sent.
struct Client {
    connection: Connection,
    request: Vec<u8>,
    /// The name of its step, and how often that has changed.
    step: &'static str,
    /// It has opened its file, and is to be told when that was examined.
    opening: bool,
}

/// The connections of a recording.
pub(super) struct Machine {
    worker: Worker,
    clients: Vec<Client>,
}

impl Machine {
    /// For clients that send these requests. If `is_cached`, they have been answered before.
    pub(super) fn new(root: &Path, requests: &[Vec<u8>], is_cached: bool) -> Result<Machine, Failed> {
        let site = Site::open_root(root, SiteOptions::default())?;
        let service = Arc::new(Service::new(site, Config::default())?);
        let mut machine = Machine { worker: Worker::new(service, 0), clients: Vec::new() };
        for request in requests {
            for _ in 0..if is_cached { REQUESTS_TO_BE_CACHED } else { 0 } {
                machine.answer(request);
            }
        }
        for request in requests {
            let connection = Connection::new(&machine.worker, None);
            let request = request.clone();
            machine.clients.push(Client { connection, request, step: "", opening: false });
        }
        Ok(machine)
    }

    /// Answers a request by itself.
    fn answer(&mut self, request: &[u8]) {
        self.worker.tick();
        let mut connection = Connection::new(&self.worker, None);
        connection.received(&mut self.worker, request);
        loop {
            match connection.step() {
                Step::Open(request) => {
                    let result = request.open();
                    connection.opened(&mut self.worker, result);
                }
                Step::Read(range) => {
                    let result = range.read();
                    connection.read(&mut self.worker, result);
                }
                Step::Send(chunks) => {
                    let all = usize::try_from(chunks.length()).unwrap_or(usize::MAX);
                    connection.sent(&mut self.worker, all);
                }
                Step::Receive | Step::Close(_) => return,
            }
        }
    }

    /// The step of a client's connection, if it has changed since it was last asked for.
    pub(super) fn step(&mut self, client: usize) -> Option<Row> {
        let found = self.clients.get_mut(client)?;
        let (step, note) = describe(&found.connection.step());
        if found.step == step {
            return None;
        }
        found.step = step;
        Some(Row::step(client, step, note))
    }

    /// Tells a client's connection what was done for it. An open is only complete when the file was examined.
    pub(super) fn report(&mut self, client: usize, report: Report) -> Result<(), Failed> {
        self.worker.tick();
        let Some(client) = self.clients.get_mut(client) else { return Err("a client too many".into()) };
        let unwanted =
            format!("the machine wants {:?}, the server reports {report:?}", client.connection.step());
        let (connection, worker) = (&mut client.connection, &mut self.worker);
        match (report, connection.step()) {
            (Report::Received(count), Step::Receive) => {
                let bytes: Vec<u8> = client.request.drain(..count.min(client.request.len())).collect();
                connection.received(worker, &bytes);
            }
            (Report::Opened, Step::Open(_)) => client.opening = true,
            (Report::Sent(count), Step::Send(chunks)) if count as u64 <= chunks.length() => {
                connection.sent(worker, count);
            }
            (Report::HalfClosed, Step::Close(Close::Graceful)) => connection.half_closed(worker),
            // Both sides end with the connection.
            (Report::HalfClosed, Step::Close(Close::Drop | Close::Reset)) => {}
            _ => return Err(unwanted.into()),
        }
        Ok(())
    }

    /// The clients whose files are open and examined now.
    pub(super) fn examined(&mut self) -> Vec<usize> {
        let mut examined = Vec::new();
        for (index, client) in self.clients.iter_mut().enumerate().filter(|(_, client)| client.opening) {
            client.opening = false;
            if let Step::Open(request) = client.connection.step() {
                let result = request.open();
                client.connection.opened(&mut self.worker, result);
                examined.push(index);
            }
        }
        examined
    }
}

fn describe(step: &Step<'_>) -> (&'static str, String) {
    match step {
        Step::Receive => ("Receive", String::new()),
        Step::Open(_) => ("Open", String::new()),
        Step::Read(_) => ("Read", String::new()),
        Step::Send(chunks) => {
            let (pieces, file) = chunks.front();
            let memory: usize = pieces.iter().map(|piece| piece.bytes().len()).sum();
            let note = match file {
                Some(range) => format!("{memory} bytes, {} of the file", grouped(range.length)),
                None => format!("{} bytes, all in memory", grouped(memory as u64)),
            };
            ("Send", note)
        }
        Step::Close(Close::Graceful) => ("Close", "its half".to_owned()),
        Step::Close(Close::Drop) => ("Close", String::new()),
        Step::Close(Close::Reset) => ("Close", "with a reset".to_owned()),
    }
}
