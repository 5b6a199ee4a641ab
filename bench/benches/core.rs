//! The HTTP core alone, without a socket: `cargo bench --bench core`.
//!
//! What every server pays per request before any of them differs. Parsing is measured on the heads of three
//! real clients; `exchange` is a whole keep-alive request through the step machine, from the bytes received to
//! the last byte sent: with the file handed over, with the system calls that a backend makes for it, and
//! without a file.

mod heads;

use common::http::conditional::{EtagPolicy, FileState, Timestamp, Validators};
use common::http::date::Date;
use common::http::head::{Form, General, Persistence, Representation};
use common::http::request::{Parsed, Request};
use common::{
    CacheConfig, Config, Connection, Opened, Service, SharedFile, Site, SiteOptions, Step, Worker, build_404,
    build_ok_headers, mime_for, parse_http_get,
};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use heads::{BROWSER, CURL, WRK};
use rustix::io::Errno;
use std::fs;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

/// The heads of three clients, from the plainest to what a browser sends on a reload.
const HEADS: [(&str, &[u8]); 3] = [("wrk", WRK), ("curl", CURL), ("browser", BROWSER)];

const RANGE: &[u8] =
    b"GET /film.mp4 HTTP/1.1\r\nHost: localhost\r\nRange: bytes=1000-1999,5000-5999,-500\r\n\r\n";

const FILE_BYTES: u64 = 1024;
const NOW: i64 = 1_770_000_000;

fn complete(head: &[u8]) -> Request {
    match parse_http_get(head) {
        Parsed::Complete(request, length) if length == head.len() => request,
        other => panic!("a whole head, not {other:?}"),
    }
}

fn validators(size: u64) -> Validators {
    let modified = Timestamp { seconds: 1_760_000_000, nanoseconds: 123_456_789 };
    let file = FileState { inode: 176_369, size, modified, changed: modified };
    Validators::new(EtagPolicy::Strict, &file, Timestamp { seconds: NOW, nanoseconds: 0 })
}

fn parse(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("parse_http_get");
    for (client, head) in HEADS {
        complete(head);
        group.throughput(Throughput::Bytes(head.len() as u64));
        group.bench_function(client, |bencher| bencher.iter(|| parse_http_get(black_box(head))));
    }
    group.finish();
}

fn target(criterion: &mut Criterion) {
    let targets: [(&str, &[u8]); 3] = [
        ("plain", b"/1KiB.bin"),
        ("escaped", b"/docs/io%20models/index.html?theme=dark"),
        ("dots", b"/a/./b/../c//d/%2e%2e/index.html"),
    ];
    let mut group = criterion.benchmark_group("target");
    let mut path = Vec::with_capacity(256);
    for (name, target) in targets {
        let resolved = common::http::target::resolve(target, &mut path);
        assert!(resolved.is_ok(), "{name} resolves");
        group.bench_function(name, |bencher| {
            bencher.iter(|| common::http::target::resolve(black_box(target), &mut path));
        });
    }
    group.finish();
}

fn mime(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("mime_for");
    for path in ["docs/index.html", "1KiB.bin", "archive.tar.zst", "LICENSE"] {
        group.bench_function(path, |bencher| bencher.iter(|| mime_for(black_box(path.as_bytes()))));
    }
    group.finish();
}

fn plan(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("plan");
    for (name, head) in [("whole", WRK), ("conditional", BROWSER), ("ranges", RANGE)] {
        let request = complete(head);
        let validators = validators(FILE_BYTES * 1_000);
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let conditions = request.conditions(black_box(head));
                common::http::plan::plan(request.method, &conditions, &validators, FILE_BYTES * 1_000)
            });
        });
    }
    group.finish();
}

