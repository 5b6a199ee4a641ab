//! Builds response heads.
//!
//! Every head begins with the status line, `Server` and `Date`, so the position of the date depends only on the status.
//! All builders append, and don't allocate if the buffer is large enough.

use std::ops::Range;

use crate::http::accept_encoding::Coding;
use crate::http::additions::Additions;
use crate::http::conditional::Validators;
use crate::http::cors::Cors;
use crate::http::date::{DATE_BYTES, Date};
use crate::http::digits::push_decimal;
use crate::http::error_page;
use crate::http::mime::MediaType;
use crate::http::range::ByteRange;
use crate::http::status::Status;

/// What the `Connection` field says (RFC 9112 §9.3, §9.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// No field: HTTP/1.1 keeps the connection open by default.
    Kept,
    /// `keep-alive`, for an HTTP/1.0 client that asked for it.
    KeptExplicitly,
    /// `close`.
    Closing,
}

/// Values used in every head.
#[derive(Clone, Copy, Debug)]
pub struct General {
    /// When the response was generated.
    pub date: Date,
    /// Whether the connection stays open.
    pub persistence: Persistence,
    /// Who else may read an answer that is no file; what files say of it is among what rules add.
    pub cors: Option<Cors>,
    /// The answer depends on the media types that the client takes.
    pub is_negotiated: bool,
}

/// The form that a file is sent in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// Its media type.
    pub media_type: MediaType,
    /// The coding that was negotiated with the client.
    pub coding: Option<Coding>,
    /// Clients that accept other codings may be sent another form.
    pub varies: bool,
}

/// The representation of a file.
#[derive(Clone, Copy, Debug)]
pub struct Representation<'a> {
    /// Its form.
    pub form: Form,
    /// Its size in bytes.
    pub size: u64,
    /// Its validators.
    pub validators: Validators,
    /// What the site's rules say about it.
    pub additions: Option<&'a Additions>,
}

/// The supported methods.
const ALLOW: &str = "Allow: GET, HEAD, OPTIONS\r\n";

/// 200: the whole file.
pub fn build_ok_headers(out: &mut Vec<u8>, general: &General, file: &Representation<'_>) {
    begin(out, Status::Ok, general);
    push_content_of(out, file, file.size);
    push_validators(out, &file.validators);
    out.extend_from_slice(b"Accept-Ranges: bytes\r\n");
    end_with(out, general, file.form.varies, file.additions);
}

/// 206: one range of the file.
pub fn build_partial_headers(
    out: &mut Vec<u8>,
    general: &General,
    file: &Representation<'_>,
    range: ByteRange,
) {
    begin(out, Status::PartialContent, general);
    push_content_of(out, file, range.length);
    push_content_range(out, range, file.size);
    push_validators(out, &file.validators);
    end_with(out, general, file.form.varies, file.additions);
}

/// 206: several ranges (RFC 9110 §14.6); `content_bytes` is [`multipart_bytes`].
pub fn build_multipart_headers(
    out: &mut Vec<u8>,
    general: &General,
    file: &Representation<'_>,
    content_bytes: u64,
) {
    begin(out, Status::PartialContent, general);
    out.extend_from_slice(b"Content-Type: multipart/byteranges; boundary=");
    push_boundary(out, file);
    out.extend_from_slice(b"\r\n");
    push_content_length(out, content_bytes);
    push_validators(out, &file.validators);
    end_with(out, general, file.form.varies, file.additions);
}

/// The header of one part.
pub fn build_part_header(out: &mut Vec<u8>, file: &Representation<'_>, range: ByteRange, is_first: bool) {
    out.extend_from_slice(if is_first { b"--" } else { b"\r\n--" });
    push_boundary(out, file);
    out.extend_from_slice(b"\r\n");
    push_content_type(out, file.form, content_type_of(file));
    push_content_range(out, range, file.size);
    out.extend_from_slice(b"\r\n");
}

/// The closing delimiter, after the last part.
pub fn build_multipart_end(out: &mut Vec<u8>, file: &Representation<'_>) {
    out.extend_from_slice(b"\r\n--");
    push_boundary(out, file);
    out.extend_from_slice(b"--\r\n");
}

