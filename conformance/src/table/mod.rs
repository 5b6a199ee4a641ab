//! The table: every HTTP decision as an exchange. One file per group, each with a function `rows()`.

mod chunked;
mod content;
mod expect;
mod fields;
mod flags;
mod half_close;
mod head;
mod hosts;
mod http10;
mod index;
mod keep_alive;
mod large;
mod limits;
mod lines;
mod links;
mod methods;
mod pipelining;
mod preconditions;
mod range;
mod representation;
mod rules;
mod targets;
mod transfer_coding;
mod traversal;
mod variants;
mod versions;

use crate::row::Row;

/// Related rows.
#[derive(Debug)]
pub struct Group {
    /// The middle part of the test name.
    pub name: &'static str,
    /// The rows.
    pub rows: Vec<Row>,
}

/// The whole table.
#[must_use]
pub fn groups() -> Vec<Group> {
    [
        ("methods", methods::rows()),
        ("lines", lines::rows()),
        ("fields", fields::rows()),
        ("hosts", hosts::rows()),
        ("content", content::rows()),
        ("chunked", chunked::rows()),
        ("transfer_coding", transfer_coding::rows()),
        ("expect", expect::rows()),
        ("versions", versions::rows()),
        ("http10", http10::rows()),
        ("targets", targets::rows()),
        ("traversal", traversal::rows()),
        ("links", links::rows()),
        ("index", index::rows()),
        ("representation", representation::rows()),
        ("preconditions", preconditions::rows()),
        ("range", range::rows()),
        ("large", large::rows()),
        ("head", head::rows()),
        ("keep_alive", keep_alive::rows()),
        ("pipelining", pipelining::rows()),
        ("half_close", half_close::rows()),
        ("limits", limits::rows()),
        ("rules", rules::rows()),
        ("variants", variants::rows()),
        ("flags", flags::rows()),
    ]
    .into_iter()
    .map(|(name, rows)| Group { name, rows })
    .collect()
}
