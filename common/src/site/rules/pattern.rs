//! The paths that a rule is for.
//!
//! A pattern is matched against a path as `http/target.rs` resolves it: decoded, without empty and dot segments, here
//! with a slash in front of each segment, so the root is empty. A slash at the end of either makes no difference.

use crate::site::rules::fault::Problem;

/// Bytes of a pattern.
pub const PATTERN_BYTES_MAX: usize = 1000;

/// Placeholders of a rule, those of its query and its splat included.
pub const NAMES_MAX: usize = 16;

/// What the value of `*` is called.
pub(super) const SPLAT: &str = "splat";

/// What patterns may look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// `*` anywhere, also within a segment. Letters match in either case, as Netlify's `headers-parser` has it.
    Headers,
    /// One `*`, as the last segment. Case counts.
    Redirects,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    /// These bytes.
    Literal(Box<[u8]>),
    /// A whole segment: everything up to the next slash, and something.
    Segment,
    /// Nothing, but only at the end of a segment.
    Boundary,
    /// Any bytes, slashes included.
    Anything,
}

/// A path with placeholders and wildcards.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    tokens: Box<[Token]>,
    names: Box<[Box<str>]>,
}

impl Pattern {
    /// Reads a pattern. Its segments are percent-decoded, so that `%2A` and `%3A` are an ordinary `*` and `:`.
    pub(super) fn parse(text: &[u8], dialect: Dialect) -> Result<Pattern, Problem> {
        if text.first() != Some(&b'/') {
            return Err(Problem::NotAPath);
        }
        if text.len() > PATTERN_BYTES_MAX {
            return Err(Problem::PatternTooLong);
        }
        if text.iter().any(|byte| byte.is_ascii_whitespace()) {
            return Err(Problem::Blank);
        }
        if text.iter().any(|byte| b"?#".contains(byte)) {
            return Err(Problem::QueryInPath);
        }
        let mut parser = Parser::default();
        for segment in text.split(|byte| *byte == b'/').filter(|segment| !segment.is_empty()) {
            parser.push_segment(segment, dialect)?;
        }
        parser.flush();
        Ok(Pattern { tokens: parser.tokens.into(), names: parser.names.into() })
    }

    /// The names of what [`capture`](Self::capture) returns.
    pub(super) fn names(&self) -> &[Box<str>] {
        &self.names
    }

    /// The only path that matches, if there is only one.
    pub(super) fn as_path(&self) -> Option<&[u8]> {
        match &*self.tokens {
            [] => Some(b""),
            [Token::Literal(path)] => Some(path),
            _ => None,
        }
    }

    /// The first segment of every path that matches, if it is always the same. For [`Dialect::Redirects`].
    pub(super) fn first_segment(&self) -> Option<&[u8]> {
        match self.tokens.first() {
            Some(Token::Literal(literal)) => Some(first_segment(literal)).filter(|first| !first.is_empty()),
            _ => None,
        }
    }

    /// Whether the path matches. Of two places where the tokens between two wildcards could begin, the earlier one
    /// never ends later, so the first is right and none is tried again: the time is at most the product of the two
    /// lengths.
    pub(super) fn matches(&self, path: &[u8]) -> bool {
        let mut runs = self.tokens.split(|token| *token == Token::Anything).peekable();
        let Some(mut at) = runs.next().and_then(|run| end_of_run(run, path, 0)) else { return false };
        if runs.peek().is_none() {
            return at == path.len();
        }
        while let Some(run) = runs.next() {
            let is_last = runs.peek().is_none();
            let end = |start| end_of_run(run, path, start).filter(|end| !is_last || *end == path.len());
            match (at..=path.len()).find_map(end) {
                Some(end) => at = end,
                None => return false,
            }
        }
        true
    }

    /// What stands in the path for the [`names`](Self::names), if it matches. For [`Dialect::Redirects`].
    pub(super) fn capture<'p>(&self, path: &'p [u8]) -> Option<Vec<&'p [u8]>> {
        let mut values = Vec::with_capacity(self.names.len());
        let mut at = 0;
        for token in &self.tokens {
            let end = if *token == Token::Anything { path.len() } else { end_of_token(token, path, at)? };
            match token {
                Token::Segment => values.push(&path[at..end]),
                Token::Anything => values.push(path[at..].strip_prefix(b"/").unwrap_or_default()),
                Token::Literal(_) | Token::Boundary => {}
            }
            at = end;
        }
        (at == path.len()).then_some(values)
    }
}

/// The first segment of a path with slashes in front of its segments.
pub(super) fn first_segment(path: &[u8]) -> &[u8] {
    path.split(|byte| *byte == b'/').nth(1).unwrap_or_default()
}

