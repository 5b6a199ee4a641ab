//! Tests specific to the io_uring server: clients that leave midway, exhausted slots and descriptors, shutdown during
//! responses. HTTP behaviour is tested in `conformance`, for all three servers.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use common::{CacheConfig, Config, Endpoint, Listeners, Service, Site, SiteOptions, Tune};
use libtest_mimic::{Arguments, Failed, Trial};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// No test waits longer than this.
const PATIENCE: Duration = Duration::from_secs(10);

type Outcome = Result<(), Failed>;

/// The name of a test, and its function.
type Test = (&'static str, fn() -> Outcome);

const TESTS: &[Test] = &[
    ("serves_files_of_every_size", serves_files_of_every_size),
    ("answers_a_pipeline_in_order", answers_a_pipeline_in_order),
    ("a_client_that_never_reads_is_not_read_forever", a_client_that_never_reads_is_not_read_forever),
    ("answers_a_client_that_has_closed_its_side", answers_a_client_that_has_closed_its_side),
    ("lists_a_directory", lists_a_directory),
    ("serves_files_in_memory_without_kernel_threads", serves_files_in_memory_without_kernel_threads),
    ("a_hot_run_needs_no_kernel_threads", a_hot_run_needs_no_kernel_threads),
    ("clients_that_leave_midway_leave_nothing_behind", clients_that_leave_midway_leave_nothing_behind),
    ("a_file_that_shrinks_ends_its_connection", a_file_that_shrinks_ends_its_connection),
    ("a_stalled_reader_is_reset", a_stalled_reader_is_reset),
    ("a_slow_reader_is_served", a_slow_reader_is_served),
    ("connections_beyond_the_maximum_wait", connections_beyond_the_maximum_wait),
    ("survives_running_out_of_descriptors", survives_running_out_of_descriptors),
    ("idle_connections_share_a_few_buffers", idle_connections_share_a_few_buffers),
    ("drain::finishes_responses_in_flight", drain_finishes_responses_in_flight),
    ("drain::serves_the_backlog", drain_serves_the_backlog),
    ("drain::drops_the_rest_after_the_grace_period", drain_drops_the_rest_after_the_grace_period),
];

/// Runs every test with all optimizations, with each one disabled, and with all disabled.
fn main() -> ExitCode {
    let all = Tune::ALL.into_iter().filter(|switch| switch.server() == "uring");
    let mut trials: Vec<_> = TESTS.iter().map(|(name, test)| trial(name.to_string(), &[], *test)).collect();
    trials.push(trial("switches_are_in_force".to_owned(), &[], switches_are_in_force));
    for switch in all.clone() {
        trials.extend(
            TESTS.iter().map(|(name, test)| trial(format!("{}::{name}", switch.name()), &[switch], *test)),
        );
    }
    let all: Vec<_> = all.collect();
    trials.extend(TESTS.iter().map(|(name, test)| trial(format!("plain::{name}"), &all, *test)));
    if let Err(refusal) = uring::available() {
        let ignored = |trial: Trial| trial.with_kind(refusal.clone()).with_ignored_flag(true);
        trials = trials.into_iter().map(ignored).collect();
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn trial(name: String, without: &[Tune], test: fn() -> Outcome) -> Trial {
    let without = without.to_vec();
    Trial::test(name, move || alone(without, test))
}

/// The optimizations disabled in the current test's servers.
static WITHOUT: Mutex<Vec<Tune>> = Mutex::new(Vec::new());

/// Descriptors, threads and limits belong to the whole process, so only one test runs at a time.
fn alone(without: Vec<Tune>, test: fn() -> Outcome) -> Outcome {
    static ONE: Mutex<()> = Mutex::new(());
    let _turn: MutexGuard<'_, ()> = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    *WITHOUT.lock().unwrap_or_else(PoisonError::into_inner) = without;
    // The list of mounts is opened with the first site, and stays.
    drop(Site::open_root(Path::new("."), SiteOptions::default())?);
    let before = descriptors()?;
    test()?;
    eventually("every descriptor is closed", || Ok(descriptors()? == before))
}

fn descriptors() -> io::Result<usize> {
    Ok(fs::read_dir("/proc/self/fd")?.count())
}

fn eventually(what: &str, mut is_so: impl FnMut() -> io::Result<bool>) -> Outcome {
    let end = Instant::now() + PATIENCE;
    while !is_so()? {
        if Instant::now() > end {
            return Err(format!("too long until {what}").into());
        }
        thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// A server for one directory, in its own thread.
struct Running {
    service: Arc<Service>,
    address: SocketAddr,
    thread: JoinHandle<io::Result<()>>,
}

impl Running {
    fn start(root: &Path, mut config: Config) -> Result<Running, Failed> {
        config.tune.clone_from(&WITHOUT.lock().unwrap_or_else(PoisonError::into_inner));
        let options = SiteOptions { listing: true, ..SiteOptions::default() };
        let service = Arc::new(Service::new(Site::open_root(root, options)?, config)?);
        let listeners = Listeners::bind(&["127.0.0.1:0".parse::<Endpoint>()?], &service.config)?;
        let address = listeners.endpoints()[0].address().ok_or("a TCP address")?;
        let (ready, is_ready) = mpsc::channel();
        let shared = Arc::clone(&service);
        let thread = thread::spawn(move || {
            uring::serve(listeners, &shared, || ready.send(()).expect("the test waits"))
        });
        is_ready.recv_timeout(PATIENCE)?;
        Ok(Running { service, address, thread })
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(stream)
    }

    /// Drains the server and waits for it to end.
    fn stop(self) -> Outcome {
        self.service.shutdown.drain();
        self.end()
    }

    fn end(self) -> Outcome {
        self.thread.join().expect("the server doesn't panic")?;
        assert_eq!(self.service.stats.active(), 0, "every connection was counted as closed");
        Ok(())
    }
}

fn request(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n").into_bytes()
}

/// Reads one response: its head, and a body of Content-Length bytes.
fn answer(stream: &mut TcpStream) -> Result<(String, Vec<u8>), Failed> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head)?;
    let length =
        head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap_or("0").parse()?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok((head, body))
}

fn get(stream: &mut TcpStream, path: &str) -> Result<Vec<u8>, Failed> {
    stream.write_all(&request(path))?;
    let (head, body) = answer(stream)?;
    if head.starts_with("HTTP/1.1 200 ") { Ok(body) } else { Err(head.into()) }
}

fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|index| (index * 7 + index / 251).to_le_bytes()[0]).collect()
}

/// A directory on the build's file system, which is on a disk; `/tmp` may be in memory.
fn directory() -> io::Result<tempfile::TempDir> {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))
}

