//! Directory listings, for `--listing`.

mod entry;
mod json;
mod page;

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, Dir, DirEntry, FileType, statat};

use crate::http::markup::MARKUP_FACTOR;
use crate::http::view::{Format, View};
use crate::site::file_bytes::FileBytes;
use crate::site::listing::entry::Entry;
use crate::site::listing::page::Page;
use crate::site::reserved::Reserved;
use crate::site::root::Site;
use crate::site::rules::is_rule_file;

/// Entries listed on one page; if there are more, the page says so.
const ENTRIES_MAX: usize = 10_000;

/// Bytes that an entry takes up in the list besides its name: a list that grows has both its old and its new memory,
/// which is up to twice what it needs, and every name has an allocation of its own.
const ENTRY_BYTES: usize = 3 * size_of::<Entry>() + 32;

/// Bytes that an entry takes up in what is written besides its name.
const ROW_BYTES_MAX: usize =
    if page::ROW_BYTES_MAX > json::ROW_BYTES_MAX { page::ROW_BYTES_MAX } else { json::ROW_BYTES_MAX };

/// What a byte of a name becomes in what is written: up to three where it is a part of an address (`%2F`), and markup.
const NAME_FACTOR: usize = 3 + MARKUP_FACTOR;

/// Reads a directory and writes its listing. May block on a disk.
///
/// # Errors
/// What getdents64(2) reports, and `ENOMEM` when other listings have taken up all the memory that there is for them.
pub(super) fn write(site: &Site, directory: impl AsFd, path: &CStr, view: View) -> io::Result<FileBytes> {
    let path = if path == c"." { b"" } else { path.to_bytes() };
    let mut reserved = Reserved::for_listing();
    let mut bytes_max = path.len() * page::PATH_FACTOR + page::FRAME_BYTES_MAX + json::FRAME_BYTES_MAX;
    reserved.grow(bytes_max)?;
    let (mut entries, rows_bytes_max) = read(site, &directory, path, &mut reserved)?;
    bytes_max += rows_bytes_max;
    let is_cut = entries.len() > ENTRIES_MAX;
    entries.truncate(ENTRIES_MAX);
    entries.sort_unstable_by(|one, other| one.compare(other, view));
    // All at once: a vector that grows would take up more than was reserved.
    let mut out = Vec::with_capacity(bytes_max);
    match view.format {
        Format::Html => Page { path, entries: &entries, view, is_cut }.push(&mut out),
        Format::Json => json::push(&mut out, &entries),
    }
    debug_assert!(out.len() <= bytes_max, "{} bytes were written, {bytes_max} were reserved", out.len());
    drop(entries);
    out.shrink_to_fit();
    reserved.shrink_to(out.len());
    Ok(FileBytes::of_page(out, reserved))
}

/// The entries, one more than can be listed if there are so many, and how many bytes they are when written, at most.
fn read(
    site: &Site,
    directory: &impl AsFd,
    path: &[u8],
    reserved: &mut Reserved,
) -> io::Result<(Vec<Entry>, usize)> {
    let hidden = site.options().hidden;
    let mut entries = Vec::new();
    let mut rows_bytes_max = 0;
    for found in Dir::read_from(directory)? {
        let found = found?;
        let name = found.file_name().to_bytes();
        if matches!(name, b"." | b"..") || (name[0] == b'.' && !hidden && name != b".well-known") {
            continue;
        }
        if path.is_empty() && is_rule_file(name) {
            continue;
        }
        let Some(entry) = examine(site, directory, path, &found)? else { continue };
        let row_bytes_max = name.len() * NAME_FACTOR + ROW_BYTES_MAX;
        reserved.grow(name.len() + ENTRY_BYTES + row_bytes_max)?;
        rows_bytes_max += row_bytes_max;
        entries.push(entry);
        if entries.len() > ENTRIES_MAX {
            break;
        }
    }
    Ok((entries, rows_bytes_max))
}

