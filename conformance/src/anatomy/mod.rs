//! The anatomy of a request: what each server really did for it, recorded, for the page `www/anatomy`.
//!
//! A recording has the system calls of all threads that serve (ptrace(2)), with those in which they slept; what was put into the ring and came out of it (`/proc/PID/fdinfo`); and the steps of the machine, which is fed
//! with what the calls returned. `cargo run -p conformance --example anatomy` records anew and writes the page;
//! `tests/anatomy.rs` records anew and compares.

mod call;
mod machine;
mod page;
mod recording;
mod ring;
mod tracer;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use libtest_mimic::{Completion, Failed, Trial};
use rustix::net::{self, AddressFamily, SocketFlags, SocketType, ipproto, sockopt};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

pub use page::update;

use self::machine::Machine;
use self::recording::{Kind, Row, rows};
use self::ring::Ring;
use self::tracer::{Did, Tracer};
use crate::backend::Backend;
use crate::child::{ChildServer, Settings};
use crate::deadline;
use crate::row::get;
use crate::site::{build_folder, cool, write_pattern};

/// The file: small for a server, since less than 32 KiB, and more than a slow reader's connection holds.
const FILE_BYTES: u64 = 30_000;
/// Other clients that ask at the same time as the first.
const CROWD: usize = 4;
/// A file is cached from its second request on.
const REQUESTS_TO_BE_CACHED: usize = 3;
/// A slow reader's receive buffer, and the server's send buffer for it: together they hold less than the file.
const NARROW_BYTES: usize = 2048;
const SEND_BUFFER_BYTES: usize = 10 * 1024;
const PATIENCE: Duration = Duration::from_secs(20);

/// Where the file is when it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Where {
    Cache,
    PageCache,
    Disk,
}

/// What is recorded: the three switches of the page.
#[derive(Clone, Copy, Debug)]
struct Setting {
    file: Where,
    slow: bool,
    many: bool,
}

impl Setting {
    fn all() -> Vec<Setting> {
        let mut all = Vec::new();
        for file in [Where::Cache, Where::PageCache, Where::Disk] {
            for slow in [false, true] {
                all.extend([false, true].map(|many| Setting { file, slow, many }));
            }
        }
        all
    }

    /// Its name in the page: `page-fast-one`.
    fn name(self) -> String {
        let file = match self.file {
            Where::Cache => "cache",
            Where::PageCache => "page",
            Where::Disk => "disk",
        };
        let reader = if self.slow { "slow" } else { "fast" };
        format!("{file}-{reader}-{}", if self.many { "many" } else { "one" })
    }
}

/// Why nothing can be recorded on this machine.
#[derive(Debug)]
enum Stop {
    /// The machine doesn't allow it.
    Impossible(String),
    /// It went wrong.
    Failed(Failed),
}

impl<E: Into<Failed>> From<E> for Stop {
    fn from(error: E) -> Stop {
        Stop::Failed(error.into())
    }
}

/// What a server did, by the name of the setting.
type Recordings = BTreeMap<String, Vec<Row>>;

/// Records all settings with one server each.
///
/// # Errors
/// If it isn't possible here, or went wrong.
fn record(backend: Backend) -> Result<Recordings, Stop> {
    if let Some(reason) = backend.missing() {
        return Err(Stop::Impossible(reason.to_owned()));
    }
    let one = |setting: Setting| match record_one(backend, setting) {
        Ok(rows) => Ok((setting.name(), rows)),
        Err(Stop::Failed(failed)) => {
            let said = failed.message().unwrap_or_default();
            Err(Stop::Failed(format!("{backend}, {}: {said}", setting.name()).into()))
        }
        Err(stop) => Err(stop),
    };
    Setting::all().into_iter().map(one).collect()
}

