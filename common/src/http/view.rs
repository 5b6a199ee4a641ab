//! How a listing is shown: what the query of a request and its `Accept` ask for.

/// What a listing is sorted by. Directories come first, whatever it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// Names; numbers in them by their value, letters of ASCII whatever their case.
    #[default]
    Name,
    /// Sizes of files. Directories have none and stay in the order of their names.
    Size,
    /// Times of modification.
    Time,
}

/// The direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// The smallest first.
    #[default]
    Ascending,
    /// The largest first.
    Descending,
}

/// What a listing is written in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// A page.
    #[default]
    Html,
    /// An array of objects.
    Json,
}

/// How a listing is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// What it is sorted by.
    pub sort: Sort,
    /// In which direction.
    pub order: Order,
    /// What it is written in.
    pub format: Format,
}

impl View {
    /// What `?sort=name|size|time&order=asc|desc&format=html|json` asks for, and `Accept` where the query names no
    /// format. Whatever else is in them is ignored; of what is said twice, the last counts.
    #[must_use]
    pub fn of<'a>(query: &[u8], accept: impl Iterator<Item = &'a [u8]>) -> View {
        let mut view = View::default();
        let mut format = None;
        for pair in query.strip_prefix(b"?").unwrap_or(query).split(|byte| *byte == b'&') {
            match pair {
                b"sort=name" => view.sort = Sort::Name,
                b"sort=size" => view.sort = Sort::Size,
                b"sort=time" => view.sort = Sort::Time,
                b"order=asc" => view.order = Order::Ascending,
                b"order=desc" => view.order = Order::Descending,
                b"format=html" => format = Some(Format::Html),
                b"format=json" => format = Some(Format::Json),
                _ => {}
            }
        }
        view.format = format.unwrap_or_else(|| preferred(accept));
        view
    }
}

/// How much a client wants a media type: how exactly a range names it, then the weight of that range in thousandths.
type Wish = (u8, u16);

/// Content negotiation (RFC 9110 §12.5.1): the more exact range counts, then its weight. JSON is sent to those who
/// prefer it; whoever likes both as much, or neither, gets the page.
fn preferred<'a>(accept: impl Iterator<Item = &'a [u8]>) -> Format {
    let (mut html, mut json): (Wish, Wish) = Default::default();
    for element in accept.flat_map(|value| split(value, b',')) {
        let mut parameters = split(element, b';').map(<[u8]>::trim_ascii);
        let range = parameters.next().unwrap_or_default();
        // Other parameters don't matter: neither type is sent in several versions.
        let Some(weight) = parameters.find_map(weight_text).map_or(Some(1000), weight) else { continue };
        for (types, wish) in [
            ([&b"text/html"[..], b"text/*", b"*/*"], &mut html),
            ([b"application/json", b"application/*", b"*/*"], &mut json),
        ] {
            if let Some(place) = types.iter().position(|known| known.eq_ignore_ascii_case(range)) {
                *wish = (*wish).max(([3, 2, 1][place], weight));
            }
        }
    }
    if json.1 > html.1 { Format::Json } else { Format::Html }
}

/// Whether a client asks for a page, as a browser does that goes to an address: `text/html` is named, whatever its
/// weight as long as it has one. What takes anything (`*/*`) isn't looking for a page: scripts, pictures and most
/// programs.
#[must_use]
pub fn asks_for_html<'a>(accept: impl Iterator<Item = &'a [u8]>) -> bool {
    accept.flat_map(|value| split(value, b',')).any(|element| {
        let mut parameters = split(element, b';').map(<[u8]>::trim_ascii);
        let is_html = parameters.next().is_some_and(|range| range.eq_ignore_ascii_case(b"text/html"));
        is_html
            && parameters.find_map(weight_text).map_or(Some(1000), weight).is_some_and(|weight| weight > 0)
    })
}

/// Splits at a separator, except within quotes (RFC 9110 §5.6.4).
fn split(list: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    list.split(move |byte| {
        let is_escaped = std::mem::take(&mut escaped);
        match byte {
            b'"' if !is_escaped => quoted = !quoted,
            b'\\' if quoted && !is_escaped => escaped = true,
            _ => {}
        }
        *byte == separator && !quoted
    })
}

fn weight_text(parameter: &[u8]) -> Option<&[u8]> {
    let (name, value) = parameter.split_at_checked(2)?;
    name.eq_ignore_ascii_case(b"q=").then_some(value)
}