fn heads(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("head");
    let general = General {
        date: Date::from_unix(NOW),
        persistence: Persistence::Kept,
        cors: None,
        is_negotiated: false,
    };
    let file = Representation {
        form: Form { media_type: mime_for(b"index.html"), coding: None, varies: true },
        size: FILE_BYTES,
        validators: validators(FILE_BYTES),
        additions: None,
    };
    let mut out = Vec::with_capacity(1024);
    group.bench_function("build_ok_headers", |bencher| {
        bencher.iter(|| {
            out.clear();
            build_ok_headers(&mut out, black_box(&general), black_box(&file));
            black_box(out.len())
        });
    });
    group.bench_function("build_404", |bencher| {
        bencher.iter(|| {
            out.clear();
            build_404(&mut out, black_box(&general));
            black_box(out.len())
        });
    });
    group.bench_function("date", |bencher| bencher.iter(|| Date::from_unix(black_box(NOW))));
    group.finish();
}

/// Takes a connection from the answer's first byte to the next request's. Gives the number of bytes it sent,
/// and its share of the file: whoever drops the last one closes it.
fn send(connection: &mut Connection, worker: &mut Worker) -> (usize, Option<Arc<SharedFile>>) {
    let (bytes, share) = match connection.step() {
        Step::Send(chunks) => {
            let bytes = usize::try_from(chunks.length()).expect("a small file");
            (bytes, chunks.front().1.map(|file| Arc::clone(file.file)))
        }
        other => panic!("an answer, not {other:?}"),
    };
    connection.sent(worker, bytes);
    (bytes, share)
}

fn exchange(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let content = vec![b'x'; usize::try_from(FILE_BYTES).expect("a small file")];
    fs::write(folder.path().join("1KiB.bin"), content).expect("a temporary file");
    let site = Site::open_root(folder.path(), SiteOptions::default()).expect("the folder opens");
    let config = Config { cache: CacheConfig::OFF, ..Config::default() };
    let service = Arc::new(Service::new(site, config).expect("a service"));
    let mut worker = Worker::new(Arc::clone(&service), 0);
    let mut connection = Connection::new(&worker, None);

    // The first request shows what a backend is asked to open.
    connection.received(&mut worker, WRK);
    let wanted = match connection.step() {
        Step::Open(wanted) => Arc::clone(wanted),
        other => panic!("an open, not {other:?}"),
    };
    connection.opened(&mut worker, wanted.open());
    let (bytes, _) = send(&mut connection, &mut worker);
    assert!(bytes > content_and_some_head(), "{bytes} bytes are a head and the file");

    let mut group = criterion.benchmark_group("exchange");
    group.throughput(Throughput::Elements(1));
    group.bench_function("file handed over", |bencher| {
        bencher.iter_batched(
            || wanted.open(),
            |opened: std::io::Result<Opened>| {
                connection.received(&mut worker, black_box(WRK));
                connection.opened(&mut worker, opened);
                // The share leaves the measured part, and with it close(2).
                black_box(send(&mut connection, &mut worker))
            },
            BatchSize::NumIterations(100),
        );
    });
    group.bench_function("open, fstat, close", |bencher| {
        bencher.iter(|| {
            connection.received(&mut worker, black_box(WRK));
            let opened = wanted.open();
            connection.opened(&mut worker, opened);
            black_box(send(&mut connection, &mut worker)).0
        });
    });
    group.bench_function("not found", |bencher| {
        bencher.iter(|| {
            connection.received(&mut worker, black_box(WRK));
            // Neither the file nor a page that says so.
            while let Step::Open(_) = connection.step() {
                connection.opened(&mut worker, Err(Errno::NOENT.into()));
            }
            black_box(send(&mut connection, &mut worker)).0
        });
    });
    group.finish();
}

fn content_and_some_head() -> usize {
    usize::try_from(FILE_BYTES).expect("a small file") + "HTTP/1.1 200 OK\r\n\r\n".len()
}

criterion_group! {
    name = core;
    // Nanoseconds of pure computing settle soon; the time belongs to the servers.
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(250))
        .measurement_time(Duration::from_millis(1_000));
    targets = parse, target, mime, plan, heads, exchange
}
criterion_main!(core);
