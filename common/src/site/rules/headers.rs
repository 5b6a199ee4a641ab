//! `_headers`: fields that are added to answers.
//!
//! ```text
//! /assets/*
//!   Cache-Control: public, max-age=31536000, immutable
//!   ! X-Content-Type-Options
//! ```
//!
//! A line that begins with a slash is a path, and what follows is for it, indented or not. All rules that match count.
//! A name that comes twice in one rule has both values, joined by commas; in a later rule it replaces what earlier
//! ones said, as Netlify has it (Cloudflare joins there as well). `! Name` is Cloudflare's: it takes away what earlier
//! rules said, and what the server would send. Values are sent as they are written; Cloudflare fills in placeholders.

use crate::site::rules::fault::{Faults, Problem};
use crate::site::rules::field::{check, check_removal};
use crate::site::rules::lines::{LINE_BYTES_MAX, Line, lines};
use crate::site::rules::pattern::{Dialect, Pattern};

/// Paths in `_headers`. Cloudflare allows 100; Netlify names no bound.
pub const HEADER_RULES_MAX: usize = 2000;

/// Fields of one rule, those that it takes away included.
pub const FIELDS_MAX: usize = 64;

/// Bytes of all fields of one answer; a client would refuse many more. What doesn't fit is left out and counted.
pub const FIELDS_BYTES_MAX: usize = 16 * 1024;

/// The rules of one `_headers`.
#[derive(Clone, Debug, Default)]
pub struct HeaderRules {
    rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
struct Rule {
    pattern: Pattern,
    removed: Vec<Box<[u8]>>,
    set: Vec<Field>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Field {
    name: Box<[u8]>,
    value: Vec<u8>,
}

impl HeaderRules {
    /// Reads a file, and what is wrong with it.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> (HeaderRules, Faults) {
        let mut faults = Faults::default();
        let mut reader = Reader::default();
        for line in lines(bytes, &mut faults) {
            match reader.read(line, &mut faults) {
                Ok(()) => {}
                Err(Problem::TooManyRules) => {
                    faults.add(line.number, line.text, Problem::TooManyRules);
                    break;
                }
                Err(problem) => faults.add(line.number, shown(line.text, problem), problem),
            }
        }
        reader.end_rule(&mut faults);
        (HeaderRules { rules: reader.rules }, faults)
    }

    /// A rule for every path. Each line is one of a rule: `Name: value` or `! Name`.
    ///
    /// # Errors
    /// The first line that can't be read, and what is wrong with it.
    pub fn of_everything<'a>(lines: &[&'a str]) -> Result<HeaderRules, (&'a str, Problem)> {
        let mut reader = Reader::default();
        let start = Line { number: 0, text: b"/*" };
        reader.read(start, &mut Faults::default()).map_err(|problem| ("/*", problem))?;
        for line in lines {
            reader.read_field(line.trim_ascii().as_bytes()).map_err(|problem| (*line, problem))?;
        }
        reader.end_rule(&mut Faults::default());
        Ok(HeaderRules { rules: reader.rules })
    }

    /// These and then the others, which replace what these say.
    #[must_use]
    pub fn then(&self, others: HeaderRules) -> HeaderRules {
        let mut rules = self.rules.clone();
        rules.extend(others.rules);
        HeaderRules { rules }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// What the rules say about answers to this path, as `http/target.rs` resolves it. Each rule is tried.
    #[must_use]
    pub fn fields_for(&self, path: &[u8]) -> Fields {
        let mut fields = Fields::default();
        if self.rules.is_empty() {
            return fields;
        }
        let path = rooted(path).to_ascii_lowercase();
        let mut set: Vec<&Field> = Vec::new();
        for rule in self.rules.iter().filter(|rule| rule.pattern.matches(&path)) {
            let decides = |name: &[u8]| {
                rule.removed.iter().any(|removed| removed.eq_ignore_ascii_case(name))
                    || rule.set.iter().any(|field| field.name.eq_ignore_ascii_case(name))
            };
            set.retain(|field| !decides(&field.name));
            fields.removed.retain(|name| !decides(name));
            // What the same rule sets stays.
            fields.removed.extend_from_slice(&rule.removed);
            set.extend(&rule.set);
        }
        for field in set {
            fields.add(field);
        }
        fields
    }
}

