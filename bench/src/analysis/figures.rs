//! What one target did in one cell.

use crate::analysis::measure::{Measure, latency};
use crate::analysis::reading::Reading;
use crate::analysis::stats::{Estimate, median, median_estimate};
use crate::load::coding::Coding;
use crate::load::introduction::{Introduction, VISITS_MAX};
use crate::load::outcome::{BUSY_MAX, LAG_MAX, LAG_SHARE_MAX};
use crate::load::traffic::Traffic;
use crate::record::trial::{Limiter, MemoryRecord, Pass, Trial};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Rule 5: with a larger share of failures a target isn't ranked.
pub(crate) const ERROR_SHARE_MAX: f64 = 0.0001;
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Figures {
    pub(crate) target: String,
    pub(crate) trials: usize,
    pub(crate) voids: usize,
    /// Medians over the trials. A measure that any trial lacks is missing: the trials without a quantile are
    /// those with few answers, and leaving them out would flatter the server. [`Figures::reading`] says what may be told.
    estimates: BTreeMap<Measure, Estimate>,
    /// The classes of connections, in the scenario's order.
    pub(crate) classes: Vec<ClassSummary>,
    pub(crate) user_ns: Option<f64>,
    pub(crate) system_ns: Option<f64>,
    pub(crate) context_switches: Option<f64>,
    pub(crate) page_faults: Option<f64>,
    pub(crate) calls: Option<CallsPerRequest>,
    /// Bytes on the wire per answer of the first class, head included.
    pub(crate) wire_bytes: Option<f64>,
    /// What these bytes were, where requests left a choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) traffic: Option<TrafficSummary>,
    /// What came of files that were new to the server, if there were any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) introduction: Option<IntroductionSummary>,
    pub(crate) device_read_bytes: Option<f64>,
    /// Failures among all requests that ended.
    pub(crate) error_share: f64,
    /// The share of the first class's requests that had no answer when the window ended.
    pub(crate) unanswered_share: f64,
    pub(crate) client_busy: f64,
    /// Whether the client was the limit in half of the trials or more.
    pub(crate) client_bound: bool,
    pub(crate) limiter: Option<Limiter>,
    pub(crate) memory: Option<MemorySummary>,
    /// Threads at the end of the window, kernel workers included.
    pub(crate) threads: f64,
    pub(crate) ring_workers: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ClassSummary {
    pub(crate) name: String,
    pub(crate) connections: usize,
    /// The rate that was asked for; null in a closed loop.
    pub(crate) offered_per_second: Option<f64>,
    pub(crate) answers_per_second: f64,
    /// Quantiles of response (open loop) or service time, in nanoseconds, as in a trial.
    pub(crate) p50_ns: Option<f64>,
    pub(crate) p99_ns: Option<f64>,
    pub(crate) p999_ns: Option<f64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct CallsPerRequest {
    pub(crate) system_calls: Option<BTreeMap<String, f64>>,
    pub(crate) ring_submissions: Option<f64>,
    pub(crate) ring_completions: Option<f64>,
    pub(crate) ring_punts: Option<f64>,
}

/// What the first class's answers put on the wire: bytes per answer, over all trials.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct TrafficSummary {
    /// The share of the answers that said that the file is still the same.
    pub(crate) not_modified_share: f64,
    pub(crate) head_bytes: f64,
    /// Pictures and fonts, which nobody compresses again.
    pub(crate) picture_bytes: f64,
    /// Text, by the coding that it was sent in.
    pub(crate) text_bytes: BTreeMap<Coding, f64>,
}

/// What came of files that were new to the server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct IntroductionSummary {
    pub(crate) files: u64,
    /// How many of them have come compressed: the median.
    pub(crate) coded: f64,
    /// Until the last of them came compressed, in nanoseconds: the median; null if there is a trial in which some hadn't.
    pub(crate) all_coded_ns: Option<f64>,
    /// Bytes of an answer's body over all trials: of first visits, second ones, and so on. Null where there was none.
    pub(crate) bytes_per_answer: Vec<Option<f64>>,
}

