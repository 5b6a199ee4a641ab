//! Variants: what is compressed comes back, what changes is noticed, and tags tell one coding from another.

use std::fs::{self, File, FileTimes};
use std::io::Read;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use common::{CacheConfig, CacheLevel, Compress, Config, SiteOptions};
use libtest_mimic::Failed;

use super::freshness::STALE_MAX;
use super::{DONE, Ground, Outcome, Test};
use crate::client::{Client, PATIENCE};
use crate::response::{Framing, Response};
use crate::row::{get, request};
use crate::server::Server;

pub(super) const TESTS: &[(&str, Test)] = &[
    ("text_is_compressed", text_is_compressed),
    ("what_is_not_worth_it_stays", what_is_not_worth_it_stays),
    ("only_where_it_is_wanted", only_where_it_is_wanted),
    ("tags_tell_codings_apart", tags_tell_codings_apart),
    ("sidecars_come_and_go", sidecars_come_and_go),
    ("compressed_text_that_changes", compressed_text_that_changes),
    ("text_that_returns_unchanged", text_that_returns_unchanged),
    ("many_files_at_once", many_files_at_once),
];

const LEVELS: [CacheLevel; 3] = [CacheLevel::Off, CacheLevel::Descriptors, CacheLevel::Contents];

const BROWSER: &str = "Accept-Encoding: gzip, deflate, br, zstd";
const GZIP: &str = "Accept-Encoding: gzip";

fn serve(ground: Ground<'_>, folder: &Path, level: CacheLevel, compress: Compress) -> Result<Server, Failed> {
    let cache = match level {
        CacheLevel::Off => CacheConfig::OFF,
        level => CacheConfig { level, ..CacheConfig::default() },
    };
    let options = SiteOptions { compress, ..SiteOptions::default() };
    Server::start(ground.backend, folder, options, Config { cache, ..Config::default() })
}

fn ask(client: &mut Client, target: &str, fields: &[&str]) -> Result<Response, Failed> {
    client.send(&get(target, fields))?;
    client.response(Framing::Content)
}

/// So many bytes that look like text, and differ with their number.
fn text(bytes: usize, number: usize) -> Vec<u8> {
    let line = |line: usize| format!("{number}: line {line} of {}\n", line * line % 9973).into_bytes();
    (0..).flat_map(line).take(bytes).collect()
}

/// So many bytes that nothing makes smaller.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[0]
    };
    (0..bytes).map(|_| next()).collect()
}

/// What a response says, whatever it is coded in.
fn decoded(response: &Response) -> Result<Vec<u8>, Failed> {
    let mut bytes = Vec::new();
    match response.field("Content-Encoding") {
        None => bytes.clone_from(&response.content),
        Some("br") => brotli::BrotliDecompress(&mut &response.content[..], &mut bytes)?,
        Some("gzip") => {
            flate2::read::GzDecoder::new(&response.content[..]).read_to_end(&mut bytes)?;
        }
        Some(other) => return Err(format!("nobody asked for {other}").into()),
    }
    Ok(bytes)
}

/// What is left to the thread of lowest priority between two requests: a client that asks all the time would starve it.
const PAUSE: Duration = Duration::from_millis(2);

/// Asks until the answer comes in this coding. Until then it is right all the same.
fn coded(
    client: &mut Client,
    target: &str,
    accepts: &str,
    coding: &str,
    content: &[u8],
) -> Result<Response, Failed> {
    let begun = Instant::now();
    loop {
        let response = ask(client, target, &[accepts])?;
        if response.status != 200 || decoded(&response)? != content {
            return Err(format!("{target}: {} and other content", response.status).into());
        }
        if response.require("Vary")? != "Accept-Encoding" {
            return Err("it varies".into());
        }
        if response.field("Content-Encoding") == Some(coding) {
            return Ok(response);
        }
        if begun.elapsed() > PATIENCE {
            return Err(format!("{target} is never in {coding}").into());
        }
        thread::sleep(PAUSE);
    }
}

