//! The event loop, driven one turn at a time by the test.

use super::*;
use std::fs::File;
use std::io::{IoSliceMut, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;

use common::site::sendfile::SENDFILE_BYTES_MAX;
use common::{Config, Site, SiteOptions, listen_socket};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Advice, fadvise, fsync};
use rustix::io::{ReadWriteFlags, preadv2};
use rustix::net::sockopt;
use tempfile::TempDir;

/// Longer than any passing test takes.
const PATIENCE: Duration = Duration::from_secs(10);
/// No head of an answer in these tests is larger.
const HEAD_BYTES_MAX: u64 = 1024;

/// The jobs that a server has handed to the pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Jobs {
    opens: u64,
    /// Those that read: for the cache, or in order to send.
    reads: u64,
    in_flight: u64,
}

impl Jobs {
    pub(super) fn count(&mut self, job: &Job) {
        match job {
            Job::Open(_) => self.opens += 1,
            Job::Read { .. } | Job::Send { .. } => self.reads += 1,
        }
        self.in_flight += 1;
    }

    pub(super) fn count_done(&mut self) {
        self.in_flight -= 1;
    }
}

struct Bench {
    folder: TempDir,
    service: Arc<Service>,
    server: Server,
    _pool: Pool,
    events: Events,
    address: SocketAddr,
}

/// A folder next to the test executable, on a disk; the system's temporary folder may be in memory.
fn folder() -> TempDir {
    let executable = std::env::current_exe().expect("a path");
    TempDir::new_in(executable.parent().expect("a folder")).expect("a folder")
}

fn bench(config: Config) -> Bench {
    let folder = folder();
    let options = SiteOptions { listing: true, ..SiteOptions::default() };
    let site = Site::open_root(folder.path(), options).expect("a root");
    let service = Arc::new(Service::new(site, config).expect("a service"));
    let pool = Pool::start(4).expect("a thread");
    let socket = listen_socket("127.0.0.1:0".parse().expect("an address"), None).expect("listening");
    let address = rustix::net::getsockname(&socket).expect("a name").try_into().expect("an address");
    let server = Server::new(Worker::new(Arc::clone(&service), 0), vec![socket], &pool).expect("a server");
    Bench { folder, service, server, _pool: pool, events: Events::with_capacity(EVENTS_MAX), address }
}

impl Bench {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn file(&self, name: &str, bytes: &[u8]) {
        File::create(self.path(name)).expect("created").write_all(bytes).expect("written");
    }

    /// Evicts the file from the page cache. This works only on some file systems, and only if nothing of the file was
    /// sent lately: socket buffers hold its pages for some time. Don't check whether it is gone: the check would make
    /// the kernel fetch it again.
    fn evict(&self, name: &str) {
        let file = File::open(self.path(name)).expect("opened");
        fsync(&file).expect("synced");
        fadvise(&file, 0, None, Advice::DontNeed).expect("advised");
    }

    /// Whether files can be evicted here; on a file system in memory they can't.
    fn evicts(&self) -> bool {
        self.file("scratch", b"scratch");
        self.evict("scratch");
        !self.is_cached("scratch")
    }

    fn is_cached(&self, name: &str) -> bool {
        is_cached(&File::open(self.path(name)).expect("opened"))
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("connected");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_nodelay(true).expect("no delay");
        stream
    }

    fn request(&self, path: &str) -> TcpStream {
        let mut stream = self.connect();
        stream.write_all(get(path).as_bytes()).expect("written");
        stream
    }

    fn turn(&mut self) {
        let timeout = self.server.wait_max().unwrap_or(PATIENCE);
        self.server.poller.wait(&mut self.events, Some(timeout.min(PATIENCE))).expect("waited");
        self.server.turn(&self.events);
        self.server.worker.flush();
    }

    fn turn_until(&mut self, name: &str, mut done: impl FnMut(&Server) -> bool) {
        let begun = Instant::now();
        while !done(&self.server) {
            assert!(begun.elapsed() < PATIENCE, "{name} never came");
            self.turn();
        }
    }

