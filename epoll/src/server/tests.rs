//! The loop, turned by hand: what happens in which turn is up to the test.

use super::*;
use std::fs::File;
use std::io::{IoSliceMut, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;

use crate::pool::{JOBS_MAX, JobCounts};
use common::site::sendfile::SENDFILE_BYTES_MAX;
use common::{Config, Site, SiteOptions, listen_socket};
use rustix::fs::{Advice, fadvise, fsync};
use rustix::io::{ReadWriteFlags, preadv2};
use rustix::net::sockopt;
use tempfile::TempDir;

/// Longer than any test takes that passes.
const PATIENCE: Duration = Duration::from_secs(10);

struct Bench {
    folder: TempDir,
    service: Arc<Service>,
    pool: Pool,
    server: Server,
    events: Events,
    address: SocketAddr,
}

/// A folder beside the test executable: on a disk, where the system's own may be in memory.
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
    Bench { folder, service, pool, server, events: Events::with_capacity(EVENTS_MAX), address }
}

impl Bench {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn file(&self, name: &str, bytes: &[u8]) {
        File::create(self.path(name)).expect("created").write_all(bytes).expect("written");
    }

    /// Drives the file out of the page cache, where that can be done, and if nothing of it was sent: a socket's
    /// buffers hold its pages for some time. Whether it is gone must not be asked, for the question would make the
    /// kernel fetch it again.
    fn evict(&self, name: &str) {
        let file = File::open(self.path(name)).expect("opened");
        fsync(&file).expect("synced");
        fadvise(&file, 0, None, Advice::DontNeed).expect("advised");
    }

    /// Whether files can be driven out; those of a file system in memory can't.
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

