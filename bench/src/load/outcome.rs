//! What one stretch of load has shown.

use crate::load::error::LoadError;
use crate::load::introduction::Introduction;
use crate::load::traffic::Traffic;
use hdrhistogram::Histogram;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// The histograms' range in nanoseconds: 100 ns to ten minutes. Three digits make quantiles exact to 0.1 %.
const NS_MIN: u64 = 100;
const NS_MAX: u64 = 600_000_000_000;
const DIGITS: u8 = 3;

/// A quantile needs at least this many samples above it.
pub(crate) const SAMPLES_ABOVE_MIN: f64 = 20.0;

/// The client's lag may be so long at the 99th percentile, or this share of the response time's 99th
/// percentile, before the client counts as the limit.
pub(crate) const LAG_MAX: Duration = Duration::from_micros(50);
/// See [`LAG_MAX`].
pub(crate) const LAG_SHARE_MAX: f64 = 0.05;
/// A client that is busy for more of the time counts as the limit.
pub(crate) const BUSY_MAX: f64 = 0.85;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ClientBound {
    Late { class: String, lag: Duration },
    Busy(f64),
}

impl fmt::Display for ClientBound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientBound::Late { class, lag } => {
                write!(f, "it sent up to {:.0} µs late (p99, class {class})", lag.as_secs_f64() * 1e6)
            }
            ClientBound::Busy(share) => write!(f, "it was busy for {:.0} % of the time", share * 100.0),
        }
    }
}

/// What one run of an engine has shown.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// From the start to the end of the window, or to the last answer if that came later. Shorter than the
    /// window where every class had used up what it asks for.
    pub elapsed: Duration,
    /// CPU time of the client's thread meanwhile.
    pub client_cpu: Duration,
    /// Of that, time spent busy-polling in vain.
    pub client_spun: Duration,
    /// Per class, in the order in which the engine got them.
    pub classes: Vec<ClassOutcome>,
    /// Of several clients: how far apart their beginnings may have been. A request is late by this, too.
    pub skew: Duration,
    /// Of several clients: what the first of them was the limit by. Together they may look as if none was.
    pub(crate) bound: Option<ClientBound>,
}

/// What one class has shown. All histograms are in nanoseconds.
#[derive(Clone, Debug)]
pub struct ClassOutcome {
    pub(crate) name: String,
    /// Answers that came, each of them right.
    pub answers: u64,
    /// What went wrong, by [`LoadError::kind`].
    pub errors: BTreeMap<&'static str, ErrorCount>,
    /// Bytes of the answers, heads included.
    pub wire_bytes: u64,
    /// How they were coded, where requests leave a choice.
    pub traffic: Option<Traffic>,
    /// What has come of files that were new, for a class that introduces them. Each of several engines has files of its own.
    pub introduction: Option<Introduction>,
    /// Open loop: requests that were due in the window. Else: requests that were sent.
    pub offered: u64,
    /// Open loop: of those, the ones that never found a free connection before the window ended.
    pub unanswered: u64,
    /// Connections that the server ended as it had announced in its answer, and that were opened again.
    pub reopened: u64,
    /// From the moment a request leaves (with a connection of its own: from the connect) to the last byte of
    /// its answer, or to its failure.
    pub service: Histogram<u64>,
    /// Open loop: from the moment the request was due to the last byte of its answer, to its failure or, where
    /// it is unanswered, to the end of the window.
    pub response: Option<Histogram<u64>>,
    /// Open loop: how late the client itself was, from the moment a request was due, though a connection was
    /// free, to its departure. For one that had to wait for a connection: from the moment one was free.
    pub lag: Option<Histogram<u64>>,
    /// Answers per slice of the time since the start; empty if no slices were asked for. Answers after the
    /// window's end are in it.
    pub timeline: Vec<u64>,
    /// Whether everything that may be asked for only once has been.
    pub used_up: bool,
}

/// Errors of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorCount {
    /// How many there were.
    pub count: u64,
    pub(crate) example: LoadError,
}

