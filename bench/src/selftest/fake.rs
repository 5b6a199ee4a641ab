//! A server that answers at the moments that it is told.

use crate::failure::{Failure, Result};
use crate::load::request::Expected;
use rustix::thread::set_current_timer_slack;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

pub(super) const EXPECTED: Expected = Expected { status: 200, body_bytes: 2 };

/// Says when a request that has come at a moment is to be answered.
type Script = dyn Fn(Instant) -> Instant + Send + Sync;

/// A thread per connection; they end with their connections.
pub(super) struct FakeServer {
    address: SocketAddr,
    ended: Arc<AtomicBool>,
    late: Arc<Mutex<Duration>>,
}

impl FakeServer {
    pub(super) fn start(script: impl Fn(Instant) -> Instant + Send + Sync + 'static) -> Result<FakeServer> {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(Failure::context("start a fake server"))?;
        let address = listener.local_addr().map_err(Failure::context("start a fake server"))?;
        let server = FakeServer { address, ended: Arc::default(), late: Arc::default() };
        let (ended, late) = (Arc::clone(&server.ended), Arc::clone(&server.late));
        let script: Arc<Script> = Arc::new(script);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(std::result::Result::ok) {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                let (script, late) = (Arc::clone(&script), Arc::clone(&late));
                thread::spawn(move || converse(stream, &*script, &late));
            }
        });
        Ok(server)
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How much later than it should it answered, at worst.
    pub(super) fn lateness(&self) -> Duration {
        *self.late.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts.
        drop(TcpStream::connect(self.address));
    }
}

fn converse(mut stream: TcpStream, script: &Script, late: &Mutex<Duration>) {
    // Both only make it more exact.
    let _nagle_stays = stream.set_nodelay(true);
    let _slack_stays = set_current_timer_slack(Some(NonZeroU64::MIN));
    let mut buffer = [0; 4096];
    // The engine sends a request only when the last one is answered, and whole.
    while stream.read(&mut buffer).is_ok_and(|count| count > 0) {
        let due = script(Instant::now());
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let lateness = due.elapsed();
        if stream.write_all(ANSWER).is_err() {
            return;
        }
        let mut latest = late.lock().unwrap_or_else(PoisonError::into_inner);
        *latest = latest.max(lateness);
    }
}
