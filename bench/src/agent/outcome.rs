//! An [`Outcome`] as it travels: histograms in HdrHistogram's compressed V2 encoding, in Base64.

use crate::load::error::LoadError;
use crate::load::introduction::Introduction;
use crate::load::outcome::{ClassOutcome, ErrorCount, Outcome, histogram};
use crate::load::traffic::Traffic;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// The longest quotation of an error.
const LINE_CHARS_MAX: usize = 300;
/// Kinds of errors in one class.
const KINDS_MAX: usize = 32;

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct OutcomeReport {
    elapsed: Duration,
    client_cpu: Duration,
    client_spun: Duration,
    classes: Vec<ClassReport>,
}

#[derive(Debug, Serialize, Deserialize)]
struct ClassReport {
    name: String,
    answers: u64,
    errors: BTreeMap<String, ErrorReport>,
    wire_bytes: u64,
    traffic: Option<Traffic>,
    introduction: Option<Introduction>,
    offered: u64,
    unanswered: u64,
    reopened: u64,
    service: String,
    response: Option<String>,
    lag: Option<String>,
    timeline: Vec<u64>,
    used_up: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct ErrorReport {
    count: u64,
    example: String,
}

impl OutcomeReport {
    pub(crate) fn of(outcome: &Outcome) -> OutcomeReport {
        OutcomeReport {
            elapsed: outcome.elapsed,
            client_cpu: outcome.client_cpu,
            client_spun: outcome.client_spun,
            classes: outcome.classes.iter().map(ClassReport::of).collect(),
        }
    }

    /// The outcome, with what an agent on another machine can't know: how far apart the beginnings were.
    ///
    /// # Errors
    ///
    /// It isn't one.
    pub(crate) fn outcome(self, skew: Duration) -> Result<Outcome, String> {
        let classes = self.classes.into_iter().map(ClassReport::class).collect::<Result<_, _>>()?;
        let OutcomeReport { elapsed, client_cpu, client_spun, .. } = self;
        Ok(Outcome { elapsed, client_cpu, client_spun, classes, skew, bound: None })
    }
}

impl ClassReport {
    fn of(class: &ClassOutcome) -> ClassReport {
        let error =
            |errors: &ErrorCount| ErrorReport { count: errors.count, example: errors.example.to_string() };
        ClassReport {
            name: class.name.clone(),
            answers: class.answers,
            errors: class.errors.iter().map(|(kind, errors)| ((*kind).to_owned(), error(errors))).collect(),
            wire_bytes: class.wire_bytes,
            traffic: class.traffic.clone(),
            introduction: class.introduction.clone(),
            offered: class.offered,
            unanswered: class.unanswered,
            reopened: class.reopened,
            service: encoded(&class.service),
            response: class.response.as_ref().map(encoded),
            lag: class.lag.as_ref().map(encoded),
            timeline: class.timeline.clone(),
            used_up: class.used_up,
        }
    }

