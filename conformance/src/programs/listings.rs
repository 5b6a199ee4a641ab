//! Listings, by the programs as they are run: their memory isn't that of a test.

use rustix::process::Signal;

use super::Needs::{self, Server};
use super::{DONE, Ground, Test};
use crate::client::{Client, PATIENCE};
use crate::deadline;
use crate::process::Process;
use crate::program::Running;
use crate::response::Framing;
use crate::robustness::Outcome;
use crate::robustness::listings::{ENTRIES_MAX, fill};
use crate::row::get;
use crate::site::write;

pub(super) const TESTS: &[(&str, Needs, Test)] =
    &[("more_than_there_is_memory_for", Server, more_than_there_is_memory_for)];

/// Many clients ask for a listing of the greatest length and don't read it. As many get it as there is memory for, the
/// others are told to come again, with the site's own page; and once the first have left, they can.
fn more_than_there_is_memory_for(ground: Ground<'_>) -> Outcome {
    const LISTING_BYTES_MAX: u64 = 64 << 20;
    const SLACK_BYTES: u64 = 12 << 20;
    const PAGE: &str = "<!doctype html><title>come again</title>\n";
    let folder = ground.sites.scratch("too-long")?;
    write(&folder.join("50x.html"), PAGE)?;
    let names: Vec<Vec<u8>> = (0..ENTRIES_MAX).map(|number| format!("{number:0>200}").into_bytes()).collect();
    fill(&folder.join("many"), names.iter().map(Vec::as_slice))?;
    let mut command = ground.command(&["--listen", "127.0.0.1:0", "--listing", "--workers=1"])?;
    let mut running = Running::start(command.arg(&folder))?;
    let address = running.addresses(1)?[0];
    let process = Process::new(running.server_id()?);
    let mut other = Client::connect(address)?;
    let length = other.get("/many/")?.content.len() as u64;
    let fits = LISTING_BYTES_MAX / length;
    let before = process.resident_bytes()?;
    let mut stuck = Vec::new();
    let mut refused = 0;
    for _ in 0..2 * fits {
        let mut client = Client::connect_narrow(address, 16 * 1024)?;
        client.send(&get("/many/", &[]))?;
        match client.head(Framing::Content)?.status {
            200 => stuck.push(client),
            503 => refused += 1,
            status => return Err(format!("the answer is {status}").into()),
        }
        let grown = process.resident_bytes()?.saturating_sub(before);
        if grown > LISTING_BYTES_MAX + SLACK_BYTES {
            return Err(format!("{grown} bytes more memory for {} listings", stuck.len()).into());
        }
    }
    // To make one takes more memory than to keep it.
    if stuck.len() as u64 > fits || (stuck.len() as u64) < fits / 2 || refused == 0 {
        return Err(format!("{} listings of {length} bytes at once, {refused} refused", stuck.len()).into());
    }
    let response = other.get("/many/")?;
    if response.field("Retry-After") != Some("1") || response.content != PAGE.as_bytes() {
        return Err(format!("refused with \"{}\"", response.bytes().escape_ascii()).into());
    }
    let status = other.get("/50x.html")?.status;
    if status != 200 {
        return Err(format!("{status} for a file").into());
    }
    drop(stuck);
    deadline::within(PATIENCE, "a listing to be served again", || {
        other.get("/many/").is_ok_and(|response| response.content.len() as u64 == length)
    })?;
    drop(other);
    running.signal(Signal::TERM)?;
    running.wait(PATIENCE)?;
    DONE
}
