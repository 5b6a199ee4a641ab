//! `chat`: each line goes to everybody else.
//!
//! The thread that has received a line puts it into the mailboxes of all other members, never straight into a socket,
//! so a member that doesn't read holds up nobody. When [`MAILBOX_BYTES_MAX`] are waiting for it, it is dropped.
//! Dropping lines instead would leave it with gaps that it can't see. IRC servers do the same ("SendQ exceeded").

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

/// The longest line, with its end. A client that sends a longer one is disconnected.
pub const LINE_BYTES_MAX: usize = 4096;

/// The most that waits in a mailbox while the member's socket has no room for what came before.
pub const MAILBOX_BYTES_MAX: usize = 256 * 1024;

/// The most that waits in a mailbox whose owner has sent everything else. It isn't slow: it just hasn't had a turn
/// since the others spoke, and one turn may bring lines from many of them.
const BURST_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Everybody who is connected.
#[derive(Debug, Default)]
pub(super) struct Room {
    members: Mutex<Members>,
}

#[derive(Debug, Default)]
struct Members {
    mailboxes: HashMap<u64, Arc<Mailbox>>,
    /// The number of the next one who joins.
    next: u64,
}

impl Room {
    fn members(&self) -> MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts whole lines into the mailboxes of all but one.
    fn tell_others(&self, speaker: u64, lines: &[u8]) {
        if lines.is_empty() {
            return;
        }
        for (_, mailbox) in self.members().mailboxes.iter().filter(|(number, _)| **number != speaker) {
            mailbox.put(lines);
        }
    }
}

/// What others have said to one member.
#[derive(Debug)]
struct Mailbox {
    mail: Mutex<Mail>,
    waker: Waker,
}

#[derive(Debug, Default)]
struct Mail {
    bytes: Vec<u8>,
    /// Mail that was taken before isn't sent yet.
    is_behind: bool,
    /// More came than fits: the member is dropped.
    is_overfull: bool,
}

impl Mailbox {
    fn mail(&self) -> MutexGuard<'_, Mail> {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The owner takes all mail at once, so it is woken only for the first.
    fn put(&self, lines: &[u8]) {
        let mut mail = self.mail();
        if mail.is_overfull {
            return;
        }
        let is_first = mail.bytes.is_empty();
        let bytes_max = if mail.is_behind { MAILBOX_BYTES_MAX } else { BURST_BYTES_MAX };
        if mail.bytes.len() + lines.len() > bytes_max {
            *mail = Mail { is_overfull: true, ..Mail::default() };
        } else {
            mail.bytes.extend_from_slice(lines);
        }
        let wakes = is_first || mail.is_overfull;
        drop(mail);
        if wakes {
            self.waker.wake_by_ref();
        }
    }
}

/// One client in the room.
#[derive(Debug, Default)]
pub(super) struct Member {
    /// Its number and its mailbox, once it has joined.
    place: Option<(u64, Arc<Mailbox>)>,
    /// A line whose end hasn't arrived.
    line: Vec<u8>,
}

impl Member {
    pub(super) fn join(&mut self, room: &Room, waker: Waker) {
        self.leave(room);
        let mailbox = Arc::new(Mailbox { mail: Mutex::default(), waker });
        let mut members = room.members();
        let number = members.next;
        members.next += 1;
        members.mailboxes.insert(number, Arc::clone(&mailbox));
        self.place = Some((number, mailbox));
    }

    pub(super) fn leave(&mut self, room: &Room) {
        if let Some((number, _)) = self.place.take() {
            room.members().mailboxes.remove(&number);
        }
    }

