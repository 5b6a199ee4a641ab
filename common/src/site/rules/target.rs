//! Where a redirect leads: its target, filled with what stood in the request.
//!
//! The host is what the rule has written, or there is none. A target that begins with a slash stays on this host: it
//! is one slash and then no other, whatever is filled in, since runs of slashes become one and everything that can't
//! stand in a URL is encoded, backslashes, blanks and control characters among it.

use std::borrow::Cow;

use crate::http::target::is_authority;
use crate::site::rules::fault::Problem;
use crate::site::rules::pattern::placeholder;

/// Bytes of a target that was filled in; a rule that would make a longer one is not for the request.
pub const LOCATION_BYTES_MAX: usize = 16 * 1024;

/// The part of a URL that something stands in; what must be encoded there differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Path,
    Query,
    Fragment,
}

#[derive(Clone, Debug)]
enum Part {
    /// These bytes, which may stand in a URL.
    Text(Vec<u8>),
    /// The value of this index.
    Value { index: usize, place: Place },
}

/// A target with placeholders.
#[derive(Clone, Debug)]
pub(super) struct Template {
    /// The scheme and the authority, where the target has them.
    origin: Box<[u8]>,
    parts: Vec<Part>,
    has_query: bool,
    /// The value in which slashes separate segments, if there is one: that of `*`.
    splat: Option<usize>,
}

impl Template {
    /// Whether this is a target: a path or a URL.
    pub(super) fn is_target(text: &[u8]) -> bool {
        text.first() == Some(&b'/') || scheme(text).is_some()
    }

    /// Reads a target that uses these names; `splat` is the index of that of `*`.
    pub(super) fn parse(text: &[u8], names: &[Box<str>], splat: Option<usize>) -> Result<Template, Problem> {
        let (origin, rest) = match scheme(text) {
            Some(scheme) => {
                let end = text[scheme..].iter().position(|byte| b"/?#".contains(byte));
                let end = end.map_or(text.len(), |end| scheme + end);
                // `*`, `:name` and the like are refused along with what no host has: a name is a host that is written
                // out.
                let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(byte);
                if !is_authority(&text[scheme..end]) || !text[scheme..end].iter().all(is_plain) {
                    return Err(Problem::Authority);
                }
                text.split_at(end)
            }
            None if matches!(text, [b'/', b'/' | b'\\', ..]) => return Err(Problem::OtherHost),
            None if has_dot_segment(path_of(text)) => return Err(Problem::DotSegment),
            None => (&text[..0], text),
        };
        let mut template = Template { origin: origin.into(), parts: Vec::new(), has_query: false, splat };
        template.read_parts(rest, names)?;
        Ok(template)
    }

    fn read_parts(&mut self, text: &[u8], names: &[Box<str>]) -> Result<(), Problem> {
        let mut place = Place::Path;
        let mut literal = Vec::new();
        let mut at = 0;
        while let Some(&byte) = text.get(at) {
            match byte {
                b':' if placeholder(&text[at + 1..]).is_some() => {
                    let name = placeholder(&text[at + 1..]).unwrap_or_default();
                    if let Some(index) = names.iter().position(|known| **known == *name) {
                        self.parts.push(Part::Text(std::mem::take(&mut literal)));
                        self.parts.push(Part::Value { index, place });
                        at += name.len();
                    } else if matches!(at.checked_sub(1).map(|before| text[before]), Some(b'/' | b'=')) {
                        return Err(Problem::UnknownName);
                    } else {
                        // As in /wiki/Special:Search.
                        literal.push(byte);
                    }
                }
                b'?' if place == Place::Path => {
                    place = Place::Query;
                    self.has_query = true;
                    literal.push(byte);
                }
                b'#' if place != Place::Fragment => {
                    place = Place::Fragment;
                    literal.push(byte);
                }
                b'%' if text[at..].starts_with(b"%00") => return Err(Problem::Escape),
                b'%' if is_escape(&text[at..]) => literal.push(byte),
                byte if is_of_text(byte, place) => literal.push(byte),
                byte => push_escaped(byte, &mut literal),
            }
            at += 1;
        }
        self.parts.push(Part::Text(literal));
        Ok(())
    }

