//! Memory by the number of connections.

use crate::analysis::figures::MemorySummary;
use crate::analysis::verdict::Verdict;
use crate::record::TargetRecord;
use crate::report::chart::Sketch;
use crate::report::chart::lines::{drawing_order, x_positions};
use crate::report::chart::plot::{self, Plot, Series};
use crate::report::results::Results;
use crate::report::wording;
use crate::run::scenario::Scenario;

type MemoryKind = fn(&MemorySummary) -> Option<f64>;

/// User memory, and the kernel's for the server's threads: thread stacks and page tables.
pub(crate) fn by_connections<'a>(
    results: &'a Results<'a>,
    scenario: &'a Scenario,
) -> Result<Sketch<'a>, String> {
    let kinds: [(&str, MemoryKind); 2] = [
        ("User memory (proportional set size)", |memory| memory.loaded_user),
        ("In the kernel: stacks of its threads, and page tables", |memory| memory.loaded_kernel),
    ];
    let plots: Vec<(&str, Plot)> = kinds
        .into_iter()
        .filter_map(|(name, kind)| Some((name, of_kind(results, scenario, kind)?)))
        .collect();
    if plots.is_empty() {
        let reason = results.record.unmeasured.get("memory");
        return Err(reason.cloned().unwrap_or_else(|| "memory wasn't measured".to_owned()));
    }
    Ok(Sketch::new(
        format!("memory-{}", scenario.name),
        format!(
            "How much memory do {} take?",
            scenario.axis.as_ref().map_or("connections", |axis| &axis.name)
        ),
        format!("{} All of the server's processes together; less is better.", scenario.about),
        move |canvas| {
            for (name, plot) in &plots {
                canvas.heading(name);
                plot.draw(canvas);
            }
        },
    )
    .within(scenario))
}

fn of_kind(results: &Results<'_>, scenario: &Scenario, kind: MemoryKind) -> Option<Plot> {
    let verdicts: Vec<&Verdict> = results.of_scenario(scenario).collect();
    let xs = x_positions(&verdicts);
    let series = |target: &TargetRecord| {
        let points: Vec<(f64, f64)> = verdicts
            .iter()
            .zip(&xs.values)
            .filter_map(|(verdict, x)| Some((*x, kind(verdict.figures(&target.id)?.memory.as_ref()?)?)))
            .filter(|(_, bytes)| *bytes > 0.0)
            .collect();
        let (_, last) = points.last()?;
        let lines: Vec<String> = points.iter().map(|(_, bytes)| wording::size(*bytes)).collect();
        Some(Series {
            target: target.id.clone(),
            value: wording::size(*last),
            tip: format!("{}\n{}", target.label, lines.join(" → ")),
            points,
        })
    };
    let series: Vec<Series> = drawing_order(results).into_iter().filter_map(series).collect();
    if series.is_empty() {
        return None;
    }
    let label = |verdict: &&Verdict| wording::thousands(verdict.value.unwrap_or(0.0));
    Some(Plot {
        series,
        x_name: scenario.axis.as_ref()?.name.clone(),
        x_ticks: xs.values.iter().copied().zip(verdicts.iter().map(label)).collect(),
        x_range: xs.range,
        y_label: Box::new(plot::bytes),
        y_unit: 1_048_576.0,
        height: 330.0,
    })
}
