//! The book of claims: `bench/claims.toml`, read and checked.

use crate::claims::rule::Rule;
use crate::failure::{Failure, Result};
use crate::nearest;
use crate::run::scenario::{self, Scenario};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The claims of this version.
pub(crate) const TEXT: &str = include_str!("../../claims.toml");

/// Who says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Source {
    /// The article that builds three servers.
    Article,
    /// Those that tell how servers came to hold ten thousand connections.
    Texts,
}

/// How long its experiment takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Takes {
    /// What `cargo bench` can afford.
    Seconds,
    /// A part of the run of all claims.
    All,
}

/// How several rules make one verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Combine {
    /// The claim holds if every rule does.
    #[default]
    All,
    /// The rules are parts that stand for themselves.
    Each,
}

/// A claim.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Claim {
    /// "C13".
    pub(crate) id: String,
    pub(crate) says: String,
    pub(crate) source: Source,
    pub(crate) tier: Takes,
    /// What we expect, written down before the run.
    pub(crate) hypothesis: String,
    /// What would refute the claim.
    pub(crate) refuted: String,
    #[serde(default)]
    pub(crate) combine: Combine,
    #[serde(rename = "rule")]
    pub(crate) rules: Vec<Rule>,
}

/// Claims, and the scenarios that their rules need.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Book {
    #[serde(rename = "claim")]
    pub(crate) claims: Vec<Claim>,
    #[serde(rename = "scenario", default)]
    pub(crate) scenarios: Vec<Scenario>,
}

impl Book {
    /// The book of this version.
    pub(crate) fn read() -> Result<Book> {
        Book::parse(TEXT)
    }

    pub(crate) fn parse(text: &str) -> Result<Book> {
        let mut book: Book = toml::from_str(text).map_err(Failure::context("read the claims"))?;
        // A rule may also use a scenario of the other book, as it is there.
        let known: BTreeSet<String> = book.scenarios.iter().map(|scenario| scenario.name.clone()).collect();
        book.scenarios.extend(scenario::all()?.into_iter().filter(|one| !known.contains(&one.name)));
        let used: BTreeSet<String> = book.used_scenarios(&book.claims.iter().collect::<Vec<_>>());
        book.scenarios.retain(|scenario| used.contains(&scenario.name) || known.contains(&scenario.name));
        for scenario in &book.scenarios {
            scenario.check().map_err(|what| {
                Failure::new(format!("read the claims: the scenario {}: {what}", scenario.name))
            })?;
        }
        let mut ids = BTreeSet::new();
        for claim in &book.claims {
            let what = if ids.insert(claim.id.as_str()) {
                book.check(claim)
            } else {
                Err("it is there twice".to_owned())
            };
            what.map_err(|what| Failure::new(format!("read the claims: {}: {what}", claim.id)))?;
        }
        Ok(book)
    }

    fn check(&self, claim: &Claim) -> std::result::Result<(), String> {
        if claim.rules.is_empty() {
            return Err("it has no rule".to_owned());
        }
        for rule in &claim.rules {
            let Some(name) = rule.test.scenario() else { continue };
            let Some(scenario) = self.scenarios.iter().find(|scenario| scenario.name == name) else {
                return Err(format!("there is no scenario {name:?}"));
            };
            let values = scenario.axis.as_ref().map_or(&[][..], |axis| &axis.values[..]);
            if let Some(point) = rule.test.points().into_iter().find(|point| !values.contains(point)) {
                return Err(format!("{name} has no point {point}"));
            }
            let takes_part = |target: &&str| scenario.servers.iter().any(|name| name == target);
            if let Some(target) = rule.test.targets().into_iter().find(|target| !takes_part(target)) {
                return Err(format!("{target} takes no part in {name}"));
            }
        }
        Ok(())
    }

    /// The claims of these names, in the book's order; all of them for no name.
    ///
    /// # Errors
    ///
    /// An unknown name, with the nearest ones.
    pub(crate) fn select(&self, names: &[String]) -> Result<Vec<&Claim>> {
        let is = |claim: &Claim, name: &str| claim.id.eq_ignore_ascii_case(name);
        if let Some(unknown) = names.iter().find(|name| !self.claims.iter().any(|claim| is(claim, name))) {
            let names = self.claims.iter().map(|claim| claim.id.as_str());
            return Err(nearest::unknown("claim", unknown, names));
        }
        let wanted = |claim: &&Claim| names.is_empty() || names.iter().any(|name| is(claim, name));
        Ok(self.claims.iter().filter(wanted).collect())
    }

    fn used_scenarios(&self, claims: &[&Claim]) -> BTreeSet<String> {
        let rules = claims.iter().flat_map(|claim| &claim.rules);
        rules.filter_map(|rule| rule.test.scenario()).map(str::to_owned).collect()
    }

