//! The load: clients of several kinds, each of which checks every response it gets.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::dice::Dice;
use super::judge::{Answer, Ask, Fault, Verdict, judge, judge_silence};
use super::ledger::{Size, Subject, Window};
use super::tally::Tally;
use crate::client::{Client, Heard, PATIENCE};
use crate::response::{Framing, Response, find_head};
use crate::row::request;

/// The behaviour of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// One request after the other on a persistent connection.
    KeepAlive,
    /// Several pipelined requests in one write.
    Pipelined,
    /// One connection per request.
    Churn,
    /// Large files and large ranges.
    Large,
    /// Large files through a small receive window, read slowly.
    Slow,
    /// Disconnects before the response has arrived.
    Aborting,
}

/// The clients of each server.
pub(super) const CROWD: [Manner; 9] = [
    Manner::KeepAlive,
    Manner::KeepAlive,
    Manner::KeepAlive,
    Manner::Pipelined,
    Manner::Churn,
    Manner::Large,
    Manner::Slow,
    Manner::Slow,
    Manner::Aborting,
];

impl Manner {
    /// The pause after each turn, in microseconds. Servers, clients and other processes share the CPUs.
    fn pause(self) -> (u64, u64) {
        match self {
            Manner::KeepAlive | Manner::Churn => (1_000, 10_000),
            Manner::Pipelined | Manner::Aborting => (5_000, 30_000),
            Manner::Large => (200_000, 900_000),
            Manner::Slow => (100_000, 1_000_000),
        }
    }
}

/// The receive buffer of a slow client, in bytes.
const NARROW_BYTES: usize = 16 << 10;
/// The pause of a slow client after each piece.
const SLOW_PAUSE: Duration = Duration::from_millis(6);
/// A connection is replaced after this many turns.
const TURNS_MAX: u32 = 300;
/// A file that never exists.
const MISSING: &str = "/a/never.bin";

/// A server under test, and the findings about it.
#[derive(Debug)]
pub(super) struct ServerUnderTest {
    pub(super) name: &'static str,
    pub(super) address: SocketAddr,
    tally: Mutex<Tally>,
}

impl ServerUnderTest {
    pub(super) fn new(name: &'static str, address: SocketAddr) -> ServerUnderTest {
        ServerUnderTest { name, address, tally: Mutex::default() }
    }

    pub(super) fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn complain(&self, fault: Fault, what: &str, why: &str) {
        self.tally().complain(fault, format!("{what}: {why}"));
    }
}

/// A request and the file it asks for; `None` if that file never exists.
struct Question<'a> {
    subject: Option<&'a Subject>,
    ask: Ask,
    /// Asks the server to close the connection afterwards.
    closes: bool,
}

impl Question<'_> {
    fn target(&self) -> &str {
        self.subject.map_or(MISSING, |subject| &subject.target)
    }

    fn bytes(&self) -> Vec<u8> {
        let mut fields = Vec::new();
        if let Some((first, last)) = self.ask.range {
            fields.push(format!("Range: bytes={first}-{last}"));
        }
        if let Some(tag) = &self.ask.if_none_match {
            fields.push(format!("If-None-Match: {tag}"));
        }
        if self.closes {
            fields.push("Connection: close".to_owned());
        }
        let fields: Vec<_> = fields.iter().map(String::as_str).collect();
        request(self.method(), self.target(), &fields).to_vec()
    }

    fn method(&self) -> &'static str {
        if self.ask.head { "HEAD" } else { "GET" }
    }

    fn words(&self) -> String {
        let Ask { range, if_none_match, .. } = &self.ask;
        let range = range.map_or_else(String::new, |(first, last)| format!(" bytes {first}-{last}"));
        let condition = if_none_match.as_ref().map_or_else(String::new, |tag| format!(" if not {tag}"));
        format!("{} {}{range}{condition}", self.method(), self.target())
    }
}

/// The result of a request.
enum Received {
    /// A response, complete or not.
    Answer(Answer),
    /// The connection ended before the head was complete.
    End,
    /// Neither bytes nor the end, or a malformed head.
    Broken(String),
    /// The client has stopped because the test is over.
    Abandoned,
}

/// A running client.
pub(super) struct Asker<'a> {
    tested: &'a ServerUnderTest,
    subjects: &'a [Subject],
    over: &'a AtomicBool,
    manner: Manner,
    dice: Dice,
    /// The last entity tag of each file.
    tags: Vec<Option<String>>,
    client: Option<Client>,
    turns: u32,
}

