//! Prometheus' text format, version 0.0.4 (prometheus.io, "Exposition formats").

use std::borrow::Cow;
use std::fmt::{self, Write};

/// What kind of metric a family is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It only grows. Its name ends in `_total`.
    Counter,
    /// It comes and goes.
    Gauge,
    /// Numbers of observations up to bounds.
    Histogram,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// Names and values of labels.
pub(super) type Labels<'a> = &'a [(&'static str, &'a str)];

/// A page of metrics.
#[derive(Debug, Default)]
pub(super) struct Exposition(String);

impl Exposition {
    /// The text.
    pub(super) fn into_text(self) -> String {
        self.0
    }

    /// Begins a family; its samples follow.
    pub(super) fn family(&mut self, name: &'static str, kind: Kind, help: &str) -> Family<'_> {
        debug_assert!(
            (kind == Kind::Counter) == name.ends_with("_total"),
            "{name}: names of counters, and of nothing else, end in _total"
        );
        debug_assert!(!help.contains(['\\', '\n']), "{name}: the help needs no escapes");
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {}", kind.name()));
        Family { page: self, name }
    }

    fn line(&mut self, line: fmt::Arguments<'_>) {
        writeln!(self.0, "{line}").expect("writing to a String can't fail");
    }
}

/// The samples of one family.
pub(super) struct Family<'a> {
    page: &'a mut Exposition,
    name: &'static str,
}

impl Family<'_> {
    /// A sample.
    pub(super) fn sample(&mut self, labels: Labels<'_>, value: impl fmt::Display) -> &mut Self {
        self.line("", labels, None, &value)
    }

    /// The samples of a histogram: observations up to each bound, in all, and their sum. `buckets` has one more number than
    /// there are bounds, and each counts its own observations alone.
    pub(super) fn histogram(&mut self, labels: Labels<'_>, bounds: &[f64], buckets: &[u64], sum: f64) {
        let mut count = 0;
        let bounds = bounds.iter().map(|bound| bound.to_string()).chain(["+Inf".to_owned()]);
        for (bound, bucket) in bounds.zip(buckets) {
            count += bucket;
            self.line("_bucket", labels, Some(&bound), &count);
        }
        self.line("_sum", labels, None, &sum);
        self.line("_count", labels, None, &count);
    }

    fn line(
        &mut self,
        suffix: &str,
        labels: Labels<'_>,
        bound: Option<&str>,
        value: &dyn fmt::Display,
    ) -> &mut Self {
        let labels = labels.iter().copied().chain(bound.map(|bound| ("le", bound)));
        let labels: Vec<String> =
            labels.map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        self.page.line(format_args!("{}{suffix}{labels} {value}", self.name));
        self
    }
}

/// A value of a label: paths have whatever bytes they like.
fn escaped(value: &str) -> Cow<'_, str> {
    if !value.contains(['\\', '"', '\n']) {
        return value.into();
    }
    value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_written_as_prometheus_reads_them() {
        let mut page = Exposition::default();
        page.family("a_total", Kind::Counter, "What there was.").sample(&[], 7);
        page.family("b", Kind::Gauge, "What there is.")
            .sample(&[("x", "1"), ("y", "2")], 0.5)
            .sample(&[("x", "2"), ("y", "3")], u64::MAX)
            .sample(&[("x", "/a \"b\"\\c\n,d")], 1);
        page.family("c_seconds", Kind::Histogram, "How long.").histogram(
            &[("x", "1")],
            &[0.0001, 0.25, 10.0],
            &[1, 0, 2, 3],
            0.75,
        );
        assert_eq!(
            page.into_text(),
            "# HELP a_total What there was.\n# TYPE a_total counter\na_total 7\n\
             # HELP b What there is.\n# TYPE b gauge\nb{x=\"1\",y=\"2\"} 0.5\n\
             b{x=\"2\",y=\"3\"} 18446744073709551615\n\
             b{x=\"/a \\\"b\\\"\\\\c\\n,d\"} 1\n\
             # HELP c_seconds How long.\n# TYPE c_seconds histogram\n\
             c_seconds_bucket{x=\"1\",le=\"0.0001\"} 1\nc_seconds_bucket{x=\"1\",le=\"0.25\"} 1\n\
             c_seconds_bucket{x=\"1\",le=\"10\"} 3\nc_seconds_bucket{x=\"1\",le=\"+Inf\"} 6\n\
             c_seconds_sum{x=\"1\"} 0.75\nc_seconds_count{x=\"1\"} 6\n"
        );
    }
}
