//! C8: one multishot accept.

use std::io;
use std::net::TcpStream;
use std::rc::Rc;
use std::time::Duration;

use common::Token;
use nix::errno::Errno;
use uring::ring::{Completion, Options, Ring};

use super::calls::{ANYWHERE, address_of, listen_at, number};
use super::{Script, Stop};

const CONNECTIONS: usize = 3;

/// Whoever waits longer than this waits for ever.
const PATIENCE: Duration = Duration::from_secs(5);
const LISTENER: Token = Token { slot: 0, generation: 0 };

pub(super) fn play(script: &mut Script) -> Result<bool, Stop> {
    let mut ring =
        Ring::new(&Options { submissions: 8, completions: 16, receive_buffers: 1, ..Options::default() })
            .map_err(|refusal| Stop(refusal.to_string()))?;
    let listener = Rc::new(listen_at(script, ANYWHERE, false)?);
    let address = address_of(&listener)?;
    let flight = ring.arm_accept(LISTENER, &listener);
    script.found(format_args!(
        "one submission: IORING_OP_ACCEPT({}, IORING_ACCEPT_MULTISHOT)",
        number(&*listener)
    ));
    let mut clients = Vec::new();
    let mut went_on = 0;
    for _ in 0..CONNECTIONS {
        clients.push(TcpStream::connect(address)?);
        let (result, more) = accepted(script, &mut ring)?;
        went_on += usize::from(result.is_ok() && more);
    }
    ring.cancel(flight);
    script.found("the accept is cancelled");
    let (last, more) = accepted(script, &mut ring)?;
    let ends = last.is_err() && !more && ring.in_flight() == 0;
    Ok(went_on == CONNECTIONS && ends)
}

/// The next completion of the accept, and whether more will follow.
fn accepted(script: &mut Script, ring: &mut Ring) -> Result<(io::Result<()>, bool), Stop> {
    ring.submit_and_wait(Some(PATIENCE))?;
    let Some(Completion::Accepted { result, armed, .. }) = ring.completion() else {
        return Err(Stop("no completion of the accept came".to_owned()));
    };
    let value = match &result {
        Ok(socket) => format!("res = {} (a socket)", number(socket)),
        Err(error) => {
            format!("res = -{:?}", error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw))
        }
    };
    let flags = if armed { "IORING_CQE_F_MORE" } else { "0" };
    script.found(format_args!("completion: {value}, flags = {flags}"));
    Ok((result.map(drop), armed))
}