/// The length of a multipart body in bytes. `scratch` is appended to and restored.
pub fn multipart_bytes(scratch: &mut Vec<u8>, file: &Representation<'_>, ranges: &[ByteRange]) -> u64 {
    let start = scratch.len();
    for (index, range) in ranges.iter().enumerate() {
        build_part_header(scratch, file, *range, index == 0);
    }
    build_multipart_end(scratch, file);
    let framing = scratch.len() - start;
    scratch.truncate(start);
    framing as u64 + ranges.iter().map(|range| range.length).sum::<u64>()
}

/// 304. What a 200 would say about being kept, a cache must learn here as well (RFC 9110 §15.4.5).
pub fn build_not_modified(out: &mut Vec<u8>, general: &General, file: &Representation<'_>) {
    begin(out, Status::NotModified, general);
    push_validators(out, &file.validators);
    end_with(out, general, file.form.varies, file.additions);
}

/// 412, without a body, like 304.
pub fn build_precondition_failed(out: &mut Vec<u8>, general: &General, file: &Representation<'_>) {
    begin(out, Status::PreconditionFailed, general);
    push_content_length(out, 0);
    push_validators(out, &file.validators);
    end_with(out, general, file.form.varies, None);
}

/// 416, with the actual size of the file.
pub fn build_range_not_satisfiable(out: &mut Vec<u8>, general: &General, size: u64) {
    begin(out, Status::RangeNotSatisfiable, general);
    push_content(out, MediaType::HTML, error_body_bytes(Status::RangeNotSatisfiable));
    out.extend_from_slice(b"Content-Range: bytes */");
    push_decimal(out, size);
    out.extend_from_slice(b"\r\n");
    end(out, general);
    error_page::push(out, Status::RangeNotSatisfiable);
}

/// 404 with the built-in page.
pub fn build_404(out: &mut Vec<u8>, general: &General) {
    build_error(out, general, Status::NotFound);
}

/// Any error with the site's own page.
pub fn build_own_error_headers(
    out: &mut Vec<u8>,
    general: &General,
    status: Status,
    media_type: MediaType,
    size: u64,
    additions: Option<&Additions>,
) {
    begin(out, status, general);
    push_content(out, media_type, size);
    push_error_fields(out, status);
    end_with(out, general, false, additions);
}

/// Any error, with a small page as its body.
pub fn build_error(out: &mut Vec<u8>, general: &General, status: Status) {
    begin(out, status, general);
    push_content(out, MediaType::HTML, error_body_bytes(status));
    push_error_fields(out, status);
    end(out, general);
    error_page::push(out, status);
}

/// The length of the body of [`build_error`] in bytes, for HEAD, which omits the body.
#[must_use]
pub fn error_body_bytes(status: Status) -> u64 {
    error_page::bytes(status)
}

/// A redirect, with a line of text that nobody sees. `location` begins with exactly one slash, or is the URL that a rule
/// of the site has written.
pub fn build_redirect(out: &mut Vec<u8>, general: &General, status: Status, location: &[u8]) {
    begin(out, status, general);
    push_content(out, MediaType::TEXT, redirect_body_bytes(status));
    out.extend_from_slice(b"Location: ");
    out.extend_from_slice(location);
    out.extend_from_slice(b"\r\n");
    end(out, general);
    out.extend_from_slice(status.line().as_bytes());
    out.push(b'\n');
}

/// The length of the body of [`build_redirect`] in bytes.
#[must_use]
pub fn redirect_body_bytes(status: Status) -> u64 {
    status.line().len() as u64 + 1
}

/// 204, for OPTIONS.
pub fn build_options(out: &mut Vec<u8>, general: &General) {
    begin(out, Status::NoContent, general);
    out.extend_from_slice(ALLOW.as_bytes());
    if let Some(cors) = general.cors {
        out.extend_from_slice(cors.preflight_lines().as_bytes());
    }
    end(out, general);
}