impl Outcome {
    /// The share of the time the client's thread worked. Near 1, the client was the limit. Busy-polling isn't
    /// work.
    pub fn client_busy(&self) -> f64 {
        self.client_worked().as_secs_f64() / self.elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    fn client_worked(&self) -> Duration {
        self.client_cpu.saturating_sub(self.client_spun)
    }

    /// Why the client was the limit, if it was: then the numbers say nothing about the server. Of several clients, one
    /// at its limit is enough.
    pub(crate) fn client_bound(&self) -> Option<ClientBound> {
        if self.bound.is_some() {
            return self.bound.clone();
        }
        if self.client_busy() > BUSY_MAX {
            return Some(ClientBound::Busy(self.client_busy()));
        }
        self.classes.iter().find_map(|class| {
            let p99 = |histogram: &Histogram<u64>| Duration::from_nanos(histogram.value_at_quantile(0.99));
            let (lag, response) = (p99(class.lag.as_ref()?) + self.skew, p99(class.response.as_ref()?));
            let late = lag > LAG_MAX.max(response.mul_f64(LAG_SHARE_MAX));
            late.then(|| ClientBound::Late { class: class.name.clone(), lag })
        })
    }

    /// Whether the client was the limit.
    pub fn is_client_bound(&self) -> bool {
        self.client_bound().is_some()
    }

    /// The outcome of the class of that name.
    pub fn class(&self, name: &str) -> Option<&ClassOutcome> {
        self.classes.iter().find(|class| class.name == name)
    }

    /// Adds the outcome of another engine with the same classes. Elapsed time is the longer one, CPU time
    /// that of the busier client.
    pub(crate) fn merge(&mut self, other: &Outcome) {
        self.merge_client(other);
        for (class, other) in self.classes.iter_mut().zip(&other.classes) {
            class.merge(other);
        }
    }

    /// All that engines have shown that each had a part of `classes`, by their numbers in rising order; `None` if a class
    /// was no engine's.
    pub(crate) fn gather(parts: &[(Vec<usize>, Outcome)], classes: usize) -> Option<Outcome> {
        let (_, first) = parts.first()?;
        let mut whole = Outcome { classes: Vec::new(), ..first.clone() };
        let mut gathered: Vec<Option<ClassOutcome>> = (0..classes).map(|_| None).collect();
        for (position, (numbers, part)) in parts.iter().enumerate() {
            if position > 0 {
                whole.merge_client(part);
            }
            for (number, class) in numbers.iter().zip(&part.classes) {
                match gathered.get_mut(*number)? {
                    Some(ours) => ours.merge(class),
                    none => *none = Some(class.clone()),
                }
            }
        }
        whole.bound = parts.iter().find_map(|(_, part)| part.client_bound());
        whole.classes = gathered.into_iter().collect::<Option<_>>()?;
        Some(whole)
    }

    /// Of two clients: the longer time, and the CPU time of the one that was busier.
    fn merge_client(&mut self, other: &Outcome) {
        self.bound = self.client_bound().or_else(|| other.client_bound());
        self.skew = self.skew.max(other.skew);
        self.elapsed = self.elapsed.max(other.elapsed);
        if other.client_worked() > self.client_worked() {
            (self.client_cpu, self.client_spun) = (other.client_cpu, other.client_spun);
        }
    }
}

impl ClassOutcome {
    pub(crate) fn new(name: &str, is_open: bool) -> ClassOutcome {
        ClassOutcome {
            name: name.to_owned(),
            answers: 0,
            errors: BTreeMap::new(),
            wire_bytes: 0,
            traffic: None,
            introduction: None,
            offered: 0,
            unanswered: 0,
            reopened: 0,
            service: histogram(),
            response: is_open.then(histogram),
            lag: is_open.then(histogram),
            timeline: Vec::new(),
            used_up: false,
        }
    }

    /// How many errors there were, of all kinds.
    pub fn error_count(&self) -> u64 {
        self.errors.values().map(|errors| errors.count).sum()
    }

    /// The first error of the first kind, for a message.
    pub fn first_error(&self) -> Option<&LoadError> {
        self.errors.values().next().map(|errors| &errors.example)
    }

    pub(crate) fn note_error(&mut self, error: LoadError) {
        let errors = self.errors.entry(error.kind()).or_insert(ErrorCount { count: 0, example: error });
        errors.count += 1;
    }

