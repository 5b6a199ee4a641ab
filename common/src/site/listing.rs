//! Directory listings, for `--listing`.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::AsFd;

use rustix::fs::{Dir, FileType};

use crate::http::target;
use crate::site::file_bytes::FileBytes;
use crate::site::reserved::Reserved;
use crate::site::root::Site;

/// Entries listed on one page; if there are more, the page says so.
const ENTRIES_MAX: usize = 10_000;

/// Bytes that an entry takes up besides its name, at most: in the list, and twice on the page.
const ENTRY_BYTES: usize = size_of::<Listed>() + 64;

/// A byte of a name takes up to three where it is a part of an address (`%2F`), and up to six as text (`&quot;`).
const NAME_FACTOR: usize = 1 + 3 + 6;

/// Reads a directory and renders its page: directories first, each group sorted by name. May block on a disk.
///
/// # Errors
/// What getdents64(2) reports, and `ENOMEM` when other listings have taken up all the memory that there is for them.
pub(crate) fn page(site: &Site, directory: impl AsFd, path: &CStr) -> io::Result<FileBytes> {
    let mut reserved = Reserved::default();
    reserved.grow(path.to_bytes().len() * 2 * NAME_FACTOR + 1024)?;
    let mut entries = entries(site, directory, path, &mut reserved)?;
    let complete = entries.len() <= ENTRIES_MAX;
    entries.truncate(ENTRIES_MAX);
    entries.sort_unstable();
    let is_root = path == c".";
    let mut out = Vec::new();
    out.extend_from_slice(
        b"<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
          <meta name=\"viewport\" content=\"width=device-width\">\n<meta name=\"color-scheme\" content=\"light dark\">\n",
    );
    let name = if is_root { b"/".to_vec() } else { [b"/", path.to_bytes(), b"/"].concat() };
    for (open, close) in [("<title>", "</title>\n"), ("<h1>", "</h1>\n<ul>\n")] {
        out.extend_from_slice(open.as_bytes());
        escape(&name, &mut out);
        out.extend_from_slice(close.as_bytes());
    }
    if !is_root {
        out.extend_from_slice(b"<li><a href=\"../\">../</a>\n");
    }
    for Listed { is_file, name } in &entries {
        let slash: &[u8] = if *is_file { b"" } else { b"/" };
        // The `./` prefix keeps a name with a colon from being read as a scheme.
        out.extend_from_slice(b"<li><a href=\"./");
        target::encode(name, &mut out);
        out.extend_from_slice(&[slash, b"\">"].concat());
        escape(name, &mut out);
        out.extend_from_slice(&[slash, b"</a>\n"].concat());
    }
    out.extend_from_slice(b"</ul>\n");
    if !complete {
        out.extend_from_slice(format!("<p>Only {ENTRIES_MAX} entries are listed.</p>\n").as_bytes());
    }
    out.extend_from_slice(b"</html>\n");
    drop(entries);
    out.shrink_to_fit();
    reserved.shrink_to(out.len());
    Ok(FileBytes::of_page(out, reserved))
}

/// Field order is sort order.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Listed {
    is_file: bool,
    name: Vec<u8>,
}

fn entries(
    site: &Site,
    directory: impl AsFd,
    path: &CStr,
    reserved: &mut Reserved,
) -> io::Result<Vec<Listed>> {
    let hidden = site.options().hidden;
    let mut entries = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") || (name[0] == b'.' && !hidden && name != b".well-known") {
            continue;
        }
        // A link is listed as its target. Entries that can't be served, or are gone by now, are left out.
        let kind = match entry.file_type() {
            FileType::Unknown | FileType::Symlink => {
                let path = CString::new([path.to_bytes(), b"/", name].concat())?;
                site.kind_of(&path).unwrap_or(FileType::Unknown)
            }
            kind => kind,
        };
        let is_file = match kind {
            FileType::RegularFile => true,
            FileType::Directory => false,
            _ => continue,
        };
        reserved.grow(name.len() * NAME_FACTOR + ENTRY_BYTES)?;
        entries.push(Listed { is_file, name: name.to_vec() });
        if entries.len() > ENTRIES_MAX {
            break;
        }
    }
    Ok(entries)
}

/// Appends text escaped for HTML. Invalid UTF-8 becomes replacement characters.
fn escape(text: &[u8], out: &mut Vec<u8>) {
    for character in String::from_utf8_lossy(text).chars() {
        match character {
            '&' => out.extend_from_slice(b"&amp;"),
            '<' => out.extend_from_slice(b"&lt;"),
            '>' => out.extend_from_slice(b"&gt;"),
            '"' => out.extend_from_slice(b"&quot;"),
            _ => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}
