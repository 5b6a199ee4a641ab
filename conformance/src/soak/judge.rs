//! Decides whether a response is correct, given the history of its file.
//!
//! A response shows one **state** of a file, identified by its entity tag. That state must have existed at some moment
//! between [`STALE_MAX`] before the request was sent and the end of the response. The same holds for responses saying
//! that the file doesn't exist or isn't readable.
//!
//! If files are **replaced**, the bytes must be those of the state's version: the old inode keeps its content for
//! everyone who has it open.
//!
//! If a file is **overwritten in place**, there is no such moment. write(2) copies page by page while others read (ext4
//! and most file systems take no lock for reading), and pages queued by `sendfile(2)` are sent with the content they
//! have at that time. So a reader can get any mixture of the two contents while its response and the write overlap. No
//! server can prevent that, and this one doesn't try. The guarantee starts at the end of the write: a response to a
//! request sent more than [`STALE_MAX`] later contains none of the old bytes, whatever was read and cached during the
//! write. [`judge`] checks that every byte belongs to a version that the inode had during the response.
//!
//! If a file is **truncated** meanwhile, the response may end early, and the connection with it. Bytes after the cut
//! may be zeros, because the kernel clears the rest of a page that is queued on the socket. The response still has its
//! head, and responses to earlier pipelined requests are complete. A client that pipelines must be prepared to repeat
//! the later requests (RFC 9112 §9.3.2).
//!
//! A change in **several steps** (truncate, then write) shows intermediate sizes and dates. While it is in progress, an
//! unknown tag is no error.

use std::time::Duration;

use super::ledger::{Entry, History, STALE_MAX, State, Subject, What, Window};
use crate::response::Response;

/// The requested range: first and last position.
pub type Range = (u64, u64);

/// The request.
#[derive(Clone, Debug, Default)]
pub struct Ask {
    /// HEAD instead of GET.
    pub head: bool,
    /// `Range`
    pub range: Option<Range>,
    /// `If-None-Match`
    pub if_none_match: Option<String>,
}

/// The response.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The head.
    pub head: Response,
    /// The content that was received.
    pub content: Vec<u8>,
}

/// What is wrong with a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A byte the file didn't contain.
    WrongByte,
    /// An old state that must not be shown any more.
    Stale,
    /// A status or field that contradicts the file or the rest of the response.
    WrongHead,
    /// The connection ended during a response, or nothing was received.
    Broken,
}

/// Properties of a correct response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Observation {
    /// How long the shown state had been obsolete when the request was sent.
    pub age: Option<Duration>,
    /// Whether it contains bytes of several versions.
    pub mixed: bool,
    /// Whether it ended early.
    pub cut: bool,
}

/// Correct, or the fault and its explanation.
pub type Verdict = Result<Observation, (Fault, String)>;

fn fault<T>(fault: Fault, why: impl Into<String>) -> Result<T, (Fault, String)> {
    Err((fault, why.into()))
}

/// Judges a connection that ended before the response began. That is always a fault.
///
/// # Errors
/// Always.
pub fn judge_silence(subject: Option<&Subject>, window: Window) -> Verdict {
    let present = subject.map(|subject| present(&subject.history(), window));
    fault(
        Fault::Broken,
        format!("the connection ended instead of an answer; {}", present.unwrap_or_default()),
    )
}

/// Judges a response.
///
/// # Errors
/// The fault and its explanation.
pub fn judge(subject: &Subject, ask: &Ask, window: Window, answer: &Answer) -> Verdict {
    let history = subject.history();
    let case = Case { subject, history: &history, ask, window, answer };
    match answer.head.status {
        404 => case.judge_missing(|what| *what == What::Absent),
        403 => case.judge_missing(|what| *what == What::Forbidden),
        304 => case.judge_not_modified(),
        416 if ask.range.is_some() => case.judge_unsatisfiable(),
        200 | 206 => case.judge_file(),
        other => fault(Fault::WrongHead, format!("{other}")),
    }
}