/// Where tokens without wildcards end that begin at `at`.
fn end_of_run(tokens: &[Token], path: &[u8], at: usize) -> Option<usize> {
    tokens.iter().try_fold(at, |at, token| end_of_token(token, path, at))
}

fn end_of_token(token: &Token, path: &[u8], at: usize) -> Option<usize> {
    let rest = &path[at..];
    match token {
        Token::Literal(literal) => rest.starts_with(literal).then_some(at + literal.len()),
        Token::Segment => {
            let length = memchr::memchr(b'/', rest).unwrap_or(rest.len());
            (length > 0).then_some(at + length)
        }
        Token::Boundary => matches!(rest.first(), None | Some(b'/')).then_some(at),
        Token::Anything => None,
    }
}

/// Gathers the tokens of a pattern.
#[derive(Default)]
struct Parser {
    tokens: Vec<Token>,
    names: Vec<Box<str>>,
    literal: Vec<u8>,
    /// The last segment was the `*` of a redirect.
    has_splat: bool,
}

impl Parser {
    fn push_segment(&mut self, segment: &[u8], dialect: Dialect) -> Result<(), Problem> {
        let is_redirect = dialect == Dialect::Redirects;
        if self.has_splat || is_redirect && segment.contains(&b'*') && segment != b"*" {
            return Err(Problem::StarNotLast);
        }
        if segment == b"*" {
            // `/a/*` is for `/a` as well, and not for `/ab`.
            self.flush();
            self.tokens.push(Token::Boundary);
            self.push_wildcard();
            if is_redirect {
                self.has_splat = true;
                self.push_name(SPLAT)?;
            }
            return Ok(());
        }
        self.literal.push(b'/');
        if let Some(name) = segment.strip_prefix(b":") {
            let name = placeholder(name).filter(|found| found.len() == name.len());
            self.push_name(name.ok_or(Problem::Placeholder)?)?;
            self.flush();
            self.tokens.push(Token::Segment);
            return Ok(());
        }
        if segment.contains(&b'*') {
            for (index, piece) in segment.split(|byte| *byte == b'*').enumerate() {
                if index > 0 {
                    self.flush();
                    self.push_wildcard();
                }
                self.push_literal(piece, dialect)?;
            }
            return Ok(());
        }
        let start = self.literal.len();
        self.push_literal(segment, dialect)?;
        // What a decoded slash separates counts as well: requests are resolved after decoding.
        if self.literal[start..].split(|byte| *byte == b'/').any(|part| part == b"." || part == b"..") {
            return Err(Problem::DotSegment);
        }
        Ok(())
    }

    fn push_literal(&mut self, encoded: &[u8], dialect: Dialect) -> Result<(), Problem> {
        let start = self.literal.len();
        decode(encoded, &mut self.literal)?;
        if dialect == Dialect::Headers {
            self.literal[start..].make_ascii_lowercase();
        }
        Ok(())
    }

    fn push_name(&mut self, name: &str) -> Result<(), Problem> {
        if self.names.len() == NAMES_MAX {
            return Err(Problem::TooManyNames);
        }
        if self.names.iter().any(|known| **known == *name) {
            return Err(Problem::RepeatedName);
        }
        self.names.push(name.into());
        Ok(())
    }

    /// Two wildcards in a row are one.
    fn push_wildcard(&mut self) {
        if self.tokens.last() != Some(&Token::Anything) {
            self.tokens.push(Token::Anything);
        }
    }

    fn flush(&mut self) {
        if !self.literal.is_empty() {
            self.tokens.push(Token::Literal(std::mem::take(&mut self.literal).into()));
        }
    }
}

/// The name at the start of the bytes: a letter, then letters, digits and underscores.
pub(super) fn placeholder(bytes: &[u8]) -> Option<&str> {
    let is_of_name = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let end = bytes.iter().position(|byte| !is_of_name(byte)).unwrap_or(bytes.len());
    std::str::from_utf8(&bytes[..end])
        .ok()
        .filter(|name| name.starts_with(|first: char| first.is_ascii_alphabetic()))
}