/// What an entry is; `None` if it can't be served, or is gone by now.
fn examine(site: &Site, directory: &impl AsFd, path: &[u8], found: &DirEntry) -> io::Result<Option<Entry>> {
    let name = found.file_name();
    // What is mounted there may be dead, and would take this listing's thread with it.
    if site.is_mount_point(path, name.to_bytes()) {
        return Ok(Entry::new(name.to_bytes(), found.file_type(), None));
    }
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    let mut stat = statat(directory, name, flags).ok();
    if stat.is_some_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink) {
        // A link is listed as its target.
        let path: &[u8] = if path.is_empty() { b"." } else { path };
        let path = CString::new([path, b"/", name.to_bytes()].concat())?;
        stat = site.stat(&path);
    }
    Ok(stat.and_then(|stat| Entry::new(name.to_bytes(), FileType::from_raw_mode(stat.st_mode), Some(&stat))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::target;
    use crate::http::view::{Order, Sort};
    use crate::site::root::SiteOptions;
    use proptest::prelude::*;

    #[test]
    fn rule_files_of_the_root_are_not_listed() {
        let root = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(root.path().join("sub")).expect("made");
        for name in ["_headers", "_redirects", "_other", "sub/_headers"] {
            std::fs::write(root.path().join(name), "").expect("written");
        }
        let site = Site::open_root(root.path(), SiteOptions { hidden: true, ..SiteOptions::default() });
        let site = site.expect("opened");
        for (path, expected) in [(c".", &["_other", "sub"][..]), (c"sub", &["_headers"])] {
            let (folder, _) = site.open(path).expect("opened");
            let bare = if path == c"." { &b""[..] } else { path.to_bytes() };
            let (entries, _) = read(&site, &folder, bare, &mut Reserved::for_listing()).expect("read");
            let mut out = Vec::new();
            json::push(&mut out, &entries);
            let text = String::from_utf8(out).expect("UTF-8");
            let listed = |name: &&str| text.contains(&format!("\"name\":\"{name}\""));
            assert!(expected.iter().all(listed) && entries.len() == expected.len(), "{text}");
        }
    }

    /// What there is in memory of a list is what is reserved for it, and a page has so many rows.
    #[test]
    fn so_many_entries_are_read_and_listed() {
        let root = tempfile::tempdir().expect("a directory");
        let site = Site::open_root(root.path(), SiteOptions::default()).expect("opened");
        let entry_bytes = "00000".len() * (1 + NAME_FACTOR) + ENTRY_BYTES + ROW_BYTES_MAX;
        let mut made = 0;
        for (count, read_count) in [(3, 3), (ENTRIES_MAX, ENTRIES_MAX), (ENTRIES_MAX + 5, ENTRIES_MAX + 1)] {
            for number in made..count {
                std::fs::write(root.path().join(format!("{number:05}")), "").expect("written");
            }
            made = count;
            let mut reserved = Reserved::for_listing();
            let open = || std::fs::File::open(root.path()).expect("opened");
            let (entries, rows_bytes_max) = read(&site, &open(), b"", &mut reserved).expect("read");
            assert_eq!(entries.len(), read_count);
            assert_eq!(reserved.bytes(), read_count * entry_bytes);
            assert_eq!(rows_bytes_max, read_count * ("00000".len() * NAME_FACTOR + ROW_BYTES_MAX));
            let list = write(&site, open(), c".", View::default()).expect("listed");
            let list = String::from_utf8_lossy(&list);
            assert_eq!(list.matches("<tr><th scope=\"row\">").count(), count.min(ENTRIES_MAX));
            assert_eq!(list.contains("entries are listed."), count > ENTRIES_MAX);
        }
    }

    fn page(path: &[u8], entries: &[Entry], view: View, is_cut: bool) -> String {
        let mut out = Vec::new();
        Page { path, entries, view, is_cut }.push(&mut out);
        String::from_utf8(out).expect("UTF-8")
    }

    fn json(entries: &[Entry]) -> String {
        let mut out = Vec::new();
        json::push(&mut out, entries);
        String::from_utf8(out).expect("UTF-8")
    }

    fn file(name: &[u8], size: u64) -> Entry {
        let modified = Some((1_709_210_096, 5));
        Entry { name: name.into(), is_file: true, size: Some(size), modified }
    }

    fn folder(name: &[u8]) -> Entry {
        Entry { name: name.into(), is_file: false, size: None, modified: None }
    }

    /// What can be opened under its name is listed, and nothing else.
    #[test]
    fn only_what_is_served_is_listed() {
        use crate::site::root::SiteOptions;
        use rustix::fs::{CWD, Mode, mknodat};
        use std::os::unix::fs::symlink;

        let root = tempfile::tempdir().expect("a directory");
        let at = |name: &str| root.path().join(name);
        for name in [".hidden", "folder/.well-known", "folder/deep/.."] {
            std::fs::create_dir_all(at(name)).expect("made");
        }
        for name in ["file", ".dot", "folder/inside"] {
            std::fs::write(at(name), "content").expect("written");
        }
        let unknown = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1);
        let opened = std::fs::File::options().write(true).open(at("file")).expect("opened");
        opened.set_modified(unknown).expect("touched");
        mknodat(CWD, at("fifo"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).expect("made");
        let outside = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        for (target, link) in
            [("file", "link"), ("none", "broken"), ("inside", "folder/link"), (outside, "outside")]
        {
            symlink(target, at(link)).expect("linked");
        }
        for (hidden, path, expected) in [
            (false, c".", &["folder/", "file", "link"][..]),
            (true, c".", &[".hidden/", "folder/", ".dot", "file", "link"]),
            (false, c"folder", &[".well-known/", "deep/", "inside", "link"]),
        ] {
            let options = SiteOptions { hidden, ..SiteOptions::default() };
            let site = Site::open_root(root.path(), options).expect("opened");
            let folder = std::fs::File::open(at(path.to_str().expect("ASCII"))).expect("opened");
            let view = View { format: Format::Json, ..View::default() };
            let list = write(&site, folder, path, view).expect("listed");
            let list = String::from_utf8_lossy(&list);
            assert_eq!(between(&list, "\"href\":\"./", "\""), expected, "{list}");
            assert!(!list.contains("\"file\",\"size\":null"), "a link is as large as its target: {list}");
            for line in list.lines().filter(|line| line.starts_with('{')) {
                let is_unknown =
                    ["./file\"", "./link\""].iter().any(|name| line.contains(name)) && path == c".";
                assert_eq!(line.contains("\"mtime\":null"), is_unknown, "{line}");
            }
        }
    }

    /// What is written fits into what was reserved for it, which `write` asserts: here it is nearly all that there is.
    #[test]
    fn the_longest_names_have_room() {
        use crate::site::root::SiteOptions;

        let root = tempfile::tempdir().expect("a directory");
        let path = vec!["\"".repeat(250); 4].join("/");
        let folder = root.path().join(&path);
        std::fs::create_dir_all(&folder).expect("made");
        for number in 10..40 {
            std::fs::write(folder.join(format!("{}{number}", "\"".repeat(250))), "").expect("written");
        }
        let site = Site::open_root(root.path(), SiteOptions::default()).expect("opened");
        let path = CString::new(path).expect("no NUL");
        for format in [Format::Html, Format::Json] {
            let opened = std::fs::File::open(&folder).expect("opened");
            let list = write(&site, opened, &path, View { format, ..View::default() }).expect("listed");
            assert_eq!(String::from_utf8_lossy(&list).matches("./%22%22").count(), 30, "{format:?}");
        }
    }

    /// What stands between two texts, everywhere.
    fn between<'a>(text: &'a str, start: &'static str, end: &'static str) -> Vec<&'a str> {
        text.split(start).skip(1).filter_map(|rest| Some(rest.split_once(end)?.0)).collect()
    }

    #[test]
    fn a_page() {
        let page = page(b"a b/c", &[folder(b"d:<"), file(b"e.txt", 1536)], View::default(), false);
        let (head, body) = page.split_once("<body>\n").expect("a body");
        assert!(
            head.contains("<html lang=\"en\">") && head.contains("<title>Index of /a b/c/</title>"),
            "{head}"
        );
        assert_eq!(
            body,
            "<header><nav aria-label=\"Breadcrumb\"><ol>\n<li><a href=\"../../\">Home</a>\n\
             <li><a href=\"../\">a b</a>\n<li><a href=\"./\" aria-current=\"page\">c</a>\n</ol></nav></header>\n\
             <main>\n<h1>c</h1>\n<table>\n<caption>1 folder, 1 file, 1.5 KiB</caption>\n<thead><tr>\
             <th scope=\"col\" aria-sort=\"ascending\"><a href=\"?sort=name&amp;order=desc\">Name</a></th>\
             <th scope=\"col\"><a href=\"?sort=size&amp;order=desc\">Size</a></th>\
             <th scope=\"col\"><a href=\"?sort=time&amp;order=desc\">Modified</a></th></tr></thead>\n<tbody>\n\
             <tr><td colspan=\"3\"><a href=\"../\">Parent folder</a>\n\
             <tr><th scope=\"row\"><a href=\"./d%3A%3C/\">d:&lt;/</a><td><td>\n\
             <tr><th scope=\"row\"><a href=\"./e.txt\">e.txt</a><td title=\"1536 bytes\">1.5 KiB\
             <td><time datetime=\"2024-02-29T12:34:56Z\">2024-02-29 12:34</time>\n</tbody>\n</table>\n</main>\n\
             <footer><a href=\"?format=json\" type=\"application/json\">This list as JSON</a></footer>\n</html>\n"
        );
    }

    #[test]
    fn the_page_of_the_root_leads_nowhere_up() {
        let page = page(b"", &[], View::default(), false);
        assert!(page.contains("<title>Index of /</title>") && page.contains("<h1>Index</h1>"), "{page}");
        assert!(page.contains("<li><a href=\"./\" aria-current=\"page\">Home</a>\n</ol>"), "{page}");
        assert!(page.contains("<caption>This folder is empty</caption>") && !page.contains("../"), "{page}");
    }

    /// Of a long way from the root, the page shows its end.
    #[test]
    fn so_many_folders_lead_here() {
        for (depth, is_cut) in [(16, false), (17, true), (30, true)] {
            let path = (1..=depth).map(|number| format!("f{number}")).collect::<Vec<_>>().join("/");
            let page = page(path.as_bytes(), &[], View::default(), false);
            let crumbs = between(&page, "<li><a href=\"", "</a>");
            assert_eq!((crumbs.len(), page.contains("<li>\u{2026}\n")), (1 + 16, is_cut), "{page}");
            assert_eq!(crumbs[0], format!("{}\">Home", "../".repeat(depth)));
            assert_eq!(crumbs[1], format!("{}\">f{}", "../".repeat(15), depth - 15));
            assert_eq!(crumbs[16], format!("./\" aria-current=\"page\">f{depth}"));
        }
    }

    #[test]
    fn only_what_there_is_is_summed_up() {
        let [files, folders] =
            [[file(b"a", 2), file(b"b", 3)].to_vec(), [folder(b"c"), folder(b"d")].to_vec()];
        for (entries, expected) in [
            (files.clone(), "2 files, 5 B"),
            (folders.clone(), "2 folders"),
            ([folders, files].concat(), "2 folders, 2 files, 5 B"),
        ] {
            let page = page(b"", &entries, View::default(), false);
            assert_eq!(between(&page, "<caption>", "</caption>"), [expected]);
        }
    }

    #[test]
    fn a_page_that_is_cut_says_so() {
        assert!(page(b"", &[folder(b"a")], View::default(), true).contains("Only 1 entries are listed."));
        assert!(!page(b"", &[folder(b"a")], View::default(), false).contains("Only"));
    }

    #[test]
    fn headings_sort_and_turn_round() {
        for (sort, order, expected) in [
            (Sort::Name, Order::Descending, "aria-sort=\"descending\"><a href=\"./\">Name"),
            (
                Sort::Size,
                Order::Descending,
                "aria-sort=\"descending\"><a href=\"?sort=size&amp;order=asc\">Size",
            ),
            (
                Sort::Size,
                Order::Ascending,
                "aria-sort=\"ascending\"><a href=\"?sort=size&amp;order=desc\">Size",
            ),
            (
                Sort::Time,
                Order::Descending,
                "aria-sort=\"descending\"><a href=\"?sort=time&amp;order=asc\">Mod",
            ),
        ] {
            let page = page(b"", &[], View { sort, order, format: Format::Html }, false);
            assert!(page.contains(expected) && page.matches("aria-sort=\"").count() == 1, "{page}");
        }
    }

    #[test]
    fn an_array() {
        assert_eq!(json(&[]), "[\n]\n");
        assert_eq!(
            json(&[folder(b"\"d"), file(b"latin-\xfc", 7)]),
            "[\n{\"name\":\"\\\"d\",\"type\":\"directory\",\"size\":null,\"mtime\":null,\"href\":\"./%22d/\"},\n\
             {\"name\":\"latin-\u{fffd}\",\"type\":\"file\",\"size\":7,\"mtime\":\"2024-02-29T12:34:56Z\",\
             \"href\":\"./latin-%FC\"}\n]\n"
        );
    }

    /// What is reserved is enough for the worst: every byte of a name and of the path is escaped, every number long.
    #[test]
    fn the_bounds_hold() {
        for byte in [b'"', 0x01, 0xff] {
            let name = [byte; 255];
            let entries = [file(&name, u64::MAX), file(&name, 1023 << 10), folder(&name)];
            for path in [vec![], [byte, b'/'].repeat(2000), [&name[..], b"/"].concat().repeat(15)] {
                let path = path.strip_suffix(b"/").unwrap_or(&path);
                let frame = path.len() * page::PATH_FACTOR + page::FRAME_BYTES_MAX + json::FRAME_BYTES_MAX;
                let bound = frame + entries.len() * (name.len() * NAME_FACTOR + ROW_BYTES_MAX);
                let written = [page(path, &entries, View::default(), true).len(), json(&entries).len()];
                assert!(written.iter().all(|bytes| *bytes <= bound), "{written:?} of {bound}");
            }
            let row = page(b"", &entries[..1], View::default(), false).len()
                - page(b"", &[], View::default(), false).len();
            assert!(row <= name.len() * NAME_FACTOR + page::ROW_BYTES_MAX + "1 file, 16 EiB".len(), "{row}");
        }
    }

    proptest! {
        /// Whatever the name, its link leads to it, and it is only text.
        #[test]
        fn any_name_is_linked_and_only_text(
            name in proptest::collection::vec((1u8..).prop_filter("no slash", |byte| *byte != b'/'), 1..40),
            is_file: bool,
        ) {
            let entry = Entry { is_file, size: is_file.then_some(1), ..file(&name, 1) };
            let page = page(b"", std::slice::from_ref(&entry), View::default(), false);
            let rows = between(&page, "<tr><th scope=\"row\"><a href=\"./", "</a>");
            prop_assert_eq!(rows.len(), 1);
            let (href, text) = rows[0].split_once("\">").expect("a link");
            let mut path = Vec::new();
            prop_assert!(href.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%/".contains(&byte)), "{href}");
            prop_assert_eq!(href.ends_with('/'), !is_file);
            let target = target::resolve(format!("/x{href}").as_bytes(), &mut path);
            prop_assert!(target.is_ok() && path[1..] == name[..], "{href}");
            prop_assert!(!text.contains(['<', '>', '"', '\n']), "{text}");
            let known = ["&amp;", "&lt;", "&gt;", "&quot;"];
            let rest = known.iter().fold(text.to_owned(), |text, known| text.replace(known, ""));
            prop_assert!(!rest.contains('&'), "{text}");
            let json = json(&[entry]);
            let href = format!("\"href\":\"./{href}\"}}");
            prop_assert!(json.contains(&href) && json.lines().count() == 3, "{json}");
        }
    }
}
