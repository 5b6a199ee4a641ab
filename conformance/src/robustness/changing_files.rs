//! Files that change while they are sent. The response is fixed with its first byte: the server sends what it
//! announced, or ends the connection.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use common::{Config, CopyMode};
use libtest_mimic::Failed;

use super::freshness::STALE_MAX;
use super::{DONE, Ground, Outcome, Test};
use crate::census::connections_end;
use crate::client::{Client, Heard, PATIENCE};
use crate::pattern::Pattern;
use crate::response::Framing;
use crate::row::get;
use crate::server::Server;
use crate::site::{pattern_of, write, write_pattern};

pub(super) const TESTS: &[(&str, Test)] = &[
    ("shrinks", shrinks),
    ("shrinks_to_nothing", shrinks_to_nothing),
    ("shrinks_within_a_range", shrinks_within_a_range),
    ("shrinks_and_was_copied", shrinks_and_was_copied),
    ("shrinks_and_its_client_resets", shrinks_and_its_client_resets),
    ("grows", grows),
    ("is_replaced", is_replaced),
    ("is_deleted", is_deleted),
    ("directory_is_renamed", directory_is_renamed),
    ("changes_between_requests", changes_between_requests),
];

/// More than all buffers between server and client hold.
const BYTES: u64 = 24 << 20;
/// How much has arrived when the file changes.
const BEFORE: u64 = 100_000;
/// The largest single read of a server. If the file ends within a piece, the server sends none of it.
const PIECE_BYTES_MAX: u64 = 256 * 1024;

/// A server, and a client in the middle of a large response.
struct Download {
    server: Server,
    client: Client,
    file: PathBuf,
}

impl Download {
    fn begin(ground: Ground<'_>, fields: &[&str]) -> Result<Download, Failed> {
        Download::begin_with(ground, Config::default(), fields)
    }

    fn begin_with(ground: Ground<'_>, config: Config, fields: &[&str]) -> Result<Download, Failed> {
        let folder = ground.sites.scratch("changing")?;
        let file = folder.join("dir").join("file.bin");
        write_pattern(&file, BYTES)?;
        let server = ground.serve_folder(&folder, config)?;
        let mut client = Client::connect_narrow(server.address, 16 * 1024)?;
        client.send(&get("/dir/file.bin", fields))?;
        client.head(Framing::Content)?;
        client.content(BEFORE, |at, bytes| pattern_of(BYTES).check(at, bytes))?;
        Ok(Download { server, client, file })
    }

    /// The rest of the response, unaffected by the change.
    fn expect_the_rest(&mut self) -> Result<(), Failed> {
        self.client.content(BYTES - BEFORE, |at, bytes| pattern_of(BYTES).check(BEFORE + at, bytes))
    }

    /// The rest of the old content, as far as it still exists, then the end: less than announced, and nothing lost in
    /// transit.
    fn expect_the_end(&mut self, cut_at: u64) -> Result<(), Failed> {
        let mut position = BEFORE;
        let least = cut_at.saturating_sub(PIECE_BYTES_MAX);
        loop {
            let received = self.client.take_received();
            check_cut(position, &received, cut_at)?;
            position += received.len() as u64;
            match self.client.hear(Instant::now() + PATIENCE)? {
                Heard::Bytes(_) => {}
                Heard::End if (least..BYTES).contains(&position) => return Ok(()),
                heard => {
                    return Err(
                        format!("{heard:?} after {position} bytes of {BYTES}, cut at {cut_at}").into()
                    );
                }
            }
        }
    }

    /// A new request, on the same or another connection, gets the current file.
    fn expect_now(&self, client: &mut Client, pattern: Pattern, bytes: u64) -> Result<(), Failed> {
        client.send(&get("/dir/file.bin", &[]))?;
        let head = client.head(Framing::Content)?;
        if head.content_bytes as u64 != bytes {
            return Err(format!("{} bytes instead of {bytes}", head.content_bytes).into());
        }
        client.content(bytes, |at, received| pattern.check(at, received))
    }
}

/// Checks bytes of a truncated file. Beyond the cut, zeros are allowed: the kernel clears the page, which `sendfile(2)`
/// has already queued on the socket.
fn check_cut(position: u64, received: &[u8], cut_at: u64) -> Result<(), Failed> {
    let sure = usize::try_from(cut_at.saturating_sub(position))
        .map_or(received.len(), |sure| sure.min(received.len()));
    let (sure, rest) = received.split_at(sure);
    pattern_of(BYTES).check(position, sure)?;
    let expected = pattern_of(BYTES).bytes(position + sure.len() as u64, rest.len());
    if rest.iter().zip(&expected).all(|(byte, expected)| byte == expected || *byte == 0) {
        Ok(())
    } else {
        Err("bytes that were never in the file".into())
    }
}

fn shrink_to(ground: Ground<'_>, fields: &[&str], bytes: u64) -> Outcome {
    let mut download = Download::begin(ground, fields)?;
    File::options().write(true).open(&download.file)?.set_len(bytes)?;
    download.expect_the_end(bytes)?;
    let mut other = Client::connect(download.server.address)?;
    download.expect_now(&mut other, pattern_of(BYTES), bytes)?;
    download.server.stop()?;
    DONE
}

fn shrinks(ground: Ground<'_>) -> Outcome {
    shrink_to(ground, &[], 1 << 20)
}

