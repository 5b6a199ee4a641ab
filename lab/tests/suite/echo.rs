//! `echo` on every rung.

use std::io::Read;
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use lab::rungs::Rung;
use libtest_mimic::Failed;

use crate::client::{Client, pattern};
use crate::server::Server;
use crate::{Outcome, Test};

pub(crate) const TESTS: &[Test] = &[
    ("echo::bytes_come_back_whole_however_they_are_cut", bytes_come_back_whole),
    ("echo::a_burst_is_read_to_its_end", a_burst_is_read_to_its_end),
    ("echo::many_clients_at_once", many_clients_at_once),
    ("echo::half_close_gets_all_and_then_the_end", half_close),
    ("echo::resets_end_only_their_connection", resets),
    ("echo::who_sends_all_the_time_leaves_others_their_turn", greedy_senders),
    ("echo::who_does_not_read_is_not_read_from", slow_readers_are_bounded),
];

fn bytes_come_back_whole(rung: &'static Rung) -> Outcome {
    let server = Server::start(rung, "echo")?;
    let mut client = server.connect()?;
    for byte in pattern(0, 500) {
        client.echo(&[byte])?;
    }
    let bytes = pattern(0, 2000);
    for byte in &bytes {
        client.send(&[*byte])?;
    }
    client.expect(&bytes)?;
    for count in [2, 4095, 4097, 16 * 1024, 16 * 1024 + 1, 100_000] {
        client.echo(&pattern(count, count))?;
    }
    // More than both sockets take, so somebody has to read meanwhile.
    let bytes = pattern(0, 16 << 20);
    let mut sender = Client(client.0.try_clone()?);
    thread::scope(|scope| {
        let sending = scope.spawn(|| bytes.chunks(1 << 20).try_for_each(|chunk| sender.send(chunk)));
        client.expect(&bytes)?;
        Ok(sending.join().map_err(|_panic| "the sender panicked")??)
    })
}

/// All of it is there when the server looks, and nothing comes after it that would bring another event.
fn a_burst_is_read_to_its_end(rung: &'static Rung) -> Outcome {
    let server = Server::start(rung, "echo")?;
    let mut client = server.connect()?;
    // Sockets grow with what goes through them.
    let mut sender = Client(client.0.try_clone()?);
    let (warm_up, burst) = (pattern(0, 32 << 20), pattern(0, 768 << 10));
    thread::scope(|scope| {
        let sending = scope.spawn(|| sender.send(&warm_up));
        client.expect(&warm_up)?;
        Ok::<_, Failed>(sending.join().map_err(|_panic| "the sender panicked")??)
    })?;
    server.while_stopped(|| Ok(client.send(&burst)?))?;
    client.expect(&burst)
}

fn many_clients_at_once(rung: &'static Rung) -> Outcome {
    let server = Server::start(rung, "echo")?;
    let mut clients = Vec::new();
    for _ in 0..64 {
        clients.push(server.connect()?);
    }
    for round in 0..8 {
        for (number, client) in clients.iter_mut().enumerate() {
            client.send(&pattern(round * 1000 + number, 1 + number * 97))?;
        }
        for (number, client) in clients.iter_mut().enumerate().rev() {
            client.expect(&pattern(round * 1000 + number, 1 + number * 97))?;
        }
    }
    Ok(())
}

fn half_close(rung: &'static Rung) -> Outcome {
    let server = Server::start(rung, "echo")?;
    for count in [0, 1, 300_000] {
        let mut client = server.connect()?;
        let bytes = pattern(0, count);
        client.send(&bytes)?;
        client.half_close()?;
        if client.receive_all()? != bytes {
            return Err(format!("{count} bytes haven't come back").into());
        }
    }
    Ok(())
}

fn resets(rung: &'static Rung) -> Outcome {
    let server = Server::start(rung, "echo")?;
    let mut neighbour = server.connect_served()?;
    for count in [0, 1, 100_000] {
        let mut clients = Vec::new();
        for _ in 0..16 {
            let mut client = server.connect()?;
            client.send(&pattern(0, count))?;
            clients.push(client);
        }
        clients.into_iter().try_for_each(Client::reset)?;
        neighbour.echo(b"still here")?;
    }
    let mut newcomer = server.connect()?;
    newcomer.echo(b"and so is everybody else")
}

/// One whose socket never runs empty. The others are answered all the same.
fn greedy_senders(rung: &'static Rung) -> Outcome {
    const ECHOES: usize = 100;
    let server = Server::start(rung, "echo")?;
    let mut neighbour = server.connect_served()?;
    let mut greedy = Vec::new();
    for _ in 0..2 {
        let sender = server.connect()?;
        let reader = Client(sender.0.try_clone()?);
        greedy.push((sender, reader));
    }
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for (mut sender, mut reader) in greedy {
            let bytes = pattern(0, 1 << 16);
            // Both end when the connection does.
            scope.spawn(move || while sender.send(&bytes).is_ok() {});
            let is_over = &is_over;
            scope.spawn(move || {
                let mut buffer = vec![0; 1 << 16];
                while !is_over.load(Relaxed) && reader.0.read(&mut buffer).is_ok_and(|count| count > 0) {}
                reader.0.shutdown(Shutdown::Both)
            });
        }
        let outcome = (0..ECHOES).try_for_each(|number| neighbour.echo(&pattern(number, 100)));
        is_over.store(true, Relaxed);
        outcome
    })
}

/// What they send fills the sockets between them and what the server may keep for them; then it stops.
fn slow_readers_are_bounded(rung: &'static Rung) -> Outcome {
    const SENT_MAX: usize = 64 << 20;
    const MEMORY_MAX: u64 = 8 << 20;
    let server = Server::start(rung, "echo")?;
    let mut neighbour = server.connect_served()?;
    let before = server.memory()?;
    let mut slow = Vec::new();
    for _ in 0..4 {
        let mut client = server.connect()?;
        let sent = client.send_until_blocked(SENT_MAX)?;
        slow.push((client, sent));
        neighbour.echo(b"nobody waits for them")?;
    }
    let growth = server.memory()?.saturating_sub(before);
    if growth > MEMORY_MAX {
        return Err(format!("the server has grown by {growth} bytes").into());
    }
    for (mut client, sent) in slow {
        client.expect(&pattern(0, sent))?;
        client.echo(b"it goes on")?;
    }
    Ok(())
}
