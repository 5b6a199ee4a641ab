//! The header of the PROXY protocol, version 1 and 2: what a proxy that relays bytes says of a connection, in front of
//! them (HAProxy's `proxy-protocol.txt`, revision of 2020/03/05).
//!
//! Of what it says, only the address of the client is read. The crates for it (`ppp`, `proxy-header`) take more than the
//! specification allows (`PROXYx`, ports like `+80` and `080`), refuse what it demands (a LOCAL of any family), and would
//! have 64 KiB kept to find that out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A line of version 1 has no more bytes, its end among them (§2.1).
pub const LINE_BYTES_MAX: usize = 107;
/// A header of version 2 that is longer is refused. Addresses take at most 216 bytes; what else proxies send (names, the
/// client's certificate in a few words) some hundreds.
pub const HEADER_BYTES_MAX: usize = 4096;

/// How version 1 begins,
const LINE_START: &[u8] = b"PROXY ";
/// and version 2.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// The signature, version and command, family and transport, and how many bytes follow.
const FIXED_BYTES: usize = 16;
/// What is in front of the value of a TLV: its type and its length.
const TLV_START_BYTES: usize = 3;

/// A header, as far as it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Introduction {
    /// The rest is yet to come.
    Incomplete,
    /// It is here.
    Complete {
        /// The client's address; `None` if the header says nothing of it that could be used, so that the connection's own
        /// peer counts.
        client: Option<IpAddr>,
        /// How many bytes the header has.
        length: usize,
    },
    /// This is no header, or one that is wrong: the connection has to end (§2.1).
    Refused,
}

/// Reads the header at the start of `bytes`. What is incomplete has fewer than [`HEADER_BYTES_MAX`] bytes. The outcome
/// doesn't depend on how they were split in transit.
#[must_use]
pub fn introduction(bytes: &[u8]) -> Introduction {
    let read = if bytes.starts_with(&LINE_START[..1]) { line(bytes) } else { binary(bytes) };
    read.unwrap_or(Introduction::Refused)
}

/// Version 1: `PROXY TCP4 198.51.100.1 203.0.113.7 56324 443`, and a CR LF.
fn line(bytes: &[u8]) -> Option<Introduction> {
    if bytes.len() < LINE_START.len() && LINE_START.starts_with(bytes) {
        return Some(Introduction::Incomplete);
    }
    let rest = bytes.strip_prefix(LINE_START)?;
    let rest = &rest[..rest.len().min(LINE_BYTES_MAX - LINE_START.len())];
    let is_full = rest.len() == LINE_BYTES_MAX - LINE_START.len();
    let Some(end) = memchr::memchr2(b'\r', b'\n', rest) else {
        return (!is_full).then_some(Introduction::Incomplete);
    };
    match &rest[end..] {
        [b'\r', b'\n', ..] => {}
        [b'\r'] if !is_full => return Some(Introduction::Incomplete),
        _ => return None,
    }
    let mut words = rest[..end].split(|byte| *byte == b' ');
    let client = match words.next()? {
        b"TCP4" => Some(source::<Ipv4Addr>(words)?),
        b"TCP6" => Some(source::<Ipv6Addr>(words)?),
        // Whatever follows is ignored.
        b"UNKNOWN" => None,
        _ => return None,
    };
    Some(Introduction::Complete { client, length: LINE_START.len() + end + b"\r\n".len() })
}

/// The first of two addresses, if the two ports behind them are well-formed, too.
fn source<'a, A: FromStr + Into<IpAddr>>(mut words: impl Iterator<Item = &'a [u8]>) -> Option<IpAddr> {
    let mut address = || str::from_utf8(words.next()?).ok()?.parse::<A>().ok();
    let (source, _destination) = (address()?, address()?);
    for _ in 0..2 {
        let port = words.next()?;
        let has_heading_zero = port.len() > 1 && port[0] == b'0';
        if has_heading_zero || !port.iter().all(u8::is_ascii_digit) {
            return None;
        }
        str::from_utf8(port).ok()?.parse::<u16>().ok()?;
    }
    words.next().is_none().then(|| source.into())
}

