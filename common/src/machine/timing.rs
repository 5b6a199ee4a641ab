//! Timing: since when the answers of a connection have been asked for, until their last bytes have left.

use std::collections::VecDeque;
use std::time::Instant;

use crate::http::status::Class;
use crate::machine::latencies::Latencies;

/// The answers under way, in order. There is one, but for pipelined requests.
#[derive(Debug)]
pub(crate) struct Timing {
    /// When the request that is being answered was whole.
    asked: Instant,
    last: Option<Timed>,
    /// Those in front of it.
    earlier: VecDeque<Timed>,
}

/// An answer whose last byte has yet to leave.
#[derive(Clone, Copy, Debug)]
struct Timed {
    class: Class,
    asked: Instant,
    /// Where it ends, in bytes queued.
    end: u64,
}

impl Timing {
    /// Nothing under way.
    pub(crate) fn new() -> Timing {
        Timing { asked: Instant::now(), last: None, earlier: VecDeque::new() }
    }

    /// A request is whole.
    #[inline]
    pub(crate) fn ask(&mut self, now: Instant) {
        self.asked = now;
    }

    /// Its answer is complete, and ends here.
    #[inline]
    pub(crate) fn end_answer(&mut self, class: Class, end: u64) {
        if let Some(before) = self.last.replace(Timed { class, asked: self.asked, end }) {
            self.earlier.push_back(before);
        }
    }

    /// So many bytes have left in all: counts the answers that have left whole.
    #[inline]
    pub(crate) fn sent(&mut self, sent: u64, now: Instant, latencies: &mut Latencies) {
        if !self.earlier.is_empty() {
            self.sent_earlier(sent, now, latencies);
        }
        if let Some(timed) = &self.last
            && timed.end <= sent
        {
            latencies.count(timed.class, timed.asked, now);
            self.last = None;
        }
    }

    #[inline(never)]
    fn sent_earlier(&mut self, sent: u64, now: Instant, latencies: &mut Latencies) {
        while let Some(timed) = self.earlier.front().filter(|timed| timed.end <= sent) {
            latencies.count(timed.class, timed.asked, now);
            self.earlier.pop_front();
        }
    }

    /// What is still here has been cut short: it has no latency.
    #[inline]
    pub(crate) fn clear(&mut self) {
        self.last = None;
        if !self.earlier.is_empty() {
            self.earlier.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn taken(latencies: &mut Latencies) -> Vec<(Class, u64, u64)> {
        let mut answers = Vec::new();
        let mut times = Vec::new();
        latencies.hand_over(
            |class, _, count| answers.push((class, count)),
            |class, nanos| times.push((class, nanos / 1_000_000_000)),
        );
        let time = |class| times.iter().find(|(timed, _)| *timed == class).map_or(0, |(_, seconds)| *seconds);
        answers.into_iter().map(|(class, count)| (class, count, time(class))).collect()
    }

    #[test]
    fn an_answer_takes_from_its_request_to_its_last_byte() {
        let second = Duration::from_secs(1);
        let mut latencies = Latencies::default();
        let mut timing = Timing::new();
        let begun = Instant::now();
        timing.ask(begun);
        timing.end_answer(Class::Successful, 100);
        timing.sent(99, begun + second, &mut latencies);
        assert_eq!(taken(&mut latencies), [], "a byte of it is still here");
        timing.sent(100, begun + second * 2, &mut latencies);
        assert_eq!(taken(&mut latencies), [(Class::Successful, 1, 2)]);
        timing.sent(100, begun + second * 3, &mut latencies);
        assert_eq!(taken(&mut latencies), [], "once");
    }

    #[test]
    fn pipelined_answers_end_one_by_one() {
        let second = Duration::from_secs(1);
        let mut latencies = Latencies::default();
        let mut timing = Timing::new();
        let begun = Instant::now();
        for (at, class, end) in
            [(0, Class::Successful, 10), (1, Class::ClientError, 20), (2, Class::Redirection, 30)]
        {
            timing.ask(begun + second * at);
            timing.end_answer(class, end);
        }
        timing.sent(20, begun + second * 10, &mut latencies);
        assert_eq!(taken(&mut latencies), [(Class::Successful, 1, 10), (Class::ClientError, 1, 9)]);
        timing.clear();
        timing.sent(30, begun + second * 20, &mut latencies);
        assert_eq!(taken(&mut latencies), [], "the last one was cut short");
    }
}
