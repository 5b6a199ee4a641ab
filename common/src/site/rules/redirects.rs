//! `_redirects`: paths that lead elsewhere.
//!
//! ```text
//! /home                 /
//! /news/*               /blog/:splat
//! /store id=:id         /blog/:id      302
//! /*                    /index.html    200
//! ```
//!
//! A path, parameters of the query, a target and a code, which is 301 where it is missing (302 with Cloudflare). The
//! first rule that matches counts; a file of the path wins over it, unless its code has a `!` (Cloudflare needs none).
//! 200, 404 and 410 send another file of the site under the same address, and that file is not looked up in the rules
//! again.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::http::status::Status;
use crate::http::target::resolve;
use crate::site::rules::fault::{Faults, Problem};
use crate::site::rules::lines::{LINE_BYTES_MAX, lines};
use crate::site::rules::pattern::{Dialect, NAMES_MAX, Pattern, SPLAT, first_segment};
use crate::site::rules::query::{PARAMETERS_MAX, Parameter, Query};
use crate::site::rules::target::{Template, path_of, scheme, without_default_port};

/// Rules in `_redirects`. Cloudflare allows 2100; Netlify recommends patterns beyond 10,000.
pub const REDIRECTS_MAX: usize = 10_000;

/// What is asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked<'a> {
    /// The path as `http/target.rs` resolves it: decoded, without slashes at its ends.
    pub path: &'a [u8],
    /// The path names a directory: it had a slash behind it, which then stands behind the value of `*` as well.
    pub directory: bool,
    /// The query, with its question mark; empty if there is none.
    pub query: &'a [u8],
    /// The host that the request names, with its port.
    pub host: Option<&'a [u8]>,
}

/// What a request is answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308; or 200, 404 or 410 for the file of another path.
    pub status: Status,
    /// It counts even if there is a file of the path that was asked for.
    pub is_forced: bool,
    /// Where it leads: a path on this host, which begins with exactly one slash, or the URL that the rule has written.
    /// Percent-encoded; for a file of this site the path alone.
    pub location: Vec<u8>,
    /// The line of the rule.
    pub line: usize,
    /// The target is the same for all requests.
    pub is_fixed: bool,
}

impl Redirect {
    /// Whether the answer is another file of this site, under the address that was asked for.
    #[must_use]
    pub fn is_rewrite(&self) -> bool {
        is_rewrite(self.status)
    }
}

fn is_rewrite(status: Status) -> bool {
    matches!(status, Status::Ok | Status::NotFound | Status::Gone)
}

/// The rules of one `_redirects`.
#[derive(Clone, Debug, Default)]
pub struct RedirectRules {
    rules: Vec<Rule>,
    /// The rules for one path, by that path.
    by_path: HashMap<Box<[u8]>, Vec<u32>>,
    /// Those for several paths that begin with the same segment, by that segment.
    by_first_segment: HashMap<Box<[u8]>, Vec<u32>>,
    /// The others.
    anywhere: Vec<u32>,
    has_forced: bool,
}

#[derive(Clone, Debug)]
struct Rule {
    line: usize,
    pattern: Pattern,
    /// Only for requests for this host.
    host: Option<Box<[u8]>>,
    parameters: Vec<Parameter>,
    target: Template,
    status: Status,
    is_forced: bool,
}

