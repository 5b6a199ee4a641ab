//! Files that are new to a server: what comes of each, visit by visit, until it comes compressed.

use crate::load::coding::Coding;
use crate::load::traffic::{Answer, Sent};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Visits that are told apart; the last one stands for all later ones, too.
pub(crate) const VISITS_MAX: usize = 4;

/// What has come of all files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Introduction {
    /// How many files there are.
    pub files: u64,
    /// How many of them have come compressed.
    pub coded: u64,
    /// From the beginning until the last of them came compressed for the first time, in nanoseconds; null as long as some
    /// haven't.
    pub all_coded_ns: Option<u64>,
    /// Answers and the bytes of their bodies: the first ones of all files, the second ones, and so on.
    pub visits: Vec<Sent>,
}

impl Introduction {
    /// Adds what has come of other files.
    pub(crate) fn merge(&mut self, other: &Introduction) {
        self.files += other.files;
        self.coded += other.coded;
        self.all_coded_ns = self.all_coded_ns.zip(other.all_coded_ns).map(|(ours, theirs)| ours.max(theirs));
        for (ours, theirs) in self.visits.iter_mut().zip(&other.visits) {
            ours.add(*theirs);
        }
    }
}

/// What is known of each file.
#[derive(Debug)]
pub(crate) struct Introductions {
    visits: Vec<usize>,
    is_coded: Vec<bool>,
    shown: Introduction,
}

impl Introductions {
    /// Of so many files, none of which has come.
    pub(crate) fn new(files: usize) -> Introductions {
        let visits = vec![Sent::default(); VISITS_MAX];
        let shown = Introduction { files: files as u64, visits, ..Introduction::default() };
        Introductions { visits: vec![0; files], is_coded: vec![false; files], shown }
    }

    /// An answer with file number `file`, so long after the beginning.
    pub(crate) fn note(&mut self, file: usize, answer: Answer, since: Duration) {
        let visit = &mut self.visits[file];
        self.shown.visits[*visit].add(Sent { answers: 1, body_bytes: answer.body_bytes });
        *visit = (*visit + 1).min(VISITS_MAX - 1);
        let is_first = answer.coding != Coding::Identity && !self.is_coded[file];
        if is_first {
            self.is_coded[file] = true;
            self.shown.coded += 1;
        }
        if is_first && self.shown.coded == self.shown.files {
            self.shown.all_coded_ns = u64::try_from(since.as_nanos()).ok();
        }
    }

    pub(crate) fn shown(self) -> Introduction {
        self.shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn visits_are_told_apart_until_all_have_come_compressed() {
        let mut files = Introductions::new(2);
        let mut note = |file, coding, body_bytes, seconds| {
            let answer = Answer { head_bytes: 200, body_bytes, coding, is_not_modified: false };
            files.note(file, answer, Duration::from_secs(seconds));
            files.shown.clone()
        };
        note(0, Coding::Identity, 1_000, 1);
        note(1, Coding::Identity, 3_000, 2);
        let shown = note(0, Coding::Gzip, 400, 3);
        assert_eq!((shown.files, shown.coded, shown.all_coded_ns), (2, 1, None));
        let shown = note(0, Coding::Br, 300, 4);
        assert_eq!((shown.coded, shown.all_coded_ns), (1, None), "the same file again");
        note(1, Coding::Br, 900, 5);
        let shown = note(1, Coding::Identity, 3_000, 6);
        assert_eq!((shown.coded, shown.all_coded_ns), (2, Some(5_000_000_000)));
        let sent = |answers, body_bytes| Sent { answers, body_bytes };
        assert_eq!(shown.visits, [sent(2, 4_000), sent(2, 1_300), sent(2, 3_300), sent(0, 0)]);
        for _ in 0..3 {
            note(0, Coding::Br, 300, 7);
        }
        let shown = note(1, Coding::Br, 900, 8);
        assert_eq!(shown.visits[VISITS_MAX - 1], sent(4, 1_800), "the last one is all later ones, too");
        assert_eq!(shown.all_coded_ns, Some(5_000_000_000), "once is enough");
        let mut both = shown.clone();
        both.merge(&Introduction { all_coded_ns: Some(6_000_000_000), ..shown.clone() });
        assert_eq!((both.files, both.coded, both.all_coded_ns), (4, 4, Some(6_000_000_000)));
        assert_eq!(both.visits[0], sent(4, 8_000));
        both.merge(&Introduction { all_coded_ns: None, ..shown.clone() });
        assert_eq!(both.all_coded_ns, None, "some haven't come");
        let written = serde_json::to_string(&shown).unwrap();
        assert_eq!(serde_json::from_str::<Introduction>(&written).unwrap(), shown);
    }
}
