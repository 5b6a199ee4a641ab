//! Records for the access log: what is known of an answer when its last byte has left, and the line that says it.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use crate::http::accept_encoding::Coding;
use crate::machine::peer::Peer;

/// Lines that wait for the writer, per worker, in bytes.
pub const WAITING_BYTES_MAX: usize = 1 << 20;

/// How a line is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// The combined format, with the duration appended
    #[default]
    Combined,
    /// A JSON object
    Json,
}

/// What one line says.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Who asked.
    pub client: Option<Peer>,
    /// Who is at the other end of the connection: the client, or a proxy that speaks for it.
    pub peer: Option<Peer>,
    /// Since the Unix epoch.
    pub time: Duration,
    /// The same in seconds, of the moment that the answers of one turn of a loop have in common.
    pub unix_seconds: i64,
    /// The request line as it was sent; empty when there was none.
    pub request_line: &'a [u8],
    /// The host that was asked, where the format has it.
    pub host: Option<&'a [u8]>,
    /// The status code of the answer.
    pub status: u16,
    /// Bytes of the answer's content that were sent.
    pub content_bytes: u64,
    /// The coding of the answer's content.
    pub coding: Option<Coding>,
    /// The `Referer` field.
    pub referer: Option<&'a [u8]>,
    /// The `User-Agent` field.
    pub user_agent: Option<&'a [u8]>,
    /// From the request's first byte to the answer's last.
    pub duration: Duration,
}

/// Lines on their way to the writer.
#[derive(Debug, Default)]
pub struct Lines {
    /// Whole lines.
    pub waiting: Vec<u8>,
    /// Lines that found no room.
    pub dropped: u64,
}

/// One worker's end of the log.
#[derive(Clone, Debug, Default)]
pub struct LogBuffer {
    /// What waits.
    pub lines: Arc<Mutex<Lines>>,
    /// How it is written.
    pub format: LogFormat,
}

impl LogBuffer {
    /// An empty one.
    #[must_use]
    pub fn of(format: LogFormat) -> LogBuffer {
        LogBuffer { lines: Arc::default(), format }
    }

    /// Appends a line; dropped, and counted, when too much is waiting already.
    pub fn append(&self, record: &Record<'_>) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.waiting.len() >= WAITING_BYTES_MAX {
            lines.dropped += 1;
            return;
        }
        match self.format {
            LogFormat::Combined => write_combined(&mut lines.waiting, record),
            LogFormat::Json => write_json(&mut lines.waiting, record),
        }
    }
}

/// `client - - [date] "request line" status bytes "referer" "user agent" seconds`
fn write_combined(out: &mut Vec<u8>, record: &Record<'_>) {
    match record.client {
        Some(client) => append(out, format_args!("{client} - - [")),
        None => out.extend_from_slice(b"- - - ["),
    }
    let date =
        httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(record.unix_seconds.max(0).unsigned_abs()));
    // `Sun, 06 Nov 1994 08:49:37 GMT` holds what the Common Log Format writes as 06/Nov/1994:08:49:37 +0000.
    append(out, format_args!("{}/{}/{}:{} +0000] ", &date[5..7], &date[8..11], &date[12..16], &date[17..25]));
    quoted(out, Some(record.request_line).filter(|line| !line.is_empty()));
    append(out, format_args!(" {} {} ", record.status, record.content_bytes));
    quoted(out, record.referer);
    out.push(b' ');
    quoted(out, record.user_agent);
    append(out, format_args!(" {:.6}\n", record.duration.as_secs_f64()));
}

fn append(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to a Vec can't fail");
}

/// A quoted string in which nothing can end the quotes, the line, or steer a terminal.
fn quoted(out: &mut Vec<u8>, text: Option<&[u8]>) {
    out.push(b'"');
    for byte in text.unwrap_or(b"-") {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
            0x20..=0x7e => out.push(*byte),
            _ => append(out, format_args!("\\x{byte:02X}")),
        }
    }
    out.push(b'"');
}

/// One object, of which every line has the same members, in this order. `null` is what isn't there.
fn write_json(out: &mut Vec<u8>, record: &Record<'_>) {
    append(out, format_args!("{{\"ts\":\"{}\"", humantime::format_rfc3339_micros(UNIX_EPOCH + record.time)));
    address(out, "client_ip", record.client);
    address(out, "remote_ip", record.peer);
    let [method, target, protocol] = words(record.request_line);
    for (name, value) in [("method", method), ("host", record.host), ("uri", target), ("proto", protocol)] {
        member(out, name, value);
    }
    append(out, format_args!(",\"status\":{},\"size\":{}", record.status, record.content_bytes));
    append(out, format_args!(",\"duration\":{:.6}", record.duration.as_secs_f64()));
    let coding = record.coding.map(|coding| coding.name().as_bytes());
    for (name, value) in
        [("encoding", coding), ("referer", record.referer), ("user_agent", record.user_agent)]
    {
        member(out, name, value);
    }
    out.extend_from_slice(b"}\n");
}

