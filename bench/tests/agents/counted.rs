//! A server that counts what it is asked.

use libtest_mimic::Failed;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

/// What it has been asked, for as long as the process lives.
pub(crate) struct Counted {
    pub(crate) address: SocketAddr,
    requests: Arc<AtomicU64>,
}

impl Counted {
    /// Listens on any port of this address; a thread per connection.
    pub(crate) fn start(address: &str) -> Result<Counted, Failed> {
        let listener = TcpListener::bind((address, 0))?;
        let address = listener.local_addr()?;
        let requests = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&requests);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let counter = Arc::clone(&counter);
                thread::spawn(move || converse(stream, &counter));
            }
        });
        Ok(Counted { address, requests })
    }

    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::SeqCst)
    }
}

/// The engine sends a request when it has the answer to the last one, so there is never more than one.
fn converse(mut stream: TcpStream, counter: &AtomicU64) {
    let ready = stream.set_nodelay(true).and(stream.set_read_timeout(Some(Duration::from_secs(60))));
    if ready.is_err() {
        return;
    }
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        request.extend_from_slice(&buffer[..count]);
        if !request.ends_with(b"\r\n\r\n") {
            continue;
        }
        let closes = request.windows(17).any(|window| window == b"Connection: close");
        request.clear();
        // An answer takes some time, so that the test's threads leave the clients a CPU.
        thread::sleep(Duration::from_micros(300));
        counter.fetch_add(1, Ordering::SeqCst);
        if stream.write_all(ANSWER).is_err() || closes {
            return;
        }
    }
}
