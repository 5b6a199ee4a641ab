//! A slow volume below the root, or as the root: one that takes its time for one kind of operation.

use std::thread;
use std::time::{Duration, Instant};

use common::CacheLevel;
use libtest_mimic::Failed;

use super::*;
use crate::child::{ChildServer, Settings};
use crate::fuse::{Delay, Fuse, Kept, Op, Reads};
use crate::load::join_all;
use crate::mounts::{self, Kind};

pub(super) const TESTS: &[(&str, Test)] = &[
    ("open_holds_up_nobody_else", open_holds_up_nobody_else),
    ("getattr_holds_up_nobody_else", getattr_holds_up_nobody_else),
    ("read_holds_up_nobody_else", read_holds_up_nobody_else),
    ("flush_holds_up_nobody_else", flush_holds_up_nobody_else),
    ("lookup_holds_up_nobody_else", lookup_holds_up_nobody_else),
];

const DELAY: Duration = Duration::from_millis(1500);

/// Files that are sent in different ways.
const SIZES: [u64; 4] = [1_000, 100_000, 1_001, 100_001];

/// What is cached by the server, what is kept of the volume by the kernel, and how it is read.
type Case = (CacheLevel, Kept, Reads);

fn open_holds_up_nobody_else(ground: Ground<'_>) -> Outcome {
    below_the_root(ground, Op::Open, &[(Kept::LONG, Reads::Ahead), (Kept::NOT, Reads::Ahead)])
}

/// What a GETATTR would tell mustn't be known already.
fn getattr_holds_up_nobody_else(ground: Ground<'_>) -> Outcome {
    below_the_root(ground, Op::Getattr, &[(Kept::NAMES, Reads::Ahead), (Kept::NOT, Reads::Ahead)])
}

/// Each open forgets what was read before.
fn read_holds_up_nobody_else(ground: Ground<'_>) -> Outcome {
    let reads = [Reads::Ahead, Reads::InTurn, Reads::Direct];
    below_the_root(ground, Op::Read, &reads.map(|reads| (Kept::LONG, reads)))
}

fn flush_holds_up_nobody_else(ground: Ground<'_>) -> Outcome {
    below_the_root(ground, Op::Flush, &[(Kept::LONG, Reads::Ahead), (Kept::NOT, Reads::Ahead)])
}

fn lookup_holds_up_nobody_else(ground: Ground<'_>) -> Outcome {
    below_the_root(ground, Op::Lookup, &[(Kept::LONG, Reads::Ahead), (Kept::NOT, Reads::Ahead)])
}

/// Several clients wait for files of a volume below the root, and get them. Meanwhile files elsewhere are served.
fn below_the_root(ground: Ground<'_>, op: Op, volumes: &[(Kept, Reads)]) -> Outcome {
    let levels = [CacheLevel::Off, CacheLevel::Contents];
    let cases: Vec<Case> =
        levels.iter().flat_map(|level| volumes.iter().map(|(kept, reads)| (*level, *kept, *reads))).collect();
    mounts::with(Kind::Fuse, || {
        in_each_case(&cases, |index, case| wait_below_the_root(ground, op, index, case))
    })
}

fn wait_below_the_root(ground: Ground<'_>, op: Op, index: usize, case: &Case) -> Result<(), Failed> {
    let (cache, kept, reads) = *case;
    let root = make_root(ground, &format!("slow-{index}"))?;
    let fuse = Fuse::mount(&root.join(FAR), &numbered(&SIZES)?, kept, reads)?;
    let server = ChildServer::start(ground.backend, &root, &Settings { cache, ..Settings::default() })?;
    // The kernel knows the names, unless they are what is to be waited for.
    if op != Op::Lookup {
        download_all(&server)?;
    }
    let mut neighbour = Neighbour::new(server.address, NEAR)?;
    fuse.delay(op, Delay::For(DELAY));
    let begun = Instant::now();
    thread::scope(|scope| {
        let downloads = scope.spawn(|| download_all(&server));
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
fn download_all(server: &ChildServer) -> Result<(), Failed> {
    thread::scope(|scope| {
        let clients: Vec<_> = (0..)
            .zip(SIZES)
            .map(|(number, size)| {
                scope.spawn(move || {
                    let mut client = Client::connect(server.address)?;
                    expect_pattern(&mut client, &format!("/{FAR}/{}", name_of(number, size)), size)
                })
            })
            .collect();
        join_all(clients)
    })
}
