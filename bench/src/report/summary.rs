//! What a run found, as a page of Markdown and as a table for the terminal.

use crate::analysis::verdict::{Figures, PAIRS, Verdict};
use crate::machine::environment::Environment;
use crate::record::Record;
use crate::report::chart::Metric;
use crate::report::wording::{self, duration, duration_with_interval, rate, rate_with_interval};
use crate::run::cell::Cell;
use crate::server::target::Backend;
use std::fmt::Write;

/// The page.
pub fn markdown(record: &Record) -> String {
    let mut page = String::from("# Three I/O models, one HTTP core: a comparison\n\n");
    line(&mut page, &format!("`{}`, {}, {}.", record.command, record.started, source(record)));
    for sentence in headlines(record) {
        line(&mut page, &format!("- {sentence}"));
    }
    page.push('\n');
    for warning in &record.warnings {
        line(&mut page, &format!("> **Warning:** {warning}\n"));
    }
    for metric in Metric::ALL {
        let name = metric.file_name();
        line(&mut page, &format!("![{}]({name})\n", metric.question()));
    }
    cpu_table(&mut page, record);
    rate_table(&mut page, record);
    service_table(&mut page, record);
    footnotes(&mut page, record);
    environment_list(&mut page, record);
    page
}

fn line(page: &mut String, text: &str) {
    page.push_str(text);
    page.push('\n');
}

fn source(record: &Record) -> String {
    match &record.environment.source {
        None => "not from a commit".to_owned(),
        Some(source) if source.dirty => format!("commit {} with changes", source.commit),
        Some(source) => format!("commit {}", source.commit),
    }
}

/// What the first comparisons say: in a whole run those with many connections that are kept.
pub fn headlines(record: &Record) -> Vec<String> {
    let busy = record.verdicts.iter().take(3);
    busy.flat_map(|verdict| {
        let sentences = wording::cell_sentences(verdict).into_iter();
        sentences.map(|sentence| format!("{}: {sentence}.", verdict.cell))
    })
    .collect()
}

/// A Markdown table with a row per cell.
fn table(
    page: &mut String,
    heading: &str,
    columns: &[String],
    record: &Record,
    row: &dyn Fn(&Verdict) -> Vec<String>,
) {
    line(page, &format!("\n## {heading}\n"));
    line(page, &format!("| | {} |", columns.join(" | ")));
    line(page, &format!("|---|{}", "---:|".repeat(columns.len())));
    for verdict in &record.verdicts {
        line(page, &format!("| {} | {} |", verdict.cell, row(verdict).join(" | ")));
    }
}

/// A column per server, then one per pair.
fn columns() -> Vec<String> {
    let servers = Backend::ALL.into_iter().map(|backend| backend.to_string());
    servers.chain(PAIRS.into_iter().map(|(above, below)| format!("{above} ÷ {below}"))).collect()
}

const NOTHING: &str = "–";

fn per_server(verdict: &Verdict, write: impl Fn(&Figures) -> String) -> Vec<String> {
    let cell = |backend| verdict.figures(backend).map_or_else(|| NOTHING.to_owned(), &write);
    Backend::ALL.into_iter().map(cell).collect()
}

fn cpu_table(page: &mut String, record: &Record) {
    table(page, "Server CPU time per request", &columns(), record, &|verdict| {
        let mut row = per_server(verdict, |figures| duration_with_interval(&figures.cpu_per_request_ns));
        row.extend(PAIRS.into_iter().map(|(above, below)| {
            let ratio = verdict.ratio(above, below);
            ratio.map_or_else(|| NOTHING.to_owned(), |ratio| wording::ratio(&ratio.cpu_per_request))
        }));
        row
    });
}