impl<'a> Asker<'a> {
    pub(super) fn new(
        tested: &'a ServerUnderTest,
        subjects: &'a [Subject],
        over: &'a AtomicBool,
        manner: Manner,
        dice: Dice,
    ) -> Asker<'a> {
        let tags = vec![None; subjects.len()];
        Asker { tested, subjects, over, manner, dice, tags, client: None, turns: 0 }
    }

    /// Sends requests until the test is over.
    pub(super) fn run(&mut self) {
        while !self.over.load(Relaxed) {
            if let Err(error) = self.turn() {
                self.tested.complain(Fault::Broken, &format!("{:?}", self.manner), &error.to_string());
                self.client = None;
            }
            let (least, end) = self.manner.pause();
            thread::sleep(Duration::from_micros(self.dice.between(least, end)));
        }
    }

    /// Requests every file often enough for each worker to cache it, so that the levels at rest are comparable.
    pub(super) fn ask_for_all(&mut self, rounds: u32) -> io::Result<()> {
        let subjects = self.subjects;
        for _ in 0..rounds {
            for subject in subjects {
                let range = (subject.size != Size::Small).then_some((0, 99));
                let ask = Ask { range, ..Ask::default() };
                self.exchange(&[Question { subject: Some(subject), ask, closes: false }])?;
            }
        }
        Ok(())
    }

    fn turn(&mut self) -> io::Result<()> {
        let count = if self.manner == Manner::Pipelined { self.dice.between(2, 13) } else { 1 };
        let questions: Vec<_> = (0..count).map(|_| self.question()).collect();
        if self.manner == Manner::Aborting { self.abort(&questions) } else { self.exchange(&questions) }
    }

    fn question(&mut self) -> Question<'a> {
        let chance = self.dice.between(0, 100);
        let size = match (self.manner, chance) {
            (Manner::Large | Manner::Slow, _) | (_, 98..) => Size::Large,
            (_, 70..98) => Size::Medium,
            _ => Size::Small,
        };
        let of_size: Vec<_> = self.subjects.iter().filter(|subject| subject.size == size).collect();
        let subject: &'a Subject = self.dice.pick::<&Subject>(&of_size);
        let closes = self.manner == Manner::Churn && self.dice.percent(50);
        let mut ask = Ask::default();
        match self.dice.between(0, 100) {
            0..7 => return Question { subject: None, ask, closes },
            7..15 => ask.head = true,
            15..35 => ask.if_none_match.clone_from(&self.tags[subject.id as usize]),
            35..55 => ask.range = Some(self.range(size)),
            _ => {}
        }
        let is_whole = !ask.head && ask.range.is_none();
        let is_costly = match size {
            Size::Small => false,
            Size::Medium => !self.dice.percent(25),
            Size::Large => !matches!(self.manner, Manner::Large | Manner::Slow),
        };
        if is_whole && is_costly {
            ask.range = Some(self.range(size));
            ask.if_none_match = None;
        }
        Question { subject: Some(subject), ask, closes }
    }

    fn range(&mut self, size: Size) -> (u64, u64) {
        let (positions, lengths) = match size {
            Size::Small => (30 << 10, 20 << 10),
            Size::Medium => (600 << 10, 64 << 10),
            Size::Large if self.manner == Manner::Large => (10 << 20, 4 << 20),
            Size::Large => (10 << 20, 64 << 10),
        };
        let first = self.dice.between(0, positions);
        (first, first + self.dice.between(0, lengths))
    }

    fn connect(&mut self) -> io::Result<Client> {
        if self.turns >= TURNS_MAX || self.manner == Manner::Churn {
            self.client = None;
        }
        self.turns += 1;
        if let Some(client) = self.client.take() {
            return Ok(client);
        }
        self.turns = 1;
        match self.manner {
            Manner::Slow => Client::connect_narrow(self.tested.address, NARROW_BYTES),
            _ => Client::connect(self.tested.address),
        }
    }

    /// Sends the requests in one write and checks the responses.
    fn exchange(&mut self, questions: &[Question<'a>]) -> io::Result<()> {
        let mut client = self.connect()?;
        let bytes: Vec<u8> = questions.iter().flat_map(Question::bytes).collect();
        let sent = Instant::now();
        client.send(&bytes)?;
        for question in questions {
            let received = self.receive(&mut client, question.ask.head)?;
            let window = Window { sent, received: Instant::now() };
            if !self.take(question, window, received) {
                return Ok(());
            }
        }
        self.client = Some(client);
        Ok(())
    }

    /// Checks the result of a request; returns whether the connection can be used further.
    fn take(&mut self, question: &Question<'_>, window: Window, received: Received) -> bool {
        let mut goes_on = false;
        let verdict = match (received, question.subject) {
            (Received::Abandoned, _) => return false,
            (Received::Broken(why), _) => Err((Fault::Broken, why)),
            (Received::End, subject) => judge_silence(subject, window),
            (Received::Answer(answer), subject) => {
                let is_whole = question.ask.head || answer.content.len() == answer.head.content_bytes;
                goes_on = is_whole && !answer.head.closes();
                let verdict = match subject {
                    Some(subject) => judge(subject, &question.ask, window, &answer),
                    None => judge_never(&answer, is_whole),
                };
                if let (Some(subject), Some(tag)) = (subject, answer.head.field("ETag")) {
                    self.tags[subject.id as usize] = Some(tag.to_owned());
                }
                self.tested.tally().count(answer.head.status, answer.content.len());
                verdict
            }
        };
        match verdict {
            Ok(observation) => self.tested.tally().observe(observation),
            Err((fault, why)) => {
                let manner = format!("{:?}", self.manner);
                self.tested.complain(fault, &format!("{manner}, {}", question.words()), &why);
            }
        }
        goes_on
    }

    fn receive(&self, client: &mut Client, head_only: bool) -> io::Result<Received> {
        let head = loop {
            if let Some(length) = find_head(client.received()) {
                break client.take(length);
            }
            match self.hear(client)? {
                Some(Heard::Bytes(_)) => {}
                Some(Heard::End | Heard::Reset) => return Ok(Received::End),
                Some(Heard::Silence) => return Ok(Received::Broken(format!("no head in {PATIENCE:?}"))),
                None => return Ok(Received::Abandoned),
            }
        };
        let framing = if head_only { Framing::HeadOnly } else { Framing::Content };
        let head = match Response::parse(head, framing) {
            Ok(head) => head,
            Err(failed) => return Ok(Received::Broken(failed.message().unwrap_or_default().to_owned())),
        };
        while client.received().len() < head.content_bytes {
            match self.hear(client)? {
                Some(Heard::Bytes(_)) => {}
                Some(Heard::End | Heard::Reset) => break,
                Some(Heard::Silence) => {
                    return Ok(Received::Broken(format!("no content in {PATIENCE:?}")));
                }
                None => return Ok(Received::Abandoned),
            }
        }
        let content = client.take(head.content_bytes.min(client.received().len()));
        Ok(Received::Answer(Answer { head, content }))
    }

    /// Waits for bytes, with a pause if the client is slow; `None` if the client has stopped.
    fn hear(&self, client: &mut Client) -> io::Result<Option<Heard>> {
        if self.manner == Manner::Slow {
            if self.over.load(Relaxed) {
                return Ok(None);
            }
            thread::sleep(SLOW_PAUSE);
        }
        client.hear(Instant::now() + PATIENCE).map(Some)
    }

    /// Sends requests and disconnects at a random point, by a close or a reset.
    fn abort(&mut self, questions: &[Question<'a>]) -> io::Result<()> {
        let mut client = self.connect()?;
        let mut bytes: Vec<u8> = questions.iter().flat_map(Question::bytes).collect();
        if self.dice.percent(20) {
            bytes.truncate(bytes.len() / 2);
        }
        client.send(&bytes)?;
        if self.dice.percent(60) {
            client.hear(Instant::now() + Duration::from_millis(self.dice.between(1, 20)))?;
        }
        self.tested.tally().aborted += 1;
        if self.dice.percent(50) { client.reset() } else { Ok(()) }
    }
}

/// Checks the response for the file that never exists.
fn judge_never(answer: &Answer, is_whole: bool) -> Verdict {
    match answer.head.status {
        404 if is_whole => Ok(super::judge::Observation::default()),
        404 => Err((Fault::Broken, "the connection ended in the middle of an error".to_owned())),
        other => Err((Fault::WrongHead, format!("{other} for a file that never existed"))),
    }
}
