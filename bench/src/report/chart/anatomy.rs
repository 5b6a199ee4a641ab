//! The anatomy of a request: where the time goes, and what is asked of the kernel for it.

use crate::analysis::figures::CallsPerRequest;
use crate::report::chart::{Picture, answer, rounded, spec};
use crate::report::overview::{NOTHING, Table};
use crate::report::results::Results;
use crate::report::wording;
use crate::run::scenario::Scenario;
use serde_json::{Value, json};

/// System calls by what they are for: the class of the colour, its name, and the calls. What isn't listed belongs
/// to the last.
const PURPOSES: [(&str, &str, &str); 5] = [
    ("receive", "receive", "recvfrom recvmsg recv read readv"),
    ("send", "send", "sendto sendmsg send write writev sendfile sendfile64 splice"),
    (
        "file",
        "open, look at, read files",
        "open openat openat2 close fstat newfstat stat newstat newfstatat statx lstat newlstat pread64 preadv \
         preadv2 lseek mmap munmap fadvise64",
    ),
    (
        "wait",
        "wait, submit",
        "epoll_wait epoll_pwait epoll_pwait2 epoll_ctl io_uring_enter poll ppoll select pselect6 futex \
         sched_yield nanosleep clock_nanosleep",
    ),
    ("rest", "others", ""),
];

/// The index in [`PURPOSES`].
fn purpose(call: &str) -> usize {
    let listed = PURPOSES.iter().position(|(_, _, calls)| calls.split(' ').any(|name| name == call));
    listed.unwrap_or(PURPOSES.len() - 1)
}

struct Row<'b> {
    target: &'b str,
    user: f64,
    system: f64,
    calls: Option<&'b CallsPerRequest>,
    switches: Option<f64>,
}

pub(super) fn of(results: &Results<'_>, scenario: &Scenario) -> Result<Picture, String> {
    let verdict = results.main_cell(scenario).ok_or("no trial counts")?;
    let mut rows: Vec<Row<'_>> = Vec::new();
    for figures in &verdict.targets {
        if let (Some(user), Some(system)) = (figures.user_ns, figures.system_ns) {
            let (calls, switches) = (figures.calls.as_ref(), figures.context_switches);
            rows.push(Row { target: &figures.target, user, system, calls, switches });
        }
    }
    rows.sort_by(|one, other| (one.user + one.system).total_cmp(&(other.user + other.system)));
    if rows.is_empty() {
        let unmeasured = &results.record.unmeasured;
        let reason = unmeasured.get("user_ns").or_else(|| unmeasured.get("system_ns"));
        return Err(reason.cloned().unwrap_or_else(|| "user and system time weren't told apart".to_owned()));
    }
    let mut panels = vec![json!({
        "label": "CPU time per request",
        "unit": "time",
        "parts": [["user", "the server’s own code"], ["system", "the kernel, on its behalf"]],
        "rows": rows.iter().map(|row| time_bar(results, row)).collect::<Vec<_>>(),
    })];
    let counted: Vec<Value> = rows.iter().filter_map(|row| call_bar(results, row)).collect();
    let uncounted = if counted.is_empty() {
        let reason = results.record.unmeasured.get("calls");
        reason.map_or_else(|| " System calls weren’t counted.".to_owned(), |why| format!(" Calls: {why}."))
    } else {
        let mut parts = PURPOSES.map(|(class, label, _)| [class, label]).to_vec();
        parts.push(["ring", "ring operations (no call)"]);
        panels.push(
            json!({"label": "system calls per request", "unit": "count", "parts": parts, "rows": counted}),
        );
        String::new()
    };
    let is_about_others = !scenario.lesser.is_empty() || !scenario.servers.is_empty();
    let ids = rows.iter().map(|row| row.target);
    Ok(Picture {
        name: format!("anatomy-{}", scenario.name),
        title: "What is a request made of?".to_owned(),
        scenario: Some(scenario.name.clone()),
        answer: said(results, &rows),
        reading: format!(
            "{} CPU time per request in the server’s own code and in the kernel; and system calls, counted in a pass of \
             their own, with ring operations, which need no call.{uncounted}",
            scenario.about
        ),
        spec: spec(results, "bars", is_about_others, ids, json!({"panels": panels})),
        tables: vec![("Per request".to_owned(), table(results, &rows))],
        still: None,
    })
}

