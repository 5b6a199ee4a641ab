//! A slow volume below the root, or as the root: one that takes its time for one kind of operation.

use std::net::SocketAddr;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use common::CacheLevel;
use libtest_mimic::Failed;

use super::*;
use crate::child::{ChildServer, Settings};
use crate::deadline;
use crate::fuse::{Delay, Fuse, Kept, Op, Reads};
use crate::load::join_all;
use crate::mounts::{self, Kind};

pub(super) const TESTS: &[(&str, Test)] = &[
    ("open_holds_up_nobody_else", open_holds_up_nobody_else),
    ("getattr_holds_up_nobody_else", getattr_holds_up_nobody_else),
    ("read_holds_up_nobody_else", read_holds_up_nobody_else),
    ("flush_holds_up_nobody_else", flush_holds_up_nobody_else),
    ("lookup_holds_up_nobody_else", lookup_holds_up_nobody_else),
    ("the_root_holds_up_no_refusal", the_root_holds_up_no_refusal),
];

const DELAY: Duration = Duration::from_millis(1500);

/// Files that are sent in different ways.
const SIZES: [u64; 4] = [1_000, 100_000, 1_001, 100_001];

/// What the kernel keeps of a volume, and how it is read.
#[derive(Clone, Copy)]
struct Volume {
    kept: Kept,
    reads: Reads,
}

const KNOWN: (&str, Volume) = ("all is known", Volume { kept: Kept::LONG, reads: Reads::Ahead });
const NAMES_KNOWN: (&str, Volume) = ("names are known", Volume { kept: Kept::NAMES, reads: Reads::Ahead });
const UNKNOWN: (&str, Volume) = ("nothing is known", Volume { kept: Kept::NOT, reads: Reads::Ahead });
const IN_TURN: (&str, Volume) = ("read in turn", Volume { kept: Kept::LONG, reads: Reads::InTurn });
const DIRECT: (&str, Volume) = ("not in the page cache", Volume { kept: Kept::LONG, reads: Reads::Direct });

fn open_holds_up_nobody_else(ground: Ground<'_>) -> Outcome {
    below_the_root(ground, Op::Open, &[KNOWN, UNKNOWN])
}

fn getattr_holds_up_nobody_else(ground: Ground<'_>) -> Outcome {
    below_the_root(ground, Op::Getattr, &[NAMES_KNOWN, UNKNOWN])
}

/// Each open forgets what was read before.
fn read_holds_up_nobody_else(ground: Ground<'_>) -> Outcome {
    below_the_root(ground, Op::Read, &[KNOWN, IN_TURN, DIRECT])
}

fn flush_holds_up_nobody_else(ground: Ground<'_>) -> Outcome {
    below_the_root(ground, Op::Flush, &[KNOWN, UNKNOWN])
}

fn lookup_holds_up_nobody_else(ground: Ground<'_>) -> Outcome {
    below_the_root(ground, Op::Lookup, &[KNOWN, UNKNOWN])
}

/// Several clients wait for files of a volume below the root, and get them. Meanwhile files elsewhere are served.
fn below_the_root(ground: Ground<'_>, op: Op, volumes: &[(&str, Volume)]) -> Outcome {
    let levels = [("no cache", CacheLevel::Off), ("a cache", CacheLevel::Contents)];
    let of_level = |(level, cache)| {
        volumes.iter().map(move |(name, volume)| (format!("{level}, {name}"), (cache, *volume)))
    };
    let cases: Vec<_> = levels.into_iter().flat_map(of_level).collect();
    mounts::with(Kind::Fuse, || {
        in_each_case(&cases, |number, (cache, volume)| {
            let settings = Settings { cache: *cache, ..Settings::default() };
            wait_below_the_root(
                ground,
                op,
                &make_root(ground, &format!("slow-{number}"))?,
                *volume,
                &settings,
            )
        })
    })
}

