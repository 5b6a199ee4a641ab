//! Preconditions (RFC 9110 §13), one at a time and in the order of §13.2.2.

use crate::row::{
    Answer, Row, Variant, digits, get, part, parts, precondition, precondition_lacking, problem, request,
    row, undated, undated_precondition, untagged_digits,
};
use crate::site::DIGITS;

pub(super) fn rows() -> Vec<Row> {
    [match_tags(), match_dates(), order(), if_range(), elsewhere(), replica(), untagged(), undated_files()]
        .concat()
}

const EQUAL: &str = "Thu, 29 Feb 2024 12:34:56 GMT";
const EARLIER: &str = "Thu, 29 Feb 2024 12:34:55 GMT";
const LATER: &str = "Thu, 29 Feb 2024 12:34:57 GMT";

fn each<const COUNT: usize>(rows: [(&'static str, &[&str]); COUNT], answer: &Answer) -> Vec<Row> {
    rows.map(|(name, fields)| row(name, get("/digits.txt", fields), answer.clone())).into()
}

fn match_tags() -> Vec<Row> {
    let mut rows = each(
        [
            ("match", &["If-Match: {etag}"]),
            ("match_any", &["If-Match: *"]),
            ("match_in_a_list", &["If-Match: \"a\", {etag}, \"b\""]),
            ("match_on_a_second_line", &["If-Match: \"a\"", "If-Match: {etag}"]),
            ("match_behind_a_tag_with_a_comma", &["If-Match: \"a,b\",{etag}"]),
            ("none_match_of_another", &["If-None-Match: \"a\""]),
            ("none_match_without_quotes", &["If-None-Match: a"]),
            ("none_match_of_the_empty_tag", &["If-None-Match: \"\""]),
        ],
        &digits(),
    );
    rows.extend(each(
        [
            ("match_of_another", &["If-Match: \"a\""]),
            ("match_is_strong", &["If-Match: W/{etag}"]),
            ("match_without_quotes", &["If-Match: a"]),
            ("match_of_an_empty_list", &["If-Match: "]),
        ],
        &precondition(412),
    ));
    rows.extend(each(
        [
            ("none_match", &["If-None-Match: {etag}"]),
            ("none_match_any", &["If-None-Match: *"]),
            ("none_match_is_weak", &["If-None-Match: W/{etag}"]),
            ("none_match_in_a_list", &["If-None-Match: \"a\", W/\"b\" , {etag}"]),
            ("none_match_on_a_second_line", &["If-None-Match: \"a\"", "If-None-Match: {etag}"]),
            ("none_match_behind_empty_elements", &["If-None-Match: , ,{etag}"]),
        ],
        &precondition(304),
    ));
    rows
}

fn match_dates() -> Vec<Row> {
    let [since_equal, since_earlier, since_later] =
        [EQUAL, EARLIER, LATER].map(|date| format!("If-Modified-Since: {date}"));
    let [until_equal, until_earlier, until_later] =
        [EQUAL, EARLIER, LATER].map(|date| format!("If-Unmodified-Since: {date}"));
    let mut rows = each(
        [
            ("modified_since", &[&since_earlier]),
            ("modified_since_nonsense", &["If-Modified-Since: yesterday"]),
            ("modified_since_nothing", &["If-Modified-Since:"]),
            ("modified_since_on_no_weekday", &["If-Modified-Since: Xyz, 29 Feb 2024 12:34:56 GMT"]),
            ("modified_since_a_day_that_never_was", &["If-Modified-Since: Thu, 30 Feb 2024 12:34:56 GMT"]),
            ("unmodified_since", &[&until_equal]),
            ("unmodified_since_later", &[&until_later]),
            ("unmodified_since_nonsense", &["If-Unmodified-Since: tomorrow"]),
        ],
        &digits(),
    );
    rows.extend(each(
        [
            ("not_modified_since", &[&since_equal]),
            ("not_modified_since_later", &[&since_later]),
            ("not_modified_since_in_rfc_850", &["If-Modified-Since: Thursday, 29-Feb-24 12:34:56 GMT"]),
            ("not_modified_since_in_asctime", &["If-Modified-Since: Thu Feb 29 12:34:56 2024"]),
            (
                "not_modified_since_with_a_wrong_weekday",
                &["If-Modified-Since: Mon, 29 Feb 2024 12:34:56 GMT"],
            ),
            (
                "not_modified_since_with_a_wrong_weekday_in_rfc_850",
                &["If-Modified-Since: Wednesday, 29-Feb-24 12:34:56 GMT"],
            ),
            (
                "not_modified_since_with_a_wrong_weekday_in_asctime",
                &["If-Modified-Since: Sun Feb 29 12:34:56 2024"],
            ),
        ],
        &precondition(304),
    ));
    rows.extend(each(
        [
            ("modified_after", &[&until_earlier]),
            ("modified_after_with_a_wrong_weekday", &["If-Unmodified-Since: Mon, 29 Feb 2024 12:34:55 GMT"]),
        ],
        &precondition(412),
    ));
    rows
}

fn order() -> Vec<Row> {
    let until_earlier = format!("If-Unmodified-Since: {EARLIER}");
    let since_later = format!("If-Modified-Since: {LATER}");
    let since_earlier = format!("If-Modified-Since: {EARLIER}");
    let mut rows = each(
        [
            ("match_beats_unmodified_since", &["If-Match: {etag}", &until_earlier]),
            ("none_match_beats_modified_since", &["If-None-Match: \"a\"", &since_later]),
        ],
        &digits(),
    );
    rows.extend(each(
        [
            ("none_match_beats_modified_since_the_other_way", &["If-None-Match: {etag}", &since_earlier]),
            ("match_then_none_match", &["If-Match: {etag}", "If-None-Match: {etag}"]),
            ("precondition_before_range", &["If-None-Match: {etag}", "Range: bytes=0-1"]),
            ("precondition_before_an_unsatisfiable_range", &["If-None-Match: {etag}", "Range: bytes=99-"]),
            (
                "precondition_before_if_range",
                &["If-None-Match: {etag}", "If-Range: \"a\"", "Range: bytes=0-1"],
            ),
        ],
        &precondition(304),
    ));
    rows.extend(each(
        [
            ("failed_match_before_none_match", &["If-None-Match: {etag}", "If-Match: \"a\""]),
            ("failed_unmodified_since_before_none_match", &["If-None-Match: {etag}", &until_earlier]),
            ("failed_match_before_range", &["If-Match: \"a\"", "Range: bytes=0-1"]),
        ],
        &precondition(412),
    ));
    rows
}

fn if_range() -> Vec<Row> {
    let [equal, earlier, later] = [EQUAL, EARLIER, LATER].map(|date| format!("If-Range: {date}"));
    let range = "Range: bytes=2-4";
    let mut rows = each(
        [
            ("if_range_of_another_tag", &[range, "If-Range: \"a\""]),
            ("if_range_is_strong", &[range, "If-Range: W/{etag}"]),
            ("if_range_has_no_lists", &[range, "If-Range: {etag}, {etag}"]),
            ("if_range_has_no_asterisk", &[range, "If-Range: *"]),
            ("if_range_of_an_earlier_date", &[range, &earlier]),
            ("if_range_of_a_later_date", &[range, &later]),
            ("if_range_of_nonsense", &[range, "If-Range: soon"]),
            // The times of these files were set: others could have had the same ones.
            ("if_range_of_the_date", &[range, &equal]),
            ("if_range_before_an_unsatisfiable_range", &["Range: bytes=99-", "If-Range: \"a\""]),
            ("if_range_without_range", &["If-Range: {etag}"]),
        ],
        &digits(),
    );
    let partial = part("text/plain; charset=utf-8", "2-4/10", "234").has("ETag", "{etag}");
    rows.extend(each(
        [
            ("if_range", &[range, "If-Range: {etag}"]),
            ("if_range_comes_first", &["If-Range: {etag}", range]),
            ("if_range_beside_a_match", &[range, "If-Match: {etag}", "If-Range: {etag}"]),
        ],
        &partial,
    ));
    rows
}

fn elsewhere() -> Vec<Row> {
    vec![
        row(
            "head_none_match",
            request("HEAD", "/digits.txt", &["If-None-Match: {etag}"]),
            precondition(304).head_only(),
        ),
        row(
            "head_match",
            request("HEAD", "/digits.txt", &["If-Match: \"a\""]),
            precondition(412).head_only(),
        ),
        row("none_for_what_is_missing", get("/missing", &["If-None-Match: *"]), problem(404)),
        row("match_any_of_what_is_missing", get("/missing", &["If-Match: *"]), problem(404)),
        row(
            "not_for_options",
            request("OPTIONS", "/digits.txt", &["If-Match: \"a\""]),
            crate::row::options(),
        ),
        row("not_for_post", request("POST", "/digits.txt", &["If-None-Match: *"]), problem(405)),
        row(
            "then_the_whole_file",
            get("/digits.txt", &["If-None-Match: {etag}"]).with(get("/digits.txt", &[])),
            [precondition(304), digits()],
        ),
    ]
}

const TEXT: &str = "text/plain; charset=utf-8";

fn on(variant: Variant, rows: Vec<Row>) -> Vec<Row> {
    rows.into_iter().map(|row| row.on(variant)).collect()
}

/// Tags of several machines, which rely on the modification time, and so does a date.
fn replica() -> Vec<Row> {
    let equal = format!("If-Range: {EQUAL}");
    let range = "Range: bytes=2-4";
    let partial = part(TEXT, "2-4/10", "234").has("ETag", "{etag}");
    let rows = [
        each([("replica", &[]), ("replica_match", &["If-Match: {etag}"])], &digits()),
        each([("replica_none_match", &["If-None-Match: {etag}"])], &precondition(304)),
        each([("replica_match_of_another", &["If-Match: \"a\""])], &precondition(412)),
        each(
            [
                ("replica_if_range", &[range, "If-Range: {etag}"]),
                ("replica_if_range_of_the_date", &[range, &equal]),
                (
                    "replica_if_range_of_the_date_with_a_wrong_weekday",
                    &[range, "If-Range: Mon, 29 Feb 2024 12:34:56 GMT"],
                ),
            ],
            &partial,
        ),
        each([("replica_if_range_of_another_tag", &[range, "If-Range: \"a\""])], &digits()),
    ];
    on(Variant::Replica, rows.concat())
}

/// Without tags no list of them matches (RFC 9110 §13.1.1, §13.1.2); dates are what they were.
fn untagged() -> Vec<Row> {
    let [since_equal, since_earlier] = [EQUAL, EARLIER].map(|date| format!("If-Modified-Since: {date}"));
    let until_earlier = format!("If-Unmodified-Since: {EARLIER}");
    let equal = format!("If-Range: {EQUAL}");
    let range = "Range: bytes=2-4";
    let mut rows = [
        each(
            [
                ("untagged", &[]),
                ("untagged_match_any", &["If-Match: *"]),
                ("untagged_none_match", &["If-None-Match: {etag}"]),
                ("untagged_none_match_is_weak", &["If-None-Match: W/{etag}"]),
                ("untagged_none_match_beats_modified_since", &["If-None-Match: {etag}", &since_equal]),
                ("untagged_modified_since", &[&since_earlier]),
                ("untagged_if_range", &[range, "If-Range: {etag}"]),
            ],
            &untagged_digits(),
        ),
        each(
            [
                ("untagged_none_match_any", &["If-None-Match: *"]),
                ("untagged_not_modified_since", &[&since_equal]),
            ],
            &precondition_lacking(304, "ETag"),
        ),
        each(
            [("untagged_match", &["If-Match: {etag}"]), ("untagged_modified_after", &[&until_earlier])],
            &precondition_lacking(412, "ETag"),
        ),
        each(
            [("untagged_if_range_of_the_date", &[range, &equal])],
            &part(TEXT, "2-4/10", "234").lacks("ETag"),
        ),
    ]
    .concat();
    let several = [("0-0/1000", b"0".to_vec()), ("900-901/1000", b"09".to_vec())];
    rows.push(row(
        "untagged_ranges",
        get("/kilobyte.txt", &["Range: bytes=0-0,900-901"]),
        parts(TEXT, several).lacks("ETag"),
    ));
    rows.push(row("untagged_head", request("HEAD", "/digits.txt", &[]), untagged_digits().head_only()));
    on(Variant::Untagged, rows)
}

/// Modification times that mean "unknown", or nothing, are no dates, and what compares dates is ignored (RFC 9110
/// §13.1.3, §13.1.4).
fn undated_files() -> Vec<Row> {
    const DATE: &str = "Thu, 01 Jan 1970 00:00:00 GMT";
    const RANGE: &str = "Range: bytes=2-4";
    let since = format!("If-Modified-Since: {LATER}");
    let until = format!("If-Unmodified-Since: {DATE}");
    let if_range = format!("If-Range: {DATE}");
    let whole = || undated(TEXT, DIGITS);
    vec![
        row("a_date_of_0", get("/epoch.txt", &[]), whole()),
        row("a_date_of_1", get("/one.txt", &[]), whole()),
        row("a_date_before_1970", get("/before.txt", &[]), whole()),
        row("a_date_far_in_the_future", get("/future.txt", &[]), whole()),
        row("undated_modified_since", get("/epoch.txt", &[&since]), whole()),
        row("undated_unmodified_since", get("/one.txt", &[&until]), whole()),
        row("undated_if_range", get("/epoch.txt", &[RANGE, &if_range]), whole()),
        row("undated_if_range_of_nonsense", get("/epoch.txt", &[RANGE, "If-Range: soon"]), whole()),
        row("undated_head", request("HEAD", "/future.txt", &[]), whole().head_only()),
        row("undated_none_match_any", get("/epoch.txt", &["If-None-Match: *"]), undated_precondition(304)),
        row("undated_match_of_another", get("/before.txt", &["If-Match: \"a\""]), undated_precondition(412)),
        row("undated_and_untagged", get("/one.txt", &[]), whole().lacks("ETag")).on(Variant::Untagged),
    ]
}