    /// Turns the loop until so many answers were begun and everybody waits for the next request.
    fn serve(&mut self, requests: u64) {
        let service = Arc::clone(&self.service);
        self.turn_until("an answer", |server| {
            service.stats.totals().requests >= requests
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

/// Reads one answer with a Content-Length: status and body.
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
    // The slot, its generation, the entry in the wheel and the mark that it has one.
    let bytes = size_of::<Option<Client>>() + size_of::<u32>() * 2 + 1;
    assert!(bytes <= 128, "{bytes} bytes");
}

/// Requests every name on one connection, one after the other.
fn visit(bench: &mut Bench, names: &[String], content: &[u8]) {
    let mut stream = bench.connect();
    for name in names {
        let requests = bench.service.stats.totals().requests;
        stream.write_all(get(&format!("/{name}")).as_bytes()).expect("written");
        bench.serve(requests + 1);
        assert!(answer(&mut stream) == (200, content.to_vec()), "{name}");
    }
}

/// Files that were never sent, driven out of the page cache.
fn cold_files(bench: &Bench, count: usize, batch: usize, content: &[u8]) -> Vec<String> {
    let names: Vec<String> = (0..count).map(|n| format!("cold{batch}-{n}")).collect();
    names.iter().for_each(|name| bench.file(name, content));
    names.iter().for_each(|name| bench.evict(name));
    names
}

#[test]
fn what_is_cached_is_served_in_the_loop_and_what_is_not_by_the_pool() {
    const FILES: usize = 16;
    let mut bench = bench(Config::default());
    let content = vec![b'c'; 100_000];
    let warm: Vec<String> = (0..FILES).map(|n| format!("warm{n}")).collect();
    warm.iter().for_each(|name| bench.file(name, &content));
    if !warm.iter().all(|name| bench.is_cached(name)) {
        return; // a file system without RWF_NOWAIT: all reads are the pool's
    }
    // Names that the kernel has forgotten, and a mount anywhere on this machine, send an open to the pool.
    let begun = Instant::now();
    loop {
        let opens = bench.pool.counts().opens;
        visit(&mut bench, &warm, &content);
        assert_eq!(bench.pool.counts().reads, 0, "what was just written is cached");
        if bench.pool.counts().opens == opens {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "what is cached is opened by the pool");
    }
    if !bench.evicts() {
        return; // a file system in memory
    }
    // The loop's question makes the kernel fetch the file. A disk that is quicker than this thread, which may have
    // to wait for a processor, needs no pool; it isn't so every time.
    let begun = Instant::now();
    let cold = (0..).find_map(|batch| {
        assert!(begun.elapsed() < PATIENCE, "nothing is read by the pool alone");
        let names = cold_files(&bench, FILES, batch, &content);
        let before = bench.pool.counts();
        visit(&mut bench, &names, &content);
        let JobCounts { opens, reads } = bench.pool.counts();
        (opens == before.opens && reads >= before.reads + FILES as u64 / 2).then_some(names)
    });
    let reads = bench.pool.counts().reads;
    visit(&mut bench, &cold.expect("a batch"), &content);
    assert_eq!(bench.pool.counts().reads, reads, "cached by the reads before");
}

/// How often this thread has gone to sleep by itself (proc_pid_status(5)).
fn sleeps() -> u64 {
    let status = std::fs::read_to_string("/proc/thread-self/status").expect("a status");
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.expect("a count").trim().parse().expect("a number")
}

/// Has every client served that is connected, without ever waiting for an event.
fn spin(bench: &mut Bench, bytes_out: u64) {
    let begun = Instant::now();
    while bench.service.stats.totals().bytes_out < bytes_out && begun.elapsed() < PATIENCE {
        bench.server.poller.wait(&mut bench.events, Some(Duration::ZERO)).expect("waited");
        bench.server.turn(&bench.events);
        bench.server.worker.flush();
    }
}

#[test]
fn the_loop_waits_for_no_disk() {
    const FILES: usize = JOBS_MAX;
    const BYTES: usize = 200_000;
    let mut bench = bench(Config::default());
    let content: Vec<u8> = (0..BYTES).map(|n| n.to_le_bytes()[0]).collect();
    if !bench.evicts() {
        return; // a file system in memory
    }
    let (mut slept, begun) = (0, Instant::now());
    // The first round makes the buffers, for which the loop may have to wait for the kernel's memory maps. What a
    // disk has fetched before the loop could ask twice is no round.
    let (mut rounds, mut batch, mut bytes_out) = (0, 0, 0);
    while rounds < 2 {
        assert!(begun.elapsed() < PATIENCE, "nothing is read by the pool");
        let names = cold_files(&bench, FILES, batch, &content);
        let mut streams: Vec<_> = names.iter().map(|name| bench.request(&format!("/{name}"))).collect();
        let (reads, before) = (bench.pool.counts().reads, sleeps());
        bytes_out += (FILES * BYTES) as u64;
        spin(&mut bench, bytes_out);
        slept = sleeps() - before;
        for stream in &mut streams {
            assert!(answer(stream) == (200, content.clone()));
        }
        rounds += usize::from(bench.pool.counts().reads >= reads + FILES as u64 / 2);
        batch += 1;
    }
    // A lock that a thread of the pool holds may put the loop to sleep for a moment, now and then.
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
fn a_download_leaves_the_others_their_turn() {
    let mut bench = bench(Config::default());
    bench.file("large", &vec![b'l'; 10 << 20]);
    bench.file("small", b"small");
    let mut large = bench.request("/large");
    bench.turn_until("the download", |server| server.clients.len() == 1);
    let mut small = bench.request("/small");
    bench.turn_until("the small client", |server| server.clients.len() == 2);
    let service = Arc::clone(&bench.service);
    // Both are told of in the same turn; then the download may go on for one share.
    bench.turn_until("the small answer", |_| service.stats.totals().requests == 2);
    let share = (SHARE_BYTES + SENDFILE_BYTES_MAX) as u64;
    assert!(service.stats.totals().bytes_out <= share * 2, "nobody gets more than a share in a turn");
    assert_eq!(answer(&mut small), (200, b"small".to_vec()));
    let reader = std::thread::spawn(move || answer(&mut large));
    bench.serve(2);
    assert!(reader.join().expect("read").1.len() == 10 << 20);
}

#[test]
fn a_client_with_many_requests_leaves_the_others_their_turn() {
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
        let begun = service.stats.totals().requests;
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

#[test]
fn a_late_result_does_not_reach_the_next_tenant() {
    let mut bench = bench(Config::default());
    bench.file("small", b"small");
    let _first = bench.request("/");
    // Listings are always the pool's.
    bench.turn_until("the job", |server| server.clients.len() == 1 && server.all_wait_for(Waits::Job));
    let stale = bench.server.only_token();
    bench.server.close(stale, Close::Drop);
    let mut second = bench.request("/small");
    bench.turn_until("the next tenant", |server| server.clients.len() == 1);
    assert_eq!(bench.server.only_token().slot, stale.slot, "the same place");
    assert_ne!(bench.server.only_token(), stale);
    bench.serve(1);
    assert_eq!(answer(&mut second), (200, b"small".to_vec()));
    bench.turn_until("the late result", |server| server.pool.is_idle());
    assert_eq!(bench.service.stats.totals().requests, 1, "nobody answered the first");
    assert_eq!(bench.service.stats.totals().errors, 0);
}

#[test]
fn a_stale_event_does_not_reach_the_next_tenant() {
    let mut bench = bench(Config::default());
    let mut first = bench.connect();
    bench.turn_until("the first client", |server| server.clients.len() == 1);
    let stale = bench.server.only_token();
    // What the registration made an edge of.
    while !bench.events.is_empty() {
        bench.server.poller.wait(&mut bench.events, Some(Duration::ZERO)).expect("waited");
    }
    first.write_all(get("/small").as_bytes()).expect("written");
    bench.server.poller.wait(&mut bench.events, Some(PATIENCE)).expect("waited");
    assert!(bench.events.iter().all(|event| event.source == EventSource::Client(stale) && event.readable()));
    // The event is told, but its client goes, and another moves in before anybody looks at it.
    bench.server.close(stale, Close::Drop);
    let _second = bench.connect();
    bench.server.listeners[0].acceptable = true;
    while bench.server.clients.is_empty() {
        bench.server.accept();
        bench.server.listeners[0].acceptable = true;
    }
    let token = bench.server.only_token();
    assert_eq!(token.slot, stale.slot, "the same place");
    bench.server.turn(&bench.events);
    assert!(!bench.server.clients.get(token).expect("the tenant").readable, "that was for the one before");
}

#[test]
fn who_finds_the_pool_full_stands_in_line() {
    const CLIENTS: usize = JOBS_MAX + 20;
    let mut bench = bench(Config::default());
    let mut streams: Vec<_> = (0..CLIENTS).map(|_| bench.request("/")).collect();
    // The loop isn't turned while results come in, so none of them is looked at.
    bench.turn_until("all clients", |server| server.clients.len() == CLIENTS);
    bench.serve(CLIENTS as u64);
    for stream in &mut streams {
        assert_eq!(answer(stream).0, 200);
    }
    assert_eq!(bench.pool.counts(), JobCounts { opens: bench.pool.counts().opens, reads: 0 });
    assert!(bench.server.applicants.is_empty());
}

#[test]
fn over_the_limit_the_kernel_keeps_the_connections() {
    let mut bench = bench(Config { connections_max: 2, ..Config::default() });
    bench.file("small", b"small");
    let mut streams: Vec<_> = (0..3).map(|_| bench.request("/small")).collect();
    bench.serve(2);
    assert_eq!(bench.server.clients.len(), 2);
    assert!(!bench.server.may_accept());
    assert_ne!(bench.server.wait_max(), Some(Duration::ZERO), "it doesn't spin");
    let mut last = streams.pop().expect("three");
    for stream in &mut streams {
        assert_eq!(answer(stream), (200, b"small".to_vec()));
    }
    drop(streams.pop());
    bench.serve(3);
    assert_eq!(answer(&mut last), (200, b"small".to_vec()));
}

#[test]
fn out_of_descriptors_accepting_rests_until_one_is_free() {
    let mut bench = bench(Config::default());
    bench.file("small", b"small");
    let first = bench.request("/small");
    bench.serve(1);
    bench.server.pause_accepting();
    let mut second = bench.request("/small");
    bench.turn_until("the edge", |server| server.listeners[0].acceptable);
    assert!(!bench.server.may_accept(), "it rests");
    let wait = bench.server.wait_max().expect("a bounded wait");
    assert!(wait > Duration::ZERO && wait <= ACCEPT_PAUSE);
    drop(first);
    bench.turn_until("the close", |server| server.accept_pause.is_none());
    bench.serve(2);
    assert_eq!(answer(&mut second), (200, b"small".to_vec()));

    bench.server.pause_accepting();
    let mut third = bench.request("/small");
    bench.serve(3);
    assert_eq!(answer(&mut third), (200, b"small".to_vec()), "after the pause it goes on by itself");
}

#[test]
fn a_request_and_the_end_in_one_edge_are_both_seen() {
    let mut bench = bench(Config::default());
    bench.file("small", b"small");
    let mut stream = bench.request("/small");
    stream.shutdown(std::net::Shutdown::Write).expect("shut down");
    bench
        .turn_until("the end", |server| server.worker.drain() == Drain::Serving && server.clients.len() == 1);
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
    // What was sent before isn't lost to a reset.
    let bytes = reader.join().expect("read").expect("an end");
    assert!(bytes < 20 << 20);
    assert_eq!(bench.service.stats.totals().errors, 1);
}

/// Returns how often the pool has read. Where a disk was quicker than the loop, and it had nothing to read, the
/// client lags once more.
fn lag(config: Config) -> u64 {
    let begun = Instant::now();
    loop {
        let (evicts, reads) = lag_once(config.clone());
        if reads > 0 || !evicts {
            return reads;
        }
        assert!(begun.elapsed() < PATIENCE, "nothing is read by the pool");
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
    assert!(bench.server.pool.is_idle(), "it holds no buffer");
    // From here on the pages are gone, and the pool brings them back.
    bench.evict("large");
    let reader = std::thread::spawn(move || answer(&mut stream));
    bench.serve(1);
    assert!(reader.join().expect("read") == (200, content));
    (bench.evicts(), bench.pool.counts().reads)
}

#[test]
fn a_reader_that_lags_gets_all_of_it_in_the_end() {
    lag(Config::default());
}

#[test]
fn without_a_technique_it_does_too() {
    lag(levels());
    lag(Config { copy: CopyMode::Read, ..Config::default() });
    let always_pool = Config { tune: vec![Tune::AlwaysPool], ..Config::default() };
    let reads = lag(always_pool);
    assert!(reads >= (20 << 20) / pool::READ_BYTES_MAX as u64, "every byte is the pool's, not {reads} reads");
    let tune = vec![Tune::AlwaysPool, Tune::LevelTriggered];
    lag(Config { copy: CopyMode::Read, tune, ..Config::default() });
}

#[test]
fn always_the_pool_although_all_is_cached() {
    const FILES: u64 = 4;
    let cache = common::CacheConfig::OFF;
    let mut bench = bench(Config { tune: vec![Tune::AlwaysPool], cache, ..Config::default() });
    let names: Vec<String> = (0..FILES).map(|n| format!("file{n}")).collect();
    names.iter().for_each(|name| bench.file(name, b"small"));
    visit(&mut bench, &names, b"small");
    assert_eq!(bench.pool.counts(), JobCounts { opens: FILES, reads: FILES });
}

fn levels() -> Config {
    Config { tune: vec![Tune::LevelTriggered], ..Config::default() }
}

/// The client's events of one look at the poller; the loop is told of them, and of nothing else.
fn clients_events(bench: &mut Bench) -> usize {
    bench.server.poller.wait(&mut bench.events, Some(Duration::ZERO)).expect("waited");
    let events: Vec<_> =
        bench.events.iter().filter(|event| matches!(event.source, EventSource::Client(_))).collect();
    events.iter().for_each(|event| bench.server.on_event(*event));
    events.len()
}

#[test]
fn levels_that_nobody_waits_for_are_told_once() {
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
    assert!(bench.server.all_wait_for(Waits::Job), "nobody has looked for the job's result");
    assert_eq!(clients_events(&mut bench), 0, "or the loop would never sleep");
    // A reset can't be declined, but is told once.
    sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).expect("set");
    drop(stream);
    assert_eq!((clients_events(&mut bench), clients_events(&mut bench)), (1, 0));
    // The waker may have spent its edge on a look from above.
    while !bench.server.clients.is_empty() {
        assert!(begun.elapsed() < PATIENCE, "the client stays");
        bench.server.on_done();
    }
}

#[test]
fn levels_leave_a_full_socket_alone() {
    let mut bench = bench(levels());
    bench.file("large", &vec![b'l'; 20 << 20]);
    let mut stream = bench.request("/large");
    bench
        .turn_until("a full socket", |server| server.clients.len() == 1 && server.all_wait_for(Waits::Space));
    // More requests, and the end: nobody reads them before there is space.
    stream.write_all(get("/large").as_bytes()).expect("written");
    stream.shutdown(std::net::Shutdown::Write).expect("shut down");
    assert_eq!(clients_events(&mut bench), 0, "or the loop would never sleep");
    let reader = std::thread::spawn(move || (answer(&mut stream), answer(&mut stream)));
    bench.turn_until("the end", |server| server.clients.is_empty());
    let (first, second) = reader.join().expect("read");
    assert!(first.1.len() == 20 << 20 && second.1.len() == 20 << 20);
}

#[test]
fn the_drain_empties_the_backlog_and_closes_who_is_idle() {
    let mut bench = bench(Config::default());
    bench.file("small", b"small");
    let mut idle = bench.request("/small");
    bench.serve(1);
    assert_eq!(answer(&mut idle), (200, b"small".to_vec()));
    // In the kernel's queue when the drain begins.
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
