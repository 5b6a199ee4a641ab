//! The sites used by the tests, on a real file system: on tmpfs every ring read would go to a kernel worker thread, and
//! `openat2(2)` behaves differently in some cases.

use std::ffi::OsStr;
use std::fs::{self, File, FileTimes};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::http::conditional::{EtagPolicy, FileState, Timestamp};
use rustix::fs::{Advice, CWD, FileType, Mode, fadvise, makedev, mknodat};
use rustix::io::Errno;
use tempfile::TempDir;

use crate::client::PATIENCE;
use crate::deadline;
use crate::pattern::Pattern;

/// The modification time of every file: Thu, 29 Feb 2024 12:34:56 GMT, plus some nanoseconds.
pub const MODIFIED: &str = "Thu, 29 Feb 2024 12:34:56 GMT";
pub(crate) const MODIFIED_UNIX: Duration = Duration::new(1_709_210_096, 123_456_789);

/// The content of `/digits.txt`, the file most rows request.
pub const DIGITS: &str = "0123456789";

/// The content of every directory's index page.
pub const INDEX: &str = "<!doctype html><title>index</title>\n";

/// The content of the custom `/404.html`.
pub const MISSING_PAGE: &str = "<!doctype html><title>not here</title>\n";

/// The content of the custom `/deep/404.html` and `/1/2/404.html`.
pub const NEARER_PAGE: &str = "<!doctype html><title>not down here</title>\n";