impl RedirectRules {
    /// Reads a file, and what is wrong with it.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> (RedirectRules, Faults) {
        let mut faults = Faults::default();
        let mut rules = RedirectRules::default();
        for line in lines(bytes, &mut faults) {
            if rules.rules.len() == REDIRECTS_MAX {
                faults.add(line.number, line.text, Problem::TooManyRules);
                break;
            }
            match Rule::parse(line.number, line.text) {
                Ok(rule) => rules.push(rule),
                Err((shown, problem)) => faults.add(line.number, shown, problem),
            }
        }
        (rules, faults)
    }

    fn push(&mut self, rule: Rule) {
        let index = u32::try_from(self.rules.len()).expect("the rules are bounded");
        let list = match (rule.pattern.as_path(), rule.pattern.first_segment()) {
            (Some(path), _) => self.by_path.entry(path.into()).or_default(),
            (None, Some(first)) => self.by_first_segment.entry(first.into()).or_default(),
            (None, None) => &mut self.anywhere,
        };
        list.push(index);
        self.has_forced |= rule.is_forced;
        self.rules.push(rule);
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

    /// Whether some rule counts even where there is a file, so that rules must be looked up before files.
    #[must_use]
    pub fn has_forced(&self) -> bool {
        self.has_forced
    }

    /// The first rule that matches. It counts if there is no file of the path, or if it is forced; a forced rule
    /// behind one that isn't never counts.
    #[must_use]
    pub fn find(&self, asked: &Asked<'_>) -> Option<Redirect> {
        let path = rooted(asked.path);
        let mut query = None;
        self.candidates(&path).find_map(|rule| rule.redirect(asked, &path, &mut query))
    }

    /// Whether a forced rule may be the first one for some request with this path, whatever its query and host. Where
    /// this is false a file of the path is served without looking further, so it may be answered from a cache.
    #[must_use]
    pub fn may_force(&self, path: &[u8]) -> bool {
        if !self.has_forced {
            return false;
        }
        let path = rooted(path);
        for rule in self.candidates(&path).filter(|rule| rule.pattern.matches(&path)) {
            if rule.is_forced {
                return true;
            }
            // Any other may be passed over, because it leads to itself.
            if is_rewrite(rule.status) && rule.host.is_none() && rule.parameters.is_empty() {
                return false;
            }
        }
        false
    }

    /// The rules that may match, in their order.
    fn candidates<'s>(&'s self, path: &[u8]) -> impl Iterator<Item = &'s Rule> + use<'s> {
        let listed = |list: Option<&'s Vec<u32>>| list.map_or(&[][..], Vec::as_slice);
        let mut lists = [
            listed(self.by_path.get(path)),
            listed(self.by_first_segment.get(first_segment(path))),
            listed(Some(&self.anywhere)),
        ];
        std::iter::from_fn(move || {
            let list = lists.iter_mut().filter(|list| !list.is_empty()).min_by_key(|list| list[0])?;
            let (first, rest) = list.split_first()?;
            *list = rest;
            Some(&self.rules[*first as usize])
        })
    }
}

/// A path with a slash in front of each segment.
fn rooted(path: &[u8]) -> Vec<u8> {
    if path.is_empty() { Vec::new() } else { [b"/", path].concat() }
}

impl Rule {
    /// What the rule makes of the request, if it is for it. The query is read once for all rules.
    fn redirect(&self, asked: &Asked<'_>, path: &[u8], query: &mut Option<Query>) -> Option<Redirect> {
        if let Some(host) = &self.host
            && !asked.host.is_some_and(|asked| without_port(asked).eq_ignore_ascii_case(host))
        {
            return None;
        }
        if !self.pattern.matches(path) {
            return None;
        }
        let mut values: Vec<Cow<'_, [u8]>> =
            self.pattern.capture(path)?.into_iter().map(Cow::Borrowed).collect();
        if self.pattern.names().last().is_some_and(|name| **name == *SPLAT)
            && let Some(splat) = values.last_mut().filter(|value| asked.directory && !value.is_empty())
        {
            splat.to_mut().push(b'/');
        }
        if !self.parameters.is_empty() {
            let query = query.get_or_insert_with(|| Query::parse(asked.query));
            values
                .extend(query.capture(&self.parameters)?.into_iter().map(|value| Cow::Owned(value.to_vec())));
        }
        // Netlify passes the query on, unless the rule has parameters or the target has a query.
        let passes_on = self.parameters.is_empty() && !is_rewrite(self.status);
        let mut location = self.target.fill(&values, if passes_on { asked.query } else { b"" })?;
        if is_rewrite(self.status) {
            location.truncate(path_of(&location).len());
        } else if self.leads_back(asked, &location) {
            return None;
        }
        let Rule { status, is_forced, line, ref target, .. } = *self;
        Some(Redirect { status, is_forced, location, line, is_fixed: target.is_fixed() })
    }

