//! `verdicts.json`: what the trials come to, for programs.
//!
//! A line is a cell. Of the ratios it has those to this project's three servers, with five significant digits: all pairs
//! would be three quarters of a run's folder, and `bench report` makes them again from the trials.

use crate::analysis::verdict::Verdict;
use crate::failure::{Failure, Result};
use crate::report::chart::rounded;
use crate::report::results::Results;
use crate::server::target::Backend;
use serde_json::Value;

/// # Errors
///
/// None that is known: everything has a form in JSON.
pub(crate) fn json(results: &Results<'_>) -> Result<String> {
    let lines: Vec<String> = results.verdicts.iter().map(line).collect::<Result<_>>()?;
    Ok(format!("[\n{}\n]\n", lines.join(",\n")))
}

fn line(verdict: &Verdict) -> Result<String> {
    let mut line = serde_json::to_value(verdict).map_err(Failure::context("write verdicts.json"))?;
    if let Some(ratios) = line.get_mut("ratios").and_then(Value::as_array_mut) {
        ratios.retain(|ratio| is_ours(&ratio["above"]) || is_ours(&ratio["below"]));
    }
    shorten(&mut line);
    Ok(line.to_string())
}

fn is_ours(target: &Value) -> bool {
    Backend::ALL.iter().any(|backend| target == backend.name())
}

fn shorten(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(shorten),
        Value::Object(fields) => fields.values_mut().for_each(shorten),
        Value::Number(number) if number.is_f64() => {
            if let Some(exact) = number.as_f64() {
                *value = Value::from(rounded(exact));
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::{Plan, sample};

    #[test]
    fn a_line_is_a_cell_with_the_ratios_to_the_three() {
        let sample = sample(Plan { only: &["hot-small", "churn"], histograms: false, ..Plan::default() });
        let results = sample.results();
        let text = json(&results).unwrap();
        let cells: Vec<Value> = serde_json::from_str(&text).unwrap();
        assert_eq!((cells.len(), text.lines().count()), (results.verdicts.len(), results.verdicts.len() + 2));
        for (cell, verdict) in cells.iter().zip(&results.verdicts) {
            assert_eq!(cell["scenario"], verdict.cell.scenario);
            let ratios = cell["ratios"].as_array().unwrap();
            let pair = |one: &str, other: &str| {
                ratios.iter().find(|ratio| {
                    let ends = (ratio["above"].as_str().unwrap(), ratio["below"].as_str().unwrap());
                    ends == (one, other) || ends == (other, one)
                })
            };
            assert!(pair("uring", "nginx").is_some() && pair("uring", "epoll").is_some());
            assert!(pair("nginx", "h2o").is_none());
            let told = verdict.figures("epoll").unwrap().estimate(verdict.measure).unwrap().value;
            let epoll = cell["targets"].as_array().unwrap().iter().find(|target| target["target"] == "epoll");
            let value = epoll.unwrap()["estimates"][verdict.measure.name()]["value"].as_f64().unwrap();
            assert!((value / told - 1.0).abs() < 1e-4, "{value} for {told}");
        }
    }
}
