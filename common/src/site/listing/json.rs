//! A listing as JSON: an array with an object for each entry, one a line.
//!
//! A name that isn't UTF-8 has replacement characters in `name`; `href` leads to every entry.

use crate::http::date::iso;
use crate::http::digits::push_decimal;
use crate::http::markup::push_json_string;
use crate::http::target;
use crate::site::listing::entry::Entry;

/// Bytes of an entry besides its name, which is in it twice.
pub(super) const ROW_BYTES_MAX: usize =
    r#"{"name":"","type":"directory","size":18446744073709551615,"mtime":"2024-02-29T12:34:56Z","href":".//"},"#
        .len()
        + 1;

/// Bytes of the rest.
pub(super) const FRAME_BYTES_MAX: usize = 8;

/// Appends the whole document.
pub(super) fn push(out: &mut Vec<u8>, entries: &[Entry]) {
    out.push(b'[');
    for (index, entry) in entries.iter().enumerate() {
        out.extend_from_slice(if index == 0 { b"\n" } else { b",\n" });
        push_entry(out, entry);
    }
    out.extend_from_slice(b"\n]\n");
}

fn push_entry(out: &mut Vec<u8>, entry: &Entry) {
    out.extend_from_slice(b"{\"name\":");
    push_json_string(out, &entry.name);
    out.extend_from_slice(if entry.is_file { b",\"type\":\"file\"" } else { b",\"type\":\"directory\"" });
    out.extend_from_slice(b",\"size\":");
    match entry.size {
        Some(size) => push_decimal(out, size),
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(b",\"mtime\":");
    match entry.modified.and_then(|(seconds, _)| iso(seconds)) {
        Some(time) => {
            out.push(b'"');
            out.extend_from_slice(&time);
            out.push(b'"');
        }
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(b",\"href\":\"./");
    target::encode(&entry.name, out);
    out.extend_from_slice(if entry.is_file { b"\"}" } else { b"/\"}" });
}