/// A path with a slash in front of each segment.
fn rooted(path: &[u8]) -> Vec<u8> {
    if path.is_empty() { Vec::new() } else { [b"/", path].concat() }
}

/// The part of a line that a message shows; never a password.
fn shown(line: &[u8], problem: Problem) -> &[u8] {
    match problem {
        Problem::Owned | Problem::BasicAuth | Problem::Name | Problem::NoValue | Problem::Repeated => {
            line.split(|byte| *byte == b':').next().unwrap_or_default().trim_ascii_end()
        }
        _ => line,
    }
}

/// Reads lines into rules.
#[derive(Default)]
struct Reader {
    rules: Vec<Rule>,
    state: State,
}

/// What the next field belongs to.
#[derive(Default)]
enum State {
    /// No path has come yet.
    #[default]
    Start,
    /// A path that can't be used, which has been said: its fields must not go to the path before.
    Unusable,
    /// The last rule.
    Rule { line: usize, path: Vec<u8>, has_lines: bool, fields: usize },
}

impl Reader {
    fn read(&mut self, line: Line<'_>, faults: &mut Faults) -> Result<(), Problem> {
        let names_host = [b"http://".as_slice(), b"https://"].iter().any(|scheme| {
            line.text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
        });
        if line.text[0] != b'/' && !names_host {
            return self.read_field(line.text);
        }
        self.end_rule(faults);
        if self.rules.len() == HEADER_RULES_MAX {
            return Err(Problem::TooManyRules);
        }
        self.state = State::Unusable;
        if line.text.len() > LINE_BYTES_MAX {
            return Err(Problem::LineTooLong);
        }
        if names_host {
            return Err(Problem::HostOfFields);
        }
        let pattern = Pattern::parse(line.text, Dialect::Headers)?;
        self.rules.push(Rule { pattern, removed: Vec::new(), set: Vec::new() });
        self.state = State::Rule { line: line.number, path: line.text.to_vec(), has_lines: false, fields: 0 };
        Ok(())
    }

    fn read_field(&mut self, text: &[u8]) -> Result<(), Problem> {
        let (rule, fields) = match &mut self.state {
            State::Start => return Err(Problem::NoPathYet),
            State::Unusable => return Ok(()),
            State::Rule { has_lines, fields, .. } => {
                *has_lines = true;
                (self.rules.last_mut().expect("a rule was pushed with its state"), fields)
            }
        };
        if *fields == FIELDS_MAX {
            return Err(Problem::TooManyFields);
        }
        if text.len() > LINE_BYTES_MAX {
            return Err(Problem::LineTooLong);
        }
        if let Some(name) = text.strip_prefix(b"!") {
            let name = name.trim_ascii_start();
            check_removal(name)?;
            rule.removed.push(name.into());
        } else {
            let colon = memchr::memchr(b':', text).ok_or(Problem::NotAField)?;
            let (name, value) = (text[..colon].trim_ascii_end(), text[colon + 1..].trim_ascii());
            check(name, value)?;
            rule.set(name, value)?;
        }
        *fields += 1;
        Ok(())
    }

    /// The last path has all its fields.
    fn end_rule(&mut self, faults: &mut Faults) {
        if let State::Rule { line, path, has_lines, .. } = std::mem::take(&mut self.state) {
            if !has_lines {
                faults.add(line, &path, Problem::NoField);
            }
            if self.rules.last().is_some_and(|rule| rule.set.is_empty() && rule.removed.is_empty()) {
                self.rules.pop();
            }
        }
    }
}

impl Rule {
    /// Sets a field, or adds to it.
    fn set(&mut self, name: &[u8], value: &[u8]) -> Result<(), Problem> {
        let known = self.set.iter_mut().find(|field| field.name.eq_ignore_ascii_case(name));
        match known {
            Some(_) if name.eq_ignore_ascii_case(b"content-type") => return Err(Problem::Repeated),
            // The one field whose values can't be joined (RFC 9110 §5.3).
            Some(field) if !name.eq_ignore_ascii_case(b"set-cookie") => {
                field.value.extend_from_slice(b", ");
                field.value.extend_from_slice(value);
            }
            _ => self.set.push(Field { name: name.into(), value: value.to_vec() }),
        }
        Ok(())
    }
}