/// A weight (RFC 9110 §12.4.2) in thousandths: `0`, `0.25`, `1.000`.
fn weight(text: &[u8]) -> Option<u16> {
    let (whole, decimals) = match text {
        [whole @ (b'0' | b'1')] => (whole, &b""[..]),
        [whole @ (b'0' | b'1'), b'.', decimals @ ..] if decimals.len() <= 3 => (whole, decimals),
        _ => return None,
    };
    let mut thousandths = u16::from(whole - b'0') * 1000;
    for (decimal, worth) in decimals.iter().zip([100, 10, 1]) {
        thousandths += u16::from(decimal.is_ascii_digit().then(|| decimal - b'0')?) * worth;
    }
    (thousandths <= 1000).then_some(thousandths)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn who_asks_for_a_page() {
        for (accept, expected) in [
            (&["text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"][..], true),
            (&["text/html"], true),
            (&["*/*", "TEXT/HTML;q=0.1"], true),
            (&["text/html;level=1;q=0.5"], true),
            (&[], false),
            (&[""], false),
            (&["*/*"], false),
            (&["text/*"], false),
            (&["text/html;q=0"], false),
            (&["text/html;q=0.000"], false),
            (&["text/html;q=x"], false),
            (&["a/b;c=\"text/html,text/html\""], false),
            (&["text/css,*/*;q=0.1"], false),
        ] {
            let found = asks_for_html(accept.iter().map(|value| value.as_bytes()));
            assert_eq!(found, expected, "{accept:?}");
        }
    }

    fn of(query: &str, accept: &[&str]) -> View {
        View::of(query.as_bytes(), accept.iter().map(|value| value.as_bytes()))
    }

    #[test]
    fn queries() {
        use Order::{Ascending, Descending};
        for (query, sort, order, format) in [
            ("", Sort::Name, Ascending, Format::Html),
            ("?", Sort::Name, Ascending, Format::Html),
            ("?sort=name", Sort::Name, Ascending, Format::Html),
            ("?sort=size&order=desc", Sort::Size, Descending, Format::Html),
            ("?order=desc&sort=time", Sort::Time, Descending, Format::Html),
            ("?order=desc", Sort::Name, Descending, Format::Html),
            ("?x&sort=time&=&&format=json&y=1", Sort::Time, Ascending, Format::Json),
            ("?sort=SIZE&order=down&format=xml", Sort::Name, Ascending, Format::Html),
            ("?sort=size&sort=what&order=asc", Sort::Size, Ascending, Format::Html),
            ("?sort=size&sort=time", Sort::Time, Ascending, Format::Html),
            ("?sort=sizes&xsort=size&sort", Sort::Name, Ascending, Format::Html),
        ] {
            assert_eq!(of(query, &[]), View { sort, order, format }, "{query}");
        }
    }

    #[test]
    fn formats() {
        use Format::{Html, Json};
        const BROWSER: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8";
        for (query, accept, expected) in [
            ("", &["application/json"][..], Json),
            ("", &["Application/JSON"], Json),
            ("", &["application/json, text/plain, */*"], Html),
            ("", &["application/json, */*;q=0.5"], Json),
            ("", &["application/json;charset=utf-8"], Json),
            ("", &["application/*"], Json),
            ("", &["text/html;q=0.5, application/json"], Json),
            ("", &["text/html;q=0.5 ,\tapplication/json ; q=0.501"], Json),
            ("", &["text/html;q=0.5", "application/json;q=0.6"], Json),
            ("", &["application/json;q=0.5, text/*"], Html),
            ("", &["text/html, application/json"], Html),
            ("", &["application/json;q=0"], Html),
            ("", &["*/*, application/json;q=0.1"], Html),
            ("", &["*/*, text/html;q=0.1"], Json),
            ("", &["*/*;q=0.1, text/*;q=0.2, text/html;q=0"], Json),
            ("", &["application/json;Q=0.4, text/html;q=0.3"], Json),
            ("", &["text/plain"], Html),
            ("", &["*/*"], Html),
            ("", &[""], Html),
            ("", &[BROWSER], Html),
            // What isn't a weight takes its range away, and nothing else.
            ("", &["application/json;q=2"], Html),
            ("", &["application/json;q=1.001"], Html),
            ("", &["application/json;q=.5"], Html),
            ("", &["application/json;q=0.1234"], Html),
            ("", &["application/json;q="], Html),
            ("", &["text/html;q=x, application/json;q=0.1"], Json),
            // A quoted comma or semicolon doesn't separate.
            ("", &["text/plain;a=\",application/json,\""], Html),
            ("", &["text/html;a=\"\\\";q=0\", application/json;q=0.9"], Html),
            ("?format=json", &[BROWSER], Json),
            ("?format=html", &["application/json"], Html),
            ("?format=xml", &["application/json"], Json),
        ] {
            assert_eq!(of(query, accept).format, expected, "{query} {accept:?}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes(
            query in proptest::collection::vec(any::<u8>(), 0..60),
            accept in proptest::collection::vec(any::<u8>(), 0..60),
        ) {
            let view = View::of(&query, [accept.as_slice()].into_iter());
            prop_assert!(view.format == Format::Html || !accept.is_empty() || !query.is_empty());
        }

        /// Of two weights, the larger one decides; equal ones ask for the page.
        #[test]
        fn the_larger_weight_wins(html in 0u16..=1000, json in 0u16..=1000) {
            let q = |weight: u16| format!("{}.{:03}", weight / 1000, weight % 1000);
            let accept = format!("text/html;q={}, application/json;q={}", q(html), q(json));
            prop_assert_eq!(of("", &[&accept]).format == Format::Json, json > html);
        }
    }
}