/// Version 2 (§2.2).
fn binary(bytes: &[u8]) -> Option<Introduction> {
    let known = bytes.len().min(SIGNATURE.len());
    if bytes[..known] != SIGNATURE[..known] {
        return None;
    }
    let is_local = match bytes.get(SIGNATURE.len()) {
        None => return Some(Introduction::Incomplete),
        Some(0x20) => true,
        Some(0x21) => false,
        Some(_) => return None,
    };
    let Some(kind) = bytes.get(SIGNATURE.len() + 1) else { return Some(Introduction::Incomplete) };
    // The family of a LOCAL is to be ignored, and without one the addresses can't be told.
    let address_bytes = match (kind >> 4, kind & 0x0f) {
        _ if is_local => None,
        (0, 0..=2) => None,
        (1, 0..=2) => Some(2 * (4 + 2)),
        (2, 0..=2) => Some(2 * (16 + 2)),
        (3, 0..=2) => Some(2 * 108),
        _ => return None,
    };
    let Some(length) = bytes.get(FIXED_BYTES - 2..FIXED_BYTES) else { return Some(Introduction::Incomplete) };
    let length = FIXED_BYTES + usize::from(u16::from_be_bytes([length[0], length[1]]));
    let rest_at = FIXED_BYTES + address_bytes.unwrap_or(0);
    if length > HEADER_BYTES_MAX || length < rest_at {
        return None;
    }
    let Some(header) = bytes.get(..length) else { return Some(Introduction::Incomplete) };
    if address_bytes.is_some() && !is_list_of_tlvs(&header[rest_at..]) {
        return None;
    }
    let addresses = &header[FIXED_BYTES..];
    let client = match kind {
        _ if is_local => None,
        0x11 => addresses.first_chunk::<4>().map(|address| IpAddr::from(*address)),
        0x21 => addresses.first_chunk::<16>().map(|address| IpAddr::from(*address)),
        // Through a unix socket, by datagrams, or not told: as the connection itself says.
        _ => None,
    };
    Some(Introduction::Complete { client, length })
}