/// Small text is compressed from memory, large text from its file.
fn text_is_compressed(ground: Ground<'_>) -> Outcome {
    let folder = ground.sites.scratch("variants")?;
    let files =
        [("small.html", 1024), ("page.html", 60_000), ("large.json", 70_000), ("largest.svg", 1 << 20)];
    for (name, bytes) in files {
        fs::write(folder.join(name), text(bytes, 0))?;
    }
    let server = serve(ground, &folder, CacheLevel::Contents, Compress::Auto)?;
    let mut client = Client::connect(server.address)?;
    for (name, bytes) in files {
        let (target, content) = (format!("/{name}"), text(bytes, 0));
        for (accepts, coding) in [(BROWSER, "br"), (GZIP, "gzip")] {
            let whole = coded(&mut client, &target, accepts, coding, &content)?;
            if whole.content.len() * 2 > bytes {
                return Err(format!("{} of {bytes} bytes in {coding}", whole.content.len()).into());
            }
            client.send(&request("HEAD", &target, &[accepts]))?;
            let head = client.response(Framing::HeadOnly)?;
            for field in ["Content-Encoding", "Content-Length", "Vary", "Content-Type"] {
                if head.require(field)? != whole.require(field)? {
                    return Err(format!("HEAD has another {field}").into());
                }
            }
        }
        let response = ask(&mut client, &target, &[])?;
        if response.content != content || response.field("Content-Encoding").is_some() {
            return Err("who accepts nothing gets something".into());
        }
    }
    drop(client);
    server.stop()?;
    DONE
}

/// Each file is asked for until another, which came into the cache later, is compressed: its own turn is over then.
fn what_is_not_worth_it_stays(ground: Ground<'_>) -> Outcome {
    let folder = ground.sites.scratch("variants")?;
    let files = [
        ("noise.txt", noise(20_000)),
        ("tiny.html", text(1023, 0)),
        ("picture.png", text(20_000, 0)),
        ("huge.txt", text((1 << 20) + 1, 0)),
    ];
    for (name, content) in &files {
        fs::write(folder.join(name), content)?;
    }
    fs::write(folder.join("last.html"), text(20_000, 1))?;
    let server = serve(ground, &folder, CacheLevel::Contents, Compress::Auto)?;
    let mut client = Client::connect(server.address)?;
    let expect_whole = |client: &mut Client| -> Result<(), Failed> {
        for (name, content) in &files {
            let response = ask(client, &format!("/{name}"), &[BROWSER])?;
            if response.field("Content-Encoding").is_some() || response.content != *content {
                return Err(format!("{name} isn't sent as it is").into());
            }
        }
        Ok(())
    };
    for _ in 0..6 {
        expect_whole(&mut client)?;
    }
    coded(&mut client, "/last.html", BROWSER, "br", &text(20_000, 1))?;
    expect_whole(&mut client)?;
    drop(client);
    server.stop()?;
    DONE
}

/// Without contents in the cache, or with `--compress` set otherwise, text stays as it is, however often it is asked for.
fn only_where_it_is_wanted(ground: Ground<'_>) -> Outcome {
    for (level, compress) in [
        (CacheLevel::Off, Compress::Auto),
        (CacheLevel::Descriptors, Compress::Auto),
        (CacheLevel::Contents, Compress::Sidecars),
        (CacheLevel::Contents, Compress::Off),
    ] {
        let folder = ground.sites.scratch("variants")?;
        fs::write(folder.join("page.html"), text(20_000, 0))?;
        let server = serve(ground, &folder, level, compress)?;
        let mut client = Client::connect(server.address)?;
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(200) {
            let response = ask(&mut client, "/page.html", &[BROWSER])?;
            if response.field("Content-Encoding").is_some() {
                return Err(format!("compressed with {level:?} and {compress:?}").into());
            }
            if response.field("Vary").is_some() != (compress != Compress::Off) {
                return Err(format!("Vary is {:?} with {compress:?}", response.field("Vary")).into());
            }
        }
        drop(client);
        server.stop()?;
    }
    DONE
}

