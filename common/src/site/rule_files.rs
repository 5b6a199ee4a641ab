//! The rule files of a site: read from its root, and read again when they have changed.

use std::collections::BTreeSet;
use std::ffi::CStr;
use std::fs::File;
use std::hash::{DefaultHasher, Hasher};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::UNIX_EPOCH;

use rustix::fs::FileType;
use rustix::io::Errno;

use crate::http::additions::Additions;
use crate::http::conditional::{EtagPolicy, Timestamp};
use crate::site::addresses::{Address, Alone};
use crate::site::file::Metadata;
use crate::site::rules::{
    Asked, FIELDS_BYTES_MAX, FILE_BYTES_MAX, Faults, Fields, HEADERS_FILE, HeaderRules, LINE_BYTES_MAX,
    REDIRECTS_FILE, Redirect, RedirectRules,
};

/// Bytes that are read of a rule file: those within the bound, and enough to show the line that is beyond it.
const READ_BYTES_MAX: usize = FILE_BYTES_MAX + LINE_BYTES_MAX;

/// What a site says about its own answers.
#[derive(Debug, Default)]
pub(crate) struct SiteRules {
    headers: Arc<HeaderRules>,
    redirects: Arc<RedirectRules>,
    /// There are some: every request asks.
    has_any: bool,
    /// What flags say; among `headers`, too, in front of what the file says.
    of_flags: Arc<HeaderRules>,
    /// The files that they were read from.
    sources: [Source; 2],
    /// What is wrong with those, a line for each fault.
    faults: Vec<String>,
    /// The first path that has more fields than an answer may hold.
    overfull: OnceLock<Box<[u8]>>,
    is_overfull_told: AtomicBool,
    /// The lines of redirects whose target was missing, as they were told.
    targets_missing: Mutex<BTreeSet<usize>>,
}

/// A rule file as it was read.
#[derive(Debug)]
struct Source {
    state: State,
    digest: u64,
    /// Whether rules of the file are in force: those that it has, or had when it could be read.
    is_in_force: bool,
    /// Whether any change since then shows in the state. A file that was written a moment ago may be written once more
    /// in the same tick of its clock.
    is_settled: AtomicBool,
}

/// What is at the path of a rule file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Absent,
    /// It can't be read, or isn't a file.
    Unreadable(Errno),
    File(Metadata),
}

impl Default for Source {
    fn default() -> Self {
        Source { state: State::Absent, digest: 0, is_in_force: false, is_settled: AtomicBool::new(true) }
    }
}

/// What the rules make of a file whenever it is sent, decided when it enters the cache.
#[derive(Clone, Debug, Default)]
pub(crate) struct FileRules {
    /// Where the file is asked for by its own path; for an index page that is its directory, for one with a clean address
    /// that.
    pub(crate) additions: Option<Arc<Additions>>,
    /// There are rules for fields, so those of another path may differ.
    pub(crate) depends_on_path: bool,
    /// A page with another address has other fields when its name is asked for.
    pub(crate) depends_on_name: bool,
    /// A redirect may count although there is the file.
    pub(crate) may_be_forced: bool,
    /// That, or who asks for its name may be sent to its address.
    pub(crate) may_be_overruled: bool,
    /// What is known of the clean address of a page, where it has one.
    pub(crate) alone: Option<Alone>,
}

impl SiteRules {
    /// Reads both files; what flags say of fields comes before them. `open` opens a path beneath the root. This may wait
    /// for a disk.
    pub(crate) fn load(
        of_flags: &Arc<HeaderRules>,
        open: impl Fn(&CStr) -> rustix::io::Result<OwnedFd>,
    ) -> SiteRules {
        let mut faults = Vec::new();
        let (fields, of_fields) = Source::read(HEADERS_FILE, &open, &mut faults);
        let (own, wrong) = HeaderRules::parse(&fields);
        let headers = Arc::new(of_flags.then(own));
        note(HEADERS_FILE, &wrong, &mut faults);
        let (redirects, of_redirects) = Source::read(REDIRECTS_FILE, &open, &mut faults);
        let (redirects, wrong) = RedirectRules::parse(&redirects);
        note(REDIRECTS_FILE, &wrong, &mut faults);
        let (of_flags, sources) = (Arc::clone(of_flags), [of_fields, of_redirects]);
        let redirects = Arc::new(redirects);
        SiteRules { headers, redirects, of_flags, sources, faults, ..SiteRules::default() }.counted()
    }

