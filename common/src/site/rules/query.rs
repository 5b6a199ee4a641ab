//! The query of a request as names and values, and what a rule wants of it.
//!
//! A rule that names parameters is for requests with exactly these, in any order, as Netlify's documentation has it.

use crate::site::rules::fault::Problem;
use crate::site::rules::pattern::placeholder;

/// Parameters that a rule may name.
pub const PARAMETERS_MAX: usize = 16;

/// Parameters of a request beyond which no rule with parameters is for it.
const ASKED_MAX: usize = 64;

/// A parameter that a rule is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parameter {
    name: Box<[u8]>,
    /// What it must be; `None` for a placeholder, which may be anything.
    value: Option<Box<[u8]>>,
}

impl Parameter {
    /// Reads `name=value` or `name=:placeholder`, and returns the placeholder.
    pub(super) fn parse(text: &[u8]) -> Result<(Parameter, Option<&str>), Problem> {
        let equals = memchr::memchr(b'=', text).filter(|at| *at > 0).ok_or(Problem::Parameter)?;
        let (name, value) = (decoded(&text[..equals]).into(), &text[equals + 1..]);
        match value.strip_prefix(b":") {
            Some(rest) => {
                let found = placeholder(rest).filter(|found| found.len() == rest.len());
                Ok((Parameter { name, value: None }, Some(found.ok_or(Problem::Parameter)?)))
            }
            None => Ok((Parameter { name, value: Some(decoded(value).into()) }, None)),
        }
    }
}

/// A query, decoded. Of a name that comes twice the first value counts.
#[derive(Debug, Default)]
pub(super) struct Query {
    pairs: Vec<(Vec<u8>, Vec<u8>)>,
    has_more: bool,
}

impl Query {
    /// Reads a query, with or without its question mark.
    pub(super) fn parse(text: &[u8]) -> Query {
        let text = text.strip_prefix(b"?").unwrap_or(text);
        let mut query = Query::default();
        for piece in text.split(|byte| *byte == b'&').filter(|piece| !piece.is_empty()) {
            if query.pairs.len() == ASKED_MAX {
                query.has_more = true;
                break;
            }
            let equals = memchr::memchr(b'=', piece).unwrap_or(piece.len());
            let name = decoded(&piece[..equals]);
            if query.get(&name).is_none() {
                query.pairs.push((name, decoded(piece.get(equals + 1..).unwrap_or_default())));
            }
        }
        query
    }

    fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_slice())
    }

    /// What stands for the placeholders of these parameters, if the query consists of them.
    pub(super) fn capture(&self, parameters: &[Parameter]) -> Option<Vec<&[u8]>> {
        if self.has_more || self.pairs.len() != parameters.len() {
            return None;
        }
        let mut values = Vec::new();
        for parameter in parameters {
            let value = self.get(&parameter.name)?;
            match &parameter.value {
                None => values.push(value),
                Some(wanted) => {
                    if **wanted != *value {
                        return None;
                    }
                }
            }
        }
        Some(values)
    }
}

/// Percent-decoded, with `+` as a blank, as forms are sent. What is no escape stays as it is.
fn decoded(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        let digit = |at: usize| after.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        match (byte, digit(0).zip(digit(1))) {
            (b'%', Some((high, low))) => {
                out.push(u8::try_from(high << 4 | low).unwrap_or_default());
                rest = &after[2..];
            }
            (b'+', _) => out.push(b' '),
            _ => out.push(*byte),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_matched_exactly() {
        for (rule, query, expected) in [
            (&["id=:id"][..], "id=my-blog-post", Some(&["my-blog-post"][..])),
            (&["id=:id"], "?id=my-blog-post", Some(&["my-blog-post"])),
            (&["id=:id"], "", None),
            (&["id=:id"], "ID=1", None),
            (&["id=:id"], "id=1&utm_source=mail", None),
            (&["id=:id"], "id", Some(&[""])),
            (&["id=:id"], "id=1&id=2", Some(&["1"])),
            (&["id=:id"], "&id=a+b%26%zz&", Some(&["a b&%zz"])),
            (&["id=:id", "tag=:tag"], "tag=x&id=1", Some(&["1", "x"])),
            (&["id=:id", "tag=:tag"], "id=1", None),
            (&["page=news"], "page=news", Some(&[])),
            (&["page=news"], "page=other", None),
            (&["a%20b=c+d"], "a+b=c%20d", Some(&[])),
            (&["empty="], "empty=", Some(&[])),
        ] {
            let parameters: Vec<_> =
                rule.iter().map(|text| Parameter::parse(text.as_bytes()).expect("a parameter").0).collect();
            let query_read = Query::parse(query.as_bytes());
            let expected =
                expected.map(|values| values.iter().map(|value| value.as_bytes()).collect::<Vec<_>>());
            assert_eq!(query_read.capture(&parameters), expected, "{rule:?} {query}");
        }
    }

    #[test]
    fn parameters_are_read() {
        let (parameter, name) = Parameter::parse(b"id=:post_id").expect("a parameter");
        assert_eq!((&*parameter.name, parameter.value, name), (&b"id"[..], None, Some("post_id")));
        for text in ["id", "=x", "id=:", "id=:1", "id=:a-b"] {
            assert_eq!(Parameter::parse(text.as_bytes()), Err(Problem::Parameter), "{text}");
        }
    }

    #[test]
    fn queries_are_bounded() {
        let query: String = (0..ASKED_MAX).map(|index| format!("n{index}=&")).collect();
        assert!(!Query::parse(query.as_bytes()).has_more);
        assert!(Query::parse(format!("{query}x=").as_bytes()).has_more);
    }
}
