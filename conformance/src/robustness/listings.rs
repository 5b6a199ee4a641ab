//! Listings of names that are hard to write.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use common::{Config, SiteOptions};
use libtest_mimic::Failed;
use serde_json::Value;

use super::{DONE, Ground, Outcome, Test};
use crate::client::Client;
use crate::server::Server;
use crate::site::{DIGITS, write};

pub(super) const TESTS: &[(&str, Test)] = &[("odd_names", odd_names)];

/// The entries of a listing, at most.
pub(crate) const ENTRIES_MAX: usize = 10_000;

/// What odd names consist of: markup, what has a meaning in addresses, JSON or a terminal, blanks, line ends, writing
/// from right to left and its controls, and what isn't UTF-8.
const PIECES: &[&[u8]] = &[
    b"a",
    b"B",
    b"9",
    b"10",
    b".",
    b" ",
    b"  ",
    b"\"",
    b"'",
    b"<",
    b">",
    b"<script>",
    b"&",
    b"&lt;",
    b"%",
    b"%41",
    b"%2f",
    b"#",
    b"?",
    b"?sort=size",
    b":",
    b"javascript:",
    b"\\",
    b"\n",
    b"\r\n",
    b"\t",
    b"\x01",
    b"\x1b[31m",
    b"\x7f",
    b"\xff",
    b"\xc3",
    b"\xed\xa0\x80",
    "\u{fc}".as_bytes(),
    "\u{202e}".as_bytes(),
    "\u{5e9}\u{5dc}\u{5d5}\u{5dd}".as_bytes(),
    "\u{645}\u{631}".as_bytes(),
    "\u{1f600}".as_bytes(),
    "\u{2028}".as_bytes(),
];

/// Names of one to three pieces, then some of the greatest length, until there are so many.
fn odd(count: usize) -> BTreeSet<Vec<u8>> {
    let mut names = BTreeSet::new();
    for number in 0.. {
        let mut name = Vec::new();
        let mut rest = number;
        while rest > 0 {
            name.extend_from_slice(PIECES[(rest - 1) % PIECES.len()]);
            rest = (rest - 1) / PIECES.len();
        }
        if number % 100 == 99 {
            name = name.repeat(255 / name.len().max(1) + 1);
            name.truncate(255);
        }
        // Hidden names aren't listed, and the empty one is none.
        if !name.is_empty() && name[0] != b'.' {
            names.insert(name);
        }
        if names.len() == count {
            break;
        }
    }
    names
}

/// A folder with hard links to one file: so many files would be slow to make.
pub(crate) fn fill<'a>(folder: &Path, names: impl IntoIterator<Item = &'a [u8]>) -> Result<(), Failed> {
    let mut names = names.into_iter().map(|name| folder.join(OsStr::from_bytes(name)));
    let first: PathBuf = names.next().ok_or("a name")?;
    write(&first, DIGITS)?;
    for name in names {
        fs::hard_link(&first, name)?;
    }
    Ok(())
}

/// Ten thousand odd names: each is listed once, as text, with a link that leads to it; in a page and in JSON.
fn odd_names(ground: Ground<'_>) -> Outcome {
    let folder = ground.sites.scratch("odd-names")?;
    let names = odd(ENTRIES_MAX);
    fill(&folder, names.iter().map(Vec::as_slice))?;
    let options = SiteOptions { listing: true, ..SiteOptions::default() };
    let server = Server::start(ground.backend, &folder, options, Config::default())?;
    let mut client = Client::connect(server.address)?;
    let page = String::from_utf8(client.get("/")?.content)?;
    let mut listed = BTreeSet::new();
    for row in page.split("<tr><th scope=\"row\"><a href=\"./").skip(1) {
        let (link, rest) = row.split_once("</a>").ok_or("an open link")?;
        let (href, text) = link.split_once("\">").ok_or("an open tag")?;
        if text.contains(['<', '>', '"'])
            || text.contains(char::is_control)
            || !rest.starts_with("<td title=")
        {
            return Err(format!("the row isn't only text: {}", row.escape_debug()).into());
        }
        listed.insert(decoded(href).ok_or_else(|| format!("{href} isn't an escaped name"))?);
        // Some of them are asked for as they stand there.
        if listed.len() % 20 == 0 {
            let response = client.get(&format!("/{href}"))?;
            if response.status != 200 || response.content != DIGITS.as_bytes() {
                return Err(format!("{} for {href}", response.status).into());
            }
        }
    }
    if listed != names {
        let [missing, added] = [names.difference(&listed).next(), listed.difference(&names).next()];
        return Err(format!("{} of {}: {missing:?} {added:?}", listed.len(), names.len()).into());
    }
    check_json(&client.get("/?format=json")?.content, &names)?;
    drop(client);
    server.stop()?;
    DONE
}

fn check_json(content: &[u8], names: &BTreeSet<Vec<u8>>) -> Result<(), Failed> {
    let Value::Array(entries) = serde_json::from_slice(content)? else { return Err("no array".into()) };
    let mut listed = BTreeSet::new();
    for entry in entries {
        let href = entry["href"].as_str().and_then(|href| href.strip_prefix("./")).ok_or("no href")?;
        let name = decoded(href).ok_or("no escaped name")?;
        let is_right = entry["name"] == *String::from_utf8_lossy(&name)
            && entry["type"] == "file"
            && entry["size"] == DIGITS.len()
            && entry["mtime"] == "2024-02-29T12:34:56Z";
        if !is_right {
            return Err(format!("a wrong entry: {entry}").into());
        }
        listed.insert(name);
    }
    if listed == *names { Ok(()) } else { Err(format!("{} entries of JSON", listed.len()).into()) }
}

/// A name without its escapes; `None` if it has characters that should have been escaped.
fn decoded(href: &str) -> Option<Vec<u8>> {
    let mut name = Vec::new();
    let mut rest = href.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        rest = behind;
        match first {
            b'%' => {
                let (digits, behind) = behind.split_at_checked(2)?;
                name.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
                rest = behind;
            }
            byte if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) => name.push(*byte),
            _ => return None,
        }
    }
    Some(name)
}
