//! What is wrong with a line of a rule file, and what would be right.

use std::fmt;

use crate::site::rules::field::OWNED_EXAMPLES;

/// Faults of a file that are told one by one; any further ones are counted.
pub const FAULTS_MAX: usize = 100;

/// Bytes of a line that are shown.
const SHOWN_BYTES_MAX: usize = 60;

/// One line that isn't in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The line, counted from 1.
    pub line: usize,
    /// The part of the line that is meant, without control characters.
    pub shown: String,
    /// What is wrong with it.
    pub problem: Problem,
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "line {}: ", self.line)?;
        if !self.shown.is_empty() {
            write!(out, "`{}` ", self.shown)?;
        }
        out.write_str(self.problem.text())?;
        match self.problem {
            Problem::Owned => write!(out, " ({OWNED_EXAMPLES})"),
            _ => Ok(()),
        }
    }
}

/// The faults of one file, in the order of its lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// The first ones.
    pub told: Vec<Fault>,
    /// How many more there are.
    pub untold: usize,
}

impl Faults {
    pub(crate) fn add(&mut self, line: usize, shown: &[u8], problem: Problem) {
        if self.told.len() == FAULTS_MAX {
            self.untold += 1;
            return;
        }
        let mut text = String::from_utf8_lossy(&shown[..shown.len().min(SHOWN_BYTES_MAX)]).into_owned();
        text.retain(|character| !character.is_control());
        if shown.len() > SHOWN_BYTES_MAX {
            text.push('…');
        }
        self.told.push(Fault { line, shown: text, problem });
    }
}

/// What can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "`text` says what each means")]
pub enum Problem {
    FileTooLarge,
    LineTooLong,
    TooManyRules,
    // Paths and patterns.
    NotAPath,
    Blank,
    PatternTooLong,
    QueryInPath,
    Escape,
    DotSegment,
    Placeholder,
    RepeatedName,
    TooManyNames,
    StarNotLast,
    // Fields.
    NoPathYet,
    NoField,
    HostOfFields,
    NotAField,
    Name,
    NoValue,
    Value,
    Owned,
    Kept,
    BasicAuth,
    MediaType,
    Repeated,
    TooManyFields,
    // Redirects.
    NoTarget,
    NotATarget,
    OtherHost,
    Authority,
    UnknownName,
    Host,
    Parameter,
    TooManyParameters,
    Status,
    Condition,
    Proxy,
    Function,
    Loop,
}

impl Problem {
    /// What is wrong, and what would be right. It follows the part of the line that is meant.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Problem::FileTooLarge => {
                "and what follows are beyond 1 MiB; use patterns to say it in fewer lines"
            }
            Problem::LineTooLong => "… is longer than 8192 bytes",
            Problem::TooManyRules => {
                "and what follows are too many rules (2000 paths in _headers, 10000 redirects); use patterns"
            }
            Problem::NotAPath => "is not a path; begin it with a slash",
            Problem::Blank => "has a blank in it; write it as %20",
            Problem::PatternTooLong => "is a path of more than 1000 bytes",
            Problem::QueryInPath => {
                "has a query or a fragment, which is no part of a path; in _redirects write name=value behind it"
            }
            Problem::Escape => "has an escape that is none; write %25 for a percent sign, and no %00",
            Problem::DotSegment => "has a segment of dots; write the path without",
            Problem::Placeholder => {
                "must be a whole segment: a colon, a letter, then letters, digits and underscores"
            }
            Problem::RepeatedName => "has a name twice; give each placeholder its own",
            Problem::TooManyNames => "has more than 16 placeholders",
            Problem::StarNotLast => "may have one `*`, as its last segment: /blog/*",
            Problem::NoPathYet => "comes before any path; write the path that it is for on a line above",
            Problem::NoField => "has no field below it; write `Name: value` on the next line",
            Problem::HostOfFields => "names a host, but fields are chosen by the path alone; write the path",
            Problem::NotAField => "is neither a path nor `Name: value` nor `! Name`",
            Problem::Name => "is not a field name; it has letters, digits and hyphens",
            Problem::NoValue => "has no value; to take a field away write `! Name`",
            Problem::Value => "has a control character in its value",
            Problem::Owned => "is a field that the server alone sets; take the line out",
            Problem::Kept => "can be set but not taken away",
            Problem::BasicAuth => {
                "would ask for a password, which this server doesn't; the line isn't sent either"
            }
            Problem::MediaType => "is not a media type; write type/subtype",
            Problem::Repeated => "is in this rule already and can have one value only",
            Problem::TooManyFields => "and what follows are more than 64 fields of one path",
            Problem::NoTarget => "has no target; write /from /to, or /from/* 200",
            Problem::NotATarget => "is followed by no target; one begins with a slash, http:// or https://",
            Problem::OtherHost => "would leave this host; begin the target with one slash, or with https://",
            Problem::Authority => {
                "has no valid host; a host is written out, without user, placeholder or `*`"
            }
            Problem::UnknownName => "has a placeholder that is not in the path or the query of this rule",
            Problem::Host => "must name one host, without user, port, placeholder or `*`",
            Problem::Parameter => "must be name=value or name=:placeholder",
            Problem::TooManyParameters => "has more than 16 parameters of the query",
            Problem::Status => {
                "is not a code for a rule; those are 200, 301, 302, 303, 307, 308, 404 and 410"
            }
            Problem::Condition => {
                "is a condition, and none is supported (country, language, role, cookie, signature)"
            }
            Problem::Proxy => "is on another host; with 200, 404 and 410 the target is a path of this site",
            Problem::Function => "is a function of Netlify's; there are none here",
            Problem::Loop => "leads to itself: a slash at the end makes no difference",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_bounded_and_printable() {
        let mut faults = Faults::default();
        let line = [b"\x1b[31m\xff", &[b'a'; 1000][..]].concat();
        for number in 1..=FAULTS_MAX + 7 {
            faults.add(number, &line, Problem::NotAPath);
        }
        assert_eq!((faults.told.len(), faults.untold), (FAULTS_MAX, 7));
        for fault in &faults.told {
            let text = fault.to_string();
            assert!(text.starts_with(&format!("line {}: ", fault.line)), "{text}");
            assert!(text.len() < 250 && !text.contains(char::is_control), "{text}");
        }
    }

    /// The numbers in the sentences are those of the constants.
    #[test]
    fn bounds_are_said() {
        use crate::site::rules::{
            FIELDS_MAX, FILE_BYTES_MAX, HEADER_RULES_MAX, LINE_BYTES_MAX, NAMES_MAX, PARAMETERS_MAX,
            PATTERN_BYTES_MAX, REDIRECTS_MAX,
        };
        assert_eq!(FILE_BYTES_MAX, 1 << 20);
        for (problem, bounds) in [
            (Problem::LineTooLong, &[LINE_BYTES_MAX][..]),
            (Problem::TooManyRules, &[HEADER_RULES_MAX, REDIRECTS_MAX]),
            (Problem::PatternTooLong, &[PATTERN_BYTES_MAX]),
            (Problem::TooManyNames, &[NAMES_MAX]),
            (Problem::TooManyFields, &[FIELDS_MAX]),
            (Problem::TooManyParameters, &[PARAMETERS_MAX]),
        ] {
            for bound in bounds {
                assert!(problem.text().contains(&bound.to_string()), "{problem:?}: {bound}");
            }
        }
    }
}
