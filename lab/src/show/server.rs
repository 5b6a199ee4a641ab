//! A rung that serves for as long as a scene takes.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::Stop;
use super::calls::ANYWHERE;
use crate::rungs::RUNGS;
use crate::services::{Kind, Service};
use crate::{End, Setup, listen_on};

const RUNG: &str = "epoll-edge";

/// Whoever waits longer than this waits for ever.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Runs the rung for as long as the scene takes.
pub(super) fn serve(
    kind: Kind,
    scene: impl FnOnce(&Service, SocketAddr) -> Result<bool, Stop>,
) -> Result<bool, Stop> {
    let rung = RUNGS.iter().find(|rung| rung.name == RUNG).expect("it is a rung");
    let (listeners, address) = listen_on(ANYWHERE, 1)?;
    let (service, end) = (Service::new(kind), Arc::new(End::default()));
    let setup = Setup { listeners, workers: 1, service: Arc::clone(&service), end: Arc::clone(&end) };
    thread::scope(|scope| {
        let server = scope.spawn(move || (rung.serve)(setup));
        let shown = scene(&service, address);
        end.begin();
        server.join().map_err(|_| Stop("the server has panicked".to_owned()))??;
        shown
    })
}

/// So many clients.
pub(super) fn crowd(address: SocketAddr, count: u64) -> Result<Vec<TcpStream>, Stop> {
    (0..count).map(|_| TcpStream::connect(address).map_err(Stop::from)).collect()
}

/// How many connections a server has, as soon as they are as many as expected, or else at last.
pub(super) fn connections(service: &Service, is_expected: impl Fn(u64) -> bool) -> u64 {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let held = service.stats.read().connections;
        if is_expected(held) || Instant::now() > deadline {
            return held;
        }
        thread::sleep(Duration::from_millis(1));
    }
}
