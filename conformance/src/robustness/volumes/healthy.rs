//! A volume in user space that is well: its files are served as any others, but never by an event loop itself.

use std::path::Path;

use common::CacheLevel;
use libtest_mimic::{Completion, Failed};

use super::exchange::{expect_all, files};
use super::*;
use crate::child::{ChildServer, Settings};
use crate::fuse::{Fuse, Kept, Reads};
use crate::mounts::{self, Kind};
use crate::trace::{Call, Forbidden, Trace};

pub(super) const TESTS: &[(&str, Test)] = &[("whole_exchange", whole_exchange)];

pub(super) const TESTS_OF_LOOPS: &[(&str, Test)] = &[
    ("loop_leaves_it_alone", loop_leaves_it_alone),
    ("loop_leaves_the_root_alone", loop_leaves_the_root_alone),
];

/// Sent from a buffer, and in pieces.
const SIZES: [u64; 2] = [100 << 10, 4 << 20];

/// `RWF_NOWAIT` (preadv2(2)): a file system that can't tell refuses it.
const NOWAIT: u64 = 8;

fn whole_exchange(ground: Ground<'_>) -> Outcome {
    const CASES: [(&str, (&str, Kept, Reads)); 5] = [
        ("the root", ("", Kept::LONG, Reads::Ahead)),
        ("the root, nothing is known", ("", Kept::NOT, Reads::Ahead)),
        ("below the root", (FAR, Kept::LONG, Reads::InTurn)),
        ("below the root, nothing is known", (FAR, Kept::NOT, Reads::Ahead)),
        ("below the root, not in the page cache", (FAR, Kept::LONG, Reads::Direct)),
    ];
    mounts::with(Kind::Fuse, || {
        in_each_case(&CASES, |number, (folder, kept, reads)| {
            let root = make_root(ground, &format!("healthy-{number}"))?;
            let _fuse = Fuse::mount(&root.join(folder), &files(&SIZES)?, *kept, *reads)?;
            for cache in [CacheLevel::Off, CacheLevel::Descriptors, CacheLevel::Contents] {
                let settings = Settings { cache, listing: true, ..Settings::default() };
                let server = ChildServer::start(ground.backend, &root, &settings)?;
                expect_all(&server, &format!("/{folder}"), &SIZES)?;
                server.stop()?;
            }
            Ok(())
        })
    })
}

fn loop_leaves_it_alone(ground: Ground<'_>) -> Outcome {
    loop_leaves_alone(ground, FAR)
}

fn loop_leaves_the_root_alone(ground: Ground<'_>) -> Outcome {
    loop_leaves_alone(ground, "")
}

/// Looks at each system call of the loop's thread while files of the volume are served.
fn loop_leaves_alone(ground: Ground<'_>, folder: &str) -> Outcome {
    mounts::with(Kind::Fuse, || {
        let root = make_root(ground, "traced")?;
        let volume = root.join(folder);
        let _fuse = Fuse::mount(&volume, &files(&SIZES)?, Kept::LONG, Reads::Ahead)?;
        for cache in [CacheLevel::Off, CacheLevel::Contents] {
            let settings = Settings { cache, listing: true, ..Settings::default() };
            let server = ChildServer::start(ground.backend, &root, &settings)?;
            // The kernel learns the names.
            expect_all(&server, &format!("/{folder}"), &SIZES)?;
            let process = server.process();
            let trace = match Trace::begin(process.id(), process.thread("worker-0")?) {
                Ok(trace) => trace,
                Err(Forbidden(reason)) => return Ok(Completion::ignored_with(reason)),
            };
            let asked = expect_all(&server, &format!("/{folder}"), &SIZES);
            let mut nudge = Client::connect(server.address)?;
            let calls = trace.end(|| nudge.get("/none").map(drop))?;
            asked?;
            judge(&calls, &volume)?;
            drop(nudge);
            server.stop()?;
        }
        DONE
    })
}

fn judge(calls: &[Call], volume: &Path) -> Result<(), Failed> {
    for call in calls {
        let touches = [&call.source, &call.opened].into_iter().flatten().any(|path| path.starts_with(volume));
        let asks = call.number == libc::SYS_preadv2 && call.arguments[5] & NOWAIT != 0;
        if touches && !asks {
            return Err(format!("one of {} calls waits for the volume: {call:?}", calls.len()).into());
        }
    }
    // A trace that saw nothing proves nothing.
    if calls.is_empty() {
        return Err("not one call was seen".into());
    }
    Ok(())
}