fn wait_below_the_root(
    ground: Ground<'_>,
    op: Op,
    root: &Path,
    volume: Volume,
    settings: &Settings,
) -> Result<(), Failed> {
    let fuse = Fuse::mount(&root.join(FAR), &numbered(&SIZES)?, volume.kept, volume.reads)?;
    let server = ChildServer::start(ground.backend, root, settings)?;
    // The kernel knows the names, unless they are what is to be waited for.
    if op != Op::Lookup {
        download_all(&server, FAR)?;
    }
    let mut neighbour = Neighbour::new(server.address, NEAR)?;
    fuse.delay(op, Delay::For(DELAY));
    let begun = Instant::now();
    thread::scope(|scope| {
        let downloads = scope.spawn(|| download_all(&server, FAR));
        // A slow close is felt after the answers.
        let asked = neighbour.ask_until(|| downloads.is_finished() && begun.elapsed() > DELAY + SOON);
        asked.and(join_all([downloads]))
    })?;
    if fuse.count(op).delayed == 0 {
        return Err(format!("nobody has waited for a {op:?}").into());
    }
    neighbour.expect_soon()?;
    fuse.delay_all(Delay::None);
    drop(neighbour);
    server.stop()
}

/// All files of the volume at the same time, each by its own client.
fn download_all(server: &ChildServer, folder: &str) -> Result<(), Failed> {
    thread::scope(|scope| {
        let download = |(number, size)| {
            move || {
                let mut client = Client::connect(server.address)?;
                expect_pattern(&mut client, &format!("/{folder}{}", name_of(number, size)), size)
            }
        };
        let clients: Vec<_> = (0..).zip(SIZES).map(|file| scope.spawn(download(file))).collect();
        join_all(clients)
    })
}

/// Somebody waits for a file of the root. Others get what takes no look at the volume.
fn the_root_holds_up_no_refusal(ground: Ground<'_>) -> Outcome {
    const CASES: [(&str, (Op, Volume)); 4] = [
        ("open", (Op::Open, KNOWN.1)),
        ("getattr", (Op::Getattr, NAMES_KNOWN.1)),
        ("read", (Op::Read, DIRECT.1)),
        ("lookup", (Op::Lookup, KNOWN.1)),
    ];
    mounts::with(Kind::Fuse, || {
        in_each_case(&CASES, |number, (op, volume)| {
            let root = ground.sites.scratch(&format!("slow-root-{number}"))?;
            let mut files = numbered(&SIZES)?;
            files.push((NEAR[1..].to_owned(), DIGITS.into()));
            let fuse = Fuse::mount(&root, &files, volume.kept, volume.reads)?;
            let server = ChildServer::start(ground.backend, &root, &Settings::default())?;
            if *op != Op::Lookup {
                download_all(&server, "")?;
            }
            let mut neighbour = Neighbour::new(server.address, NEAR)?;
            thread::scope(|scope| {
                fuse.delay(*op, Delay::For(DELAY));
                let downloads = scope.spawn(|| download_all(&server, ""));
                let others = deadline::within(PATIENCE, "somebody to wait", || fuse.waiting() > 0)
                    // It has been asked for often, so it is cached, though not for long.
                    .and_then(|()| neighbour.ask())
                    .and_then(|()| refuse_until(server.address, || downloads.is_finished()));
                others.and(join_all([downloads]))
            })?;
            neighbour.expect_soon()?;
            fuse.delay_all(Delay::None);
            drop(neighbour);
            server.stop()
        })
    })
}

/// Sends nonsense until `over`, and expects to be told so soon.
fn refuse_until(address: SocketAddr, mut over: impl FnMut() -> bool) -> Result<(), Failed> {
    while !over() {
        let mut client = Client::connect(address)?.with_patience(PATIENCE);
        let begun = Instant::now();
        client.send(b"nonsense\r\n\r\n")?;
        let status = client.response(Framing::Content)?.status;
        if status != 400 || begun.elapsed() > SOON {
            return Err(format!("{status} after {:?}", begun.elapsed()).into());
        }
        thread::sleep(SOON / 10);
    }
    Ok(())
}
