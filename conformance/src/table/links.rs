//! Symbolic links: followed only beneath the root, or not at all.

use crate::row::Variant::NoLinks;
use crate::row::{Answer, Row, Variant, digits, file, get, moved, problem, row};
use crate::site::{DIGITS, INDEX};

pub(super) fn rows() -> Vec<Row> {
    [beneath(), outside(), denied()].concat()
}

fn each<const COUNT: usize>(
    variant: Variant,
    rows: [(&'static str, &str); COUNT],
    answer: &Answer,
) -> Vec<Row> {
    rows.map(|(name, target)| row(name, get(target, &[]), answer.clone()).on(variant)).into()
}

fn beneath() -> Vec<Row> {
    // The media type depends on the requested name.
    let digits = file("application/octet-stream", DIGITS).has("ETag", "{etag}");
    let mut rows = each(
        Variant::Plain,
        [
            ("to_a_file", "/link-file"),
            ("to_a_link", "/link-chain"),
            ("through_a_directory_and_up", "/link-up-and-in"),
            ("up_from_a_directory", "/dir/link-up"),
            ("up_through_a_linked_directory", "/link-dir/link-up"),
        ],
        &digits,
    );
    let below = file("text/plain; charset=utf-8", DIGITS);
    rows.extend(each(
        Variant::Plain,
        [("into_a_directory", "/link-dir/file.txt"), ("to_the_root", "/link-root/link-root/dir/file.txt")],
        &below,
    ));
    rows.push(row("to_a_directory", get("/link-dir", &[]), moved("/link-dir/")));
    rows.push(row(
        "to_a_directory_with_a_slash",
        get("/link-dir/", &[]),
        file("text/html; charset=utf-8", INDEX),
    ));
    rows
}

fn outside() -> Vec<Row> {
    each(
        Variant::Plain,
        [
            ("outside", "/link-outside"),
            ("outside_through_a_directory", "/link-outside-dir/secret.txt"),
            ("outside_to_a_directory", "/link-outside-dir"),
            ("outside_to_a_directory_with_a_slash", "/link-outside-dir/"),
            ("out_and_back_in", "/link-out-and-in"),
            ("absolute", "/link-absolute"),
            ("dangling", "/link-dangling"),
            ("in_a_circle", "/link-loop"),
            ("into_proc", "/link-proc"),
            ("to_a_device", "/link-device"),
        ],
        &problem(404),
    )
}

fn denied() -> Vec<Row> {
    let mut rows = each(
        NoLinks,
        [
            ("denied_to_a_file", "/link-file"),
            ("denied_to_a_directory", "/link-dir"),
            ("denied_into_a_directory", "/link-dir/file.txt"),
            ("denied_outside", "/link-outside"),
            ("denied_dangling", "/link-dangling"),
        ],
        &problem(404),
    );
    rows.push(row("denied_only_for_links", get("/digits.txt", &[]), digits()).on(NoLinks));
    rows
}