    fn merge(&mut self, other: &ClassOutcome) {
        self.answers += other.answers;
        self.wire_bytes += other.wire_bytes;
        if let (Some(ours), Some(theirs)) = (&mut self.traffic, &other.traffic) {
            ours.merge(theirs);
        }
        if let (Some(ours), Some(theirs)) = (&mut self.introduction, &other.introduction) {
            ours.merge(theirs);
        }
        self.offered += other.offered;
        self.unanswered += other.unanswered;
        self.reopened += other.reopened;
        self.used_up |= other.used_up;
        for (kind, errors) in &other.errors {
            self.errors
                .entry(kind)
                .and_modify(|ours| ours.count += errors.count)
                .or_insert_with(|| errors.clone());
        }
        add(&mut self.service, &other.service);
        for (ours, theirs) in [(&mut self.response, &other.response), (&mut self.lag, &other.lag)] {
            if let (Some(ours), Some(theirs)) = (ours, theirs) {
                add(ours, theirs);
            }
        }
        if self.timeline.len() < other.timeline.len() {
            self.timeline.resize(other.timeline.len(), 0);
        }
        for (ours, theirs) in self.timeline.iter_mut().zip(&other.timeline) {
            *ours += theirs;
        }
    }
}

/// The quantile of a histogram, 0 to 1, in its unit; `None` with fewer than [`SAMPLES_ABOVE_MIN`] above it.
pub(crate) fn quantile(histogram: &Histogram<u64>, quantile: f64) -> Option<u64> {
    (histogram.len() >= samples_needed(quantile)).then(|| histogram.value_at_quantile(quantile))
}

/// How many samples it takes for a quantile: 2,000 for 0.99.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast saturates, and no quantile of the harness is so near to 1"
)]
pub(crate) fn samples_needed(quantile: f64) -> u64 {
    // 1 - 0.9 is a little less than a tenth.
    const TO_WHOLE: f64 = 1e-6;
    (SAMPLES_ABOVE_MIN / (1.0 - quantile) - TO_WHOLE).ceil() as u64
}

pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(NS_MIN, NS_MAX, DIGITS)
        .expect("the bounds are constants that the histogram accepts")
}

pub(crate) fn record(histogram: &mut Histogram<u64>, time: Duration) {
    histogram.saturating_record(u64::try_from(time.as_nanos()).unwrap_or(NS_MAX));
}