fn time_bar(results: &Results<'_>, row: &Row<'_>) -> Value {
    let (user, system) = (row.user, row.system);
    let switches = row.switches.map_or_else(String::new, |count| {
        format!("; {} context switches per request", wording::factor(count))
    });
    json!({
        "t": results.index(row.target),
        "values": [rounded(user), rounded(system)],
        "text": wording::duration(user + system),
        "says": format!(
            "{}: own code {}, kernel {}{switches}",
            results.name(row.target),
            wording::duration(user),
            wording::duration(system)
        ),
    })
}

fn call_bar(results: &Results<'_>, row: &Row<'_>) -> Option<Value> {
    let calls = row.calls.filter(|calls| calls.system_calls.is_some())?;
    let mut values = vec![0.0; PURPOSES.len()];
    for (name, count) in calls.system_calls.iter().flatten() {
        values[purpose(name)] += count;
    }
    let ring = calls.ring_submissions.unwrap_or(0.0);
    values.push(ring);
    Some(json!({
        "t": results.index(row.target),
        "values": values.into_iter().map(rounded).collect::<Vec<_>>(),
        "text": number_of(calls),
        "says": breakdown(&results.name(row.target), calls),
    }))
}

/// System calls, and ring operations where there are any: "0.03 + 1.03".
fn number_of(calls: &CallsPerRequest) -> String {
    let number = calls.system_calls_sum().map_or_else(|| NOTHING.to_owned(), wording::factor);
    match calls.ring_submissions {
        Some(ring) if ring > 0.0 => format!("{number} + {}", wording::factor(ring)),
        _ => number,
    }
}

fn table(results: &Results<'_>, rows: &[Row<'_>]) -> Table {
    let row = |row: &Row<'_>| {
        let factor = |count: Option<f64>| count.map_or_else(|| NOTHING.to_owned(), wording::factor);
        let cells = vec![
            wording::duration(row.user),
            wording::duration(row.system),
            factor(row.calls.and_then(CallsPerRequest::system_calls_sum)),
            factor(row.calls.and_then(|calls| calls.ring_submissions)),
            factor(row.switches),
        ];
        (results.name(row.target), cells)
    };
    let heads = ["own code", "kernel", "system calls", "ring operations", "context switches"];
    Table {
        corner: String::new(),
        heads: heads.map(str::to_owned).to_vec(),
        rows: rows.iter().map(row).collect(),
    }
}

/// The kernel's share, and who makes how many calls.
fn said(results: &Results<'_>, rows: &[Row<'_>]) -> String {
    let mut shown: Vec<&Row<'_>> = rows.iter().filter(|row| results.is_shown(row.target)).collect();
    if shown.is_empty() {
        shown = rows.iter().collect();
    }
    let shares = shown.iter().map(|row| row.system / (row.user + row.system));
    let (least, most) =
        shares.fold((1.0_f64, 0.0_f64), |(low, high), share| (low.min(share), high.max(share)));
    let mut text = format!(
        "{} to {} of a request’s CPU time is the kernel’s",
        wording::percent(least),
        wording::percent(most)
    );
    let calls = |row: &&Row<'_>| Some((row.target.to_owned(), row.calls?.system_calls_sum()?));
    let mut counted: Vec<(String, f64)> = shown.iter().filter_map(calls).collect();
    counted.sort_by(|one, other| one.1.total_cmp(&other.1));
    if let [(few, least), .., (many, most)] = counted.as_slice() {
        let names = |id: &String| answer::names(results, &[id]);
        text.push_str(&format!(
            "; system calls for one: {} in {}, {} in {}",
            wording::factor(*least),
            names(few),
            wording::factor(*most),
            names(many)
        ));
    }
    text.push('.');
    text
}

/// Every call by name, the most frequent first.
fn breakdown(name: &str, calls: &CallsPerRequest) -> String {
    let mut by_name: Vec<(&String, &f64)> = calls.system_calls.iter().flatten().collect();
    by_name.sort_by(|one, other| other.1.total_cmp(one.1));
    let mut lines = vec![format!("{name}, per request:")];
    lines.extend(by_name.iter().map(|(name, count)| format!("{name} {}", wording::factor(**count))));
    let ring = [
        ("ring submissions", calls.ring_submissions),
        ("ring completions", calls.ring_completions),
        ("ring punts to kernel workers", calls.ring_punts),
    ];
    lines.extend(
        ring.iter()
            .filter_map(|(name, count)| Some((name, (*count)?)))
            .filter(|(_, count)| *count > 0.0)
            .map(|(name, count)| format!("{name} {}", wording::factor(count))),
    );
    lines.join("\n")
}
