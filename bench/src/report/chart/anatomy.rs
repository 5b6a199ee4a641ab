//! The anatomy of a request: where the time goes, and what is asked of the kernel for it.

use crate::analysis::figures::{CallsPerRequest, Figures};
use crate::report::chart::scale::Scale;
use crate::report::chart::{Canvas, Sketch};
use crate::report::results::Results;
use crate::report::svg::{Anchor, Font, shortened, text_width};
use crate::report::wording;
use crate::run::scenario::Scenario;

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

struct Row {
    target: String,
    user: f64,
    system: f64,
    calls: Option<CallsPerRequest>,
    switches: Option<f64>,
}

pub(crate) fn of<'a>(results: &'a Results<'a>, scenario: &'a Scenario) -> Result<Sketch<'a>, String> {
    let verdict = results.main_cell(scenario).ok_or("no trial counts")?;
    let row = |figures: &Figures| {
        Some(Row {
            target: figures.target.clone(),
            user: figures.user_ns?,
            system: figures.system_ns?,
            calls: figures.calls.clone(),
            switches: figures.context_switches,
        })
    };
    let mut rows: Vec<Row> = verdict.targets.iter().filter_map(row).collect();
    rows.sort_by(|one, other| (one.user + one.system).total_cmp(&(other.user + other.system)));
    if rows.is_empty() {
        let unmeasured = &results.record.unmeasured;
        let reason = unmeasured.get("user_ns").or_else(|| unmeasured.get("system_ns"));
        return Err(reason.cloned().unwrap_or_else(|| "user and system time weren't told apart".to_owned()));
    }
    Ok(Sketch::new(format!("anatomy-{}", scenario.name), "What is a request made of?".to_owned(), format!(
            "{} Above, CPU time in the server's own code and in the kernel on its behalf; below, system calls per \
             request, counted in a pass of their own, and ring operations, which need no call.",
            scenario.about
        ), move |canvas| {
            times(canvas, &rows);
            calls(canvas, &rows);
        }).within(scenario))
}

/// A name for each colour, in lines as long as fit.
fn legend(canvas: &mut Canvas<'_>, colours: &[(&str, &str)]) {
    let frame = canvas.frame;
    let (mut x, size) = (frame.margin, frame.axis.size);
    canvas.y += size * 1.3;
    for (class, label) in colours {
        let width = size + 5.0 + text_width(label, frame.axis) + 14.0;
        if x + width > frame.width - frame.margin + 14.0 {
            x = frame.margin;
            canvas.y += size * 1.6;
        }
        canvas.svg.rectangle((x, canvas.y - size * 0.85), (size, size), 2.0, class);
        canvas.svg.text(x + size + 5.0, canvas.y, frame.axis, Anchor::Start, "muted", label);
        x += width;
    }
    canvas.y += size;
}

struct Bar<'a> {
    target: &'a str,
    /// Classes and lengths, from left to right.
    parts: Vec<(&'static str, f64)>,
    text: String,
    /// What a reader sees who points at it.
    tip: String,
}

