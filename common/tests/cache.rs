//! The file cache behind the state machine: what is cached, for how long, and what a hit costs.

mod script;

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{
    CacheConfig, CacheLevel, Config, Connection, EtagPolicy, FileBytes, HeaderRules, MediaTypes, SiteOptions,
    Step,
};
use script::{BIG_BYTES, Script, get, text};

/// Too large to be copied next to a head, small enough to be cached as bytes.
const MEDIUM_BYTES: usize = 40_000;

fn cached(level: CacheLevel) -> Script {
    bounded(CacheConfig { level, ..CacheConfig::default() })
}

fn bounded(cache: CacheConfig) -> Script {
    let script = Script::with(Config { cache, ..Config::default() }, SiteOptions::default());
    fs::write(script.root().join("medium"), vec![b'm'; MEDIUM_BYTES]).expect("written");
    script
}

/// The complete response to one request.
fn ask(script: &mut Script, request: &[u8]) -> Vec<u8> {
    script.worker.tick();
    script.worker.files().refresh_cache();
    script.receive(request);
    script.run(usize::MAX)
}

/// The number of cache hits during `act`.
fn hits(script: &mut Script, act: impl FnOnce(&mut Script)) -> u64 {
    script.worker.flush();
    let before = script.service.stats.totals().cache_hits;
    act(script);
    script.worker.flush();
    script.service.stats.totals().cache_hits - before
}

/// Requests the path until the response comes from the cache.
fn warm(script: &mut Script, path: &str) {
    let is_hit = |script: &mut Script| hits(script, |script| drop(ask(script, &get(path)))) > 0;
    assert!((0..10).any(|_| is_hit(script)), "{path} is never cached");
}

fn body(answer: &[u8]) -> &[u8] {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
    &answer[end + 4..]
}

fn undated(answer: &[u8]) -> String {
    let answer = text(answer);
    let (before, after) = answer.split_once("\r\nDate: ").expect("a date");
    format!("{before}{}", &after[after.find('\r').expect("a line")..])
}

#[test]
fn a_hit_gets_the_same_response_as_a_miss() {
    let requests = [
        get("/a.txt"),
        get("/medium"),
        get("/big"),
        b"HEAD /a.txt HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        b"HEAD /medium HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        b"GET /medium HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".to_vec(),
        b"GET /medium HTTP/1.1\r\nHost: a\r\nRange: bytes=10-20000\r\n\r\n".to_vec(),
        b"GET /medium HTTP/1.1\r\nHost: a\r\nRange: bytes=1-3,5000-30000,-5\r\n\r\n".to_vec(),
        b"GET /big HTTP/1.1\r\nHost: a\r\nRange: bytes=1-3,5000-90000\r\n\r\n".to_vec(),
        b"GET /a.txt HTTP/1.1\r\nHost: a\r\nRange: bytes=9-\r\n\r\n".to_vec(),
        b"GET /a.txt HTTP/1.1\r\nHost: a\r\nIf-None-Match: *\r\n\r\n".to_vec(),
        b"GET /a.txt HTTP/1.1\r\nHost: a\r\nIf-Match: \"x\"\r\n\r\n".to_vec(),
        [get("/a.txt"), get("/medium"), get("/none"), get("/big"), get("/a.txt"), get("/a.txt")].concat(),
    ];
    // Tags that don't depend on the file's age.
    let options = SiteOptions { etag: EtagPolicy::Replica, ..SiteOptions::default() };
    for level in [CacheLevel::Descriptors, CacheLevel::Contents] {
        let cache = CacheConfig { level, ..CacheConfig::default() };
        for request in &requests {
            // Nothing of a new site is cached.
            let mut script = Script::with(Config { cache, ..Config::default() }, options.clone());
            fs::write(script.root().join("medium"), vec![b'm'; MEDIUM_BYTES]).expect("written");
            let first = undated(&ask(&mut script, request));
            let hits = hits(&mut script, |script| {
                for _ in 0..3 {
                    assert_eq!(undated(&ask(script, request)), first, "{}", text(request));
                }
            });
            assert!(hits > 0, "{}", text(request));
        }
        let mut script = cached(level);
        warm(&mut script, "/medium");
        for most in [1, 7, 5000] {
            let expected = ask(&mut script, &get("/medium")).len();
            script.receive(&get("/medium"));
            let wire = script.run(most);
            assert!(wire.len() == expected && body(&wire) == [b'm'; MEDIUM_BYTES]);
        }
    }
}

