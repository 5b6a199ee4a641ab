//! Which fields of an answer a rule may set or take away.
//!
//! Framing and what describes the bytes that are sent (length, range, coding, validators) is the server's: a rule that
//! could change it would make answers that others read differently. What describes the connection, the date or the
//! server belongs to it as well. Netlify leaves out much the same names.

use crate::site::rules::fault::Problem;

/// Who decides on a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The server alone.
    Server,
    /// A rule may set it, but there is always one: `Content-Type`. And a rule may add to it: `Vary`.
    Both,
    /// The rules: they may set it, and take away what the server would send.
    Rules,
}

/// Some of [`SERVER`], for a message.
pub(super) const OWNED_EXAMPLES: &str = "as are Content-Length, Date, ETag and Location";

/// Fields that rules can't change, in lower case and in order.
const SERVER: [&str; 27] = [
    "accept-ranges",
    "age",
    "allow",
    "alt-svc",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "date",
    "etag",
    "http2-settings",
    "keep-alive",
    "last-modified",
    "location",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "sec-websocket-accept",
    "sec-websocket-extensions",
    "sec-websocket-protocol",
    "sec-websocket-version",
    "server",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "www-authenticate",
];

/// Who decides on the field of this name, in any case.
#[must_use]
pub fn owner(name: &[u8]) -> Owner {
    let lower = name.to_ascii_lowercase();
    match lower.as_slice() {
        b"content-type" | b"vary" => Owner::Both,
        lower if SERVER.binary_search_by(|owned| owned.as_bytes().cmp(lower)).is_ok() => Owner::Server,
        _ => Owner::Rules,
    }
}

/// Whether a rule may set the field to this value.
pub(super) fn check(name: &[u8], value: &[u8]) -> Result<(), Problem> {
    check_name(name)?;
    match owner(name) {
        Owner::Server => return Err(Problem::Owned),
        Owner::Both | Owner::Rules => {}
    }
    if value.is_empty() {
        return Err(Problem::NoValue);
    }
    if !value.iter().all(|byte| is_of_value(*byte)) {
        return Err(Problem::Value);
    }
    if name.eq_ignore_ascii_case(b"content-type") && !is_media_type(value) {
        return Err(Problem::MediaType);
    }
    if name.eq_ignore_ascii_case(b"vary")
        && !value.split(|byte| *byte == b',').all(|member| is_token(member.trim_ascii()))
    {
        return Err(Problem::Value);
    }
    Ok(())
}

/// Whether a rule may take the field away.
pub(super) fn check_removal(name: &[u8]) -> Result<(), Problem> {
    check_name(name)?;
    match owner(name) {
        Owner::Server => Err(Problem::Owned),
        Owner::Both => Err(Problem::Kept),
        Owner::Rules => Ok(()),
    }
}

fn check_name(name: &[u8]) -> Result<(), Problem> {
    if !is_token(name) {
        return Err(Problem::Name);
    }
    // Netlify asks for a password where it finds this. Sent as it is it would tell everybody the passwords.
    if name.eq_ignore_ascii_case(b"basic-auth") {
        return Err(Problem::BasicAuth);
    }
    Ok(())
}

/// `token` (RFC 9110 §5.6.2).
fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty()
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}

/// `field-vchar`, and the blanks between them (RFC 9110 §5.5).
fn is_of_value(byte: u8) -> bool {
    byte == b'\t' || byte >= b' ' && byte != 0x7f
}

/// Whether it begins with `type "/" subtype` (RFC 9110 §8.3.1).
fn is_media_type(value: &[u8]) -> bool {
    let essence = value.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    let Some(slash) = memchr::memchr(b'/', essence) else { return false };
    is_token(&essence[..slash]) && is_token(&essence[slash + 1..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_the_server_are_in_order() {
        assert!(SERVER.is_sorted(), "they are searched by halves");
    }

    #[test]
    fn fields_are_checked() {
        for (name, value, expected) in [
            ("X-Frame-Options", "DENY", Ok(())),
            ("content-type", "text/html; charset=utf-8", Ok(())),
            ("Cache-Control", "public,\tmax-age=0", Ok(())),
            ("X-Name", "caf\u{e9}", Ok(())),
            ("Vary", "Accept-Language, *", Ok(())),
            ("Set-Cookie", "a=b", Ok(())),
            ("X", "", Err(Problem::NoValue)),
            ("X", "a\rb", Err(Problem::Value)),
            ("X", "a\0b", Err(Problem::Value)),
            ("X", "a\u{7f}b", Err(Problem::Value)),
            ("Vary", "a b", Err(Problem::Value)),
            ("Vary", "a,,b", Err(Problem::Value)),
            ("Content-Type", "html", Err(Problem::MediaType)),
            ("Content-Type", "text/html text", Err(Problem::MediaType)),
            ("", "a", Err(Problem::Name)),
            ("X Y", "a", Err(Problem::Name)),
            ("X\tY", "a", Err(Problem::Name)),
            ("caf\u{e9}", "a", Err(Problem::Name)),
            ("Content-Length", "0", Err(Problem::Owned)),
            ("TRANSFER-ENCODING", "chunked", Err(Problem::Owned)),
            ("Basic-Auth", "me:secret", Err(Problem::BasicAuth)),
        ] {
            assert_eq!(check(name.as_bytes(), value.as_bytes()), expected, "{name}: {value:?}");
        }
        for (name, expected) in [
            ("X-Content-Type-Options", Ok(())),
            ("Content-Type", Err(Problem::Kept)),
            ("Vary", Err(Problem::Kept)),
            ("ETag", Err(Problem::Owned)),
            ("a b", Err(Problem::Name)),
        ] {
            assert_eq!(check_removal(name.as_bytes()), expected, "! {name}");
        }
    }

    /// Netlify's own list of what a rule can't set; it may override `Set-Cookie`, and so do we not.
    #[test]
    fn what_netlify_keeps_is_kept() {
        for name in [
            "Accept-Ranges",
            "Age",
            "Allow",
            "Alt-Svc",
            "Connection",
            "Content-Encoding",
            "Content-Length",
            "Content-Range",
            "Date",
            "Location",
            "Server",
            "Trailer",
            "Transfer-Encoding",
            "Upgrade",
        ] {
            assert_eq!(owner(name.as_bytes()), Owner::Server, "{name}");
        }
    }
}
