//! A row of the table: what a client sends, and everything that it must see.

use std::borrow::Cow;
use std::ops::Deref;

use libtest_mimic::Failed;

use crate::response::{Framing, Response};
use crate::site::{DIGITS, MODIFIED};

/// Which server a row is sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Variant {
    /// The main site, with every setting as it comes.
    Plain,
    /// The site with a `404.html`.
    Custom,
    /// The main site with `--hidden`.
    Hidden,
    /// The main site with `--symlinks=deny`.
    NoLinks,
    /// The main site with `--listing`.
    Listing,
}

/// One exchange: bytes to send, and what must come back.
#[derive(Clone, Debug)]
pub struct Row {
    /// The row's name within its group.
    pub name: &'static str,
    /// The server it is for.
    pub variant: Variant,
    /// What the client sends. `{etag}` stands for the entity tag of `/digits.txt`, quotes included.
    pub request: Vec<u8>,
    /// Whether the client half-closes after that.
    pub half_close: bool,
    /// The answers, in their order.
    pub answers: Vec<Answer>,
    /// What becomes of the connection.
    pub then: Then,
}

/// What must become of the connection after the last answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// It stays open: one more request is answered.
    Open,
    /// The server closes it, in order, and sends nothing more.
    Closed,
    /// The server closes it while the client goes on sending, against its own word: a reset may be its part.
    Dropped,
}

/// A row; the connection's end follows from the last answer.
#[must_use]
pub fn row(name: &'static str, request: impl Into<Vec<u8>>, answers: impl Into<Answers>) -> Row {
    let answers = answers.into().0;
    let then = if answers.last().is_some_and(|answer| answer.closes) { Then::Closed } else { Then::Open };
    Row { name, variant: Variant::Plain, request: request.into(), half_close: false, answers, then }
}

impl Row {
    /// For another server.
    #[must_use]
    pub fn on(self, variant: Variant) -> Row {
        Row { variant, ..self }
    }

    /// The client sends more than it said it would.
    #[must_use]
    pub fn dropped(self) -> Row {
        Row { then: Then::Dropped, ..self }
    }

    /// How many of its answers are about files that are there, the one included that shows that the connection
    /// is still open.
    #[must_use]
    pub fn files(&self) -> u64 {
        let of_answers = match self.variant {
            Variant::Listing => 0,
            Variant::Plain | Variant::Custom | Variant::Hidden | Variant::NoLinks => self
                .answers
                .iter()
                .filter(|answer| matches!(answer.status, 200 | 206 | 304 | 412 | 416))
                .count(),
        };
        of_answers as u64 + u64::from(self.then == Then::Open)
    }

    /// The client half-closes after it has sent everything; the server closes when it has answered.
    #[must_use]
    pub fn half_closed(self) -> Row {
        Row { half_close: true, then: Then::Closed, ..self }
    }
}

/// One answer or several.
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

/// What one answer must be. Beside what is said here, every answer must pass [`Response::parse`], and carry
/// `Connection: close` exactly when the connection then closes.
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
    /// Some, whatever it says.
    Some,
    /// None at all.
    None,
    /// Exactly this.
    Exactly(Vec<u8>),
    /// So much that it is only announced here, to HEAD.
    OfLength(u64),
    /// Parts in `multipart/byteranges` of a file: content range and bytes (RFC 9110 §14.6).
    Parts { media_type: &'static str, parts: Vec<(&'static str, Vec<u8>)> },
}

const VALIDATORS: [&str; 2] = ["ETag", "Last-Modified"];

impl Answer {
    fn new(status: u16, content: Content) -> Answer {
        Answer { status, fields: Vec::new(), absent: Vec::new(), content, head_only: false, closes: false }
    }