/// Appends the percent-decoded bytes (RFC 3986 §2.1).
fn decode(encoded: &[u8], out: &mut Vec<u8>) -> Result<(), Problem> {
    let mut rest = encoded.iter();
    while let Some(&byte) = rest.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || char::from(*rest.next()?).to_digit(16);
        let decoded = digit().zip(digit()).and_then(|(high, low)| u8::try_from(high << 4 | low).ok());
        out.push(decoded.filter(|byte| *byte != 0).ok_or(Problem::Escape)?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pattern(text: &str, dialect: Dialect) -> Pattern {
        Pattern::parse(text.as_bytes(), dialect).unwrap_or_else(|problem| panic!("{text}: {problem:?}"))
    }

    /// The patterns of Netlify's `headers-parser` and of both hosts' documentation.
    #[test]
    fn paths_of_fields() {
        for (text, matching, others) in [
            ("/", &[""][..], &["/a"][..]),
            ("//", &[""], &["/a"]),
            ("/*", &["", "/a", "/a/b"], &[]),
            ("/a", &["/a", "/A"], &["", "/ab", "/a/b", "/b/a"]),
            ("/a/", &["/a"], &["/a/b"]),
            ("//a//b//", &["/a/b"], &["/a", "/a/b/c"]),
            ("/a.b", &["/a.b"], &["/axb"]),
            ("/a/:b", &["/a/x", "/a/x.html"], &["/a", "/a/x/y", "/b/x"]),
            ("/:placeholder/index.html", &["/placeholder/index.html"], &["/index.html", "/a/b/index.html"]),
            ("/*/a", &["/a", "/x/a", "/x/y/a"], &["/xa", "/x/a/b", ""]),
            ("/a/*", &["/a", "/a/b", "/a/b/c"], &["/ab", "/b"]),
            ("/a/*/b", &["/a/b", "/a/x/b", "/a/x/y/b", "/a/b/b"], &["/a", "/ab", "/axb", "/a/xb", "/a/b/c"]),
            ("/a/*/*", &["/a", "/a/b", "/a/b/c"], &["/ab"]),
            ("/a/b*c", &["/a/bc", "/a/bxc", "/a/bx/yc"], &["/a/b", "/a/bcd"]),
            ("/*.jpg", &["/a.jpg", "/a/b.jpg", "/.jpg", "/A.JPG"], &["/a.jpeg", "/ajpg"]),
            ("/**/*.html", &["/a/b.html", "/a/b/c.html"], &["/a.html"]),
            ("/*/_next/static/chunks/*", &["/x/_next/static/chunks/a.js"], &["/x/_next/static/other"]),
            ("/directory/*/test.html", &["/directory/x/test.html"], &["/directory/x/other.html"]),
            ("/*/:x/c", &["/a/c", "/a/b/c", "/z/a/b/c"], &["/c", "/a/b/d"]),
            ("/*ab*ab", &["/abab", "/xabyabzab"], &["/ab", "/aba"]),
            ("/a%20b/%2A/%C3%A9", &["/a b/*/\u{e9}"], &["/a b/x/\u{e9}"]),
        ] {
            let pattern = pattern(text, Dialect::Headers);
            let matches = |path: &&str| pattern.matches(path.to_ascii_lowercase().as_bytes());
            assert!(matching.iter().all(matches), "{text} must match {matching:?}");
            assert!(!others.iter().any(matches), "{text} must not match {others:?}");
        }
    }

    #[test]
    fn paths_of_redirects() {
        for (text, path, values) in [
            ("/", "", Some(&[][..])),
            ("/home", "/home", Some(&[])),
            ("/home/", "/home", Some(&[])),
            ("/home", "/Home", None),
            ("/home", "/home/x", None),
            ("/news/*", "/news/2004/01/10/my-story", Some(&["2004/01/10/my-story"])),
            ("/news/*", "/news", Some(&[""])),
            ("/news/*", "/newspaper", None),
            ("/*", "", Some(&[""])),
            ("/*", "/a/b", Some(&["a/b"])),
            ("/:m/:d/:y", "/02/12/2004", Some(&["02", "12", "2004"])),
            ("/:m/:d/:y", "/02/12", None),
            ("/a/:b/*", "/a/x/y/z", Some(&["x", "y/z"])),
            ("/a/:b/*", "/a/x", Some(&["x", ""])),
            ("/a/:b/*", "/a", None),
            ("/c%C3%A9line", "/c\u{e9}line", Some(&[])),
            ("/c\u{e9}line", "/c\u{e9}line", Some(&[])),
            ("/%3Aslug", "/:slug", Some(&[])),
            ("/a:b", "/a:b", Some(&[])),
        ] {
            let captured = pattern(text, Dialect::Redirects).capture(path.as_bytes());
            let expected =
                values.map(|values| values.iter().map(|value| value.as_bytes()).collect::<Vec<_>>());
            assert_eq!(captured, expected, "{text} {path}");
        }
    }

    #[test]
    fn patterns_are_refused() {
        let long = format!("/{}", "a".repeat(PATTERN_BYTES_MAX));
        let many: String = (0..=NAMES_MAX).map(|index| format!("/:n{index}")).collect();
        for (text, dialect, expected) in [
            ("a", Dialect::Headers, Problem::NotAPath),
            ("", Dialect::Headers, Problem::NotAPath),
            ("/a b", Dialect::Headers, Problem::Blank),
            ("/a?b=c", Dialect::Redirects, Problem::QueryInPath),
            ("/a#b", Dialect::Redirects, Problem::QueryInPath),
            ("/a%2", Dialect::Redirects, Problem::Escape),
            ("/a%zz", Dialect::Headers, Problem::Escape),
            ("/a%00", Dialect::Headers, Problem::Escape),
            ("/a/../b", Dialect::Headers, Problem::DotSegment),
            ("/a/%2e", Dialect::Redirects, Problem::DotSegment),
            ("/a%2F..", Dialect::Redirects, Problem::DotSegment),
            ("/:", Dialect::Redirects, Problem::Placeholder),
            ("/:1", Dialect::Redirects, Problem::Placeholder),
            ("/:a.html", Dialect::Redirects, Problem::Placeholder),
            ("/:a/:a", Dialect::Redirects, Problem::RepeatedName),
            ("/:splat/*", Dialect::Redirects, Problem::RepeatedName),
            ("/jobs/*.html", Dialect::Redirects, Problem::StarNotLast),
            ("/jobs*", Dialect::Redirects, Problem::StarNotLast),
            ("/*/a", Dialect::Redirects, Problem::StarNotLast),
            ("/*/*", Dialect::Redirects, Problem::StarNotLast),
            (&long, Dialect::Headers, Problem::PatternTooLong),
            (&many, Dialect::Redirects, Problem::TooManyNames),
        ] {
            let problem = Pattern::parse(text.as_bytes(), dialect).err();
            assert_eq!(problem, Some(expected), "{text}");
        }
        assert!(Pattern::parse(&long.as_bytes()[..PATTERN_BYTES_MAX], Dialect::Headers).is_ok());
    }

    #[test]
    fn first_segments() {
        for (text, first) in [
            ("/a/b", Some("a")),
            ("/a/*", Some("a")),
            ("/a/:b", Some("a")),
            ("/:a", None),
            ("/*", None),
            ("/", None),
        ] {
            let pattern = pattern(text, Dialect::Redirects);
            assert_eq!(pattern.first_segment(), first.map(str::as_bytes), "{text}");
        }
    }

    /// Tries every length of every wildcard.
    fn matches_slowly(tokens: &[Token], path: &[u8], at: usize) -> bool {
        match tokens.split_first() {
            None => at == path.len(),
            Some((Token::Anything, rest)) => (at..=path.len()).any(|at| matches_slowly(rest, path, at)),
            Some((token, rest)) => {
                end_of_token(token, path, at).is_some_and(|at| matches_slowly(rest, path, at))
            }
        }
    }

    proptest! {
        /// Never going back finds what going back everywhere finds.
        #[test]
        fn no_match_is_missed(
            pattern in "(/([ab]{0,2}|:[ab]|[ab]?\\*[ab]?|\\*)){1,5}",
            path in "(/[ab]{1,3}){0,6}",
        ) {
            if let Ok(pattern) = Pattern::parse(pattern.as_bytes(), Dialect::Headers) {
                let slowly = matches_slowly(&pattern.tokens, path.as_bytes(), 0);
                prop_assert_eq!(pattern.matches(path.as_bytes()), slowly);
            }
        }

        /// A pattern captures where it matches, and its values stand in the path.
        #[test]
        fn captures_are_matches(
            pattern in "(/([ab]{1,2}|:[ab])){0,4}(/\\*)?",
            path in "(/[ab]{1,2}){0,5}",
        ) {
            let text = format!("/{}", pattern.trim_start_matches('/'));
            if let Ok(pattern) = Pattern::parse(text.as_bytes(), Dialect::Redirects) {
                let captured = pattern.capture(path.as_bytes());
                prop_assert_eq!(captured.is_some(), pattern.matches(path.as_bytes()));
                if let Some(values) = captured {
                    prop_assert_eq!(values.len(), pattern.names().len());
                }
                if let Some(first) = pattern.first_segment().filter(|_| pattern.matches(path.as_bytes())) {
                    prop_assert_eq!(first_segment(path.as_bytes()), first);
                }
            }
        }
    }

    /// What made a matcher that goes back take years.
    #[test]
    fn many_wildcards_take_no_time() {
        let text = format!("/{}b", "a*".repeat(400));
        let pattern = pattern(&text, Dialect::Headers);
        assert!(!pattern.matches(&[b"/".as_slice(), &[b'a'; 8000]].concat()));
    }
}