    /// Passes on all complete lines. False if a line is too long.
    pub(super) fn received(&mut self, bytes: &[u8], room: &Room) -> bool {
        let mut lines = Vec::new();
        let mut fits = true;
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            fits = self.line.len() + part.len() <= LINE_BYTES_MAX;
            if !fits {
                break;
            }
            self.line.extend_from_slice(part);
            if part.ends_with(b"\n") {
                lines.append(&mut self.line);
            }
        }
        self.tell(room, &lines);
        fits
    }

    /// Passes on an incomplete last line.
    pub(super) fn ended(&mut self, room: &Room) {
        let mut line = std::mem::take(&mut self.line);
        if !line.is_empty() {
            line.push(b'\n');
            self.tell(room, &line);
        }
    }

    fn tell(&self, room: &Room, lines: &[u8]) {
        if let Some((number, _)) = &self.place {
            room.tell_others(*number, lines);
        }
    }

    pub(super) fn has_mail(&self) -> bool {
        self.place.as_ref().is_some_and(|(_, mailbox)| !mailbox.mail().bytes.is_empty())
    }

    /// Takes all mail, which the owner is going to send.
    pub(super) fn take_mail(&self) -> Vec<u8> {
        let Some((_, mailbox)) = &self.place else { return Vec::new() };
        let mut mail = mailbox.mail();
        mail.is_behind = !mail.bytes.is_empty();
        std::mem::take(&mut mail.bytes)
    }

    /// All mail that was taken has been sent.
    pub(super) fn caught_up(&self) {
        if let Some((_, mailbox)) = &self.place {
            mailbox.mail().is_behind = false;
        }
    }

    pub(super) fn is_dropped(&self) -> bool {
        self.place.as_ref().is_some_and(|(_, mailbox)| mailbox.mail().is_overfull)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use std::task::Wake;

    use super::super::{Connection, Kind, Service};
    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    fn member(service: &Arc<Service>) -> (Connection, Arc<Count>) {
        let (mut connection, count) = (service.connect(), Arc::new(Count::default()));
        connection.wake_with(Waker::from(Arc::clone(&count)));
        (connection, count)
    }

    fn read_all(connection: &mut Connection) -> String {
        let output = String::from_utf8(connection.output().to_vec()).expect("UTF-8");
        connection.sent(output.len());
        output
    }

    #[test]
    fn a_line_goes_to_everybody_else_however_it_is_cut() {
        let service = Service::new(Kind::Chat);
        let [(mut one, _), (mut two, count), (mut three, _)] = [0; 3].map(|_| member(&service));
        for part in ["o", "ne\ntw", "", "o\n", "\nthr"] {
            one.received(part.as_bytes());
        }
        assert_eq!(count.0.load(Relaxed), 1, "it is woken for the first line; the others come with it");
        assert_eq!(read_all(&mut two), "one\ntwo\n\n");
        assert_eq!(read_all(&mut three), "one\ntwo\n\n");
        assert_eq!(read_all(&mut one), "");
        one.ended();
        assert!(one.is_over());
        assert_eq!(read_all(&mut two), "thr\n", "the last line lacked its end");
        assert_eq!(count.0.load(Relaxed), 2);
    }

    #[test]
    fn a_member_that_does_not_read_is_dropped_and_holds_up_nobody() {
        let service = Service::new(Kind::Chat);
        let [(mut speaker, _), (mut slow, count), (mut reader, _)] = [0; 3].map(|_| member(&service));
        let line = [&[b'x'; LINE_BYTES_MAX - 1][..], b"\n"].concat();
        let lines = MAILBOX_BYTES_MAX / LINE_BYTES_MAX;
        speaker.received(&line);
        assert_eq!(slow.take_output().len(), line.len(), "its socket takes this much, but sends nothing");
        for said in 1..=lines + 9 {
            speaker.received(&line);
            assert_eq!(slow.is_dropped(), said > lines, "after {said} lines");
            let heard = reader.output().len();
            reader.sent(heard);
        }
        assert!(slow.is_over() && !slow.has_output() && !reader.is_over());
        assert_eq!(count.0.load(Relaxed), 3, "for the first line, for the next one, and to be dropped");
    }

    #[test]
    fn a_member_that_has_had_no_turn_is_not_slow_but_bounded() {
        let service = Service::new(Kind::Chat);
        let [(mut speaker, _), (mut reader, _)] = [0; 2].map(|_| member(&service));
        let line = [&[b'x'; LINE_BYTES_MAX - 1][..], b"\n"].concat();
        let lines = BURST_BYTES_MAX / LINE_BYTES_MAX;
        for _ in 0..2 {
            (0..lines).for_each(|_| speaker.received(&line));
            assert_eq!(reader.output().len(), BURST_BYTES_MAX);
            reader.sent(BURST_BYTES_MAX);
        }
        (0..lines).for_each(|_| speaker.received(&line));
        assert!(!reader.is_dropped());
        speaker.received(&line);
        assert!(reader.is_dropped());
    }

    #[test]
    fn who_says_too_long_a_line_is_disconnected_however_it_is_cut() {
        for (length, part, is_over) in [
            (LINE_BYTES_MAX - 1, 1, false),
            (LINE_BYTES_MAX - 1, LINE_BYTES_MAX, false),
            (LINE_BYTES_MAX, 1, true),
            (LINE_BYTES_MAX, 1000, true),
            (LINE_BYTES_MAX, 2 * LINE_BYTES_MAX, true),
        ] {
            let service = Service::new(Kind::Chat);
            let [(mut one, _), (mut two, _)] = [0; 2].map(|_| member(&service));
            let text = ["ok\n", &"x".repeat(length), "\nmore\n"].concat();
            text.as_bytes().chunks(part).for_each(|bytes| one.received(bytes));
            assert_eq!(one.is_over(), is_over, "{length} bytes in parts of {part}");
            assert_eq!(read_all(&mut two), if is_over { "ok\n" } else { &text });
        }
    }

    #[test]
    fn who_has_left_gets_no_mail() {
        let service = Service::new(Kind::Chat);
        let [(mut one, _), (two, count)] = [0; 2].map(|_| member(&service));
        drop(two);
        one.received(b"anybody?\n");
        assert_eq!((count.0.load(Relaxed), service.room.members().mailboxes.len()), (0, 1));
    }
}