    /// Turns the loop until this many responses were started and every client waits for its next request.
    fn serve(&mut self, requests: u64) {
        let service = Arc::clone(&self.service);
        self.turn_until("an answer", |server| {
            service.stats.totals().requests() >= requests
                && server.turns.is_empty()
                && server.all_wait_for(Waits::Bytes)
        });
    }
}

impl Server {
    fn waits(&self) -> Vec<Waits> {
        self.clients.tokens().filter_map(|token| self.clients.get(token)).map(|client| client.waits).collect()
    }

    fn all_wait_for(&self, waits: Waits) -> bool {
        self.waits().iter().all(|one| *one == waits)
    }

    fn only_token(&self) -> Token {
        let tokens: Vec<_> = self.clients.tokens().collect();
        assert_eq!(tokens.len(), 1);
        tokens[0]
    }
}

fn is_cached(file: &File) -> bool {
    preadv2(file, &mut [IoSliceMut::new(&mut [0])], 0, ReadWriteFlags::NOWAIT).is_ok()
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: here\r\n\r\n")
}

/// Reads one response with a Content-Length: status and body.
fn answer(stream: &mut TcpStream) -> (u16, Vec<u8>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a head");
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).expect("text");
    let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name).map(str::trim));
    let length: usize = field("Content-Length:").expect("a length").parse().expect("a number");
    let mut body = vec![0; length];
    stream.read_exact(&mut body).expect("a body");
    (head[9..12].parse().expect("a status"), body)
}

#[test]
fn an_idle_client_is_small() {
    // The slot, its generation, its entry in the wheel, and the flag for that entry.
    let bytes = size_of::<Option<Client>>() + size_of::<u32>() * 2 + 1;
    assert!(bytes <= 128, "{bytes} bytes");
}

/// Requests all names on one connection, one after the other.
fn visit(bench: &mut Bench, names: &[String], content: &[u8]) {
    let mut stream = bench.connect();
    for name in names {
        let requests = bench.service.stats.totals().requests();
        stream.write_all(get(&format!("/{name}")).as_bytes()).expect("written");
        bench.serve(requests + 1);
        assert!(answer(&mut stream) == (200, content.to_vec()), "{name}");
    }
}

/// Files that were never sent, evicted from the page cache.
fn cold_files(bench: &Bench, count: usize, batch: usize, content: &[u8]) -> Vec<String> {
    let names: Vec<String> = (0..count).map(|n| format!("cold{batch}-{n}")).collect();
    names.iter().for_each(|name| bench.file(name, content));
    names.iter().for_each(|name| bench.evict(name));
    names
}

#[test]
fn cached_files_are_served_in_the_loop_and_others_by_the_pool() {
    const FILES: usize = 16;
    let mut bench = bench(Config::default());
    let content = vec![b'c'; 100_000];
    let warm: Vec<String> = (0..FILES).map(|n| format!("warm{n}")).collect();
    warm.iter().for_each(|name| bench.file(name, &content));
    if !warm.iter().all(|name| bench.is_cached(name)) {
        return; // a file system without RWF_NOWAIT: the pool does all reads
    }
    // If the kernel has dropped a name from its cache, or something is being mounted, the open goes to the pool.
    let begun = Instant::now();
    loop {
        let opens = bench.server.jobs.opens;
        visit(&mut bench, &warm, &content);
        assert_eq!(bench.server.jobs.reads, 0, "files just written are cached");
        if bench.server.jobs.opens == opens {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "cached files are opened by the pool");
    }
    if !bench.evicts() {
        return; // a file system in memory
    }
    // The loop's probe makes the kernel fetch the file. If the disk is faster than this thread, which may have to wait
    // for a CPU, the pool isn't needed. So try several times.
    let begun = Instant::now();
    let cold = (0..).find_map(|batch| {
        assert!(begun.elapsed() < PATIENCE, "the pool never reads without opening");
        let names = cold_files(&bench, FILES, batch, &content);
        let before = bench.server.jobs;
        visit(&mut bench, &names, &content);
        let Jobs { opens, reads, .. } = bench.server.jobs;
        (opens == before.opens && reads >= before.reads + FILES as u64 / 2).then_some(names)
    });
    let reads = bench.server.jobs.reads;
    visit(&mut bench, &cold.expect("a batch"), &content);
    assert_eq!(bench.server.jobs.reads, reads, "cached by the reads before");
}

