//! Reads Prometheus' text format (version 0.0.4), strictly: what a page may not have is an error here.

use std::collections::BTreeMap;

use libtest_mimic::Failed;

/// The samples of a page, by name and labels as they are written: `a_total{b="c"}`.
#[derive(Debug)]
pub struct Exposition {
    samples: BTreeMap<String, f64>,
}

/// What is known of the family that the lines belong to.
#[derive(Debug, Default)]
struct Family {
    name: String,
    kind: String,
    /// The numbers of buckets, in order, by the other labels; and the counts.
    buckets: BTreeMap<String, Vec<(f64, f64)>>,
    counts: BTreeMap<String, f64>,
    sums: usize,
    samples: usize,
}

impl Exposition {
    /// Reads a page. Every family must have HELP, TYPE and samples, once and together; names must be legal, those of
    /// counters, and no others, end in `_total`; the buckets of a histogram must count up to its count.
    ///
    /// # Errors
    /// The line that is wrong, and why.
    pub fn read(page: &str) -> Result<Exposition, Failed> {
        if !page.ends_with('\n') {
            return Err("the last line has no end".into());
        }
        let mut read = Exposition { samples: BTreeMap::new() };
        let mut names = Vec::new();
        let mut family = Family::default();
        let mut help = None;
        for line in page.lines() {
            let wrong = |why: &str| Failed::from(format!("`{line}`: {why}"));
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, text) = rest.split_once(' ').ok_or_else(|| wrong("there is no help"))?;
                let is_new = !names.contains(&name.to_owned());
                if help.is_some() || text.is_empty() || !is_new || !is_name(name) {
                    return Err(wrong("not the begin of a family"));
                }
                help = Some(name.to_owned());
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                family.end()?;
                let (name, kind) = rest.split_once(' ').ok_or_else(|| wrong("there is no type"))?;
                let is_counter = name.ends_with("_total");
                if help.take().as_deref() != Some(name)
                    || !["counter", "gauge", "histogram"].contains(&kind)
                    || is_counter != (kind == "counter")
                {
                    return Err(wrong("not the type of this family"));
                }
                names.push(name.to_owned());
                family = Family { name: name.to_owned(), kind: kind.to_owned(), ..Family::default() };
            } else {
                let (key, value) = line.rsplit_once(' ').ok_or_else(|| wrong("no sample"))?;
                let value: f64 = value.parse().map_err(|_| wrong("no number"))?;
                if help.is_some() || value < 0.0 {
                    return Err(wrong("not the place for a sample, or below zero"));
                }
                family.sample(key, value).map_err(wrong)?;
                if read.samples.insert(key.to_owned(), value).is_some() {
                    return Err(wrong("the sample comes twice"));
                }
            }
        }
        family.end()?;
        Ok(read)
    }

    /// The sample of this name, with its labels.
    ///
    /// # Errors
    /// If there is none.
    pub fn value(&self, key: &str) -> Result<f64, Failed> {
        Ok(*self.samples.get(key).ok_or_else(|| format!("{key} is missing"))?)
    }

    /// The sum of the samples whose names begin like this.
    #[must_use]
    pub fn sum(&self, prefix: &str) -> f64 {
        self.samples.iter().filter(|(key, _)| key.starts_with(prefix)).map(|(_, value)| value).sum()
    }

    /// The keys of all samples.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.samples.keys().map(String::as_str)
    }
}

impl Family {
    fn sample(&mut self, key: &str, value: f64) -> Result<(), &'static str> {
        self.samples += 1;
        let (name, labels) = match key.split_once('{') {
            None => (key, ""),
            Some((name, rest)) => (name, rest.strip_suffix('}').ok_or("the labels have no end")?),
        };
        let labels: Vec<(&str, &str)> = self::labels(labels).ok_or("no label")?;
        if self.kind != "histogram" {
            return if name == self.name { Ok(()) } else { Err("of another family") };
        }
        let others: Vec<_> = labels.iter().filter(|(name, _)| *name != "le").collect();
        let (others, bound) = (format!("{others:?}"), labels.iter().find(|(name, _)| *name == "le"));
        match (name.strip_prefix(&self.name), bound) {
            (Some("_bucket"), Some((_, bound))) => {
                let bound =
                    if *bound == "+Inf" { f64::INFINITY } else { bound.parse().map_err(|_| "no bound")? };
                self.buckets.entry(others).or_default().push((bound, value));
            }
            (Some("_count"), None) => {
                self.counts.insert(others, value);
            }
            (Some("_sum"), None) => self.sums += 1,
            _ => return Err("not of a histogram"),
        }
        Ok(())
    }

    fn end(&self) -> Result<(), Failed> {
        let wrong = |why: &str| Err(format!("{}: {why}", self.name).into());
        if self.samples == 0 && !self.name.is_empty() {
            return wrong("no samples");
        }
        if self.kind == "histogram" && (self.sums != self.counts.len() || self.buckets.len() != self.sums) {
            return wrong("not as many sums, counts and lists of buckets");
        }
        for (labels, buckets) in &self.buckets {
            let is_ascending = buckets.is_sorted_by(|one, two| one.0 < two.0 && one.1 <= two.1);
            let last = buckets.last().copied();
            if !is_ascending || last != self.counts.get(labels).map(|count| (f64::INFINITY, *count)) {
                return wrong(&format!(
                    "{labels} {buckets:?} don't count up to {:?}",
                    self.counts.get(labels)
                ));
            }
        }
        Ok(())
    }
}

/// `name="value",other="value"`: in a value a backslash, a quote and a line feed are escaped, and nothing else is.
fn labels(mut text: &str) -> Option<Vec<(&str, &str)>> {
    let mut labels = Vec::new();
    while !text.is_empty() {
        let (name, rest) = text.split_once("=\"")?;
        let end = end_of_value(rest)?;
        let (value, rest) = (&rest[..end], &rest[end + 1..]);
        if !is_name(name) || name.contains(':') {
            return None;
        }
        labels.push((name, value));
        text = match rest.strip_prefix(',') {
            Some(more) if !more.is_empty() => more,
            Some(_) => return None,
            None if rest.is_empty() => "",
            None => return None,
        };
    }
    Some(labels)
}

/// Where the quote is behind a value.
fn end_of_value(text: &str) -> Option<usize> {
    let mut bytes = text.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => return Some(at),
            b'\\' if !matches!(bytes.next()?.1, b'\\' | b'"' | b'n') => return None,
            _ => {}
        }
    }
    None
}

fn is_name(name: &str) -> bool {
    let is_letter = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == ':';
    name.chars().all(is_letter) && name.starts_with(|first: char| !first.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_labels_are_escaped() {
        for (text, expected) in [
            ("", Some(vec![])),
            (r#"a="1""#, Some(vec![("a", "1")])),
            (r#"a="x,y=\"z\"",b="\\""#, Some(vec![("a", r#"x,y=\"z\""#), ("b", r"\\")])),
            (r#"a="1","#, None),
            (r#"a="1"b="2""#, None),
            (r#"a="\t""#, None),
            (r#"a="1"#, None),
            (r#"1="1""#, None),
            (r#"a:b="1""#, None),
        ] {
            assert_eq!(labels(text), expected, "{text}");
        }
    }
}
