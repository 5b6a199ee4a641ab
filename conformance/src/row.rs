//! A row of the table: what a client sends, and everything it must receive.

use std::borrow::Cow;
use std::ops::Deref;

use common::EtagPolicy;
use libtest_mimic::Failed;

use crate::response::{Framing, Response};
use crate::site::{DIGITS, MODIFIED};

/// The server a row is sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Variant {
    /// The main site with default settings.
    Plain,
    /// The site with a `404.html`.
    Custom,
    /// The site with `_headers` and `_redirects`.
    Rules,
    /// The site with files beside others, in codings.
    Sidecars,
    /// The same with `--compress=off`.
    Uncoded,
    /// The site for flags, with `--cache-control`, `--header`, `--cors`, `--index` and `--mime`.
    Fields,
    /// The site for flags, with `--clean-urls`.
    Clean,
    /// The site for flags, with `--spa`.
    Application,
    /// The main site with `--cors` and `--listing`.
    Shared,
    /// The main site with `--hidden`.
    Hidden,
    /// The main site with `--symlinks=deny`.
    NoLinks,
    /// The main site with `--listing`.
    Listing,
    /// The main site with `--etag=replica`.
    Replica,
    /// The main site with `--etag=off`.
    Untagged,
}

impl Variant {
    /// What its entity tags are made of.
    #[must_use]
    pub fn etag(self) -> EtagPolicy {
        match self {
            Variant::Plain
            | Variant::Custom
            | Variant::Rules
            | Variant::Sidecars
            | Variant::Uncoded
            | Variant::Fields
            | Variant::Clean
            | Variant::Application
            | Variant::Shared
            | Variant::Hidden
            | Variant::NoLinks
            | Variant::Listing => EtagPolicy::Strict,
            Variant::Replica => EtagPolicy::Replica,
            Variant::Untagged => EtagPolicy::Off,
        }
    }
}

/// One exchange: bytes to send, and the expected result.
#[derive(Clone, Debug)]
pub struct Row {
    /// The row's name within its group.
    pub name: &'static str,
    /// The server it is sent to.
    pub variant: Variant,
    /// The bytes to send. `{etag}` stands for the entity tag of `/digits.txt`, quotes included; where there is none, for
    /// some other tag.
    pub request: Vec<u8>,
    /// Whether the client then half-closes.
    pub half_close: bool,
    /// The expected responses, in order.
    pub answers: Vec<Answer>,
    /// The expected state of the connection.
    pub then: Then,
}

/// The expected state of the connection after the last response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// It stays open: another request is answered.
    Open,
    /// The server closes it in an orderly way and sends nothing more.
    Closed,
    /// The server closes it while the client keeps sending more than announced; a reset is allowed.
    Dropped,
}

/// A row. Whether the connection closes follows from the last response.
#[must_use]
pub fn row(name: &'static str, request: impl Into<Vec<u8>>, answers: impl Into<Answers>) -> Row {
    let answers = answers.into().0;
    let then = if answers.last().is_some_and(|answer| answer.closes) { Then::Closed } else { Then::Open };
    Row { name, variant: Variant::Plain, request: request.into(), half_close: false, answers, then }
}

impl Row {
    /// Uses another server.
    #[must_use]
    pub fn on(self, variant: Variant) -> Row {
        Row { variant, ..self }
    }

    /// The client sends more than it announced.
    #[must_use]
    pub fn dropped(self) -> Row {
        Row { then: Then::Dropped, ..self }
    }

    /// The number of responses that need an existing file, counting the one that proves the connection is still open.
    #[must_use]
    pub fn files(&self) -> u64 {
        let of_answers = match self.variant {
            Variant::Listing | Variant::Shared => 0,
            _ => self
                .answers
                .iter()
                .filter(|answer| matches!(answer.status, 200 | 206 | 304 | 412 | 416))
                .count(),
        };
        of_answers as u64 + u64::from(self.then == Then::Open)
    }

    /// The client half-closes after sending everything; the server closes after its responses.
    #[must_use]
    pub fn half_closed(self) -> Row {
        Row { half_close: true, then: Then::Closed, ..self }
    }
}

/// One response or several.
#[derive(Clone, Debug)]
pub struct Answers(Vec<Answer>);

impl From<Answer> for Answers {
    fn from(answer: Answer) -> Answers {
        Answers(vec![answer])
    }
}

