//! `chat` on every rung.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Instant;

use lab::rungs::Rung;
use lab::services::{LINE_BYTES_MAX, MAILBOX_BYTES_MAX, RECEIVE_BYTES_MAX};
use libtest_mimic::Failed;
use rustix::net::{AddressFamily, SocketType, connect, socket, sockopt};

use crate::client::{Client, PATIENCE};
use crate::server::{Server, within};
use crate::{Outcome, Test};

pub(crate) const TESTS: &[Test] = &[
    ("chat::a_line_goes_to_everybody_else", a_line_goes_to_everybody_else),
    ("chat::who_leaves_is_forgotten", who_leaves_is_forgotten),
    ("chat::who_says_too_much_is_disconnected", who_says_too_much_is_disconnected),
    ("chat::a_burst_from_many_drops_nobody_who_reads", a_burst_from_many),
    ("chat::a_slow_reader_is_dropped_and_holds_up_nobody", a_slow_reader_is_dropped),
];

/// For rungs that receive from one client until its socket is empty, and therefore need a bound. `reuseport` is the first
/// of them several times over; all others receive once and look at the next.
pub(crate) const OF_BOUNDED: &[Test] =
    &[("chat::who_floods_leaves_others_their_turn", who_floods_leaves_others_their_turn)];

pub(crate) fn needs_a_bound(rung: &Rung) -> bool {
    ["epoll-edge", "futures"].contains(&rung.name)
}

/// Adds a client to the room. It is there when the others hear of it.
fn join(server: &Server, others: &mut [Client]) -> Result<Client, Failed> {
    greet(server.connect()?, others)
}

fn greet(mut client: Client, others: &mut [Client]) -> Result<Client, Failed> {
    client.send(b"hello\n")?;
    others.iter_mut().try_for_each(|other| other.expect(b"hello\n"))?;
    Ok(client)
}

/// So many clients who have heard all that was said so far.
fn room(server: &Server, count: usize) -> Result<Vec<Client>, Failed> {
    let mut clients = vec![server.connect()?, server.connect()?];
    meet(&mut clients)?;
    while clients.len() < count {
        let client = join(server, &mut clients)?;
        clients.push(client);
    }
    Ok(clients)
}

/// Nobody tells the first of two that it is in the room. So the second one talks until it is heard.
fn meet(clients: &mut [Client]) -> Outcome {
    let [listener, talker] = clients else { return Err("two meet".into()) };
    let line = |number: usize| format!("{number:08}\n").into_bytes();
    let mut said = 0;
    within(PATIENCE, "the first one to be in the room", || {
        said += 1;
        talker.send(&line(said)).ok()?;
        listener.has_bytes().then_some(())
    })?;
    while listener.receive(line(said).len())? != line(said) {}
    Ok(())
}

fn a_line_goes_to_everybody_else(rung: &'static Rung) -> Outcome {
    let server = Server::start(rung, "chat")?;
    let mut clients = room(&server, 8)?;
    let long = [&[b'x'; LINE_BYTES_MAX - 1][..], b"\n"].concat();
    for speaker in 0..clients.len() {
        for text in [&b"a line\n"[..], b"\n", b"several\nlines\n", &long] {
            // The first byte comes by itself.
            let (first, rest) = text.split_at(1);
            clients[speaker].send(first)?;
            clients[speaker].send(rest)?;
            for (number, client) in clients.iter_mut().enumerate() {
                if number != speaker {
                    client.expect(text)?;
                }
            }
        }
    }
    // What comes first is what the other one says: nobody has heard himself.
    let [first, second, ..] = &mut clients[..] else { return Err("eight are there".into()) };
    second.send(b"last\n")?;
    first.expect(b"last\n")
}

fn who_leaves_is_forgotten(rung: &'static Rung) -> Outcome {
    let server = Server::start(rung, "chat")?;
    let mut clients = room(&server, 6)?;
    // One leaves in the middle of a line, which ends there.
    let mut leaver = clients.pop().ok_or("six are there")?;
    leaver.send(b"bye")?;
    leaver.half_close()?;
    clients.iter_mut().try_for_each(|client| client.expect(b"bye\n"))?;
    if !leaver.receive_all()?.is_empty() {
        return Err("it has heard itself".into());
    }
    clients.pop().ok_or("five are there")?.reset()?;
    for _ in 0..32 {
        clients[0].send(b"who is there?\n")?;
        clients[1..].iter_mut().try_for_each(|client| client.expect(b"who is there?\n"))?;
    }
    Ok(())
}

fn who_says_too_much_is_disconnected(rung: &'static Rung) -> Outcome {
    let server = Server::start(rung, "chat")?;
    let mut clients = room(&server, 2)?;
    let mut bore = join(&server, &mut clients)?;
    bore.send(&[&b"well,\n"[..], &vec![b'x'; LINE_BYTES_MAX + 1]].concat())?;
    clients.iter_mut().try_for_each(|client| client.expect(b"well,\n"))?;
    bore.receive_to_any_end()?;
    clients[0].send(b"at last\n")?;
    clients[1].expect(b"at last\n")
}

