//! Rows: what the page shows of a recording, in order.

use std::collections::{BTreeMap, HashMap};

use libtest_mimic::Failed;
use rustix::io::Errno;

use super::machine::{Machine, Report};
use super::tracer::{Did, Event, Thread};
use crate::backend::Backend;

/// How a row is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// What the machine wants next.
    Step,
    /// A call that comes back at once.
    Call,
    /// A call in which the thread sleeps, and nothing else happens meanwhile.
    Slept,
    /// A call in which the thread goes to sleep.
    Sleeps,
    /// It comes back from there.
    Wakes,
    /// Something is put into the ring.
    Submits,
    /// Something comes out of it.
    Completes,
    /// What the client does.
    Client,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Step => "step",
            Kind::Call => "call",
            Kind::Slept => "slept",
            Kind::Sleeps => "sleeps",
            Kind::Wakes => "wakes",
            Kind::Submits => "submits",
            Kind::Completes => "completes",
            Kind::Client => "client",
        }
    }
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// Accept, receive, open, send, finish.
    pub(super) stage: usize,
    /// Whose doing it is.
    pub(super) who: &'static str,
    pub(super) kind: Kind,
    pub(super) name: String,
    pub(super) note: String,
    /// Whose request it serves, if that is one.
    pub(super) client: Option<usize>,
}

impl Row {
    fn new(who: &'static str, kind: Kind, name: &str, note: String, client: Option<usize>) -> Row {
        Row { stage: 0, who, kind, name: name.to_owned(), note, client }
    }

    pub(super) fn step(client: usize, name: &str, note: String) -> Row {
        Row::new("machine", Kind::Step, name, note, Some(client))
    }
}

/// Makes rows of what happened.
pub(super) fn rows(
    backend: Backend,
    events: &[Event],
    machine: &mut Machine,
    clients: usize,
) -> Result<Vec<Row>, Failed> {
    let events = from_the_first_client(without_timeouts(events));
    let mut writer =
        Writer { backend, machine, clients, stage: 0, sockets: HashMap::new(), rows: Vec::new() };
    let ends = ends(&events);
    for (index, event) in events.iter().enumerate() {
        writer.event(event, &ends, index).map_err(|failed| {
            let before: Vec<String> = writer.rows.iter().map(|row| format!("{row:?}")).collect();
            format!("{} at {event:?} after\n{}", failed.message().unwrap_or_default(), before.join("\n"))
        })?;
    }
    writer.examined()?;
    Ok(writer.rows)
}

/// A loop that wakes because a deadline is near, finds nothing and goes back to sleep has slept on.
fn without_timeouts(events: &[Event]) -> Vec<Event> {
    let mut kept = Vec::with_capacity(events.len());
    let mut skipped: Vec<Thread> = Vec::new();
    for (index, event) in events.iter().enumerate() {
        match event {
            Event::Ended { thread, call, result, .. } if is_wait(call.name) => {
                let nothing = *result == 0 || *result == -i64::from(Errno::TIME.raw_os_error());
                let brings = matches!(events.get(index + 1), Some(Event::Completed(_)));
                if nothing && !brings {
                    skipped.push(*thread);
                    continue;
                }
            }
            Event::Begun { thread, call } if is_wait(call.name) => {
                if let Some(at) = skipped.iter().position(|skipped| skipped == thread) {
                    skipped.remove(at);
                    continue;
                }
            }
            _ => {}
        }
        kept.push(event.clone());
    }
    kept
}

/// Of what was before the first client, only the calls count in which threads wait for one.
fn from_the_first_client(events: Vec<Event>) -> Vec<Event> {
    let first = events.iter().position(|event| matches!(event, Event::Client { .. })).unwrap_or(0);
    let ends = ends(&events);
    let goes_on = |index: usize| {
        matches!(events[index], Event::Begun { .. }) && ends.get(&index).is_none_or(|(end, _)| *end > first)
    };
    let kept: Vec<bool> = (0..events.len()).map(|index| index >= first || goes_on(index)).collect();
    events.into_iter().zip(kept).filter_map(|(event, is_kept)| is_kept.then_some(event)).collect()
}

/// The calls in which a loop or an accepting thread waits for whatever comes.
fn is_wait(name: Option<&str>) -> bool {
    let waits = ["epoll_wait", "epoll_pwait", "epoll_pwait2", "poll", "ppoll", "io_uring_enter"];
    name.is_some_and(|name| waits.contains(&name))
}