fn shrinks_to_nothing(ground: Ground<'_>) -> Outcome {
    shrink_to(ground, &[], 0)
}

fn shrinks_within_a_range(ground: Ground<'_>) -> Outcome {
    shrink_to(ground, &["Range: bytes=0-20000000"], 12_345_678)
}

/// What was read before the cut is what is sent: no byte becomes a zero on its way.
fn shrinks_and_was_copied(ground: Ground<'_>) -> Outcome {
    let config = Config { copy: CopyMode::Read, ..Config::default() };
    let mut download = Download::begin_with(ground, config, &[])?;
    File::options().write(true).open(&download.file)?.set_len(123_456)?;
    let mut position = BEFORE;
    loop {
        let received = download.client.take_received();
        pattern_of(BYTES).check(position, &received)?;
        position += received.len() as u64;
        match download.client.hear(Instant::now() + PATIENCE)? {
            Heard::Bytes(_) => {}
            Heard::End if position < BYTES => break,
            heard => return Err(format!("{heard:?} after {position} bytes of {BYTES}").into()),
        }
    }
    download.server.stop()?;
    DONE
}

/// Neither the file nor the client is left: the server must release both.
fn shrinks_and_its_client_resets(ground: Ground<'_>) -> Outcome {
    let Download { server, client, file } = Download::begin(ground, &[])?;
    File::options().write(true).open(&file)?.set_len(0)?;
    client.reset()?;
    connections_end(&server)?;
    server.stop()?;
    DONE
}

/// Only the planned length is sent; the next request gets the rest.
fn grows(ground: Ground<'_>) -> Outcome {
    let mut download = Download::begin(ground, &[])?;
    let file = File::options().write(true).open(&download.file)?;
    file.write_all_at(&pattern_of(BYTES).bytes(BYTES, 1 << 20), BYTES)?;
    download.expect_the_rest()?;
    let mut client = Client::connect(download.server.address)?;
    std::mem::swap(&mut client, &mut download.client);
    download.expect_now(&mut client, pattern_of(BYTES), BYTES + (1 << 20))?;
    download.server.stop()?;
    DONE
}

/// The opened file is sent to its end; the next request gets the new one.
fn is_replaced(ground: Ground<'_>) -> Outcome {
    let mut download = Download::begin(ground, &[])?;
    let replacement = download.file.with_extension("new");
    write_pattern(&replacement, 4096)?;
    fs::rename(&replacement, &download.file)?;
    download.expect_the_rest()?;
    let mut client = Client::connect(download.server.address)?;
    std::mem::swap(&mut client, &mut download.client);
    download.expect_now(&mut client, pattern_of(4096), 4096)?;
    download.server.stop()?;
    DONE
}

fn is_deleted(ground: Ground<'_>) -> Outcome {
    let mut download = Download::begin(ground, &[])?;
    fs::remove_file(&download.file)?;
    download.expect_the_rest()?;
    expect_missing(download)
}

fn directory_is_renamed(ground: Ground<'_>) -> Outcome {
    let mut download = Download::begin(ground, &[])?;
    let folder = download.file.parent().unwrap_or(Path::new(".")).to_path_buf();
    fs::rename(&folder, folder.with_extension("away"))?;
    download.expect_the_rest()?;
    expect_missing(download)
}

fn expect_missing(mut download: Download) -> Outcome {
    let status = download.client.get("/dir/file.bin")?.status;
    if status != 404 {
        return Err(format!("{status} for a file that is gone").into());
    }
    download.server.stop()?;
    DONE
}

/// Every response shows a current or very recent version of the file, and every change changes the entity tag.
fn changes_between_requests(ground: Ground<'_>) -> Outcome {
    let folder = ground.sites.scratch("changing")?;
    let file = folder.join("file.txt");
    let server = ground.serve_folder(&folder, Config::default())?;
    let mut client = Client::connect(server.address)?;
    let mut tags: Vec<String> = Vec::new();
    for content in ["one", "two", "three", "", "one"] {
        // Rewritten with the same date: size, inode or nanoseconds must make the difference.
        let next = folder.join("next");
        write(&next, content)?;
        if content == "two" {
            fs::write(&file, content)?;
        } else {
            fs::rename(&next, &file)?;
        }
        let changed = Instant::now();
        let response = loop {
            let asked = changed.elapsed();
            let response = client.get("/file.txt")?;
            if response.content == content.as_bytes() {
                break response;
            }
            if asked > STALE_MAX {
                return Err(format!("\"{}\" instead of {content}", response.content.escape_ascii()).into());
            }
        };
        // Another change could leave the same times behind as long as the file is young.
        let mut tag = response.require("ETag")?.to_owned();
        while tag.starts_with("W/") && changed.elapsed() < PATIENCE {
            tag = client.get("/file.txt")?.require("ETag")?.to_owned();
        }
        tags.push(tag);
        client.send(&get("/file.txt", &[&format!("If-None-Match: {}", tags[tags.len() - 1])]))?;
        if client.response(Framing::Content)?.status != 304 {
            return Err("the tag of an unchanged file has changed".into());
        }
    }
    for pair in tags.windows(2) {
        if pair[0] == pair[1] {
            return Err(format!("a changed file has the same tag, {}", pair[0]).into());
        }
    }
    server.stop()?;
    DONE
}
