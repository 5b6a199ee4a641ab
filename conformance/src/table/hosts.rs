//! Host (RFC 9112 §3.2): exactly one, and valid.

use crate::row::{Row, digits, refused, row};

pub(super) fn rows() -> Vec<Row> {
    let mut rows = vec![
        row("missing", b"GET /digits.txt HTTP/1.1\r\n\r\n", refused(400)),
        row("missing_with_other_fields", b"GET /digits.txt HTTP/1.1\r\nA: b\r\n\r\n", refused(400)),
        row("twice", b"GET /digits.txt HTTP/1.1\r\nHost: h\r\nHost: i\r\n\r\n", refused(400)),
        row("twice_the_same", b"GET /digits.txt HTTP/1.1\r\nHost: h\r\nhost: h\r\n\r\n", refused(400)),
        row("missing_for_post", b"POST / HTTP/1.1\r\n\r\n", refused(400)),
        row("missing_for_an_unknown_method", b"BREW / HTTP/1.1\r\n\r\n", refused(400)),
    ];
    rows.extend(invalid());
    rows.extend(valid());
    rows
}

fn with_host(host: &str) -> Vec<u8> {
    format!("GET /digits.txt HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes()
}

fn invalid() -> impl Iterator<Item = Row> {
    [
        ("empty", ""),
        ("only_a_port", ":80"),
        ("port_of_letters", "h:http"),
        ("two_ports", "h:80:80"),
        ("path", "h/digits.txt"),
        ("scheme", "http://h"),
        ("user", "user@h"),
        ("space", "h i"),
        ("list", "h, i"),
        ("query", "h?q"),
        ("open_bracket", "[::1"),
        ("nothing_in_brackets", "[]"),
        ("letters_after_brackets", "[::1]x"),
        ("address_of_too_many_groups", "[1:2:3:4:5:6:7:8:9]"),
        ("address_of_too_few_groups", "[1:2:3]"),
        ("address_with_two_gaps", "[1::2::3]"),
        ("address_with_a_long_group", "[::12345]"),
        ("address_of_letters", "[::x]"),
        ("address_with_a_zone", "[fe80::1%25eth0]"),
        ("address_of_version_4_in_brackets", "[127.0.0.1]"),
        ("name_in_brackets", "[example.com]"),
        ("future_address_without_a_version", "[v.x]"),
        ("future_address_without_anything", "[v1.]"),
        ("escape_of_no_digits", "h%zz"),
        ("escape_cut_off", "h%4"),
        ("bytes_beyond_ascii", "h\u{e4}"),
    ]
    .into_iter()
    .map(|(name, host)| row(name, with_host(host), refused(400)))
}

fn valid() -> impl Iterator<Item = Row> {
    [
        ("name", "example.com"),
        ("name_and_port", "example.com:8080"),
        ("empty_port", "example.com:"),
        ("address", "127.0.0.1:80"),
        ("address_in_brackets", "[::1]:80"),
        ("underscore", "my_host"),
        ("escape", "h%41"),
        ("address_with_a_version_4_tail", "[::ffff:127.0.0.1]"),
        ("address_in_full", "[1:2:3:4:5:6:7:8]:80"),
        ("future_address", "[v1.x:y]:80"),
        ("port_with_zeros", "h:000080"),
    ]
    .into_iter()
    .map(|(name, host)| row(name, with_host(host), digits()))
}
