//! One verdict of a claim's findings.

use crate::claims::book::{Claim, Combine, Source};
use crate::claims::chapter::Scene;
use crate::claims::evidence::Evidence;
use crate::claims::judge::{Finding, Number, Outcome, judge};
use crate::claims::wording;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// What becomes of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Verdict {
    Holds,
    DoesNotHold,
    /// A part of it holds and another doesn't, or it holds from somewhere on.
    HoldsUnderACondition,
    CannotBeTold,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Verdict::Holds => "holds",
            Verdict::DoesNotHold => "doesn't hold",
            Verdict::HoldsUnderACondition => "holds under a condition",
            Verdict::CannotBeTold => "can't be told here",
        })
    }
}

/// A claim and what became of it: an entry of `claims.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Judged {
    pub(crate) id: String,
    pub(crate) says: String,
    pub(crate) source: Source,
    pub(crate) hypothesis: String,
    pub(crate) refuted: String,
    pub(crate) verdict: Verdict,
    /// What the verdict rests on, in a word or two: a number with its interval, where it turns, or what was shown.
    pub(crate) figure: String,
    /// The same as a number, where there is one.
    pub(crate) number: Option<Number>,
    /// What was found, in a sentence.
    pub(crate) sentence: String,
    pub(crate) findings: Vec<Finding>,
}

impl Judged {
    pub(crate) fn of(claim: &Claim, evidence: Evidence<'_>, scenes: &BTreeMap<String, Scene>) -> Judged {
        let findings: Vec<Finding> = claim.rules.iter().map(|rule| judge(rule, evidence, scenes)).collect();
        let outcomes: Vec<&Outcome> = findings.iter().map(|finding| &finding.outcome).collect();
        let verdict = combine(claim.combine, &outcomes);
        let number = findings.iter().find_map(|finding| finding.number);
        Judged {
            id: claim.id.clone(),
            says: claim.says.clone(),
            source: claim.source,
            hypothesis: claim.hypothesis.clone(),
            refuted: claim.refuted.clone(),
            verdict,
            figure: figure(verdict, &findings),
            number,
            sentence: wording::sentence(&findings),
            findings,
        }
    }

    /// The finding that its figure is from: the one that turns, or the first with a number, or the first.
    pub(crate) fn main_finding(&self) -> Option<&Finding> {
        let turns = |finding: &&Finding| matches!(finding.outcome, Outcome::Turns(_));
        let mut its = self.findings.iter();
        let turning = self.findings.iter().find(turns);
        let turning = turning.filter(|_| self.verdict == Verdict::HoldsUnderACondition);
        turning
            .or_else(|| self.findings.iter().find(|finding| finding.number.is_some()))
            .or_else(|| its.next())
    }
}

fn figure(verdict: Verdict, findings: &[Finding]) -> String {
    let turn = findings.iter().find_map(|finding| match &finding.outcome {
        Outcome::Turns(turn) => Some(turn.clone()),
        _ => None,
    });
    match (verdict, turn, findings.iter().find_map(Finding::figure)) {
        (Verdict::HoldsUnderACondition, Some(turn), _) => turn,
        (_, _, Some(number)) => number,
        (Verdict::CannotBeTold, ..) => "not measured".to_owned(),
        _ => "shown".to_owned(),
    }
}

/// What is surely refuted is refuted, whatever can't be told besides.
fn combine(how: Combine, outcomes: &[&Outcome]) -> Verdict {
    // What is only told besides is none of these.
    let is_there = |wanted: fn(&Outcome) -> bool| outcomes.iter().any(|outcome| wanted(outcome));
    let holds = is_there(|outcome| matches!(outcome, Outcome::Holds));
    let fails = is_there(|outcome| matches!(outcome, Outcome::Fails));
    let turns = is_there(|outcome| matches!(outcome, Outcome::Turns(_)));
    let open = is_there(|outcome| matches!(outcome, Outcome::Open(_)));
    match how {
        Combine::All if fails => Verdict::DoesNotHold,
        _ if open => Verdict::CannotBeTold,
        _ if turns || fails && holds => Verdict::HoldsUnderACondition,
        _ if fails => Verdict::DoesNotHold,
        _ => Verdict::Holds,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_combine_as_the_claim_says() {
        let (holds, fails, told) = (Outcome::Holds, Outcome::Fails, Outcome::Told);
        let (turns, open) = (Outcome::Turns("from 8 on".to_owned()), Outcome::Open("noise".to_owned()));
        let table: [(&[&Outcome], Verdict, Verdict); 9] = [
            (&[&told, &fails, &told], Verdict::DoesNotHold, Verdict::DoesNotHold),
            (&[&holds, &holds], Verdict::Holds, Verdict::Holds),
            (&[&fails, &fails], Verdict::DoesNotHold, Verdict::DoesNotHold),
            (&[&holds, &fails], Verdict::DoesNotHold, Verdict::HoldsUnderACondition),
            (&[&holds, &turns], Verdict::HoldsUnderACondition, Verdict::HoldsUnderACondition),
            (&[&fails, &turns], Verdict::DoesNotHold, Verdict::HoldsUnderACondition),
            (&[&holds, &open], Verdict::CannotBeTold, Verdict::CannotBeTold),
            (&[&fails, &open], Verdict::DoesNotHold, Verdict::CannotBeTold),
            (&[&turns, &open], Verdict::CannotBeTold, Verdict::CannotBeTold),
        ];
        for (outcomes, all, each) in table {
            assert_eq!(combine(Combine::All, outcomes), all, "{outcomes:?}");
            assert_eq!(combine(Combine::Each, outcomes), each, "{outcomes:?}");
        }
    }

    #[test]
    fn every_outcome_has_a_figure() {
        let finding = |outcome, number| Finding {
            text: "x".to_owned(),
            outcome,
            number,
            bound: None,
            points: Vec::new(),
            scenario: None,
            field: None,
        };
        let number = Number { value: 3.0, interval: None, unit: crate::claims::quantity::Unit::Times };
        let of = |verdict, finding: Finding| figure(verdict, std::slice::from_ref(&finding));
        assert_eq!(of(Verdict::Holds, finding(Outcome::Holds, Some(number))), "3×");
        let turns = finding(Outcome::Turns("from 8 on".to_owned()), Some(number));
        assert_eq!(of(Verdict::HoldsUnderACondition, turns), "from 8 on");
        assert_eq!(of(Verdict::Holds, finding(Outcome::Holds, None)), "shown");
        assert_eq!(of(Verdict::CannotBeTold, finding(Outcome::Open("no".to_owned()), None)), "not measured");
    }
}