/// A client that has one form of a file must never be told that another is still the same, nor be sent a part of it.
fn tags_tell_codings_apart(ground: Ground<'_>) -> Outcome {
    let folder = ground.sites.scratch("variants")?;
    let old = SystemTime::now() - Duration::from_secs(100);
    for (name, content) in [
        ("beside.css", &b"beside it is more"[..]),
        ("beside.css.br", b"in brotli"),
        ("made.html", &text(9_000, 0)),
    ] {
        fs::write(folder.join(name), content)?;
        File::options().write(true).open(folder.join(name))?.set_times(FileTimes::new().set_modified(old))?;
    }
    let server = serve(ground, &folder, CacheLevel::Contents, Compress::Auto)?;
    let mut client = Client::connect(server.address)?;
    coded(&mut client, "/made.html", BROWSER, "br", &text(9_000, 0))?;
    for target in ["/beside.css", "/made.html"] {
        let tag = |client: &mut Client, fields: &[&str]| -> Result<String, Failed> {
            let begun = Instant::now();
            loop {
                let tag = ask(client, target, fields)?.require("ETag")?.to_owned();
                if !tag.starts_with("W/") || begun.elapsed() > PATIENCE {
                    return Ok(tag);
                }
            }
        };
        let (whole, brotli) = (tag(&mut client, &[])?, tag(&mut client, &[BROWSER])?);
        if whole == brotli {
            return Err(format!("{target} has one tag in two forms").into());
        }
        let (if_whole, if_brotli) = (format!("If-None-Match: {whole}"), format!("If-None-Match: {brotli}"));
        let unless = format!("If-Range: {brotli}");
        for (fields, status, etag) in [
            (&[BROWSER, &if_brotli][..], 304, &brotli),
            (&[BROWSER, &if_whole], 200, &brotli),
            (&[&if_whole], 304, &whole),
            (&[&if_brotli], 200, &whole),
            (&[BROWSER, "Range: bytes=0-3"], 206, &whole),
            (&[BROWSER, "Range: bytes=0-3", &unless], 200, &whole),
        ] {
            let response = ask(&mut client, target, fields)?;
            let found = (response.status, response.require("ETag")?, response.field("Vary"));
            if found != (status, etag, Some("Accept-Encoding")) {
                return Err(format!("{target} with {fields:?}: {found:?}").into());
            }
        }
    }
    drop(client);
    server.stop()?;
    DONE
}

/// What may be done to a site in which `file.css` is `a whole file`, and what a browser gets then.
type Change = (&'static str, fn(&Path) -> std::io::Result<()>, &'static str);

const CHANGES: &[Change] = &[
    ("one appears", |root| fs::write(root.join("file.css.gz"), "in gzip"), "in gzip"),
    ("a better one appears", |root| fs::write(root.join("file.css.br"), "in brotli"), "in brotli"),
    ("it is overwritten", |root| fs::write(root.join("file.css.br"), "in br, anew"), "in br, anew"),
    (
        "it is replaced",
        |root| {
            fs::write(root.join("next"), "in br, again")?;
            fs::rename(root.join("next"), root.join("file.css.br"))
        },
        "in br, again",
    ),
    ("it vanishes", |root| fs::remove_file(root.join("file.css.br")), "in gzip"),
    (
        "the file becomes newer",
        |root| {
            let later = FileTimes::new().set_modified(SystemTime::now() + Duration::from_secs(5));
            File::options().write(true).open(root.join("file.css"))?.set_times(later)
        },
        "a whole file",
    ),
    (
        "it becomes newer, too",
        |root| {
            let later = FileTimes::new().set_modified(SystemTime::now() + Duration::from_secs(5));
            File::options().write(true).open(root.join("file.css.gz"))?.set_times(later)
        },
        "in gzip",
    ),
    ("it is moved away", |root| fs::rename(root.join("file.css.gz"), root.join("gone")), "a whole file"),
    ("it returns", |root| fs::rename(root.join("gone"), root.join("file.css.gz")), "in gzip"),
    ("the file vanishes", |root| fs::remove_file(root.join("file.css")), "404"),
];

fn sidecars_come_and_go(ground: Ground<'_>) -> Outcome {
    for level in LEVELS {
        let root = ground.sites.scratch("variants")?;
        fs::write(root.join("file.css"), "a whole file")?;
        let server = serve(ground, &root, level, Compress::Auto)?;
        let mut client = Client::connect(server.address)?;
        for _ in 0..4 {
            ask(&mut client, "/file.css", &[BROWSER])?;
        }
        for (what, change, expected) in CHANGES {
            change(&root)?;
            let (changed, mut good) = (Instant::now(), 0);
            while good < 4 {
                let asked = changed.elapsed();
                let response = ask(&mut client, "/file.css", &[BROWSER])?;
                let is_expected = match *expected {
                    "404" => response.status == 404,
                    expected => response.status == 200 && response.content == expected.as_bytes(),
                };
                if is_expected {
                    good += 1;
                } else if good > 0 || asked > STALE_MAX {
                    let shown = response.content.escape_ascii();
                    return Err(format!("{level:?}, {what}: \"{shown}\" {asked:?} later").into());
                }
            }
        }
        drop(client);
        server.stop()?;
    }
    DONE
}

