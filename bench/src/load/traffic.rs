//! What went over the wire, and how it was coded.

use crate::load::coding::Coding;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Right answers to negotiated requests, by what they were.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Answers that said that the file is still the same: 304.
    pub(crate) not_modified: u64,
    /// Bytes of all heads.
    pub(crate) head_bytes: u64,
    /// Pictures and fonts, which are compressed by their own formats.
    pub(crate) pictures: Sent,
    /// Text, by the coding that the server chose.
    pub(crate) text: BTreeMap<Coding, Sent>,
}

/// Answers with a body, and the bytes of these as they were sent, chunks' frames included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    pub(crate) answers: u64,
    pub(crate) body_bytes: u64,
}

impl Sent {
    pub(crate) fn add(&mut self, other: Sent) {
        self.answers += other.answers;
        self.body_bytes += other.body_bytes;
    }
}

/// One right answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) head_bytes: u64,
    /// With the frame, if it came in chunks.
    pub(crate) body_bytes: u64,
    pub(crate) coding: Coding,
    pub(crate) is_not_modified: bool,
}

impl Answer {
    pub(crate) fn wire_bytes(self) -> u64 {
        self.head_bytes + self.body_bytes
    }
}

impl Traffic {
    pub(crate) fn note(&mut self, answer: Answer, is_text: bool) {
        self.head_bytes += answer.head_bytes;
        let sent = Sent { answers: 1, body_bytes: answer.body_bytes };
        if answer.is_not_modified {
            self.not_modified += 1;
        } else if is_text {
            self.text.entry(answer.coding).or_default().add(sent);
        } else {
            self.pictures.add(sent);
        }
    }

    pub(crate) fn merge(&mut self, other: &Traffic) {
        self.not_modified += other.not_modified;
        self.head_bytes += other.head_bytes;
        self.pictures.add(other.pictures);
        for (coding, sent) in &other.text {
            self.text.entry(*coding).or_default().add(*sent);
        }
    }

    /// Heads and bodies.
    #[cfg(test)]
    pub(crate) fn wire_bytes(&self) -> u64 {
        let text: u64 = self.text.values().map(|sent| sent.body_bytes).sum();
        self.head_bytes + self.pictures.body_bytes + text
    }

    /// All answers.
    pub(crate) fn answers(&self) -> u64 {
        self.not_modified + self.pictures.answers + self.text.values().map(|sent| sent.answers).sum::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_is_in_one_place() {
        let answer = |coding, body_bytes, is_not_modified| Answer {
            head_bytes: 200,
            body_bytes,
            coding,
            is_not_modified,
        };
        let mut traffic = Traffic::default();
        traffic.note(answer(Coding::Br, 1_000, false), true);
        traffic.note(answer(Coding::Identity, 4_000, false), true);
        traffic.note(answer(Coding::Identity, 9_000, false), false);
        traffic.note(answer(Coding::Identity, 0, true), true);
        let mut both = traffic.clone();
        both.merge(&traffic);
        for (traffic, times) in [(&traffic, 1), (&both, 2)] {
            assert_eq!(
                (traffic.answers(), traffic.not_modified, traffic.head_bytes),
                (4 * times, times, 800 * times)
            );
            assert_eq!(traffic.pictures, Sent { answers: times, body_bytes: 9_000 * times });
            assert_eq!(traffic.text[&Coding::Br], Sent { answers: times, body_bytes: 1_000 * times });
            assert_eq!(traffic.text.len(), 2);
        }
        let written = serde_json::to_string(&both).unwrap();
        assert_eq!(serde_json::from_str::<Traffic>(&written).unwrap(), both);
    }
}