fn record_one(backend: Backend, setting: Setting) -> Result<Vec<Row>, Stop> {
    let clients = if setting.many { CROWD } else { 1 };
    let folder = tempfile::Builder::new().prefix("anatomy-").tempdir_in(build_folder()?)?;
    let requests = make_files(folder.path(), clients)?;
    let server = ChildServer::start(backend, folder.path(), &Settings::default())?;
    wait_for_strong_tags(server.address)?;
    if setting.file == Where::Cache {
        for request in &requests {
            for _ in 0..REQUESTS_TO_BE_CACHED {
                fetch(&mut connect(server.address, false)?, request)?;
            }
        }
    }
    for client in 1..=clients {
        if setting.file == Where::Disk {
            cool(&folder.path().join(format!("{client}.bin")))?;
        }
    }
    let process = server.process().id();
    if setting.slow {
        narrow(process)?;
    }
    if backend == Backend::Uring && !Ring::of(process).is_told() {
        return Err(Stop::Impossible(
            "this kernel doesn't tell what is in a ring (fdinfo, Linux 5.16)".to_owned(),
        ));
    }
    let tracer = Tracer::begin(process).map_err(Stop::Impossible)?;
    let drama = play(backend, &tracer, server.address, setting, &requests);
    let events = tracer.end()?;
    drama?;
    let mut machine = Machine::new(folder.path(), &requests, setting.file == Where::Cache)?;
    let rows = rows(backend, &events, &mut machine, clients)?;
    server.stop()?;
    Ok(rows)
}

/// A file for each client, and the requests for them.
fn make_files(folder: &Path, clients: usize) -> Result<Vec<Vec<u8>>, Failed> {
    let mut requests = Vec::new();
    for client in 1..=clients {
        write_pattern(&folder.join(format!("{client}.bin")), FILE_BYTES)?;
        requests.push(get(&format!("/{client}.bin"), &[]).to_vec());
    }
    std::fs::write(folder.join("youngest.txt"), "young")?;
    Ok(requests)
}

/// A file that has just been written has a weak tag, which makes a longer head. The machine is asked later than the
/// server was, and must get the same.
fn wait_for_strong_tags(address: SocketAddr) -> Result<(), Failed> {
    let mut stream = connect(address, false)?;
    let mut asked = Ok(String::new());
    deadline::within(PATIENCE, "a strong tag", || {
        asked = fetch(&mut stream, &get("/youngest.txt", &[]));
        asked.as_ref().map_or(true, |head| !head.contains("W/"))
    })?;
    asked.map(drop)
}

/// The clients connect, ask, read and close. Each time the server comes to rest before they go on. Of many clients, all
/// but the first act while the server is busy with the first.
fn play(
    backend: Backend,
    tracer: &Tracer,
    address: SocketAddr,
    setting: Setting,
    requests: &[Vec<u8>],
) -> Result<(), Failed> {
    tracer.settle()?;
    let mut streams = Vec::new();
    together(backend, tracer, requests.len(), |client| {
        tracer.note(client, Did::Connect);
        streams.push(connect(address, setting.slow)?);
        Ok(())
    })?;
    together(backend, tracer, requests.len(), |client| {
        tracer.note(client, Did::Ask);
        Ok(streams[client].write_all(&requests[client])?)
    })?;
    for (client, stream) in streams.iter_mut().enumerate() {
        if setting.slow || client == 0 {
            tracer.note(client, Did::Read);
        }
        read_answer(stream)?;
        if setting.slow {
            tracer.settle()?;
        }
    }
    for (client, stream) in streams.into_iter().enumerate() {
        tracer.note(client, Did::Close);
        drop(stream);
        tracer.settle()?;
    }
    Ok(())
}

/// Everybody does it at the same time, as far as the server can tell.
fn together(
    backend: Backend,
    tracer: &Tracer,
    clients: usize,
    mut act: impl FnMut(usize) -> Result<(), Failed>,
) -> Result<(), Failed> {
    let is_loop = backend != Backend::Blocking;
    if clients > 1 && is_loop {
        let act = std::cell::RefCell::new(&mut act);
        tracer
            .hold(|| act.borrow_mut()(0), || (1..clients).try_for_each(|client| act.borrow_mut()(client)))?;
    } else {
        (0..clients).try_for_each(act)?;
    }
    tracer.settle()
}

