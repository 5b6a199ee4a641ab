//! Files that aren't in memory: only requests for them wait for the disk.

use std::fs::File;
use std::path::PathBuf;

use common::Config;
use libtest_mimic::Failed;

use super::{DONE, Ground, Outcome, Test};
use crate::census::connections_end;
use crate::client::Client;
use crate::response::Framing;
use crate::row::get;
use crate::site::{DIGITS, cool, pattern_of, write, write_pattern};

pub(super) const TESTS: &[(&str, Test)] = &[
    ("files_are_read", files_are_read),
    ("clients_vanish_meanwhile", clients_vanish_meanwhile),
    ("files_are_cut_meanwhile", files_are_cut_meanwhile),
];

const FILES: usize = 12;
const BYTES: u64 = 1_500_001;

/// A folder of files, and a small one that stays cached.
fn make_folder(ground: Ground<'_>) -> Result<(PathBuf, Vec<PathBuf>), Failed> {
    let folder = ground.sites.scratch("cold")?;
    write(&folder.join("warm.txt"), DIGITS)?;
    let files: Vec<_> = (0..FILES).map(|number| folder.join(format!("{number}.bin"))).collect();
    for file in &files {
        write_pattern(file, BYTES)?;
    }
    Ok((folder, files))
}

/// Clients that have just requested one cold file each.
fn ask_for_all(address: std::net::SocketAddr, files: &[PathBuf]) -> Result<Vec<Client>, Failed> {
    files.iter().try_for_each(|file| cool(file))?;
    let mut clients = Vec::new();
    for number in 0..files.len() {
        let mut client = Client::connect(address)?;
        client.send(&get(&format!("/{number}.bin"), &[]))?;
        clients.push(client);
    }
    Ok(clients)
}

fn files_are_read(ground: Ground<'_>) -> Outcome {
    let (folder, files) = make_folder(ground)?;
    let server = ground.serve_folder(&folder, Config::default())?;
    let mut warm = Client::connect(server.address)?;
    for _ in 0..3 {
        let clients = ask_for_all(server.address, &files)?;
        for mut client in clients {
            warm.get("/warm.txt")?;
            let response = client.response(Framing::Content)?;
            pattern_of(BYTES).check(0, &response.content)?;
            // The same connection continues with a range of another cold file.
            cool(&files[0])?;
            client.send(&get("/0.bin", &["Range: bytes=1000000-"]))?;
            pattern_of(BYTES).check(1_000_000, &client.response(Framing::Content)?.content)?;
        }
    }
    drop(warm);
    server.stop()?;
    DONE
}

/// The bytes read for them arrive too late and must not reach the next client in the slot.
fn clients_vanish_meanwhile(ground: Ground<'_>) -> Outcome {
    let (folder, files) = make_folder(ground)?;
    let server = ground.serve_folder(&folder, Config::default())?;
    for round in 0..6 {
        for client in ask_for_all(server.address, &files)? {
            if round % 2 == 0 { client.reset()? } else { drop(client) }
        }
        let mut next: Vec<_> =
            (0..FILES).map(|_| Client::connect(server.address)).collect::<Result<Vec<_>, _>>()?;
        for client in &mut next {
            let content = client.get("/warm.txt")?.content;
            if content != DIGITS.as_bytes() {
                return Err(format!("\"{}\" for the next client", content.escape_ascii()).into());
            }
        }
    }
    connections_end(&server)?;
    server.stop()?;
    DONE
}

/// The response is either complete or truncated with the file.
fn files_are_cut_meanwhile(ground: Ground<'_>) -> Outcome {
    let (folder, files) = make_folder(ground)?;
    let server = ground.serve_folder(&folder, Config::default())?;
    let clients = ask_for_all(server.address, &files)?;
    for file in &files {
        File::options().write(true).open(file)?.set_len(BYTES / 2)?;
    }
    for mut client in clients {
        let announced = client.head(Framing::Content)?.content_bytes as u64;
        if announced != BYTES && announced != BYTES / 2 {
            return Err(format!("{announced} bytes are announced").into());
        }
        let received = client.content(announced, |at, bytes| {
            let sure = usize::try_from((BYTES / 2).saturating_sub(at)).unwrap_or(usize::MAX).min(bytes.len());
            pattern_of(BYTES).check(at, &bytes[..sure])
        });
        // A response planned with the old length can't be complete, unless all of it had been sent.
        if let (Err(failed), true) = (received, announced == BYTES / 2) {
            return Err(failed);
        }
    }
    connections_end(&server)?;
    server.stop()?;
    DONE
}