/// Where each call ends that begins, and whether its thread has slept in it.
fn ends(events: &[Event]) -> BTreeMap<usize, (usize, bool)> {
    let mut begun: HashMap<Thread, usize> = HashMap::new();
    let mut ends = BTreeMap::new();
    for (index, event) in events.iter().enumerate() {
        match event {
            Event::Begun { thread, .. } => {
                begun.insert(*thread, index);
            }
            Event::Ended { thread, slept, .. } => {
                if let Some(begin) = begun.remove(thread) {
                    ends.insert(begin, (index, *slept));
                }
            }
            _ => {}
        }
    }
    ends
}

struct Writer<'a> {
    backend: Backend,
    machine: &'a mut Machine,
    clients: usize,
    stage: usize,
    /// Whose socket it is.
    sockets: HashMap<String, usize>,
    rows: Vec<Row>,
}

impl Writer<'_> {
    fn event(
        &mut self,
        event: &Event,
        ends: &BTreeMap<usize, (usize, bool)>,
        index: usize,
    ) -> Result<(), Failed> {
        match event {
            Event::Client { client, did } => {
                self.on_client(*did);
                let name = match did {
                    Did::Connect => "connects",
                    Did::Ask => "sends a request",
                    Did::Read => "reads the answer",
                    Did::Close => "closes",
                };
                self.push(Row::new("client", Kind::Client, name, String::new(), Some(*client)));
            }
            Event::Begun { thread, call } => {
                let Some(name) = call.name else { return Ok(()) };
                self.before(name)?;
                // What sleeps while others act gets two rows; one that never ends goes on sleeping.
                let sleeps = ends.get(&index).is_none_or(|(end, slept)| *slept && *end > index + 1);
                let client = self.client_of(&call.about);
                if sleeps && self.is_shown(name, client) {
                    self.push(Row::new(self.who(*thread), Kind::Sleeps, name, String::new(), client));
                }
            }
            Event::Ended { thread, call, result, slept } => {
                let Some(name) = call.name else { return Ok(()) };
                if name == "accept4" && *result >= 0 {
                    self.admit(call.about.last());
                }
                let client = self.client_of(&call.about);
                if self.is_shown(name, client) {
                    let since = ends.iter().find(|(_, (end, _))| *end == index).map(|(begin, _)| *begin);
                    let kind = match (slept, since) {
                        (true, Some(begin)) if index > begin + 1 => Kind::Wakes,
                        (true, _) => Kind::Slept,
                        (false, _) => Kind::Call,
                    };
                    let note = note_of(name, *result, call.only_memory, &call.about);
                    self.push(Row::new(self.who(*thread), kind, name, note, client));
                }
                self.report(name, *result, client)?;
            }
            Event::Submitted(submission) => {
                self.before(&submission.name)?;
                let client = self.client_of(std::slice::from_ref(&submission.about));
                if client.is_some() || submission.name == "ACCEPT" {
                    let note = match (submission.linked, submission.multishot) {
                        (true, _) => "linked to the next",
                        (_, true) => "multishot",
                        _ => "",
                    };
                    self.push(Row::new("loop", Kind::Submits, &submission.name, note.to_owned(), client));
                }
            }
            Event::Completed(completion) => {
                self.before(&completion.name)?;
                if completion.name == "ACCEPT" && completion.result >= 0 {
                    self.admit(Some(&completion.about));
                }
                let client = self.client_of(std::slice::from_ref(&completion.about));
                if client.is_some() {
                    let mut note = note_of(&completion.name, completion.result, false, &[]);
                    if completion.more {
                        note.push_str(if note.is_empty() { "armed for more" } else { ", armed for more" });
                    }
                    self.push(Row::new("ring", Kind::Completes, &completion.name, note, client));
                }
                self.report(&completion.name, completion.result, client)?;
            }
        }
        Ok(())
    }

    fn on_client(&mut self, did: Did) {
        match did {
            Did::Close => self.stage = 4,
            Did::Ask if self.clients > 1 => self.stage = 1,
            _ => {}
        }
    }

    fn push(&mut self, row: Row) {
        self.rows.push(Row { stage: self.stage, ..row });
    }

    /// A connection has a machine from here on.
    fn admit(&mut self, socket: Option<&String>) {
        let client = self.sockets.len();
        if let Some(socket) = socket {
            self.sockets.insert(socket.clone(), client);
        }
    }

    /// Whose socket or file it is. Each client asks for a file of its own: `1.bin`, `2.bin`.
    fn client_of(&self, about: &[String]) -> Option<usize> {
        about.iter().find_map(|about| {
            let file =
                || about.rsplit('/').next()?.strip_suffix(".bin")?.parse::<usize>().ok()?.checked_sub(1);
            self.sockets.get(about).copied().or_else(file)
        })
    }

    fn is_shown(&self, name: &str, client: Option<usize>) -> bool {
        client.is_some() || is_wait(Some(name)) || matches!(name, "accept4" | "clone3" | "clone" | "write")
    }

    fn who(&self, thread: Thread) -> &'static str {
        match (self.backend, thread) {
            (Backend::Blocking, Thread::Worker) => "acceptor",
            (Backend::Blocking, Thread::Other(_)) => "thread",
            (_, Thread::Worker) => "loop",
            (_, Thread::Other(_)) => "pool",
        }
    }

    /// An open is followed by what examines the file; then the machine hears of it.
    fn before(&mut self, name: &str) -> Result<(), Failed> {
        if matches!(name, "fstat" | "fstatfs" | "statx" | "fcntl" | "newfstatat") {
            Ok(())
        } else {
            self.examined()
        }
    }

    fn examined(&mut self) -> Result<(), Failed> {
        for client in self.machine.examined() {
            self.step(client);
        }
        Ok(())
    }

    fn report(&mut self, name: &str, result: i64, client: Option<usize>) -> Result<(), Failed> {
        if (name == "accept4" || name == "ACCEPT") && result >= 0 {
            self.step(self.sockets.len() - 1);
        }
        let Some(client) = client else { return Ok(()) };
        let count = usize::try_from(result).ok();
        let report = match (name, count) {
            ("recv" | "RECV", Some(count)) => Report::Received(count),
            ("openat2" | "OPENAT2", Some(_)) => Report::Opened,
            ("send" | "sendmsg" | "sendfile" | "SEND" | "SENDMSG", Some(count)) if count > 0 => {
                Report::Sent(count)
            }
            ("shutdown", Some(_)) => Report::HalfClosed,
            _ => return Ok(()),
        };
        self.machine.report(client, report)?;
        self.step(client);
        Ok(())
    }

    fn step(&mut self, client: usize) {
        let Some(row) = self.machine.step(client) else { return };
        if self.clients == 1 {
            self.stage = match row.name.as_str() {
                "Open" | "Read" => 2,
                "Send" => 3,
                "Receive" if self.stage == 0 => 1,
                _ => 4,
            };
        }
        self.push(row);
    }
}