/// 200 with a listing, in the format that the request prefers. It has no validators and must be asked for again on every
/// use: what a cache keeps of a folder would be wrong after the next change, and nothing says when that is.
pub fn build_listing_headers(out: &mut Vec<u8>, general: &General, media_type: MediaType, size: u64) {
    begin(out, Status::Ok, general);
    push_content(out, media_type, size);
    out.extend_from_slice(b"Cache-Control: no-cache\r\nVary: Accept\r\n");
    end(out, general);
}

/// Position of the `Date` value in a head with this status.
#[must_use]
pub fn date_range(status: Status) -> Range<usize> {
    let start = VERSION.len() + status.line().len() + BEFORE_DATE.len();
    start..start + DATE_BYTES
}

/// The bytes before the status and between the status and the date.
const VERSION: &[u8] = b"HTTP/1.1 ";
const BEFORE_DATE: &[u8] = b"\r\nServer: triptych\r\nDate: ";

fn begin(out: &mut Vec<u8>, status: Status, general: &General) {
    out.extend_from_slice(VERSION);
    out.extend_from_slice(status.line().as_bytes());
    out.extend_from_slice(BEFORE_DATE);
    out.extend_from_slice(general.date.as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn end(out: &mut Vec<u8>, general: &General) {
    end_with(out, general, false, None);
}

/// The fields of the site's rules, and what every head ends with.
fn end_with(out: &mut Vec<u8>, general: &General, varies: bool, additions: Option<&Additions>) {
    let vary = additions.and_then(|additions| additions.vary.as_deref());
    let own: &[u8] = match (varies, general.is_negotiated) {
        (false, false) => b"",
        (true, false) => b"Vary: Accept-Encoding",
        (false, true) => b"Vary: Accept",
        (true, true) => b"Vary: Accept-Encoding, Accept",
    };
    out.extend_from_slice(own);
    if let Some(vary) = vary {
        out.extend_from_slice(if own.is_empty() { b"Vary: ".as_slice() } else { b", " });
        out.extend_from_slice(vary);
    }
    if !own.is_empty() || vary.is_some() {
        out.extend_from_slice(b"\r\n");
    }
    if let Some(cors) = general.cors {
        out.extend_from_slice(cors.lines().as_bytes());
    }
    let mut decides_sniffing = false;
    if let Some(additions) = additions {
        decides_sniffing = additions.decides_sniffing;
        out.extend_from_slice(&additions.lines);
    }
    if !decides_sniffing {
        out.extend_from_slice(b"X-Content-Type-Options: nosniff\r\n");
    }
    out.extend_from_slice(match general.persistence {
        Persistence::Kept => b"\r\n".as_slice(),
        Persistence::KeptExplicitly => b"Connection: keep-alive\r\n\r\n",
        Persistence::Closing => b"Connection: close\r\n\r\n",
    });
}

fn push_content(out: &mut Vec<u8>, media_type: MediaType, length: u64) {
    push_content_type(out, Form { media_type, coding: None, varies: false }, None);
    push_content_length(out, length);
}

fn push_content_of(out: &mut Vec<u8>, file: &Representation<'_>, length: u64) {
    push_content_type(out, file.form, content_type_of(file));
    push_content_length(out, length);
}

/// The type that the site's rules give the file.
fn content_type_of<'a>(file: &Representation<'a>) -> Option<&'a [u8]> {
    file.additions?.content_type.as_deref()
}