    fn counted(mut self) -> SiteRules {
        self.has_any = !self.headers.is_empty() || !self.redirects.is_empty();
        self
    }

    /// Takes over the rules of a file that can't be read any more: they may be what protects the site.
    fn keep(mut self, before: &SiteRules) -> SiteRules {
        for (at, name) in [HEADERS_FILE, REDIRECTS_FILE].into_iter().enumerate() {
            let (was, is) = (&before.sources[at], &mut self.sources[at]);
            if !was.is_in_force || !matches!(is.state, State::Unreadable(_)) {
                continue;
            }
            (is.is_in_force, is.digest) = (true, was.digest);
            match name {
                HEADERS_FILE => self.headers = Arc::clone(&before.headers),
                _ => self.redirects = Arc::clone(&before.redirects),
            }
            for fault in self.faults.iter_mut().filter(|fault| fault.starts_with(name)) {
                *fault += "; the rules that it had stay in force";
            }
        }
        self.counted()
    }

    /// The rules as the files have them now, if those are others than they were. When nothing can be found out, for want
    /// of descriptors or because of a bad disk, nothing has changed. This may wait for a disk.
    pub(crate) fn revised(&self, open: impl Fn(&CStr) -> rustix::io::Result<OwnedFd>) -> Option<SiteRules> {
        let mut is_certain = true;
        for (name, source) in [HEADERS_FILE, REDIRECTS_FILE].into_iter().zip(&self.sources) {
            let now = match State::of(&opened(name, &open)) {
                State::Unreadable(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::IO | Errno::AGAIN) => {
                    return None;
                }
                now => now,
            };
            is_certain &= now == source.state && source.is_settled.load(Relaxed);
        }
        if is_certain {
            return None;
        }
        let now = SiteRules::load(&self.of_flags, open).keep(self);
        let is_same =
            |(before, now): (&Source, &Source)| (before.state, before.digest) == (now.state, now.digest);
        if !self.sources.iter().zip(&now.sources).all(is_same) {
            return Some(now);
        }
        for (before, now) in self.sources.iter().zip(&now.sources) {
            before.is_settled.store(now.is_settled.load(Relaxed), Relaxed);
        }
        None
    }

    /// Whether these were read from the same files in the same state as those.
    pub(crate) fn are_as(&self, others: &SiteRules) -> bool {
        self.sources.iter().zip(&others.sources).all(|(one, other)| one.state == other.state)
    }

    /// What is wrong with the files, a line for each fault.
    pub(crate) fn faults(&self) -> &[String] {
        &self.faults
    }

    /// How many rules each of the files has, those of flags apart.
    pub(crate) fn counts(&self) -> [usize; 2] {
        [self.headers.len() - self.of_flags.len(), self.redirects.len()]
    }

    /// That there was no room for all fields of some path: once.
    pub(crate) fn take_overfull(&self) -> Option<String> {
        let path = self.overfull.get().filter(|_| !self.is_overfull_told.swap(true, Relaxed))?;
        let path = String::from_utf8_lossy(path);
        Some(format!(
            "{HEADERS_FILE}: /{path} has more than {} KiB of fields; those beyond are left out",
            FIELDS_BYTES_MAX / 1024
        ))
    }

    /// The target of the redirect in this line is missing. Whether that is news.
    pub(crate) fn note_target_missing(&self, line: usize) -> bool {
        self.targets_missing.lock().unwrap_or_else(PoisonError::into_inner).insert(line)
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        !self.has_any
    }

