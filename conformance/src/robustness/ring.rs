//! A guarantee of the ring server only: serving hot files needs no kernel worker threads.

use std::fs;
use std::time::{Duration, Instant};

use super::{DONE, Ground, Outcome, Test};
use crate::child::Settings;
use crate::client::Client;

pub(super) const TESTS: &[(&str, Test)] =
    &[("no_kernel_workers_in_a_hot_run", no_kernel_workers_in_a_hot_run)];

/// Long enough to notice a worker thread: the kernel keeps an idle one for five seconds.
const HOT_RUN: Duration = Duration::from_secs(1);

fn no_kernel_workers_in_a_hot_run(ground: Ground<'_>) -> Outcome {
    // The first lookup of a path can't be done without blocking, even if the path doesn't exist.
    for path in ["digits.txt", "missing", "404.html", "65537.bin", "1m.bin", "dir", "dir/index.html"] {
        let _found_or_not = fs::metadata(ground.sites.main().join(path));
    }
    let server = ground.serve_in_child(&Settings::default())?;
    let mut clients = (0..8).map(|_| Client::connect(server.address)).collect::<Result<Vec<_>, _>>()?;
    let end = Instant::now() + HOT_RUN;
    while Instant::now() < end {
        for client in &mut clients {
            for target in ["/digits.txt", "/missing", "/65537.bin", "/1m.bin", "/dir", "/dir/"] {
                client.get(target)?;
            }
        }
        let names = server.process().thread_names()?;
        if let Some(worker) = names.iter().find(|name| name.starts_with("iou-wrk")) {
            return Err(format!("the kernel started {worker} for the ring").into());
        }
    }
    drop(clients);
    server.stop()?;
    DONE
}
