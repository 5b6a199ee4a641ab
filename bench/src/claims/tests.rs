//! Rules on records of known truth: servers whose costs are given, with noise, and the verdict that must come out.

use crate::claims::book::Book;
use crate::claims::chapter::{Scene, Shown};
use crate::claims::evidence::Evidence;
use crate::claims::field::Answer;
use crate::claims::judge::{Finding, Outcome, judge};
use crate::claims::rule::Rule;
use crate::claims::verdict::{Judged, Verdict};
use crate::random::Random;
use crate::record::trial::tests::trial;
use crate::record::trial::{CallsRecord, CellId, Limiter, MemoryFigures, MemoryRecord, Pass, Trial};
use crate::record::{CellRecord, Family, Record, SlowDiskRecord, TargetRecord};
use crate::run::scenario::whole;
use std::collections::BTreeMap;

/// Idle connections; their truth is a line.
const POINTS: [f64; 4] = [1.0, 100.0, 1_000.0, 10_000.0];

/// A scenario `line` with an axis, and servers of known cost.
struct Stage {
    record: Record,
    trials: Vec<Trial>,
    random: Random,
    rounds: usize,
    noise: f64,
}

impl Stage {
    fn new(rounds: usize, noise: f64) -> Stage {
        let mut record = crate::record::tests::record();
        let mut scenario = Book::read().unwrap().scenarios[0].clone();
        scenario.name = "line".to_owned();
        scenario.axis.as_mut().unwrap().name = "idle connections".to_owned();
        record.scenarios = vec![scenario];
        record.targets.clear();
        record.cells = POINTS
            .map(|value| CellRecord {
                id: CellId { scenario: "line".to_owned(), point: value.to_string() },
                value: Some(value),
                targets: Vec::new(),
                failures: BTreeMap::new(),
                ended: None,
                trials_from: 0,
            })
            .to_vec();
        Stage { record, trials: Vec::new(), random: Random::new(11), rounds, noise }
    }

    /// A server whose requests cost so much at each point, in nanoseconds. Its requests take four calls each.
    fn server(mut self, id: &str, cost: impl Fn(f64) -> f64) -> Stage {
        self.record.targets.push(TargetRecord {
            id: id.to_owned(),
            label: id.to_owned(),
            family: Family::Lab,
            backend: None,
            twin_of: id.strip_suffix("-twin").map(str::to_owned),
            version: None,
            configuration: None,
            unavailable: None,
        });
        for cell in &self.record.cells {
            for round in 0..self.rounds {
                let noise: f64 = (0..12).map(|_| self.random.fraction()).sum::<f64>() - 6.0;
                let value = cell.value.unwrap();
                let mut trial = trial(id, round, cost(value) * (self.noise * noise).exp());
                trial.cell = cell.id.clone();
                trial.place.number = self.trials.len();
                let bytes = 1_000_000.0 + 100.0 * value;
                let loaded = MemoryRecord {
                    anonymous_bytes: Some(whole(bytes) as u64),
                    kernel_stack_bytes: Some(0),
                    page_table_bytes: Some(0),
                    ..MemoryRecord::default()
                };
                trial.memory = Some(MemoryFigures { base: MemoryRecord::default(), loaded });
                let counting = Trial {
                    pass: Pass::Counting,
                    calls: Some(CallsRecord {
                        system_calls: Some(BTreeMap::from([("recv".to_owned(), 200_000)])),
                        ..CallsRecord::default()
                    }),
                    ..trial.clone()
                };
                self.trials.extend([trial, counting]);
            }
        }
        self
    }

    fn judge(&self, rule: &str) -> Finding {
        let rule: Rule = toml::from_str(&format!("says = \"it is {{number}}, {{turn}}\"\n{rule}")).unwrap();
        judge(&rule, Evidence { run: Some((&self.record, &self.trials)), wrk: None }, &BTreeMap::new())
    }