/// How often this thread has blocked (voluntary context switches, proc_pid_status(5)).
fn sleeps() -> u64 {
    let status = std::fs::read_to_string("/proc/thread-self/status").expect("a status");
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.expect("a count").trim().parse().expect("a number")
}

/// Serves all connected clients without ever waiting for an event.
fn spin(bench: &mut Bench, bytes_out: u64) {
    let begun = Instant::now();
    while bench.service.stats.totals().bytes_out < bytes_out && begun.elapsed() < PATIENCE {
        bench.server.poller.wait(&mut bench.events, Some(Duration::ZERO)).expect("waited");
        bench.server.turn(&bench.events);
        bench.server.worker.flush();
    }
}

#[test]
fn the_loop_never_waits_for_the_disk() {
    const FILES: usize = 64;
    const BYTES: usize = 200_000;
    let mut bench = bench(Config::default());
    let content: Vec<u8> = (0..BYTES).map(|n| n.to_le_bytes()[0]).collect();
    if !bench.evicts() {
        return; // a file system in memory
    }
    let (mut slept, begun) = (0, Instant::now());
    // The first round allocates the buffers, for which the loop may wait on the kernel's memory-map lock. A round
    // doesn't count if the disk fetched the files before the loop's second probe.
    let (mut rounds, mut batch, mut bytes_out) = (0, 0, 0);
    while rounds < 2 {
        assert!(begun.elapsed() < PATIENCE, "the pool never reads");
        let names = cold_files(&bench, FILES, batch, &content);
        let mut streams: Vec<_> = names.iter().map(|name| bench.request(&format!("/{name}"))).collect();
        let (reads, before) = (bench.server.jobs.reads, sleeps());
        bytes_out += (FILES * BYTES) as u64;
        spin(&mut bench, bytes_out);
        slept = sleeps() - before;
        for stream in &mut streams {
            assert!(answer(stream) == (200, content.clone()));
        }
        rounds += usize::from(bench.server.jobs.reads >= reads + FILES as u64 / 2);
        batch += 1;
    }
    // A lock held by a pool thread may put the loop to sleep now and then.
    assert!(slept < FILES as u64 / 4, "the loop slept {slept} times");
}

#[test]
fn a_large_cold_file_arrives_whole() {
    let mut bench = bench(Config::default());
    let content: Vec<u8> = (0..3_000_000u32).map(|n| n.to_le_bytes()[n as usize % 3]).collect();
    bench.file("large", &content);
    bench.evict("large");
    let mut stream = bench.request("/large");
    let reader = std::thread::spawn(move || answer(&mut stream));
    bench.serve(1);
    assert!(reader.join().expect("read") == (200, content));
}

#[test]
fn a_download_does_not_starve_others() {
    let mut bench = bench(Config::default());
    bench.file("large", &vec![b'l'; 10 << 20]);
    bench.file("small", b"small");
    let mut large = bench.request("/large");
    bench.turn_until("the download", |server| server.clients.len() == 1);
    let mut small = bench.request("/small");
    bench.turn_until("the small client", |server| server.clients.len() == 2);
    let service = Arc::clone(&bench.service);
    // Both become ready in the same turn; the download may then send one more share.
    bench.turn_until("the small answer", |_| service.stats.totals().requests() == 2);
    let share = SHARE_BYTES as u64 + HEAD_BYTES_MAX;
    assert!(service.stats.totals().bytes_out <= share * 2, "at most one share per client and turn");
    assert_eq!(answer(&mut small), (200, b"small".to_vec()));
    let reader = std::thread::spawn(move || answer(&mut large));
    bench.serve(2);
    assert!(reader.join().expect("read").1.len() == 10 << 20);
}

