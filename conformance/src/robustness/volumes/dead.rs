//! A dead volume below the root, or as the root: operations on it never end. Its clients are told so, or left; nobody
//! else notices, and neither does the end of the server.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::Failed;

use super::*;
use crate::child::{ChildServer, Settings};
use crate::client::Heard;
use crate::deadline;
use crate::fuse::{Delay, Fuse, Kept, Op, Reads};
use crate::mounts::{self, Kind};
use crate::site::{cool, write_pattern};

pub(super) const TESTS: &[(&str, Test)] = &[
    ("others_are_served", others_are_served),
    ("resets_give_places_back", resets_give_places_back),
    ("is_served_again", is_served_again),
    ("ends_with_the_server", ends_with_the_server),
    ("root_ends_with_the_server", root_ends_with_the_server),
];

/// A thread that waits in the kernel for its client's file can tell the client nothing.
pub(super) const TESTS_OF_LOOPS: &[(&str, Test)] = &[("clients_are_told", clients_are_told)];

/// More clients than a server has threads for files.
const CLIENTS: usize = 100;

/// On the dead volume, for each client one.
const SIZE: u64 = 1_000;

/// On the disk, each asked for once.
const COLD_FILES: usize = 8;
const COLD_BYTES: u64 = 200_000;

const SEND_TIMEOUT: Duration = Duration::from_secs(3);
const GRACE: Duration = Duration::from_secs(2);

/// What a deadline may take on top: wheels turn in steps, threads are given a moment to end, the machine may be busy.
const SLACK: Duration = Duration::from_millis(1500);

/// A volume that will die.
struct Mortal {
    /// What will never end.
    ops: &'static [Op],
    kept: Kept,
    reads: Reads,
}

/// All but the last keep their clients from an answer.
const MORTALS: [(&str, Mortal); 5] = [
    ("nothing is known of it", Mortal { ops: &Op::ALL, kept: Kept::NOT, reads: Reads::Ahead }),
    ("the names are known", Mortal { ops: &Op::ALL, kept: Kept::LONG, reads: Reads::Ahead }),
    ("it tells no sizes", Mortal { ops: &[Op::Getattr], kept: Kept::NAMES, reads: Reads::Ahead }),
    ("it gives no bytes", Mortal { ops: &[Op::Read], kept: Kept::LONG, reads: Reads::Direct }),
    ("nothing can be closed", Mortal { ops: &[Op::Flush], kept: Kept::LONG, reads: Reads::Ahead }),
];

/// A site with parts on the disk, on a healthy volume, and on one that dies.
struct Patient {
    server: ChildServer,
    dead: Fuse,
    _healthy: Fuse,
    mortal: &'static Mortal,
    /// On the disk, each for one client to ask for.
    cold: Vec<PathBuf>,
}

const HEALTHY: &str = "healthy";

impl Patient {
    fn admit(ground: Ground<'_>, number: usize, mortal: &'static Mortal) -> Result<Patient, Failed> {
        let root = make_root(ground, &format!("dead-{number}"))?;
        fs::create_dir(root.join(HEALTHY))?;
        let files = numbered(&[SIZE; CLIENTS])?;
        let dead = Fuse::mount(&root.join(FAR), &files, mortal.kept, mortal.reads)?;
        let healthy = Fuse::mount(&root.join(HEALTHY), &files[..1], Kept::NOT, Reads::Ahead)?;
        let cold = (0..COLD_FILES).map(|number| root.join(name_of(number, COLD_BYTES)));
        let cold = cold.map(|path| Ok((write_pattern(&path, COLD_BYTES)?, path).1));
        let cold = cold.collect::<Result<_, Failed>>()?;
        // The kernel learns the names, and keeps them if it may.
        for (name, _) in &files {
            fs::metadata(root.join(FAR).join(name))?;
        }
        let settings =
            Settings { send_timeout: SEND_TIMEOUT, grace: GRACE, listing: true, ..Settings::default() };
        let server = ChildServer::start(ground.backend, &root, &settings)?;
        Ok(Patient { server, dead, _healthy: healthy, mortal, cold })
    }

    /// From now on no operation ends. So many clients ask for files, and wait for the volume.
    fn die(&self, clients: usize) -> Result<Vec<Client>, Failed> {
        for op in self.mortal.ops {
            self.dead.delay(*op, Delay::Forever);
        }
        let clients = self.ask(clients)?;
        deadline::within(PATIENCE, "somebody to wait for the volume", || self.dead.waiting() > 0)?;
        Ok(clients)
    }

    /// So many clients ask for files of the volume.
    fn ask(&self, clients: usize) -> Result<Vec<Client>, Failed> {
        let ask = |number: usize| {
            let mut client = Client::connect(self.server.address)?.with_patience(PATIENCE);
            let lists = number % 10 == 9 && self.mortal.ops.contains(&Op::Opendir);
            let name = if lists { String::new() } else { name_of(number, SIZE) };
            client.send(&get(&format!("/{FAR}{name}"), &[]))?;
            Ok(client)
        };
        (0..clients).map(ask).collect()
    }

    fn revive(&self) {
        self.dead.delay_all(Delay::None);
    }