/// Makes the send buffers of the connections to come small: they have them from the listening socket (socket(7)).
fn narrow(process: u32) -> Result<(), Failed> {
    let pid = Pid::from_raw(process.cast_signed()).ok_or("no process")?;
    let process_fd = pidfd_open(pid, PidfdFlags::empty())?;
    for entry in std::fs::read_dir(format!("/proc/{process}/fd"))?.flatten() {
        let Ok(number) = entry.file_name().to_string_lossy().parse() else { continue };
        let Ok(theirs) = pidfd_getfd(&process_fd, number, PidfdGetfdFlags::empty()) else { continue };
        if sockopt::socket_acceptconn(&theirs).unwrap_or(false) {
            sockopt::set_socket_send_buffer_size(&theirs, SEND_BUFFER_BYTES)?;
        }
    }
    Ok(())
}

fn connect(address: SocketAddr, slow: bool) -> Result<TcpStream, Failed> {
    let family = AddressFamily::INET;
    let socket = net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, Some(ipproto::TCP))?;
    if slow {
        // Before connect(2): it is told in the handshake (tcp(7)).
        sockopt::set_socket_recv_buffer_size(&socket, NARROW_BYTES)?;
    }
    net::connect(&socket, &address)?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn fetch(stream: &mut TcpStream, request: &[u8]) -> Result<String, Failed> {
    stream.write_all(request)?;
    read_answer(stream)
}

/// Reads a whole answer, and returns its head.
fn read_answer(stream: &mut TcpStream) -> Result<String, Failed> {
    let (mut answer, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        let count = stream.read(&mut piece)?;
        if count == 0 {
            return Err("the answer has no end".into());
        }
        answer.extend_from_slice(&piece[..count]);
        let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&answer[..end]).into_owned();
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        let length: usize = length.ok_or("an answer without a length")?.trim().parse()?;
        if answer.len() >= end + 4 + length {
            return Ok(head);
        }
    }
}

/// The sequence that is compared: for each of those who act, what they did, without amounts. What is repeated counts
/// once, since a slow reader may take a piece more. Of many clients neither the order nor who sleeps is compared, since
/// nobody determines it.
fn outline(rows: &[Row], is_ordered: bool) -> BTreeMap<&'static str, Vec<String>> {
    let mut outline: BTreeMap<&'static str, Vec<String>> = BTreeMap::new();
    for row in rows.iter().filter(|row| is_compared(row)) {
        let kind = match row.kind {
            // Whether a call for a disk sleeps depends on the disk's own memory.
            Kind::Slept | Kind::Call => "call",
            Kind::Sleeps | Kind::Wakes if !is_ordered => "call",
            kind => kind.name(),
        };
        let name = match row.name.as_str() {
            // The same wait: epoll_pwait takes whole milliseconds, and epoll_pwait2 any other time limit.
            "epoll_pwait2" => "epoll_pwait",
            name => name,
        };
        outline.entry(row.who).or_default().push(format!("{kind} {name}"));
    }
    for names in outline.values_mut() {
        if is_ordered {
            without_repetition(names);
        } else {
            names.sort();
            names.dedup();
        }
    }
    outline
}

/// What clients do is the test's doing. A time limit is set anew when the last one has become too far from what is
/// wanted, which depends on how much time has passed.
fn is_compared(row: &Row) -> bool {
    row.kind != Kind::Client && row.name != "setsockopt"
}

/// Removes what repeats the one, two, three or four before it.
fn without_repetition(names: &mut Vec<String>) {
    let mut kept: Vec<String> = Vec::with_capacity(names.len());
    for name in names.drain(..) {
        kept.push(name);
        for length in 1..=4 {
            if let Some(start) = kept.len().checked_sub(2 * length)
                && kept[start..start + length] == kept[start + length..]
            {
                kept.truncate(start + length);
                break;
            }
        }
    }
    *names = kept;
}

