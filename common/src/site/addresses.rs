//! The address of a page, where that isn't its name: an index page is its directory's, and with clean addresses
//! `about.html` is asked for as `/about`.

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::http::target::shown_bytes;
use crate::site::rules::is_rule_file;

/// What the name of a page ends in, and its clean address doesn't have.
pub(crate) const PAGE_EXTENSION: &str = ".html";

/// The name of the file that is sent for its directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexName(Arc<str>);

impl Default for IndexName {
    fn default() -> Self {
        IndexName("index.html".into())
    }
}

impl IndexName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for IndexName {
    type Err = String;

    fn from_str(name: &str) -> Result<IndexName, String> {
        const HINT: &str = "write one name, like index.html";
        if name.is_empty() || name.contains(['/', '\0']) {
            return Err(HINT.to_owned());
        }
        if name.starts_with('.') {
            return Err(format!("a name that begins with a dot is hidden; {HINT}"));
        }
        if is_rule_file(name.as_bytes()) {
            return Err(format!("{name} is for rules, which are not served; {HINT}"));
        }
        Ok(IndexName(name.into()))
    }
}

/// What a page is asked for by, besides its name: a path as `http/target.rs` resolves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Address<'a> {
    /// A directory, whose index it is.
    Directory(&'a [u8]),
    /// Its name without the extension.
    Clean(&'a [u8]),
}

impl<'a> Address<'a> {
    /// The address of the file at this path; `None` if that is its name.
    pub(crate) fn of(path: &'a [u8], index: &IndexName, clean: bool) -> Option<Address<'a>> {
        let (directory, name) = match memchr::memrchr(b'/', path) {
            Some(slash) => (&path[..slash], &path[slash + 1..]),
            None => (&b""[..], path),
        };
        if name == index.0.as_bytes() {
            return Some(Address::Directory(directory));
        }
        let stem = name.strip_suffix(PAGE_EXTENSION.as_bytes()).filter(|_| clean)?;
        let address = &path[..path.len() - PAGE_EXTENSION.len()];
        // What leads elsewhere, or nowhere.
        let is_taken = matches!(stem, b"" | b"." | b"..") || is_rule_file(address);
        (!is_taken).then_some(Address::Clean(address))
    }

    /// The path that is asked for.
    pub(crate) fn path(self) -> &'a [u8] {
        match self {
            Address::Directory(path) | Address::Clean(path) => path,
        }
    }
}

/// Whether the page that this path would be the clean address of may be served.
pub(crate) fn may_be_clean(path: &[u8], shows_hidden: bool) -> bool {
    let name = &path[memchr::memrchr(b'/', path).map_or(0, |slash| slash + 1)..];
    // `.well-known` is shown, but it wouldn't be with an extension.
    let is_shown = || shown_bytes(path) == path.len() && name.first() != Some(&b'.');
    !name.is_empty() && (shows_hidden || is_shown())
}

/// Whether a cached page is known to have its clean address for itself: no file has that name. Its entry in the cache
/// leaves when something of the name appears.
#[derive(Clone, Debug, Default)]
pub(crate) struct Alone(Arc<AtomicBool>);

impl Alone {
    /// There was no such file, when the page was in the cache already.
    pub(crate) fn note(&self) {
        self.0.store(true, Relaxed);
    }

    pub(crate) fn is_known(&self) -> bool {
        self.0.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_have_one_address() {
        let index = IndexName::default();
        let clean = |path| Some(Address::Clean(path));
        let directory = |path| Some(Address::Directory(path));
        for (path, always, if_clean) in [
            (&b"index.html"[..], directory(b""), directory(b"")),
            (b"a/b/index.html", directory(b"a/b"), directory(b"a/b")),
            (b"about.html", None, clean(b"about")),
            (b"a/v1.2.html", None, clean(b"a/v1.2")),
            (b"a/_headers.html", None, clean(b"a/_headers")),
            (b"other-index.html", None, clean(b"other-index")),
            (b"index.html/x", None, None),
            (b"about.htm", None, None),
            (b"about.HTML", None, None),
            (b"about", None, None),
            (b"", None, None),
            // The address would lead elsewhere, or nowhere.
            (b".html", None, None),
            (b"a/.html", None, None),
            (b"..html", None, None),
            (b"a/...html", None, None),
            (b"_headers.html", None, None),
            (b"_Redirects.html", None, None),
        ] {
            let shown = String::from_utf8_lossy(path);
            assert_eq!(Address::of(path, &index, false), always, "{shown}");
            assert_eq!(Address::of(path, &index, true), if_clean, "{shown}");
        }
        let index: IndexName = "home.htm".parse().expect("a name");
        assert_eq!(Address::of(b"d/home.htm", &index, true), directory(b"d"));
        assert_eq!(Address::of(b"d/index.html", &index, true), clean(b"d/index"));
    }

    #[test]
    fn names_of_index_pages() {
        for name in ["index.html", "home.htm", "Default.aspx", "a b", "start"] {
            assert_eq!(name.parse::<IndexName>().expect("a name").as_str(), name);
        }
        for name in ["", "a/b", "/", "..", ".", ".index", "a\0b", "_headers", "_REDIRECTS"] {
            let error = name.parse::<IndexName>().expect_err("no name");
            assert!(error.contains("write one name"), "{name}: {error}");
        }
    }

    #[test]
    fn an_extension_uncovers_nothing() {
        for (path, expected, if_hidden_are_shown) in [
            (&b"about"[..], true, true),
            (b"a/b.c", true, true),
            (b"", false, false),
            (b".well-known", false, true),
            (b"a/.well-known", false, true),
            (b".well-known/x", true, true),
            (b".hidden", false, true),
            (b".git/config", false, true),
        ] {
            let shown = String::from_utf8_lossy(path);
            assert_eq!(may_be_clean(path, false), expected, "{shown}");
            assert_eq!(may_be_clean(path, true), if_hidden_are_shown, "{shown}");
        }
    }
}