/// A share that is used up in part bounds the step that follows.
#[test]
fn a_turn_sends_one_share() {
    const FILE_BYTES: usize = SHARE_BYTES / 4 * 3;
    const FILES: usize = 3;
    let mut bench = bench(Config::default());
    bench.file("large", &vec![b'l'; FILE_BYTES]);
    let mut stream = bench.connect();
    // Room for more than a share on both sides.
    let listener = &bench.server.listeners[0].socket;
    let _bounded = sockopt::set_socket_send_buffer_size_force(listener, SHARE_BYTES * 4);
    stream.write_all(get("/large").repeat(FILES).as_bytes()).expect("written");
    let reader = std::thread::spawn(move || (0..FILES).all(|_| answer(&mut stream).1.len() == FILE_BYTES));
    let service = Arc::clone(&bench.service);
    let mut before = 0;
    let mut most = 0;
    bench.turn_until("the answers", |server| {
        let sent = service.stats.totals().bytes_out;
        most = most.max(sent - before);
        before = sent;
        sent > (FILES * FILE_BYTES) as u64 && server.all_wait_for(Waits::Bytes)
    });
    assert!(reader.join().expect("read"), "whole answers");
    assert!(most <= SHARE_BYTES as u64 + 2 * HEAD_BYTES_MAX, "{most} bytes in one turn");
}

#[test]
fn a_pipelining_client_does_not_starve_others() {
    const REQUESTS: usize = 100;
    let mut bench = bench(Config::default());
    bench.file("small", b"small");
    let mut greedy = bench.connect();
    greedy.write_all(get("/small").repeat(REQUESTS).as_bytes()).expect("written");
    let modest = bench.request("/small");
    bench.turn_until("both clients", |server| server.clients.len() == 2);
    modest.set_nonblocking(true).expect("set");
    let service = Arc::clone(&bench.service);
    bench.turn_until("the modest client's answer", |server| {
        let answered = modest.peek(&mut [0]).is_ok();
        let begun = service.stats.totals().requests();
        assert!(
            answered || begun < REQUESTS as u64 / 2,
            "one client holds up the other: {:?}",
            server.waits()
        );
        answered
    });
    bench.serve(REQUESTS as u64 + 1);
    for _ in 0..REQUESTS {
        assert_eq!(answer(&mut greedy), (200, b"small".to_vec()));
    }
}

/// Accepts the connection that has been made.
fn accept_one(server: &mut Server) {
    let clients = server.clients.len();
    while server.clients.len() == clients {
        server.listeners[0].acceptable = true;
        server.accept();
    }
}

#[test]
fn a_late_result_does_not_reach_the_next_client() {
    let mut bench = bench(Config { tune: vec![Tune::AlwaysPool], ..Config::default() });
    bench.file("one", b"of one");
    bench.file("two", b"of two");
    let _first = bench.request("/one");
    accept_one(&mut bench.server);
    let stale = bench.server.only_token();
    bench.turn_until("the job", |server| server.jobs.in_flight == 1);
    // It is done, and before that is noticed its client is gone, and another, in its place, waits for a file, too.
    let mut events = [PollFd::new(bench.server.pool.event(), PollFlags::IN)];
    assert_eq!(poll(&mut events, Some(&Timespec::try_from(PATIENCE).expect("seconds"))), Ok(1));
    bench.server.close(stale, Close::Drop);
    let mut second = bench.request("/two");
    accept_one(&mut bench.server);
    assert_eq!(bench.server.only_token().slot, stale.slot, "the same place");
    assert_ne!(bench.server.only_token(), stale);
    if !bench.server.all_wait_for(Waits::Job) {
        let token = bench.server.only_token();
        bench.server.on_readable(token);
    }
    assert!(bench.server.all_wait_for(Waits::Job));
    bench.serve(1);
    assert_eq!(answer(&mut second), (200, b"of two".to_vec()));
    assert_eq!(bench.service.stats.totals().errors, 0);
}