    fn outcome(&self, rule: &str) -> Outcome {
        self.judge(rule).outcome
    }

    /// Why a rule decides nothing.
    fn reason(&self, rule: &str) -> String {
        match self.outcome(rule) {
            Outcome::Open(reason) => reason,
            outcome => panic!("{rule}: {outcome:?}"),
        }
    }
}

const SLOPE: &str = "kind = \"slope\"\nscenario = \"line\"\nmeasure = \"cpu-per-request\"\n";
const RATIO: &str = "kind = \"ratio\"\nscenario = \"line\"\nmeasure = \"cpu-per-request\"\nabove = \"poll\"\nbelow = \"epoll\"\n";
const TURNS: &str = "kind = \"turns\"\nscenario = \"line\"\nmeasure = \"cpu-per-request\"\nabove = \"poll\"\nbelow = \"epoll\"\n";
const LIMIT: &str = "kind = \"limit\"\nscenario = \"line\"\ntarget = \"epoll\"\n";

/// poll pays 30 ns for each idle connection, epoll nothing.
fn known(rounds: usize, noise: f64) -> Stage {
    Stage::new(rounds, noise)
        .server("poll", |idle| 10_000.0 + 30.0 * idle)
        .server("epoll", |_| 10_000.0)
        .server("epoll-twin", |_| 10_000.0)
}

#[test]
fn a_slope_is_found_and_no_slope_is_none() {
    let stage = known(4, 0.05);
    let finding = stage.judge(&format!("{SLOPE}target = \"poll\"\nat-least = 5"));
    assert_eq!(finding.outcome, Outcome::Holds, "{finding:?}");
    let number = finding.number.unwrap();
    assert!((27.0..33.0).contains(&number.value), "{number:?}");
    assert!(finding.text.starts_with("it is ") && finding.text.contains("\u{a0}ns ["), "{}", finding.text);
    assert_eq!(stage.outcome(&format!("{SLOPE}target = \"poll\"\nat-most = 5")), Outcome::Fails);
    assert_eq!(stage.outcome(&format!("{SLOPE}target = \"epoll\"\nat-most = 1")), Outcome::Holds);
    assert_eq!(stage.outcome(&format!("{SLOPE}target = \"epoll\"\nat-least = 5")), Outcome::Fails);
    let beside = stage.judge(&format!("{SLOPE}target = \"poll\"\nbeside = \"epoll\"\nat-least = 5"));
    assert_eq!(beside.outcome, Outcome::Holds, "{beside:?}");
    let memory = SLOPE.replace("cpu-per-request", "memory");
    let finding = stage.judge(&format!("{memory}target = \"epoll\"\nat-most = 4096"));
    assert_eq!(
        (finding.outcome, finding.text.as_str()),
        (Outcome::Holds, "it is 100\u{a0}B, an unknown number")
    );
}

#[test]
fn noise_wider_than_the_effect_decides_nothing() {
    let stage = known(3, 1.5);
    let reason = stage.reason(&format!("{RATIO}at = 1\nat-least = 1.2"));
    assert!(reason.starts_with("the interval is wider than the distance to the bound of 1.20×"), "{reason}");
    let reason = stage.reason(&format!("{SLOPE}target = \"poll\"\nat-least = 25"));
    assert!(reason.starts_with("the interval is wider"), "{reason}");
    // A narrow interval is no help where two copies of one server differ by as much.
    let stage = Stage::new(8, 0.001)
        .server("poll", |_| 10_500.0)
        .server("epoll", |_| 10_000.0)
        .server("epoll-twin", |_| 11_000.0);
    let reason = stage.reason(&format!("{RATIO}at = 1\nat-least = 1.0"));
    assert!(reason.starts_with("two copies of one server differ by more than this"), "{reason}");
}