/// The method, the target and the protocol of a request line, which the parser lets pass only with two spaces.
fn words(line: &[u8]) -> [Option<&[u8]>; 3] {
    let mut words = line.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
    [words.next(), words.next(), words.next()]
}

fn address(out: &mut Vec<u8>, name: &str, peer: Option<Peer>) {
    match peer {
        Some(peer) => append(out, format_args!(",\"{name}\":\"{peer}\"")),
        None => append(out, format_args!(",\"{name}\":null")),
    }
}

fn member(out: &mut Vec<u8>, name: &str, value: Option<&[u8]>) {
    append(out, format_args!(",\"{name}\":"));
    match value {
        Some(value) => json_string(out, value),
        None => out.extend_from_slice(b"null"),
    }
}

/// A string (RFC 8259 §7) of ASCII alone, so that nothing in it steers a terminal. What isn't UTF-8 is in the string as
/// `\xHH`, byte by byte, as in the combined format.
fn json_string(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    for chunk in text.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '"' | '\\' => out.extend_from_slice(&[b'\\', character as u8]),
                ' '..='~' => out.push(character as u8),
                _ => {
                    for unit in character.encode_utf16(&mut [0; 2]) {
                        append(out, format_args!("\\u{unit:04x}"));
                    }
                }
            }
        }
        for byte in chunk.invalid() {
            append(out, format_args!("\\\\x{byte:02X}"));
        }
    }
    out.push(b'"');
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use std::net::SocketAddr;

    pub(crate) fn record() -> Record<'static> {
        let [client, peer] = ["[::ffff:192.0.2.7]:1", "[2001:db8::1]:2"]
            .map(|address| Some(Peer::from(address.parse::<SocketAddr>().expect("an address"))));
        Record {
            client,
            peer,
            time: Duration::new(784_111_777, 1_234_567),
            unix_seconds: 784_111_777,
            request_line: b"GET /a%20b HTTP/1.1",
            host: Some(b"a.test:8080"),
            status: 200,
            content_bytes: 1024,
            coding: Some(Coding::Brotli),
            referer: None,
            user_agent: Some(b"curl/8 \"x\" \\ \x1b[2J\n\xe9"),
            duration: Duration::from_micros(1500),
        }
    }

    pub(crate) const LINE: &str = "192.0.2.7 - - [06/Nov/1994:08:49:37 +0000] \"GET /a%20b HTTP/1.1\" 200 1024 \"-\" \
        \"curl/8 \\\"x\\\" \\\\ \\x1B[2J\\x0A\\xE9\" 0.001500\n";

    #[test]
    fn a_line_is_combined_format_with_nothing_to_inject() {
        let mut out = Vec::new();
        write_combined(&mut out, &record());
        assert_eq!(String::from_utf8(out).expect("ASCII"), LINE);
    }

    #[test]
    fn what_exceeds_the_bound_is_dropped_and_counted() {
        let buffer = LogBuffer::of(LogFormat::Combined);
        let enough = WAITING_BYTES_MAX / LINE.len() + 10;
        for _ in 0..enough {
            buffer.append(&record());
        }
        let lines = buffer.lines.lock().expect("not poisoned");
        assert!(lines.waiting.len() < WAITING_BYTES_MAX + LINE.len());
        assert_eq!(lines.waiting.len() / LINE.len() + usize::try_from(lines.dropped).expect("few"), enough);
        assert!(lines.dropped > 0);
    }

    fn json_line(record: &Record<'_>) -> Value {
        let mut out = Vec::new();
        write_json(&mut out, record);
        let line = out.strip_suffix(b"\n").expect("a line");
        assert!(line.iter().all(|byte| (b' '..=b'~').contains(byte)), "{}", line.escape_ascii());
        serde_json::from_slice(line).expect("JSON")
    }

    #[test]
    fn a_line_is_an_object() {
        let mut out = Vec::new();
        write_json(&mut out, &record());
        let expected = r#"{"ts":"1994-11-06T08:49:37.001234Z","client_ip":"192.0.2.7","remote_ip":"2001:db8::1","method":"GET","host":"a.test:8080","uri":"/a%20b","proto":"HTTP/1.1","status":200,"size":1024,"duration":0.001500,"encoding":"br","referer":null,"user_agent":"curl/8 \"x\" \\ \u001b[2J\u000a\\xE9"}"#;
        assert_eq!(String::from_utf8(out).expect("ASCII"), format!("{expected}\n"));
        let none = Record {
            client: None,
            peer: Some(Peer::Unix),
            time: Duration::ZERO,
            request_line: b"",
            host: None,
            coding: None,
            user_agent: None,
            ..record()
        };
        let expected = json!({
            "ts": "1970-01-01T00:00:00.000000Z", "client_ip": null, "remote_ip": "unix:", "method": null,
            "host": null, "uri": null, "proto": null, "status": 200, "size": 1024, "duration": 0.0015,
            "encoding": null, "referer": null, "user_agent": null,
        });
        assert_eq!(json_line(&none), expected);
    }

    /// What a string is read as: the text itself, but for bytes that aren't UTF-8.
    fn read_back(text: &[u8]) -> String {
        let mut expected = String::new();
        for chunk in text.utf8_chunks() {
            expected.push_str(chunk.valid());
            expected.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02X}")));
        }
        expected
    }

    #[test]
    fn strings_say_what_was_sent() {
        for (text, expected) in [
            (&b""[..], ""),
            (b"\0\x01\x1f\x7f\t\r\n", "\0\x01\x1f\x7f\t\r\n"),
            (b"\"\\/", "\"\\/"),
            ("\u{e9}\u{85}\u{2028}\u{202e}\u{1f600}".as_bytes(), "\u{e9}\u{85}\u{2028}\u{202e}\u{1f600}"),
            (b"\xc3", "\\xC3"),
            (b"a\xff\xfeb\xf0\x9f\x98", "a\\xFF\\xFEb\\xF0\\x9F\\x98"),
            (b"\xed\xa0\x80", "\\xED\\xA0\\x80"), // half of a surrogate pair
        ] {
            let line = json_line(&Record { user_agent: Some(text), ..record() });
            assert_eq!(line["user_agent"], expected);
            assert_eq!(read_back(text), expected);
        }
        let long = vec![b'%'; 8 * 1024];
        let request_line = [b"GET /", &long[..], b" HTTP/1.1"].concat();
        let line = json_line(&Record { request_line: &request_line, ..record() });
        assert_eq!(line["uri"].as_str().map(str::len), Some(1 + 8 * 1024));
    }

    /// A buffer that has room takes a line without an allocation.
    #[test]
    fn json_takes_no_memory_of_its_own() {
        let buffer = LogBuffer::of(LogFormat::Json);
        buffer.lines.lock().expect("not poisoned").waiting.reserve(4096);
        let record = Record { user_agent: Some("\u{1f600} \u{1} \"".as_bytes()), ..record() };
        assert_eq!(allocation_counter::measure(|| buffer.append(&record)).count_total, 0);
        assert!(!buffer.lines.lock().expect("not poisoned").waiting.is_empty());
    }

    proptest! {
        #[test]
        fn any_bytes_are_json(
            target in proptest::collection::vec(any::<u8>().prop_filter("words", |byte| *byte != b' '), 1..9000),
            host in proptest::option::of(any::<Vec<u8>>()),
            referer in proptest::option::of(any::<Vec<u8>>()),
            user_agent in proptest::option::of("\\PC*|[\0-\u{ff}]*"),
            time in 0u64..253_402_300_800, // to the end of the year 9999
            micros in 0u64..u64::MAX,
        ) {
            let request_line = [b"GET ", &target[..], b" HTTP/1.1"].concat();
            let user_agent = user_agent.as_ref().map(String::as_bytes);
            let line = json_line(&Record {
                request_line: &request_line,
                host: host.as_deref(),
                referer: referer.as_deref(),
                user_agent,
                time: Duration::from_secs(time),
                duration: Duration::from_micros(micros),
                ..record()
            });
            let text = |text: Option<&[u8]>| text.map_or(Value::Null, |text| read_back(text).into());
            prop_assert_eq!(&line["uri"], &text(Some(&target)));
            prop_assert_eq!(&line["host"], &text(host.as_deref()));
            prop_assert_eq!(&line["referer"], &text(referer.as_deref()));
            prop_assert_eq!(&line["user_agent"], &text(user_agent));
            prop_assert_eq!((&line["method"], &line["proto"]), (&json!("GET"), &json!("HTTP/1.1")));
            prop_assert!(line["duration"].is_number() && line["ts"].as_str().is_some_and(|ts| ts.len() == 27));
            prop_assert_eq!(line.as_object().map(serde_json::Map::len), Some(13));
        }
    }
}