fn was_cut(history: &History, window: Window) -> bool {
    history.entries().any(|entry| entry.cut.is_some() && entry.is_under_way(window))
}

/// Describes the recent states of the file, for an error message.
fn present(history: &History, window: Window) -> String {
    let shown = history.entries().rev().take(PRESENTED).map(|entry| {
        let what = match &entry.what {
            What::File(state) => format!("version {} {}", state.version, state.etag()),
            What::Absent => "absent".to_owned(),
            What::Forbidden => "forbidden".to_owned(),
        };
        let before = window.sent.saturating_duration_since(entry.settled);
        let after = entry.settled.saturating_duration_since(window.sent);
        let when = if after.is_zero() { format!("-{before:?}") } else { format!("+{after:?}") };
        format!("{} {when}: {what}", entry.change)
    });
    let shown: Vec<_> = shown.collect();
    let took = window.received.saturating_duration_since(window.sent);
    format!("the answer took {took:?}; changes, the last first: {}", shown.join("; "))
}

struct Case<'a> {
    subject: &'a Subject,
    history: &'a History,
    ask: &'a Ask,
    window: Window,
    answer: &'a Answer,
}

impl Case<'_> {
    /// Looks up what a response shows among the states of the file.
    fn show(&self, what: &str, is_it: impl Fn(&Entry) -> bool) -> Verdict {
        // If a state occurred repeatedly, the last time counts.
        let shown = self.history.entries().rev().filter(|entry| is_it(entry));
        let mut latest_over = None;
        for entry in shown {
            if entry.is_visible(self.window) {
                return Ok(Observation { age: entry.age(self.window), ..Observation::default() });
            }
            latest_over = latest_over.or_else(|| entry.age(self.window));
        }
        match latest_over {
            Some(age) => fault(Fault::Stale, format!("{what} was over for {age:?}; {}", self.present())),
            None => fault(Fault::WrongHead, format!("{what} never was; {}", self.present())),
        }
    }

    fn present(&self) -> String {
        present(self.history, self.window)
    }

    fn judge_missing(&self, is_it: impl Fn(&What) -> bool) -> Verdict {
        let observation = self.show(&format!("{}", self.answer.head.status), |entry| is_it(&entry.what))?;
        if !self.ask.head && self.answer.content.len() != self.answer.head.content_bytes {
            return fault(Fault::Broken, "the connection ended in the middle of an error");
        }
        Ok(observation)
    }

    fn judge_not_modified(&self) -> Verdict {
        let tag = self.answer.head.field("ETag");
        if self.ask.if_none_match.is_none() || tag != self.ask.if_none_match.as_deref() {
            return fault(Fault::WrongHead, format!("304 with {tag:?}, asked {:?}", self.ask.if_none_match));
        }
        self.judge_tag(tag.unwrap_or_default())
    }

    fn judge_unsatisfiable(&self) -> Verdict {
        let (start, _) = self.ask.range.unwrap_or_default();
        let total = self.answer.head.field("Content-Range").and_then(|range| range.strip_prefix("bytes */"));
        let Some(total) = total.and_then(|total| total.parse::<u64>().ok()) else {
            return fault(Fault::WrongHead, "416 without the file's size");
        };
        if total > start {
            return fault(Fault::WrongHead, format!("416 for {start} of {total}"));
        }
        if self.gradual().next().is_some() {
            return Ok(Observation::default());
        }
        let has_size = |entry: &Entry| entry.state().is_some_and(|state| state.size == total);
        self.show(&format!("a size of {total}"), has_size)
    }

    /// The tag must identify a permitted state, or one in the middle of a change in several steps.
    fn judge_tag(&self, tag: &str) -> Verdict {
        let is_it = |entry: &Entry| entry.state().is_some_and(|state| state.has_etag(tag));
        if self.state_of(tag).is_none() && self.gradual().next().is_some() {
            return Ok(Observation::default());
        }
        self.show(&format!("the file with the tag {tag}"), is_it)
    }

    /// The state with this tag. There is none for one in the middle of a change in several steps.
    fn state_of(&self, tag: &str) -> Option<&State> {
        self.history.entries().rev().filter_map(Entry::state).find(|state| state.has_etag(tag))
    }

    /// What may be seen half done: the results of changes in several steps, and files that are about to leave, of which
    /// a request that has opened them sees the change time of their leaving (unlink(2), rename(2), chmod(2)).
    fn gradual(&self) -> impl Iterator<Item = &State> {
        let before = std::iter::once(None).chain(self.history.entries().map(Entry::state));
        let under_way =
            self.history.entries().zip(before).filter(|(entry, _)| entry.is_under_way(self.window));
        under_way.flat_map(|(entry, before)| {
            let after = entry.state();
            let has_left = |before: &&State| after.is_none_or(|after| after.inode != before.inode);
            [after.filter(|_| entry.gradual), before.filter(has_left)].into_iter().flatten()
        })
    }

    fn judge_file(&self) -> Verdict {
        let head = &self.answer.head;
        let Some(tag) = head.field("ETag") else { return fault(Fault::WrongHead, "no ETag") };
        if self.ask.if_none_match.as_deref() == Some(tag) {
            return fault(Fault::WrongHead, format!("{} for an unchanged tag {tag}", head.status));
        }
        let mut observation = self.judge_tag(tag)?;
        let (inodes, size) = match self.state_of(tag) {
            Some(state) => (vec![state.inode], state.size),
            None => (self.gradual().map(|state| state.inode).collect(), total_of(head)),
        };
        self.judge_date(tag)?;
        let (start, length) = self.judge_extent(size)?;
        let content = &self.answer.content;
        if !self.ask.head {
            observation.mixed = self.judge_bytes(&inodes, start, content)?;
            if (content.len() as u64) < length {
                if !was_cut(self.history, self.window) {
                    let why = format!("{} bytes of {length}, and no cut; {}", content.len(), self.present());
                    return fault(Fault::Broken, why);
                }
                observation.cut = true;
            }
        }
        Ok(observation)
    }

    /// A date later than the response's own is replaced by that (RFC 9110 §8.8.2.1). The server reads its clock once
    /// for many responses, a moment earlier.
    fn judge_date(&self, tag: &str) -> Result<(), (Fault, String)> {
        let head = &self.answer.head;
        let state = self.state_of(tag);
        let Some(Ok(date)) = head.field("Date").map(httpdate::parse_http_date) else {
            return fault(Fault::WrongHead, format!("Date: {:?}", head.field("Date")));
        };
        let shown = head.field("Last-Modified");
        match state.map(|state| httpdate::fmt_http_date(state.modified().min(date))) {
            Some(expected) if shown != Some(&expected) => {
                fault(Fault::WrongHead, format!("Last-Modified {shown:?} instead of {expected}"))
            }
            _ => Ok(()),
        }
    }

    /// The content's start in the file and its length according to the head; checks that they are consistent.
    fn judge_extent(&self, size: u64) -> Result<(u64, u64), (Fault, String)> {
        let head = &self.answer.head;
        let Some(length) = head.field("Content-Length").and_then(|length| length.parse::<u64>().ok()) else {
            return fault(Fault::WrongHead, "no Content-Length");
        };
        let (start, expected, range) = match self.ask.range {
            // An empty file has no ranges, so it is sent whole.
            Some((first, last)) if !self.ask.head && size > 0 => {
                let last = last.min(size.saturating_sub(1));
                let range = format!("bytes {first}-{last}/{size}");
                (first, (last + 1).saturating_sub(first), Some(range))
            }
            _ => (0, size, None),
        };
        let status = if range.is_some() { 206 } else { 200 };
        if head.status != status || head.field("Content-Range") != range.as_deref() || length != expected {
            let shown = head.field("Content-Range");
            return fault(
                Fault::WrongHead,
                format!("{}, {shown:?}, {length} bytes: not {status}, {range:?}, {expected}", head.status),
            );
        }
        Ok((start, length))
    }

    /// Checks the bytes; returns whether they belong to several versions.
    fn judge_bytes(&self, inodes: &[u64], start: u64, content: &[u8]) -> Result<bool, (Fault, String)> {
        let mut versions = Vec::new();
        for entry in self.history.entries().rev().filter(|entry| entry.is_visible(self.window)) {
            if let Some(state) = entry.state().filter(|state| inodes.contains(&state.inode))
                && !versions.contains(&state.version)
            {
                versions.push(state.version);
            }
        }
        let zeros = self.history.entries().filter(|entry| entry.is_under_way(self.window));
        let zeros_from = zeros.filter_map(|entry| entry.cut.filter(|left| *left > 0)).min();
        let mut last = None;
        let mut mixed = false;
        let mut position = start;
        for chunk in content.chunks(CHUNK_BYTES) {
            versions.sort_by_key(|version| Some(*version) != last);
            let whole = versions
                .iter()
                .find(|version| self.subject.pattern(**version).check(position, chunk).is_ok())
                .copied();
            match whole {
                Some(version) => {
                    mixed |= last.is_some_and(|last| last != version);
                    last = Some(version);
                }
                None => {
                    mixed = true;
                    self.judge_mixture(&versions, zeros_from, position, chunk)?;
                }
            }
            position += chunk.len() as u64;
        }
        Ok(mixed)
    }

    /// Every byte must belong to one of the versions.
    fn judge_mixture(
        &self,
        versions: &[u32],
        zeros_from: Option<u64>,
        position: u64,
        chunk: &[u8],
    ) -> Result<(), (Fault, String)> {
        let all: Vec<_> = versions
            .iter()
            .map(|version| self.subject.pattern(*version).bytes(position, chunk.len()))
            .collect();
        for (index, byte) in chunk.iter().enumerate() {
            let at = position + index as u64;
            let is_cleared = *byte == 0 && zeros_from.is_some_and(|from| at >= from);
            if !is_cleared && !all.iter().any(|expected| expected[index] == *byte) {
                return self.explain(at, &chunk[index..], versions);
            }
        }
        Ok(())
    }

    /// Explains unexpected bytes: they belong to an older version, or to none.
    fn explain(&self, position: u64, bytes: &[u8], versions: &[u32]) -> Result<(), (Fault, String)> {
        let bytes = &bytes[..bytes.len().min(EXPLAINED_BYTES)];
        let older = self.history.entries().rev().find(|entry| {
            let version = entry.state().map(|state| state.version);
            version.is_some_and(|version| self.subject.pattern(version).check(position, bytes).is_ok())
        });
        let shown = bytes.escape_ascii();
        match older.and_then(|entry| entry.state().zip(entry.age(self.window))) {
            Some((state, age)) if bytes.len() >= EXPLAINED_BYTES && age > STALE_MAX => fault(
                Fault::Stale,
                format!(
                    "byte {position} is of version {}, over for {age:?}; {}",
                    state.version,
                    self.present()
                ),
            ),
            _ => fault(
                Fault::WrongByte,
                format!(
                    "byte {position}, \"{shown}\", is of none of the versions {versions:?}; {}",
                    self.present()
                ),
            ),
        }
    }
}

/// The number of recent changes shown.
const PRESENTED: usize = 5;
/// Bytes compared at a time.
const CHUNK_BYTES: usize = 4096;
/// This many bytes identify their version.
const EXPLAINED_BYTES: usize = 8;

/// The size of the file according to the head.
fn total_of(head: &Response) -> u64 {
    let range = head.field("Content-Range").and_then(|range| range.split_once('/')).map(|(_, total)| total);
    range.or(head.field("Content-Length")).and_then(|total| total.parse().ok()).unwrap_or_default()
}
