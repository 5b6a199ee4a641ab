//! Names that were meant, perhaps.

/// How many are proposed.
const NEAREST: usize = 3;

/// The names most like `typed`, the most likely first.
pub(crate) fn nearest<'a>(typed: &str, names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let typed = typed.to_lowercase();
    let mut ranked: Vec<(usize, &str)> =
        names.map(|name| (strsim::damerau_levenshtein(&typed, &name.to_lowercase()), name)).collect();
    ranked.sort_by_key(|(distance, _)| *distance);
    ranked.into_iter().take(NEAREST).map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_come_first() {
        let names = ["C1", "C2", "C13", "C22"];
        assert_eq!(nearest("c133", names.into_iter())[0], "C13");
        assert_eq!(nearest("31C", names.into_iter()).len(), NEAREST);
    }
}
