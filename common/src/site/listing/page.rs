//! A listing as a page: complete without a script, and without anything from elsewhere.

use crate::http::date::iso;
use crate::http::digits::push_decimal;
use crate::http::markup::{push_size, push_text};
use crate::http::target;
use crate::http::view::{Order, Sort, View};
use crate::site::listing::entry::Entry;

/// What the page looks like. A policy can allow it by its hash (CSP Level 3, `style-src`).
const STYLE: &str = include_str!("page.css").trim_ascii_end();

/// Folders that lead here, in the navigation. Where there are more, the first ones are left out.
const CRUMBS_MAX: usize = 16;

/// Bytes of an entry besides its name, which is in it twice.
pub(super) const ROW_BYTES_MAX: usize = "<tr><th scope=\"row\"><a href=\".//\">/</a>\
    <td title=\"18446744073709551615 bytes\">1023 KiB\
    <td><time datetime=\"2024-02-29T12:34:56Z\">2024-02-29 12:34</time>\n"
    .len();

/// Bytes of the page besides its entries and its path: some more than there are.
pub(super) const FRAME_BYTES_MAX: usize = STYLE.len() + 4096;

/// A byte of the path is text three times, of six bytes at most, and every second byte leads up in a link.
pub(super) const PATH_FACTOR: usize = 3 * 6 + 2;

/// What a page shows.
pub(super) struct Page<'a> {
    /// The path of the directory from the root, without slashes around it; empty for the root.
    pub(super) path: &'a [u8],
    pub(super) entries: &'a [Entry],
    /// How they are sorted.
    pub(super) view: View,
    /// Whether there are more of them; then the page says that these aren't all.
    pub(super) is_cut: bool,
}