    fn class(self) -> Result<ClassOutcome, String> {
        if self.errors.len() > KINDS_MAX {
            return Err("it has too many kinds of errors".to_owned());
        }
        let mut errors: BTreeMap<&'static str, ErrorCount> = BTreeMap::new();
        for (kind, report) in self.errors {
            let line = report.example.chars().take(LINE_CHARS_MAX).collect();
            let example = LoadError::told(&kind, line);
            let counted = errors.entry(example.kind()).or_insert(ErrorCount { count: 0, example });
            counted.count = counted.count.saturating_add(report.count);
        }
        Ok(ClassOutcome {
            name: self.name,
            answers: self.answers,
            errors,
            wire_bytes: self.wire_bytes,
            traffic: self.traffic,
            introduction: self.introduction,
            offered: self.offered,
            unanswered: self.unanswered,
            reopened: self.reopened,
            service: decoded(&self.service)?,
            response: self.response.as_deref().map(decoded).transpose()?,
            lag: self.lag.as_deref().map(decoded).transpose()?,
            timeline: self.timeline,
            used_up: self.used_up,
        })
    }
}

/// A histogram as text.
pub(crate) fn encoded(histogram: &Histogram<u64>) -> String {
    let mut bytes = Vec::new();
    V2DeflateSerializer::new()
        .serialize(histogram, &mut bytes)
        .expect("a vector takes what is written to it");
    BASE64_STANDARD.encode(bytes)
}

/// The histogram, with the bounds of all: those that it came with may be others.
fn decoded(text: &str) -> Result<Histogram<u64>, String> {
    let wrong = |error: &dyn std::fmt::Display| format!("a histogram can't be read: {error}");
    let bytes = BASE64_STANDARD.decode(text).map_err(|error| wrong(&error))?;
    let came: Histogram<u64> =
        Deserializer::new().deserialize(&mut bytes.as_slice()).map_err(|error| wrong(&error))?;
    let mut ours = histogram();
    ours.add(&came).map_err(|error| wrong(&error))?;
    Ok(ours)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::outcome::record;

    fn class() -> ClassOutcome {
        let mut class = ClassOutcome::new("hot", true);
        (class.answers, class.offered, class.unanswered, class.wire_bytes) = (1_000, 1_005, 2, 99_000);
        (class.reopened, class.used_up, class.timeline) = (4, true, vec![600, 400]);
        class.note_error(LoadError::Closed);
        class.note_error(LoadError::Closed);
        class.note_error(LoadError::Status { got: 500, want: 200 });
        for micros in 1..=1_000 {
            let time = Duration::from_micros(micros * micros);
            record(&mut class.service, time);
            record(class.response.as_mut().unwrap(), time * 2);
        }
        class
    }

    #[test]
    fn an_outcome_arrives_as_it_was() {
        let outcome = Outcome {
            elapsed: Duration::from_millis(1_234),
            client_cpu: Duration::from_millis(700),
            client_spun: Duration::from_millis(300),
            classes: vec![class()],
            skew: Duration::ZERO,
            bound: None,
        };
        let line = serde_json::to_string(&OutcomeReport::of(&outcome)).unwrap();
        let arrived: OutcomeReport = serde_json::from_str(&line).unwrap();
        let arrived = arrived.outcome(Duration::from_micros(30)).unwrap();
        assert_eq!(arrived.skew, Duration::from_micros(30));
        assert!((arrived.client_busy() - outcome.client_busy()).abs() < 1e-9);
        let (was, is) = (&outcome.classes[0], &arrived.classes[0]);
        assert_eq!((is.answers, is.offered, is.unanswered), (was.answers, was.offered, was.unanswered));
        assert_eq!((is.wire_bytes, is.reopened, is.used_up), (was.wire_bytes, was.reopened, was.used_up));
        assert_eq!((&is.timeline, &is.service, &is.response), (&was.timeline, &was.service, &was.response));
        assert_eq!((is.error_count(), is.errors["closed"].count), (3, 2));
        assert_eq!(is.errors["status"].example.to_string(), "the answer's status is 500, not 200");
        assert!(is.lag.as_ref().unwrap().is_empty(), "an open loop has one, though nothing is in it");
    }

    #[test]
    fn what_is_no_outcome_is_told() {
        let spoil = |spoil: fn(&mut ClassReport)| {
            let mut report = ClassReport::of(&class());
            spoil(&mut report);
            report.class().map(|class| class.error_count())
        };
        let wide = |report: &mut ClassReport| {
            let mut wide = Histogram::new_with_bounds(1, u64::MAX / 2, 3).unwrap();
            wide.record(u64::MAX / 4).unwrap();
            report.service = encoded(&wide);
        };
        assert!(spoil(|report| report.service = "@".to_owned()).is_err());
        assert!(spoil(|report| report.service = BASE64_STANDARD.encode("nothing")).is_err());
        assert!(spoil(wide).is_err(), "longer than any answer can take");
        let unknown = |report: &mut ClassReport| {
            let error = ErrorReport { count: 5, example: "x".repeat(10_000) };
            report.errors = BTreeMap::from([("of another world".to_owned(), error)]);
        };
        assert_eq!(spoil(unknown), Ok(5), "counted as the system's");
    }
}
