//! What a site answers, whatever volume it lies on.

use std::path::Path;

use libtest_mimic::Failed;

use super::*;
use crate::child::ChildServer;
use crate::deadline;
use crate::response::Response;
use crate::row::request;
use crate::site::{MODIFIED, write_pattern};

/// Often enough for files to come from the server's cache at last.
const ROUNDS: usize = 3;

/// In a site, beside the large files: one file at the top, one in a directory without an index page.
const SMALL: &str = "small.txt";
const IN_DIRECTORY: &str = "dir/file.txt";

/// A site with large files of these sizes.
pub(super) fn files(sizes: &[u64]) -> Result<Vec<(String, Vec<u8>)>, Failed> {
    let mut files = numbered(sizes)?;
    files.extend([SMALL, IN_DIRECTORY].map(|name| (name.to_owned(), DIGITS.into())));
    Ok(files)
}

/// Writes such a site.
pub(super) fn write_files(folder: &Path, sizes: &[u64]) -> Result<(), Failed> {
    for name in [SMALL, IN_DIRECTORY] {
        write(&folder.join(name), DIGITS)?;
    }
    for (number, size) in sizes.iter().enumerate() {
        write_pattern(&folder.join(name_of(number, *size)), *size)?;
    }
    Ok(())
}

/// Asks for all that such a site has, in every way there is. It begins at this prefix of the target, and its server
/// lists directories.
pub(super) fn expect_all(server: &ChildServer, prefix: &str, sizes: &[u64]) -> Result<(), Failed> {
    let mut client = Client::connect(server.address)?.with_patience(PATIENCE);
    for round in 0..ROUNDS {
        let mut ask = |method: &str, name: &str, fields: &[&str]| {
            let target = format!("{prefix}{name}");
            client.send(&request(method, &target, fields))?;
            let framing = if method == "HEAD" { Framing::HeadOnly } else { Framing::Content };
            client.response(framing).map_err(|failed| {
                let why = failed.message().unwrap_or("no answer");
                Failed::from(format!("{method} {target} {fields:?} in round {round}: {why}"))
            })
        };
        expect_small(&mut ask)?;
        expect_directories(&mut ask, prefix)?;
        for (number, size) in sizes.iter().enumerate() {
            expect_large(&mut ask, &name_of(number, *size), *size)?;
        }
    }
    Ok(())
}

fn expect(response: &Response, status: u16, field: &str, value: &str) -> Result<(), Failed> {
    if response.status == status && (field.is_empty() || response.field(field) == Some(value)) {
        return Ok(());
    }
    let head = response.head.escape_ascii();
    Err(format!("not {status}, {field}: {value}, but \"{head}\"").into())
}

fn expect_small(ask: &mut impl FnMut(&str, &str, &[&str]) -> Result<Response, Failed>) -> Result<(), Failed> {
    let mut whole = ask("GET", SMALL, &[])?;
    // While the file is young its tag is weak, and then it is another one.
    deadline::within(PATIENCE, "a strong tag", || {
        let is_weak = whole.field("ETag").is_none_or(|tag| tag.starts_with("W/"));
        if is_weak && let Ok(again) = ask("GET", SMALL, &[]) {
            whole = again;
        }
        !is_weak
    })?;
    expect(&whole, 200, "Last-Modified", MODIFIED)?;
    let condition = format!("If-None-Match: {}", whole.require("ETag")?);
    expect(&ask("GET", SMALL, &[&condition])?, 304, "", "")?;
    expect(&ask("HEAD", SMALL, &[])?, 200, "Content-Length", "10")?;
    let range = ask("GET", SMALL, &["Range: bytes=3-5"])?;
    expect(&range, 206, "Content-Range", "bytes 3-5/10")?;
    expect(&ask("GET", "none.txt", &[])?, 404, "", "")?;
    if (&*whole.content, &*range.content) == (DIGITS.as_bytes(), b"345") {
        return Ok(());
    }
    Err(format!("{} and {}", whole.content.escape_ascii(), range.content.escape_ascii()).into())
}

fn expect_directories(
    ask: &mut impl FnMut(&str, &str, &[&str]) -> Result<Response, Failed>,
    prefix: &str,
) -> Result<(), Failed> {
    expect(&ask("GET", "dir", &[])?, 301, "Location", &format!("{prefix}dir/"))?;
    for (name, entry) in [("", ">dir/<"), ("", &format!(">{SMALL}<")), ("dir/", ">file.txt<")] {
        let page = ask("GET", name, &[])?;
        expect(&page, 200, "Content-Type", "text/html; charset=utf-8")?;
        if !String::from_utf8(page.content)?.contains(entry) {
            return Err(format!("{prefix}{name} doesn't list {entry}").into());
        }
    }
    let file = ask("GET", IN_DIRECTORY, &[])?;
    expect(&file, 200, "Content-Length", "10")
}

fn expect_large(
    ask: &mut impl FnMut(&str, &str, &[&str]) -> Result<Response, Failed>,
    name: &str,
    size: u64,
) -> Result<(), Failed> {
    expect(&ask("HEAD", name, &[])?, 200, "Content-Length", &size.to_string())?;
    for (first, last) in [(0, size - 1), (1, 1), (size / 2 - 1, size - 2), (size - 10, size - 1)] {
        let range = format!("Range: bytes={first}-{last}");
        let response = ask("GET", name, &[&range])?;
        expect(&response, 206, "Content-Range", &format!("bytes {first}-{last}/{size}"))?;
        pattern_of(size).check(first, &response.content)?;
    }
    let whole = ask("GET", name, &[])?;
    expect(&whole, 200, "Content-Length", &size.to_string())?;
    pattern_of(size).check(0, &whole.content)
}