#[test]
fn a_ratio_is_held_against_its_bound() {
    let stage = known(6, 0.03);
    assert_eq!(stage.outcome(&format!("{RATIO}at = 10000\nat-least = 5")), Outcome::Holds);
    assert_eq!(stage.outcome(&format!("{RATIO}at = 1\nat-least = 5")), Outcome::Fails);
    assert_eq!(stage.outcome(&format!("{RATIO}at = 1\nat-most = 1.25")), Outcome::Holds);
    let value = "kind = \"value\"\nscenario = \"line\"\ntarget = \"epoll\"\nat = 1000\n";
    assert_eq!(
        stage.outcome(&format!("{value}measure = \"cpu-per-request\"\nat-most = 20000")),
        Outcome::Holds
    );
    assert_eq!(
        stage.outcome(&format!("{value}measure = \"calls-per-request\"\nat-least = 5")),
        Outcome::Fails
    );
    let change = RATIO.replace("ratio", "change");
    assert_eq!(stage.outcome(&format!("{change}from = 1\nto = 10000\nat-least = 2")), Outcome::Holds);
    assert_eq!(stage.outcome(&format!("{change}from = 1\nto = 100\nat-least = 2")), Outcome::Fails);
}

#[test]
fn where_it_turns_is_told() {
    let stage = known(6, 0.03);
    let finding = stage.judge(&format!("{TURNS}at-least = 2"));
    assert_eq!(finding.outcome, Outcome::Turns("from 1,000 idle connections on".to_owned()));
    assert!(finding.text.ends_with("from 1,000 idle connections on"), "{}", finding.text);
    let up_to = stage.outcome(&format!("{TURNS}at-most = 2"));
    assert_eq!(up_to, Outcome::Turns("up to 100 idle connections".to_owned()));
    assert_eq!(stage.outcome(&format!("{TURNS}at-least = 0.5")), Outcome::Holds);
    assert_eq!(stage.outcome(&format!("{TURNS}at-least = 90")), Outcome::Fails);
    let value = TURNS.replace("below = \"epoll\"\n", "");
    let turns = stage.outcome(&format!("{value}at-least = 20000"));
    assert_eq!(turns, Outcome::Turns("from 1,000 idle connections on".to_owned()));
    // 1.3 at 100: between what is surely kept and surely broken lies what can't be told.
    let turns = stage.outcome(&format!("{TURNS}at-least = 1.3"));
    assert_eq!(turns, Outcome::Turns("from 1,000 idle connections on, at the latest".to_owned()));
    let zigzag = Stage::new(6, 0.01)
        .server("poll", |idle| if (50.0..5_000.0).contains(&idle) { 40_000.0 } else { 10_000.0 })
        .server("epoll", |_| 10_000.0);
    let reason = zigzag.reason(&format!("{TURNS}at-least = 2"));
    assert_eq!(reason, "it goes back and forth along the axis");
}

#[test]
fn a_limit_is_how_far_a_server_came() {
    let mut stage = known(3, 0.01);
    let reason = |stage: &Stage| stage.reason(&format!("{LIMIT}at-least = 20000"));
    assert_eq!(reason(&stage), "more weren't tried");
    assert_eq!(stage.outcome(&format!("{LIMIT}at-least = 10000")), Outcome::Holds);
    assert_eq!(stage.outcome(&format!("{LIMIT}at-most = 4000")), Outcome::Fails, "it came further");
    let line = || "epoll: it closed the connection".to_owned();
    for cell in stage.record.cells.iter_mut().filter(|cell| cell.value > Some(100.0)) {
        cell.failures.insert("epoll".to_owned(), line());
    }
    stage.trials.retain(|trial| !(trial.target == "epoll" && trial.cell.point.len() > 3));
    let finding = stage.judge(&format!("{LIMIT}at-most = 1024"));
    assert_eq!(finding.outcome, Outcome::Holds);
    let expected = "100 idle connections served, and not 1,000 (it closed the connection)";
    assert_eq!(finding.text, format!("it is 100, {expected}"));
    assert_eq!(stage.outcome(&format!("{LIMIT}at-least = 10000")), Outcome::Fails);
    // The limit of this machine isn't the server's.
    for cell in &mut stage.record.cells {
        cell.failures.retain(|_, line| {
            *line = "20032 descriptors are needed, and 1024 allowed".to_owned();
            true
        });
    }
    assert_eq!(
        stage.reason(&format!("{LIMIT}at-least = 10000")),
        "20032 descriptors are needed, and 1024 allowed"
    );
}

