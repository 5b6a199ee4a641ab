//! Ten thousand idle connections next to a busy one, on one worker.

use std::fs;
use std::time::{Duration, Instant};

use libtest_mimic::{Completion, Failed};
use rustix::process::{Resource, getrlimit};

use super::{DONE, Ground, Outcome, Test};
use crate::backend::Backend;
use crate::child::{ChildServer, Settings};
use crate::client::Client;

pub(super) const TESTS: &[(&str, Test)] =
    &[("ten_thousand_idle_and_one_busy", ten_thousand_idle_and_one_busy)];

const IDLE: usize = 10_000;
/// For the busy client, the listener, rings and files.
const SPARE: usize = 200;
const BUSY_REQUESTS: u32 = 2000;
/// Average per request of the busy client: far more than one takes, far less than a scan of all idle connections would.
const BUSY_REQUEST_MAX: Duration = Duration::from_millis(5);

/// The memory an idle connection may hold: less than a buffer. A thread needs pages for its stack.
fn idle_bytes_max(backend: Backend) -> u64 {
    match backend {
        Backend::Blocking => 36 * 1024,
        Backend::Epoll | Backend::Uring => 2 * 1024,
    }
}

fn ten_thousand_idle_and_one_busy(ground: Ground<'_>) -> Outcome {
    if let Err(reason) = check_limits(ground.backend) {
        return Ok(Completion::ignored_with(reason));
    }
    let settings = Settings { connections_max: IDLE + SPARE, ..Settings::default() };
    let server = ground.serve_in_child(&settings)?;
    let mut busy = Client::connect(server.address)?;
    busy.get("/digits.txt")?;
    let before = server.process().resident_bytes()?;
    let mut idle = gather(&server)?;
    let grown = server.process().resident_bytes()?.saturating_sub(before);
    if grown > IDLE as u64 * idle_bytes_max(ground.backend) {
        return Err(format!("{grown} bytes of memory for {IDLE} idle connections").into());
    }
    stay_busy(&mut busy)?;
    // Idle connections still work.
    for client in idle.iter_mut().step_by(97) {
        client.get("/digits.txt")?;
    }
    drop(idle);
    busy.get("/digits.txt")?;
    drop(busy);
    server.stop()?;
    DONE
}

/// The idle clients: each has received a response and keeps its connection open.
fn gather(server: &ChildServer) -> Result<Vec<Client>, Failed> {
    let mut idle = Vec::with_capacity(IDLE);
    for number in 0..IDLE {
        let mut client =
            Client::connect(server.address).map_err(|error| format!("client {number}: {error}"))?;
        let status = client.get("/digits.txt")?.status;
        if status != 200 {
            return Err(format!("{status} for client {number}").into());
        }
        idle.push(client);
    }
    Ok(idle)
}

fn stay_busy(busy: &mut Client) -> Result<(), Failed> {
    let begun = Instant::now();
    for _ in 0..BUSY_REQUESTS {
        busy.get("/digits.txt")?;
    }
    let each = begun.elapsed() / BUSY_REQUESTS;
    if each > BUSY_REQUEST_MAX {
        return Err(format!("{each:?} for a request next to {IDLE} idle connections").into());
    }
    Ok(())
}

/// Checks that the machine allows this many connections: descriptors on both sides, and threads for `blocking`.
fn check_limits(backend: Backend) -> Result<(), String> {
    let needed = (IDLE + SPARE) as u64;
    let descriptors = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    if descriptors < needed {
        return Err(format!("the hard limit of descriptors is {descriptors}; {needed} are needed"));
    }
    if backend != Backend::Blocking {
        return Ok(());
    }
    let processes = getrlimit(Resource::Nproc).maximum.unwrap_or(u64::MAX);
    if processes < needed {
        return Err(format!("the hard limit of processes is {processes}; {needed} threads are needed"));
    }
    // A thread has two mappings: its stack and the guard page below it.
    for (file, factor) in [("vm/max_map_count", 2), ("kernel/threads-max", 1), ("kernel/pid_max", 1)] {
        let value = read_number(&format!("/proc/sys/{file}")).unwrap_or(u64::MAX);
        if value < needed * factor {
            return Err(format!("{file} is {value}; {} are needed", needed * factor));
        }
    }
    match control_group_limit() {
        Some(limit) if limit < needed => {
            Err(format!("the control group allows {limit} threads; {needed} are needed"))
        }
        _ => Ok(()),
    }
}

fn read_number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The lowest `pids.max` of this process's control groups (cgroups(7), version 2).
fn control_group_limit() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let ancestors = std::path::Path::new("/sys/fs/cgroup").join(path);
    ancestors.ancestors().filter_map(|group| read_number(group.join("pids.max").to_str()?)).min()
}
