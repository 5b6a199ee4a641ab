//! A strict response parser: any violation of RFC 9112's syntax or of this server's own promises (every response has a
//! Date, `Server: triptych` and `nosniff`) fails the test.

use std::time::{Duration, SystemTime};

use libtest_mimic::Failed;

/// What delimits a response, besides its own head (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Its status and `Content-Length`.
    Content,
    /// A response to HEAD: no content, whatever `Content-Length` says.
    HeadOnly,
}

/// One response.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The fields in order, with names as sent.
    pub fields: Vec<(String, String)>,
    /// How many bytes of content follow the head.
    pub content_bytes: usize,
    /// The content; empty if only the head has been read.
    pub content: Vec<u8>,
    /// The head as sent, including the empty line.
    pub head: Vec<u8>,
}

/// The tolerated difference between the server's clock and ours.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(60);

/// The length of the head at the start of `bytes`, once it is complete.
#[must_use]
pub fn find_head(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

impl Response {
    /// Parses a complete head.
    ///
    /// # Errors
    /// Any syntax error.
    pub fn parse(head: Vec<u8>, framing: Framing) -> Result<Response, Failed> {
        let (status, fields) = parse_head(&head).map_err(|problem| complaint(&problem, &head))?;
        let mut response = Response { status, fields, content_bytes: 0, content: Vec::new(), head };
        response.content_bytes =
            response.check(framing).map_err(|problem| complaint(&problem, &response.head))?;
        Ok(response)
    }

    /// The value of a field; names are case-insensitive.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields
            .iter()
            .find(|(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The value of a required field.
    ///
    /// # Errors
    /// If it is missing.
    pub fn require(&self, name: &str) -> Result<&str, Failed> {
        self.field(name).ok_or_else(|| complaint(&format!("{name} is missing"), &self.head))
    }

    /// Whether the server announces that it will close the connection.
    #[must_use]
    pub fn closes(&self) -> bool {
        self.field("Connection").is_some_and(|options| {
            options.split(',').any(|option| option.trim().eq_ignore_ascii_case("close"))
        })
    }

    /// Whether this is an interim response (1xx), to be followed by the final one.
    #[must_use]
    pub fn is_interim(&self) -> bool {
        self.status < 200
    }

    /// The complete response as sent.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        [&self.head[..], &self.content].concat()
    }

    /// Checks what every response must fulfil; returns the length of the content.
    fn check(&self, framing: Framing) -> Result<usize, String> {
        for (index, (name, _)) in self.fields.iter().enumerate() {
            if self.fields[..index].iter().any(|(earlier, _)| earlier.eq_ignore_ascii_case(name)) {
                return Err(format!("{name} stands twice"));
            }
        }
        if self.field("Transfer-Encoding").is_some() {
            return Err("a transfer coding, although every length is known".to_owned());
        }
        let length = self.field("Content-Length").map(parse_length).transpose()?;
        if self.is_interim() {
            return self.check_without_content(length);
        }
        self.check_promises()?;
        match (self.status, framing) {
            (204, _) => self.check_without_content(length),
            (304, _) => Ok(0),
            (_, Framing::HeadOnly) => {
                length.map(|_| 0).ok_or_else(|| "HEAD without Content-Length".to_owned())
            }
            (_, Framing::Content) => length.ok_or_else(|| "no Content-Length".to_owned()),
        }
    }

    /// 1xx and 204 have no content and must not have a Content-Length (RFC 9110 §8.6).
    fn check_without_content(&self, length: Option<usize>) -> Result<usize, String> {
        match length {
            None => Ok(0),
            Some(_) => Err(format!("Content-Length in a {}", self.status)),
        }
    }

    fn check_promises(&self) -> Result<(), String> {
        for (name, expected) in [("Server", "triptych"), ("X-Content-Type-Options", "nosniff")] {
            match self.field(name) {
                Some(value) if value == expected => {}
                other => return Err(format!("{name} is {other:?}, not {expected:?}")),
            }
        }
        let date = self.field("Date").ok_or("no Date")?;
        let time = parse_imf_fixdate(date).ok_or_else(|| format!("Date isn't an IMF-fixdate: {date}"))?;
        let now = SystemTime::now();
        let distance = now.duration_since(time).or_else(|_| time.duration_since(now)).unwrap_or_default();
        if distance > CLOCK_TOLERANCE {
            return Err(format!("Date is {distance:?} away from now: {date}"));
        }
        for name in ["Last-Modified"] {
            if let Some(value) = self.field(name) {
                let modified = parse_imf_fixdate(value)
                    .ok_or_else(|| format!("{name} isn't an IMF-fixdate: {value}"))?;
                if modified > time {
                    return Err(format!("{name} is later than Date")); // RFC 9110 §8.8.2.1
                }
            }
        }
        Ok(())
    }
}

fn complaint(problem: &str, head: &[u8]) -> Failed {
    format!("{problem}, in \"{}\"", head.escape_ascii()).into()
}

/// Accepts only an IMF-fixdate: the obsolete formats must not be sent (RFC 9110 §5.6.7).
fn parse_imf_fixdate(text: &str) -> Option<SystemTime> {
    let time = httpdate::parse_http_date(text).ok()?;
    (httpdate::fmt_http_date(time) == text).then_some(time)
}

fn parse_length(value: &str) -> Result<usize, String> {
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| value.parse().ok()).flatten().ok_or_else(|| format!("Content-Length: {value}"))
}

type Head = (u16, Vec<(String, String)>);

fn parse_head(head: &[u8]) -> Result<Head, String> {
    let text = std::str::from_utf8(head).ok().filter(|text| text.is_ascii()).ok_or("bytes beyond ASCII")?;
    let text = text.strip_suffix("\r\n\r\n").ok_or("no empty line at the end")?;
    let mut lines = text.split("\r\n");
    let status = parse_status_line(lines.next().unwrap_or_default())?;
    let fields = lines.map(parse_field).collect::<Result<_, _>>()?;
    Ok((status, fields))
}

/// `HTTP/1.1 200 OK` (RFC 9112 §4), with the registered reason phrase.
fn parse_status_line(line: &str) -> Result<u16, String> {
    let rest = line.strip_prefix("HTTP/1.1 ").ok_or_else(|| format!("no status line: {line}"))?;
    let known = REASONS.iter().find(|(status, reason)| rest == format!("{status} {reason}"));
    known.map(|(status, _)| *status).ok_or_else(|| format!("not a status of this server: {line}"))
}

/// Every status that may be sent, with its reason phrase (RFC 9110 §15, RFC 6585 §5).
const REASONS: [(u16, &str); 26] = [
    (100, "Continue"),
    (200, "OK"),
    (204, "No Content"),
    (206, "Partial Content"),
    (301, "Moved Permanently"),
    (302, "Found"),
    (303, "See Other"),
    (304, "Not Modified"),
    (307, "Temporary Redirect"),
    (308, "Permanent Redirect"),
    (400, "Bad Request"),
    (403, "Forbidden"),
    (404, "Not Found"),
    (405, "Method Not Allowed"),
    (408, "Request Timeout"),
    (410, "Gone"),
    (412, "Precondition Failed"),
    (413, "Content Too Large"),
    (414, "URI Too Long"),
    (416, "Range Not Satisfiable"),
    (417, "Expectation Failed"),
    (431, "Request Header Fields Too Large"),
    (500, "Internal Server Error"),
    (501, "Not Implemented"),
    (503, "Service Unavailable"),
    (505, "HTTP Version Not Supported"),
];

/// `Name: value`, with exactly one space (RFC 9112 §5).
fn parse_field(line: &str) -> Result<(String, String), String> {
    let (name, value) = line.split_once(": ").ok_or_else(|| format!("no field: {line:?}"))?;
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let plain = |byte: u8| byte == b' ' || byte.is_ascii_graphic();
    let valid =
        !name.is_empty() && name.bytes().all(token) && value.bytes().all(plain) && value.trim() == value;
    if valid && !value.is_empty() {
        Ok((name.to_owned(), value.to_owned()))
    } else {
        Err(format!("not a field: {line:?}"))
    }
}
