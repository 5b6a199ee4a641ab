//! Path traversal: dot segments are resolved after decoding, and no path climbs above the root.

use crate::row::Variant::Hidden;
use crate::row::{Answer, Row, digits, file, get, problem, row};
use crate::site::{DIGITS, INDEX};

pub(super) fn rows() -> Vec<Row> {
    [climbing(), harmless(), not_dots(), hidden_names(), special_files()].concat()
}

fn each<const COUNT: usize>(rows: [(&'static str, &str); COUNT], answer: &Answer) -> Vec<Row> {
    rows.map(|(name, target)| row(name, get(target, &[]), answer.clone())).into()
}

fn climbing() -> Vec<Row> {
    each(
        [
            ("up", "/.."),
            ("up_with_a_slash", "/../"),
            ("up_to_a_file", "/../secret.txt"),
            ("up_twice", "/../../etc/passwd"),
            ("up_far", "/../../../../../../../../etc/passwd"),
            ("out_of_a_directory", "/dir/../../secret.txt"),
            ("out_and_back_in", "/../main/digits.txt"),
            ("behind_empty_segments", "//../secret.txt"),
            ("behind_a_dot_segment", "/./../secret.txt"),
            ("escaped", "/%2e%2e/secret.txt"),
            ("escaped_in_capitals", "/%2E%2E/secret.txt"),
            ("half_escaped", "/.%2e/secret.txt"),
            ("other_half_escaped", "/%2e./secret.txt"),
            ("slash_escaped", "/..%2fsecret.txt"),
            ("slash_escaped_in_capitals", "/..%2Fsecret.txt"),
            ("everything_escaped", "/%2e%2e%2fsecret.txt"),
            ("first_slash_escaped", "/%2f..%2fsecret.txt"),
            ("at_the_end", "/dir/../.."),
            ("absolute_form", "http://triptych.test/../secret.txt"),
            ("absolute_form_escaped", "http://triptych.test/%2e%2e/secret.txt"),
            ("with_a_query", "/../secret.txt?x"),
            ("nul_after_the_dots", "/..%00/secret.txt"),
        ],
        &problem(400),
    )
}

fn harmless() -> Vec<Row> {
    let mut rows = each(
        [
            ("dot_segment", "/./digits.txt"),
            ("dot_segment_escaped", "/%2e/digits.txt"),
            ("into_and_out_of_a_directory", "/dir/../digits.txt"),
            ("into_and_out_of_what_is_missing", "/missing/../digits.txt"),
            ("into_and_out_of_a_file", "/empty.txt/../digits.txt"),
            ("empty_segments", "//digits.txt"),
            ("many_empty_segments", "////.//./digits.txt"),
            ("all_of_them", "/dir/./..//dir//nested/../../digits.txt"),
        ],
        &digits(),
    );
    let index = file("text/html; charset=utf-8", INDEX);
    rows.extend(each(
        [
            ("back_to_the_root", "/dir/.."),
            ("back_to_the_root_with_a_slash", "/dir/../"),
            ("dot_at_the_end", "/dir/."),
            ("dots_to_a_directory", "/dir/nested/.."),
            ("only_a_dot", "/."),
            ("only_slashes", "///"),
        ],
        &index,
    ));
    rows
}

/// These only look like dot segments: they are plain names, and no such file exists.
fn not_dots() -> Vec<Row> {
    each(
        [
            ("escaped_twice", "/%252e%252e/secret.txt"),
            ("backslashes", "/..\\secret.txt"),
            ("backslashes_escaped", "/..%5Csecret.txt"),
            ("utf_8_overlong_dots", "/%c0%ae%c0%ae/secret.txt"),
            ("utf_8_overlong_slash", "/..%c0%afsecret.txt"),
            ("full_width_dots", "/%ef%bc%8e%ef%bc%8e/secret.txt"),
            ("three_dots", "/.../secret.txt"),
            ("dots_and_a_semicolon", "/..;/secret.txt"),
            ("dots_and_a_space", "/..%20/secret.txt"),
            ("dots_and_a_line_break", "/..%0a/secret.txt"),
            ("absolute_path_in_a_segment", "/%2fetc%2fpasswd"),
            ("drive_letter", "/C:/secret.txt"),
            ("home", "/~root/secret.txt"),
        ],
        &problem(404),
    )
}

fn hidden_names() -> Vec<Row> {
    let shown = file("text/plain; charset=utf-8", DIGITS);
    let plain = file("application/octet-stream", DIGITS);
    let mut rows = each(
        [
            ("hidden_file", "/.hidden"),
            ("hidden_file_escaped", "/%2ehidden"),
            ("hidden_file_in_a_directory", "/dir/.hidden"),
            ("hidden_directory", "/.git/config"),
            ("hidden_directory_itself", "/.git"),
            ("hidden_directory_with_a_slash", "/.git/"),
            ("hidden_below_well_known", "/.well-known/.hidden"),
            ("hidden_and_missing", "/.missing"),
            ("hidden_name_that_only_begins_like_dots", "/...txt"),
            ("nearly_well_known", "/.well-known-not/token"),
        ],
        &problem(404),
    );
    rows.extend(each(
        [("well_known", "/.well-known/token"), ("well_known_in_a_directory", "/dir/.well-known/token")],
        &plain,
    ));
    rows.extend([
        row("shown_when_asked_for", get("/.hidden", &[]), plain.clone()).on(Hidden),
        row("shown_in_a_hidden_directory", get("/.git/config", &[]), plain).on(Hidden),
        row("shown_with_three_dots", get("/...txt", &[]), shown).on(Hidden),
        row("no_way_up_when_hidden_names_are_shown", get("/../secret.txt", &[]), problem(400)).on(Hidden),
    ]);
    rows
}

/// Opened without blocking, examined, and not served.
fn special_files() -> Vec<Row> {
    each([("fifo", "/fifo"), ("fifo_with_a_slash", "/fifo/"), ("socket", "/socket")], &problem(404))
}
