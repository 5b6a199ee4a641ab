//! C9: more operations than the submission queue has entries.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;

use common::{SharedPiece, Token};
use uring::ring::{Completion, Options, Ring};

use super::{Script, Stop};

const ENTRIES: u32 = 8;
const OPERATIONS: u8 = 64;

/// Whoever waits longer than this waits for ever.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) fn play(script: &mut Script) -> Result<bool, Stop> {
    let options =
        Options { submissions: ENTRIES, completions: 128, receive_buffers: 1, ..Options::default() };
    let mut ring = Ring::new(&options).map_err(|refusal| Stop(refusal.to_string()))?;
    script.found(format_args!("io_uring_setup: a submission queue of {ENTRIES} entries"));
    let mut readers = Vec::new();
    for name in 0..OPERATIONS {
        let (reader, writer) = UnixStream::pair()?;
        reader.set_read_timeout(Some(PATIENCE))?;
        readers.push(reader);
        let output = SharedPiece::Output(Rc::new(vec![name]), 0..1);
        let token = Token { slot: name.into(), generation: 0 };
        ring.send(token, &Rc::new(OwnedFd::from(writer)), [output], false);
    }
    let waiting = ring.waiting();
    let calls = ring.enters();
    script.found(format_args!("{OPERATIONS} sends made, by {calls} calls of io_uring_enter"));
    script.found(format_args!("the queue refused {waiting} of them, which wait in the program"));
    let mut sent = 0;
    while sent < OPERATIONS {
        ring.submit_and_wait(Some(PATIENCE))?;
        let before = sent;
        while let Some(completion) = ring.completion() {
            if let Completion::Sent { result: Ok(1), .. } = completion {
                sent += 1;
            }
        }
        script.found(format_args!(
            "after {} calls of io_uring_enter: {sent} sends have completed, {} wait in the program",
            ring.enters(),
            ring.waiting()
        ));
        if sent == before {
            return Ok(false);
        }
    }
    let mut arrived = 0;
    for (name, reader) in (0..OPERATIONS).zip(&mut readers) {
        let mut byte = [0];
        reader.read_exact(&mut byte)?;
        arrived += usize::from(byte == [name]);
    }
    script.found(format_args!("{arrived} of {OPERATIONS} bytes have arrived"));
    Ok(waiting == usize::from(OPERATIONS) - ENTRIES as usize && arrived == usize::from(OPERATIONS))
}
