//! Content codings (RFC 9110 §12.5.3): which of them a client takes, in which order.

use arrayvec::ArrayVec;

/// A coding that this server may have a file in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// `br` (RFC 7932).
    Brotli,
    /// `zstd` (RFC 8878).
    Zstd,
    /// `gzip` (RFC 1952).
    Gzip,
}

/// How many codings there are.
pub const CODINGS: usize = 3;

impl Coding {
    /// All of them, the one that makes files smallest first.
    pub const ALL: [Coding; CODINGS] = [Coding::Brotli, Coding::Zstd, Coding::Gzip];

    /// As `Content-Encoding` names it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Coding::Brotli => "br",
            Coding::Zstd => "zstd",
            Coding::Gzip => "gzip",
        }
    }

    /// What the name of a file that is in this coding has behind the name of the file itself.
    #[must_use]
    pub fn extension(self) -> &'static str {
        match self {
            Coding::Brotli => ".br",
            Coding::Zstd => ".zst",
            Coding::Gzip => ".gz",
        }
    }

    /// The file that this path's may be a variant of, and the coding, by the end of its name.
    #[must_use]
    pub fn of_sidecar(path: &[u8]) -> Option<(&[u8], Coding)> {
        let whole = |coding: Coding| Some((path.strip_suffix(coding.extension().as_bytes())?, coding));
        let (whole, coding) = Coding::ALL.into_iter().find_map(whole)?;
        whole.last().is_some_and(|last| *last != b'/').then_some((whole, coding))
    }

    /// The coding of this name, in any case; `x-gzip` is an old name of `gzip` (RFC 9110 §8.4.1.3).
    fn named(name: &[u8]) -> Option<Coding> {
        [
            (&b"gzip"[..], Coding::Gzip),
            (b"br", Coding::Brotli),
            (b"zstd", Coding::Zstd),
            (b"x-gzip", Coding::Gzip),
        ]
        .into_iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(name))
        .map(|(_, coding)| coding)
    }
}

/// Codings in order of preference.
pub type Codings = ArrayVec<Coding, CODINGS>;

/// A weight in thousandths, so that weights can be compared exactly.
type Weight = u16;

const WHOLE: Weight = 1000;

/// What a client has said of each coding. The first mention of a name counts.
#[derive(Clone, Copy, Debug, Default)]
struct Weights {
    codings: [Option<Weight>; CODINGS],
    identity: Option<Weight>,
    /// `*`: of everything that isn't mentioned.
    others: Option<Weight>,
}

/// The codings that a client takes at least as gladly as the file as it is, the best first; `values` are those of all
/// `Accept-Encoding` fields of a request.
///
/// The greatest weight counts, and between equal ones the server. `identity` is the last choice of a client that
/// doesn't mention it. Without a field anything could be sent, but who says nothing may understand nothing, so the file
/// stays as it is. It also does where a client refuses that and takes nothing that there is: better the file than
/// nothing (RFC 9110 §15.5.7 leaves it open). Members that are malformed are ignored, and so are codings that this
/// server doesn't know.
#[must_use]
pub fn acceptable<'v>(values: impl IntoIterator<Item = &'v [u8]>) -> Codings {
    let mut weights = Weights::default();
    for member in values.into_iter().flat_map(|value| value.split(|byte| *byte == b',')) {
        weights.add(member.trim_ascii());
    }
    let least = weights.identity.or(weights.others).unwrap_or(0).max(1);
    let mut codings: Codings =
        Coding::ALL.into_iter().filter(|coding| weights.of(*coding) >= least).collect();
    codings.sort_by_key(|coding| std::cmp::Reverse(weights.of(*coding)));
    codings
}

/// Longer values aren't remembered.
const RECENT_BYTES_MAX: usize = 64;

/// Remembers the last value: a browser always sends the same, and there are few browsers.
#[derive(Clone, Debug, Default)]
pub(crate) struct RecentCodings {
    value: ArrayVec<u8, RECENT_BYTES_MAX>,
    codings: Codings,
}

impl RecentCodings {
    /// Like [`acceptable`], for one field.
    pub(crate) fn acceptable(&mut self, value: &[u8]) -> Codings {
        if *self.value != *value {
            if value.len() > RECENT_BYTES_MAX {
                return acceptable([value]);
            }
            self.value.clear();
            self.value.extend(value.iter().copied());
            self.codings = acceptable([value]);
        }
        self.codings.clone()
    }
}

impl Weights {
    /// Reads `codings [ weight ]`.
    fn add(&mut self, member: &[u8]) {
        let end = memchr::memchr(b';', member).unwrap_or(member.len());
        let name = member[..end].trim_ascii_end();
        let weight = match member.get(end + 1..) {
            None => Some(WHOLE),
            Some(parameter) => weight(parameter.trim_ascii_start()),
        };
        let Some(weight) = weight else { return };
        let place = match Coding::named(name) {
            Some(coding) => &mut self.codings[coding as usize],
            None if name == b"*" => &mut self.others,
            None if name.eq_ignore_ascii_case(b"identity") => &mut self.identity,
            None => return,
        };
        place.get_or_insert(weight);
    }