/// More than a socket buffer holds.
const MUCH: usize = 32 << 20;

fn serves_files_of_every_size() -> Outcome {
    let directory = directory()?;
    let sizes = [0, 1, 1000, 16 << 10, (16 << 10) + 1, 100 << 10, 128 << 10, (128 << 10) + 1, 5 << 20];
    for size in sizes {
        fs::write(directory.path().join(size.to_string()), pattern(size))?;
    }
    let server = Running::start(directory.path(), Config::default())?;
    let mut stream = server.connect()?;
    for size in sizes {
        assert!(get(&mut stream, &format!("/{size}"))? == pattern(size), "{size} bytes");
    }
    drop(stream);
    server.stop()
}

fn answers_a_pipeline_in_order() -> Outcome {
    let directory = directory()?;
    for index in 0..10 {
        fs::write(directory.path().join(index.to_string()), pattern(index * 20_000))?;
    }
    let server = Running::start(directory.path(), Config::default())?;
    let mut stream = server.connect()?;
    let names = || (0..500).map(|turn: usize| turn % 11);
    let requests: Vec<u8> = names().flat_map(|index| request(&format!("/{index}"))).collect();
    let mut writer = stream.try_clone()?;
    let writer = thread::spawn(move || writer.write_all(&requests));
    for index in names() {
        let (head, body) = answer(&mut stream)?;
        if index == 10 {
            assert!(head.starts_with("HTTP/1.1 404 "), "{head}");
        } else {
            assert!(body == pattern(index * 20_000), "{head}");
        }
    }
    writer.join().expect("the writer writes")?;
    drop(stream);
    server.stop()
}