/// The fields of the site with rules. The templates are an example of Netlify's. What isn't a field and what would break
/// framing is not in force.
pub const HEADERS: &str = "\
X-Early: no path yet
# A comment
/*
  X-Frame-Options: DENY
  Content-Length: 3
  Transfer-Encoding: chunked
  Connection: close
  ETag: \"mine\"
  Location: /
  no field
  Referrer-Policy: no-referrer

/assets/*
  Cache-Control: public, max-age=31536000, immutable
  ! X-Frame-Options

/assets/odd.txt
  Content-Type: application/x-odd
  X-Content-Type-Options: nosniff
  Vary: Origin
/assets/long.txt
  Content-Type: application/x-long

/
  X-Page: root
/index.html
  X-Page: name
/app/*
  X-Page: app

/templates/index.html
  X-XSS-Protection: 1; mode=block
/templates/index2.html
  X-Frame-Options: SAMEORIGIN
/templates/*
  cache-control: max-age=0
  cache-control: no-cache
  cache-control: no-store
  cache-control: must-revalidate
";

/// The redirects of the site with rules. Those in front of the comment are examples of Netlify's and Cloudflare's.
pub const REDIRECTS: &str = "\
/home              /
/blog/my-post.php  /blog/my-post
/cuties            https://www.petsofnetlify.com
/my-redirect       /                                301
/temp              /digits.txt                      302
/pass-through      /index.html                      200
/ecommerce         /store-closed.html               404
/news/:month/:date/:year/:slug  /blog/:year/:month/:date/:slug
/news/*            /blog/:splat
/articles id=:id tag=:tag  /posts/:tag/:id          301
/articles id=:id   /posts/:id                       301
/best-pets/dogs    /best-pets/cats.html             200!
/twitch            https://twitch.tv
/trailing          /trailing/                       301
/blog/*            https://blog.my.domain/:splat
# Others
/see               /digits.txt                      303
/keep              /digits.txt?own=1                307
/kept              /digits.txt                      308
/shadowed.txt      /home                            302
/forced.txt        /digits.txt                      200!
/forced-away.txt   /home                            302!
/forced-for a=b    /home                            302!
/out/*             /:splat                          302
/docs              /dir                             200
/bare              /home                            302
/gone              /gone.txt                        410
/gone-bare         /nothing                         410
/lost              /nothing                         200
/loop              /loop                            200
/ping              /pong                            200
/pong              /ping                            200
/leak              /_headers                        200
/leak-hidden       /.hidden                         200
/_redirects        /digits.txt                      200!
/.hidden           /home                            302
https://old.example/*  https://new.example/:splat
/a-broken-line
/app/*             /index.html                      200
";

/// The content of every file outside the root. No response may contain it.
pub const SECRET: &str = "SECRET: outside the root";

/// `/kilobyte.txt`: 1000 bytes, large enough for separate ranges.
#[must_use]
pub fn kilobyte() -> String {
    (0..100).map(|ten| format!("{ten:03}-line.\n")).collect::<String>()[..1000].to_owned()
}

/// Files with pattern content and their sizes: around every buffer size a server may use.
pub const PATTERNS: &[(&str, u64)] = &[
    ("1.bin", 1),
    ("4095.bin", 4095),
    ("4096.bin", 4096),
    ("65535.bin", 65_535),
    ("65536.bin", 65_536),
    ("65537.bin", 65_537),
    ("131073.bin", 131_073),
    ("300000.bin", 300_000),
    ("1m.bin", 1 << 20),
    ("8m.bin", 8 << 20),
];

/// The pattern for the file of this size.
#[must_use]
pub fn pattern_of(bytes: u64) -> Pattern {
    Pattern::new(bytes)
}

/// `/sparse.bin`: a hole of 5 GiB, with some bytes at the end and across the 4 GiB boundary.
pub const SPARSE_BYTES: u64 = 5 << 30;
/// The last bytes of the sparse file.
pub const SPARSE_TAIL: &str = "the last bytes of 5 GiB";
/// The bytes across position 2³², eight before it and eight after.
pub const SPARSE_MIDDLE: &str = "below4G|above4G|";
/// The position 2³².
pub const FOUR_GIB: u64 = 1 << 32;

/// The test sites, in a folder that is deleted on drop.
#[derive(Debug)]
pub struct Sites {
    folder: TempDir,
}

impl Sites {
    /// Builds all sites below the build directory of the running test.
    ///
    /// # Errors
    /// Errors of the file system.
    pub fn build() -> io::Result<Sites> {
        let sites = Sites { folder: tempfile::Builder::new().prefix("sites-").tempdir_in(build_folder()?)? };
        // Children that drop their privileges need access.
        fs::set_permissions(sites.folder.path(), fs::Permissions::from_mode(0o755))?;
        sites.build_outside()?;
        sites.build_types()?;
        sites.build_times()?;
        sites.build_names()?;
        sites.build_directories()?;
        sites.build_links()?;
        sites.build_specials()?;
        sites.build_large()?;
        sites.build_rules()?;
        sites.build_sidecars()?;
        sites.build_flags()?;
        sites.build_custom()?;
        sites.settle()?;
        Ok(sites)
    }

    /// Waits until no file is too young for a strong entity tag.
    fn settle(&self) -> io::Result<()> {
        let last = fs::metadata(self.custom().join("404.html"))?;
        let nanoseconds = u32::try_from(last.ctime_nsec()).map_err(io::Error::other)?;
        let changed = Timestamp { seconds: last.ctime(), nanoseconds };
        let file = FileState { inode: last.ino(), size: last.len(), modified: changed, changed };
        let is_settled = || {
            let now = UNIX_EPOCH.elapsed().unwrap_or_default();
            let now = Timestamp { seconds: now.as_secs().cast_signed(), nanoseconds: now.subsec_nanos() };
            file.settles_in(EtagPolicy::Strict, now).is_zero()
        };
        deadline::within(PATIENCE, "the files to be old", is_settled)
            .map_err(|failed| io::Error::other(failed.message().unwrap_or_default().to_owned()))
    }

    /// The main site.
    #[must_use]
    pub fn main(&self) -> PathBuf {
        self.folder.path().join("main")
    }

    /// A site with a `404.html`.
    #[must_use]
    pub fn custom(&self) -> PathBuf {
        self.folder.path().join("custom")
    }

    /// A site with `_headers` and `_redirects`.
    #[must_use]
    pub fn rules(&self) -> PathBuf {
        self.folder.path().join("rules")
    }

    /// A site with files beside others, in codings.
    #[must_use]
    pub fn sidecars(&self) -> PathBuf {
        self.folder.path().join("sidecars")
    }

    /// A site for flags.
    #[must_use]
    pub fn flags(&self) -> PathBuf {
        self.folder.path().join("flags")
    }

    /// A new empty site, for a test that changes files.
    ///
    /// # Errors
    /// Errors of the file system.
    pub fn scratch(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.folder.path().join("scratch").join(name);
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::create_dir_all(&path)?;
        Ok(path)
    }

    /// A folder outside the sites' roots, with a secret in it.
    #[must_use]
    pub fn outside(&self) -> PathBuf {
        self.folder.path().join("outside")
    }

    fn build_outside(&self) -> io::Result<()> {
        for name in ["secret.txt", "index.html", "digits.txt", "file.txt"] {
            write(&self.outside().join(name), SECRET)?;
        }
        // The file that `/../secret.txt` would name.
        write(&self.folder.path().join("secret.txt"), SECRET)
    }

    fn build_types(&self) -> io::Result<()> {
        let main = self.main();
        for (name, content) in [
            ("index.html", INDEX),
            ("digits.txt", DIGITS),
            ("kilobyte.txt", &kilobyte()),
            ("empty.txt", ""),
            ("style.css", "p { margin: 0 }\n"),
            ("UPPER.CSS", "p { margin: 0 }\n"),
            ("app.js", "export {};\n"),
            ("data.json", "{}\n"),
            ("picture.svg", "<svg xmlns=\"http://www.w3.org/2000/svg\"/>\n"),
            ("picture.png", "\u{89}PNG"),
            ("font.woff2", "wOF2"),
            ("module.wasm", "\0asm"),
            ("archive.tar.gz", "\u{1f}\u{8b}"),
            ("module.mjs", "export {};\n"),
            ("module.cjs", "module.exports = {};\n"),
            ("source.ts", "export type A = 1;\n"),
            ("source.mts", "export type A = 1;\n"),
            ("app.js.map", "{}\n"),
            ("site.webmanifest", "{}\n"),
            ("feed.xml", "<?xml version=\"1.0\" encoding=\"iso-8859-1\"?><a/>\n"),
            ("page.xhtml", "<html xmlns=\"http://www.w3.org/1999/xhtml\"/>\n"),
            ("live.m3u8", "#EXTM3U\n"),
            ("titles.vtt", "WEBVTT\n"),
            ("picture.svgz", &kilobyte()),
            ("README", "no extension\n"),
            ("strange.what-is-this", "unknown extension\n"),
        ] {
            write(&main.join(name), content)?;
        }
        Ok(())
    }

    /// Files whose modification times mean nothing.
    fn build_times(&self) -> io::Result<()> {
        for (name, time) in [
            ("epoch.txt", UNIX_EPOCH),
            ("one.txt", UNIX_EPOCH + Duration::from_secs(1)),
            ("before.txt", UNIX_EPOCH - Duration::from_secs(86_400)),
            ("future.txt", UNIX_EPOCH + Duration::from_secs(4_102_444_800)),
        ] {
            let path = self.main().join(name);
            write(&path, DIGITS)?;
            File::options().write(true).open(path)?.set_modified(time)?;
        }
        Ok(())
    }

    /// Names that need correct percent-encoding and decoding.
    fn build_names(&self) -> io::Result<()> {
        for name in [
            &b"with space.txt"[..],
            b"100%.txt",
            b"%41.txt",
            b"plus+sign.txt",
            b"semi;colon,comma.txt",
            b"quote\".txt",
            b"back\\slash.txt",
            b"question?mark.txt",
            b"hash#sign.txt",
            b"line\r\nbreak.txt",
            "\u{fc}ml\u{e4}ut.txt".as_bytes(),
            b"latin-\xfc.txt",
            b"\xff\xfe.txt",
            b"...txt",
            b"two..dots.txt",
            b"tilde~.txt",
        ] {
            write(&self.main().join(OsStr::from_bytes(name)), DIGITS)?;
        }
        Ok(())
    }

    fn build_directories(&self) -> io::Result<()> {
        let main = self.main();
        for name in [
            &b"dir"[..],
            b"dir/nested",
            b"evil.example",
            b"with space",
            b"percent%",
            b"question?",
            b"line\r\nbreak",
            b"back\\slash",
            "\u{fc}ml\u{e4}ut".as_bytes(),
            b"colon:name",
        ] {
            write(&main.join(OsStr::from_bytes(name)).join("index.html"), INDEX)?;
        }
        fs::create_dir_all(main.join("odd/index.html"))?;
        for path in [
            "dir/file.txt",
            "dir/.hidden",
            "bare/file.txt",
            "bare/.hidden",
            "bare/<tag>&amp;.txt",
            ".hidden",
            ".git/config",
            ".well-known/token",
            ".well-known/.hidden",
            "dir/.well-known/token",
        ] {
            write(&main.join(path), DIGITS)?;
        }
        Ok(())
    }

    fn build_links(&self) -> io::Result<()> {
        let main = self.main();
        let absolute = main.join("digits.txt");
        for (name, to) in [
            ("link-file", Path::new("digits.txt")),
            ("link-dir", Path::new("dir")),
            ("link-up-and-in", Path::new("dir/../digits.txt")),
            ("link-chain", Path::new("link-file")),
            ("dir/link-up", Path::new("../digits.txt")),
            ("link-root", Path::new(".")),
            ("link-outside", Path::new("../outside/secret.txt")),
            ("link-outside-dir", Path::new("../outside")),
            ("link-out-and-in", Path::new("../main/digits.txt")),
            ("link-absolute", &absolute),
            ("link-dangling", Path::new("nowhere")),
            ("link-loop", Path::new("link-loop")),
            ("link-proc", Path::new("/proc/self/environ")),
            ("link-device", Path::new("/dev/zero")),
        ] {
            symlink(to, main.join(name))?;
        }
        Ok(())
    }

    fn build_specials(&self) -> io::Result<()> {
        for (name, kind) in [("fifo", FileType::Fifo), ("socket", FileType::Socket)] {
            mknodat(CWD, self.main().join(name), kind, Mode::from_raw_mode(0o644), 0)?;
        }
        Ok(())
    }

    /// Makes a device file in a folder; this requires root.
    ///
    /// # Errors
    /// Errors of the file system; `Ok(false)` if it isn't permitted.
    pub fn make_device(folder: &Path) -> io::Result<bool> {
        // 1:5 is /dev/zero (Documentation/admin-guide/devices.txt): endless, if it were served.
        match mknodat(
            CWD,
            folder.join("device"),
            FileType::CharacterDevice,
            Mode::from_raw_mode(0o644),
            makedev(1, 5),
        ) {
            Ok(()) => Ok(true),
            Err(Errno::PERM | Errno::ACCESS) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn build_large(&self) -> io::Result<()> {
        for (name, bytes) in PATTERNS {
            write_pattern(&self.main().join(name), *bytes)?;
        }
        let path = self.main().join("sparse.bin");
        let file = File::create(&path)?;
        file.set_len(SPARSE_BYTES)?;
        file.write_all_at(SPARSE_MIDDLE.as_bytes(), FOUR_GIB - 8)?;
        file.write_all_at(SPARSE_TAIL.as_bytes(), SPARSE_BYTES - SPARSE_TAIL.len() as u64)?;
        file.set_modified(modified())
    }

    fn build_rules(&self) -> io::Result<()> {
        let at = |name: &str| self.rules().join(name);
        for name in ["index.html", "dir/index.html", "templates/index.html", "best-pets/cats.html"] {
            write(&at(name), INDEX)?;
        }
        for name in ["digits.txt", "assets/plain.txt", "assets/odd.txt", "bare/file.txt", "shadowed.txt"] {
            write(&at(name), DIGITS)?;
        }
        for name in ["forced.txt", "forced-away.txt", "best-pets/dogs", ".hidden"] {
            write(&at(name), SECRET)?;
        }
        write(&at("store-closed.html"), MISSING_PAGE)?;
        write(&at("gone.txt"), "gone\n")?;
        write(&at("assets/long.txt"), kilobyte())?;
        write(&at("404.html"), MISSING_PAGE)?;
        write(&at("_headers"), HEADERS)?;
        write(&at("_redirects"), REDIRECTS)
    }

    fn build_sidecars(&self) -> io::Result<()> {
        let at = |name: &str| self.sidecars().join(name);
        for (name, content) in [
            ("digits.txt", DIGITS),
            ("page.html", INDEX),
            ("page.html.br", "page in brotli"),
            ("page.html.zst", "page in zstd"),
            ("page.html.gz", "page in gzip"),
            ("style.css.gz", "style in gzip"),
            ("dir/index.html", INDEX),
            ("dir/index.html.gz", "index in gzip"),
            ("picture.svg", "<svg/>"),
            ("picture.svg.br", "picture in brotli"),
            ("data.json", "{}"),
            ("data.json.zst", "data in zstd"),
            ("picture.png", "picture"),
            ("picture.png.br", SECRET),
            ("lonely.css.br", SECRET),
            ("ruled.css.gz", "ruled in gzip"),
            ("forced.css.gz", SECRET),
            ("older.css.br", SECRET),
            ("empty.css.br", ""),
            ("404.html", MISSING_PAGE),
            ("404.html.br", SECRET),
            (
                "_headers",
                "/ruled.css\n Vary: Origin\n Cache-Control: no-cache\n/rewritten\n X-Asked: rewritten\n",
            ),
            ("_redirects", "/rewritten /page.html 200\n/away /page.html 302\n/forced.css /page.html 302!\n"),
        ] {
            write(&at(name), content)?;
        }
        for name in
            ["style", "ruled", "forced", "older", "empty", "folder", "fifo", "out", "nowhere", "linked"]
        {
            write(&at(&format!("{name}.css")), "a { }\n")?;
        }
        let before = FileTimes::new().set_modified(modified() - Duration::from_secs(1));
        File::options().write(true).open(at("older.css.br"))?.set_times(before)?;
        fs::create_dir(at("folder.css.br"))?;
        mknodat(CWD, at("fifo.css.br"), FileType::Fifo, Mode::RUSR, 0)?;
        symlink("../outside/404.html", at("out.css.br"))?;
        symlink("nothing", at("nowhere.css.br"))?;
        symlink("style.css.gz", at("linked.css.gz"))?;
        symlink("dir", at("linked"))
    }

    fn build_flags(&self) -> io::Result<()> {
        let at = |name: &str| self.flags().join(name);
        for (name, content) in [
            ("digits.txt", DIGITS),
            ("own.txt", DIGITS),
            ("text.bar", DIGITS),
            ("TEXT.BAR", DIGITS),
            ("plain", DIGITS),
            ("style.css", "a { }\n"),
            ("index.html", INDEX),
            ("home.htm", "home page"),
            ("dir/home.htm", "home of dir"),
            ("both/index.html", INDEX),
            ("round/index.html", INDEX),
            ("both.html", "both page"),
            ("about.html", "about page"),
            ("about/team.html", "team page"),
            ("team.html", "team page of the root"),
            ("v1.2.html", "version page"),
            ("a \"b\".html", "odd page"),
            ("plain.html", "plain page"),
            ("forced.html", "forced page"),
            ("moved.html", SECRET),
            ("_headers.html", "page about fields"),
            ("coded.html", "coded page"),
            ("coded.html.gz", "coded in gzip"),
            ("bare/file.txt", DIGITS),
            ("deep/404.html", "deep page"),
            (".secret.html", SECRET),
            (".git/config.html", SECRET),
            (".well-known.html", SECRET),
            (
                "_headers",
                "/own.txt\n Cache-Control: no-store\n ! Access-Control-Allow-Origin\n/\n X-Page: root\n\
                 /home.htm\n X-Page: name\n/about\n X-Page: clean\n/about.html\n X-Page: name\n",
            ),
            (
                "_redirects",
                "/old /about\n/team /about 302\n/app/* /about 200\n/named/* /about.html 200\n\
                 /lost/* /nowhere 200\n/closed/* /deep/404.html 404\n/forced /forced.html 301!\n\
                 /round/ /round/index.html 301!\n/moved.html /about 302!\n",
            ),
        ] {
            write(&at(name), content)?;
        }
        symlink("../outside/404.html", at("outside.html"))
    }

    fn build_custom(&self) -> io::Result<()> {
        write(&self.custom().join("index.html"), INDEX)?;
        write(&self.custom().join("digits.txt"), DIGITS)?;
        write(&self.custom().join("bare/file.txt"), DIGITS)?;
        write(&self.custom().join("deep/er/file.txt"), DIGITS)?;
        for folder in ["deep", "1/2"] {
            write(&self.custom().join(folder).join("404.html"), NEARER_PAGE)?;
        }
        // None of these is a page for what is missing.
        write(&self.custom().join("deep/.hidden/404.html"), SECRET)?;
        write(&self.outside().join("404.html"), SECRET)?;
        symlink("../../outside/404.html", self.custom().join("bare/404.html"))?;
        fs::create_dir_all(self.custom().join("deep/er/404.html"))?;
        write(&self.custom().join("404.html"), MISSING_PAGE)
    }
}

/// Writes a file and sets its modification time.
///
/// # Errors
/// Errors of the file system.
pub fn write(path: &Path, content: impl AsRef<[u8]>) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, content)?;
    File::options().write(true).open(path)?.set_modified(modified())
}

/// Writes a file of this size with its pattern, and sets its modification time.
///
/// # Errors
/// Errors of the file system.
pub fn write_pattern(path: &Path, bytes: u64) -> io::Result<()> {
    let count = usize::try_from(bytes).map_err(io::Error::other)?;
    write(path, pattern_of(bytes).bytes(0, count))
}

/// Evicts a file from the page cache. Only data already written to disk can be evicted. Disk reads show afterwards
/// whether that worked; probing for a page would make the kernel fetch it.
///
/// # Errors
/// Errors of the file system.
pub fn cool(path: &Path) -> io::Result<()> {
    let file = File::open(path)?;
    file.sync_all()?;
    Ok(fadvise(&file, 0, None, Advice::DontNeed)?)
}

fn modified() -> SystemTime {
    UNIX_EPOCH + MODIFIED_UNIX
}

/// A folder in the build directory, which is on the same file system as the project.
pub(crate) fn build_folder() -> io::Result<PathBuf> {
    // target/debug/deps/exchanges-0123456789abcdef
    let executable = std::env::current_exe()?;
    let target =
        executable.ancestors().nth(3).ok_or_else(|| io::Error::other("the test has no build directory"))?;
    let folder = target.join("tmp");
    fs::create_dir_all(&folder)?;
    Ok(folder)
}
