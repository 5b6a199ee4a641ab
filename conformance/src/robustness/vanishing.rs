//! Clients that vanish at any point, with a close or a reset. Nothing of them remains, and other clients aren't
//! affected.

use std::time::{Duration, Instant};

use common::Config;
use libtest_mimic::Failed;

use super::{DONE, Ground, Outcome, Test};
use crate::census::connections_end;
use crate::client::{Client, Heard};
use crate::response::Framing;
use crate::row::get;
use crate::server::Server;

pub(super) const TESTS: &[(&str, Test)] = &[
    ("in_mid_body", in_mid_body),
    ("right_after_the_request", right_after_the_request),
    ("within_the_head", within_the_head),
    ("after_an_answer", after_an_answer),
    ("before_any_byte", before_any_byte),
    ("with_requests_waiting", with_requests_waiting),
    ("half_closed_in_mid_body", half_closed_in_mid_body),
];

const CLIENTS: usize = 40;

/// Lets clients come and go, half of them with a reset, half with a close. Afterwards the server must have no
/// connections, and it must serve others all the time.
fn come_and_go(ground: Ground<'_>, visit: impl Fn(&mut Client) -> Result<(), Failed>) -> Outcome {
    let server = ground.serve(Config::default())?;
    let mut other = Client::connect(server.address)?;
    for round in 0..CLIENTS {
        let mut client = Client::connect_narrow(server.address, 16 * 1024)?;
        visit(&mut client)?;
        if round % 2 == 0 {
            client.reset()?;
        } else {
            drop(client);
        }
        let status = other.get("/digits.txt")?.status;
        if status != 200 {
            return Err(format!("{status} for another client").into());
        }
    }
    drop(other);
    expect_empty(server)
}

fn expect_empty(server: Server) -> Outcome {
    connections_end(&server)?;
    server.stop()?;
    DONE
}

fn in_mid_body(ground: Ground<'_>) -> Outcome {
    come_and_go(ground, |client| {
        client.send(&get("/8m.bin", &[]))?;
        client.head(Framing::Content)?;
        client.content(100_000, |_, _| Ok(()))
    })
}

fn right_after_the_request(ground: Ground<'_>) -> Outcome {
    come_and_go(ground, |client| Ok(client.send(&get("/1m.bin", &[]))?))
}

fn within_the_head(ground: Ground<'_>) -> Outcome {
    come_and_go(ground, |client| Ok(client.send(b"GET /digits.txt HTTP/1.1\r\nHost:")?))
}

fn after_an_answer(ground: Ground<'_>) -> Outcome {
    come_and_go(ground, |client| client.get("/digits.txt").map(drop))
}

fn before_any_byte(ground: Ground<'_>) -> Outcome {
    come_and_go(ground, |_| Ok(()))
}

fn with_requests_waiting(ground: Ground<'_>) -> Outcome {
    come_and_go(ground, |client| {
        client.send(&get("/300000.bin", &[]).repeat(50))?;
        client.response(Framing::Content).map(drop)
    })
}

/// The client half-closes while the response is stuck, then vanishes.
fn half_closed_in_mid_body(ground: Ground<'_>) -> Outcome {
    come_and_go(ground, |client| {
        client.send(&get("/8m.bin", &[]))?;
        client.half_close()?;
        match client.hear(Instant::now() + Duration::from_secs(10))? {
            Heard::Bytes(_) => Ok(()),
            heard @ (Heard::End | Heard::Reset | Heard::Silence) => {
                Err(format!("{heard:?} instead of a response").into())
            }
        }
    })
}