    /// The scheme and the authority as they are written, without a port that goes without saying.
    pub(super) fn authority(&self) -> Option<&[u8]> {
        scheme(&self.origin).map(|scheme| without_default_port(&self.origin[scheme..]))
    }

    /// Whether the target is the same whatever the values.
    pub(super) fn is_fixed(&self) -> bool {
        self.parts.iter().all(|part| matches!(part, Part::Text(_)))
    }

    /// Whether the target has a query of its own, which then stands in place of that of the request.
    pub(super) fn has_query(&self) -> bool {
        self.has_query
    }

    /// The target with these values. `query` is appended where the target has none; it begins with a question mark or
    /// is empty. `None` if it became too long, if a value has a NUL, or if a path of this site has segments of dots.
    pub(super) fn fill(&self, values: &[Cow<'_, [u8]>], query: &[u8]) -> Option<Vec<u8>> {
        if values.iter().any(|value| value.contains(&0)) {
            return None;
        }
        let mut filled = self.origin.to_vec();
        for part in &self.parts {
            match part {
                Part::Text(text) => filled.extend_from_slice(text),
                Part::Value { index, place } => {
                    let keeps_slashes = self.splat == Some(*index) || *place != Place::Path;
                    push_value(values.get(*index)?, *place, keeps_slashes, &mut filled);
                }
            }
            if filled.len() > LOCATION_BYTES_MAX {
                return None;
            }
        }
        if self.origin.is_empty() {
            stay_on_host(&mut filled);
            if has_dot_segment(path_of(&filled)) {
                return None;
            }
        }
        if !self.has_query && query.len() > 1 {
            let fragment = memchr::memchr(b'#', &filled).unwrap_or(filled.len());
            let fragment = filled.split_off(fragment);
            filled.push(b'?');
            for byte in &query[1..] {
                if *byte == b'%' || is_of_text(*byte, Place::Query) {
                    filled.push(*byte);
                } else {
                    push_escaped(*byte, &mut filled);
                }
            }
            filled.extend_from_slice(&fragment);
        }
        (filled.len() <= LOCATION_BYTES_MAX).then_some(filled)
    }
}

/// The path of a target on this host.
pub(super) fn path_of(target: &[u8]) -> &[u8] {
    let end = target.iter().position(|byte| b"?#".contains(byte)).unwrap_or(target.len());
    &target[..end]
}

/// The length of `http://` or `https://` at the start.
pub(super) fn scheme(text: &[u8]) -> Option<usize> {
    [&b"http://"[..], b"https://"]
        .into_iter()
        .find(|scheme| text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)))
        .map(<[u8]>::len)
}

/// A host and its port; without the port where it is that of a scheme.
pub(super) fn without_default_port(authority: &[u8]) -> &[u8] {
    [b":80".as_slice(), b":443"]
        .into_iter()
        .find_map(|port| authority.strip_suffix(port))
        .unwrap_or(authority)
}

/// Makes runs of slashes in the path one slash: a second one at the start would name a host (RFC 3986 §4.2).
fn stay_on_host(target: &mut Vec<u8>) {
    let path = path_of(target).len();
    let mut at = 0;
    let mut before = 0;
    target.retain(|byte| {
        let is_repeated = at < path && before == b'/' && *byte == b'/';
        (at, before) = (at + 1, *byte);
        !is_repeated
    });
}

/// Whether a segment is `.` or `..`, encoded or not.
fn has_dot_segment(path: &[u8]) -> bool {
    path.split(|byte| *byte == b'/').any(|segment| {
        let mut rest = segment;
        let mut dots = 0;
        while let Some(after) =
            [b".".as_slice(), b"%2e", b"%2E"].into_iter().find_map(|dot| rest.strip_prefix(dot))
        {
            (rest, dots) = (after, dots + 1);
        }
        rest.is_empty() && (dots == 1 || dots == 2)
    })
}