/// Memory in bytes: medians over the trials.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct MemorySummary {
    pub(crate) connections: usize,
    pub(crate) base_user: Option<f64>,
    pub(crate) loaded_user: Option<f64>,
    /// Kernel stacks and page tables of the server, with all connections.
    pub(crate) loaded_kernel: Option<f64>,
    /// Growth of socket buffers and slab on the whole machine, the client's half included.
    pub(crate) machine_growth: Option<f64>,
}

impl Figures {
    /// What `target` did, from the trials of one cell; `None` if none counts.
    pub(crate) fn of(target: &str, trials: &[&Trial]) -> Option<Figures> {
        let mine = || trials.iter().copied().filter(|trial| trial.target == target);
        let counted: Vec<&Trial> = mine().filter(|trial| trial.counts()).collect();
        let voids = mine().filter(|trial| trial.void.is_some()).count();
        let first = counted.first()?;
        let estimates = Measure::ALL.into_iter().filter_map(|measure| {
            let values: Option<Vec<f64>> = counted.iter().map(|trial| measure.of_trial(trial)).collect();
            Some((measure, median_estimate(&values?)?))
        });
        let bound = counted.iter().filter(|trial| is_client_bound(trial)).count();
        let (errors, unanswered) = shares(&counted);
        let all = |f: &dyn Fn(&Trial) -> Option<f64>| middle(&counted, f);
        Some(Figures {
            target: target.to_owned(),
            trials: counted.len(),
            voids,
            estimates: estimates.collect(),
            classes: (0..first.classes.len()).filter_map(|index| ClassSummary::of(&counted, index)).collect(),
            user_ns: all(&|trial| per_answer(trial, trial.cost.user_ns)),
            system_ns: all(&|trial| per_answer(trial, trial.cost.system_ns)),
            context_switches: CallsPerRequest::context_switches(mine()),
            page_faults: all(&|trial| per_answer(trial, trial.cost.page_faults)),
            calls: CallsPerRequest::of(mine()),
            wire_bytes: all(&|trial| trial.main_class()?.wire_bytes_per_answer),
            traffic: TrafficSummary::of(&counted),
            introduction: IntroductionSummary::of(&counted),
            device_read_bytes: all(&|trial| per_answer(trial, trial.device_read_bytes)),
            error_share: errors,
            unanswered_share: unanswered,
            client_busy: all(&|trial| Some(trial.client_busy)).unwrap_or_default(),
            client_bound: 2 * bound >= counted.len(),
            limiter: most_frequent(&counted),
            memory: MemorySummary::of(&counted),
            threads: all(&|trial| Some(trial.server_threads as f64)).unwrap_or_default(),
            ring_workers: all(&|trial| Some(trial.ring_workers as f64)).unwrap_or_default(),
        })
    }

    /// What may be told of a measure.
    pub(crate) fn reading(&self, measure: Measure) -> Reading {
        Reading::of(self.estimates.get(&measure))
    }

    /// Its number, if that may be told.
    pub(crate) fn estimate(&self, measure: Measure) -> Option<Estimate> {
        self.reading(measure).told()
    }

    /// Why this measure takes no part in a ranking; `None` if it does.
    pub(crate) fn unranked(&self, measure: Measure) -> Option<String> {
        if self.error_share > ERROR_SHARE_MAX {
            return Some(format!("{:.2} % of its requests failed", self.error_share * 100.0));
        }
        if self.client_bound && measure.is_spoilt_by_the_client() {
            return Some("the client was the limit".to_owned());
        }
        (!self.estimates.contains_key(&measure)).then(|| "not measured".to_owned())
    }
}

pub(crate) fn is_client_bound(trial: &Trial) -> bool {
    let late = trial.main_class().is_some_and(|class| {
        let response = class.response.as_ref().and_then(|latency| latency.p99_ns).unwrap_or(0) as f64;
        class
            .lag_p99_ns
            .is_some_and(|lag| lag as f64 > (LAG_MAX.as_nanos() as f64).max(LAG_SHARE_MAX * response))
    });
    late || trial.client_busy > BUSY_MAX || trial.limiter == Limiter::ClientCpu
}