    /// Whether the request would come again. Such a rule is ignored, as with Netlify. Which scheme the client has used
    /// isn't known here, so one that only changes the scheme leads back as well.
    fn leads_back(&self, asked: &Asked<'_>, location: &[u8]) -> bool {
        if let Some(authority) = self.target.authority()
            && !asked.host.is_some_and(|asked| without_default_port(asked).eq_ignore_ascii_case(authority))
        {
            return false;
        }
        let url = location.split(|byte| *byte == b'#').next().unwrap_or_default();
        let mut path = Vec::new();
        let Ok(target) = resolve(url, &mut path) else { return false };
        let query = &url[target.query];
        path == asked.path && (query == asked.query || query.len() <= 1 && asked.query.len() <= 1)
    }

    /// Reads a line; for an error also the part that is meant.
    fn parse(line: usize, text: &[u8]) -> Result<Rule, (&[u8], Problem)> {
        if text.len() > LINE_BYTES_MAX {
            return Err((text, Problem::LineTooLong));
        }
        let mut words = text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let from = words.next().unwrap_or_default();
        let words: Vec<&[u8]> = words.take_while(|word| word[0] != b'#').collect();
        let (host, path) = split_host(from).map_err(|problem| (from, problem))?;
        let pattern = Pattern::parse(path, Dialect::Redirects).map_err(|problem| (from, problem))?;
        let splat = pattern.names().iter().position(|name| **name == *SPLAT);
        let at = words.iter().position(|word| Template::is_target(word));
        let has_target = at.is_some();
        match words.first() {
            None => return Err((from, Problem::NoTarget)),
            Some(word) if !has_target && read_status(word).is_none() => {
                return Err((word, Problem::NotATarget));
            }
            Some(_) => {}
        }
        let (given, rest) = words.split_at(at.unwrap_or(0));
        let mut names = pattern.names().to_vec();
        let parameters = read_parameters(given, &mut names)?;
        let (status, is_forced) = read_code(&rest[usize::from(has_target)..])?;
        let written;
        let to: &[u8] = match rest.first() {
            Some(to) if has_target => to,
            // `/from/* 200` is short for `/from/* /from/:splat 200`.
            Some(_) if status == Status::Ok && path.ends_with(b"/*") => {
                written = [&path[..path.len() - 1], b":splat"].concat();
                &written
            }
            _ => return Err((from, Problem::NoTarget)),
        };
        let target = read_target(to, &names, splat, status).map_err(|problem| match has_target {
            true => (rest[0], problem),
            false => (from, problem),
        })?;
        let host = host.map(Box::from);
        let rule = Rule { line, pattern, host, parameters, target, status, is_forced };
        if rule.always_leads_back() {
            return Err((text, Problem::Loop));
        }
        Ok(rule)
    }

    /// Whether the rule is for one path alone, and leads there.
    fn always_leads_back(&self) -> bool {
        let is_unconditional = self.host.is_none() && self.parameters.is_empty() && !self.target.has_query();
        let Some(path) = self.pattern.as_path().filter(|_| is_unconditional) else { return false };
        let asked = Asked { path: path.strip_prefix(b"/").unwrap_or_default(), ..Asked::default() };
        !is_rewrite(self.status)
            && self.target.fill(&[], b"").is_some_and(|location| self.leads_back(&asked, &location))
    }
}

fn read_parameters<'t>(
    words: &[&'t [u8]],
    names: &mut Vec<Box<str>>,
) -> Result<Vec<Parameter>, (&'t [u8], Problem)> {
    let mut parameters = Vec::new();
    for &word in words {
        if parameters.len() == PARAMETERS_MAX {
            return Err((word, Problem::TooManyParameters));
        }
        let (parameter, name) = Parameter::parse(word).map_err(|problem| (word, problem))?;
        if let Some(name) = name {
            if names.iter().any(|known| **known == *name) {
                return Err((word, Problem::RepeatedName));
            }
            if names.len() == NAMES_MAX {
                return Err((word, Problem::TooManyNames));
            }
            names.push(name.into());
        }
        parameters.push(parameter);
    }
    Ok(parameters)
}

