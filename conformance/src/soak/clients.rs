//! The load: clients of every manner, each of which judges every answer that it gets.

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

/// How a client behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// One request after the other on a connection that is kept.
    KeepAlive,
    /// Several requests in one piece.
    Pipelined,
    /// A connection for every request.
    Churn,
    /// Large files, and large parts of them.
    Large,
    /// Large files through a narrow window, read piece by piece.
    Slow,
    /// Leaves before its answer has come.
    Aborting,
}

/// Who asks one server all the time.
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
    /// The pause after each turn, in microseconds: servers, judges and whoever else uses the machine share
    /// its processors.
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
/// What a slow client waits after each piece.
const SLOW_PAUSE: Duration = Duration::from_millis(6);
/// After so many turns a connection is left for another.
const TURNS_MAX: u32 = 300;
/// What isn't there.
const MISSING: &str = "/a/never.bin";

/// A server, and what has been found out about it.
#[derive(Debug)]
pub(super) struct Accused {
    pub(super) name: &'static str,
    pub(super) address: SocketAddr,
    tally: Mutex<Tally>,
}

impl Accused {
    pub(super) fn new(name: &'static str, address: SocketAddr) -> Accused {
        Accused { name, address, tally: Mutex::default() }
    }

    pub(super) fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn complain(&self, fault: Fault, what: &str, why: &str) {
        self.tally().complain(fault, format!("{what}: {why}"));
    }
}

/// A request, and whom it is about; nobody: what never was there.
struct Question<'a> {
    subject: Option<&'a Subject>,
    ask: Ask,
    /// That the server shall close afterwards.
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

/// What comes after a request.
enum Received {
    /// An answer, whole or not.
    Answer(Answer),
    /// The connection ended before a head was complete.
    End,
    /// Neither bytes nor an end, or a head that isn't one.
    Broken(String),
    /// The client has given up, because all is over.
    Abandoned,
}

/// A client at work.
pub(super) struct Asker<'a> {
    accused: &'a Accused,
    subjects: &'a [Subject],
    over: &'a AtomicBool,
    manner: Manner,
    dice: Dice,
    /// The entity tag that each file had last.
    tags: Vec<Option<String>>,
    client: Option<Client>,
    turns: u32,
}

impl<'a> Asker<'a> {
    pub(super) fn new(
        accused: &'a Accused,
        subjects: &'a [Subject],
        over: &'a AtomicBool,
        manner: Manner,
        dice: Dice,
    ) -> Asker<'a> {
        let tags = vec![None; subjects.len()];
        Asker { accused, subjects, over, manner, dice, tags, client: None, turns: 0 }
    }

    /// Asks until it is over.
    pub(super) fn run(&mut self) {
        while !self.over.load(Relaxed) {
            if let Err(error) = self.turn() {
                self.accused.complain(Fault::Broken, &format!("{:?}", self.manner), &error.to_string());
                self.client = None;
            }
            let (least, end) = self.manner.pause();
            thread::sleep(Duration::from_micros(self.dice.between(least, end)));
        }
    }

    /// Asks for every file so often that each worker has it in its cache: so that two times of rest compare.
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
            Manner::Slow => Client::connect_narrow(self.accused.address, NARROW_BYTES),
            _ => Client::connect(self.accused.address),
        }
    }

    /// Sends the questions in one piece, and judges what comes.
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

    /// Judges what came for the question, and says whether the connection goes on.
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
                self.accused.tally().count(answer.head.status, answer.content.len());
                verdict
            }
        };
        match verdict {
            Ok(observation) => self.accused.tally().observe(observation),
            Err((fault, why)) => {
                let manner = format!("{:?}", self.manner);
                self.accused.complain(fault, &format!("{manner}, {}", question.words()), &why);
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

    /// Waits for bytes, a slow client after a pause; nothing: it has given up.
    fn hear(&self, client: &mut Client) -> io::Result<Option<Heard>> {
        if self.manner == Manner::Slow {
            if self.over.load(Relaxed) {
                return Ok(None);
            }
            thread::sleep(SLOW_PAUSE);
        }
        client.hear(Instant::now() + PATIENCE).map(Some)
    }

    /// Asks and leaves, with or without an end, at whatever point.
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
        self.accused.tally().aborted += 1;
        if self.dice.percent(50) { client.reset() } else { Ok(()) }
    }
}

/// Judges the answer about what never was there.
fn judge_never(answer: &Answer, is_whole: bool) -> Verdict {
    match answer.head.status {
        404 if is_whole => Ok(super::judge::Observation::default()),
        404 => Err((Fault::Broken, "the connection ended in the middle of an error".to_owned())),
        other => Err((Fault::WrongHead, format!("{other} for what never was there"))),
    }
}
