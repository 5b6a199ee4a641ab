//! Names that were meant, perhaps: what is said to somebody who has mistyped one.

use crate::failure::Failure;

/// How many are proposed.
const NEAREST: usize = 3;

/// Says that there is no such `kind` of thing, and which names are most like the one that was typed.
pub(crate) fn unknown<'a>(kind: &str, typed: &str, names: impl Iterator<Item = &'a str>) -> Failure {
    Failure::new(format!("no {kind} {typed:?}; the nearest are {}", nearest(typed, names).join(", ")))
}

/// The names most like `typed`, the most likely first: those that begin with it, or have it somewhere, then those that
/// the fewest slips of a finger make of it.
fn nearest<'a>(typed: &str, names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let typed = typed.to_lowercase();
    let rank = |name: &str| {
        let name = name.to_lowercase();
        let (begins, has) = (name.starts_with(&typed), name.contains(&typed));
        (!begins, !has, strsim::damerau_levenshtein(&typed, &name))
    };
    let mut ranked: Vec<&str> = names.collect();
    ranked.sort_by_cached_key(|name| rank(name));
    ranked.truncate(NEAREST);
    ranked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_come_first() {
        let names = ["C1", "C2", "C13", "C22"];
        assert_eq!(nearest("c133", names.into_iter())[0], "C13");
        assert_eq!(nearest("31C", names.into_iter()).len(), NEAREST);
        let names = ["mix", "hot-medium", "idle", "hot-small", "hot-under-cold"];
        assert_eq!(nearest("hot", names.into_iter()), ["hot-small", "hot-medium", "hot-under-cold"]);
        assert_eq!(nearest("cold", names.into_iter())[0], "hot-under-cold");
        assert_eq!(nearest("imx", names.into_iter())[0], "mix");
    }

    #[test]
    fn few_are_proposed_however_many_there_are() {
        let names: Vec<String> = (0..100).map(|number| format!("target-{number}")).collect();
        let line = unknown("target", "target-7x", names.iter().map(String::as_str)).to_string();
        assert!(line.starts_with("no target \"target-7x\"; the nearest are target-7, "), "{line}");
        assert_eq!(line.matches("target-").count(), 1 + NEAREST, "{line}");
    }
}