/// What the rules say about an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    lines: Vec<u8>,
    names: Vec<Box<[u8]>>,
    removed: Vec<Box<[u8]>>,
    content_type: Option<Box<[u8]>>,
    vary: Option<Box<[u8]>>,
    left_out: usize,
}

impl Fields {
    /// Whether the answer is what it would be without rules.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Fields::default()
    }

    /// The fields as they are sent, each with its CR LF, apart from `Content-Type` and `Vary`.
    #[must_use]
    pub fn lines(&self) -> &[u8] {
        &self.lines
    }

    /// The media type instead of the one that the name of the file says.
    #[must_use]
    pub fn content_type(&self) -> Option<&[u8]> {
        self.content_type.as_deref()
    }

    /// Names to add to the `Vary` of the server.
    #[must_use]
    pub fn vary(&self) -> Option<&[u8]> {
        self.vary.as_deref()
    }

    /// Whether the field of this name is one of [`lines`](Self::lines) or taken away, so that the server's own isn't
    /// sent.
    #[must_use]
    pub fn decide(&self, name: &[u8]) -> bool {
        self.names.iter().chain(&self.removed).any(|decided| decided.eq_ignore_ascii_case(name))
    }

    /// How many fields had no room within [`FIELDS_BYTES_MAX`].
    #[must_use]
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    fn add(&mut self, Field { name, value }: &Field) {
        let taken = self.lines.len()
            + self.content_type.as_ref().map_or(0, |value| value.len())
            + self.vary.as_ref().map_or(0, |value| value.len());
        if taken + name.len() + value.len() + b": \r\n".len() > FIELDS_BYTES_MAX {
            self.left_out += 1;
        } else if name.eq_ignore_ascii_case(b"content-type") {
            self.content_type = Some(value.as_slice().into());
        } else if name.eq_ignore_ascii_case(b"vary") {
            self.vary = Some(value.as_slice().into());
        } else {
            for part in [name, b": ".as_slice(), value, b"\r\n"] {
                self.lines.extend_from_slice(part);
            }
            self.names.push(name.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::rules::field::{Owner, owner};
    use proptest::prelude::*;

    fn problems(text: &str) -> Vec<(usize, Problem)> {
        let (_, faults) = HeaderRules::parse(text.as_bytes());
        faults.told.iter().map(|fault| (fault.line, fault.problem)).collect()
    }

    fn lines_for(text: &str, path: &str) -> String {
        let (rules, _) = HeaderRules::parse(text.as_bytes());
        String::from_utf8_lossy(rules.fields_for(path.as_bytes()).lines()).replace("\r\n", "\n")
    }

    #[test]
    fn lines_that_are_wrong() {
        for (text, expected) in [
            ("X: y", &[(1, Problem::NoPathYet)][..]),
            ("! X", &[(1, Problem::NoPathYet)]),
            ("/a\n/b\n X: y\n/c", &[(1, Problem::NoField), (4, Problem::NoField)]),
            ("/a\n X", &[(2, Problem::NotAField)]),
            ("/a\n :x", &[(2, Problem::Name)]),
            ("/a\n X:", &[(2, Problem::NoValue)]),
            ("/a\n X: a\rb", &[(2, Problem::Value)]),
            ("/a\n Content-Length: 3\n X: y", &[(2, Problem::Owned)]),
            ("/a\n ! Date", &[(2, Problem::Owned)]),
            ("/a\n ! Content-Type", &[(2, Problem::Kept)]),
            ("/a\n Content-Type: a/b\n Content-Type: c/d", &[(3, Problem::Repeated)]),
            ("/a\n Basic-Auth: user:secret", &[(2, Problem::BasicAuth)]),
            ("https://example.com/*\n X: y", &[(1, Problem::HostOfFields)]),
            ("/a b\n X: y", &[(1, Problem::Blank)]),
        ] {
            assert_eq!(problems(text), expected, "{text}");
        }
    }

    #[test]
    fn a_password_is_not_shown() {
        let (_, faults) = HeaderRules::parse(b"/a\n Basic-Auth: user:secret");
        assert_eq!(faults.told[0].shown, "Basic-Auth");
    }

    /// The rest is in force, and nothing of a broken rule goes to another one.
    #[test]
    fn the_rest_is_in_force() {
        let text = "/a\n A: 1\n Date: 2\n B: 3\nhttps://x.example/*\n C: 4\n/a b\n D: 5\n/b\n E: 6";
        assert_eq!(lines_for(text, "a"), "A: 1\nB: 3\n");
        assert_eq!(lines_for(text, "b"), "E: 6\n");
        assert_eq!(lines_for("/*\n A: 1\n/b c\n A: 2", "x"), "A: 1\n");
    }

    #[test]
    fn rules_are_combined() {
        for (text, path, expected) in [
            // Within a rule joined, whatever the case; from rule to rule replaced.
            ("/*\n A: 1\n b: 2\n a: 3", "", "A: 1, 3\nb: 2\n"),
            ("/*\n A: 1\n A: 2\n/x\n a: 3", "x", "a: 3\n"),
            ("/x\n A: 1\n/*\n A: 2", "x", "A: 2\n"),
            ("/*\n Set-Cookie: a=1\n Set-Cookie: b=2", "", "Set-Cookie: a=1\nSet-Cookie: b=2\n"),
            ("/*\n Set-Cookie: a=1\n Set-Cookie: b=2\n/x\n set-cookie: c=3", "x", "set-cookie: c=3\n"),
            // A field that is taken away may come again, below or in the same rule.
            ("/*\n A: 1\n/x\n ! a", "x", ""),
            ("/*\n A: 1\n/x\n ! A\n A: 2", "x", "A: 2\n"),
            ("/*\n A: 1\n/x\n A: 2\n !A", "x", "A: 2\n"),
            ("/*\n ! A\n/x\n A: 1", "x", "A: 1\n"),
            ("/x\n ! A\n/*\n A: 1", "x", "A: 1\n"),
        ] {
            assert_eq!(lines_for(text, path), expected, "{text}");
        }
    }

    #[test]
    fn fields_that_the_server_has_too() {
        let text = "/*\n Content-Type: text/plain\n Vary: Origin\n Vary: Cookie\n\
            ! X-Content-Type-Options\nB: c\n/x\nvary: Accept";
        let (rules, faults) = HeaderRules::parse(text.as_bytes());
        assert_eq!(faults.told, []);
        let fields = rules.fields_for(b"a");
        assert_eq!(fields.content_type(), Some(&b"text/plain"[..]));
        assert_eq!(fields.vary(), Some(&b"Origin, Cookie"[..]));
        assert_eq!(fields.lines(), b"B: c\r\n");
        assert!(fields.decide(b"x-content-type-options") && fields.decide(b"b"));
        assert!(!fields.decide(b"vary") && !fields.decide(b"content-type"));
        assert_eq!(rules.fields_for(b"x").vary(), Some(&b"Accept"[..]));
        assert!(HeaderRules::parse(b"/a\n A: b").0.fields_for(b"b").is_empty());
    }

    #[test]
    fn a_rule_for_everything_comes_first() {
        let before = HeaderRules::of_everything(&["A: 1", " b:2", "a: 3", "! C"]).expect("good lines");
        let (own, _) = HeaderRules::parse(b"/x\n A: 4\n! b\n C: 5");
        let rules = before.then(own);
        assert_eq!(rules.fields_for(b"").lines(), b"A: 1, 3\r\nb: 2\r\n");
        assert_eq!(rules.fields_for(b"x").lines(), b"A: 4\r\nC: 5\r\n");
        for (line, problem) in [
            ("A", Problem::NotAField),
            ("", Problem::NotAField),
            ("# A: b", Problem::Name),
            ("/x", Problem::NotAField),
            ("A: b\r\nC: d", Problem::Value),
            ("A: b\nC: d", Problem::Value),
            ("Content-Length: 1", Problem::Owned),
            ("! Date", Problem::Owned),
        ] {
            let error = HeaderRules::of_everything(&["A: b", line]).expect_err("refused");
            assert_eq!(error, (line, problem));
        }
        let many: Vec<String> = (0..=FIELDS_MAX).map(|index| format!("N{index}: v")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(HeaderRules::of_everything(&many[1..]).is_ok());
        let beyond = HeaderRules::of_everything(&many).expect_err("too many");
        assert_eq!(beyond, (many[FIELDS_MAX], Problem::TooManyFields));
        assert!(HeaderRules::of_everything(&[]).expect("nothing").is_empty());
    }

    #[test]
    fn bounds_hold() {
        let rules = "/a\n A: b\n".repeat(HEADER_RULES_MAX);
        assert_eq!(problems(&rules), []);
        let beyond = format!("{rules}/x\n X: y\n/z\n Z: a");
        assert_eq!(problems(&beyond), [(2 * HEADER_RULES_MAX + 1, Problem::TooManyRules)]);
        assert_eq!(lines_for(&beyond, "x"), "");

        let fields: String = (0..FIELDS_MAX).map(|index| format!(" N{index}: v\n")).collect();
        assert_eq!(problems(&format!("/a\n{fields}")), []);
        assert_eq!(problems(&format!("/a\n{fields} X: y")), [(FIELDS_MAX + 2, Problem::TooManyFields)]);

        let longest = format!("A: {}", "v".repeat(LINE_BYTES_MAX - 3));
        assert_eq!(problems(&format!("/a\n {longest}")), []);
        assert_eq!(problems(&format!("/a\n {longest}v")), [(2, Problem::LineTooLong)]);

        let text = format!("/*\n {longest}\n/x\n B: {}\n/*\n C: d", "v".repeat(LINE_BYTES_MAX - 4));
        let (rules, _) = HeaderRules::parse(text.as_bytes());
        let fields = rules.fields_for(b"x");
        assert!(fields.lines().len() <= FIELDS_BYTES_MAX);
        assert_eq!(fields.left_out(), 1);
    }

    proptest! {
        /// Whatever the file, what is sent is whole lines of fields that rules may set.
        #[test]
        fn fields_are_fields(
            lines in proptest::collection::vec(
                concat!(
                    "(/[a*:]{0,3}|! ?[A-Za-z-]{1,6}|.{0,9}|",
                    "(Date|TE|X|Content-Length|Vary|Content-Type|[ -~]{0,4}) ?: ?[\\x00-\\x7fé]{0,6})",
                ),
                0..20,
            ),
            path in "[a/]{0,4}",
        ) {
            check_fields(lines.join("\n").as_bytes(), path.as_bytes());
        }

        #[test]
        fn arbitrary_bytes(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            path in proptest::collection::vec(any::<u8>(), 0..20),
        ) {
            check_fields(&[b"/*\n", &bytes[..]].concat(), &path);
        }
    }

    fn check_fields(bytes: &[u8], path: &[u8]) {
        let (rules, _) = HeaderRules::parse(bytes);
        let fields = rules.fields_for(path);
        assert!(fields.lines().is_empty() || fields.lines().ends_with(b"\r\n"));
        assert!(fields.lines().len() <= FIELDS_BYTES_MAX);
        for line in fields.lines().split_inclusive(|byte| *byte == b'\n') {
            let line = line.strip_suffix(b"\r\n").expect("a whole line");
            let colon = memchr::memchr(b':', line).expect("a name");
            assert_eq!(owner(&line[..colon]), Owner::Rules);
            assert!(line[..colon].iter().all(u8::is_ascii_graphic));
            assert!(!line.iter().any(|byte| *byte < b' ' && *byte != b'\t' || *byte == 0x7f));
        }
        for value in [fields.content_type(), fields.vary()].into_iter().flatten() {
            assert!(!value.iter().any(|byte| *byte < b' ' && *byte != b'\t' || *byte == 0x7f));
        }
    }
}
