//! Resolves a request target to a path below the root.
//!
//! The target is percent-decoded once, and dot segments and empty segments are resolved afterwards, so `..` can't hide
//! behind any encoding. The kernel then opens the resulting relative path beneath the root (`openat2(2)`,
//! `RESOLVE_BENEATH`). Either check alone is enough to contain a request.

use std::net::Ipv6Addr;
use std::ops::Range;

use crate::http::status::Status;

/// A resolved target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The path names a directory: it ends in a slash or a dot segment.
    pub directory: bool,
    /// Some segment begins with a dot and isn't `.well-known`.
    pub hidden: bool,
    /// Position of the query in the target, including the question mark; empty if there is none.
    pub query: Range<usize>,
}

/// Resolves an origin-form or absolute-form target (RFC 9112 §3.2) into `path`: segments joined by single slashes, with
/// no leading or trailing slash; empty for the root. `path` is cleared first.
///
/// # Errors
/// 400 for a malformed escape, a NUL, a path that climbs above the root, an absolute-form target whose scheme isn't
/// http or https or whose authority is invalid, and any other form.
pub fn resolve(target: &[u8], path: &mut Vec<u8>) -> Result<Target, Status> {
    path.clear();
    if is_plain(target) {
        let directory = target.ends_with(b"/");
        path.extend_from_slice(&target[1..target.len() - usize::from(directory)]);
        return Ok(Target { directory, hidden: false, query: target.len()..target.len() });
    }
    let start = path_start(target)?;
    let end = memchr::memchr2(b'?', b'#', &target[start..]).map_or(target.len(), |at| start + at);
    if target[end..].contains(&b'#') {
        return Err(Status::BadRequest); // clients never send a fragment (RFC 9110 §7.1)
    }
    decode(&target[start..end], path)?;
    if memchr::memchr(0, path).is_some() {
        return Err(Status::BadRequest); // no file name contains a NUL
    }
    let (directory, hidden) = remove_dot_segments(path)?;
    Ok(Target { directory, hidden, query: end..target.len() })
}

/// Fast path for the common target: no query, nothing to decode, no segment that begins with a dot, and none that is
/// empty except the last.
fn is_plain(target: &[u8]) -> bool {
    // No early exit, so that the loops can be vectorized.
    let encoded = target.iter().fold(false, |found, byte| found | matches!(byte, 0 | b'%' | b'?' | b'#'));
    let follow = |(byte, next): (&u8, &u8)| *byte == b'/' && matches!(next, b'/' | b'.');
    let dotted =
        target.iter().zip(&target[1.min(target.len())..]).fold(false, |found, pair| found | follow(pair));
    target.len() > 1 && target[0] == b'/' && !encoded && !dotted
}

/// Where the path begins: at 0 in origin-form, after the authority in absolute-form.
fn path_start(target: &[u8]) -> Result<usize, Status> {
    if target.first() == Some(&b'/') {
        return Ok(0);
    }
    let scheme = [&b"http://"[..], b"https://"]
        .into_iter()
        .find(|scheme| target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)))
        .ok_or(Status::BadRequest)?
        .len();
    let authority =
        target[scheme..].iter().position(|byte| b"/?#".contains(byte)).unwrap_or(target.len() - scheme);
    if is_authority(&target[scheme..scheme + authority]) {
        Ok(scheme + authority)
    } else {
        Err(Status::BadRequest)
    }
}

/// The authority of a valid absolute-form target, which then counts instead of `Host` (RFC 9112 §3.2.2).
pub(crate) fn authority(target: &[u8]) -> Option<&[u8]> {
    let end = path_start(target).ok().filter(|end| *end > 0)?;
    let start = memchr::memchr(b':', target)? + b"://".len();
    target.get(start..end)
}

/// Appends the percent-decoded bytes (RFC 3986 §2.1).
fn decode(mut encoded: &[u8], path: &mut Vec<u8>) -> Result<(), Status> {
    while let Some(at) = memchr::memchr(b'%', encoded) {
        path.extend_from_slice(&encoded[..at]);
        let escape = encoded.get(at + 1..at + 3).ok_or(Status::BadRequest)?;
        let byte = hex_digit(escape[0]).zip(hex_digit(escape[1])).map(|(high, low)| high << 4 | low);
        path.push(byte.ok_or(Status::BadRequest)?);
        encoded = &encoded[at + 3..];
    }
    path.extend_from_slice(encoded);
    Ok(())
}

fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// Resolves dot segments in place. Returns whether the path names a directory, and whether any name is hidden.
fn remove_dot_segments(path: &mut Vec<u8>) -> Result<(bool, bool), Status> {
    let mut written = 0;
    let mut read = 0;
    let mut directory = true;
    while read <= path.len() {
        let end = memchr::memchr(b'/', &path[read..]).map_or(path.len(), |at| read + at);
        directory = true;
        match &path[read..end] {
            b"" | b"." => {}
            b".." => {
                if written == 0 {
                    return Err(Status::BadRequest);
                }
                written = memchr::memrchr(b'/', &path[..written]).unwrap_or(0);
            }
            _ => {
                directory = false;
                if written > 0 {
                    path[written] = b'/';
                    written += 1;
                }
                path.copy_within(read..end, written);
                written += end - read;
            }
        }
        read = end + 1;
    }
    path.truncate(written);
    Ok((directory, shown_bytes(path) < path.len()))
}

/// How much of a resolved path is in front of the first hidden name; all of it if none is. A name is hidden that begins
/// with a dot, except `.well-known`.
pub(crate) fn shown_bytes(path: &[u8]) -> usize {
    let mut start = 0;
    for name in path.split(|byte| *byte == b'/') {
        if name.first() == Some(&b'.') && name != b".well-known" {
            return start.max(1) - 1;
        }
        start += name.len() + 1;
    }
    path.len()
}