impl From<Vec<Answer>> for Answers {
    fn from(answers: Vec<Answer>) -> Answers {
        Answers(answers)
    }
}

impl<const COUNT: usize> From<[Answer; COUNT]> for Answers {
    fn from(answers: [Answer; COUNT]) -> Answers {
        Answers(answers.into())
    }
}

/// The requirements on one response. In addition, every response must pass [`Response::parse`], and carry `Connection:
/// close` exactly if the connection then closes.
#[derive(Clone, Debug)]
pub struct Answer {
    status: u16,
    fields: Vec<(&'static str, Cow<'static, str>)>,
    absent: Vec<&'static str>,
    content: Content,
    head_only: bool,
    closes: bool,
}

#[derive(Clone, Debug)]
enum Content {
    /// Some content, unspecified.
    Some,
    /// No content.
    None,
    /// Text with each of these in it.
    Holding(&'static [&'static str]),
    /// Exactly these bytes.
    Exactly(Vec<u8>),
    /// Content of this length, for HEAD only.
    OfLength(u64),
    /// The parts of a `multipart/byteranges` response: content range and bytes (RFC 9110 §14.6).
    Parts { media_type: &'static str, parts: Vec<(&'static str, Vec<u8>)> },
}

const VALIDATORS: [&str; 2] = ["ETag", "Last-Modified"];

impl Answer {
    fn new(status: u16, content: Content) -> Answer {
        Answer { status, fields: Vec::new(), absent: Vec::new(), content, head_only: false, closes: false }
    }

