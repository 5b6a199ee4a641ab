//! A scenario's own chart: a row for each server, or a line along the axis; other measures and ratios at a choice.

use crate::analysis::figures::Figures;
use crate::analysis::measure::Measure;
use crate::analysis::reading::Reading;
use crate::analysis::verdict::{COMPARED, Verdict};
use crate::report::chart::{INTERVALS, Picture, answer, number, row, spec};
use crate::report::results::Results;
use crate::report::{summary, wording};
use crate::run::scenario::{self, Scenario};
use crate::server::target::Backend;
use serde_json::{Map, Value, json};

/// From this ratio of its values on, an x axis is logarithmic.
const LOGARITHMIC_FROM: f64 = 20.0;

pub(super) fn of(results: &Results<'_>, scenario: &Scenario) -> Result<Picture, String> {
    let verdicts: Vec<&Verdict> = results.of_scenario(scenario).collect();
    let main = results.main_cell(scenario).ok_or("no trial counts")?;
    let is_measured = |figures: &Figures| figures.reading(main.measure) != Reading::Unmeasured;
    let is_known = |verdict: &&Verdict| verdict.targets.iter().any(is_measured);
    if !verdicts.iter().any(is_known) {
        return Err(results.unmeasured(main.measure));
    }
    let cells: Vec<Value> = verdicts.iter().map(|verdict| cell(results, verdict)).collect();
    let has_lines = matches!(scenario.picture, scenario::Picture::Lines | scenario::Picture::LoadCurve)
        && cells.len() > 1;
    let start = if has_lines { "axis".to_owned() } else { (cells.len() - 1).to_string() };
    let rest = json!({
        "axis": axis_name(scenario),
        "log": is_logarithmic(&verdicts),
        "cells": cells,
        "start": {"measure": main.measure.name(), "at": start},
    });
    let is_about_others =
        !scenario.lesser.is_empty() || !scenario.pairs.is_empty() || !scenario.servers.is_empty();
    let ids = verdicts.iter().flat_map(|verdict| &verdict.targets).map(|figures| figures.target.as_str());
    let open = if scenario.classes.first().is_some_and(|class| class.rate.is_some()) {
        " Time is counted from the moment at which a request was due, whether or not the server was ready for it."
    } else {
        ""
    };
    Ok(Picture {
        name: scenario.name.clone(),
        title: scenario.question.clone(),
        scenario: Some(scenario.name.clone()),
        answer: answer::of_scenario(results, main, scenario),
        reading: format!("{}{open} Medians of {} rounds. {INTERVALS}", scenario.about, main.rounds),
        spec: spec(results, "measured", is_about_others, ids, rest),
        tables: summary::tables(results, scenario),
        still: None,
    })
}

/// The axis in words; empty for a scenario of one point.
pub(super) fn axis_name(scenario: &Scenario) -> String {
    match &scenario.axis {
        Some(axis) if axis.unit == "%" => format!("{}, in % of what the fastest server can do", axis.name),
        Some(axis) => axis.name.clone(),
        None => String::new(),
    }
}

pub(super) fn is_logarithmic(verdicts: &[&Verdict]) -> bool {
    let values = || verdicts.iter().filter_map(|verdict| verdict.value).filter(|value| *value > 0.0);
    values().fold(0.0, f64::max) / values().fold(f64::INFINITY, f64::min) > LOGARITHMIC_FROM
}

/// A point of the axis as it is written beside it.
pub(super) fn point(verdict: &Verdict) -> String {
    match verdict.value {
        Some(value) if value >= 1_000.0 => wording::thousands(value),
        _ => verdict.cell.point.clone(),
    }
}

fn cell(results: &Results<'_>, verdict: &Verdict) -> Value {
    let (mut values, mut ratios, mut bands) = (Map::new(), Map::new(), Map::new());
    for measure in Measure::ALL {
        let rows: Vec<Vec<Value>> = verdict
            .targets
            .iter()
            .filter_map(|figures| {
                let number = number(figures.reading(measure), figures.unranked(measure))?;
                row(results, &figures.target, number)
            })
            .collect();
        if rows.is_empty() {
            continue;
        }
        values.insert(measure.name().to_owned(), json!(rows));
        bands.insert(measure.name().to_owned(), json!(super::rounded(verdict.band(measure).margin)));
        if COMPARED.contains(&measure) || measure == verdict.measure {
            ratios.insert(measure.name().to_owned(), against_each_model(results, verdict, measure));
        }
    }
    json!({
        "x": verdict.value,
        "label": point(verdict),
        "base": results.baseline(verdict),
        "values": values,
        "bands": bands,
        "ratios": ratios,
    })
}

/// Everybody's ratio to each of the three models, by their names.
fn against_each_model(results: &Results<'_>, verdict: &Verdict, measure: Measure) -> Value {
    let mut models = Map::new();
    for base in Backend::ALL.map(Backend::name) {
        let ratio = |id: &str| {
            if id == base {
                return row(results, id, [json!(1), json!(1), json!(1), json!(0)]);
            }
            let ratio = verdict.ratio(id, base, measure)?;
            let mut row = row(results, id, number(ratio.reading(), ratio.because)?)?;
            row.push(json!(ratio.claim));
            Some(row)
        };
        let rows: Vec<Vec<Value>> =
            verdict.targets.iter().filter_map(|figures| ratio(&figures.target)).collect();
        if verdict.figures(base).is_some_and(|figures| figures.reading(measure) != Reading::Unmeasured) {
            models.insert(base.to_owned(), json!(rows));
        }
    }
    Value::Object(models)
}
