//! Limits: each is met, mentioned once, and survived.

use std::thread;
use std::time::Duration;

use lab::rungs::{RUNGS, Rung};
use libtest_mimic::Failed;

use crate::client::Client;
use crate::server::{Server, lab_with_threads};
use crate::{Case, Outcome, Test};

pub(crate) const TESTS: &[Test] =
    &[("limits::without_descriptors_it_pauses_and_goes_on", without_descriptors_it_pauses)];

/// Tests of limits that only one rung has.
pub(crate) const OF_ONE_RUNG: &[Case] = &[
    ("select::limits::descriptors_that_do_not_fit_are_refused", descriptors_that_do_not_fit),
    ("thread::limits::without_threads_connections_are_closed", without_threads),
];

const DESCRIPTORS: &str = "descriptors have run out";

fn rung(name: &str) -> Result<&'static Rung, Failed> {
    Ok(RUNGS.iter().find(|rung| rung.name == name).ok_or("a rung of this name")?)
}

/// Some connections wait in the kernel's queue until others close. Meanwhile the server doesn't spin.
fn without_descriptors_it_pauses(rung: &'static Rung) -> Outcome {
    const COUNT: usize = 80;
    let server = Server::start_limited(rung, "echo", "ulimit -n 64")?;
    let mut clients = Vec::new();
    for number in 0..COUNT {
        let mut client = server.connect()?;
        client.send(&[u8::try_from(number)?])?;
        clients.push(client);
    }
    let line = server.next_line()?;
    if !line.contains(DESCRIPTORS) || !line.contains("64") {
        return Err(line.into());
    }
    let before = server.cpu_time()?;
    let window = Duration::from_millis(500);
    thread::sleep(window);
    let used = server.cpu_time()? - before;
    // The one rung that spins by design.
    if rung.name != "busy" && used > window / 5 {
        return Err(format!("it has used {used:?} of {window:?} with nothing to do").into());
    }
    // As each one leaves, in order of arrival, there is a descriptor for another one.
    for (number, mut client) in clients.into_iter().enumerate() {
        client.expect(&[u8::try_from(number)?])?;
        client.echo(b"served")?;
    }
    server.connect()?.echo(b"all is well")?;
    server.end_having_said(&[])
}

fn descriptors_that_do_not_fit() -> Outcome {
    const COUNT: usize = 1100;
    let server = Server::start(rung("select")?, "echo")?;
    let mut served = 0;
    let mut clients = Vec::new();
    for _ in 0..COUNT {
        let mut client = server.connect()?;
        // Refused ones are closed, before or after this.
        let has_echo = client.send(b"x").is_ok() && client.receive(1).is_ok();
        served += usize::from(has_echo);
        clients.push((client, has_echo));
    }
    if !(1000..1024).contains(&served) || clients[..served].iter().any(|(_, has_echo)| !has_echo) {
        return Err(format!("{served} clients are served").into());
    }
    for (client, has_echo) in &mut clients {
        if *has_echo {
            client.echo(b"still served")?;
        }
    }
    let leaver = clients.swap_remove(10);
    drop(leaver);
    crate::server::within(crate::client::PATIENCE, "the place of the one that has left", || {
        server.connect().ok()?.echo(b"in its place").ok()
    })?;
    server.end_having_said(&["below 1024"])
}

fn without_threads() -> Outcome {
    const THREADS: usize = 100;
    const COUNT: usize = 400;
    let server = Server::start_by(lab_with_threads(THREADS), rung("thread")?, "echo")?;
    let mut served: Vec<Client> = Vec::new();
    let mut refused = 0;
    for _ in 0..COUNT {
        let mut client = server.connect()?;
        if client.send(b"x").is_ok() && client.receive(1).is_ok() {
            served.push(client);
        } else {
            refused += 1;
        }
    }
    if served.is_empty() || served.len() > THREADS {
        return Err(format!("{} served, {refused} refused", served.len()).into());
    }
    served.iter_mut().try_for_each(|client| client.echo(b"still served"))?;
    drop(served);
    crate::server::within(crate::client::PATIENCE, "a thread for another one", || {
        server.connect().ok()?.echo(b"x").ok()
    })?;
    server.end_having_said(&["no more threads can be started"])
}