/// The tests: the page shows what a server does today.
#[must_use]
pub fn trials() -> Vec<Trial> {
    let mut trials: Vec<Trial> = Backend::ALL
        .into_iter()
        .map(|backend| {
            Trial::ignorable_test(format!("{backend}::the_page_shows_what_it_does"), move || compare(backend))
        })
        .collect();
    trials.push(Trial::test("another_call_is_noticed", another_call_is_noticed));
    trials.push(Trial::test("what_the_drawings_say_was_recorded", what_the_drawings_say_was_recorded));
    trials.push(Trial::test("the_page_is_made_of_its_recordings", || {
        let (_, old, new) = page::respliced()?;
        if old == new {
            Ok(())
        } else {
            Err("www/anatomy/index.html was edited: cargo run -p conformance --example anatomy".into())
        }
    }));
    trials
}

/// A comparison that notices nothing would prove nothing.
fn another_call_is_noticed() -> Result<(), Failed> {
    for backend in Backend::ALL {
        for (name, rows) in page::shown(backend)? {
            let is_ordered = !name.ends_with("-many");
            let expected = outline(&rows, is_ordered);
            for index in (0..rows.len()).filter(|index| is_compared(&rows[*index])) {
                let mut others = rows.clone();
                others[index].name = "another".to_owned();
                if outline(&others, is_ordered) == expected {
                    return Err(format!("{backend}, {name}: row {index} could be anything").into());
                }
            }
        }
    }
    Ok(())
}

/// What the drawings of the models say: no server looks for a cached file, none of the loops sleeps for a disk or a
/// reader, and a thread does.
fn what_the_drawings_say_was_recorded() -> Result<(), Failed> {
    let of_files = ["openat2", "OPENAT2", "preadv2", "pread64", "READ", "sendfile"];
    let waits = ["epoll_pwait", "epoll_pwait2", "epoll_wait", "io_uring_enter"];
    for backend in Backend::ALL {
        for (name, rows) in page::shown(backend)? {
            let is_of_file = |row: &Row| of_files.contains(&row.name.as_str());
            if rows.iter().any(is_of_file) == name.starts_with("cache-") {
                return Err(
                    format!("{backend}, {name}: a cached file and no other is sent from memory").into()
                );
            }
            let sleeps = |row: &&Row| matches!(row.kind, Kind::Slept | Kind::Sleeps);
            let elsewhere = |row: &Row| row.who == "loop" && !waits.contains(&row.name.as_str());
            if let Some(row) = rows.iter().filter(sleeps).find(|row| elsewhere(row)) {
                return Err(format!("{backend}, {name}: the loop sleeps in {}", row.name).into());
            }
            let sends = |row: &Row| ["send", "sendmsg", "sendfile"].contains(&row.name.as_str());
            let is_slow = name.contains("-slow-");
            if backend == Backend::Blocking && is_slow && !rows.iter().filter(sleeps).any(sends) {
                return Err(format!("{name}: no thread sleeps for a slow reader").into());
            }
        }
    }
    Ok(())
}

fn compare(backend: Backend) -> Result<Completion, Failed> {
    let shown = page::shown(backend)?;
    let mut impossible = None;
    deadline::in_one_of_three(|| {
        let recorded = match record(backend) {
            Ok(recorded) => recorded,
            Err(Stop::Impossible(reason)) => {
                impossible = Some(reason);
                return Ok(());
            }
            Err(Stop::Failed(failed)) => return Err(failed),
        };
        for (name, rows) in &recorded {
            let is_ordered = !name.ends_with("-many");
            let shown = outline(shown.get(name).ok_or_else(|| format!("the page lacks {name}"))?, is_ordered);
            let recorded = outline(rows, is_ordered);
            if shown != recorded {
                return Err(format!(
                    "{name}: the page shows\n{shown:#?}\nbut {backend} does\n{recorded:#?}\n\
                     cargo run -p conformance --example anatomy records anew"
                )
                .into());
            }
        }
        Ok(())
    })?;
    Ok(impossible.map_or(Completion::Completed, Completion::ignored_with))
}