fn a_client_that_never_reads_is_not_read_forever() -> Outcome {
    let directory = directory()?;
    fs::write(directory.path().join("file"), pattern(MUCH))?;
    let config = Config { send_timeout: Duration::from_secs(5), ..Config::default() };
    let server = Running::start(directory.path(), config)?;
    let mut stream = server.connect()?;
    stream.set_write_timeout(Some(Duration::from_millis(300)))?;
    let requests = request("/file").repeat(1000);
    let mut written = 0;
    // The client can write until the server's and the kernel's buffers are full.
    let blocked = loop {
        match stream.write(&requests) {
            Ok(bytes) => written += bytes,
            Err(error) => break error,
        }
        assert!(written < 64 << 20, "the server never stops reading");
    };
    assert_eq!(blocked.kind(), io::ErrorKind::WouldBlock);
    assert!(server.service.stats.totals().bytes_in < 1 << 20);
    // The server resumes reading once the responses are read.
    let (_, body) = answer(&mut stream)?;
    assert!(body == pattern(MUCH));
    let (_, body) = answer(&mut stream)?;
    assert!(body == pattern(MUCH));
    drop(stream);
    server.stop()
}

fn answers_a_client_that_has_closed_its_side() -> Outcome {
    let directory = directory()?;
    fs::write(directory.path().join("small"), pattern(100))?;
    fs::write(directory.path().join("large"), pattern(MUCH / 8))?;
    let server = Running::start(directory.path(), Config::default())?;
    let mut stream = server.connect()?;
    stream.write_all(&[request("/small"), request("/large"), request("/small")].concat())?;
    stream.shutdown(Shutdown::Write)?;
    for size in [100, MUCH / 8, 100] {
        assert!(answer(&mut stream)?.1 == pattern(size));
    }
    assert_eq!(stream.read(&mut [0])?, 0, "then the server closes its side, too");
    eventually("the connection is closed", || Ok(server.service.stats.active() == 0))?;
    drop(stream);
    server.stop()
}

fn lists_a_directory() -> Outcome {
    let directory = directory()?;
    fs::create_dir(directory.path().join("sub"))?;
    fs::write(directory.path().join("sub/a file"), "x")?;
    let server = Running::start(directory.path(), Config::default())?;
    let mut stream = server.connect()?;
    for _ in 0..3 {
        let page = String::from_utf8(get(&mut stream, "/sub/")?)?;
        assert!(page.contains("a file"), "{page}");
    }
    drop(stream);
    server.stop()
}

/// The number of threads in this process whose names have this prefix.
fn threads(prefix: &str) -> io::Result<usize> {
    let mut count = 0;
    for task in fs::read_dir("/proc/self/task")? {
        // A thread may end while the directory is read.
        let name = fs::read_to_string(task?.path().join("comm")).unwrap_or_default();
        count += usize::from(name.starts_with(prefix));
    }
    Ok(count)
}

/// Requests one file many times after a warm-up, and counts the kernel's worker threads.
fn hot_run(directory: &Path) -> Outcome {
    let content = pattern(200_000);
    fs::write(directory.join("file"), &content)?;
    // Warm the caches: an open that waits for the disk may use a kernel thread.
    drop(File::open(directory.join("file"))?);
    let server = Running::start(directory, Config::default())?;
    let mut stream = server.connect()?;
    for _ in 0..300 {
        assert!(get(&mut stream, "/file")? == content);
    }
    assert_eq!(threads("iou-wrk")?, 0);
    drop(stream);
    server.stop()
}

fn serves_files_in_memory_without_kernel_threads() -> Outcome {
    let Ok(directory) = tempfile::tempdir_in("/dev/shm") else { return Ok(()) };
    hot_run(directory.path())
}

fn a_hot_run_needs_no_kernel_threads() -> Outcome {
    hot_run(directory()?.path())
}

