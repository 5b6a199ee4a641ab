//! HTTP dates: IMF-fixdate (RFC 9110 §5.6.7), formatted into a fixed buffer.

use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use httpdate::HttpDate;

/// The length of every IMF-fixdate.
pub const DATE_BYTES: usize = 29;

/// 9999-12-31T23:59:59Z, the last second an IMF-fixdate can represent.
const LAST_SECOND: i64 = 253_402_300_799;

/// A date as written in a header field: `Sun, 06 Nov 1994 08:49:37 GMT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Date([u8; DATE_BYTES]);

impl Date {
    /// The Unix epoch.
    pub const EPOCH: Date = Date(*b"Thu, 01 Jan 1970 00:00:00 GMT");

    /// Formats seconds since the Unix epoch, clamped to the range of an IMF-fixdate.
    #[must_use]
    pub fn from_unix(seconds: i64) -> Date {
        let seconds = seconds.clamp(0, LAST_SECOND).unsigned_abs();
        let mut bytes = [b' '; DATE_BYTES];
        let date = HttpDate::from(UNIX_EPOCH + Duration::from_secs(seconds));
        write!(bytes.as_mut_slice(), "{date}").expect("an IMF-fixdate has 29 bytes");
        Date(bytes)
    }

    /// The text.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; DATE_BYTES] {
        &self.0
    }
}

/// Seconds since the Unix epoch as ISO 8601 writes them, in UTC: `1994-11-06T08:49:37Z`; `None` before 1970 and after 9999.
pub(crate) fn iso(seconds: i64) -> Option<[u8; 20]> {
    let known = (0..=LAST_SECOND).contains(&seconds);
    let time = UNIX_EPOCH + Duration::from_secs(known.then_some(seconds)?.unsigned_abs());
    let mut bytes = [b' '; 20];
    write!(bytes.as_mut_slice(), "{}", humantime::format_rfc3339_seconds(time)).ok()?;
    Some(bytes)
}

const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// Parses any of the three formats that RFC 9110 requires recipients to accept, as seconds since the Unix epoch.
///
/// A date whose weekday is wrong is still that date: recipients are asked to be robust (§5.6.7).
#[must_use]
pub fn parse_date(value: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(value).ok()?.trim_ascii();
    let parse = |text: &str| unix_seconds(httpdate::parse_http_date(text).ok()?);
    parse(text).or_else(|| {
        let (weekday, rest) = text.split_at(text.find(|c: char| !c.is_ascii_alphabetic())?);
        // The name is either whole or its first three letters.
        let names = || WEEKDAYS.iter().map(|name| if weekday.len() > 3 { name } else { &name[..3] });
        let is_date = rest.len() < 2 * DATE_BYTES && names().any(|name| name == weekday);
        is_date.then(|| names().find_map(|name| parse(&format!("{name}{rest}")))).flatten()
    })
}

/// Seconds since the Unix epoch.
pub(crate) fn unix_seconds(time: SystemTime) -> Option<i64> {
    i64::try_from(time.duration_since(UNIX_EPOCH).ok()?.as_secs()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn formats_and_parses() {
        for (seconds, text) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (LAST_SECOND, "Fri, 31 Dec 9999 23:59:59 GMT"),
        ] {
            assert_eq!(Date::from_unix(seconds).as_bytes(), text.as_bytes());
            assert_eq!(parse_date(text.as_bytes()), Some(seconds));
        }
    }

    #[test]
    fn iso_dates() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (784_111_777, "1994-11-06T08:49:37Z"),
            (1_709_210_096, "2024-02-29T12:34:56Z"),
            (LAST_SECOND, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(iso(seconds).as_ref().map(|text| text.as_slice()), Some(text.as_bytes()));
        }
        for seconds in [i64::MIN, -1, LAST_SECOND + 1, i64::MAX] {
            assert_eq!(iso(seconds), None);
        }
    }

    #[test]
    fn clamps_what_has_no_name() {
        assert_eq!(Date::from_unix(-5), Date::from_unix(0));
        assert_eq!(Date::from_unix(i64::MAX), Date::from_unix(LAST_SECOND));
    }

    #[test]
    fn reads_the_obsolete_formats() {
        for text in
            ["Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994", " Sun, 06 Nov 1994 08:49:37 GMT "]
        {
            assert_eq!(parse_date(text.as_bytes()), Some(784_111_777), "{text}");
        }
        assert_eq!(parse_date(b"Thursday, 29-Feb-24 12:34:56 GMT"), Some(1_709_210_096));
        assert_eq!(parse_date(b"Thu Feb 29 12:34:56 2024"), Some(1_709_210_096));
    }

    #[test]
    fn any_weekday_will_do() {
        for text in [
            "Mon, 06 Nov 1994 08:49:37 GMT",
            "Sat, 06 Nov 1994 08:49:37 GMT",
            "Wednesday, 06-Nov-94 08:49:37 GMT",
            "Fri Nov  6 08:49:37 1994",
        ] {
            assert_eq!(parse_date(text.as_bytes()), Some(784_111_777), "{text}");
        }
    }

    #[test]
    fn what_is_no_date_is_refused() {
        for text in [
            "",
            "yesterday",
            "\u{fc}",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 Nov 1994 08:49:37 UTC",
            "Sun, 06 Nov 1994 08:49:37 GMT+1",
            "sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06 Nov 1994 08:49:37 GMT",
            "Sun, 06-Nov-94 08:49:37 GMT",
            "Sunday Nov  6 08:49:37 1994",
            "Xyz, 06 Nov 1994 08:49:37 GMT",
            ", 06 Nov 1994 08:49:37 GMT",
            "06 Nov 1994 08:49:37 GMT",
            "Sun, 6 Nov 1994 08:49:37 GMT",
            "Sun,  6 Nov 1994 08:49:37 GMT",
            "Sun, 00 Nov 1994 08:49:37 GMT",
            "Sun, 31 Nov 1994 08:49:37 GMT",
            "Sun, 29 Feb 1994 08:49:37 GMT",
            "Sun, 29 Feb 1900 08:49:37 GMT",
            "Sun, 06 nov 1994 08:49:37 GMT",
            "Sun, 06 anF 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 24:00:00 GMT",
            "Sun, 06 Nov 1994 08:60:00 GMT",
            "Sun, 06 Nov 1994 08:49:61 GMT",
            "Sun, 06 Nov 94 08:49:37 GMT",
            "Sun Nov x6 08:49:37 1994",
            "Sun Nov 6 08:49:37 1994",
        ] {
            assert_eq!(parse_date(text.as_bytes()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn parsing_reverses_formatting(seconds in 0..=LAST_SECOND) {
            prop_assert_eq!(parse_date(Date::from_unix(seconds).as_bytes()), Some(seconds));
        }

        #[test]
        fn arbitrary_bytes(value in "(Sun|Sunday|x)?[, ]{0,2}[0-9: GMTNov-]{0,30}") {
            let _date = parse_date(value.as_bytes());
        }
    }
}