/// What many say at once is more than waits for a slow reader, but a reader that had no turn meanwhile isn't slow. Nor are
/// those who speak: their sockets take what exceeds their mailboxes.
fn a_burst_from_many(rung: &'static Rung) -> Outcome {
    let server = Server::start(rung, "chat")?;
    let mut clients = room(&server, 17)?;
    let (reader, speakers) = clients.split_first_mut().ok_or("a reader")?;
    let text = [&[b'x'; 999][..], b"\n"].concat().repeat(20);
    server.while_stopped(|| Ok(speakers.iter_mut().try_for_each(|speaker| speaker.send(&text))?))?;
    reader.expect(&text.repeat(speakers.len()))
}

/// Chat shows the order in which a server receives: it is the order of the lines. What one says that finds a flood before it
/// comes after a part of the flood, not after all of it.
fn who_floods_leaves_others_their_turn(rung: &'static Rung) -> Outcome {
    /// As much as the most that is received in a row, and a quarter.
    const BEFORE_MAX: usize = 16 * RECEIVE_BYTES_MAX * 5 / 4;
    let server = Server::start(rung, "chat")?;
    let mut clients = room(&server, 3)?;
    let [listener, other, flooder] = &mut clients[..] else { return Err("three are there".into()) };
    let line = [&[b'x'; LINE_BYTES_MAX - 1][..], b"\n"].concat();
    // Sockets grow with what goes through them. What is said at once fits a mailbox, and the flood fits a mailbox and a
    // grown socket: a listener that a busy machine keeps from reading isn't dropped.
    let batch = line.repeat(MAILBOX_BYTES_MAX / LINE_BYTES_MAX);
    for _ in 0..128 {
        hear(listener, batch.len(), other, batch.len(), || flooder.send(&batch))?;
    }
    let flood = line.repeat(BEFORE_MAX * 3 / 2 / LINE_BYTES_MAX);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let sent = server.while_stopped(|| {
            let sent = flooder.send_what_fits(&flood)?;
            other.send(b"me\n")?;
            Ok(sent)
        })?;
        let heard = hear(listener, flood.len() + 3, other, flood.len(), || flooder.send(&flood[sent..]))?;
        // A busy machine may have left the sockets too small. This flood has made them grow.
        if sent == flood.len() {
            let before = heard.iter().position(|byte| *byte == b'm').ok_or("it wasn't heard")?;
            return if before <= BEFORE_MAX {
                Ok(())
            } else {
                Err(format!("it had to wait for {before} bytes").into())
            };
        }
        if Instant::now() > deadline {
            return Err(format!("sockets take only {sent} bytes").into());
        }
    }
}

/// What the first of two hears, while a third one speaks.
fn hear(
    first: &mut Client,
    first_bytes: usize,
    second: &mut Client,
    second_bytes: usize,
    speak: impl FnOnce() -> io::Result<()> + Send,
) -> Result<Vec<u8>, Failed> {
    thread::scope(|scope| {
        let speaker = scope.spawn(speak);
        let second = scope.spawn(|| second.receive(second_bytes));
        let heard = first.receive(first_bytes)?;
        second.join().map_err(|_| "the second one has panicked")??;
        speaker.join().map_err(|_| "the speaker has panicked")??;
        Ok(heard)
    })
}

/// Kernels keep some megabytes for a client that doesn't read, though its own socket takes little.
fn a_slow_reader_is_dropped(rung: &'static Rung) -> Outcome {
    const SAID: usize = 16 << 20;
    const MEMORY_MAX: u64 = 8 << 20;
    let server = Server::start(rung, "chat")?;
    let mut clients = room(&server, 2)?;
    let mut slow = greet(connect_narrow(server.address)?, &mut clients)?;
    let before = server.memory()?;
    let line = [&[b'x'; LINE_BYTES_MAX - 1][..], b"\n"].concat();
    let batch = line.repeat(16);
    let [speaker, reader] = &mut clients[..] else { return Err("two are there".into()) };
    let mut said = 0;
    while said < SAID {
        speaker.send(&batch)?;
        // Everything reaches who reads, as soon as it is said.
        reader.expect(&batch)?;
        said += batch.len();
    }
    let growth = server.memory()?.saturating_sub(before);
    if growth > MEMORY_MAX {
        return Err(format!("the server has grown by {growth} bytes").into());
    }
    let heard = slow.receive_to_any_end()?;
    if heard + MAILBOX_BYTES_MAX > said {
        return Err(format!("it has heard {heard} of {said} bytes, though it was dropped").into());
    }
    Ok(())
}

/// A client whose socket takes little.
fn connect_narrow(address: SocketAddr) -> Result<Client, Failed> {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    sockopt::set_socket_recv_buffer_size(&socket, 4096)?;
    connect(&socket, &address)?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(Client(stream))
}