fn clients_that_leave_midway_leave_nothing_behind() -> Outcome {
    let directory = directory()?;
    fs::write(directory.path().join("file"), pattern(3 << 20))?;
    let server = Running::start(directory.path(), Config::default())?;
    let whole = request("/file");
    for round in 0..300 {
        let mut stream = server.connect()?;
        if round % 2 == 0 {
            // Linger 0 or unread bytes make the close a reset.
            rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?;
        }
        stream.write_all(&whole[..whole.len() - round % 3])?;
        let mut some = vec![0; round * 1000];
        if round % 3 == 0 {
            stream.read_exact(&mut some)?;
        }
        if round % 5 == 0 {
            stream.shutdown(Shutdown::Write)?;
        }
    }
    eventually("nobody is there", || Ok(server.service.stats.active() == 0))?;
    let mut stream = server.connect()?;
    assert!(get(&mut stream, "/file")? == pattern(3 << 20));
    drop(stream);
    server.stop()
}

fn a_file_that_shrinks_ends_its_connection() -> Outcome {
    let directory = directory()?;
    let path = directory.path().join("file");
    fs::write(&path, pattern(MUCH))?;
    let server = Running::start(directory.path(), Config::default())?;
    let mut stream = server.connect()?;
    stream.write_all(&request("/file"))?;
    let mut some = vec![0; 10_000];
    stream.read_exact(&mut some)?;
    File::options().write(true).open(&path)?.set_len(1000)?;
    let mut rest = Vec::new();
    // What was sent before must not be lost to a reset.
    stream.read_to_end(&mut rest)?;
    assert!(rest.len() < MUCH);
    drop(stream);
    eventually("the connection is closed", || Ok(server.service.stats.active() == 0))?;
    server.stop()
}

fn a_stalled_reader_is_reset() -> Outcome {
    let directory = directory()?;
    fs::write(directory.path().join("file"), pattern(MUCH))?;
    let config = Config { send_timeout: Duration::from_millis(200), ..Config::default() };
    let server = Running::start(directory.path(), config)?;
    let mut stream = server.connect()?;
    stream.write_all(&request("/file"))?;
    eventually("the answer is begun", || Ok(server.service.stats.totals().bytes_out > 0))?;
    eventually("the connection is closed", || Ok(server.service.stats.active() == 0))?;
    let error = stream.read_to_end(&mut Vec::new()).expect_err("the answer can't be whole");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    server.stop()
}

fn a_slow_reader_is_served() -> Outcome {
    const SIZE: usize = 300_000;
    const SEND_TIMEOUT: Duration = Duration::from_millis(1200);
    let directory = directory()?;
    fs::write(directory.path().join("file"), pattern(SIZE))?;
    let config = Config { send_timeout: SEND_TIMEOUT, send_buffer_bytes: Some(4096), ..Config::default() };
    let server = Running::start(directory.path(), config)?;
    let socket =
        rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None)?;
    rustix::net::sockopt::set_socket_recv_buffer_size(&socket, 4096)?;
    rustix::net::connect(&socket, &server.address)?;
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(&request("/file"))?;
    // Each piece takes longer than the timeout, but there is always some progress within it.
    let begun = Instant::now();
    let mut got = Vec::new();
    while !got.ends_with(&pattern(SIZE)[SIZE - 100..]) {
        let mut some = [0; 2000];
        let bytes = stream.read(&mut some)?;
        assert!(bytes > 0, "the response must be complete");
        got.extend_from_slice(&some[..bytes]);
        thread::sleep(Duration::from_millis(20));
    }
    assert!(got.ends_with(&pattern(SIZE)), "wrong body");
    assert!(begun.elapsed() > SEND_TIMEOUT * 2, "the test was too fast");
    drop(stream);
    server.stop()
}

fn connections_beyond_the_maximum_wait() -> Outcome {
    let directory = directory()?;
    fs::write(directory.path().join("file"), "x")?;
    let server = Running::start(directory.path(), Config { connections_max: 3, ..Config::default() })?;
    let mut streams = Vec::new();
    for _ in 0..12 {
        let mut stream = server.connect()?;
        // With half of another request behind it, it isn't idle and doesn't give way.
        stream.write_all(&[&request("/file")[..], b"GET "].concat())?;
        streams.push(stream);
    }
    // Three at a time, in order of arrival; each connection that closes makes room for the next.
    for round in 0..4 {
        for stream in &mut streams[..3] {
            answer(stream)?;
        }
        assert_eq!(server.service.stats.active(), 3);
        if round < 3 {
            streams[3].set_read_timeout(Some(Duration::from_millis(50)))?;
            let error = streams[3].read(&mut [0]).expect_err("there is no place yet");
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
            streams[3].set_read_timeout(Some(PATIENCE))?;
        }
        drop(streams.drain(..3));
    }
    // Accepting has fully resumed.
    for _ in 0..20 {
        get(&mut server.connect()?, "/file")?;
    }
    server.stop()
}