    /// What is said in answers to this path. Each rule is tried.
    pub(crate) fn additions(&self, path: &[u8]) -> Option<Arc<Additions>> {
        if self.headers.is_empty() {
            return None;
        }
        let fields = self.headers.fields_for(path);
        if fields.left_out() > 0 {
            self.overfull.get_or_init(|| path.into());
        }
        (!fields.is_empty()).then(|| Arc::new(additions(&fields)))
    }

    /// The redirect for a request, if there is one: that of the first rule that matches.
    pub(crate) fn redirect(&self, asked: &Asked<'_>) -> Option<Redirect> {
        if self.redirects.is_empty() { None } else { self.redirects.find(asked) }
    }

    /// The redirect that counts even if there is a file of the path.
    pub(crate) fn forced_redirect(&self, asked: &Asked<'_>) -> Option<Redirect> {
        if !self.redirects.may_force(asked.path) {
            return None;
        }
        self.redirect(asked).filter(|redirect| redirect.is_forced)
    }

    /// What the rules make of the file at this path, which may have another address. `is_moved`: who asks for its name is
    /// sent there.
    pub(crate) fn of_file(&self, path: &[u8], address: Option<Address<'_>>, is_moved: bool) -> FileRules {
        let by_name = self.additions(path);
        let additions = address.map_or_else(|| by_name.clone(), |address| self.additions(address.path()));
        let mut paths = [Some(path), address.map(Address::path)].into_iter().flatten();
        let may_be_forced = paths.any(|path| self.redirects.may_force(path));
        FileRules {
            depends_on_path: !self.headers.is_empty(),
            depends_on_name: additions != by_name,
            may_be_forced,
            may_be_overruled: may_be_forced || (is_moved && address.is_some()),
            alone: matches!(address, Some(Address::Clean(_))).then(Alone::default),
            additions,
        }
    }
}

impl Source {
    /// Reads a rule file; of one that isn't there or can't be read no bytes.
    fn read(
        name: &str,
        open: impl Fn(&CStr) -> rustix::io::Result<OwnedFd>,
        faults: &mut Vec<String>,
    ) -> (Vec<u8>, Source) {
        let since = UNIX_EPOCH.elapsed().unwrap_or_default();
        let now = Timestamp { seconds: since.as_secs().cast_signed(), nanoseconds: since.subsec_nanos() };
        let found = opened(name, open);
        let mut state = State::of(&found);
        let mut bytes = Vec::new();
        let mut is_settled = true;
        if let Ok((file, metadata)) = found
            && let State::File(_) = state
        {
            is_settled = metadata.state().settles_in(EtagPolicy::Strict, now).is_zero();
            if let Err(error) = File::from(file).take(READ_BYTES_MAX as u64).read_to_end(&mut bytes) {
                bytes.clear();
                state = State::Unreadable(Errno::from_io_error(&error).unwrap_or(Errno::IO));
            }
        }
        if let State::Unreadable(errno) = state {
            faults.push(format!("{name}: can't be read: {}", reason(errno)));
        }
        let mut hasher = DefaultHasher::new();
        hasher.write(&bytes);
        let is_in_force = matches!(state, State::File(_));
        let is_settled = AtomicBool::new(is_settled);
        (bytes, Source { state, digest: hasher.finish(), is_in_force, is_settled })
    }
}

impl State {
    fn of(found: &rustix::io::Result<(OwnedFd, Metadata)>) -> State {
        match found {
            Ok((_, metadata)) if metadata.kind == FileType::RegularFile => State::File(*metadata),
            Ok((_, metadata)) if metadata.kind == FileType::Directory => State::Unreadable(Errno::ISDIR),
            Ok(_) => State::Unreadable(Errno::INVAL),
            Err(Errno::NOENT) => State::Absent,
            Err(errno) => State::Unreadable(*errno),
        }
    }
}

