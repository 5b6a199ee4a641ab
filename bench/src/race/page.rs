//! The page of a race: a server for a few browsers on this machine, and a stream of events for each (Server-sent events,
//! HTML Living Standard §9.2).
//!
//! It listens on the loopback address alone. A page of another site may make a browser ask it, under a name that leads
//! here (DNS rebinding), so it answers nobody who doesn't call it by its own address; and it lets nobody switch who
//! doesn't say so in a header field, which a foreign page can't add.

use crate::failure::{Failure, Result};
use crate::race::board::{Board, Switch};
use crate::race::footage::Footage;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

const FRAME: &str = include_str!("../../assets/race/page.html");
pub(crate) const SCRIPT: &str = include_str!("../../assets/race/race.js");
pub(crate) const STYLE: &str = include_str!("../../assets/race/race.css");

/// Browsers at a time, each with a stream and now and then a request.
const VISITORS_MAX: usize = 16;
const HEAD_BYTES_MAX: u64 = 8 * 1024;
const PATIENCE: Duration = Duration::from_secs(5);
/// A stream without news says so, which also tells whether somebody listens.
const SILENCE_MAX: Duration = Duration::from_secs(2);

/// What the page shows.
enum Content {
    Live(Arc<Board>),
    Recorded(String),
}

/// A page that is open. It ends with the process.
pub(super) struct Page {
    address: SocketAddr,
}

impl Page {
    /// The page of a race that goes on.
    pub(super) fn open(port: u16, board: Arc<Board>) -> Result<Page> {
        Page::serve(port, Content::Live(board))
    }

    /// The page of an earlier race.
    pub(super) fn replay(port: u16, footage: &Footage) -> Result<Page> {
        Page::serve(port, Content::Recorded(footage.json()))
    }

    fn serve(port: u16, content: Content) -> Result<Page> {
        let wanted = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let listener = TcpListener::bind(wanted);
        let listener =
            listener.map_err(Failure::context(format!("listen on {wanted} (--port takes another)")))?;
        let address = listener.local_addr().map_err(Failure::context("ask for the page's address"))?;
        let (content, visitors) = (Arc::new(content), Arc::new(AtomicUsize::new(0)));
        let accept = move || {
            for stream in listener.incoming().flatten() {
                if visitors.fetch_add(1, Ordering::AcqRel) >= VISITORS_MAX {
                    visitors.fetch_sub(1, Ordering::AcqRel);
                    continue;
                }
                let (content, seat) = (Arc::clone(&content), Seat(Arc::clone(&visitors)));
                let visit = move || {
                    let _seat = seat;
                    // A browser that has gone needs no answer.
                    let _gone = answer(&stream, address, &content);
                };
                // Without a thread for it, the visitor is dropped, and its seat is free.
                let _refused = thread::Builder::new().name("page".to_owned()).spawn(visit);
            }
        };
        thread::Builder::new()
            .name("pages".to_owned())
            .spawn(accept)
            .map_err(Failure::context("start the page's server"))?;
        Ok(Page { address })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

/// A visitor's place.
struct Seat(Arc<AtomicUsize>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What matters of a request.
#[derive(Debug, PartialEq, Eq)]
struct Request {
    method: String,
    path: String,
    host: String,
    /// It says that a page of this server has sent it.
    is_own: bool,
}

fn read(stream: &TcpStream) -> std::io::Result<Request> {
    let mut lines = BufReader::new(stream.take(HEAD_BYTES_MAX)).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    let mut words = first.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut request = Request { method, path, host: String::new(), is_own: false };
    for line in lines {
        let line = line?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').unwrap_or((&line, ""));
        if name.eq_ignore_ascii_case("host") {
            value.trim().clone_into(&mut request.host);
        }
        request.is_own |= name.eq_ignore_ascii_case("x-race");
    }
    Ok(request)
}

fn answer(stream: &TcpStream, address: SocketAddr, content: &Content) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let request = read(stream)?;
    if request.host != address.to_string() && request.host != format!("localhost:{}", address.port()) {
        return send(
            stream,
            "421 Misdirected Request",
            "text/plain",
            "this page is only for its own address\n",
        );
    }
    let is_live = matches!(content, Content::Live(_));
    match (request.method.as_str(), request.path.as_str(), content) {
        ("GET", "/", _) => {
            let source = if is_live { "events" } else { "race.json" };
            send(stream, "200 OK", "text/html; charset=utf-8", &FRAME.replace("{source}", source))
        }
        ("GET", "/race.js", _) => send(stream, "200 OK", "text/javascript; charset=utf-8", SCRIPT),
        ("GET", "/race.css", _) => send(stream, "200 OK", "text/css; charset=utf-8", STYLE),
        ("GET", "/race.json", Content::Recorded(footage)) => {
            send(stream, "200 OK", "application/json", footage)
        }
        ("GET", "/events", Content::Live(board)) => tell(stream, board),
        ("POST", path, Content::Live(board)) => match switch_of(path) {
            Some((switch, on)) if request.is_own => {
                board.turn(switch, on);
                send(stream, "204 No Content", "text/plain", "")
            }
            Some(_) => send(stream, "403 Forbidden", "text/plain", "only its own page may switch\n"),
            None => send(stream, "404 Not Found", "text/plain", "there is no such switch\n"),
        },
        _ => send(stream, "404 Not Found", "text/plain", "there is no such page\n"),
    }
}

/// `/disk/on`, `/readers/off`.
fn switch_of(path: &str) -> Option<(Switch, bool)> {
    let (name, state) = path.strip_prefix('/')?.split_once('/')?;
    let switch = match name {
        "disk" => Switch::Disk,
        "readers" => Switch::Readers,
        _ => return None,
    };
    match state {
        "on" => Some((switch, true)),
        "off" => Some((switch, false)),
        _ => None,
    }
}

fn send(mut stream: &TcpStream, status: &str, kind: &str, body: &str) -> std::io::Result<()> {
    let length = body.len();
    // Nothing but what this server sends is run or shown.
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nCache-Control: no-store\r\n\
         Content-Security-Policy: default-src 'self'; img-src data:; style-src 'self' 'unsafe-inline'\r\n\
         X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())
}

/// Who races, what was, and then each sample as it comes.
fn tell(mut stream: &TcpStream, board: &Board) -> std::io::Result<()> {
    stream.write_all(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n",
    )?;
    stream.write_all(format!("event: meta\ndata: {}\n\n", board.meta()).as_bytes())?;
    let mut known = 0;
    loop {
        let (samples, is_over) = board.after(known, SILENCE_MAX);
        let mut text = String::new();
        for sample in &samples {
            let data = serde_json::to_string(sample).map_err(std::io::Error::other)?;
            text.push_str(&format!("data: {data}\n\n"));
        }
        known += samples.len();
        if is_over {
            text.push_str("event: end\ndata: over\n\n");
        } else if samples.is_empty() {
            text.push_str(": nothing new\n\n");
        }
        stream.write_all(text.as_bytes())?;
        if is_over {
            return Ok(());
        }
    }
}