#[test]
fn levels_cache_what_they_promise() {
    for (level, descriptors, bytes) in
        [(CacheLevel::Descriptors, 3, 0), (CacheLevel::Contents, 1, 5 + MEDIUM_BYTES as u64)]
    {
        let mut script = cached(level);
        for path in ["/a.txt", "/medium", "/big"] {
            warm(&mut script, path);
        }
        let cached = script.service.stats.cached();
        assert_eq!((cached.entries, cached.descriptors, cached.bytes), (3, descriptors, bytes), "{level:?}");
    }
    let mut script = bounded(CacheConfig::OFF);
    assert_eq!(hits(&mut script, |script| (0..10).for_each(|_| drop(ask(script, &get("/a.txt"))))), 0);
}

#[test]
fn one_request_does_not_admit_a_file() {
    let mut script = cached(CacheLevel::Contents);
    ask(&mut script, &get("/a.txt"));
    assert_eq!(script.service.stats.cached().entries, 0);
    ask(&mut script, &get("/a.txt"));
    assert_eq!(script.service.stats.cached().entries, 1);
    assert_eq!(hits(&mut script, |script| drop(ask(script, &get("/a.txt")))), 1);
}

#[test]
fn a_hit_goes_straight_to_the_send() {
    let mut script = cached(CacheLevel::Contents);
    for path in ["/a.txt", "/medium"] {
        warm(&mut script, path);
        script.receive(&get(path));
        let Step::Send(answer) = script.connection.step() else { panic!("{path}: something to send") };
        assert!(!answer.has_file());
        assert_eq!(answer.front().0.len() > 1, path == "/medium", "a small body goes with its head");
        script.run(usize::MAX);
    }
}

#[test]
fn a_hit_allocates_nothing() {
    let mut script = cached(CacheLevel::Contents);
    for path in ["/a.txt", "/medium", "/big"] {
        warm(&mut script, path);
        let request = get(path);
        let counted = allocation_counter::measure(|| {
            for _ in 0..10 {
                script.receive(&request);
                while let Step::Send(answer) = script.connection.step() {
                    let bytes = usize::try_from(answer.length()).expect("fits");
                    script.connection.sent(&mut script.worker, bytes);
                }
            }
        });
        assert_eq!(counted.count_total, 0, "{path}");
    }
}

/// What flags say of a file is in its prepared head, and a page is known by its address.
#[test]
fn flags_cost_a_hit_nothing() {
    let lines = ["Cache-Control: no-cache", "X-Flag: 1", "Access-Control-Allow-Origin: *"];
    let options = SiteOptions {
        fields: Arc::new(HeaderRules::of_everything(&lines).expect("fields")),
        cors: Some("*".parse().expect("an origin")),
        media_types: MediaTypes::new(&["txt=text/x-text".parse().expect("a type")]),
        index: "home.htm".parse().expect("a name"),
        clean_urls: true,
        spa: true,
        ..SiteOptions::default()
    };
    let mut script = Script::with(Config::default(), options);
    fs::write(script.root().join("about.html"), "page").expect("written");
    fs::write(script.root().join("home.htm"), "home").expect("written");
    for (path, expected) in
        [("/a.txt", "\r\nContent-Type: text/x-text\r\n"), ("/about", "page"), ("/", "home")]
    {
        for _ in 0..4 {
            warm(&mut script, path);
        }
        let answer = String::from_utf8_lossy(&ask(&mut script, &get(path))).into_owned();
        assert!(answer.contains(expected) && answer.contains("\r\nX-Flag: 1\r\n"), "{answer}");
        let request = get(path);
        let counted = allocation_counter::measure(|| {
            for _ in 0..10 {
                script.receive(&request);
                while let Step::Send(answer) = script.connection.step() {
                    let bytes = usize::try_from(answer.length()).expect("fits");
                    script.connection.sent(&mut script.worker, bytes);
                }
                assert!(matches!(script.connection.step(), Step::Receive), "{path}: nothing to open");
            }
        });
        assert_eq!(counted.count_total, 0, "{path}");
    }
}