    /// A field with exactly this value.
    #[must_use]
    pub fn has(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Answer {
        self.fields.push((name, value.into()));
        self
    }

    /// A field that must not be there.
    #[must_use]
    pub fn lacks(mut self, name: &'static str) -> Answer {
        self.absent.push(name);
        self
    }

    /// The connection closes after it.
    #[must_use]
    pub fn closing(self) -> Answer {
        Answer { closes: true, ..self }
    }

    /// The answer to HEAD instead: the same head, no content.
    #[must_use]
    pub fn head_only(self) -> Answer {
        Answer { head_only: true, ..self }
    }

    /// How the answer is delimited.
    #[must_use]
    pub fn framing(&self) -> Framing {
        if self.head_only { Framing::HeadOnly } else { Framing::Content }
    }

    /// Compares what came.
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
            return Some(format!("{name} must not be there"));
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
            Content::Some => received.is_empty().then(|| "there is no content".to_owned()),
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

    /// HEAD says how long the content would be.
    fn find_difference_of_length(&self, response: &Response) -> Option<String> {
        let expected = match &self.content {
            Content::Exactly(expected) => expected.len().to_string(),
            Content::OfLength(bytes) => bytes.to_string(),
            Content::Some | Content::None | Content::Parts { .. } => return None,
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
    // The line break before the first delimiter is part of an empty preamble, which may be missing (RFC 2046 §5.1.1).
    let received = response.content.strip_prefix(b"\r\n").unwrap_or(&response.content);
    if received == &expected[2..] {
        Ok(())
    } else {
        Err(format!("the parts aren't \"{}\"", expected.escape_ascii()))
    }
}

/// 200 with a file's content, its media type, validators and the offer of ranges.
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

/// The head of 200 for a file that is too large to be kept here.
#[must_use]
pub fn head_of_file(media_type: &'static str, bytes: u64) -> Answer {
    Answer { content: Content::OfLength(bytes), ..file(media_type, "").head_only() }
}

/// 200 with the content of `/digits.txt`.
#[must_use]
pub fn digits() -> Answer {
    file("text/plain; charset=utf-8", DIGITS).has("ETag", "{etag}")
}

/// 206 with one range.
#[must_use]
pub fn part(media_type: &'static str, range: &str, content: impl AsRef<[u8]>) -> Answer {
    Answer::new(206, Content::Exactly(content.as_ref().to_vec()))
        .has("Content-Type", media_type)
        .has("Content-Range", format!("bytes {range}"))
        .has("Last-Modified", MODIFIED)
}

/// 206 with several ranges: each its content range and its bytes.
#[must_use]
pub fn parts(media_type: &'static str, parts: impl IntoIterator<Item = (&'static str, Vec<u8>)>) -> Answer {
    let parts = parts.into_iter().collect();
    Answer::new(206, Content::Parts { media_type, parts })
        .has("Last-Modified", MODIFIED)
        .lacks("Content-Range")
}

/// 304 or 412: the validators, and no content. 304 doesn't speak of the content, either (RFC 9110 §15.4.5).
#[must_use]
pub fn precondition(status: u16) -> Answer {
    let answer = Answer::new(status, Content::None).has("ETag", "{etag}").has("Last-Modified", MODIFIED);
    let absent: &[_] =
        if status == 304 { &["Content-Range", "Content-Type", "Content-Length"] } else { &["Content-Range"] };
    absent.iter().copied().fold(answer, Answer::lacks)
}

/// 204 to OPTIONS.
#[must_use]
pub fn options() -> Answer {
    Answer::new(204, Content::None).has("Allow", "GET, HEAD, OPTIONS")
}

/// 301 to a reference on the same host.
#[must_use]
pub fn moved(location: impl Into<Cow<'static, str>>) -> Answer {
    without_validators(Answer::new(301, Content::Some).has("Location", location))
}

/// An answer with a short text that says what is wrong; the connection stays open.
#[must_use]
pub fn problem(status: u16) -> Answer {
    let answer = Answer::new(status, Content::Some).has("Content-Type", "text/plain; charset=utf-8");
    without_validators(if status == 405 { answer.has("Allow", "GET, HEAD, OPTIONS") } else { answer })
}

/// A problem after which the connection closes: framing is lost, or not worth following.
#[must_use]
pub fn refused(status: u16) -> Answer {
    problem(status).closing()
}

/// A page that the server or the site has written, beside a status that isn't 200.
#[must_use]
pub fn page(status: u16, content: impl AsRef<[u8]>) -> Answer {
    let answer = Answer::new(status, Content::Exactly(content.as_ref().to_vec()));
    answer.has("Content-Type", "text/html; charset=utf-8")
}

/// A listing, whatever its words.
#[must_use]
pub fn listing() -> Answer {
    Answer::new(200, Content::Some).has("Content-Type", "text/html; charset=utf-8")
}

/// No answer at all.
#[must_use]
pub fn silence() -> Answers {
    Answers(Vec::new())
}

fn without_validators(answer: Answer) -> Answer {
    VALIDATORS.into_iter().fold(answer, Answer::lacks)
}

/// The bytes of a request, or of several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request(Vec<u8>);

/// A GET with some more field lines, each without its line end.
#[must_use]
pub fn get(target: &str, fields: &[&str]) -> Request {
    request("GET", target, fields)
}

/// A request of any method with some more field lines, each without its line end.
#[must_use]
pub fn request(method: &str, target: &str, fields: &[&str]) -> Request {
    let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    Request(format!("{method} {target} HTTP/1.1\r\nHost: triptych.test\r\n{fields}\r\n").into_bytes())
}

impl Request {
    /// With some more bytes: content, or the next request.
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
