//! Request targets (RFC 9112 §3.2): decoded once, as bytes; origin-form and absolute-form are supported.

use crate::row::{Answer, Row, digits, file, get, options, problem, refused, request, row};
use crate::site::INDEX;

pub(super) fn rows() -> Vec<Row> {
    [names(), escapes(), queries(), absolute_form(), missing()].concat()
}

fn each<const COUNT: usize>(rows: [(&'static str, &str); COUNT], answer: &Answer) -> Vec<Row> {
    rows.map(|(name, target)| row(name, get(target, &[]), answer.clone())).into()
}

/// Every file name can be requested, whatever its bytes.
fn names() -> Vec<Row> {
    each(
        [
            ("space", "/with%20space.txt"),
            ("percent", "/100%25.txt"),
            ("percent_that_looks_like_an_escape", "/%2541.txt"),
            ("plus_is_a_plus", "/plus+sign.txt"),
            ("semicolon_and_comma", "/semi;colon,comma.txt"),
            ("quote", "/quote%22.txt"),
            ("bare_quote", "/quote\".txt"),
            ("backslash", "/back%5Cslash.txt"),
            ("bare_backslash", "/back\\slash.txt"),
            ("question_mark", "/question%3Fmark.txt"),
            ("hash", "/hash%23sign.txt"),
            ("line_break", "/line%0D%0Abreak.txt"),
            ("utf_8", "/%C3%BCml%C3%A4ut.txt"),
            ("utf_8_in_small_letters", "/%c3%bcml%c3%a4ut.txt"),
            ("bare_utf_8", "/\u{fc}ml\u{e4}ut.txt"),
            ("latin_1", "/latin-%FC.txt"),
            ("no_encoding_at_all", "/%FF%FE.txt"),
            ("two_dots_within", "/two..dots.txt"),
            ("tilde", "/tilde~.txt"),
            ("tilde_escaped", "/tilde%7E.txt"),
        ],
        &digits_elsewhere(),
    )
}

/// The same content as the digits, in another file with its own entity tag.
fn digits_elsewhere() -> Answer {
    file("text/plain; charset=utf-8", crate::site::DIGITS)
}

fn escapes() -> Vec<Row> {
    let mut rows = each(
        [
            ("escaped_letter", "/%64igits.txt"),
            ("everything_escaped", "/%64%69%67%69%74%73%2e%74%78%74"),
            ("escaped_slash_separates", "/dir%2F..%2Fdigits.txt"),
        ],
        &digits(),
    );
    rows.extend(each(
        [
            ("decoded_once_only", "/%2564igits.txt"),
            ("utf_8_overlong", "/%c1%a4igits.txt"),
            ("trailing_space", "/digits.txt%20"),
        ],
        &problem(404),
    ));
    rows.extend(each(
        [
            ("escape_cut_off", "/digits%"),
            ("escape_cut_off_after_one_digit", "/digits%2"),
            ("escape_of_no_digits", "/%zz"),
            ("escape_with_one_bad_digit", "/%2g"),
            ("escape_with_a_sign", "/%+4"),
            ("utf_16_escape", "/%u0064igits.txt"),
            ("nul", "/digits.txt%00"),
            ("nul_within", "/dig%00its.txt"),
            ("nul_before_another_extension", "/digits.txt%00.html"),
        ],
        &problem(400),
    ));
    rows
}

fn queries() -> Vec<Row> {
    let mut rows = each(
        [
            ("query", "/digits.txt?a=b&c"),
            ("empty_query", "/digits.txt?"),
            ("two_question_marks", "/digits.txt??x"),
            ("query_is_not_decoded", "/digits.txt?%zz%00"),
            ("query_with_dots", "/digits.txt?/../.."),
            ("query_with_a_slash_at_the_end", "/digits.txt?x/"),
        ],
        &digits(),
    );
    rows.extend(each(
        [("fragment", "/digits.txt#x"), ("fragment_after_a_query", "/digits.txt?a#b")],
        &problem(400),
    ));
    rows
}

fn absolute_form() -> Vec<Row> {
    let mut rows = each(
        [
            ("absolute", "http://triptych.test/digits.txt"),
            ("absolute_of_another_host", "http://other.test/digits.txt"),
            ("absolute_with_a_port", "http://triptych.test:8080/digits.txt"),
            ("absolute_https", "https://triptych.test/digits.txt"),
            ("absolute_in_capitals", "HTTP://TRIPTYCH.TEST/digits.txt"),
            ("absolute_with_an_address", "http://[::1]:80/digits.txt?x"),
            ("absolute_with_a_future_address", "http://[vF.x]/digits.txt"),
            ("absolute_with_zeros_in_the_port", "http://triptych.test:000080/digits.txt"),
            ("absolute_with_an_escape", "http://triptych%2Etest/digits.txt"),
            ("absolute_with_dots", "http://triptych.test/dir/../digits.txt"),
        ],
        &digits(),
    );
    let index = file("text/html; charset=utf-8", INDEX);
    rows.extend(each(
        [("absolute_root", "http://triptych.test/"), ("absolute_without_a_path", "http://triptych.test")],
        &index,
    ));
    rows.extend(each([("absolute_with_only_a_query", "http://triptych.test?q")], &index));
    rows.extend(each(
        [
            ("absolute_of_another_scheme", "ftp://triptych.test/digits.txt"),
            ("absolute_without_a_host", "http:///digits.txt"),
            ("absolute_with_a_user", "http://user@triptych.test/digits.txt"),
            ("absolute_with_a_bad_port", "http://triptych.test:http/digits.txt"),
            ("absolute_with_a_bad_address", "http://[1:2:3]/digits.txt"),
            ("absolute_with_a_bad_escape", "http://triptych%2test/digits.txt"),
            ("absolute_with_one_slash", "http:/digits.txt"),
            ("no_slash", "digits.txt"),
            ("authority", "triptych.test:80"),
        ],
        &problem(400),
    ));
    rows.push(row("absolute_needs_a_host_field", b"GET http://h/digits.txt HTTP/1.1\r\n\r\n", refused(400)));
    rows.push(row("absolute_options", request("OPTIONS", "http://triptych.test/", &[]), options()));
    rows
}

fn missing() -> Vec<Row> {
    let long = format!("/{}", "n".repeat(256));
    let deep = "/deep".repeat(1000);
    let mut rows = each(
        [
            ("missing", "/missing"),
            ("missing_in_a_directory", "/dir/missing"),
            ("missing_directory", "/missing/file.txt"),
            ("case_matters", "/DIGITS.TXT"),
            ("file_with_a_slash", "/digits.txt/"),
            ("below_a_file", "/digits.txt/x"),
            ("name_too_long", &long),
            ("path_too_long", &deep),
        ],
        &problem(404),
    );
    rows.push(row("missing_for_head", request("HEAD", "/missing", &[]), problem(404).head_only()));
    rows
}