fn bars(canvas: &mut Canvas<'_>, bars: &[Bar<'_>]) {
    let frame = canvas.frame;
    let bold = Font { bold: true, ..frame.label };
    let names: Vec<String> = bars.iter().map(|bar| canvas.results.label(bar.target).to_owned()).collect();
    let widest = names.iter().map(|name| text_width(name, frame.label)).fold(0.0, f64::max);
    let name_width = widest.min(frame.inner() * if frame.narrow { 0.46 } else { 0.4 });
    let value_width = bars.iter().map(|bar| text_width(&bar.text, bold)).fold(0.0, f64::max);
    let left = frame.margin + name_width + 10.0;
    let right = frame.width - frame.margin - value_width - 10.0;
    let sum = |parts: &[(&str, f64)]| parts.iter().map(|(_, value)| value).sum::<f64>();
    let largest = bars.iter().map(|bar| sum(&bar.parts)).fold(f64::MIN_POSITIVE, f64::max);
    let scale = Scale::linear(0.0, largest, left, right);
    let height = frame.row() * 0.66;
    for (Bar { target, parts, text, tip }, name) in bars.iter().zip(&names) {
        canvas.svg.begin(target, tip);
        let baseline = canvas.y + height * 0.5 + frame.label.size * 0.35;
        let shown = shortened(name, frame.label, name_width);
        canvas.svg.text(left - 10.0, baseline, frame.label, Anchor::End, "ink", &shown);
        let mut begun = 0.0;
        for (class, value) in parts.iter().filter(|(_, value)| *value > 0.0) {
            let (from, to) = (scale.at(begun), scale.at(begun + value));
            canvas.svg.rectangle((from, canvas.y), ((to - from).max(0.6), height), 0.0, class);
            begun += value;
        }
        canvas.svg.text(scale.at(begun) + 8.0, baseline, bold, Anchor::Start, "ink", text);
        canvas.svg.end();
        canvas.y += frame.row();
    }
}

fn times(canvas: &mut Canvas<'_>, rows: &[Row]) {
    canvas.heading("CPU time per request");
    legend(canvas, &[("user", "user"), ("system", "system")]);
    let rows: Vec<Bar<'_>> = rows.iter().map(time_bar).collect();
    bars(canvas, &rows);
}

fn time_bar(row: &Row) -> Bar<'_> {
    let (user, system) = (row.user, row.system);
    let switches = row.switches.map_or_else(String::new, |count| {
        format!("; {} context switches per request", wording::factor(count))
    });
    Bar {
        target: &row.target,
        parts: vec![("user", user), ("system", system)],
        text: wording::duration(user + system),
        tip: format!(
            "{}: user {}, system {}{switches}",
            row.target,
            wording::duration(user),
            wording::duration(system)
        ),
    }
}

fn calls(canvas: &mut Canvas<'_>, rows: &[Row]) {
    let counted: Vec<(&Row, &CallsPerRequest)> =
        rows.iter().filter_map(|row| Some((row, row.calls.as_ref()?))).collect();
    canvas.heading("System calls and ring operations per request");
    if counted.iter().all(|(_, calls)| calls.system_calls.is_none()) {
        let reason = canvas.results.record.unmeasured.get("calls");
        let text =
            reason.map_or_else(|| "Not counted.".to_owned(), |reason| format!("Not counted: {reason}."));
        canvas.paragraph(&text, canvas.frame.note, "muted");
        return;
    }
    let mut colours = PURPOSES.map(|(class, label, _)| (class, label)).to_vec();
    colours.push(("ring", "ring operations (no call)"));
    legend(canvas, &colours);
    let rows: Vec<Bar<'_>> = counted.into_iter().map(|(row, calls)| call_bar(row, calls)).collect();
    bars(canvas, &rows);
}

fn call_bar<'a>(row: &'a Row, calls: &CallsPerRequest) -> Bar<'a> {
    let mut parts = PURPOSES.map(|(class, _, _)| (class, 0.0)).to_vec();
    for (name, count) in calls.system_calls.iter().flatten() {
        parts[purpose(name)].1 += count;
    }
    let ring = calls.ring_submissions.unwrap_or(0.0);
    parts.push(("ring", ring));
    let number = calls.system_calls_sum().map_or_else(|| "n/a".to_owned(), wording::factor);
    let text = if ring > 0.0 { format!("{number} + {}", wording::factor(ring)) } else { number };
    Bar { target: &row.target, parts, text, tip: breakdown(&row.target, calls) }
}

/// Every call by name, the most frequent first.
fn breakdown(target: &str, calls: &CallsPerRequest) -> String {
    let mut by_name: Vec<(&String, &f64)> = calls.system_calls.iter().flatten().collect();
    by_name.sort_by(|one, other| other.1.total_cmp(one.1));
    let mut lines = vec![format!("{target}, per request:")];
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