fn per_answer(trial: &Trial, count: Option<u64>) -> Option<f64> {
    let answers = trial.answers();
    (answers > 0).then_some(count? as f64 / answers as f64)
}

/// The median over all trials; `None` if one of them lacks the value.
fn middle(trials: &[&Trial], f: &dyn Fn(&Trial) -> Option<f64>) -> Option<f64> {
    let values: Option<Vec<f64>> = trials.iter().map(|trial| f(trial)).collect();
    median(&values?)
}

/// The shares of failures, and of requests of the first class without an answer.
fn shares(trials: &[&Trial]) -> (f64, f64) {
    let sum = |f: &dyn Fn(&Trial) -> u64| trials.iter().map(|trial| f(trial)).sum::<u64>() as f64;
    let share = |part: f64, rest: f64| if part > 0.0 { part / (part + rest) } else { 0.0 };
    let answers = sum(&|trial| trial.answers());
    let errors = share(sum(&|trial| trial.errors()), answers);
    let unanswered = sum(&|trial| trial.main_class().map_or(0, |class| class.unanswered));
    let main = sum(&|trial| trial.main_class().map_or(0, |class| class.answers));
    (errors, share(unanswered, main))
}

fn most_frequent(trials: &[&Trial]) -> Option<Limiter> {
    let mut counts: BTreeMap<Limiter, usize> = BTreeMap::new();
    for trial in trials {
        *counts.entry(trial.limiter).or_default() += 1;
    }
    counts.into_iter().max_by_key(|(_, count)| *count).map(|(limiter, _)| limiter)
}

impl ClassSummary {
    fn of(trials: &[&Trial], index: usize) -> Option<ClassSummary> {
        let first = trials.first()?.classes.get(index)?;
        let quantile = |measure: Measure| {
            middle(trials, &|trial| measure.of_latency(latency(trial.classes.get(index)?)?))
        };
        Some(ClassSummary {
            name: first.name.clone(),
            connections: first.connections,
            offered_per_second: middle(trials, &|trial| trial.classes.get(index)?.offered_per_second),
            answers_per_second: middle(trials, &|trial| Some(trial.classes.get(index)?.answers_per_second))?,
            p50_ns: quantile(Measure::P50),
            p99_ns: quantile(Measure::P99),
            p999_ns: quantile(Measure::P999),
        })
    }
}

impl CallsPerRequest {
    /// The counting passes among these trials and the sum of their answers, which isn't 0.
    fn passes<'a>(trials: impl Iterator<Item = &'a Trial>) -> Option<(Vec<&'a Trial>, u64)> {
        let counting: Vec<&Trial> = trials
            .filter(|trial| trial.pass == Pass::Counting && trial.void.is_none() && trial.calls.is_some())
            .collect();
        let answers = counting.iter().map(|trial| trial.answers()).sum::<u64>();
        (answers > 0).then_some((counting, answers))
    }

    fn context_switches<'a>(trials: impl Iterator<Item = &'a Trial>) -> Option<f64> {
        let (counting, answers) = CallsPerRequest::passes(trials)?;
        let calls = counting.iter().filter_map(|trial| trial.calls.as_ref());
        let switches = calls.map(|calls| calls.context_switches).sum::<Option<u64>>()?;
        Some(switches as f64 / answers as f64)
    }

    fn of<'a>(trials: impl Iterator<Item = &'a Trial>) -> Option<CallsPerRequest> {
        let (counting, answers) = CallsPerRequest::passes(trials)?;
        let calls = || counting.iter().filter_map(|trial| trial.calls.as_ref());
        let each = |count: u64| count as f64 / answers as f64;
        let by_name: Option<Vec<&BTreeMap<String, u64>>> =
            calls().map(|calls| calls.system_calls.as_ref()).collect();
        let system_calls = by_name.map(|passes| {
            let mut sums: BTreeMap<String, u64> = BTreeMap::new();
            for (name, count) in passes.into_iter().flatten() {
                *sums.entry(name.clone()).or_default() += count;
            }
            sums.into_iter().filter(|(_, count)| *count > 0).map(|(name, sum)| (name, each(sum))).collect()
        });
        Some(CallsPerRequest {
            system_calls,
            ring_submissions: calls().map(|calls| calls.ring_submissions).sum::<Option<u64>>().map(each),
            ring_completions: calls().map(|calls| calls.ring_completions).sum::<Option<u64>>().map(each),
            ring_punts: calls().map(|calls| calls.ring_punts).sum::<Option<u64>>().map(each),
        })
    }

    /// System calls of any name per request.
    pub(crate) fn system_calls_sum(&self) -> Option<f64> {
        self.system_calls.as_ref().map(|by_name| by_name.values().sum())
    }
}