    /// Others ask for what is on the disk, in memory or not, and on the healthy volume.
    fn expect_others_served(&self) -> Result<(), Failed> {
        let mut client = Client::connect(self.server.address)?.with_patience(PATIENCE);
        let mut soon = |target: &str, status: u16, size: Option<u64>| {
            let begun = Instant::now();
            let answer = client.get(target);
            let after = format!("{target} after {:?}", begun.elapsed());
            let late = |failed: Failed| format!("{after}: {}", failed.message().unwrap_or("no answer"));
            let response = answer.map_err(late)?;
            if begun.elapsed() > PATIENCE / 5 || response.status != status {
                return Err(Failed::from(format!("{}, {after}", response.status)));
            }
            size.map_or(Ok(()), |size| pattern_of(size).check(0, &response.content))
        };
        soon(NEAR, 200, None)?;
        // A name that nobody has looked up.
        soon(&format!("/{}.none", self.dead.count(Op::Lookup).asked), 404, None)?;
        for (number, path) in self.cold.iter().enumerate() {
            cool(path)?;
            soon(&format!("/{}", name_of(number, COLD_BYTES)), 200, Some(COLD_BYTES))?;
        }
        soon("/", 200, None)?;
        soon(&format!("/{HEALTHY}/{}", name_of(0, SIZE)), 200, Some(SIZE))
    }
}

/// Runs a trial with each of these volumes.
fn with_each(
    ground: Ground<'_>,
    mortals: &'static [(&str, Mortal)],
    trial: impl Fn(Patient) -> Result<(), Failed> + Send + Sync,
) -> Outcome {
    mounts::with(Kind::Fuse, || {
        in_each_case(mortals, |number, mortal| trial(Patient::admit(ground, number, mortal)?))
    })
}

fn others_are_served(ground: Ground<'_>) -> Outcome {
    with_each(ground, &MORTALS, |patient| {
        let clients = patient.die(CLIENTS)?;
        patient.expect_others_served()?;
        drop(clients);
        patient.revive();
        patient.server.stop()
    })
}

/// With a 503, or the end of the connection.
fn clients_are_told(ground: Ground<'_>) -> Outcome {
    with_each(ground, &MORTALS[..4], |patient| {
        let clients = patient.die(CLIENTS)?;
        let last = Instant::now() + SEND_TIMEOUT + SLACK;
        let mut silent = 0;
        for mut client in clients {
            match client.hear(last)? {
                Heard::End | Heard::Reset => {}
                Heard::Silence => silent += 1,
                Heard::Bytes(_) => expect_told(&mut client)?,
            }
        }
        if silent > 0 {
            return Err(format!("{silent} of {CLIENTS} clients hear nothing").into());
        }
        patient.expect_others_served()?;
        patient.revive();
        patient.server.stop()
    })
}

/// A 503, or the end of an answer that isn't whole: its head may have been sent when its file was opened.
fn expect_told(client: &mut Client) -> Result<(), Failed> {
    let response = client.head(Framing::Content)?;
    let is_whole = client.content(response.content_bytes as u64, |_, _| Ok(())).is_ok();
    match (response.status, is_whole) {
        (503, true) | (200, false) => Ok(()),
        (status, _) => Err(format!("{status} from a dead volume, whole: {is_whole}").into()),
    }
}

/// Clients that give up, many more than a server has places for.
fn resets_give_places_back(ground: Ground<'_>) -> Outcome {
    const ROUNDS: usize = 6;
    with_each(ground, &MORTALS, |patient| {
        let mut clients = patient.die(CLIENTS / 2)?;
        for _ in 0..ROUNDS {
            thread::sleep(SOON / 10); // their requests are on their way to the volume
            clients.into_iter().try_for_each(Client::reset)?;
            clients = patient.ask(CLIENTS / 2)?;
        }
        clients.into_iter().try_for_each(Client::reset)?;
        patient.expect_others_served()?;
        patient.revive();
        expect_served(&patient)?;
        patient.server.stop()
    })
}

fn is_served_again(ground: Ground<'_>) -> Outcome {
    with_each(ground, &MORTALS, |patient| {
        let clients = patient.die(CLIENTS)?;
        patient.revive();
        expect_served(&patient)?;
        // Those that have waited are served too: it was over in time.
        for (number, mut client) in clients.into_iter().enumerate() {
            let response = client.response(Framing::Content)?;
            let is_file = response.content.len() as u64 == SIZE;
            if response.status != 200 || !is_file && number % 10 != 9 {
                return Err(format!("{} for client {number}", response.status).into());
            }
        }
        patient.server.stop()
    })
}

/// A new client gets a file of the volume.
fn expect_served(patient: &Patient) -> Result<(), Failed> {
    let mut client = Client::connect(patient.server.address)?.with_patience(PATIENCE);
    expect_pattern(&mut client, &format!("/{FAR}{}", name_of(0, SIZE)), SIZE)
}

fn ends_with_the_server(ground: Ground<'_>) -> Outcome {
    with_each(ground, &MORTALS, |patient| {
        let clients = patient.die(CLIENTS / 2)?;
        patient.server.stop_within(GRACE + SLACK)?;
        drop(clients);
        Ok(())
    })
}

/// The root itself.
fn root_ends_with_the_server(ground: Ground<'_>) -> Outcome {
    mounts::with(Kind::Fuse, || {
        in_each_case(&MORTALS, |number, mortal| {
            let root = ground.sites.scratch(&format!("dead-root-{number}"))?;
            let dead = Fuse::mount(&root, &numbered(&[SIZE; 4])?, mortal.kept, mortal.reads)?;
            let settings = Settings { grace: GRACE, ..Settings::default() };
            let server = ChildServer::start(ground.backend, &root, &settings)?;
            let mut client = Client::connect(server.address)?.with_patience(PATIENCE);
            expect_pattern(&mut client, &format!("/{}", name_of(0, SIZE)), SIZE)?;
            for op in mortal.ops {
                dead.delay(*op, Delay::Forever);
            }
            client.send(&get(&format!("/{}", name_of(1, SIZE)), &[]))?;
            deadline::within(PATIENCE, "the client to wait for the volume", || dead.waiting() > 0)?;
            server.stop_within(GRACE + SLACK)
        })
    })
}