#[test]
fn a_stale_event_does_not_reach_the_next_client() {
    let mut bench = bench(Config::default());
    let mut first = bench.connect();
    bench.turn_until("the first client", |server| server.clients.len() == 1);
    let stale = bench.server.only_token();
    // Discard the edge made by the registration.
    while bench.events.len() > 0 {
        bench.server.poller.wait(&mut bench.events, Some(Duration::ZERO)).expect("waited");
    }
    first.write_all(get("/small").as_bytes()).expect("written");
    bench.server.poller.wait(&mut bench.events, Some(PATIENCE)).expect("waited");
    assert!(bench.events.iter().all(|event| event.source == EventSource::Client(stale) && event.readable()));
    // The event has been reported, but before it is handled its client closes and another takes the slot.
    bench.server.close(stale, Close::Drop);
    let _second = bench.connect();
    accept_one(&mut bench.server);
    let token = bench.server.only_token();
    assert_eq!(token.slot, stale.slot, "the same place");
    // Not one that would look for bytes at once, and find that there are none.
    bench.server.clients.get_mut(token).expect("the client").waits = Waits::Job;
    bench.server.turn(&bench.events);
    assert!(
        bench.server.clients.get(token).expect("the client").incoming == Incoming::Nothing,
        "the event was for the old client"
    );
}

#[test]
fn more_clients_than_threads_wait_for_the_pool() {
    const CLIENTS: usize = 80;
    let mut bench = bench(Config::default());
    let mut streams: Vec<_> = (0..CLIENTS).map(|_| bench.request("/")).collect();
    // Results aren't handled here, because the loop isn't turned while they arrive.
    bench.turn_until("all clients", |server| server.clients.len() == CLIENTS);
    bench.serve(CLIENTS as u64);
    for stream in &mut streams {
        assert_eq!(answer(stream).0, 200);
    }
    assert_eq!((bench.server.jobs.reads, bench.server.jobs.in_flight), (0, 0));
}

#[test]
fn over_the_limit_connections_stay_in_the_backlog() {
    let mut bench = bench(Config { connections_max: 2, ..Config::default() });
    bench.file("small", b"small");
    let mut streams: Vec<_> = (0..3).map(|_| bench.request("/small")).collect();
    bench.serve(2);
    assert_eq!(bench.server.clients.len(), 2);
    assert!(!bench.server.may_accept);
    // It doesn't spin. After a moment, the two that are idle by then would give way.
    assert!(bench.server.wait_max() != Some(Duration::ZERO) || bench.server.idles.seeks());
    let mut last = streams.pop().expect("three");
    for stream in &mut streams {
        assert_eq!(answer(stream), (200, b"small".to_vec()));
    }
    drop(streams.pop());
    bench.serve(3);
    assert_eq!(answer(&mut last), (200, b"small".to_vec()));
}

#[test]
fn who_has_just_sent_a_request_does_not_give_way() {
    let mut bench = bench(Config { connections_max: 1, ..Config::default() });
    bench.file("small", b"small");
    let mut idle = bench.request("/small");
    bench.serve(1);
    assert_eq!(answer(&mut idle), (200, b"small".to_vec()));
    std::thread::sleep(common::service::idles::IDLE_MIN);
    // Both come when the events of this turn have been taken already.
    idle.write_all(get("/small").as_bytes()).expect("written");
    let mut newcomer = bench.request("/small");
    let begun = Instant::now();
    while is_silent(&bench.server.clients.get(bench.server.only_token()).expect("the client").socket) {
        assert!(begun.elapsed() < PATIENCE, "the request never comes");
    }
    bench.server.listeners[0].acceptable = true;
    bench.server.worker.tick();
    bench.server.accept();
    assert!(bench.server.idles.seeks() && bench.server.clients.len() == 1);
    bench.serve(2);
    assert_eq!(answer(&mut idle), (200, b"small".to_vec()));
    bench.serve(3);
    assert_eq!(answer(&mut newcomer), (200, b"small".to_vec()), "it is idle again, and gives way");
    assert_eq!(idle.read(&mut [0]).expect("the end"), 0);
}