impl Page<'_> {
    /// Appends the whole page.
    pub(super) fn push(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(
            b"<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
              <meta name=\"viewport\" content=\"width=device-width\">\n\
              <meta name=\"color-scheme\" content=\"light dark\">\n<title>Index of /",
        );
        push_text(out, self.path);
        let slash: &[u8] = if self.path.is_empty() { b"" } else { b"/" };
        out.extend_from_slice(slash);
        out.extend_from_slice(b"</title>\n<style>");
        out.extend_from_slice(STYLE.as_bytes());
        out.extend_from_slice(b"</style>\n<body>\n");
        self.push_crumbs(out);
        out.extend_from_slice(b"<main>\n<h1>");
        match memchr::memrchr(b'/', self.path) {
            _ if self.path.is_empty() => out.extend_from_slice(b"Index"),
            slash => push_text(out, &self.path[slash.map_or(0, |slash| slash + 1)..]),
        }
        out.extend_from_slice(b"</h1>\n");
        if self.is_cut {
            out.extend_from_slice(b"<p>Only ");
            push_decimal(out, self.entries.len() as u64);
            out.extend_from_slice(b" entries are listed. There are more.</p>\n");
        }
        self.push_table(out);
        out.extend_from_slice(
            b"</main>\n<footer><a href=\"?format=json\" type=\"application/json\">This list as JSON</a></footer>\n\
              </html>\n",
        );
    }

    /// The way here from the root.
    fn push_crumbs(&self, out: &mut Vec<u8>) {
        let names = || self.path.split(|byte| *byte == b'/').filter(|name| !name.is_empty());
        let depth = names().count();
        let push_crumb = |out: &mut Vec<u8>, levels: usize, name: &[u8]| {
            out.extend_from_slice(b"<li><a href=\"");
            if levels == 0 {
                out.extend_from_slice(b"./\" aria-current=\"page");
            }
            (0..levels).for_each(|_| out.extend_from_slice(b"../"));
            out.extend_from_slice(b"\">");
            push_text(out, name);
            out.extend_from_slice(b"</a>\n");
        };
        out.extend_from_slice(b"<header><nav aria-label=\"Breadcrumb\"><ol>\n");
        push_crumb(out, depth, b"Home");
        if depth > CRUMBS_MAX {
            out.extend_from_slice("<li>\u{2026}\n".as_bytes());
        }
        for (index, name) in names().enumerate().skip(depth.saturating_sub(CRUMBS_MAX)) {
            push_crumb(out, depth - index - 1, name);
        }
        out.extend_from_slice(b"</ol></nav></header>\n");
    }

    fn push_table(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"<table>\n<caption>");
        self.push_summary(out);
        out.extend_from_slice(b"</caption>\n<thead><tr>");
        for (column, label) in [(Sort::Name, "Name"), (Sort::Size, "Size"), (Sort::Time, "Modified")] {
            self.push_heading(out, column, label);
        }
        out.extend_from_slice(b"</tr></thead>\n<tbody>\n");
        if !self.path.is_empty() {
            out.extend_from_slice(b"<tr><td colspan=\"3\"><a href=\"../\">Parent folder</a>\n");
        }
        self.entries.iter().for_each(|entry| push_row(out, entry));
        out.extend_from_slice(b"</tbody>\n</table>\n");
    }

    /// `2 folders, 1 file, 3.5 MiB`
    fn push_summary(&self, out: &mut Vec<u8>) {
        let files = self.entries.iter().filter(|entry| entry.is_file);
        let bytes = files.clone().filter_map(|file| file.size).fold(0, u64::saturating_add);
        let files = files.count();
        let folders = self.entries.len() - files;
        if self.entries.is_empty() {
            return out.extend_from_slice(b"This folder is empty");
        }
        let mut separator = "";
        for (count, one, several) in [(folders, " folder", " folders"), (files, " file", " files")] {
            if count > 0 {
                out.extend_from_slice(separator.as_bytes());
                push_decimal(out, count as u64);
                out.extend_from_slice(if count == 1 { one } else { several }.as_bytes());
                separator = ", ";
            }
        }
        if files > 0 {
            out.extend_from_slice(b", ");
            push_size(out, bytes);
        }
    }

    /// A column's heading sorts by it: names from A to Z, what is large or new first; once more, the other way round.
    fn push_heading(&self, out: &mut Vec<u8>, column: Sort, label: &str) {
        let current = (self.view.sort == column).then_some(self.view.order);
        out.extend_from_slice(b"<th scope=\"col\"");
        out.extend_from_slice(match current {
            Some(Order::Ascending) => b" aria-sort=\"ascending\"><a href=\"".as_slice(),
            Some(Order::Descending) => b" aria-sort=\"descending\"><a href=\"",
            None => b"><a href=\"",
        });
        let is_descending = match current {
            Some(order) => order == Order::Ascending,
            None => column != Sort::Name,
        };
        out.extend_from_slice(match (column, is_descending) {
            (Sort::Name, false) => b"./".as_slice(),
            (Sort::Name, true) => b"?sort=name&amp;order=desc",
            (Sort::Size, false) => b"?sort=size&amp;order=asc",
            (Sort::Size, true) => b"?sort=size&amp;order=desc",
            (Sort::Time, false) => b"?sort=time&amp;order=asc",
            (Sort::Time, true) => b"?sort=time&amp;order=desc",
        });
        out.extend_from_slice(b"\">");
        out.extend_from_slice(label.as_bytes());
        out.extend_from_slice(b"</a></th>");
    }
}

/// End tags that HTML doesn't need are left out: there may be ten thousand of each.
fn push_row(out: &mut Vec<u8>, entry: &Entry) {
    let slash: &[u8] = if entry.is_file { b"" } else { b"/" };
    // The `./` prefix keeps a name with a colon from being read as a scheme.
    out.extend_from_slice(b"<tr><th scope=\"row\"><a href=\"./");
    target::encode(&entry.name, out);
    out.extend_from_slice(slash);
    out.extend_from_slice(b"\">");
    push_text(out, &entry.name);
    out.extend_from_slice(slash);
    out.extend_from_slice(b"</a><td");
    match entry.size {
        Some(size) => {
            out.extend_from_slice(b" title=\"");
            push_decimal(out, size);
            out.extend_from_slice(b" bytes\">");
            push_size(out, size);
        }
        None => out.push(b'>'),
    }
    out.extend_from_slice(b"<td>");
    if let Some(time) = entry.modified.and_then(|(seconds, _)| iso(seconds)) {
        out.extend_from_slice(b"<time datetime=\"");
        out.extend_from_slice(&time);
        out.extend_from_slice(b"\">");
        let [date, clock] = [&time[..10], &time[11..16]];
        out.extend_from_slice(&[date, b" ", clock].concat());
        out.extend_from_slice(b"</time>");
    }
    out.push(b'\n');
}