/// Characters allowed in a host besides `%` and `:`: `unreserved` and `sub-delims` (RFC 3986 §2.2, §2.3).
const OF_HOST: [bool; 256] =
    set_of(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~!$&'()*+,;=");

const fn set_of(bytes: &[u8]) -> [bool; 256] {
    let mut set = [false; 256];
    let mut at = 0;
    while at < bytes.len() {
        set[bytes[at] as usize] = true;
        at += 1;
    }
    set
}

/// Whether the bytes are `host [":" port]` with a non-empty host (RFC 9110 §7.2, RFC 3986 §3.2). User information in
/// front of them is refused (RFC 9110 §4.2.4).
#[must_use]
pub fn is_authority(bytes: &[u8]) -> bool {
    let host_end = if bytes.first() == Some(&b'[') { literal_end(bytes) } else { name_end(bytes) };
    let Some(host_end) = host_end.filter(|end| *end > 0) else { return false };
    match &bytes[host_end..] {
        [] => true,
        // `*DIGIT`: it may be empty or begin with zeros.
        [b':', port @ ..] => port.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

/// Where a name or an IPv4 address ends: `*( unreserved / pct-encoded / sub-delims )`; `None` for a malformed escape.
fn name_end(bytes: &[u8]) -> Option<usize> {
    let mut end = 0;
    loop {
        let run = bytes[end..].iter().position(|byte| !OF_HOST[usize::from(*byte)]);
        end = run.map_or(bytes.len(), |run| end + run);
        if bytes.get(end) != Some(&b'%') {
            return Some(end);
        }
        let digits = bytes.get(end + 1..end + 3)?;
        if !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        end += 3;
    }
}

/// Where an address in brackets ends: `"[" ( IPv6address / IPvFuture ) "]"`; `None` if it is neither.
fn literal_end(bytes: &[u8]) -> Option<usize> {
    let end = memchr::memchr(b']', bytes)?;
    let literal = &bytes[1..end];
    // The standard library reads exactly the grammar of RFC 3986 §3.2.2, which has no zones.
    let is_ipv6 = |text: &str| text.parse::<Ipv6Addr>().is_ok();
    (std::str::from_utf8(literal).is_ok_and(is_ipv6) || is_future_address(literal)).then_some(end + 1)
}

/// `"v" 1*HEXDIG "." 1*( unreserved / sub-delims / ":" )`
fn is_future_address(literal: &[u8]) -> bool {
    let [b'v' | b'V', rest @ ..] = literal else { return false };
    let Some(dot) = memchr::memchr(b'.', rest) else { return false };
    let (version, address) = (&rest[..dot], &rest[dot + 1..]);
    !version.is_empty()
        && version.iter().all(u8::is_ascii_hexdigit)
        && !address.is_empty()
        && address.iter().all(|byte| OF_HOST[usize::from(*byte)] || *byte == b':')
}

/// Appends a path percent-encoded for use in a header field: everything except unreserved characters and slashes is
/// escaped (RFC 3986 §2.3).
pub fn encode(path: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in path {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(byte) {
            out.push(*byte);
        } else {
            out.extend_from_slice(&[b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_target_may_name_its_host() {
        for (target, expected) in [
            ("/a", None),
            ("/http://x/", None),
            ("http://a.example", Some("a.example")),
            ("HTTPS://[::1]:80/x:y", Some("[::1]:80")),
            ("ftp://a.example/", None),
            ("*", None),
        ] {
            assert_eq!(authority(target.as_bytes()), expected.map(str::as_bytes), "{target}");
        }
    }

    #[test]
    fn targets_resolve() {
        // target, path, directory, hidden, query
        for (target, path, directory, hidden, query) in [
            ("/", "", true, false, ""),
            ("/index.html", "index.html", false, false, ""),
            ("/a/b/c.txt?x=1&y", "a/b/c.txt", false, false, "?x=1&y"),
            ("/a/", "a", true, false, ""),
            ("/a/?", "a", true, false, "?"),
            ("//a///b", "a/b", false, false, ""),
            ("/a/./b", "a/b", false, false, ""),
            ("/a/../b", "b", false, false, ""),
            ("/a/b/..", "a", true, false, ""),
            ("/a/b/.", "a/b", true, false, ""),
            ("/a/b/../", "a", true, false, ""),
            ("/%61%2Fb", "a/b", false, false, ""),
            ("/a/%2e%2e/b", "b", false, false, ""),
            ("/a%20b", "a b", false, false, ""),
            ("/%2561", "%61", false, false, ""),
            ("/a%3Fb", "a?b", false, false, ""),
            ("/.git/config", ".git/config", false, true, ""),
            ("/a/.hidden", "a/.hidden", false, true, ""),
            ("/...", "...", false, true, ""),
            ("/.hidden", ".hidden", false, true, ""),
            ("//a", "a", false, false, ""),
            ("/.git/../a", "a", false, false, ""),
            ("/.well-known/x", ".well-known/x", false, false, ""),
            ("/.well-known/.x", ".well-known/.x", false, true, ""),
            ("http://example.com/a", "a", false, false, ""),
            ("HTTP://example.com:80", "", true, false, ""),
            ("https://[::1]:8080/a?b", "a", false, false, "?b"),
            ("http://example.com?q", "", true, false, "?q"),
            ("/a?http://x/%zz", "a", false, false, "?http://x/%zz"),
        ] {
            let mut resolved = Vec::new();
            let parsed =
                resolve(target.as_bytes(), &mut resolved).unwrap_or_else(|_| panic!("{target} is refused"));
            assert_eq!(String::from_utf8_lossy(&resolved), path, "{target}");
            assert_eq!((parsed.directory, parsed.hidden), (directory, hidden), "{target}");
            assert_eq!(&target[parsed.query], query, "{target}");
        }
    }

    #[test]
    fn what_is_in_front_of_hidden_names() {
        for (path, expected) in [
            ("", ""),
            ("a/b", "a/b"),
            (".a", ""),
            ("a/.b/c", "a"),
            ("a/b/.c/.d", "a/b"),
            (".well-known/a/.b", ".well-known/a"),
        ] {
            assert_eq!(&path[..shown_bytes(path.as_bytes())], expected, "{path}");
        }
    }

    #[test]
    fn targets_are_refused() {
        for target in [
            "",
            "a",
            "*",
            "/..",
            "/a/../..",
            "/%2e%2e",
            "/%2E./",
            "/..%2f",
            "/%2f..",
            "/%",
            "/%4",
            "/%g0",
            "/%0g",
            "/%00",
            "/a%00b",
            "/a#b",
            "/a?b#c",
            "ftp://example.com/",
            "http://",
            "http:///a",
            "http://u@h/",
            "http:/a",
            "http://h:port/",
            "http://[::1/",
            "example.com:80",
            "http://a b/",
        ] {
            assert_eq!(resolve(target.as_bytes(), &mut Vec::new()), Err(Status::BadRequest), "{target}");
        }
    }

    #[test]
    fn authorities_are_valid() {
        for good in [
            "a",
            "example.com",
            "example.com:",
            "example.com:8080",
            "example.com:000080",
            "127.0.0.1:1",
            "999.1",
            "a_b",
            "a%41",
            "%c3%A4:80",
            "!$&'()*+,;=-._~",
            "[::]",
            "[::1]",
            "[::1]:80",
            "[::1]:",
            "[1:2:3:4:5:6:7:8]",
            "[1:2:3:4:5:6:7::]",
            "[::2:3:4:5:6:7:8]",
            "[ABCD::ef01]",
            "[::127.0.0.1]",
            "[1:2:3:4:5:6:255.255.255.255]",
            "[v1.x]",
            "[VfF.a:b!c]:80",
        ] {
            assert!(is_authority(good.as_bytes()), "{good}");
        }
    }

    #[test]
    fn authorities_are_invalid() {
        for bad in [
            "",
            ":",
            ":80",
            "a b",
            "a/b",
            "u@h",
            "u:p@h",
            "a:b",
            "a:1:2",
            "a:-1",
            "a:+1",
            "a,b c",
            "\u{e9}",
            "a%",
            "a%4",
            "a%4g",
            "a%zz:80",
            "[",
            "[]",
            "[]:80",
            "[::1",
            "[::1]x",
            "[::1]1",
            "[::1]:x",
            "[[::1]]",
            "::1",
            "[1]",
            "[1:2:3]",
            "[1:2:3:4:5:6:7:8:9]",
            "[1:2:3:4:5:6:7:8::]",
            "[1::2::3]",
            "[:::]",
            "[12345::]",
            "[g::]",
            "[::1%25eth0]",
            "[::1%eth0]",
            "[::256.0.0.1]",
            "[::127.0.0.01]",
            "[127.0.0.1::]",
            "[127.0.0.1]",
            "[a]",
            "[v]",
            "[v1]",
            "[v1.]",
            "[v.x]",
            "[vg.x]",
            "[v1.x/y]",
            "[v1.%41]",
            "[x1.y]",
            "[\u{e9}]",
        ] {
            assert!(!is_authority(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn encoding_escapes_everything_unsafe_in_a_header_field() {
        let mut out = Vec::new();
        encode(b"a b/\r\n\xff%?~", &mut out);
        assert_eq!(out, b"a%20b/%0D%0A%FF%25%3F~");
    }

    proptest! {
        /// For any target, the path consists of plain names and never climbs above the root.
        #[test]
        fn nothing_climbs(target in "[/.%2eEfFa0?#:h-]{0,40}") {
            let mut path = Vec::new();
            if resolve(target.as_bytes(), &mut path).is_ok() && !path.is_empty() {
                for name in path.split(|byte| *byte == b'/') {
                    prop_assert!(!name.is_empty() && name != b"." && name != b"..");
                }
                prop_assert!(!path.contains(&0));
            }
        }

        /// Arbitrary bytes never panic, and never leave a NUL in the path.
        #[test]
        fn arbitrary_bytes(target in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut path = Vec::new();
            if resolve(&target, &mut path).is_ok() {
                prop_assert!(!path.contains(&0));
            }
        }

        /// Decoding reverses encoding.
        #[test]
        fn encoding_round_trips(names in proptest::collection::vec(proptest::collection::vec(1u8.., 1..9), 1..5)) {
            let names: Vec<Vec<u8>> = names.into_iter().map(|name| name.into_iter().map(|byte| if byte == b'/' { b'_' } else { byte }).collect()).collect();
            prop_assume!(names.iter().all(|name| name != b"." && name != b".."));
            let path = names.join(&b'/');
            let mut target = b"/".to_vec();
            encode(&path, &mut target);
            let mut resolved = Vec::new();
            prop_assert!(resolve(&target, &mut resolved).is_ok());
            prop_assert_eq!(resolved, path);
        }
    }
}
