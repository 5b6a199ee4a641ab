//! The chunked transfer coding (RFC 9112 §7.1): parsed strictly, even though the content is discarded.

use crate::row::{Answer, Row, digits, get, refused, request, row};

pub(super) fn rows() -> Vec<Row> {
    [dropped(), malformed(), bounded()].concat()
}

fn with_chunks(name: &'static str, chunks: impl AsRef<[u8]>, answer: Answer) -> Row {
    row(name, get("/digits.txt", &["Transfer-Encoding: chunked"]).with(chunks), answer)
}

fn dropped() -> Vec<Row> {
    [
        ("empty", "0\r\n\r\n"),
        ("one_chunk", "5\r\nhello\r\n0\r\n\r\n"),
        ("three_chunks", "1\r\na\r\n2\r\nbc\r\n3\r\ndef\r\n0\r\n\r\n"),
        ("size_in_capitals", "A\r\n0123456789\r\n0\r\n\r\n"),
        ("size_in_small_letters", "a\r\n0123456789\r\n0\r\n\r\n"),
        ("size_with_zeros", "0005\r\nhello\r\n000\r\n\r\n"),
        ("extension", "5;a=b\r\nhello\r\n0;c\r\n\r\n"),
        ("quoted_extension", "5;a=\"b c\"\r\nhello\r\n0\r\n\r\n"),
        ("quoted_quote_in_an_extension", "5;a=\"\\\"\";b\r\nhello\r\n0\r\n\r\n"),
        ("semicolon_in_a_quoted_extension", "5;a=\";b=c\"\r\nhello\r\n0\r\n\r\n"),
        ("blanks_between_extensions", "5 ; a = b\t;\tc\r\nhello\r\n0 ;d\r\n\r\n"),
        ("empty_trailer", "0\r\nA:\r\n\r\n"),
        ("trailer", "5\r\nhello\r\n0\r\nA: b\r\n\r\n"),
        ("trailers", "0\r\nA: b\r\nC: d\r\n\r\n"),
        ("data_that_looks_like_an_end", "7\r\n\r\n0\r\n\r\n\r\n0\r\n\r\n"),
    ]
    .map(|(name, chunks)| with_chunks(name, chunks, digits()))
    .into_iter()
    .chain([
        row(
            "then_another_request",
            get("/digits.txt", &["Transfer-Encoding: chunked"])
                .with("5\r\nhello\r\n0\r\n\r\n")
                .with(get("/empty.txt", &[])),
            [digits(), crate::row::file("text/plain; charset=utf-8", "")],
        ),
        row(
            "of_head",
            request("HEAD", "/digits.txt", &["Transfer-Encoding: chunked"]).with("5\r\nhello\r\n0\r\n\r\n"),
            digits().head_only(),
        ),
    ])
    .collect()
}

/// The response has been sent by the time the content turns out to be malformed. The bytes that follow can't be
/// trusted, so the connection ends with an error.
fn malformed() -> Vec<Row> {
    [
        ("no_size", &b"\r\nhello\r\n0\r\n\r\n"[..]),
        ("size_of_letters", b"xyz\r\nhello\r\n0\r\n\r\n"),
        ("size_with_0x", b"0x5\r\nhello\r\n0\r\n\r\n"),
        ("negative_size", b"-5\r\nhello\r\n0\r\n\r\n"),
        ("signed_size", b"+5\r\nhello\r\n0\r\n\r\n"),
        ("space_before_the_size", b" 5\r\nhello\r\n0\r\n\r\n"),
        ("space_within_the_size", b"5 0\r\nhello\r\n0\r\n\r\n"),
        ("size_of_seventeen_digits", b"00000000000000005\r\nhello\r\n0\r\n\r\n"),
        ("size_that_overflows", b"10000000000000005\r\nhello\r\n0\r\n\r\n"),
        ("bare_line_feed_after_the_size", b"5\nhello\r\n0\r\n\r\n"),
        ("bare_line_feed_in_an_extension", b"5;a\nhello\r\n0\r\n\r\n"),
        ("bare_carriage_return_after_the_size", b"5\rhello\r\n0\r\n\r\n"),
        ("nul_in_an_extension", b"5;\0\r\nhello\r\n0\r\n\r\n"),
        ("bare_line_feed_after_the_data", b"5\r\nhello\n0\r\n\r\n"),
        ("no_line_end_after_the_data", b"5\r\nhello0\r\n\r\n"),
        ("more_data_than_announced", b"4\r\nhello\r\n0\r\n\r\n"),
        ("bare_line_feed_at_the_end", b"0\r\n\n"),
        ("bare_line_feed_after_a_trailer", b"0\r\nA: b\n\r\n"),
        ("nul_in_a_trailer", b"0\r\nA: \0\r\n\r\n"),
        ("folded_trailer", b"0\r\nA: b\r\n c\r\n\r\n"),
    ]
    .into_iter()
    .chain(malformed_extensions())
    .chain(malformed_trailers())
    .map(|(name, chunks)| with_chunks(name, chunks, refused(400)))
    .collect()
}