fn rate_table(page: &mut String, record: &Record) {
    table(page, "Requests per second", &columns(), record, &|verdict| {
        let mut row = per_server(verdict, |figures| {
            let mark = if figures.is_client_bound() { " ᶜ" } else { "" };
            format!("{}{mark}", rate_with_interval(&figures.requests_per_second))
        });
        row.extend(PAIRS.into_iter().map(|(above, below)| {
            let bound = |backend| verdict.figures(backend).is_none_or(Figures::is_client_bound);
            match verdict.ratio(above, below) {
                Some(_) if bound(above) || bound(below) => "ᶜ".to_owned(),
                Some(ratio) => wording::ratio(&ratio.requests_per_second),
                None => NOTHING.to_owned(),
            }
        }));
        row
    });
}

fn service_table(page: &mut String, record: &Record) {
    let servers = Backend::ALL.into_iter().map(|backend| format!("{backend} p50 / p99"));
    let busy = std::iter::once("client busy".to_owned());
    let columns: Vec<String> = servers.chain(busy).collect();
    table(page, "Service time (closed loop) and the client", &columns, record, &|verdict| {
        let known = |value: Option<f64>| value.map_or_else(|| "n/a".to_owned(), duration);
        let mut row = per_server(verdict, |figures| {
            format!("{} / {}", known(figures.service_p50_ns), known(figures.service_p99_ns))
        });
        row.push(per_server(verdict, |figures| format!("{:.0} %", figures.client_busy * 100.0)).join(", "));
        row
    });
}

fn footnotes(page: &mut String, record: &Record) {
    line(
        page,
        "\nMedians over the rounds, ratios as geometric means of paired rounds, each with its 95 % interval.",
    );
    line(
        page,
        "Service time is the closed loop's: with many connections it is little more than their number divided by",
    );
    line(page, "the rate. A quantile with fewer than 20 answers above it is n/a.");
    let figures = || record.verdicts.iter().flat_map(|verdict| verdict.servers.values().flatten());
    if figures().any(Figures::is_client_bound) {
        line(
            page,
            "ᶜ The client used over 85 % of its CPU: the rate may be the client's, and takes no part in a comparison.",
        );
    }
    for (backend, reason) in &record.unavailable {
        if let Some(reason) = reason {
            line(page, &format!("{NOTHING} {backend} couldn't run here: {reason}."));
        }
    }
}

fn environment_list(page: &mut String, record: &Record) {
    let environment = &record.environment;
    let unknown = || "unknown".to_owned();
    line(page, "\n## Where\n");
    let Environment { cpu, build, limits, .. } = environment;
    let filesystem = environment.filesystem.as_ref();
    let default = environment.sysctls.get("net.ipv4.tcp_congestion_control").cloned().flatten();
    let default = default.unwrap_or_else(unknown);
    let congestion = match &record.congestion_control {
        Some(control) => format!("{control}, set on every socket (the machine's default is {default})"),
        None => format!("the machine's default, {default}"),
    };
    let items = [
        ("Kernel", environment.kernel.clone().unwrap_or_else(unknown)),
        (
            "Processor",
            format!(
                "{}, CPUs {}{}",
                cpu.model.clone().unwrap_or_else(unknown),
                cpu.online.clone().unwrap_or_else(unknown),
                if cpu.virtualised { ", a virtual machine" } else { "" }
            ),
        ),
        ("Placement", record.placement.to_string()),
        ("Files", filesystem.map_or_else(unknown, |found| format!("{} ({})", found.kind, found.options))),
        ("Descriptors", limits.descriptors.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string())),
        ("TCP congestion control", congestion),
        ("Compiler", format!("{}, {}, level {}", build.rustc, build.target, build.opt_level)),
        (
            "Plan",
            format!(
                "{} rounds, {} ms warm-up, {} ms window, seed {}",
                record.plan.rounds, record.plan.warm_up_ms, record.plan.window_ms, record.plan.seed
            ),
        ),
    ];
    for (name, value) in items {
        line(page, &format!("- {name}: {value}"));
    }
    line(page, "\nAll of it, mitigations included, is in `run.json`; every trial in `trials.jsonl`.");
}