/// Restores the descriptor limit when a test ends, also on failure.
struct Limit(Rlimit);

impl Limit {
    fn set(&self, descriptors: u64) -> io::Result<()> {
        Ok(setrlimit(Resource::Nofile, Rlimit { current: Some(descriptors), maximum: self.0.maximum })?)
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        setrlimit(Resource::Nofile, self.0).expect("it was allowed before");
    }
}

fn survives_running_out_of_descriptors() -> Outcome {
    let directory = directory()?;
    fs::write(directory.path().join("file"), "x")?;
    let limit = Limit(getrlimit(Resource::Nofile));
    // Set it before the start: an accept in flight uses the limit in force when it was armed.
    limit.set(descriptors()? as u64 + 100)?;
    let server = Running::start(directory.path(), Config::default())?;
    let spare = File::open(directory.path())?;
    let mut streams = Vec::new();
    for _ in 0..20 {
        streams.push(server.connect()?);
    }
    eventually("these are accepted", || Ok(server.service.stats.active() == 20))?;
    // Each connection takes two descriptors, one at each end.
    streams.extend((0..100).map_while(|_| server.connect().ok()));
    eventually("all are accepted, or can't be", || {
        let counts = server.service.stats.totals();
        Ok(counts.active() == streams.len() as u64 || counts.errors > 0)
    })?;
    // If every accept has succeeded so far, free one descriptor: the next client takes it, and none is left for the
    // server.
    drop(spare);
    streams.extend(server.connect());
    eventually("an accept has failed", || Ok(server.service.stats.totals().errors > 0))?;
    let used = cpu_time();
    thread::sleep(Duration::from_millis(300));
    let used = cpu_time() - used;
    assert!(
        used < Duration::from_millis(150),
        "the server must pause accepting instead of retrying all the time: {used:?}"
    );
    // The one that has been idle longest gives way to one that waits.
    assert_eq!(streams[0].read(&mut [0])?, 0);
    streams.drain(..streams.len() - 20);
    // Until the others are found closed, an open may fail.
    for stream in &mut streams {
        eventually("files can be opened again", || Ok(get(stream, "/file").is_ok()))?;
    }
    assert_eq!(get(&mut server.connect()?, "/file")?, b"x");
    drop(streams);
    drop(limit);
    server.stop()
}

fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs().try_into().unwrap_or(0))
}

fn idle_connections_share_a_few_buffers() -> Outcome {
    let directory = directory()?;
    fs::write(directory.path().join("file"), "x")?;
    let server = Running::start(directory.path(), Config::default())?;
    let mut streams = Vec::new();
    for _ in 0..2000 {
        streams.push(server.connect()?);
    }
    eventually("all are accepted", || Ok(server.service.stats.active() == 2000))?;
    // All at once: more clients than buffers.
    for stream in &mut streams {
        stream.write_all(&request("/file"))?;
    }
    for stream in &mut streams {
        assert_eq!(answer(stream)?.1, b"x");
    }
    drop(streams);
    server.stop()
}

fn drain_finishes_responses_in_flight() -> Outcome {
    let directory = directory()?;
    fs::write(directory.path().join("file"), pattern(MUCH))?;
    let server = Running::start(directory.path(), Config::default())?;
    let mut streams = Vec::new();
    for _ in 0..8 {
        let mut stream = server.connect()?;
        stream.write_all(&request("/file"))?;
        streams.push(stream);
    }
    let mut idle = server.connect()?;
    eventually("the answers are begun", || Ok(server.service.stats.totals().requests() == 8))?;
    server.service.shutdown.drain();
    assert_eq!(idle.read(&mut [0])?, 0, "an idle connection is closed");
    for stream in &mut streams {
        assert!(answer(stream)?.1 == pattern(MUCH));
        assert_eq!(stream.read(&mut [0])?, 0, "the connection ends with its answer");
    }
    drop(streams);
    server.end()
}