fn is_escape(text: &[u8]) -> bool {
    matches!(text, [b'%', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit())
}

/// Whether the byte may stand there as it is (RFC 3986 §3.3 to §3.5).
fn is_of_text(byte: u8, place: Place) -> bool {
    byte.is_ascii_alphanumeric()
        || b"-._~!$&'()*+,;=:@/".contains(&byte)
        || place != Place::Path && byte == b'?'
}

/// Appends what stood in a request: what would mean something else there is encoded.
fn push_value(value: &[u8], place: Place, keeps_slashes: bool, out: &mut Vec<u8>) {
    for byte in value {
        let is_kept = match byte {
            b'/' => keeps_slashes,
            // They separate parameters, or mean a blank.
            b'&' | b'=' | b'+' | b';' | b'?' => place == Place::Path && *byte != b'?',
            byte => is_of_text(*byte, place),
        };
        if is_kept {
            out.push(*byte);
        } else {
            push_escaped(*byte, out);
        }
    }
}

fn push_escaped(byte: u8, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    out.extend_from_slice(&[b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The template's names are `splat`, `a` and `b`.
    fn template(text: &[u8]) -> Result<Template, Problem> {
        Template::parse(text, &["splat".into(), "a".into(), "b".into()], Some(0))
    }

    fn filled(text: &str, values: [&str; 3], query: &str) -> Option<String> {
        let values = values.map(|value| Cow::Borrowed(value.as_bytes()));
        let filled = template(text.as_bytes()).expect(text).fill(&values, query.as_bytes())?;
        Some(String::from_utf8(filled).expect("ASCII"))
    }

    #[test]
    fn targets_are_filled() {
        for (text, values, query, expected) in [
            ("/", ["", "", ""], "", "/"),
            ("/blog/:splat", ["2004/01/my-story", "", ""], "", "/blog/2004/01/my-story"),
            ("/:b/:a-:b.html", ["", "x", "y"], "", "/y/x-y.html"),
            ("/products?code=:a&name=:b", ["", "1", "hat"], "", "/products?code=1&name=hat"),
            ("/new#:a", ["", "x", ""], "", "/new#x"),
            ("https://blog.my.domain/:splat", ["a/b", "", ""], "", "https://blog.my.domain/a/b"),
            ("https://twitch.tv", ["", "", ""], "", "https://twitch.tv"),
            ("https://twitch.tv", ["", "", ""], "?a=b", "https://twitch.tv?a=b"),
            ("HTTPS://[::1]:8443?x#y", ["", "", ""], "", "HTTPS://[::1]:8443?x#y"),
            // The query of the request, unless the target has one; in front of the fragment.
            ("/new", ["", "", ""], "?a=b%20c", "/new?a=b%20c"),
            ("/new", ["", "", ""], "?", "/new"),
            ("/new?", ["", "", ""], "?a=b", "/new?"),
            ("/new?x=y", ["", "", ""], "?a=b", "/new?x=y"),
            ("/new#top", ["", "", ""], "?a=b", "/new?a=b#top"),
            // What was decoded is encoded again.
            (
                "/:splat",
                ["a b/\u{e9}/?#%\"<>\\^`{|}", "", ""],
                "",
                "/a%20b/%C3%A9/%3F%23%25%22%3C%3E%5C%5E%60%7B%7C%7D",
            ),
            ("/:splat", ["@me/a:b/(c)/d,e;f=g+h&i", "", ""], "", "/@me/a:b/(c)/d,e;f=g+h&i"),
            ("/:a", ["", "x/y", ""], "", "/x%2Fy"),
            ("/x?y=:a", ["", "1&2=3+4;5?6#7 8/9", ""], "", "/x?y=1%262%3D3%2B4%3B5%3F6%237%208/9"),
            ("/new", ["", "", ""], "?a=\r\nX: y", "/new?a=%0D%0AX:%20y"),
            // What is written in the rule stays, if it may stand in a URL.
            ("/caf\u{e9}/%C3%A9/%/%zz/\\", ["", "", ""], "", "/caf%C3%A9/%C3%A9/%25/%25zz/%5C"),
            ("/wiki/Special:Search", ["", "", ""], "", "/wiki/Special:Search"),
            ("/x:/:/::a", ["", "v", ""], "", "/x:/:/:v"),
            ("/a?b?c#d#e?f", ["", "", ""], "", "/a?b?c#d%23e?f"),
            // Never another host.
            ("/:splat", ["/evil.example/", "", ""], "", "/evil.example/"),
            ("/:splat", ["//evil.example", "", ""], "", "/evil.example"),
            ("/:splat", ["\\evil.example", "", ""], "", "/%5Cevil.example"),
            ("/:a/:splat", ["evil.example", "", ""], "", "/evil.example"),
            ("/:a", ["", "/evil.example", ""], "", "/%2Fevil.example"),
            ("/a//b?c//d", ["", "", ""], "", "/a/b?c//d"),
            ("https://host/:splat", ["/x", "", ""], "", "https://host//x"),
        ] {
            assert_eq!(filled(text, values, query).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn targets_are_refused() {
        for (text, expected) in [
            ("//evil.example", Problem::OtherHost),
            ("/\\evil.example", Problem::OtherHost),
            ("https://", Problem::Authority),
            ("https:///x", Problem::Authority),
            ("https://a@b/", Problem::Authority),
            ("https://a\\b/", Problem::Authority),
            ("https://:a.example/", Problem::Authority),
            ("https://example:a/", Problem::Authority),
            ("https://*.example/", Problem::Authority),
            ("https://exa%6dple/", Problem::Authority),
            ("/a/%2e%2E/b", Problem::DotSegment),
            ("/a%00", Problem::Escape),
            ("/:other", Problem::UnknownName),
            ("/?x=:other", Problem::UnknownName),
        ] {
            assert_eq!(template(text.as_bytes()).err(), Some(expected), "{text}");
        }
    }

    #[test]
    fn dots_and_lengths_are_refused() {
        for (text, value) in [
            ("/a/:splat", "b\0c"),
            ("/a/:splat", ".."),
            ("/a/:splat", "b/./c"),
            ("/a/.:splat", "."),
            ("/a/%2e:splat", "."),
        ] {
            assert_eq!(filled(text, [value, "", ""], ""), None, "{text}");
        }
        assert_eq!(filled("/a/..:splat", [".", "", ""], "").as_deref(), Some("/a/..."));
        let long = "a".repeat(LOCATION_BYTES_MAX - 1);
        assert_eq!(
            filled("/:splat", [&long, "", ""], "").map(|filled| filled.len()),
            Some(LOCATION_BYTES_MAX)
        );
        assert_eq!(filled("/:splat", [&long, "", ""], "?b"), None);
        assert_eq!(filled("/:splat/:splat", [&long, "", ""], ""), None);
    }

    proptest! {
        /// Whatever the target and the values, the host is that of the target, and every byte may stand in a URL.
        #[test]
        fn no_value_chooses_the_host(
            text in "(https?://[a-c:@]{0,4})?[/\\\\?#:a.%é-]{0,12}",
            values in proptest::array::uniform3("[/\\\\.:?#@%\\x00-\\x20é]{0,6}"),
            query in "\\?[/\\\\.:?#@%\\x00-\\x20é]{0,6}",
        ) {
            prop_assume!(Template::is_target(text.as_bytes()));
            let Ok(template) = template(text.as_bytes()) else { return Ok(()) };
            let values = values.each_ref().map(|value| Cow::Borrowed(value.as_bytes()));
            let Some(filled) = template.fill(&values, query.as_bytes()) else { return Ok(()) };
            prop_assert!(filled.iter().all(u8::is_ascii_graphic));
            prop_assert!(!filled.contains(&b'\\'));
            match scheme(text.as_bytes()) {
                None => prop_assert!(filled[0] == b'/' && filled.get(1) != Some(&b'/')),
                Some(scheme) => {
                    let origin = |url: &[u8]| {
                        let end = url[scheme..].iter().position(|byte| b"/?#".contains(byte));
                        url[..end.map_or(url.len(), |end| scheme + end)].to_vec()
                    };
                    prop_assert_eq!(origin(&filled), origin(text.as_bytes()));
                }
            }
        }

        /// A path that was decoded and filled in is the same path again.
        #[test]
        fn paths_survive(path in "[a-c%?# é.]{1,5}(/[a-c%?# é.]{1,5}){0,3}") {
            if let Some(filled) = filled("/:splat", [&path, "", ""], "") {
                let mut resolved = Vec::new();
                crate::http::target::resolve(filled.as_bytes(), &mut resolved).expect("a target");
                prop_assert_eq!(String::from_utf8(resolved).expect("UTF-8"), path);
            }
        }
    }
}