#[test]
fn the_cheapest_is_who_costs_no_more_than_others() {
    let stage = Stage::new(8, 0.01)
        .server("blocking", |_| 10_000.0)
        .server("epoll", |idle| if idle > 50.0 { 8_000.0 } else { 10_000.0 })
        .server("uring", |_| 15_000.0)
        .server("epoll-twin", |idle| if idle > 50.0 { 8_000.0 } else { 10_000.0 });
    let rule = |at: u32| {
        stage.outcome(&format!(
            "kind = \"cheapest\"\nscenario = \"line\"\nat = {at}\namong = [\"blocking\", \"epoll\", \"uring\"]\n\
             expected = \"blocking\"\ntolerance = 1.1"
        ))
    };
    assert_eq!(rule(1), Outcome::Holds, "as cheap as another is cheap enough");
    assert_eq!(rule(100), Outcome::Fails);
}

#[test]
fn a_field_has_who_is_the_cheapest_or_who_may_be() {
    let field = |stage: &Stage| {
        let finding = stage.judge(
            "kind = \"field\"\nscenario = \"line\"\nat = 1\namong = [\"blocking\", \"epoll\", \"uring\"]\n\
             row = \"little, from memory\"\ncolumn = \"few\"",
        );
        assert_eq!(finding.outcome, Outcome::Told);
        let field = finding.field.unwrap();
        assert_eq!((field.row.as_str(), field.column.as_str()), ("little, from memory", "few"));
        field.answer
    };
    let servers = |noise, [blocking, epoll, uring]: [f64; 3]| {
        let stage = Stage::new(8, noise).server("blocking", |_| blocking).server("epoll", |_| epoll);
        stage.server("uring", |_| uring).server("epoll-twin", |_| epoll)
    };
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let Answer::Cheapest { server, share, next } = field(&servers(0.01, [15_000.0, 8_000.0, 10_000.0]))
    else {
        panic!("it is epoll");
    };
    assert_eq!((server.as_str(), next.as_str()), ("epoll", "uring"));
    assert!((0.78..0.82).contains(&share.value), "{share:?}");
    let alike = |answer, expected: &[&str]| assert_eq!(answer, Answer::Alike(names(expected)));
    alike(field(&servers(0.01, [10_000.0; 3])), &["blocking", "epoll", "uring"]);
    alike(field(&servers(0.01, [10_000.0, 10_000.0, 15_000.0])), &["blocking", "epoll"]);
    let open = field(&servers(0.3, [10_000.0; 3]));
    assert_eq!(open, Answer::Open(names(&["blocking", "epoll", "uring"])), "wide isn't alike");
    let mut failed = servers(0.01, [10_000.0; 3]);
    failed.record.cells[0].failures.insert("uring".to_owned(), "it hangs".to_owned());
    assert_eq!(field(&failed), Answer::Unknown("uring failed in line@1: it hangs".to_owned()));
}