/// What a call has returned, in words.
fn note_of(name: &str, result: i64, only_memory: bool, about: &[String]) -> String {
    if let Some(errno) = u16::try_from(-result).ok().filter(|number| *number > 0) {
        let errno = Errno::from_raw_os_error(i32::from(errno));
        let known = [(Errno::AGAIN, "EAGAIN"), (Errno::INTR, "EINTR"), (Errno::CANCELED, "ECANCELED")];
        let known = known.iter().find(|(known, _)| *known == errno).map(|(_, name)| (*name).to_owned());
        return known.unwrap_or_else(|| errno.to_string());
    }
    let count = |what: &str| match result {
        1 => format!("1 {what}"),
        many => format!("{} {what}s", grouped(many.unsigned_abs())),
    };
    match name {
        "recv" | "RECV" if result == 0 => "the end".to_owned(),
        "recv" | "RECV" | "send" | "sendmsg" | "sendfile" | "SEND" | "SENDMSG" | "pread64" => count("byte"),
        "preadv2" if only_memory => format!("{}, from memory only", count("byte")),
        "preadv2" | "READ" => count("byte"),
        "openat2" if only_memory => "from memory only".to_owned(),
        "epoll_wait" | "epoll_pwait" | "epoll_pwait2" | "poll" | "ppoll" => count("event"),
        "io_uring_enter" if result > 0 => format!("{result} submitted"),
        "accept4" | "ACCEPT" => "a client".to_owned(),
        "write" => "wakes the loop".to_owned(),
        "close" if about.iter().any(|about| about.starts_with("socket:")) => "the socket".to_owned(),
        "close" => "the file".to_owned(),
        "clone" | "clone3" => "a thread for it".to_owned(),
        "setsockopt" => "a time limit".to_owned(),
        "fcntl" => "a descriptor for the pool".to_owned(),
        "shutdown" => "both sides".to_owned(),
        "fadvise64" => "will be needed".to_owned(),
        _ => String::new(),
    }
}

/// With commas between thousands.
pub(super) fn grouped(number: u64) -> String {
    match number {
        0..1_000 => number.to_string(),
        _ => format!("{},{:03}", grouped(number / 1_000), number % 1_000),
    }
}