/// The code behind the target, and nothing behind it.
fn read_code<'t>(words: &[&'t [u8]]) -> Result<(Status, bool), (&'t [u8], Problem)> {
    let Some((&code, conditions)) = words.split_first() else { return Ok((Status::MovedPermanently, false)) };
    let Some(read) = read_status(code) else {
        let problem = if code.contains(&b'=') { Problem::Condition } else { Problem::Status };
        return Err((name_of(code), problem));
    };
    match conditions.first() {
        Some(condition) => Err((name_of(condition), Problem::Condition)),
        None => Ok(read),
    }
}

/// The name of a condition: its value may be a secret.
fn name_of(condition: &[u8]) -> &[u8] {
    condition.split(|byte| *byte == b'=').next().unwrap_or_default()
}

/// A code, with a `!` if it is forced.
fn read_status(word: &[u8]) -> Option<(Status, bool)> {
    let (code, is_forced) = word.strip_suffix(b"!").map_or((word, false), |code| (code, true));
    let status = match code {
        b"200" => Status::Ok,
        b"301" => Status::MovedPermanently,
        b"302" => Status::Found,
        b"303" => Status::SeeOther,
        b"307" => Status::TemporaryRedirect,
        b"308" => Status::PermanentRedirect,
        b"404" => Status::NotFound,
        b"410" => Status::Gone,
        _ => return None,
    };
    Some((status, is_forced))
}

fn read_target(
    text: &[u8],
    names: &[Box<str>],
    splat: Option<usize>,
    status: Status,
) -> Result<Template, Problem> {
    if text.starts_with(b"/.netlify/") {
        return Err(Problem::Function);
    }
    let target = Template::parse(text, names, splat)?;
    if is_rewrite(status) && target.authority().is_some() {
        return Err(Problem::Proxy);
    }
    Ok(target)
}

/// The host that a rule is for, and its path. The scheme makes no difference: this server can't know which one the
/// client has used with the proxy in front of it.
fn split_host(from: &[u8]) -> Result<(Option<&[u8]>, &[u8]), Problem> {
    let Some(scheme) = scheme(from) else { return Ok((None, from)) };
    let end = memchr::memchr(b'/', &from[scheme..]).map_or(from.len(), |end| scheme + end);
    let host = &from[scheme..end];
    let is_of_host = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._".contains(byte);
    if host.is_empty() || !host.iter().all(is_of_host) {
        return Err(Problem::Host);
    }
    Ok((Some(host), if end == from.len() { b"/" } else { &from[end..] }))
}