#[test]
fn what_does_not_count_says_why() {
    let rule = format!("{RATIO}at = 1\nat-least = 1.2");
    let two = known(2, 0.01);
    assert_eq!(two.reason(&rule), "2 rounds of poll in line@1, where 3 are needed");
    let mut failed = known(4, 0.01);
    failed.trials.iter_mut().for_each(|trial| {
        trial.classes[0].errors.insert("reset".to_owned(), 1_000);
    });
    assert!(failed.reason(&rule).ends_with("of poll's requests failed in line@1"));
    let mut late = known(4, 0.01);
    late.trials.iter_mut().for_each(|trial| trial.limiter = Limiter::ClientCpu);
    assert_ne!(
        late.outcome(&rule.replace("1.2", "0.5")),
        Outcome::Open(String::new()),
        "CPU time is its own"
    );
    assert_eq!(late.reason(&rule.replace("cpu-per-request", "p50")), "the client was the limit in line@1");
    let mut absent = known(4, 0.01);
    absent.record.targets[0].unavailable = Some("no io_uring here".to_owned());
    assert_eq!(absent.reason(&rule), "poll can't run here: no io_uring here");
    let mut fast = known(4, 0.01);
    fast.record.scenarios[0].slow_disk = true;
    let means = "no control group for it".to_owned();
    fast.record.slow_disk = Some(SlowDiskRecord { means, reads_per_second: None });
    assert_eq!(fast.reason(&rule), "the disk can't be slowed down: no control group for it");
    let mut remembered = known(4, 0.01);
    let reason = "the names of files stay in the kernel's caches: no".to_owned();
    remembered.trials[0].unmeasured.insert("forgotten_names".to_owned(), reason.clone());
    assert_eq!(remembered.reason(&rule), reason);
    let mut blind = known(4, 0.01);
    blind.trials.retain(|trial| trial.pass == Pass::Timing);
    let counted = rule.replace("cpu-per-request", "calls-per-request");
    assert_eq!(blind.reason(&counted), "nothing was counted of poll in line@1");
    assert_eq!(known(4, 0.01).reason(&rule.replace("line", "elsewhere")), "elsewhere wasn't measured");
    assert_eq!(known(4, 0.01).reason(&rule.replace("= 1\n", "= 7\n")), "line wasn't measured at 7");
    let void =
        |stage: &mut Stage| stage.trials.iter_mut().for_each(|trial| trial.void = Some("x".to_owned()));
    let mut disturbed = known(4, 0.01);
    void(&mut disturbed);
    assert_eq!(disturbed.reason(&rule), "poll wasn't measured in line@1");
}

#[test]
fn a_claim_without_a_run_is_judged_by_what_was_shown() {
    let book = Book::read().unwrap();
    let scene = |shown| Scene { shown, lines: Vec::new() };
    let claim = |id: &str| book.claims.iter().find(|claim| claim.id == id).unwrap();
    let judged = |id: &str, shown| {
        let scenes = BTreeMap::from([(id.to_owned(), scene(shown))]);
        Judged::of(claim(id), Evidence { run: None, wrk: None }, &scenes)
    };
    let holds = judged("C3", Shown::AsClaimed);
    assert_eq!((holds.verdict, holds.figure.as_str()), (Verdict::Holds, "shown"));
    assert_eq!(holds.sentence, "epoll_ctl refuses a regular file.");
    let fails = judged("C3", Shown::Otherwise);
    assert_eq!(fails.verdict, Verdict::DoesNotHold);
    assert_eq!(fails.sentence, "It wasn't shown that epoll_ctl refuses a regular file.");
    let impossible = judged("C8", Shown::Impossible("no io_uring here".to_owned()));
    assert_eq!(
        (impossible.verdict, impossible.sentence.as_str()),
        (Verdict::CannotBeTold, "No io_uring here.")
    );
    let unmeasured = judged("C14", Shown::AsClaimed);
    assert_eq!(unmeasured.verdict, Verdict::CannotBeTold);
    assert!(unmeasured.sentence.starts_with("Nothing was measured; "), "{}", unmeasured.sentence);
    for claim in &book.claims {
        let judged = Judged::of(claim, Evidence { run: None, wrk: None }, &BTreeMap::new());
        assert_eq!(judged.verdict, Verdict::CannotBeTold, "{}", claim.id);
        assert!(!judged.sentence.contains('{'), "{}", judged.sentence);
        let text = serde_json::to_string(&judged).unwrap();
        assert_eq!(serde_json::from_str::<Judged>(&text).unwrap(), judged);
    }
}