impl TrafficSummary {
    fn of(trials: &[&Trial]) -> Option<TrafficSummary> {
        let mut sum = Traffic::default();
        for trial in trials {
            sum.merge(trial.main_class()?.traffic.as_ref()?);
        }
        let answers = sum.answers();
        let each = |bytes: u64| bytes as f64 / answers as f64;
        (answers > 0).then(|| TrafficSummary {
            not_modified_share: each(sum.not_modified),
            head_bytes: each(sum.head_bytes),
            picture_bytes: each(sum.pictures.body_bytes),
            text_bytes: sum.text.iter().map(|(coding, sent)| (*coding, each(sent.body_bytes))).collect(),
        })
    }

    pub(crate) fn wire_bytes(&self) -> f64 {
        self.head_bytes + self.picture_bytes + self.text_bytes.values().sum::<f64>()
    }
}

impl IntroductionSummary {
    fn of(trials: &[&Trial]) -> Option<IntroductionSummary> {
        fn one(trial: &Trial) -> Option<&Introduction> {
            trial.classes.iter().find_map(|class| class.introduction.as_ref())
        }
        let all: Vec<&Introduction> = trials.iter().map(|trial| one(trial)).collect::<Option<_>>()?;
        let bytes = |visit: usize| {
            let sent = || all.iter().filter_map(|introduction| introduction.visits.get(visit));
            let answers: u64 = sent().map(|sent| sent.answers).sum();
            let bytes: u64 = sent().map(|sent| sent.body_bytes).sum();
            (answers > 0).then(|| bytes as f64 / answers as f64)
        };
        Some(IntroductionSummary {
            files: all.first()?.files,
            coded: middle(trials, &|trial| Some(one(trial)?.coded as f64))?,
            all_coded_ns: middle(trials, &|trial| Some(one(trial)?.all_coded_ns? as f64)),
            bytes_per_answer: (0..VISITS_MAX).map(bytes).collect(),
        })
    }
}