/// Neighbours of the grammar of chunk extensions (RFC 9112 §7.1.1).
fn malformed_extensions() -> [(&'static str, &'static [u8]); 14] {
    [
        ("blank_after_the_size", b"5 \r\nhello\r\n0\r\n\r\n"),
        ("blank_after_the_last_size", b"0\t\r\n\r\n"),
        ("extension_without_a_name", b"5;\r\nhello\r\n0\r\n\r\n"),
        ("extension_with_only_a_value", b"5;=b\r\nhello\r\n0\r\n\r\n"),
        ("two_semicolons", b"5;;a\r\nhello\r\n0\r\n\r\n"),
        ("semicolon_at_the_end", b"5;a;\r\nhello\r\n0\r\n\r\n"),
        ("blank_after_an_extension", b"5;a=b \r\nhello\r\n0\r\n\r\n"),
        ("blank_within_an_extension", b"5;a b\r\nhello\r\n0\r\n\r\n"),
        ("extension_without_its_value", b"5;a=\r\nhello\r\n0\r\n\r\n"),
        ("extension_that_is_no_token", b"5;a(b)\r\nhello\r\n0\r\n\r\n"),
        ("unfinished_quote", b"5;a=\"b\r\nhello\r\n0\r\n\r\n"),
        ("more_behind_a_quote", b"5;a=\"b\"c\r\nhello\r\n0\r\n\r\n"),
        ("line_break_in_a_quote", b"5;a=\"\r\n\"\r\nhello\r\n0\r\n\r\n"),
        ("control_character_in_a_quote", b"5;a=\"\x7f\"\r\nhello\r\n0\r\n\r\n"),
    ]
}

/// Trailers are field lines (RFC 9112 §7.1.2), as strict as those of the head.
fn malformed_trailers() -> [(&'static str, &'static [u8]); 6] {
    [
        ("trailer_without_a_colon", b"0\r\nA\r\n\r\n"),
        ("trailer_without_a_name", b"0\r\n: b\r\n\r\n"),
        ("blank_before_the_colon_of_a_trailer", b"0\r\nA : b\r\n\r\n"),
        ("trailer_whose_name_is_no_token", b"0\r\nA(b): c\r\n\r\n"),
        ("delete_in_a_trailer", b"0\r\nA: \x7f\r\n\r\n"),
        ("folded_first_trailer", b"0\r\n A: b\r\n\r\n"),
    ]
}

fn bounded() -> Vec<Row> {
    let extension =
        format!("5;{}\r\nhello\r\n0\r\n\r\n", "e".repeat(common::http::content::CHUNK_LINE_BYTES_MAX));
    let trailer = format!("0\r\nA: {}\r\n\r\n", "t".repeat(common::http::content::TRAILER_BYTES_MAX));
    vec![
        with_chunks("extension_too_long", extension, refused(400)),
        with_chunks("trailers_too_long", trailer, refused(431)),
        with_chunks("one_chunk_too_large", "100001\r\n", refused(413)),
        with_chunks("huge_chunk", "ffffffffffffffff\r\n", refused(413)),
    ]
}