#[test]
fn out_of_descriptors_accepting_pauses_until_one_is_free() {
    let mut bench = bench(Config::default());
    bench.file("small", b"small");
    let first = bench.request("/small");
    bench.serve(1);
    bench.server.pause_accepting();
    let mut second = bench.request("/small");
    bench.turn_until("the edge", |server| server.listeners[0].acceptable);
    assert!(!bench.server.may_accept, "it rests");
    let wait = bench.server.wait_max().expect("a bounded wait");
    assert!(wait > Duration::ZERO && wait <= ACCEPT_PAUSE);
    drop(first);
    bench.turn_until("the close", |server| server.accept_pause.is_none());
    bench.serve(2);
    assert_eq!(answer(&mut second), (200, b"small".to_vec()));

    bench.server.pause_accepting();
    let mut third = bench.request("/small");
    bench.serve(3);
    assert_eq!(answer(&mut third), (200, b"small".to_vec()), "accepting resumes by itself after the pause");
}

#[test]
fn a_request_and_the_end_in_one_edge_are_both_handled() {
    let mut bench = bench(Config::default());
    bench.file("small", b"small");
    let mut stream = bench.connect();
    bench.turn_until("the client", |server| server.clients.len() == 1);
    // Discard the edge made by the registration.
    while bench.events.len() > 0 {
        bench.server.poller.wait(&mut bench.events, Some(Duration::ZERO)).expect("waited");
    }
    stream.write_all(get("/small").as_bytes()).expect("written");
    stream.shutdown(std::net::Shutdown::Write).expect("shut down");
    bench.turn_until("the close", |server| server.clients.is_empty());
    assert_eq!(answer(&mut stream), (200, b"small".to_vec()));
    assert_eq!(stream.read(&mut [0]).expect("the end"), 0);
}

#[test]
fn a_file_that_shrinks_ends_its_connection() {
    let mut bench = bench(Config::default());
    bench.file("large", &vec![b'l'; 20 << 20]);
    let mut stream = bench.request("/large");
    bench
        .turn_until("a full socket", |server| server.clients.len() == 1 && server.all_wait_for(Waits::Space));
    bench.file("large", b"");
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).map(|_| bytes.len())
    });
    bench.turn_until("the end", |server| server.clients.is_empty());
    // What was sent before must not be lost to a reset.
    let bytes = reader.join().expect("read").expect("an end");
    assert!(bytes < 20 << 20);
    assert_eq!(bench.service.stats.totals().errors, 1);
}

/// Returns how often the pool has read. Repeats the download if the disk was faster than the loop and the pool had
/// nothing to read.
fn lag(config: Config) -> u64 {
    let begun = Instant::now();
    loop {
        let (evicts, reads) = lag_once(config.clone());
        if reads > 0 || !evicts {
            return reads;
        }
        assert!(begun.elapsed() < PATIENCE, "the pool never reads");
    }
}

/// Returns whether files can be evicted here, and how often the pool has read.
fn lag_once(config: Config) -> (bool, u64) {
    let mut bench = bench(config);
    let content: Vec<u8> = (0..20 << 20u32).map(|n: u32| n.to_le_bytes()[n as usize % 3]).collect();
    bench.file("large", &content);
    let mut stream = bench.request("/large");
    bench
        .turn_until("a full socket", |server| server.clients.len() == 1 && server.all_wait_for(Waits::Space));
    assert!(bench.server.jobs.in_flight == 0, "who waits for space holds no thread");
    // From here on, the pool must read the pages again.
    bench.evict("large");
    let reader = std::thread::spawn(move || answer(&mut stream));
    bench.serve(1);
    assert!(reader.join().expect("read") == (200, content));
    (bench.evicts(), bench.server.jobs.reads)
}

#[test]
fn a_slow_reader_gets_the_whole_file() {
    lag(Config::default());
}

#[test]
fn a_slow_reader_gets_the_whole_file_in_every_mode() {
    lag(levels());
    lag(Config { copy: CopyMode::Read, ..Config::default() });
    let always_pool = Config { tune: vec![Tune::AlwaysPool], ..Config::default() };
    let reads = lag(always_pool);
    assert!(
        reads >= (20 << 20) / SENDFILE_BYTES_MAX as u64,
        "the pool must send every byte, not in {reads} pieces"
    );
    let tune = vec![Tune::AlwaysPool, Tune::LevelTriggered];
    lag(Config { copy: CopyMode::Read, tune, ..Config::default() });
}