fn add(ours: &mut Histogram<u64>, theirs: &Histogram<u64>) {
    ours.add(theirs).expect("all of an engine's histograms have the same bounds");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(times: &[u64]) -> ClassOutcome {
        let mut class = ClassOutcome::new("a", true);
        for time in times {
            class.answers += 1;
            record(&mut class.service, Duration::from_micros(*time));
        }
        class
    }

    #[test]
    fn quantiles_with_too_few_samples_are_unknown() {
        let times: Vec<u64> = (1..=300).collect();
        let class = class(&times);
        assert!(quantile(&class.service, 0.5).is_some() && quantile(&class.service, 0.9).is_some());
        assert_eq!((quantile(&class.service, 0.99), quantile(&class.service, 0.999)), (None, None));
        assert_eq!(class.service.max() / 1_000, 300);
    }

    #[test]
    fn a_quantile_is_known_from_its_twentieth_sample_above_on() {
        assert_eq!([0.5, 0.9, 0.99, 0.999].map(samples_needed), [40, 200, 2_000, 20_000]);
        let mut histogram = histogram();
        histogram.record_n(1_000, 199).unwrap();
        assert_eq!(quantile(&histogram, 0.9), None);
        histogram.record(1_000).unwrap();
        assert!(quantile(&histogram, 0.9).is_some());
    }

    #[test]
    fn a_client_that_is_late_or_busy_is_the_limit() {
        let outcome = |lag_us, response_us, busy_ms, spun_ms| {
            let mut class = ClassOutcome::new("a", true);
            let times = [(&mut class.lag, lag_us), (&mut class.response, response_us)];
            for (histogram, time) in times {
                record(histogram.as_mut().unwrap(), Duration::from_micros(time));
            }
            Outcome {
                elapsed: Duration::from_secs(1),
                client_cpu: Duration::from_millis(busy_ms + spun_ms),
                client_spun: Duration::from_millis(spun_ms),
                classes: vec![class],
                skew: Duration::ZERO,
                bound: None,
            }
        };
        assert_eq!(outcome(49, 100, 840, 0).client_bound(), None);
        assert!(matches!(outcome(60, 100, 0, 0).client_bound(), Some(ClientBound::Late { .. })));
        // 5 % of 2 ms are 100 µs.
        assert_eq!(outcome(90, 2_000, 0, 0).client_bound(), None);
        assert!(matches!(outcome(0, 0, 860, 0).client_bound(), Some(ClientBound::Busy(_))));
        // Busy-polling all the time: only polls that found something count as work.
        assert_eq!(outcome(0, 0, 300, 700).client_bound(), None);
        assert!(matches!(outcome(0, 0, 860, 130).client_bound(), Some(ClientBound::Busy(_))));
    }

    #[test]
    fn merged_counts_are_sums() {
        let outcome = |class, spun_ms| Outcome {
            elapsed: Duration::from_secs(1),
            client_cpu: Duration::from_millis(400 + spun_ms),
            client_spun: Duration::from_millis(spun_ms),
            classes: vec![class],
            skew: Duration::ZERO,
            bound: None,
        };
        let mut ours = class(&[1, 2]);
        ours.timeline = vec![2];
        ours.note_error(LoadError::Closed);
        let mut theirs = class(&[3]);
        theirs.timeline = vec![0, 1];
        theirs.note_error(LoadError::Surplus);
        theirs.note_error(LoadError::Closed);
        let mut merged = outcome(ours, 500);
        let mut busier = outcome(theirs, 0);
        busier.client_cpu += Duration::from_millis(100);
        merged.merge(&busier);
        let class = merged.class("a").unwrap();
        assert_eq!((class.answers, class.service.len(), class.error_count()), (3, 3, 3));
        assert_eq!((class.errors["closed"].count, &class.timeline[..]), (2, &[2, 1][..]));
        assert!((merged.client_busy() - 0.5).abs() < 1e-9);
    }

    /// A lag of one in a hundred of all requests wouldn't show in the p99 of all.
    #[test]
    fn one_client_at_its_limit_marks_all() {
        let outcome = |lag_us, count: u64| {
            let mut class = ClassOutcome::new("a", true);
            for (histogram, time) in [(&mut class.lag, lag_us), (&mut class.response, 100)] {
                let time = Duration::from_micros(time);
                (0..count).for_each(|_| record(histogram.as_mut().unwrap(), time));
            }
            Outcome {
                elapsed: Duration::from_secs(1),
                client_cpu: Duration::ZERO,
                client_spun: Duration::ZERO,
                classes: vec![class],
                skew: Duration::ZERO,
                bound: None,
            }
        };
        let (quiet, late) = (outcome(10, 100_000), outcome(400, 100));
        assert_eq!(quiet.client_bound(), None);
        for parts in [[quiet.clone(), late.clone()], [late.clone(), quiet.clone()]] {
            let parts = parts.map(|part| (vec![0], part));
            let whole = Outcome::gather(&parts, 1).unwrap();
            assert_eq!(whole.classes[0].lag.as_ref().unwrap().value_at_quantile(0.99) / 1_000, 10);
            assert!(matches!(whole.client_bound(), Some(ClientBound::Late { .. })), "{:?}", whole.bound);
        }
        let mut merged = quiet.clone();
        merged.merge(&late);
        assert!(merged.client_bound().is_some());
        // Clients that didn't begin together are late by as much.
        let mut apart = quiet;
        apart.skew = Duration::from_micros(45);
        assert!(matches!(apart.client_bound(), Some(ClientBound::Late { .. })));
    }

    #[test]
    fn engines_with_a_part_of_the_classes_are_gathered() {
        let outcome = |classes: &[&str]| Outcome {
            elapsed: Duration::from_secs(1),
            client_cpu: Duration::from_millis(400),
            client_spun: Duration::ZERO,
            classes: classes
                .iter()
                .map(|name| ClassOutcome { name: (*name).to_owned(), ..class(&[1, 2, 3]) })
                .collect(),
            skew: Duration::ZERO,
            bound: None,
        };
        let parts = [(vec![0, 1], outcome(&["hot", "cold"])), (vec![1], outcome(&["cold"]))];
        let whole = Outcome::gather(&parts, 2).unwrap();
        let shown: Vec<_> = whole.classes.iter().map(|class| (class.name.as_str(), class.answers)).collect();
        assert_eq!(shown, [("hot", 3), ("cold", 6)]);
        assert_eq!(whole.class("cold").unwrap().service.len(), 6);
        assert!(Outcome::gather(&parts, 3).is_none() && Outcome::gather(&[], 1).is_none());
    }
}
