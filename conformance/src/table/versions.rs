//! Protocol versions (RFC 9110 §6.2, RFC 9112 §2.3).

use crate::row::{Row, digits, refused, row};

pub(super) fn rows() -> Vec<Row> {
    let mut rows = vec![
        row("http_2_preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", refused(505)),
        row("http_0_9", b"GET /digits.txt\r\n", refused(400)),
        row("tls", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", refused(400)),
        row("ssh", b"SSH-2.0-client\r\n", refused(400)),
        row("garbage", b"\xde\xad\xbe\xef\r\n", refused(400)),
    ];
    rows.extend(
        [
            ("http_2_0", "HTTP/2.0", refused(505)),
            ("http_3_0", "HTTP/3.0", refused(505)),
            ("http_9_9", "HTTP/9.9", refused(505)),
            ("http_1_2", "HTTP/1.2", digits()),
            ("http_1_9", "HTTP/1.9", digits()),
            ("http_0_9_in_full", "HTTP/0.9", refused(400)),
            ("http_2_without_minor", "HTTP/2", refused(400)),
            ("http_1_without_minor", "HTTP/1", refused(400)),
            ("no_minor_digit", "HTTP/1.", refused(400)),
            ("two_minor_digits", "HTTP/1.10", refused(400)),
            ("two_major_digits", "HTTP/11.1", refused(400)),
            ("zero_before_the_major", "HTTP/01.1", refused(400)),
            ("comma", "HTTP/1,1", refused(400)),
            ("letter", "HTTP/1.x", refused(400)),
            ("small_letters", "http/1.1", refused(400)),
            ("other_protocol", "HTTPS/1.1", refused(400)),
            ("other_name", "ICY/1.1", refused(400)),
            ("no_name", "1.1", refused(400)),
        ]
        .map(|(name, version, answer)| {
            row(name, format!("GET /digits.txt {version}\r\nHost: h\r\n\r\n").into_bytes(), answer)
        }),
    );
    rows
}