/// While a file is replaced again and again, nobody is sent what it was before, in whatever coding.
fn compressed_text_that_changes(ground: Ground<'_>) -> Outcome {
    const VERSIONS: usize = 60;
    for bytes in [20_000, 100_000] {
        let root = ground.sites.scratch("variants")?;
        fs::write(root.join("page.html"), text(bytes, 0))?;
        let server = serve(ground, &root, CacheLevel::Contents, Compress::Auto)?;
        let (settled, address) = (AtomicUsize::new(0), server.address);
        let coded: usize = thread::scope(|scope| {
            let reader = scope.spawn(|| read_versions(address, bytes, &settled, VERSIONS));
            for version in 1..=VERSIONS {
                fs::write(root.join("next"), text(bytes, version))?;
                fs::rename(root.join("next"), root.join("page.html"))?;
                thread::sleep(STALE_MAX);
                settled.store(version, SeqCst);
            }
            reader.join().map_err(|_panic| "the reader has panicked")?
        })?;
        if coded == 0 {
            return Err(format!("no version of {bytes} bytes was ever compressed").into());
        }
        server.stop()?;
    }
    DONE
}

/// Reads until the last version has come in a coding; none may be older than the one that had settled when it was asked
/// for. How many answers were coded.
fn read_versions(
    address: std::net::SocketAddr,
    bytes: usize,
    settled: &AtomicUsize,
    last: usize,
) -> Result<usize, Failed> {
    let mut client = Client::connect(address)?;
    let (mut coded, mut over) = (0, None);
    loop {
        let least = settled.load(SeqCst);
        let response = ask(&mut client, "/page.html", &[BROWSER])?;
        let content = decoded(&response)?;
        let digits = content.split(|byte| *byte == b':').next().unwrap_or_default();
        let version: usize = String::from_utf8_lossy(digits).parse()?;
        if content != text(bytes, version) {
            return Err(format!("version {version} is torn").into());
        }
        if version < least {
            return Err(format!("version {version} is sent after {least}").into());
        }
        let is_coded = response.field("Content-Encoding").is_some();
        coded += usize::from(is_coded);
        if version == last && is_coded {
            return Ok(coded);
        }
        let over = *over.get_or_insert_with(Instant::now);
        if least == last && over.elapsed() > PATIENCE * 2 {
            return Err("the last version is never compressed".into());
        }
        thread::sleep(PAUSE);
    }
}

/// A file that leaves the cache and returns as it was isn't compressed again: its variant is there at once.
fn text_that_returns_unchanged(ground: Ground<'_>) -> Outcome {
    let root = ground.sites.scratch("variants")?;
    let content = text(60_000, 0);
    fs::write(root.join("page.html"), &content)?;
    let server = serve(ground, &root, CacheLevel::Contents, Compress::Auto)?;
    let mut client = Client::connect(server.address)?;
    coded(&mut client, "/page.html", BROWSER, "br", &content)?;
    for _ in 0..5 {
        fs::rename(root.join("page.html"), root.join("away"))?;
        fs::rename(root.join("away"), root.join("page.html"))?;
        // It is let in at its first request, since it was asked for often.
        if ask(&mut client, "/page.html", &[BROWSER])?.field("Content-Encoding") != Some("br") {
            return Err("it is compressed once more".into());
        }
    }
    drop(client);
    server.stop()?;
    DONE
}

/// More files than may wait at once are compressed in the end, and those of one worker for all.
fn many_files_at_once(ground: Ground<'_>) -> Outcome {
    const FILES: usize = 300;
    let root = ground.sites.scratch("variants")?;
    for number in 0..FILES {
        fs::write(root.join(format!("{number}.html")), text(1_100, number))?;
    }
    let server = serve(ground, &root, CacheLevel::Contents, Compress::Auto)?;
    let mut client = Client::connect(server.address)?;
    let mut left: Vec<usize> = (0..FILES).collect();
    let begun = Instant::now();
    while !left.is_empty() {
        if begun.elapsed() > PATIENCE * 3 {
            return Err(format!("{} of {FILES} files are never compressed", left.len()).into());
        }
        let mut next = Vec::new();
        for number in left {
            let response = ask(&mut client, &format!("/{number}.html"), &[BROWSER])?;
            if decoded(&response)? != text(1_100, number) {
                return Err(format!("file {number} is another").into());
            }
            if response.field("Content-Encoding") != Some("br") {
                next.push(number);
            }
        }
        left = next;
        thread::sleep(PAUSE * 10);
    }
    drop(client);
    server.stop()?;
    DONE
}