/// Whether there are only whole ones. What they say is of no use here; a checksum neither, since TCP has one.
fn is_list_of_tlvs(mut rest: &[u8]) -> bool {
    while !rest.is_empty() {
        let Some([_kind, high, low]) = rest.first_chunk::<TLV_START_BYTES>() else { return false };
        let end = TLV_START_BYTES + usize::from(u16::from_be_bytes([*high, *low]));
        let Some(next) = rest.get(end..) else { return false };
        rest = next;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn complete(client: Option<&str>, length: usize) -> Introduction {
        Introduction::Complete { client: client.map(|client| client.parse().expect("an address")), length }
    }

    /// A header of version 2, with this behind its fixed part.
    fn header(command: u8, kind: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).expect("short").to_be_bytes();
        [&SIGNATURE[..], &[command, kind], &length, rest].concat()
    }

    /// The outcome, which is the same however the bytes are split, and whatever follows a header.
    fn read(bytes: &[u8]) -> Introduction {
        let whole = introduction(bytes);
        let first = (0..=bytes.len()).map(|end| introduction(&bytes[..end]));
        let first = first.into_iter().find(|part| *part != Introduction::Incomplete);
        assert_eq!(first.unwrap_or(Introduction::Incomplete), whole, "{}", bytes.escape_ascii());
        match whole {
            Introduction::Incomplete => assert!(bytes.len() < HEADER_BYTES_MAX),
            decided => {
                for more in [&b"GET / HTTP/1.1\r\n"[..], b"\r\n", b"PROXY TCP4", b"\0"] {
                    assert_eq!(introduction(&[bytes, more].concat()), decided);
                }
            }
        }
        whole
    }

    #[test]
    fn lines() {
        let long = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
        for (line, client) in [
            ("PROXY TCP4 198.51.100.1 203.0.113.7 56324 443".to_owned(), Some("198.51.100.1")),
            ("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535".to_owned(), Some("255.255.255.255")),
            ("PROXY TCP4 0.0.0.0 0.0.0.0 0 0".to_owned(), Some("0.0.0.0")),
            ("PROXY TCP6 2001:db8::1 ::1 1 2".to_owned(), Some("2001:db8::1")),
            ("PROXY TCP6 2001:DB8::1 ::ffff:192.0.2.1 1 2".to_owned(), Some("2001:db8::1")),
            (format!("PROXY TCP6 {long} {long} 65535 65535"), Some(long)),
            ("PROXY UNKNOWN".to_owned(), None),
            ("PROXY UNKNOWN ".to_owned(), None),
            ("PROXY UNKNOWN what is this\0\u{ff}".to_owned(), None),
            (format!("PROXY UNKNOWN {long} {long} 65535 65535"), None),
        ] {
            let line = format!("{line}\r\n");
            assert!(line.len() <= LINE_BYTES_MAX, "{line}");
            assert_eq!(read(line.as_bytes()), complete(client, line.len()), "{line}");
            for end in 0..line.len() {
                assert_eq!(introduction(&line.as_bytes()[..end]), Introduction::Incomplete, "{line}: {end}");
            }
        }
    }

    #[test]
    fn wrong_lines() {
        for line in [
            "GET / HTTP/1.1\r\n",
            "P\r\n",
            "PROXY\r\n",
            "PROXY \r\n",
            "PROXYTCP4 1.1.1.1 2.2.2.2 1 2\r\n",
            "PROXY\tTCP4 1.1.1.1 2.2.2.2 1 2\r\n",
            "proxy TCP4 1.1.1.1 2.2.2.2 1 2\r\n",
            "PROXY  TCP4 1.1.1.1 2.2.2.2 1 2\r\n",
            "PROXY TCP4  1.1.1.1 2.2.2.2 1 2\r\n",
            "PROXY TCP4 1.1.1.1 2.2.2.2 1 2 \r\n",
            "PROXY TCP4 1.1.1.1 2.2.2.2 1 2 3\r\n",
            "PROXY TCP4 1.1.1.1 2.2.2.2 1\r\n",
            "PROXY TCP4 1.1.1.1 2.2.2.2 1 \r\n",
            "PROXY TCP4\r\n",
            "PROXY TCP5 1.1.1.1 2.2.2.2 1 2\r\n",
            "PROXY UDP4 1.1.1.1 2.2.2.2 1 2\r\n",
            "PROXY UNKNOWNS\r\n",
            "PROXY TCP4 ::1 ::1 1 2\r\n",
            "PROXY TCP4 1.1.1.1 ::1 1 2\r\n",
            "PROXY TCP6 1.1.1.1 2.2.2.2 1 2\r\n",
            "PROXY TCP4 1.1.1 2.2.2.2 1 2\r\n",
            "PROXY TCP4 1.1.1.256 2.2.2.2 1 2\r\n",
            "PROXY TCP4 01.1.1.1 2.2.2.2 1 2\r\n",
            "PROXY TCP4 1.1.1.1 2.2.2 1 2\r\n",
            "PROXY TCP6 ::1%lo ::1 1 2\r\n",
            "PROXY TCP6 1::2::3 ::1 1 2\r\n",
            "PROXY TCP4 1.1.1.1 2.2.2.2 65536 2\r\n",
            "PROXY TCP4 1.1.1.1 2.2.2.2 1 99999999999999999999\r\n",
            "PROXY TCP4 1.1.1.1 2.2.2.2 -1 2\r\n",
            "PROXY TCP4 1.1.1.1 2.2.2.2 +1 2\r\n",
            "PROXY TCP4 1.1.1.1 2.2.2.2 01 2\r\n",
            "PROXY TCP4 1.1.1.1 2.2.2.2 00 2\r\n",
            "PROXY TCP4 1.1.1.1 2.2.2.2 1 2\n",
            "PROXY TCP4 1.1.1.1 2.2.2.2 1 2\rX",
            "PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\r\n",
            "PROXY UNKNOWN\nGET / HTTP/1.1\r\n",
            "PROXY UNKNOWN \nGET / HTTP/1.1\r\n",
        ] {
            assert_eq!(read(line.as_bytes()), Introduction::Refused, "{line}");
        }
        // With its end it has 107 bytes at most.
        for (length, expected) in [(105, complete(None, 107)), (106, Introduction::Refused)] {
            let line = [&[b"PROXY UNKNOWN ", &[b'x'; 100][..]].concat()[..length], b"\r\n"].concat();
            assert_eq!(read(&line), expected);
        }
        let endless = [b"PROXY UNKNOWN ", &[b'x'; 100][..]].concat();
        assert_eq!(read(&endless[..LINE_BYTES_MAX - 1]), Introduction::Incomplete);
        assert_eq!(read(&endless[..LINE_BYTES_MAX]), Introduction::Refused);
    }

    #[test]
    fn headers() {
        let of_four = [198, 51, 100, 1, 203, 0, 113, 7, 220, 4, 1, 187];
        let mut of_six = [0; 36];
        of_six[..4].copy_from_slice(&[0x20, 1, 0xd, 0xb8]);
        of_six[15] = 1;
        let with = |addresses: &[u8], more: &[u8]| [addresses, more].concat();
        let tlvs = [&[4, 0, 0, 0x20, 0, 2, 1, 2, 0xee, 1, 0][..], &[9; 256]].concat();
        let most =
            [0x20].into_iter().chain((4096u16 - 16 - 12 - 3).to_be_bytes()).chain([7; 4096 - 16 - 12 - 3]);
        let most: Vec<u8> = most.collect();
        for (command, kind, rest, client) in [
            (0x21, 0x11, with(&of_four, b""), Some("198.51.100.1")),
            (0x21, 0x11, with(&of_four, &tlvs), Some("198.51.100.1")),
            (0x21, 0x11, with(&of_four, &most), Some("198.51.100.1")),
            (0x21, 0x21, with(&of_six, b""), Some("2001:db8::1")),
            (0x21, 0x21, with(&of_six, &tlvs), Some("2001:db8::1")),
            // Of other kinds the connection itself knows more.
            (0x21, 0x12, with(&of_four, b""), None),
            (0x21, 0x10, with(&of_four, b""), None),
            (0x21, 0x22, with(&of_six, b""), None),
            (0x21, 0x31, vec![b'/'; 216], None),
            (0x21, 0x32, with(&[b'/'; 216], &tlvs), None),
            (0x21, 0x00, Vec::new(), None),
            (0x21, 0x00, with(&of_four, b"?"), None),
            (0x21, 0x01, Vec::new(), None),
            // A LOCAL is about nobody, whatever it has with it.
            (0x20, 0x00, Vec::new(), None),
            (0x20, 0x00, with(b"???", b""), None),
            (0x20, 0x11, with(&of_four, b""), None),
            (0x20, 0x11, with(b"?", b""), None),
            (0x20, 0xff, with(b"?", b""), None),
        ] {
            let header = header(command, kind, &rest);
            assert_eq!(read(&header), complete(client, header.len()), "{}", header.escape_ascii());
            for end in 0..header.len() {
                assert_eq!(introduction(&header[..end]), Introduction::Incomplete, "{kind:x}: {end}");
            }
        }
    }

    #[test]
    fn wrong_headers() {
        let addresses = [1; 12];
        let with = |more: &[u8]| [&addresses[..], more].concat();
        for (command, kind, rest) in [
            (0x22, 0x11, with(b"")),    // a command that nobody has
            (0x11, 0x11, with(b"")),    // version 1
            (0x31, 0x11, with(b"")),    // version 3
            (0x21, 0x41, vec![1; 216]), // a family
            (0x21, 0x13, with(b"")),    // a transport
            (0x21, 0x11, vec![1; 11]),  // too short
            (0x21, 0x12, Vec::new()),
            (0x21, 0x21, vec![1; 35]),
            (0x21, 0x31, vec![1; 215]),
            (0x21, 0x11, with(&[4])), // not whole
            (0x21, 0x11, with(&[4, 0])),
            (0x21, 0x11, with(&[4, 0, 1])),
            (0x21, 0x11, with(&[4, 0xff, 0xff, 1])),
            (0x21, 0x11, with(&[4, 0, 0, 5, 0, 9, 1])),
            (0x21, 0x11, vec![0; 4096 - 16 + 1]), // too long
            (0x20, 0x00, vec![0; 65_535]),
        ] {
            let header = header(command, kind, &rest);
            assert_eq!(read(&header), Introduction::Refused, "{}", header.escape_ascii());
        }
        // The wrong byte is enough to tell.
        for at in 0..SIGNATURE.len() {
            let mut start = SIGNATURE[..=at].to_vec();
            assert_eq!(read(&start), Introduction::Incomplete);
            start[at] ^= 0x20;
            assert_eq!(read(&start), Introduction::Refused, "{at}");
        }
        assert_eq!(read(b"\r\nGET / HTTP/1.1\r\n"), Introduction::Refused);
        assert_eq!(read(b""), Introduction::Incomplete);
    }

    proptest! {
        #[test]
        fn any_bytes_have_one_outcome(bytes in any::<Vec<u8>>(), start in 0usize..4) {
            let start = [&b""[..], b"PROXY ", b"PROXY TCP4 1.1.1.1 ", &SIGNATURE[..]][start];
            read(&[start, &bytes].concat());
        }

        #[test]
        fn any_kind_of_header_has_one_outcome(
            command in 0x1fu8..0x23,
            kind in any::<u8>(),
            rest in proptest::collection::vec(0u8..6, 0..300),
        ) {
            read(&header(command, kind, &rest));
        }

        #[test]
        fn any_address_is_read(source: IpAddr, destination: IpAddr, from: u16, to: u16) {
            let is_four = source.is_ipv4();
            prop_assume!(is_four == destination.is_ipv4());
            let (name, kind) = if is_four { ("TCP4", 0x11) } else { ("TCP6", 0x21) };
            let line = format!("PROXY {name} {source} {destination} {from} {to}\r\n");
            let expected = |length| Introduction::Complete { client: Some(source), length };
            prop_assert_eq!(read(line.as_bytes()), expected(line.len()));
            let octets = |address| match address {
                IpAddr::V4(address) => address.octets().to_vec(),
                IpAddr::V6(address) => address.octets().to_vec(),
            };
            let ports = [from.to_be_bytes(), to.to_be_bytes()].concat();
            let header = header(0x21, kind, &[octets(source), octets(destination), ports].concat());
            prop_assert_eq!(read(&header), expected(header.len()));
        }
    }
}