/// Opens a rule file and tells what it is.
fn opened(
    name: &str,
    open: impl Fn(&CStr) -> rustix::io::Result<OwnedFd>,
) -> rustix::io::Result<(OwnedFd, Metadata)> {
    let path = if name == HEADERS_FILE { c"_headers" } else { c"_redirects" };
    let file = open(path)?;
    let metadata = Metadata::of(&file)?;
    Ok((file, metadata))
}

/// Why a rule file can't be read.
fn reason(errno: Errno) -> String {
    match errno {
        Errno::XDEV => "it is a link that leads out of the root".to_owned(),
        Errno::INVAL => "it isn't a regular file".to_owned(),
        errno => io::Error::from(errno).to_string(),
    }
}

/// Appends what is wrong with a file.
fn note(name: &str, faults: &Faults, lines: &mut Vec<String>) {
    lines.extend(faults.told.iter().map(|fault| format!("{name}: {fault}")));
    if faults.untold > 0 {
        lines.push(format!("{name}: {} more lines are not in force", faults.untold));
    }
}

fn additions(fields: &Fields) -> Additions {
    Additions {
        lines: fields.lines().into(),
        content_type: fields.content_type().map(Box::from),
        vary: fields.vary().map(Box::from),
        decides_sniffing: fields.decide(b"x-content-type-options"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::addresses::IndexName;
    use rustix::fs::{CWD, Mode, OFlags, openat};
    use std::fs;
    use std::path::Path;
    use std::time::{Duration, Instant};

    fn open_in(root: &Path) -> impl Fn(&CStr) -> rustix::io::Result<OwnedFd> {
        let root = root.to_owned();
        move |path| {
            let path = root.join(path.to_str().expect("UTF-8"));
            openat(CWD, path, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty())
        }
    }

    fn field(rules: &SiteRules, path: &[u8]) -> String {
        let lines = rules.additions(path).map(|additions| additions.lines.clone()).unwrap_or_default();
        String::from_utf8_lossy(&lines).into_owned()
    }

    #[test]
    fn names_are_those_that_are_opened() {
        assert_eq!(HEADERS_FILE.as_bytes(), c"_headers".to_bytes());
        assert_eq!(REDIRECTS_FILE.as_bytes(), c"_redirects".to_bytes());
    }

    /// However fast files are written one after the other, the last version is what counts in the end.
    #[test]
    fn rules_follow_their_files() {
        let root = tempfile::tempdir().expect("a directory");
        let open = open_in(root.path());
        let mut rules = SiteRules::load(&Arc::default(), &open);
        assert!(rules.is_empty() && rules.faults().is_empty());
        assert!(rules.revised(&open).is_none(), "nothing has changed");
        for value in 0..50 {
            fs::write(root.path().join("_headers"), format!("/*\n A: {:02}\n", value)).expect("written");
            rules = rules.revised(&open).unwrap_or_else(|| panic!("version {value} goes unseen"));
            assert_eq!(field(&rules, b"x"), format!("A: {value:02}\r\n"));
        }
        assert!(rules.revised(&open).is_none());
        fs::write(root.path().join("_redirects"), "/a /b\nc /d\n").expect("written");
        rules = rules.revised(&open).expect("one has appeared");
        let asked = Asked { path: b"a", ..Asked::default() };
        assert_eq!(rules.redirect(&asked).expect("a rule").location, b"/b");
        assert!(rules.faults().len() == 1 && rules.faults()[0].starts_with("_redirects: line 2: "));
        fs::remove_file(root.path().join("_headers")).expect("removed");
        rules = rules.revised(&open).expect("one has vanished");
        assert_eq!(field(&rules, b"x"), "");
        fs::create_dir(root.path().join("_headers")).expect("made");
        rules = rules.revised(&open).expect("it isn't a file");
        let [unreadable, line_2] = rules.faults() else { panic!("{:?}", rules.faults()) };
        assert!(unreadable.starts_with("_headers: can't be read: ") && !unreadable.contains("stay"));
        assert!(line_2.starts_with("_redirects: line 2: "), "{line_2}");
        assert!(rules.revised(&open).is_none());
    }

    /// A deploy that got the rights of a file wrong takes nothing out of force.
    #[test]
    fn rules_of_a_file_that_cannot_be_read_any_more_stay() {
        let root = tempfile::tempdir().expect("a directory");
        let open = open_in(root.path());
        let [headers, redirects] = [HEADERS_FILE, REDIRECTS_FILE].map(|name| root.path().join(name));
        fs::write(&headers, "/*\n A: 1\n").expect("written");
        fs::write(&redirects, "/a /b\n").expect("written");
        let mut rules = SiteRules::load(&Arc::default(), &open);
        let moved = |rules: &SiteRules| rules.redirect(&Asked { path: b"a", ..Asked::default() });
        let refused = |errno: Errno, name: &'static CStr| {
            let open = open_in(root.path());
            move |path: &CStr| if path == name { Err(errno) } else { open(path) }
        };
        for errno in [Errno::ACCESS, Errno::LOOP, Errno::ACCESS] {
            rules = rules.revised(refused(errno, c"_headers")).expect("it can't be read");
            assert_eq!(field(&rules, b"x"), "A: 1\r\n");
            let [fault] = rules.faults() else { panic!("{:?}", rules.faults()) };
            assert!(fault.starts_with("_headers: can't be read: "), "{fault}");
            assert!(fault.ends_with("; the rules that it had stay in force"), "{fault}");
            assert!(rules.revised(refused(errno, c"_headers")).is_none(), "once");
        }
        rules = rules.revised(refused(Errno::ACCESS, c"_redirects")).expect("and the other way round");
        assert_eq!(moved(&rules).expect("a rule").location, b"/b");
        let [fault] = rules.faults() else { panic!("{:?}", rules.faults()) };
        assert!(fault.starts_with("_redirects: ") && fault.ends_with("stay in force"), "{fault}");
        for name in [headers, redirects] {
            fs::remove_file(name).expect("removed");
        }
        rules = rules.revised(&open).expect("they are gone");
        assert!(rules.is_empty() && rules.faults().is_empty(), "what isn't there has no rules");
    }

    /// A deploy may well write both between two looks.
    #[test]
    fn both_files_may_change_at_once() {
        let root = tempfile::tempdir().expect("a directory");
        let open = open_in(root.path());
        let write = |value: u32| {
            fs::write(root.path().join("_headers"), format!("/*\n A: {value}\n")).expect("written");
            fs::write(root.path().join("_redirects"), format!("/a /{value}\n")).expect("written");
        };
        write(1);
        let rules = SiteRules::load(&Arc::default(), &open);
        let begun = Instant::now();
        let is_settled = |source: &Source| source.is_settled.load(Relaxed);
        while !rules.sources.iter().all(is_settled) {
            assert!(rules.revised(&open).is_none(), "nothing has changed");
            assert!(begun.elapsed() < Duration::from_secs(20), "the files never settle");
        }
        write(2);
        let revised = rules.revised(&open).expect("both have changed");
        assert_eq!(field(&revised, b"x"), "A: 2\r\n");
        let asked = Asked { path: b"a", ..Asked::default() };
        assert_eq!(revised.redirect(&asked).expect("a rule").location, b"/2");
    }

    /// The line that goes beyond the bound is named, so it is among what is read.
    #[test]
    fn a_file_is_read_up_to_its_bound() {
        let root = tempfile::tempdir().expect("a directory");
        let lines = |bytes: usize| {
            let rule = "/*\n A: 1\n";
            let last = "/last\n B: 2\n";
            format!("{rule}{}{last}", "#\n".repeat((bytes - rule.len() - last.len()) / 2))
        };
        let name = root.path().join("_headers");
        fs::write(&name, lines(FILE_BYTES_MAX)).expect("written");
        let rules = SiteRules::load(&Arc::default(), open_in(root.path()));
        assert_eq!(rules.faults(), [""; 0]);
        assert_eq!(field(&rules, b"last"), "A: 1\r\nB: 2\r\n");
        fs::write(&name, lines(2 * FILE_BYTES_MAX)).expect("written");
        let (bytes, _) = Source::read(HEADERS_FILE, open_in(root.path()), &mut Vec::new());
        assert_eq!(bytes.len(), FILE_BYTES_MAX + LINE_BYTES_MAX);
    }

    #[test]
    fn what_cannot_be_found_out_changes_nothing() {
        let root = tempfile::tempdir().expect("a directory");
        fs::write(root.path().join("_headers"), "/*\n A: 1\n").expect("written");
        let rules = SiteRules::load(&Arc::default(), open_in(root.path()));
        assert!(rules.revised(|_| Err(Errno::MFILE)).is_none());
        assert!(rules.revised(|_| Err(Errno::NOENT)).is_some());
    }

    /// What is kept with a file is what would be found out for each request.
    #[test]
    fn index_pages_have_two_paths() {
        let root = tempfile::tempdir().expect("a directory");
        let text = "/\n A: root\n/d\n A: directory\n/d/index.html\n A: name\n/x\n A: x\n";
        fs::write(root.path().join("_headers"), text).expect("written");
        fs::write(root.path().join("_redirects"), "/d/index.html /y 301!\n").expect("written");
        let rules = SiteRules::load(&Arc::default(), open_in(root.path()));
        let index = IndexName::default();
        for (path, value, depends_on_name, may_be_overruled) in [
            ("index.html", "A: root\r\n", true, false),
            ("d/index.html", "A: directory\r\n", true, true),
            ("x", "A: x\r\n", false, false),
            ("other-index.html", "", false, false),
        ] {
            let address = Address::of(path.as_bytes(), &index, false);
            let of_file = rules.of_file(path.as_bytes(), address, false);
            let lines = of_file.additions.map(|additions| additions.lines.clone()).unwrap_or_default();
            assert_eq!(String::from_utf8_lossy(&lines), value, "{path}");
            assert_eq!(of_file.depends_on_name, depends_on_name, "{path}");
            assert_eq!(of_file.may_be_overruled, may_be_overruled, "{path}");
            assert!(of_file.depends_on_path && of_file.alone.is_none());
        }
    }

    #[test]
    fn pages_have_the_fields_of_their_clean_address() {
        let root = tempfile::tempdir().expect("a directory");
        fs::write(root.path().join("_headers"), "/x\n A: clean\n/x.html\n A: name\n").expect("written");
        let of_flags = HeaderRules::of_everything(&["A: flag", "B: flag"]).expect("good lines");
        let rules = SiteRules::load(&Arc::new(of_flags), open_in(root.path()));
        for (path, value, depends_on_name) in
            [("x.html", "B: flag\r\nA: clean\r\n", true), ("y.html", "A: flag\r\nB: flag\r\n", false)]
        {
            let address = Address::of(path.as_bytes(), &IndexName::default(), true);
            let of_file = rules.of_file(path.as_bytes(), address, true);
            let lines = of_file.additions.map(|additions| additions.lines.clone()).unwrap_or_default();
            assert_eq!(String::from_utf8_lossy(&lines), value, "{path}");
            assert_eq!(of_file.depends_on_name, depends_on_name, "{path}");
            assert!(of_file.may_be_overruled && of_file.alone.is_some());
        }
        fs::remove_file(root.path().join("_headers")).expect("removed");
        let revised = rules.revised(open_in(root.path())).expect("one has vanished");
        assert_eq!(field(&revised, b"x"), "A: flag\r\nB: flag\r\n", "what flags say stays");
    }
}