fn drain_serves_the_backlog() -> Outcome {
    let directory = directory()?;
    fs::write(directory.path().join("file"), "x")?;
    let server = Running::start(directory.path(), Config::default())?;
    let mut streams = Vec::new();
    for _ in 0..100 {
        let mut stream = server.connect()?;
        stream.write_all(&request("/file"))?;
        streams.push(stream);
    }
    server.service.shutdown.drain();
    for stream in &mut streams {
        assert_eq!(answer(stream)?.1, b"x");
    }
    drop(streams);
    server.end()
}

fn drain_drops_the_rest_after_the_grace_period() -> Outcome {
    let directory = directory()?;
    fs::write(directory.path().join("file"), pattern(MUCH))?;
    let config = Config { grace: Duration::from_millis(400), workers: 2, ..Config::default() };
    let server = Running::start(directory.path(), config)?;
    let mut streams = Vec::new();
    for _ in 0..8 {
        let mut stream = server.connect()?;
        stream.write_all(&request("/file"))?;
        streams.push(stream);
    }
    eventually("the answers are begun", || Ok(server.service.stats.totals().requests() == 8))?;
    let begun = Instant::now();
    server.stop()?;
    assert!(begun.elapsed() < Duration::from_secs(3));
    drop(streams);
    Ok(())
}

/// A field of the ring's `fdinfo`, where io_uring reports the positions of its queues. There must be only one ring.
fn of_ring(field: &str) -> Result<u32, Failed> {
    for entry in fs::read_dir("/proc/self/fd")? {
        let name = entry?.file_name();
        // The descriptor of this directory walk is closed by the time it is resolved.
        let Ok(target) = fs::read_link(Path::new("/proc/self/fd").join(&name)) else { continue };
        if target == Path::new("anon_inode:[io_uring]") {
            let text = fs::read_to_string(Path::new("/proc/self/fdinfo").join(&name))?;
            let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
            return Ok(line.ok_or_else(|| format!("no {field} in {text}"))?.trim().parse()?);
        }
    }
    Err("no ring".into())
}

const DIALOGUES: u32 = 5;
const REQUESTS: u32 = 4;

/// The numbers of submissions and completions of a server while a few clients request a few files, one after the other.
fn queued(without: &[Tune]) -> Result<(u32, u32), Failed> {
    *WITHOUT.lock().unwrap_or_else(PoisonError::into_inner) = without.to_vec();
    let directory = directory()?;
    fs::write(directory.path().join("file"), pattern(1000))?;
    let server = Running::start(directory.path(), Config { cache: CacheConfig::OFF, ..Config::default() })?;
    for _ in 0..DIALOGUES {
        let mut stream = server.connect()?;
        for _ in 0..REQUESTS {
            assert!(get(&mut stream, "/file")? == pattern(1000));
        }
        drop(stream);
        eventually("the connection is closed", || Ok(server.service.stats.active() == 0))?;
    }
    let counts = (of_ring("SqTail")?, of_ring("CqTail")?);
    server.stop()?;
    Ok(counts)
}

/// Checks the ring's own counters. Other effects (system calls, setup) are tested on the ring alone.
fn switches_are_in_force() -> Outcome {
    const ANSWERS: u32 = DIALOGUES * REQUESTS;
    let (submitted, completed) = queued(&[])?;
    // Accepts: one multishot accept, or one more per connection.
    assert_eq!(queued(&[Tune::SingleAccept])?, (submitted + DIALOGUES, completed));
    // Receives: after a connection's first, one multishot receive, or one per request and one for the end.
    assert_eq!(queued(&[Tune::SingleReceive])?, (submitted + ANSWERS - DIALOGUES, completed));
    // The READ of a successful chain has no completion.
    assert_eq!(queued(&[Tune::UnlinkedSend])?, (submitted, completed + ANSWERS));
    for switch in [Tune::CoopTaskrun, Tune::Unbatched] {
        assert_eq!(queued(&[switch])?, (submitted, completed));
    }
    Ok(())
}
