//! C22: what `--stats` prints.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use super::server::{PATIENCE, connections, crowd, serve};
use super::{Script, Stop};
use crate::services::Kind;
use crate::stats::print_lines;

const CLIENTS: u64 = 64;

/// What each client sends, and gets back, within one second: 3 MiB for all of them.
const MESSAGE_BYTES: usize = 48 * 1024;

/// Lines that are read: the header, a busy second, and a quiet one.
const LINES: usize = 3;

pub(super) fn play(script: &mut Script) -> Result<bool, Stop> {
    serve(Kind::Echo, |service, address| {
        let mut clients = crowd(address, CLIENTS)?;
        connections(service, |held| held == CLIENTS);
        script.found(format_args!("{CLIENTS} clients have connected; now it prints a line a second"));
        let (sender, lines) = channel();
        thread::scope(|scope| {
            // It ends when the page is full.
            let _printing =
                scope.spawn(|| print_lines(service, &mut Page { sender, line: Vec::new(), left: LINES }));
            let header = next(&lines)?;
            for client in &mut clients {
                client.set_read_timeout(Some(PATIENCE))?;
                client.write_all(&[b'x'; MESSAGE_BYTES])?;
                client.read_exact(&mut [0; MESSAGE_BYTES])?;
            }
            let (busy, quiet) = (next(&lines)?, next(&lines)?);
            script.found(&header);
            script.found(&busy);
            script
                .found(format_args!("that second, each client sent {MESSAGE_BYTES} bytes and got them back"));
            script.found(&quiet);
            Ok(is_busy(&busy) && is_quiet(&quiet))
        })
    })
}

/// Where a server prints.
struct Page {
    sender: Sender<String>,
    line: Vec<u8>,
    left: usize,
}

impl Write for Page {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for byte in bytes {
            match byte {
                b'\n' if self.left == 0 => return Err(ErrorKind::WriteZero.into()),
                b'\n' => {
                    self.left -= 1;
                    let line = String::from_utf8_lossy(&std::mem::take(&mut self.line)).into_owned();
                    // Whoever doesn't wait for it any more has failed.
                    let _unread = self.sender.send(line);
                }
                other => self.line.push(*other),
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.left == 0 { Err(ErrorKind::WriteZero.into()) } else { Ok(()) }
    }
}

fn next(lines: &Receiver<String>) -> Result<String, Stop> {
    Ok(lines.recv_timeout(PATIENCE)?)
}

/// Connections, bytes in and out, events: one at least for each client. What is called a second is a little longer, and on a busy
/// machine much, so that there are fewer in each.
fn is_busy(line: &str) -> bool {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [connections, bytes_in, "MiB", bytes_out, "MiB", events] = words[..] else { return false };
    let is_right = |bytes: &str| bytes.parse().is_ok_and(|bytes: f64| bytes > 1.0 && bytes <= 3.0);
    let events = events.replace(',', "").parse().unwrap_or(0);
    connections == CLIENTS.to_string() && is_right(bytes_in) && bytes_in == bytes_out && events >= CLIENTS / 3
}

fn is_quiet(line: &str) -> bool {
    let words: Vec<&str> = line.split_whitespace().collect();
    words == [CLIENTS.to_string().as_str(), "0", "B", "0", "B", "0"]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_to_say_what_happened() {
        assert!(is_busy("         64      2.9 MiB      2.9 MiB           63"));
        for wrong in [
            "         63      2.9 MiB      2.9 MiB           63",
            "         64      2.9 MiB      2.8 MiB           63",
            "         64      3.1 MiB      3.1 MiB           63",
            "         64      2.9 MiB      2.9 MiB           20",
            "         64          0 B          0 B            0",
        ] {
            assert!(!is_busy(wrong), "{wrong}");
        }
        assert!(is_quiet("         64          0 B          0 B            0"));
        assert!(!is_quiet("         64          0 B          0 B            1"));
    }
}