impl MemorySummary {
    fn of(trials: &[&Trial]) -> Option<MemorySummary> {
        let first = trials.first()?;
        first.memory?;
        let read = |f: &dyn Fn(MemoryRecord, MemoryRecord) -> Option<f64>| {
            middle(trials, &|trial| trial.memory.and_then(|memory| f(memory.base, memory.loaded)))
        };
        let sum = |one: Option<u64>, other: Option<u64>| Some((one? + other?) as f64);
        let grown = |one: Option<i64>, other: Option<i64>| Some((one? + other?) as f64);
        Some(MemorySummary {
            connections: first.classes.iter().map(|class| class.connections).sum(),
            base_user: read(&|base, _| base.pss_bytes.map(|bytes| bytes as f64)),
            loaded_user: read(&|_, loaded| loaded.pss_bytes.map(|bytes| bytes as f64)),
            loaded_kernel: read(&|_, loaded| sum(loaded.kernel_stack_bytes, loaded.page_table_bytes)),
            machine_growth: read(&|base, loaded| {
                let growth = grown(loaded.socket_bytes, loaded.slab_bytes)?
                    - grown(base.socket_bytes, base.slab_bytes)?;
                Some(growth.max(0.0))
            }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::trial::CallsRecord;
    use crate::record::trial::tests::trial;

    fn figures(trials: &[Trial]) -> Figures {
        Figures::of("epoll", &trials.iter().collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn voids_and_counting_passes_take_no_part() {
        let mut trials =
            vec![trial("epoll", 0, 8_000.0), trial("epoll", 1, 9_000.0), trial("epoll", 2, 10_000.0)];
        trials.push(trial("uring", 0, 1.0));
        let mut void = trial("epoll", 1, 1.0);
        void.void = Some("steal".to_owned());
        trials.push(void);
        let mut counting = trial("epoll", 0, 50_000.0);
        counting.pass = Pass::Counting;
        counting.calls = Some(CallsRecord {
            system_calls: Some(BTreeMap::from([("sendto".to_owned(), 50_000), ("openat2".to_owned(), 0)])),
            ring_submissions: None,
            ..CallsRecord::default()
        });
        trials.push(counting);
        let figures = figures(&trials);
        assert_eq!((figures.trials, figures.voids), (3, 1));
        assert!((figures.estimates[&Measure::CpuPerRequest].value - 9_000.0).abs() < 1e-6);
        let calls = figures.calls.unwrap();
        assert_eq!(calls.system_calls, Some(BTreeMap::from([("sendto".to_owned(), 1.0)])));
        assert_eq!(calls.ring_submissions, None);
        assert_eq!(figures.system_ns, None, "what isn't measured stays unknown");
        assert!(Figures::of("nginx", &[]).is_none());
    }

    #[test]
    fn a_quantile_that_one_trial_cannot_tell_is_not_told() {
        let mut trials = vec![trial("epoll", 0, 8_000.0), trial("epoll", 1, 8_000.0)];
        assert_ne!(figures(&trials).reading(Measure::P99), Reading::Unmeasured);
        trials[1].classes[0].service.as_mut().unwrap().p99_ns = None;
        let figures = figures(&trials);
        assert_eq!(figures.reading(Measure::P99), Reading::Unmeasured);
        assert_eq!(figures.unranked(Measure::P99).unwrap(), "not measured");
        assert_eq!(figures.unranked(Measure::CpuPerRequest), None);
    }

    #[test]
    fn a_number_that_is_too_noisy_is_not_told() {
        let of = |values: &[f64]| {
            let trials = values.iter().enumerate().map(|(round, value)| trial("epoll", round, *value));
            figures(&trials.collect::<Vec<_>>())
        };
        let quiet = of(&[8_000.0, 8_100.0, 8_200.0, 8_050.0]);
        assert!((quiet.estimate(Measure::CpuPerRequest).unwrap().value - 8_075.0).abs() < 1e-6);
        let noisy = of(&[8_000.0, 4_000.0, 16_000.0, 8_000.0]);
        assert!(noisy.reading(Measure::CpuPerRequest).is_too_noisy());
        assert_eq!(
            (noisy.estimate(Measure::CpuPerRequest), noisy.unranked(Measure::CpuPerRequest)),
            (None, None)
        );
    }

    #[test]
    fn rule_3_and_rule_5() {
        let mut trials = vec![trial("epoll", 0, 8_000.0), trial("epoll", 1, 8_000.0)];
        trials[0].client_busy = 0.9;
        let bound = figures(&trials);
        assert!(bound.client_bound);
        assert!(bound.unranked(Measure::Rate).is_some() && bound.unranked(Measure::CpuPerRequest).is_none());
        trials[0].client_busy = 0.5;
        trials[0].classes[0].lag_p99_ns = Some(50_001);
        assert!(is_client_bound(&trials[0]) && !is_client_bound(&trials[1]));
        trials[0].classes[0].response = trials[0].classes[0].service.clone();
        trials[0].classes[0].response.as_mut().unwrap().p99_ns = Some(2_000_000);
        assert!(!is_client_bound(&trials[0]), "5 % of 2 ms is more than 50 µs");
        trials[1].classes[0].errors.insert("reset".to_owned(), 10);
        assert_eq!(figures(&trials).unranked(Measure::CpuPerRequest), None, "10 in 100,010 is below 0.01 %");
        trials[1].classes[0].errors.insert("status".to_owned(), 1);
        assert!(figures(&trials).unranked(Measure::CpuPerRequest).unwrap().contains("failed"));
    }
}
