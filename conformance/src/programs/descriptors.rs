//! Few descriptors: a server serves, or says what it needs.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use common::service::admin::VISITORS_MAX;
use libtest_mimic::Failed;

use super::Needs::{Nothing, Server};
use super::{DONE, Ground, Needs, Outcome, Test};
use crate::backend::Backend;
use crate::client::Client;
use crate::deadline;
use crate::process::Process;
use crate::program::{Program, Running};

pub(super) const TESTS: &[(&str, Needs, Test)] = &[
    ("too_few_are_refused", Nothing, too_few_are_refused),
    ("as_many_as_it_asks_for_are_enough", Server, as_many_as_it_asks_for_are_enough),
    ("inherited_ones_count", Server, inherited_ones_count),
    ("one_place_for_many_workers", Server, one_place_for_many_workers),
];

const PATIENCE: Duration = Duration::from_secs(10);

/// Clients that come one after the other and stay.
const CLIENTS: usize = 5;

/// The program with so many descriptors, after this has been done in the shell that starts it.
fn start(ground: Ground<'_>, limit: u64, before: &str, arguments: &[&str]) -> Result<Running, Failed> {
    let mut shell = Command::new("sh");
    let script = format!("{before} ulimit -n \"$1\" && shift && exec \"$@\"");
    shell.args(["-c", &script, "sh", &limit.to_string()]);
    shell.arg(ground.programs.path(ground.program)?).args(["--listen", "127.0.0.1:0"]).args(arguments);
    Running::start(shell.arg(ground.sites.main()))
}

/// Expects a refusal of one line that says what the limit is, how many descriptors are needed, and how to have more.
/// Returns how many.
fn refused(ground: Ground<'_>, limit: u64, before: &str, arguments: &[&str]) -> Result<u64, Failed> {
    let ended = start(ground, limit, before, arguments)?.wait(PATIENCE)?;
    let line = ended.errors.strip_suffix('\n').unwrap_or_default();
    let needed = line.split("needs at least ").nth(1).and_then(|rest| rest.split(' ').next());
    let words = [&format!("may have {limit} descriptors"), "`ulimit -n`", "LimitNOFILE=", "--workers"];
    match needed.and_then(|needed| needed.parse().ok()) {
        Some(needed)
            if needed > limit
                && ended.status.code() == Some(1)
                && !line.contains('\n')
                && words.iter().all(|word| line.contains(*word)) =>
        {
            Ok(needed)
        }
        _ => Err(format!("with {limit} descriptors: {ended:?}").into()),
    }
}

/// Each of several clients that stay is served, and gets a small file and a large one.
fn serves(running: &Running, address: SocketAddr) -> Result<(), Failed> {
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = Client::connect(address)?.with_patience(PATIENCE);
        for target in ["/digits.txt", "/300000.bin", "/missing", "/300000.bin", "/digits.txt"] {
            let status = client.get(target)?.status;
            if ![200, 404].contains(&status) {
                return Err(format!("{status} for {target}; it said: {}", running.errors()).into());
            }
        }
        clients.push(client);
    }
    Ok(())
}

fn too_few_are_refused(ground: Ground<'_>) -> Outcome {
    for workers in ["1", "4"] {
        let arguments = ["--workers", workers];
        let needed = refused(ground, 4, "", &arguments)?;
        for limit in (5..needed).step_by(2).chain([needed - 1]) {
            if refused(ground, limit, "", &arguments)? != needed {
                return Err(format!("not {needed} with {limit}").into());
            }
        }
    }
    DONE
}

fn as_many_as_it_asks_for_are_enough(ground: Ground<'_>) -> Outcome {
    let folder = ground.sites.scratch(&format!("descriptors-{}", ground.program))?;
    let log = format!("--access-log={}", folder.join("access.log").display());
    for (arguments, addresses) in [
        (&["--workers", "1"][..], 1),
        (&["--workers", "4"], 1),
        (&["--workers", "2", "--listen", "127.0.0.1:0", "--stats=1s"], 2),
        (&["--workers", "1", "--cache", "off", "--copy", "read", &log], 1),
        (&["--workers", "1", "--admin", "127.0.0.1:0"], 1),
    ] {
        let needed = refused(ground, 10, "", arguments)?;
        for more in [0, 1, 5, 20] {
            let mut running = start(ground, needed + more, "", arguments)?;
            let address = running.addresses(addresses)?[0];
            if more == 0 {
                // Those for a connection, six to spare, those of the caches, which are off, and for visitors of the admin
                // listener.
                let of_cache = if ground.program.backend() == Backend::Uring { 2 } else { 1 };
                let of_visitors = if arguments.contains(&"--admin") { VISITORS_MAX as u64 } else { 0 };
                let mut unused = 2 + 6 + arguments[1].parse::<u64>()? * of_cache + of_visitors;
                if ground.program == Program::Triptych {
                    unused += addresses as u64; // whose names the keeper holds
                }
                let process = Process::new(running.server_id()?);
                let held = || process.descriptors().is_ok_and(|held| held as u64 == needed - unused);
                deadline::within(PATIENCE, "all but those to be held", held)
                    .map_err(|_| format!("{:?} are held, of {needed} but {unused}", process.descriptors()))?;
            }
            serves(&running, address).map_err(|failed| {
                format!("{arguments:?} with {needed} + {more}: {}", failed.message().unwrap_or_default())
            })?;
        }
    }
    DONE
}

/// Descriptors that whoever started the server has left open.
fn inherited_ones_count(ground: Ground<'_>) -> Outcome {
    let arguments = ["--workers", "1"];
    let alone = refused(ground, 10, "", &arguments)?;
    let inherits = "exec 7</dev/null 8</dev/null 9</dev/null;";
    let needed = refused(ground, 10, inherits, &arguments)?;
    if needed != alone + 3 {
        return Err(format!("{needed} with three that are inherited, {alone} without").into());
    }
    let mut running = start(ground, needed, inherits, &arguments)?;
    let address = running.addresses(1)?[0];
    serves(&running, address)?;
    DONE
}

/// Places are of all workers together, so one is enough.
fn one_place_for_many_workers(ground: Ground<'_>) -> Outcome {
    let mut running = ground.serve(&["--workers", "4", "--connections-max", "1"])?;
    let address = running.addresses(1)?[0];
    serves(&running, address)?;
    DONE
}