#[test]
fn always_pool_uses_the_pool_for_cached_files() {
    const FILES: u64 = 4;
    let cache = common::CacheConfig::OFF;
    let mut bench = bench(Config { tune: vec![Tune::AlwaysPool], cache, ..Config::default() });
    let names: Vec<String> = (0..FILES).map(|n| format!("file{n}")).collect();
    names.iter().for_each(|name| bench.file(name, b"small"));
    visit(&mut bench, &names, b"small");
    assert_eq!(bench.server.jobs, Jobs { opens: FILES, reads: FILES, in_flight: 0 });
}

#[test]
fn loop_reads_uses_the_loop_for_files_on_the_disk() {
    let cache = common::CacheConfig::OFF;
    let mut bench = bench(Config { tune: vec![Tune::LoopReads], cache, ..Config::default() });
    let content = vec![b'c'; 100_000];
    let names = cold_files(&bench, 4, 0, &content);
    visit(&mut bench, &names, &content);
    assert_eq!(bench.server.jobs, Jobs::default());
}

fn levels() -> Config {
    Config { tune: vec![Tune::LevelTriggered], ..Config::default() }
}

/// Handles the clients' events of one wait, ignores all others, and returns their number.
fn clients_events(bench: &mut Bench) -> usize {
    bench.server.poller.wait(&mut bench.events, Some(Duration::ZERO)).expect("waited");
    let events: Vec<_> =
        bench.events.iter().filter(|event| matches!(event.source, EventSource::Client(_))).collect();
    events.iter().for_each(|event| bench.server.on_event(*event));
    events.len()
}

#[test]
fn unwanted_levels_are_reported_once() {
    let mut bench = bench(levels());
    bench.file("small", b"small");
    let mut stream = bench.request("/");
    bench.turn_until("the job", |server| server.clients.len() == 1 && server.all_wait_for(Waits::Job));
    // The next request comes while the client waits for the pool.
    stream.write_all(get("/small").as_bytes()).expect("written");
    let begun = Instant::now();
    while clients_events(&mut bench) == 0 {
        assert!(begun.elapsed() < PATIENCE, "the level never came");
    }
    assert!(bench.server.all_wait_for(Waits::Job), "the job's result must not be handled yet");
    assert_eq!(clients_events(&mut bench), 0, "or the loop would never sleep");
    // A reset can't be masked, but is reported only once.
    sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).expect("set");
    drop(stream);
    assert_eq!((clients_events(&mut bench), clients_events(&mut bench)), (1, 0));
    // The waker's edge may have been consumed by the waits above.
    while !bench.server.clients.is_empty() {
        assert!(begun.elapsed() < PATIENCE, "the client stays");
        bench.server.on_done();
    }
}

#[test]
fn levels_do_not_report_a_full_socket() {
    let mut bench = bench(levels());
    bench.file("large", &vec![b'l'; 20 << 20]);
    let mut stream = bench.request("/large");
    bench
        .turn_until("a full socket", |server| server.clients.len() == 1 && server.all_wait_for(Waits::Space));
    // More requests, and the end: not read until the socket has room.
    stream.write_all(get("/large").as_bytes()).expect("written");
    stream.shutdown(std::net::Shutdown::Write).expect("shut down");
    assert_eq!(clients_events(&mut bench), 0, "or the loop would never sleep");
    let reader = std::thread::spawn(move || (answer(&mut stream), answer(&mut stream)));
    bench.turn_until("the end", |server| server.clients.is_empty());
    let (first, second) = reader.join().expect("read");
    assert!(first.1.len() == 20 << 20 && second.1.len() == 20 << 20);
}