/// A host without its port.
fn without_port(authority: &[u8]) -> &[u8] {
    let is_port = |port: &[u8]| port.iter().all(u8::is_ascii_digit);
    match memchr::memrchr(b':', authority) {
        Some(colon) if is_port(&authority[colon + 1..]) => &authority[..colon],
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn problems(text: &str) -> Vec<(usize, Problem)> {
        let (_, faults) = RedirectRules::parse(text.as_bytes());
        faults.told.iter().map(|fault| (fault.line, fault.problem)).collect()
    }

    fn rules(text: &str) -> RedirectRules {
        let (rules, faults) = RedirectRules::parse(text.as_bytes());
        assert_eq!(faults.told, [], "{text}");
        rules
    }

    /// The line that counts, for a path, a query and a host.
    fn line(rules: &RedirectRules, path: &str, query: &str, host: Option<&str>) -> Option<usize> {
        let host = host.map(str::as_bytes);
        let asked = Asked { path: path.as_bytes(), query: query.as_bytes(), host, ..Asked::default() };
        rules.find(&asked).map(|redirect| redirect.line)
    }

    #[test]
    fn lines_that_are_wrong() {
        for (text, expected) in [
            ("/a", Problem::NoTarget),
            ("/a # /b", Problem::NoTarget),
            ("/a 301", Problem::NoTarget),
            ("/a 200", Problem::NoTarget),
            ("/a/* 404", Problem::NoTarget),
            ("/a b", Problem::NotATarget),
            ("/a id=:id", Problem::NotATarget),
            ("/a www.example.com 301", Problem::NotATarget),
            ("a /b", Problem::NotAPath),
            ("X-Frame-Options: DENY", Problem::NotAPath),
            ("/a?b=c /d", Problem::QueryInPath),
            ("/a/*.html /b", Problem::StarNotLast),
            ("/a id /b", Problem::Parameter),
            ("/:id id=:id /b", Problem::RepeatedName),
            ("/* x=:splat /b", Problem::RepeatedName),
            ("/a /:b", Problem::UnknownName),
            ("/a /b/:splat", Problem::UnknownName),
            ("/a //b", Problem::OtherHost),
            ("/a /b/../c", Problem::DotSegment),
            ("/a /b%00", Problem::Escape),
            ("/a https://user@host/", Problem::Authority),
            ("/a /b 201", Problem::Status),
            ("/a /b 999", Problem::Status),
            ("/a /b 301x", Problem::Status),
            ("/a /b 301!!", Problem::Status),
            ("/a /b 99999999999999999999", Problem::Status),
            ("/a /b Country=de", Problem::Condition),
            ("/a /b 301 Language=de Country=ch", Problem::Condition),
            ("/a /b 301 Role=admin", Problem::Condition),
            ("/a /b 200 Cookie=is_beta", Problem::Condition),
            ("/a /b 200! Sign=SECRET", Problem::Condition),
            ("/a https://b.example/ 200", Problem::Proxy),
            ("/a https://b.example/ 404", Problem::Proxy),
            ("/a/* /.netlify/functions/:splat 200", Problem::Function),
            ("http:///a /b", Problem::Host),
            ("https://*.a.example/* /b", Problem::Host),
            ("https://:a.example/* /b", Problem::Host),
            ("https://a.example:80/* /b", Problem::Host),
            ("/a /a", Problem::Loop),
            ("/a/ /a 301!", Problem::Loop),
        ] {
            assert_eq!(problems(text), [(1, expected)], "{text}");
        }
    }

    /// A wrong line takes no other with it, and its number is right.
    #[test]
    fn the_rest_is_in_force() {
        let (rules, faults) = RedirectRules::parse(b"# first\n/a /b 201\n\n/c /d\r\n/e /f Country=de\n/* /x");
        assert_eq!(faults.told.iter().map(|fault| fault.line).collect::<Vec<_>>(), [2, 5]);
        assert_eq!([line(&rules, "a", "", None), line(&rules, "c", "", None)], [Some(6), Some(4)]);
    }

    /// A condition may carry a secret.
    #[test]
    fn no_value_of_a_condition_is_shown() {
        let (_, faults) = RedirectRules::parse(b"/a /b 200! Sign=SECRET\n/a /b Role=secret");
        assert!(faults.told.iter().all(|fault| !fault.to_string().to_lowercase().contains("secret")));
    }

    #[test]
    fn the_first_rule_counts() {
        // Of each kind of index one: a path, a first segment, none.
        let rules = rules("/:a/x /1\n/b/* /2\n/b/c /3\n/b/x /4\n/* /5\n/z /6");
        for (path, expected) in
            [("b/x", 1), ("b/c", 2), ("b", 2), ("c/x", 1), ("z", 5), ("", 5), ("q/r/s", 5)]
        {
            assert_eq!(line(&rules, path, "", None), Some(expected), "{path}");
        }
        let reversed = self::rules("/z /6\n/b/x /4\n/b/c /3\n/b/* /2\n/:a/x /1");
        for (path, expected) in
            [("b/x", Some(2)), ("b/c", Some(3)), ("b/d", Some(4)), ("c/x", Some(5)), ("c", None)]
        {
            assert_eq!(line(&reversed, path, "", None), expected, "{path}");
        }
    }

    #[test]
    fn hosts() {
        let rules = rules("http://blog.example.com/* https://www.example.com/blog/:splat 301!\n/* /rest");
        for (host, expected) in [
            (Some("blog.example.com"), 1),
            (Some("BLOG.example.com:8080"), 1),
            (Some("example.com"), 2),
            (Some("[::1]:80"), 2),
            (None, 2),
        ] {
            assert_eq!(line(&rules, "a/b", "", host), Some(expected), "{host:?}");
        }
        assert_eq!(line(&self::rules("https://a.example /x"), "", "", Some("a.example")), Some(1));
    }

    /// A rule that leads to the request itself is passed over, and what follows counts.
    #[test]
    fn loops_are_passed_over() {
        for (text, path, query, host, expected) in [
            ("/* /index.html 301", "index.html", "", None, None),
            ("/* /a/ 302", "a", "", None, None),
            ("/* /a 302", "b", "", None, Some(1)),
            ("/a /a?x=y 302", "a", "", None, Some(1)),
            ("/a /a?x=y 302", "a", "?x=y", None, None),
            ("/a x=:x /a 302", "a", "?x=y", None, Some(1)),
            ("/a/:b /a/:b#top", "a/c", "?x", None, None),
            ("/* https://www.example.com/:splat", "a", "?b", Some("www.example.com"), None),
            ("/* https://www.example.com/:splat", "a", "?b", Some("WWW.example.com:80"), None),
            ("/* https://www.example.com:443/:splat", "a", "?b", Some("www.example.com"), None),
            ("/* https://www.example.com/:splat", "a", "?b", Some("example.com"), Some(1)),
            ("/* https://www.example.com/:splat", "a", "?b", Some("www.example.com:8080"), Some(1)),
            ("/* https://www.example.com/x/:splat", "a", "", Some("www.example.com"), Some(1)),
            ("/*  /index.html 200", "index.html", "", None, Some(1)),
        ] {
            let rules = rules(text);
            assert_eq!(line(&rules, path, query, host), expected, "{text} {path} {query}");
        }
        let rules = rules("/* https://www.example.com/:splat\n/a /b");
        assert_eq!(line(&rules, "a", "", Some("www.example.com")), Some(2));
    }

    #[test]
    fn what_may_be_cached() {
        for (text, path, expected) in [
            ("/a /b\n/* /c", "a", false),
            ("/a /b 301!", "a", true),
            ("/a /b 301!", "b", false),
            ("/a/* /b 301!", "a/x/y", true),
            ("/a x=y /b 301!", "a", true),
            ("http://a.example/* /b 301!", "a", true),
            ("/* /a.html 200\n/a /b 301!", "a", false),
            ("/* /b 301\n/a /b 301!", "a", true),
            ("/a x=y /b 200\n/a /c 200!", "a", true),
            ("/* /index.html 200!", "", true),
        ] {
            let rules = rules(text);
            assert_eq!(rules.may_force(path.as_bytes()), expected, "{text} {path}");
            assert_eq!(rules.has_forced(), text.contains('!'), "{text}");
        }
    }

    #[test]
    fn bounds_hold() {
        let many: String = (0..REDIRECTS_MAX).map(|index| format!("/a{index}/* /b\n")).collect();
        assert_eq!(problems(&many), []);
        let beyond = format!("{many}/x /y\n/z /y");
        assert_eq!(problems(&beyond), [(REDIRECTS_MAX + 1, Problem::TooManyRules)]);
        let (rules, _) = RedirectRules::parse(beyond.as_bytes());
        assert_eq!(line(&rules, "x", "", None), None);
        assert_eq!(line(&rules, "a9999/c", "", None), Some(10_000));

        let longest = format!("/a /{}", "b".repeat(LINE_BYTES_MAX - 4));
        assert_eq!(problems(&longest), []);
        assert_eq!(problems(&format!("{longest}b")), [(1, Problem::LineTooLong)]);

        let parameters: String = (0..PARAMETERS_MAX).map(|index| format!("p{index}=v ")).collect();
        assert_eq!(problems(&format!("/a {parameters} /b")), []);
        assert_eq!(problems(&format!("/a {parameters} x=y /b")), [(1, Problem::TooManyParameters)]);

        let names: String = (0..NAMES_MAX).map(|index| format!("p{index}=:v{index} ")).collect();
        assert_eq!(problems(&format!("/a {names} /b")), []);
        assert_eq!(problems(&format!("/:x {names} /b")), [(1, Problem::TooManyNames)]);
    }

    proptest! {
        /// The indexes change nothing: the first rule by its number that matches alone is the one.
        #[test]
        fn indexes_change_nothing(
            lines in proptest::collection::vec(
                "(/[ab]|/:x|/a/:x){1,2}(/\\*)?( q=[:1]p)? /(c|[ab]|:x|:splat)( 200| 302!)?",
                1..12,
            ),
            path in "([ab](/[ab]){0,3})?",
            query in "(\\?q=[1p]p?)?",
        ) {
            let (rules, _) = RedirectRules::parse(lines.join("\n").as_bytes());
            let asked = Asked { path: path.as_bytes(), query: query.as_bytes(), ..Asked::default() };
            let alone = lines.iter().enumerate().find_map(|(index, line)| {
                let found = RedirectRules::parse(line.as_bytes()).0.find(&asked)?;
                Some(Redirect { line: index + 1, ..found })
            });
            let found = rules.find(&asked);
            prop_assert_eq!(&found, &alone);
            if found.is_some_and(|found| found.is_forced) {
                prop_assert!(rules.may_force(path.as_bytes()), "a forced rule has come as a surprise");
            }
        }

        /// Whatever the file and the request, nothing leads to a host that no rule names, and nothing breaks a head.
        #[test]
        fn no_request_chooses_the_host(
            lines in proptest::collection::vec(
                concat!(
                    "(/|/\\*|/:a|/a/\\*|/a|https?://[ab]/?\\*?)( [a-c]=:?[a-c])? ",
                    "(/|//|https?://[ab]|/a)[/:\\\\@?#a%é]{0,4}(splat|a|c)?( 30[1-8]!?| 200!?)?",
                ),
                0..8,
            ),
            path in "[a/\\\\.:@\\x01-\\x20é]{0,8}",
            query in "(\\?[a-c]=[a/\\\\.:@\\x01-\\x20é]{0,6})?",
            host in proptest::option::of("[ab](:80)?"),
        ) {
            check_redirect(lines.join("\n").as_bytes(), path.as_bytes(), query.as_bytes(), host.as_deref());
        }

        #[test]
        fn arbitrary_bytes(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            path in proptest::collection::vec(any::<u8>(), 0..20),
            query in proptest::collection::vec(any::<u8>(), 0..20),
        ) {
            check_redirect(&[b"/* /", &bytes[..]].concat(), &path, &query, None);
        }
    }

    fn check_redirect(file: &[u8], path: &[u8], query: &[u8], host: Option<&str>) {
        let (rules, _) = RedirectRules::parse(file);
        let directory = path.len().is_multiple_of(2);
        let asked = Asked { path, directory, query, host: host.map(str::as_bytes) };
        let Some(redirect) = rules.find(&asked) else { return };
        let location = redirect.location;
        assert!(location.iter().all(u8::is_ascii_graphic) && !location.contains(&b'\\'));
        if redirect.status == Status::Ok {
            assert!(resolve(&location, &mut Vec::new()).is_ok(), "a path that can be opened");
            assert!(!location.iter().any(|byte| b"?#".contains(byte)), "the path alone");
        }
        match scheme(&location) {
            None => assert!(location[0] == b'/' && location.get(1) != Some(&b'/')),
            Some(scheme) => {
                let end = location[scheme..].iter().position(|byte| b"/?#".contains(byte));
                let origin = end.map_or(&location[..], |end| &location[..scheme + end]);
                let is_named = file.windows(origin.len()).any(|part| part == origin);
                assert!(is_named, "no rule names {}", String::from_utf8_lossy(origin));
            }
        }
    }
}