/// The table that ends `cargo bench`: as wide as a terminal.
pub fn terminal(record: &Record) -> String {
    let mut text = String::new();
    let mut group = None;
    for verdict in &record.verdicts {
        let Cell { persistence, connections, size } = verdict.cell;
        if group.replace((persistence, connections)) != Some((persistence, connections)) {
            let title = verdict.cell.to_string();
            let title = title.split_once(", ").map_or(title.as_str(), |(_, rest)| rest);
            push_row(&mut text, title, "requests per second", "server CPU per request", "uring ÷ epoll, CPU");
            let names = three(Backend::ALL.map(|backend| backend.to_string()));
            push_row(&mut text, "", &names, &names, "");
        }
        let rates = columns_of(verdict, |figures| {
            let mark = if figures.is_client_bound() { "ᶜ" } else { "" };
            format!("{}{mark}", rate(figures.requests_per_second.value))
        });
        let costs = columns_of(verdict, |figures| duration(figures.cpu_per_request_ns.value));
        let ratio = verdict.ratio(Backend::Uring, Backend::Epoll);
        let ratio = ratio.map_or_else(|| NOTHING.to_owned(), |ratio| wording::ratio(&ratio.cpu_per_request));
        push_row(&mut text, &format!("  {}", size.label()), &rates, &costs, &ratio);
    }
    if record
        .verdicts
        .iter()
        .flat_map(|verdict| verdict.servers.values().flatten())
        .any(Figures::is_client_bound)
    {
        text.push_str("ᶜ the client was the limit\n");
    }
    for (backend, reason) in &record.unavailable {
        if let Some(reason) = reason {
            let _infallible = writeln!(text, "{NOTHING} {backend} couldn't run here: {reason}");
        }
    }
    text
}

fn push_row(text: &mut String, title: &str, rates: &str, costs: &str, ratio: &str) {
    let row = format!("{title:<34}{rates:>27}   {costs:>30}   {ratio}");
    text.push_str(row.trim_end());
    text.push('\n');
}

fn columns_of(verdict: &Verdict, write: impl Fn(&Figures) -> String) -> String {
    let cells = per_server(verdict, write);
    cells.iter().map(|cell| format!("{cell:>10}")).collect()
}

fn three(names: [String; 3]) -> String {
    names.iter().map(|name| format!("{name:>10}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::verdict::tests::trial;
    use crate::record::tests::record;

    fn sample(backends: &[Backend]) -> Record {
        let mut trials = Vec::new();
        for cell in Cell::all() {
            for round in 0..3 {
                for (index, backend) in backends.iter().enumerate() {
                    let cpu = 6_000.0 + 2_000.0 * index as f64 + 10.0 * round as f64;
                    trials.push(trial(*backend, cell, round, cpu));
                }
            }
        }
        let mut record = record(&trials);
        record.verdicts = Cell::all().into_iter().map(|cell| Verdict::of(cell, &trials)).collect();
        record
    }

    #[test]
    fn the_page_has_every_cell_three_times() {
        let page = markdown(&sample(&Backend::ALL));
        for cell in Cell::all() {
            assert_eq!(page.matches(&format!("| {cell} |")).count(), 3, "{cell}");
        }
        assert!(page.contains("- 1 KiB, keep-alive, 64 connections: uring uses 1.25× ["), "{page}");
        assert!(page.contains("](cpu-per-request.svg)"));
        assert!(page.contains("> **Warning:** one"));
    }

    #[test]
    fn a_server_that_did_not_run_is_a_dash_with_a_reason() {
        let record = sample(&Backend::ALL[..2]);
        let page = markdown(&record);
        assert!(page.contains("– uring couldn't run here: the kernel forbids it."), "{page}");
        let table = terminal(&record);
        assert!(table.contains("– uring couldn't run here: the kernel forbids it"), "{table}");
    }

    #[test]
    fn the_terminal_table_is_aligned() {
        let table = terminal(&sample(&Backend::ALL));
        let rows: Vec<&str> = table.lines().filter(|row| row.starts_with("  1")).collect();
        assert_eq!(rows.len(), 12);
        let column = |row: &str| row.chars().position(|c| c == '×').unwrap();
        assert!(rows.iter().all(|row| column(row) == column(rows[0])), "{table}");
        assert!(table.lines().all(|row| row.chars().count() <= 125), "{table}");
    }
}