    /// Requires a field with exactly this value.
    #[must_use]
    pub fn has(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Answer {
        self.fields.push((name, value.into()));
        self
    }

    /// Forbids a field.
    #[must_use]
    pub fn lacks(mut self, name: &'static str) -> Answer {
        self.absent.push(name);
        self
    }

    /// The connection closes after this response.
    #[must_use]
    pub fn closing(self) -> Answer {
        Answer { closes: true, ..self }
    }

    /// The same response to HEAD: same head, no content.
    #[must_use]
    pub fn head_only(self) -> Answer {
        Answer { head_only: true, ..self }
    }

    /// What delimits the response.
    #[must_use]
    pub fn framing(&self) -> Framing {
        if self.head_only { Framing::HeadOnly } else { Framing::Content }
    }

    /// Checks a response.
    ///
    /// # Errors
    /// The first difference.
    pub fn check(&self, response: &Response, etag: &str) -> Result<(), Failed> {
        self.find_difference(response, etag).map_or(Ok(()), |difference| {
            Err(format!("{difference}, in \"{}\"", response.bytes().escape_ascii()).into())
        })
    }

    fn find_difference(&self, response: &Response, etag: &str) -> Option<String> {
        if response.status != self.status {
            return Some(format!("the status is {} instead of {}", response.status, self.status));
        }
        for (name, expected) in &self.fields {
            let expected = expected.replace("{etag}", etag);
            if response.field(name) != Some(&expected) {
                return Some(format!("{name} is {:?} instead of {expected:?}", response.field(name)));
            }
        }
        if let Some(name) = self.absent.iter().find(|name| response.field(name).is_some()) {
            return Some(format!("unexpected field {name}"));
        }
        if !response.is_interim() && response.closes() != self.closes {
            return Some(format!(
                "Connection is {:?}; closes: {}",
                response.field("Connection"),
                self.closes
            ));
        }
        self.find_difference_of_content(response)
    }

    fn find_difference_of_content(&self, response: &Response) -> Option<String> {
        if self.head_only {
            return self.find_difference_of_length(response);
        }
        let received = &response.content;
        match &self.content {
            Content::Some => received.is_empty().then(|| "the content is missing".to_owned()),
            Content::Holding(parts) => {
                let text = String::from_utf8_lossy(received);
                let missing = parts.iter().find(|part| !text.contains(**part));
                missing.map(|part| format!("{part:?} isn't in the content"))
            }
            Content::None => (!received.is_empty()).then(|| "there is content".to_owned()),
            Content::Exactly(expected) => {
                (received != expected).then(|| format!("the content isn't \"{}\"", expected.escape_ascii()))
            }
            Content::OfLength(bytes) => Some(format!("{bytes} bytes of content are for HEAD only")),
            Content::Parts { media_type, parts } => {
                find_difference_of_parts(response, media_type, parts).err()
            }
        }
    }

    /// HEAD announces the length the content would have.
    fn find_difference_of_length(&self, response: &Response) -> Option<String> {
        let expected = match &self.content {
            Content::Exactly(expected) => expected.len().to_string(),
            Content::OfLength(bytes) => bytes.to_string(),
            Content::Some | Content::None | Content::Holding(_) | Content::Parts { .. } => return None,
        };
        let length = response.field("Content-Length");
        (length != Some(&expected)).then(|| format!("Content-Length is {length:?} instead of {expected}"))
    }
}

fn find_difference_of_parts(
    response: &Response,
    media_type: &str,
    parts: &[(&'static str, Vec<u8>)],
) -> Result<(), String> {
    let boundary = response
        .field("Content-Type")
        .and_then(|value| value.strip_prefix("multipart/byteranges; boundary="))
        .ok_or("Content-Type isn't multipart/byteranges with a boundary")?;
    let mut expected = Vec::new();
    for (range, bytes) in parts {
        if bytes.windows(boundary.len()).any(|window| window == boundary.as_bytes()) {
            return Err("the boundary occurs in a part".to_owned());
        }
        let head =
            format!("\r\n--{boundary}\r\nContent-Type: {media_type}\r\nContent-Range: bytes {range}\r\n\r\n");
        expected.extend_from_slice(head.as_bytes());
        expected.extend_from_slice(bytes);
    }
    expected.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    // The line break before the first delimiter belongs to an empty preamble, which may be missing (RFC 2046 §5.1.1).
    let received = response.content.strip_prefix(b"\r\n").unwrap_or(&response.content);
    if received == &expected[2..] {
        Ok(())
    } else {
        Err(format!("the parts aren't \"{}\"", expected.escape_ascii()))
    }
}

/// 200 with a file's content, its media type, validators and `Accept-Ranges`.
#[must_use]
pub fn file(media_type: &'static str, content: impl AsRef<[u8]>) -> Answer {
    let content = content.as_ref().to_vec();
    Answer::new(200, Content::Exactly(content))
        .has("Content-Type", media_type)
        .has("Last-Modified", MODIFIED)
        .has("Accept-Ranges", "bytes")
        .lacks("Content-Range")
        .lacks("Location")
}

/// The head of a 200 for a file too large to keep here.
#[must_use]
pub fn head_of_file(media_type: &'static str, bytes: u64) -> Answer {
    Answer { content: Content::OfLength(bytes), ..file(media_type, "").head_only() }
}

/// 200 with the content of `/digits.txt`.
#[must_use]
pub fn digits() -> Answer {
    file("text/plain; charset=utf-8", DIGITS).has("ETag", "{etag}")
}

/// The same without an entity tag.
#[must_use]
pub fn untagged_digits() -> Answer {
    file("text/plain; charset=utf-8", DIGITS).lacks("ETag")
}

/// 200 with the content of a file whose date is unknown.
#[must_use]
pub fn undated(media_type: &'static str, content: impl AsRef<[u8]>) -> Answer {
    let mut answer = file(media_type, content).lacks("Last-Modified");
    answer.fields.retain(|(name, _)| *name != "Last-Modified");
    answer
}

/// 304 or 412 of a file that lacks one of the validators.
#[must_use]
pub fn precondition_lacking(status: u16, validator: &'static str) -> Answer {
    let mut answer = precondition(status).lacks(validator);
    answer.fields.retain(|(name, _)| *name != validator);
    answer
}

/// 304 or 412 of a file whose date is unknown, with some tag.
#[must_use]
pub fn undated_precondition(status: u16) -> Answer {
    let mut answer = precondition_lacking(status, "Last-Modified");
    answer.fields.clear();
    answer
}

/// 206 with one range.
#[must_use]
pub fn part(media_type: &'static str, range: &str, content: impl AsRef<[u8]>) -> Answer {
    Answer::new(206, Content::Exactly(content.as_ref().to_vec()))
        .has("Content-Type", media_type)
        .has("Content-Range", format!("bytes {range}"))
        .has("Last-Modified", MODIFIED)
}

/// 206 with several ranges, each with its content range and bytes.
#[must_use]
pub fn parts(media_type: &'static str, parts: impl IntoIterator<Item = (&'static str, Vec<u8>)>) -> Answer {
    let parts = parts.into_iter().collect();
    Answer::new(206, Content::Parts { media_type, parts })
        .has("Last-Modified", MODIFIED)
        .lacks("Content-Range")
}

/// 304 or 412: validators, no content. A 304 has no content fields either (RFC 9110 §15.4.5).
#[must_use]
pub fn precondition(status: u16) -> Answer {
    let answer = Answer::new(status, Content::None).has("ETag", "{etag}").has("Last-Modified", MODIFIED);
    let absent: &[_] =
        if status == 304 { &["Content-Range", "Content-Type", "Content-Length"] } else { &["Content-Range"] };
    absent.iter().copied().fold(answer, Answer::lacks)
}

/// 304 for any file: its date, and nothing about content that isn't there (RFC 9110 §15.4.5).
#[must_use]
pub fn not_modified() -> Answer {
    let answer = Answer::new(304, Content::None).has("Last-Modified", MODIFIED);
    ["Content-Range", "Content-Type", "Content-Length", "Content-Encoding"]
        .into_iter()
        .fold(answer, Answer::lacks)
}

/// 204, for OPTIONS.
#[must_use]
pub fn options() -> Answer {
    Answer::new(204, Content::None).has("Allow", "GET, HEAD, OPTIONS")
}

/// 301 to a location on the same host.
#[must_use]
pub fn moved(location: impl Into<Cow<'static, str>>) -> Answer {
    redirect(301, location)
}

/// A redirect that a rule of the site makes.
#[must_use]
pub fn redirect(status: u16, location: impl Into<Cow<'static, str>>) -> Answer {
    without_validators(Answer::new(status, Content::Some).has("Location", location))
}

/// An error with a short page; the connection stays open.
#[must_use]
pub fn problem(status: u16) -> Answer {
    let content = Content::Holding(&["<!doctype html><html lang=\"en\">", "<h1>", "</main>"]);
    let answer = Answer::new(status, content).has("Content-Type", "text/html; charset=utf-8");
    without_validators(if status == 405 { answer.has("Allow", "GET, HEAD, OPTIONS") } else { answer })
}

/// An error after which the connection closes, because framing is lost or not worth following.
#[must_use]
pub fn refused(status: u16) -> Answer {
    problem(status).closing()
}

/// A page generated by the server or provided by the site, with a status other than 200.
#[must_use]
pub fn page(status: u16, content: impl AsRef<[u8]>) -> Answer {
    page_of_type(status, "text/html; charset=utf-8", content)
}

/// The same with another type.
#[must_use]
pub fn page_of_type(status: u16, media_type: &'static str, content: impl AsRef<[u8]>) -> Answer {
    let answer = Answer::new(status, Content::Exactly(content.as_ref().to_vec()));
    answer.has("Content-Type", media_type)
}

/// A listing as a page, with each of these in it.
#[must_use]
pub fn listing(parts: &'static [&'static str]) -> Answer {
    of_listing(Content::Holding(parts)).has("Content-Type", "text/html; charset=utf-8")
}

/// A listing as JSON.
#[must_use]
pub fn json_listing(content: &str) -> Answer {
    of_listing(Content::Exactly(content.into())).has("Content-Type", "application/json")
}

fn of_listing(content: Content) -> Answer {
    let answer = Answer::new(200, content).has("Vary", "Accept").has("Cache-Control", "no-cache");
    without_validators(answer)
}

/// No response at all.
#[must_use]
pub fn silence() -> Answers {
    Answers(Vec::new())
}

fn without_validators(answer: Answer) -> Answer {
    VALIDATORS.into_iter().fold(answer, Answer::lacks)
}

/// The bytes of one or more requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request(Vec<u8>);

/// A GET with additional field lines, given without line endings.
#[must_use]
pub fn get(target: &str, fields: &[&str]) -> Request {
    request("GET", target, fields)
}

/// A request with additional field lines, given without line endings.
#[must_use]
pub fn request(method: &str, target: &str, fields: &[&str]) -> Request {
    let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    Request(format!("{method} {target} HTTP/1.1\r\nHost: triptych.test\r\n{fields}\r\n").into_bytes())
}

impl Request {
    /// Appends bytes: content, or the next request.
    #[must_use]
    pub fn with(mut self, bytes: impl AsRef<[u8]>) -> Request {
        self.0.extend_from_slice(bytes.as_ref());
        self
    }
}

impl AsRef<[u8]> for Request {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Deref for Request {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl From<Request> for Vec<u8> {
    fn from(request: Request) -> Vec<u8> {
        request.0
    }
}