/// `Content-Type`, and `Content-Encoding` where the bytes are in a coding. The two belong together: in a multipart body
/// they are fields of each part, because what is coded is the file and not the body (RFC 9110 §8.4, §14.6).
fn push_content_type(out: &mut Vec<u8>, form: Form, instead: Option<&[u8]>) {
    out.extend_from_slice(b"Content-Type: ");
    match instead {
        Some(instead) => out.extend_from_slice(instead),
        None => form.media_type.parts().iter().for_each(|part| out.extend_from_slice(part.as_bytes())),
    }
    out.extend_from_slice(b"\r\n");
    if let Some(coding) = form.coding.map(Coding::name).or(form.media_type.coding()) {
        out.extend_from_slice(b"Content-Encoding: ");
        out.extend_from_slice(coding.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

fn push_content_length(out: &mut Vec<u8>, length: u64) {
    out.extend_from_slice(b"Content-Length: ");
    push_decimal(out, length);
    out.extend_from_slice(b"\r\n");
}

fn push_content_range(out: &mut Vec<u8>, range: ByteRange, size: u64) {
    out.extend_from_slice(b"Content-Range: bytes ");
    push_decimal(out, range.start);
    out.push(b'-');
    push_decimal(out, range.start + range.length - 1);
    out.push(b'/');
    push_decimal(out, size);
    out.extend_from_slice(b"\r\n");
}

fn push_validators(out: &mut Vec<u8>, validators: &Validators) {
    if let Some(seconds) = validators.last_modified() {
        out.extend_from_slice(b"Last-Modified: ");
        out.extend_from_slice(Date::from_unix(seconds).as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    if let Some(etag) = validators.etag() {
        out.extend_from_slice(b"ETag: ");
        out.extend_from_slice(&etag.text());
        out.extend_from_slice(b"\r\n");
    }
}

/// Depends only on the version of the file, so that all servers send the same bytes.
fn push_boundary(out: &mut Vec<u8>, file: &Representation<'_>) {
    out.extend_from_slice(b"triptych-");
    out.extend_from_slice(&file.validators.boundary());
}

/// What an error says besides its page.
fn push_error_fields(out: &mut Vec<u8>, status: Status) {
    match status {
        Status::MethodNotAllowed => out.extend_from_slice(ALLOW.as_bytes()),
        Status::ServiceUnavailable => out.extend_from_slice(b"Retry-After: 1\r\n"),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::conditional::{EtagPolicy, FileState, Timestamp};
    use crate::http::mime::mime_for;

    const GENERAL: General =
        General { date: Date::EPOCH, persistence: Persistence::Kept, cors: None, is_negotiated: false };

    const MODIFIED: i64 = 784_111_777;
    const NOW: Timestamp = Timestamp { seconds: 784_111_800, nanoseconds: 0 };

    fn validators(policy: EtagPolicy, seconds: i64) -> Validators {
        let modified = Timestamp { seconds, nanoseconds: 5 };
        Validators::new(policy, &FileState { inode: 10, size: 1000, modified, changed: modified }, NOW)
    }

    fn file() -> Representation<'static> {
        Representation {
            form: Form { media_type: MediaType::HTML, coding: None, varies: false },
            size: 1000,
            validators: validators(EtagPolicy::Strict, MODIFIED),
            additions: None,
        }
    }

    fn built(build: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        build(&mut out);
        String::from_utf8(out).expect("UTF-8").replace("\r\n", "\n")
    }

    #[test]
    fn a_whole_file() {
        assert_eq!(
            built(|out| build_ok_headers(out, &GENERAL, &file())),
            "HTTP/1.1 200 OK\nServer: triptych\nDate: Thu, 01 Jan 1970 00:00:00 GMT\n\
             Content-Type: text/html; charset=utf-8\nContent-Length: 1000\n\
             Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\nETag: \"a8344caae3e78d10\"\nAccept-Ranges: bytes\n\
             X-Content-Type-Options: nosniff\n\n"
        );
    }

    #[test]
    fn a_coded_file_says_so_wherever_its_type_is_said() {
        const FIELDS: &str = "\nContent-Type: image/svg+xml\nContent-Encoding: gzip\nContent-";
        let coded =
            Representation { form: Form { media_type: mime_for(b"a.svgz"), ..file().form }, ..file() };
        let range = ByteRange { start: 10, length: 5 };
        for text in [
            built(|out| build_ok_headers(out, &GENERAL, &coded)),
            built(|out| build_partial_headers(out, &GENERAL, &coded, range)),
            built(|out| build_part_header(out, &coded, range, true)),
        ] {
            assert!(text.contains(FIELDS), "{text}");
        }
        for text in [
            built(|out| build_ok_headers(out, &GENERAL, &file())),
            built(|out| build_multipart_headers(out, &GENERAL, &coded, 1000)),
            built(|out| build_not_modified(out, &GENERAL, &coded)),
        ] {
            assert!(!text.contains("Content-Encoding"), "{text}");
        }
    }

    /// A field that has nothing to say is left out, also from answers that have no others.
    #[test]
    fn validators_that_there_are() {
        const DATE: &str = "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\n";
        for (name, policy, seconds, date, tag) in [
            ("both", EtagPolicy::Strict, MODIFIED, DATE, true),
            ("no tag", EtagPolicy::Off, MODIFIED, DATE, false),
            ("no date", EtagPolicy::Strict, 1, "", true),
            ("neither", EtagPolicy::Off, 0, "", false),
        ] {
            let validators = validators(policy, seconds);
            let tag = if tag {
                let text = validators.etag().expect("a tag").text();
                format!("ETag: {}\n", String::from_utf8_lossy(&text))
            } else {
                String::new()
            };
            let expected = format!("1970 00:00:00 GMT\n{date}{tag}X-Content-Type-Options: nosniff\n\n");
            let found = Representation { validators, ..file() };
            let text = built(|out| build_not_modified(out, &GENERAL, &found));
            assert!(text.ends_with(&expected), "{name}: {text}");
            let text = built(|out| build_precondition_failed(out, &GENERAL, &found));
            let end = &expected["1970 00:00:00 GMT".len()..];
            assert!(text.ends_with(&format!("\nContent-Length: 0{end}")), "{name}: {text}");
        }
    }

    #[test]
    fn a_part_of_a_file() {
        let range = ByteRange { start: 10, length: 5 };
        let text = built(|out| build_partial_headers(out, &GENERAL, &file(), range));
        assert!(text.contains("Content-Length: 5\nContent-Range: bytes 10-14/1000\n"), "{text}");
    }

    #[test]
    fn a_multipart_body_has_the_announced_length() {
        let ranges = [(0, 1), (200, 30), (999, 1)].map(|(start, length)| ByteRange { start, length });
        let mut out = b"kept".to_vec();
        let announced = multipart_bytes(&mut out, &file(), &ranges);
        assert_eq!(out, b"kept");
        let body = built(|out| {
            for (index, range) in ranges.iter().enumerate() {
                build_part_header(out, &file(), *range, index == 0);
                out.resize(out.len() + usize::try_from(range.length).expect("small"), b'x');
            }
            build_multipart_end(out, &file());
        });
        assert_eq!(body.replace('\n', "\r\n").len() as u64, announced);
        assert!(
            body.starts_with("--triptych-a8344caae3e78d10\nContent-Type: text/html; charset=utf-8\n"),
            "{body}"
        );
        assert!(body.ends_with("x\n--triptych-a8344caae3e78d10--\n"), "{body}");
    }

    /// In a multipart body the type is that of each part, and all else is said once.
    #[test]
    fn what_rules_say_is_in_every_head_of_the_file() {
        let additions = Additions {
            lines: b"A: 1\r\n"[..].into(),
            content_type: Some(b"a/b"[..].into()),
            vary: Some(b"Origin"[..].into()),
            decides_sniffing: true,
        };
        let file = Representation { additions: Some(&additions), ..file() };
        let range = ByteRange { start: 10, length: 5 };
        let end = "Vary: Origin\nA: 1\n\n";
        for (name, text, has_type) in [
            ("200", built(|out| build_ok_headers(out, &GENERAL, &file)), true),
            ("206", built(|out| build_partial_headers(out, &GENERAL, &file, range)), true),
            ("parts", built(|out| build_multipart_headers(out, &GENERAL, &file, 100)), false),
            ("304", built(|out| build_not_modified(out, &GENERAL, &file)), false),
        ] {
            assert!(text.ends_with(end), "{name}: {text}");
            assert_eq!(text.contains("\nContent-Type: a/b\n"), has_type, "{name}: {text}");
        }
        let part = built(|out| build_part_header(out, &file, range, true));
        assert!(part.contains("\nContent-Type: a/b\n") && !part.contains("A: 1"), "{part}");
        let sniffing = Additions { decides_sniffing: false, ..additions.clone() };
        let file = Representation { additions: Some(&sniffing), ..file };
        let text = built(|out| build_ok_headers(out, &GENERAL, &file));
        assert!(text.ends_with("A: 1\nX-Content-Type-Options: nosniff\n\n"), "{text}");
    }

    #[test]
    fn a_connection_says_whether_it_stays() {
        for (persistence, expected) in [
            (Persistence::Kept, ""),
            (Persistence::KeptExplicitly, "Connection: keep-alive\n"),
            (Persistence::Closing, "Connection: close\n"),
        ] {
            let text = built(|out| build_options(out, &General { persistence, ..GENERAL }));
            assert!(text.ends_with(&format!("nosniff\n{expected}\n")), "{text}");
        }
    }

    #[test]
    fn what_an_answer_depends_on_is_in_one_field() {
        let additions = Additions { vary: Some(b"Origin"[..].into()), ..Additions::default() };
        for (varies, is_negotiated, additions, expected) in [
            (false, false, None, None),
            (true, false, None, Some("Accept-Encoding")),
            (false, true, None, Some("Accept")),
            (true, true, None, Some("Accept-Encoding, Accept")),
            (false, false, Some(&additions), Some("Origin")),
            (true, false, Some(&additions), Some("Accept-Encoding, Origin")),
            (false, true, Some(&additions), Some("Accept, Origin")),
            (true, true, Some(&additions), Some("Accept-Encoding, Accept, Origin")),
        ] {
            let file = Representation { form: Form { varies, ..file().form }, additions, ..file() };
            let text = built(|out| build_ok_headers(out, &General { is_negotiated, ..GENERAL }, &file));
            let lines: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("Vary: ")).collect();
            assert_eq!(lines, expected.as_slice(), "{text}");
        }
    }

    #[test]
    fn what_others_may_read_says_so() {
        let cors: Cors = "https://a.example".parse().expect("an origin");
        let general = General { cors: Some(cors), ..GENERAL };
        let shared = cors.lines().replace("\r\n", "\n");
        for text in [
            built(|out| build_404(out, &general)),
            built(|out| build_redirect(out, &general, Status::Found, b"/x")),
            built(|out| build_listing_headers(out, &general, MediaType::JSON, 2)),
            built(|out| build_range_not_satisfiable(out, &general, 7)),
            built(|out| build_precondition_failed(out, &general, &file())),
            built(|out| build_options(out, &general)),
        ] {
            assert!(text.contains(&format!("\n{shared}")), "{text}");
            assert_eq!(text.contains("\nAccess-Control-Allow-Methods:"), text.contains(" 204 "), "{text}");
        }
        let text = built(|out| build_options(out, &GENERAL));
        assert!(!text.contains("Access-Control"), "{text}");
    }

    #[test]
    fn errors_carry_the_fields_the_client_needs() {
        let text = built(|out| build_error(out, &GENERAL, Status::MethodNotAllowed));
        assert!(
            text.contains("\nAllow: GET, HEAD, OPTIONS\n")
                && text.contains("\n\n<!doctype html>")
                && text.contains("<title>405 Method Not Allowed</title>"),
            "{text}"
        );
        let text = built(|out| build_error(out, &GENERAL, Status::ServiceUnavailable));
        assert!(text.contains("\nRetry-After: 1\n"), "{text}");
        let text = built(|out| {
            build_own_error_headers(out, &GENERAL, Status::ServiceUnavailable, MediaType::HTML, 7, None);
        });
        assert!(text.contains("\nContent-Length: 7\nRetry-After: 1\n") && text.ends_with("\n\n"), "{text}");
        let text = built(|out| build_range_not_satisfiable(out, &GENERAL, 7));
        assert!(text.contains("\nContent-Range: bytes */7\n"), "{text}");
        let closing = General { persistence: Persistence::Closing, ..GENERAL };
        let text = built(|out| build_404(out, &closing));
        let (head, body) = text.split_once("\n\n").expect("a head");
        assert!(head.ends_with("\nConnection: close") && body.contains("404 Not Found"), "{text}");
        let length = error_body_bytes(Status::NotFound);
        assert_eq!(body.len() as u64, length);
        assert!(head.contains(&format!("\nContent-Length: {length}\n")), "{text}");
    }
}
