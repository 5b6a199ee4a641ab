//! Content codings (RFC 9110 §12.5.3): which of those that there are a client gets.

/// A coding that this server may have a file in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// `zstd` (RFC 8878).
    Zstd,
    /// `br` (RFC 7932).
    Brotli,
    /// `gzip` (RFC 1952).
    Gzip,
}

/// How many codings there are.
pub const CODINGS: usize = 3;

impl Coding {
    /// As `Content-Encoding` names it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Coding::Zstd => "zstd",
            Coding::Brotli => "br",
            Coding::Gzip => "gzip",
        }
    }

    /// The coding of this name, in any case; `x-gzip` is an old name of `gzip` (RFC 9110 §8.4.1.3).
    fn named(name: &[u8]) -> Option<Coding> {
        [
            (&b"zstd"[..], Coding::Zstd),
            (b"br", Coding::Brotli),
            (b"gzip", Coding::Gzip),
            (b"x-gzip", Coding::Gzip),
        ]
        .into_iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(name))
        .map(|(_, coding)| coding)
    }
}

/// What a client gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The file in this coding.
    Coding(Coding),
    /// The file as it is.
    Identity,
    /// Nothing that there is: the client refuses even the file as it is. It may be answered with 406, or with the file
    /// anyway (RFC 9110 §15.5.7).
    NotAcceptable,
}

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

