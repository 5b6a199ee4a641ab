//! What a new run is to measure. One that is resumed has it in its folder.

use crate::claims::chapter::Chapter;
use crate::failure::Result;
use crate::run::options::Options;
use crate::run::scenario::{self, Scenario};

#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) scenarios: Vec<Scenario>,
    /// The claims that it is to judge.
    pub(crate) chapter: Option<Chapter>,
}

impl Plan {
    /// The scenarios that the options choose.
    pub(crate) fn of(options: &Options) -> Result<Plan> {
        if options.resume.is_some() {
            return Ok(Plan::default());
        }
        let scenarios = adjusted(scenario::select(options.tier, &options.only)?, options);
        Ok(Plan { scenarios, chapter: None })
    }

    /// Those that claims need.
    pub(crate) fn of_claims(chapter: Chapter, options: &Options) -> Plan {
        let scenarios = chapter.book().scenarios_of(&chapter.claims());
        Plan { scenarios: adjusted(scenarios, options), chapter: Some(chapter) }
    }
}

/// The same with the rounds and windows that the user wants.
fn adjusted(mut scenarios: Vec<Scenario>, options: &Options) -> Vec<Scenario> {
    if let Some(window_ms) = options.window_ms {
        scenarios = scenarios.into_iter().map(|scenario| scenario.with_window_ms(window_ms)).collect();
    }
    for effort in scenarios.iter_mut().flat_map(|scenario| scenario.tiers.values_mut()) {
        if let Some(rounds) = options.rounds {
            effort.rounds = rounds as usize;
            effort.rounds_max = None;
        }
    }
    scenarios
}