    /// The scenarios that these claims need, each with no more servers than that: those of the rules, and the twins that
    /// show the noise.
    pub(crate) fn scenarios_of(&self, claims: &[&Claim]) -> Vec<Scenario> {
        let used = self.used_scenarios(claims);
        let all = claims.len() == self.claims.len();
        let needed = |scenario: &str, server: &str| {
            let rules = claims.iter().flat_map(|claim| &claim.rules);
            let mut its = rules.filter(|rule| rule.test.scenario() == Some(scenario));
            its.any(|rule| rule.test.targets().contains(&server))
        };
        let mut scenarios: Vec<Scenario> =
            self.scenarios.iter().filter(|scenario| used.contains(&scenario.name)).cloned().collect();
        for scenario in scenarios.iter_mut().filter(|_| !all) {
            let name = scenario.name.clone();
            scenario.servers.retain(|server| server.ends_with("-twin") || needed(&name, server));
            let is_there = |server: &str| needed(&name, server);
            let lonely =
                |server: &String| server.strip_suffix("-twin").is_some_and(|original| !is_there(original));
            scenario.servers.retain(|server| !lonely(server));
        }
        scenarios
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::scenario::Tier;
    use crate::server::catalogue;

    #[test]
    fn all_claims_are_there_with_what_would_refute_them() {
        let book = Book::read().unwrap();
        let ids: Vec<&str> = book.claims.iter().map(|claim| claim.id.as_str()).collect();
        let expected: Vec<String> = (1..=22).map(|number| format!("C{number}")).collect();
        assert_eq!(ids, expected);
        for claim in &book.claims {
            for text in [&claim.says, &claim.hypothesis, &claim.refuted] {
                assert!(text.ends_with(['.', ')']), "{}: {text}", claim.id);
            }
            for rule in &claim.rules {
                let scene = rule.test.scene();
                assert!(scene.is_none_or(|scene| lab::show::scene(scene).is_some()), "{}", claim.id);
                assert!(!rule.says.ends_with('.'), "{}: {}", claim.id, rule.says);
            }
            let is_short = claim.rules.iter().all(|rule| rule.test.scenario().is_none());
            assert_eq!(claim.tier == Takes::Seconds, is_short, "{}", claim.id);
        }
    }

    #[test]
    fn all_scenarios_are_used_and_all_servers_known() {
        let book = Book::read().unwrap();
        let used = book.used_scenarios(&book.claims.iter().collect::<Vec<_>>());
        for scenario in &book.scenarios {
            assert!(used.contains(&scenario.name), "{}", scenario.name);
            assert!(scenario.question.ends_with('?'), "{}", scenario.name);
            for server in &scenario.servers {
                assert!(catalogue::named(server).is_some(), "{}: {server}", scenario.name);
            }
            for tier in [Tier::Quick, Tier::Standard] {
                assert!(scenario.tiers.contains_key(&tier), "{}", scenario.name);
                assert!(scenario.effort(tier).rounds >= crate::run::rounds::LEAST, "{}", scenario.name);
            }
        }
        let names = scenario::all().unwrap();
        let twice = |scenario: &&Scenario| names.iter().any(|other| other.name == scenario.name);
        assert_eq!(book.scenarios.iter().find(twice), None, "no name twice");
    }

    #[test]
    fn claims_are_found_by_name_and_need_no_more_than_they_need() {
        let book = Book::read().unwrap();
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let chosen = book.select(&names(&["c16", "C2"])).unwrap();
        assert_eq!(chosen.iter().map(|claim| claim.id.as_str()).collect::<Vec<_>>(), ["C2", "C16"]);
        let scenarios = book.scenarios_of(&chosen);
        assert_eq!(scenarios.len(), 1);
        assert_eq!(scenarios[0].servers, ["blocking", "epoll-loop-reads"]);
        let scenarios = book.scenarios_of(&book.select(&names(&["C4"])).unwrap());
        assert_eq!(scenarios[0].servers, ["epoll", "epoll-twin", "epoll-loop-reads"]);
        let failure = book.select(&names(&["C133"])).unwrap_err().to_string();
        assert!(failure.starts_with("no claim \"C133\"; the nearest are C13, "), "{failure}");
        assert_eq!(book.select(&[]).unwrap().len(), 22);
    }

    #[test]
    fn what_does_not_fit_together_is_one_line() {
        let claim = "[[claim]]\nid = \"C1\"\nsays = \"x\"\nsource = \"texts\"\ntier = \"all\"\nhypothesis = \"x\"\nrefuted = \"x\"\n";
        let rule = |rule: &str| Book::parse(&format!("{claim}rule = [{{ says = \"x\", {rule} }}]\n"));
        let value = "kind = \"value\", target = \"epoll\", measure = \"p99\", at-most = 1";
        let table = [
            (format!("{value}, scenario = \"nowhere\""), "C1: there is no scenario \"nowhere\""),
            (format!("{value}, scenario = \"churn\", at = 3"), "C1: churn has no point 3"),
            (format!("{value}, scenario = \"churn\", at = 1"), "C1: epoll takes no part in churn"),
        ];
        for (text, expected) in table {
            let failure = rule(&text).unwrap_err().to_string();
            assert_eq!(failure, format!("read the claims: {expected}"));
        }
        let shown = "kind = \"shown\", scene = \"C3\"";
        assert!(rule(shown).is_ok());
        let twice = format!("{claim}rule = [{{ says = \"x\", {shown} }}]\n").repeat(2);
        assert_eq!(Book::parse(&twice).unwrap_err().to_string(), "read the claims: C1: it is there twice");
        let none = format!("{claim}rule = []\n");
        assert_eq!(Book::parse(&none).unwrap_err().to_string(), "read the claims: C1: it has no rule");
        assert!(rule("kind = \"ratio\"").unwrap_err().to_string().contains("a rule lacks \"scenario\""));
        assert!(Book::parse("[[claim]]\nid = 3\n").is_err());
    }
}