/// A change that affects the response: its name, and how to make it.
type Change = (&'static str, fn(&Path));

const CHANGES: &[Change] = &[
    ("overwritten in place", |root| {
        let file = File::options().write(true).open(root.join("dir/sub/file")).expect("opened");
        file.write_all_at(b"NEW", 0).expect("written");
    }),
    ("appended to", |root| {
        let mut file = File::options().append(true).open(root.join("dir/sub/file")).expect("opened");
        file.write_all(b"more").expect("written");
    }),
    ("truncated", |root| {
        let file = File::options().write(true).open(root.join("dir/sub/file")).expect("opened");
        file.set_len(1).expect("truncated");
    }),
    ("written under another name", |root| {
        fs::write(root.join("dir/link"), "by its other name").expect("written");
    }),
    ("replaced", |root| {
        fs::write(root.join("new"), "another").expect("written");
        fs::rename(root.join("new"), root.join("dir/sub/file")).expect("renamed");
    }),
    ("deleted", |root| fs::remove_file(root.join("dir/sub/file")).expect("deleted")),
    ("renamed", |root| fs::rename(root.join("dir/sub/file"), root.join("dir/sub/gone")).expect("renamed")),
    ("touched", |root| {
        let file = File::options().write(true).open(root.join("dir/sub/file")).expect("opened");
        file.set_modified(std::time::SystemTime::UNIX_EPOCH).expect("touched");
    }),
    ("hidden behind a renamed directory", |root| {
        fs::rename(root.join("dir/sub"), root.join("dir/other")).expect("renamed");
    }),
    ("hidden behind a renamed grandparent", |root| {
        fs::rename(root.join("dir"), root.join("other")).expect("renamed");
    }),
    ("replaced with its directory", |root| {
        fs::create_dir(root.join("fresh")).expect("made");
        fs::write(root.join("fresh/file"), "fresh").expect("written");
        fs::rename(root.join("dir/sub"), root.join("old")).expect("renamed");
        fs::rename(root.join("fresh"), root.join("dir/sub")).expect("renamed");
    }),
    ("replaced by a link", |root| {
        fs::write(root.join("target"), "linked").expect("written");
        symlink("../../target", root.join("link")).expect("linked");
        fs::rename(root.join("link"), root.join("dir/sub/file")).expect("renamed");
    }),
];

/// A file two directories deep, with a hard link.
fn deep(level: CacheLevel) -> Script {
    let script = cached(level);
    fs::create_dir_all(script.root().join("dir/sub")).expect("made");
    fs::write(script.root().join("dir/sub/file"), "the file as it was").expect("written");
    fs::hard_link(script.root().join("dir/sub/file"), script.root().join("dir/link")).expect("linked");
    script
}

#[test]
fn every_change_is_seen() {
    for (what, change) in CHANGES {
        for level in [CacheLevel::Descriptors, CacheLevel::Contents] {
            let mut script = deep(level);
            warm(&mut script, "/dir/sub/file");
            change(script.root());
            let seen = undated(&ask(&mut script, &get("/dir/sub/file")));
            let mut without = bounded(CacheConfig::OFF);
            // The same site without a cache, for comparison.
            let site = common::Site::open_root(script.root(), SiteOptions::default()).expect("opened");
            let service = std::sync::Arc::new(
                common::Service::new(site, Config { cache: CacheConfig::OFF, ..Config::default() })
                    .expect("made"),
            );
            without.worker = common::Worker::new(service, 0);
            without.connection = Connection::new(&without.worker, None);
            assert_eq!(seen, undated(&ask(&mut without, &get("/dir/sub/file"))), "{what}, {level:?}");
        }
    }
}

/// As root the response doesn't change, so check that the entry is dropped.
#[test]
fn a_permission_change_drops_the_entry() {
    for path in ["dir/sub/file", "dir/sub", "dir", ""] {
        let mut script = deep(CacheLevel::Contents);
        warm(&mut script, "/dir/sub/file");
        let mode = fs::metadata(script.root().join(path)).expect("there").permissions().mode();
        fs::set_permissions(script.root().join(path), Permissions::from_mode(mode ^ 0o010)).expect("set");
        assert_eq!(hits(&mut script, |script| drop(ask(script, &get("/dir/sub/file")))), 0, "{path}");
        fs::set_permissions(script.root().join(path), Permissions::from_mode(mode)).expect("set");
    }
}

/// A write between the admission of a file and the read of its bytes.
#[test]
fn bytes_that_changed_while_being_read_are_not_kept() {
    let mut script = cached(CacheLevel::Contents);
    ask(&mut script, &get("/medium"));
    script.receive(&get("/medium"));
    let Step::Open(request) = script.connection.step() else { panic!("an open") };
    let opened = request.open();
    script.connection.opened(&mut script.worker, opened);
    let Step::Read(range) = script.connection.step() else { panic!("a load") };
    assert_eq!(range.length, MEDIUM_BYTES as u64);
    fs::write(script.root().join("medium"), vec![b'n'; MEDIUM_BYTES]).expect("written");
    let mut torn = vec![b'm'; MEDIUM_BYTES];
    torn[MEDIUM_BYTES / 2..].fill(b'n');
    script.connection.read(&mut script.worker, Ok(FileBytes::from(torn.as_slice())));
    assert!(body(&script.run(usize::MAX)) == torn, "this response is as torn as the file was");
    for _ in 0..3 {
        let answer = ask(&mut script, &get("/medium"));
        assert!(body(&answer).iter().all(|byte| *byte == b'n'), "a mixture was kept");
    }
}

/// A change between the open of a file and its admission makes no event, so it must be checked for.
#[test]
fn a_file_that_changed_since_it_was_opened_is_not_kept() {
    const NEW: &str = "the file as it is.";
    let changes: [fn(&Path); 4] = [
        |root| {
            fs::write(root.join("new"), NEW).expect("written");
            fs::rename(root.join("new"), root.join("dir/sub/file")).expect("renamed");
        },
        |root| fs::write(root.join("dir/sub/file"), NEW).expect("written"),
        |root| {
            fs::rename(root.join("dir"), root.join("old")).expect("renamed");
            fs::create_dir_all(root.join("dir/sub")).expect("made");
            fs::write(root.join("dir/sub/file"), NEW).expect("written");
        },
        |root| {
            fs::rename(root.join("dir"), root.join("old")).expect("renamed");
            fs::create_dir_all(root.join("other/sub")).expect("made");
            fs::write(root.join("other/sub/file"), NEW).expect("written");
            symlink("other", root.join("dir")).expect("linked");
        },
    ];
    for (index, change) in changes.into_iter().enumerate() {
        let mut script = deep(CacheLevel::Contents);
        ask(&mut script, &get("/dir/sub/file"));
        script.receive(&get("/dir/sub/file"));
        let Step::Open(request) = script.connection.step() else { panic!("an open") };
        let opened = request.open();
        change(script.root());
        script.connection.opened(&mut script.worker, opened);
        script.run(usize::MAX);
        // The next request must not get the file that was opened before the change.
        script.receive(&get("/dir/sub/file"));
        assert_eq!(text(body(&script.run(usize::MAX))), NEW, "change {index}");
    }
}

/// The event queue is bounded (`fs.inotify.max_queued_events`). Beyond that, events are lost and an overflow event says
/// so.
#[test]
fn lost_events_empty_the_cache() {
    let mut script = deep(CacheLevel::Contents);
    warm(&mut script, "/dir/sub/file");
    let bound = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").expect("there is inotify");
    for index in 0..bound.trim().parse::<u32>().expect("a number") {
        let path = script.root().join(format!("dir/sub/{}", index % 2));
        File::create(&path).and_then(|_file| fs::remove_file(&path)).expect("made and removed");
    }
    fs::write(script.root().join("dir/sub/file"), "new").expect("written");
    assert_eq!(body(&ask(&mut script, &get("/dir/sub/file"))), b"new");
}

/// The bytes of a changed file arrive when the new file already has an entry.
#[test]
fn bytes_of_another_entry_are_not_kept() {
    let mut script = cached(CacheLevel::Contents);
    ask(&mut script, &get("/medium"));
    let load = |script: &mut Script| {
        script.receive(&get("/medium"));
        let Step::Open(request) = script.connection.step() else { panic!("an open") };
        let opened = request.open();
        script.connection.opened(&mut script.worker, opened);
        assert!(matches!(script.connection.step(), Step::Read(_)));
    };
    load(&mut script);
    fs::write(script.root().join("medium"), vec![b'n'; MEDIUM_BYTES]).expect("written");
    script.worker.files().refresh_cache();
    let other = Connection::new(&script.worker, None);
    let mut late = std::mem::replace(&mut script.connection, other);
    load(&mut script);
    late.read(&mut script.worker, Ok(FileBytes::from(vec![b'm'; MEDIUM_BYTES].as_slice())));
    script.connection.read(&mut script.worker, Ok(FileBytes::from(vec![b'n'; MEDIUM_BYTES].as_slice())));
    assert!(body(&script.run(usize::MAX)).iter().all(|byte| *byte == b'n'));
    let answer = ask(&mut script, &get("/medium"));
    assert!(body(&answer).iter().all(|byte| *byte == b'n'), "the old bytes were kept for the new file");
}

#[test]
fn a_short_load_ends_as_without_a_cache() {
    let mut script = cached(CacheLevel::Contents);
    ask(&mut script, &get("/medium"));
    script.receive(&get("/medium"));
    let Step::Open(request) = script.connection.step() else { panic!("an open") };
    let opened = request.open();
    script.connection.opened(&mut script.worker, opened);
    script.connection.read(&mut script.worker, Ok(FileBytes::from(&b"short"[..])));
    let Step::Send(answer) = script.connection.step() else { panic!("a send") };
    assert!(answer.has_file(), "from the file, which reports the error");
    assert_eq!(script.service.stats.cached().entries, 0);
}

#[test]
fn a_file_in_flight_outlives_its_entry() {
    let mut script = cached(CacheLevel::Contents);
    warm(&mut script, "/medium");
    script.receive(&get("/medium"));
    let Step::Send(answer) = script.connection.step() else { panic!("a send") };
    let share = answer.front().0[1].share();
    fs::write(script.root().join("medium"), "new").expect("written");
    script.worker.files().refresh_cache();
    assert_eq!(script.service.stats.cached().entries, 0);
    assert!(body(&script.run(1000)).iter().all(|byte| *byte == b'm'));
    assert_eq!(share.bytes(), [b'm'; MEDIUM_BYTES]);
}

#[test]
fn the_limits_hold() {
    let bounds = CacheConfig { bytes: 100_000, entries: 30, descriptors: 3, ..CacheConfig::default() };
    let mut script = bounded(bounds);
    for index in 0..200 {
        let size = if index % 10 == 0 { BIG_BYTES } else { 6_000 };
        fs::write(script.root().join(format!("f{index}")), vec![b'f'; size]).expect("written");
    }
    for index in 0..200 {
        // Often enough to be admitted, and to pay for the next eviction.
        for _ in 0..60 {
            let answer = ask(&mut script, &get(&format!("/f{index}")));
            assert!(body(&answer).iter().all(|byte| *byte == b'f'));
            let cached = script.service.stats.cached();
            assert!(
                cached.bytes <= 100_000 && cached.entries <= 30 && cached.descriptors <= 3,
                "{cached:?} for {bounds:?}"
            );
        }
    }
    let cached = script.service.stats.cached();
    assert!(cached.evictions > 0 && cached.bytes > 50_000 && cached.descriptors >= 2, "{cached:?}");
}

/// Evictions must be paid for by hits, so a site that is too large doesn't cause an admission per request.
#[test]
fn a_cache_that_is_too_small_does_not_churn() {
    let mut script = bounded(CacheConfig { entries: 10, ..CacheConfig::default() });
    for index in 0..100 {
        fs::write(script.root().join(format!("f{index}")), "f").expect("written");
    }
    let hits = hits(&mut script, |script| {
        for index in (0..100).cycle().take(40 * 100) {
            ask(script, &get(&format!("/f{index}")));
        }
    });
    let evictions = script.service.stats.cached().evictions;
    assert!(hits > 300, "a tenth of the site is kept: {hits} hits");
    assert!(evictions <= hits / 40, "{evictions} evictions for {hits} hits");
}

#[test]
fn descriptors_are_released_when_they_run_out() {
    let mut script = cached(CacheLevel::Descriptors);
    warm(&mut script, "/big");
    script.receive(&get("/none"));
    script.connection.opened(&mut script.worker, Err(std::io::Error::from_raw_os_error(24)));
    assert!(text(&script.run(usize::MAX)).starts_with("HTTP/1.1 503 "));
    assert_eq!(script.service.stats.cached().descriptors, 0);
}

#[test]
fn unseen_changes_show_after_a_second() {
    let mut script = cached(CacheLevel::Contents);
    fs::write(script.root().join("one"), "1").expect("written");
    fs::write(script.root().join("two"), "2").expect("written");
    symlink("one", script.root().join("link")).expect("linked");
    warm(&mut script, "/link");
    fs::remove_file(script.root().join("link")).expect("removed");
    symlink("two", script.root().join("link")).expect("linked");
    let changed = Instant::now();
    loop {
        let asked = changed.elapsed();
        if body(&ask(&mut script, &get("/link"))) == b"2" {
            break;
        }
        assert!(asked < Duration::from_millis(1200), "still the old target");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_future_date_is_not_cached() {
    let mut script = cached(CacheLevel::Contents);
    let file = File::options().write(true).open(script.root().join("a.txt")).expect("opened");
    file.set_modified(std::time::SystemTime::now() + Duration::from_secs(3600)).expect("touched");
    for _ in 0..5 {
        ask(&mut script, &get("/a.txt"));
    }
    assert_eq!(script.service.stats.cached().entries, 0, "its Last-Modified changes every second");
}

#[test]
fn the_date_of_a_hit_is_current() {
    let mut script = cached(CacheLevel::Contents);
    warm(&mut script, "/a.txt");
    let answer = text(&ask(&mut script, &get("/a.txt")));
    let date = answer.split("Date: ").nth(1).expect("a date").split("\r\n").next().expect("a line");
    let date = common::http::date::parse_date(date.as_bytes()).expect("a date");
    let now = std::time::UNIX_EPOCH.elapsed().expect("after 1970").as_secs().cast_signed();
    assert!((now - 2..=now).contains(&date), "{date} isn't {now}");
}
