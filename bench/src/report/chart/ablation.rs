//! What each technique buys: a server without it, divided by the same server with it.

use crate::analysis::measure::Measure;
use crate::analysis::verdict::{Claim, Ratio, Verdict};
use crate::report::chart::{INTERVALS, Picture, number, row, spec};
use crate::report::overview::{NOTHING, Table};
use crate::report::results::Results;
use crate::report::still::ablation::Section;
use crate::report::still::{self, Heading};
use crate::report::wording;
use crate::run::scenario::Scenario;
use serde_json::{Value, json};

/// All scenarios that ask for servers without a technique, one below the other on one scale.
pub(super) fn of(results: &Results<'_>) -> Result<Picture, String> {
    let scenarios = results.scenarios().filter(|scenario| !scenario.lesser.is_empty());
    let section = |scenario: &'_ Scenario| {
        let verdict = results.main_cell(scenario)?;
        let rows: Vec<Ratio> = results.lesser(verdict, Measure::CpuPerRequest).collect();
        (!rows.is_empty()).then(|| Section { load: scenario.about.clone(), verdict, rows })
    };
    let sections: Vec<Section<'_>> = scenarios.filter_map(section).collect();
    if sections.is_empty() {
        return Err("no server ran both with a technique and without it".to_owned());
    }
    let groups: Vec<Value> = sections.iter().map(|section| group(results, section)).collect();
    let title = "What does each technique buy?";
    let answer = said(results, &sections);
    let reading = format!(
        "{} of a server without the technique, divided by that of the same server with it: right of 1, the technique \
         pays. The band is what can’t be told from noise.",
        wording::capitalised(Measure::CpuPerRequest.label())
    );
    let ids = sections.iter().flat_map(|section| &section.rows).map(|ratio| ratio.above.as_str());
    let rest = json!({
        "unit": "ratio",
        "axis": "CPU time ÷ that with the technique, logarithmic",
        "groups": groups,
    });
    Ok(Picture {
        name: "ablation".to_owned(),
        title: title.to_owned(),
        scenario: None,
        still: Some(still::ablation::draw(
            results,
            Heading { title, answer: &answer, reading: &reading },
            &sections,
        )),
        answer,
        reading: format!("{reading} {INTERVALS}"),
        spec: spec(results, "rows", true, ids, rest),
        tables: sections.iter().map(|section| table(results, section)).collect(),
    })
}

fn band(verdict: &Verdict) -> [f64; 2] {
    let band = verdict.band(Measure::CpuPerRequest).interval();
    [band.low, band.high].map(super::rounded)
}

fn group(results: &Results<'_>, section: &Section<'_>) -> Value {
    let rows = section.rows.iter().filter_map(|ratio| {
        let mut row = row(results, &ratio.above, number(ratio.reading(), ratio.because.clone())?)?;
        row.push(json!(format!(
            "{}, {}: {}",
            results.name(&ratio.above),
            section.load.trim_end_matches('.'),
            told(ratio)
        )));
        Some(row)
    });
    json!({
        "label": section.load,
        "band": band(section.verdict),
        "note": "two copies of one server may differ by this",
        "one": 1,
        "rows": rows.collect::<Vec<_>>(),
    })
}

fn told(ratio: &Ratio) -> String {
    let claim = match ratio.claim {
        Claim::Difference => "",
        Claim::Alike => ", alike",
        Claim::NoVerdict => ", can’t be told apart",
    };
    ratio.reading().text(NOTHING, |estimate| format!("{}{claim}", wording::ratio(estimate)))
}

fn table(results: &Results<'_>, section: &Section<'_>) -> (String, Table) {
    let rows = section.rows.iter().map(|ratio| (results.name(&ratio.above), vec![told(ratio)])).collect();
    (section.load.clone(), Table { corner: String::new(), heads: vec!["÷ with it".to_owned()], rows })
}

/// The technique that buys the most, and how many buy anything.
fn said(results: &Results<'_>, sections: &[Section<'_>]) -> String {
    let all = sections.iter().flat_map(|section| section.rows.iter().map(move |ratio| (section, ratio)));
    // Doing without any at all isn't one technique.
    let single: Vec<_> = all.filter(|(_, ratio)| !ratio.above.ends_with("-plain")).collect();
    let gain = |ratio: &Ratio| match (ratio.claim, ratio.reading().told()) {
        (Claim::Difference, Some(estimate)) if estimate.value > 1.0 => Some(estimate.value),
        _ => None,
    };
    let gains = single.iter().filter_map(|(section, ratio)| Some((section, ratio, gain(ratio)?)));
    let (total, count) = (single.len(), gains.clone().count());
    let most = gains.max_by(|one, other| one.2.total_cmp(&other.2));
    match most {
        None => format!("None of {total} comparisons shows a gain beyond noise."),
        Some((section, ratio, gain)) => format!(
            "{count} of {total} comparisons show a gain, most of all “{}”, which takes {}× the CPU time ({}).",
            results.label(&ratio.above),
            wording::factor(gain),
            section.load.trim_end_matches('.')
        ),
    }
}