#[test]
fn the_drain_serves_the_backlog_and_closes_idle_connections() {
    let mut bench = bench(Config::default());
    bench.file("small", b"small");
    let mut idle = bench.request("/small");
    bench.serve(1);
    assert_eq!(answer(&mut idle), (200, b"small".to_vec()));
    // In the backlog when the drain begins.
    let mut late = bench.request("/small");
    bench.service.shutdown.drain();
    let reader = std::thread::spawn(move || (answer(&mut late), late.read(&mut [0]).expect("the end")));
    bench.turn_until("the end", |server| server.drain == Drain::Over);
    assert!(bench.server.listeners.is_empty() && bench.server.clients.is_empty());
    assert_eq!(reader.join().expect("read"), ((200, b"small".to_vec()), 0));
    assert_eq!(idle.read(&mut [0]).expect("the end"), 0);
    assert!(TcpStream::connect(bench.address).is_err(), "nobody listens");
    assert_eq!(bench.service.stats.totals().errors, 0);
}

#[test]
fn a_burst_needs_no_further_event() {
    const CLIENTS: usize = ACCEPTS_MAX * 3 + 8;
    let mut bench = bench(Config::default());
    bench.file("small", b"small");
    // The listener has one edge for all of them.
    let mut streams: Vec<_> = (0..CLIENTS).map(|_| bench.request("/small")).collect();
    streams.iter().for_each(|stream| stream.shutdown(std::net::Shutdown::Write).expect("shut down"));
    for turn in 1..=4 {
        bench.turn();
        let accepted = bench.service.stats.totals().accepted;
        assert_eq!(accepted, CLIENTS.min(turn * ACCEPTS_MAX) as u64, "after turn {turn}");
        let is_done = accepted == CLIENTS as u64;
        assert_eq!(bench.server.wait_max() == Some(Duration::ZERO), !is_done, "after turn {turn}");
    }
    for stream in &mut streams {
        assert_eq!(answer(stream), (200, b"small".to_vec()));
    }
}

#[test]
fn the_drain_takes_in_the_whole_backlog() {
    const CLIENTS: usize = ACCEPTS_MAX * 4;
    let mut bench = bench(Config::default());
    bench.file("small", b"small");
    let mut streams: Vec<_> = (0..CLIENTS).map(|_| bench.request("/small")).collect();
    bench.service.shutdown.drain();
    bench.turn_until("the end", |server| server.drain == Drain::Over);
    for stream in &mut streams {
        assert_eq!(answer(stream), (200, b"small".to_vec()));
    }
}

#[test]
fn the_loop_wakes_for_the_next_phase_of_the_drain() {
    let mut bench = bench(Config::default());
    let _idle = bench.connect();
    bench.turn_until("the client", |server| server.clients.len() == 1);
    bench.service.shutdown.drain();
    bench.turn_until("the drain", |server| server.drain == Drain::Quiet);
    let wait = bench.server.wait_max().expect("a bounded wait");
    assert!(wait <= common::service::shutdown::QUIET, "{wait:?}");
}

#[test]
fn grace_is_finite() {
    let mut bench = bench(Config { grace: Duration::from_millis(300), ..Config::default() });
    bench.file("large", &vec![b'l'; 20 << 20]);
    let _never_reads = bench.request("/large");
    bench
        .turn_until("a full socket", |server| server.clients.len() == 1 && server.all_wait_for(Waits::Space));
    bench.service.shutdown.drain();
    bench.turn_until("the end", |server| server.drain == Drain::Over);
    assert!(bench.server.clients.is_empty());
}

/// Others may go on with the same socket: workers, and processes. Its connections are then none of this loop's business.
#[test]
fn a_listener_that_was_given_up_wakes_nobody() {
    let mut bench = bench(Config::default());
    let shared = bench.server.listeners[0].socket.try_clone().expect("a descriptor");
    bench.server.stop_accepting();
    let _client = bench.connect();
    bench.server.poller.wait(&mut bench.events, Some(Duration::from_millis(50))).expect("waited");
    assert!(bench.events.iter().all(|event| !matches!(event.source, EventSource::Listener(_))));
    rustix::net::accept(&shared).expect("it is still there");
}
