//! What a load has shown, for people and for programs.

use super::histogram::Rows;
use super::{Kind, LoadArguments};
use crate::agent::fleet::{AgentFigures, Elsewhere};
use crate::load::outcome::{ClassOutcome, Outcome, quantile, samples_needed};
use crate::load::request::Expected;
use crate::report::wording;
use hdrhistogram::Histogram;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// All of it. Times are microseconds unless their name says otherwise.
#[derive(Debug, Serialize)]
pub(super) struct LoadReport {
    url: String,
    status: u16,
    body_bytes: u64,
    /// Requests per second that were to be sent; none in a closed loop.
    offered_per_second: Option<f64>,
    threads: usize,
    seed: u64,
    elapsed_s: f64,
    /// The share of the time in which the (busiest) client thread had something to do.
    client_busy: f64,
    client_bound: Option<String>,
    classes: Vec<ClassReport>,
    /// What each agent has shown, where the load came from agents.
    #[serde(skip_serializing_if = "Option::is_none")]
    elsewhere: Option<Elsewhere>,
}

#[derive(Debug, Serialize)]
struct ClassReport {
    name: String,
    connections: usize,
    answers: u64,
    answers_per_second: f64,
    wire_bytes_per_answer: Option<f64>,
    requests: u64,
    unanswered: u64,
    reopened: u64,
    errors: BTreeMap<&'static str, ErrorReport>,
    service_us: Option<Times>,
    response_us: Option<Times>,
    lag_us: Option<Times>,
    /// Of the response times; in a closed loop, where there are none, of the service times.
    #[serde(skip)]
    histogram: Option<Rows>,
}

#[derive(Debug, Serialize)]
struct ErrorReport {
    count: u64,
    example: String,
}

/// What is shown of a histogram.
const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];

/// Quantiles; none where fewer than 20 samples are above.
#[derive(Debug, Serialize)]
struct Times {
    samples: u64,
    p50: Option<f64>,
    p90: Option<f64>,
    p99: Option<f64>,
    p999: Option<f64>,
    max: f64,
}

impl LoadReport {
    pub(super) fn new(
        arguments: &LoadArguments,
        expected: Expected,
        connections: Vec<usize>,
        outcome: &Outcome,
        elsewhere: Option<Elsewhere>,
    ) -> LoadReport {
        let seconds = outcome.elapsed.as_secs_f64();
        let classes = outcome.classes.iter().zip(connections);
        LoadReport {
            url: format!("http://{}{}", arguments.url.authority, arguments.url.path),
            status: expected.status,
            body_bytes: expected.body_bytes,
            offered_per_second: arguments.rate,
            threads: arguments.threads,
            seed: arguments.seed,
            elapsed_s: seconds,
            client_busy: outcome.client_busy(),
            client_bound: outcome.client_bound().map(|reason| reason.to_string()),
            classes: classes.map(|(class, connections)| class_report(class, connections, seconds)).collect(),
            elsewhere,
        }
    }
}

fn class_report(class: &ClassOutcome, connections: usize, seconds: f64) -> ClassReport {
    let error = |errors: &crate::load::outcome::ErrorCount| ErrorReport {
        count: errors.count,
        example: errors.example.to_string(),
    };
    ClassReport {
        name: class.name.clone(),
        connections,
        answers: class.answers,
        answers_per_second: class.answers as f64 / seconds,
        wire_bytes_per_answer: (class.answers > 0).then(|| class.wire_bytes as f64 / class.answers as f64),
        requests: class.offered,
        unanswered: class.unanswered,
        reopened: class.reopened,
        errors: class.errors.iter().map(|(kind, errors)| (*kind, error(errors))).collect(),
        service_us: times(&class.service),
        response_us: class.response.as_ref().and_then(times),
        lag_us: class.lag.as_ref().and_then(times),
        histogram: Rows::of(class.response.as_ref().unwrap_or(&class.service)),
    }
}

fn times(histogram: &Histogram<u64>) -> Option<Times> {
    let microseconds = |nanoseconds: u64| nanoseconds as f64 / 1e3;
    let at = |share| quantile(histogram, share).map(microseconds);
    (!histogram.is_empty()).then(|| Times {
        samples: histogram.len(),
        p50: at(0.5),
        p90: at(0.9),
        p99: at(0.99),
        p999: at(0.999),
        max: microseconds(histogram.max()),
    })
}

impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: each answer has status {} and {} bytes", self.url, self.status, self.body_bytes)?;
        match self.offered_per_second {
            Some(rate) => writeln!(f, "open loop, {rate} requests/s, {:.2} s", self.elapsed_s)?,
            None => writeln!(f, "closed loop, {:.2} s", self.elapsed_s)?,
        }
        for class in &self.classes {
            write!(f, "\n{class}")?;
        }
        match &self.elsewhere {
            None => writeln!(f, "\nclient busy for {:.0} % of the time", self.client_busy * 100.0)?,
            Some(elsewhere) => agents(f, elsewhere)?,
        }
        if let Some(reason) = &self.client_bound {
            writeln!(f, "THE CLIENT WAS THE LIMIT: {reason}. This says nothing about the server.")?;
        }
        Ok(())
    }
}

fn agents(f: &mut fmt::Formatter<'_>, elsewhere: &Elsewhere) -> fmt::Result {
    let micros = |ns: u64| time(ns as f64 / 1e3);
    writeln!(
        f,
        "\n{} agents, which began within {} of each other",
        elsewhere.agents.len(),
        micros(elsewhere.skew_ns)
    )?;
    for agent in &elsewhere.agents {
        let (busy, round_trip) = (agent.busy * 100.0, micros(agent.round_trip_ns));
        let limit = agent.client_bound.as_ref().map(|reason| format!("; IT WAS THE LIMIT: {reason}"));
        let AgentFigures { agent, answers, .. } = agent;
        let limit = limit.unwrap_or_default();
        writeln!(
            f,
            "  {agent}: {answers} answers, busy for {busy:.0} % of the time, {round_trip} away{limit}"
        )?;
    }
    Ok(())
}

impl fmt::Display for ClassReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ClassReport { name, connections, answers, answers_per_second, .. } = self;
        if name == Kind::Idle.name() && self.errors.is_empty() {
            return writeln!(f, "{name}, {connections} connections: all were kept");
        }
        writeln!(f, "{name}, {connections} connections: {answers} answers, {answers_per_second:.1}/s")?;
        if self.unanswered > 0 {
            writeln!(f, "  {} of {} requests never found a connection", self.unanswered, self.requests)?;
        }
        if self.reopened > 0 {
            writeln!(f, "  the server ended {} connections, as it had announced", self.reopened)?;
        }
        for (kind, error) in &self.errors {
            writeln!(f, "  {} errors, {kind}: {}", error.count, error.example)?;
        }
        let rows =
            [("response", &self.response_us), ("service", &self.service_us), ("client's lag", &self.lag_us)];
        if rows.iter().any(|(_, times)| times.is_some()) {
            writeln!(
                f,
                "  {:12} {:>10} {:>10} {:>10} {:>10} {:>10}",
                "", QUANTILES[0].0, QUANTILES[1].0, QUANTILES[2].0, QUANTILES[3].0, "max"
            )?;
        }
        for (what, times) in rows {
            if let Some(times) = times {
                writeln!(f, "  {what:12} {times}")?;
            }
        }
        if let Some(missing) = rows.iter().find_map(|(_, times)| times.as_ref()?.missing()) {
            writeln!(f, "  {missing}")?;
        }
        if let Some(histogram) = &self.histogram {
            let what = if self.response_us.is_some() { "response" } else { "service" };
            write!(f, "\n  {what} times from\n{histogram}")?;
        }
        Ok(())
    }
}

impl Times {
    /// "p99 needs 2,000 answers, p99.9 20,000; there were 812".
    fn missing(&self) -> Option<String> {
        let unknown: Vec<(&str, u64)> = QUANTILES
            .into_iter()
            .map(|(name, share)| (name, samples_needed(share)))
            .filter(|(_, needed)| self.samples < *needed)
            .collect();
        let count = |count: u64| wording::thousands(count as f64);
        let (name, needed) = unknown.first()?;
        let mut text = format!("{name} needs {} answers", count(*needed));
        for (name, needed) in &unknown[1..] {
            text.push_str(&format!(", {name} {}", count(*needed)));
        }
        let between = if unknown.len() > 1 { "; " } else { ", " };
        let were = if self.samples == 1 { "was" } else { "were" };
        Some(format!("{text}{between}there {were} {}", count(self.samples)))
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for quantile in [self.p50, self.p90, self.p99, self.p999] {
            write!(f, "{:>10} ", quantile.map_or_else(|| "-".to_owned(), time))?;
        }
        write!(f, "{:>10}", time(self.max))
    }
}

/// Microseconds, in the unit that suits them.
fn time(microseconds: f64) -> String {
    match microseconds {
        us if us < 1e3 => format!("{us:.1} µs"),
        us if us < 1e6 => format!("{:.2} ms", us / 1e3),
        us => format!("{:.2} s", us / 1e6),
    }
}