    fn of(&self, coding: Coding) -> Weight {
        self.codings[coding as usize].or(self.others).unwrap_or(0)
    }
}

/// `"q=" qvalue` (RFC 9110 §12.4.2).
fn weight(parameter: &[u8]) -> Option<Weight> {
    let [b'q' | b'Q', b'=', whole @ (b'0' | b'1'), rest @ ..] = parameter else { return None };
    let digits = match rest {
        [] => rest,
        [b'.', digits @ ..] if digits.len() <= 3 => digits,
        _ => return None,
    };
    let mut weight = Weight::from(whole - b'0') * WHOLE;
    let mut place = WHOLE / 10;
    for digit in digits {
        weight += Weight::from(digit.checked_sub(b'0').filter(|digit| *digit <= 9)?) * place;
        place /= 10;
    }
    (weight <= WHOLE).then_some(weight)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Coding::{Brotli, Gzip, Zstd};
    use proptest::prelude::*;

    const ALL: [Coding; CODINGS] = Coding::ALL;

    /// What a client gets of what there is.
    fn choose(values: &[&str], available: &[Coding]) -> Option<Coding> {
        let codings = acceptable(values.iter().map(|value| value.as_bytes()));
        codings.into_iter().find(|coding| available.contains(coding))
    }

    #[test]
    fn sidecars_by_name() {
        for (path, expected) in [
            ("a.css.br", Some(("a.css", Brotli))),
            ("dir/a.zst", Some(("dir/a", Zstd))),
            ("a.tar.gz", Some(("a.tar", Gzip))),
            ("a.br.gz", Some(("a.br", Gzip))),
            (".gz", None),
            ("dir/.gz", None),
            ("a.GZ", None),
            ("gz", None),
            ("a.gz/b", None),
        ] {
            let expected = expected.map(|(whole, coding)| (whole.as_bytes(), coding));
            assert_eq!(Coding::of_sidecar(path.as_bytes()), expected, "{path}");
        }
    }

    #[test]
    fn what_is_remembered_is_what_would_be_found_out() {
        let mut recent = RecentCodings::default();
        let long = format!("gzip{}", ", x".repeat(RECENT_BYTES_MAX));
        for value in ["", "gzip", "", "br", "br", &long, "br", "gzip, br"].map(str::as_bytes) {
            assert_eq!(recent.acceptable(value), acceptable([value]), "{}", value.escape_ascii());
        }
    }

    #[test]
    fn choices() {
        for (values, available, expected) in [
            // Browsers: over HTTPS, over HTTP; curl; others.
            (&["gzip, deflate, br, zstd"][..], &ALL[..], Some(Brotli)),
            (&["gzip, deflate, br, zstd"], &[Zstd, Gzip], Some(Zstd)),
            (&["gzip, deflate, br, zstd"], &[Brotli, Gzip], Some(Brotli)),
            (&["gzip, deflate"], &ALL, Some(Gzip)),
            (&["deflate, gzip, br, zstd"], &[Gzip], Some(Gzip)),
            (&["br;q=1.0, gzip;q=0.8, *;q=0.1"], &ALL, Some(Brotli)),
            // No field, an empty one, and no variant.
            (&[], &ALL, None),
            (&[""], &ALL, None),
            (&[" , ,"], &ALL, None),
            (&["gzip, br"], &[], None),
            // The examples of RFC 9110 §12.5.3.
            (&["compress, gzip"], &ALL, Some(Gzip)),
            (&["*"], &ALL, Some(Brotli)),
            (&["compress;q=0.5, gzip;q=1.0"], &ALL, Some(Gzip)),
            (&["gzip;q=1.0, identity; q=0.5, *;q=0"], &ALL, Some(Gzip)),
            (&["gzip;q=1.0, identity; q=0.5, *;q=0"], &[Brotli], None),
            // Weights before the server's order; equal ones leave it to the server.
            (&["gzip;q=0.9, br;q=0.8, zstd;q=0.899"], &ALL, Some(Gzip)),
            (&["gzip;q=0.5, br;q=0.50, zstd;q=0.500"], &ALL, Some(Brotli)),
            (&["gzip;q=0.001"], &ALL, Some(Gzip)),
            (&["gzip;q=0"], &ALL, None),
            (&["gzip;q=0.000, br"], &[Gzip], None),
            // Others.
            (&["*;q=0.5, zstd;q=0"], &ALL, Some(Brotli)),
            (&["*;q=0.5, gzip"], &ALL, Some(Gzip)),
            (&["*;q=0.8, gzip;q=0.5"], &[Gzip], None),
            // As it is, first or not at all.
            (&["identity, gzip;q=0.5"], &ALL, None),
            (&["identity;q=0.5, gzip"], &ALL, Some(Gzip)),
            (&["identity, gzip"], &ALL, Some(Gzip)),
            (&["identity;q=0"], &ALL, None),
            (&["identity;q=0, br"], &[Gzip], None),
            (&["identity;q=0, br"], &[Brotli], Some(Brotli)),
            (&["*;q=0"], &ALL, None),
            (&["*;q=0, identity"], &ALL, None),
            (&["identity;q=0, *"], &[Gzip], Some(Gzip)),
            // Names in any case, old ones, several fields, the first mention.
            (&["GZip, BR;Q=0.5"], &ALL, Some(Gzip)),
            (&["x-gzip"], &ALL, Some(Gzip)),
            (&["x-gzip;q=0, gzip"], &[Gzip], None),
            (&["br;q=0.5", "gzip"], &ALL, Some(Gzip)),
            (&["gzip;q=0, gzip"], &ALL, None),
            (&["gzip \t; \tq=0.5 ,\tbr ;q=0.4"], &ALL, Some(Gzip)),
            // Malformed members are ignored, and the others aren't.
            (&["gzip;q=2, br"], &ALL, Some(Brotli)),
            (&["gzip;q=1.001"], &ALL, None),
            (&["gzip;q=0.1234"], &ALL, None),
            (&["gzip;q=.5"], &ALL, None),
            (&["gzip;q=-1"], &ALL, None),
            (&["gzip;q="], &ALL, None),
            (&["gzip;"], &ALL, None),
            (&["gzip;q"], &ALL, None),
            (&["gzip;q =1"], &ALL, None),
            (&["gzip;level=9"], &ALL, None),
            (&["gzip;q=1;x=y, br;q=0.1"], &ALL, Some(Brotli)),
            (&["gzip br"], &ALL, None),
            (&["identity;q=9, gzip;q=0.5"], &ALL, Some(Gzip)),
            (&["gzip;q=1., br;q=0.9"], &ALL, Some(Gzip)),
        ] {
            assert_eq!(choose(values, available), expected, "{values:?} of {available:?}");
        }
    }

    /// The rules as they are written, coding by coding.
    fn weight_of(members: &[(String, u16)], name: &str) -> Option<u16> {
        let find = |name: &str| members.iter().find(|(known, _)| known == name).map(|(_, weight)| *weight);
        find(name).or(find("*"))
    }

    proptest! {
        #[test]
        fn what_is_taken_and_in_which_order(
            members in proptest::collection::vec(
                (proptest::sample::select(&["gzip", "br", "zstd", "identity", "*", "other"][..]), 0u16..=10),
                0..7,
            ),
        ) {
            let members: Vec<_> = members.iter().map(|(name, tenths)| ((*name).to_owned(), tenths * 100)).collect();
            let text: Vec<_> = members.iter()
                .map(|(name, weight)| format!("{name};q={}.{:03}", weight / 1000, weight % 1000))
                .collect();
            let codings = acceptable([text.join(", ").as_bytes()]);
            let weight = |coding: &Coding| weight_of(&members, coding.name()).unwrap_or(0);
            let identity = weight_of(&members, "identity").unwrap_or(0);
            for coding in &ALL {
                let is_taken = weight(coding) > 0 && weight(coding) >= identity;
                prop_assert_eq!(codings.contains(coding), is_taken, "{:?}", coding);
            }
            for pair in codings.windows(2) {
                let place = |coding| ALL.iter().position(|other| other == coding);
                let is_in_order = place(&pair[0]) < place(&pair[1]);
                prop_assert!(weight(&pair[0]) > weight(&pair[1]) || (weight(&pair[0]) == weight(&pair[1]) && is_in_order));
            }
        }

        #[test]
        fn arbitrary_bytes(values in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..4)) {
            let codings = acceptable(values.iter().map(Vec::as_slice));
            let names_it = |value: &Vec<u8>| {
                value.contains(&b'*') || value.windows(4).any(|name| name.eq_ignore_ascii_case(b"gzip"))
            };
            if !values.iter().any(names_it) {
                prop_assert!(!codings.contains(&Gzip));
            }
        }

        /// Fields are one list (RFC 9110 §5.3).
        #[test]
        fn fields_are_joined(
            members in proptest::collection::vec("(gzip|br|\\*|identity|x)( ?; ?q=[01](\\.[05])?)?", 0..5),
        ) {
            let apart = acceptable(members.iter().map(|member| member.as_bytes()));
            let value = members.join(",");
            let together = acceptable([value.as_bytes()]);
            prop_assert_eq!(apart, together);
        }
    }
}