/// Chooses among the codings that are available, in the order in which the server prefers them; `values` are those of
/// all `Accept-Encoding` fields of a request.
///
/// The greatest weight counts, and between equal ones the server. `identity` is the last choice of a client that
/// doesn't mention it. Without a field anything could be sent (RFC 9110 §12.5.3), but who says nothing may understand
/// nothing, so the file stays as it is. Members that are malformed are ignored, and so are codings that this server
/// doesn't know.
#[must_use]
pub fn preferred<'v>(values: impl IntoIterator<Item = &'v [u8]>, available: &[Coding]) -> Choice {
    let mut weights = Weights::default();
    for member in values.into_iter().flat_map(|value| value.split(|byte| *byte == b',')) {
        weights.add(member.trim_ascii());
    }
    let mut best: Option<(Coding, Weight)> = None;
    for coding in available {
        let weight = weights.of(*coding);
        if weight > best.map_or(0, |(_, weight)| weight) {
            best = Some((*coding, weight));
        }
    }
    match (best, weights.identity.or(weights.others)) {
        (Some((_, weight)), Some(identity)) if identity > weight => Choice::Identity,
        (Some((coding, _)), _) => Choice::Coding(coding),
        (None, Some(0)) => Choice::NotAcceptable,
        (None, _) => Choice::Identity,
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
    use Choice::{Coding as In, Identity, NotAcceptable};
    use Coding::{Brotli, Gzip, Zstd};
    use proptest::prelude::*;

    const ALL: [Coding; CODINGS] = [Zstd, Brotli, Gzip];

    fn choose(values: &[&str], available: &[Coding]) -> Choice {
        preferred(values.iter().map(|value| value.as_bytes()), available)
    }

    #[test]
    fn choices() {
        for (values, available, expected) in [
            // Browsers: over HTTPS, over HTTP; curl; others.
            (&["gzip, deflate, br, zstd"][..], &ALL[..], In(Zstd)),
            (&["gzip, deflate, br, zstd"], &[Brotli, Gzip], In(Brotli)),
            (&["gzip, deflate"], &ALL, In(Gzip)),
            (&["deflate, gzip, br, zstd"], &[Gzip], In(Gzip)),
            (&["br;q=1.0, gzip;q=0.8, *;q=0.1"], &ALL, In(Brotli)),
            // No field, an empty one, and no variant.
            (&[], &ALL, Identity),
            (&[""], &ALL, Identity),
            (&[" , ,"], &ALL, Identity),
            (&["gzip, br"], &[], Identity),
            // The examples of RFC 9110 §12.5.3.
            (&["compress, gzip"], &ALL, In(Gzip)),
            (&["*"], &ALL, In(Zstd)),
            (&["compress;q=0.5, gzip;q=1.0"], &ALL, In(Gzip)),
            (&["gzip;q=1.0, identity; q=0.5, *;q=0"], &ALL, In(Gzip)),
            (&["gzip;q=1.0, identity; q=0.5, *;q=0"], &[Brotli], Identity),
            // Weights before the server's order; equal ones leave it to the server.
            (&["gzip;q=0.9, br;q=0.8, zstd;q=0.899"], &ALL, In(Gzip)),
            (&["gzip;q=0.5, br;q=0.50, zstd;q=0.500"], &ALL, In(Zstd)),
            (&["gzip;q=0.001"], &ALL, In(Gzip)),
            (&["gzip;q=0"], &ALL, Identity),
            (&["gzip;q=0.000, br"], &[Gzip], Identity),
            // Others.
            (&["*;q=0.5, zstd;q=0"], &ALL, In(Brotli)),
            (&["*;q=0.5, gzip"], &ALL, In(Gzip)),
            (&["*;q=0.8, gzip;q=0.5"], &[Gzip], Identity),
            // As it is, first or not at all.
            (&["identity, gzip;q=0.5"], &ALL, Identity),
            (&["identity;q=0.5, gzip"], &ALL, In(Gzip)),
            (&["identity, gzip"], &ALL, In(Gzip)),
            (&["identity;q=0"], &ALL, NotAcceptable),
            (&["identity;q=0, br"], &[Gzip], NotAcceptable),
            (&["identity;q=0, br"], &[Brotli], In(Brotli)),
            (&["*;q=0"], &ALL, NotAcceptable),
            (&["*;q=0, identity"], &ALL, Identity),
            (&["identity;q=0, *"], &[Gzip], In(Gzip)),
            // Names in any case, old ones, several fields, the first mention.
            (&["GZip, BR;Q=0.5"], &ALL, In(Gzip)),
            (&["x-gzip"], &ALL, In(Gzip)),
            (&["x-gzip;q=0, gzip"], &[Gzip], Identity),
            (&["br;q=0.5", "gzip"], &ALL, In(Gzip)),
            (&["gzip;q=0, gzip"], &ALL, Identity),
            (&["gzip \t; \tq=0.5 ,\tbr ;q=0.4"], &ALL, In(Gzip)),
            // Malformed members are ignored, and the others aren't.
            (&["gzip;q=2, br"], &ALL, In(Brotli)),
            (&["gzip;q=1.001"], &ALL, Identity),
            (&["gzip;q=0.1234"], &ALL, Identity),
            (&["gzip;q=.5"], &ALL, Identity),
            (&["gzip;q=-1"], &ALL, Identity),
            (&["gzip;q="], &ALL, Identity),
            (&["gzip;"], &ALL, Identity),
            (&["gzip;q"], &ALL, Identity),
            (&["gzip;q =1"], &ALL, Identity),
            (&["gzip;level=9"], &ALL, Identity),
            (&["gzip;q=1;x=y, br;q=0.1"], &ALL, In(Brotli)),
            (&["gzip br"], &ALL, Identity),
            (&["identity;q=9, gzip;q=0.5"], &ALL, In(Gzip)),
            (&["gzip;q=1., br;q=0.9"], &ALL, In(Gzip)),
        ] {
            assert_eq!(choose(values, available), expected, "{values:?} of {available:?}");
        }
    }

    /// The rules as they are written, coding by coding.
    fn acceptable(members: &[(String, u16)], name: &str) -> Option<u16> {
        let find = |name: &str| members.iter().find(|(known, _)| known == name).map(|(_, weight)| *weight);
        find(name).or(find("*"))
    }

    proptest! {
        #[test]
        fn a_choice_is_acceptable_and_best(
            members in proptest::collection::vec(
                (proptest::sample::select(&["gzip", "br", "zstd", "identity", "*", "other"][..]), 0u16..=10),
                0..7,
            ),
            available in proptest::sample::subsequence(ALL.to_vec(), 0..=CODINGS).prop_shuffle(),
        ) {
            let members: Vec<_> = members.iter().map(|(name, tenths)| ((*name).to_owned(), tenths * 100)).collect();
            let text: Vec<_> = members.iter()
                .map(|(name, weight)| format!("{name};q={}.{:03}", weight / 1000, weight % 1000))
                .collect();
            let value = text.join(", ");
            let choice = preferred([value.as_bytes()], &available);
            let weight_of = |coding: &Coding| acceptable(&members, coding.name()).unwrap_or(0);
            let identity = acceptable(&members, "identity");
            let best = available.iter().map(weight_of).max().unwrap_or(0);
            match choice {
                In(coding) => {
                    prop_assert!(weight_of(&coding) == best && best > 0 && best >= identity.unwrap_or(0));
                    let first = available.iter().find(|other| weight_of(other) == best);
                    prop_assert_eq!(first, Some(&coding), "the server prefers another");
                }
                Identity => prop_assert!(identity != Some(0) && (best == 0 || identity > Some(best))),
                NotAcceptable => prop_assert!(identity == Some(0) && best == 0),
            }
        }

        #[test]
        fn arbitrary_bytes(values in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..4)) {
            let choice = preferred(values.iter().map(Vec::as_slice), &[Gzip]);
            let names_it = |value: &Vec<u8>| {
                value.contains(&b'*') || value.windows(4).any(|name| name.eq_ignore_ascii_case(b"gzip"))
            };
            if !values.iter().any(names_it) {
                prop_assert_ne!(choice, In(Gzip));
            }
        }

        /// Fields are one list (RFC 9110 §5.3).
        #[test]
        fn fields_are_joined(
            members in proptest::collection::vec("(gzip|br|\\*|identity|x)( ?; ?q=[01](\\.[05])?)?", 0..5),
        ) {
            let apart = preferred(members.iter().map(|member| member.as_bytes()), &ALL);
            let value = members.join(",");
            let together = preferred([value.as_bytes()], &ALL);
            prop_assert_eq!(apart, together);
        }
    }
}
