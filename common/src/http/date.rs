//! HTTP dates: IMF-fixdate (RFC 9110 §5.6.7), formatted into a fixed buffer.

use std::io::Write;
use std::ops::Range;
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

/// How one of the formats is written behind its weekday. A `0` in `shape` stands for a digit, a `_` for any byte.
struct Format {
    weekdays: [&'static [u8]; 7],
    shape: &'static [u8],
    day: Range<usize>,
    month: usize,
    year: Range<usize>,
    time: usize,
}

const SHORT_WEEKDAYS: [&[u8]; 7] = [b"Sun", b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat"];

/// The formats that RFC 9110 §5.6.7 requires recipients to accept.
const FORMATS: [Format; 3] = [
    Format {
        weekdays: SHORT_WEEKDAYS,
        shape: b", 00 ___ 0000 00:00:00 GMT",
        day: 2..4,
        month: 5,
        year: 9..13,
        time: 14,
    },
    Format {
        weekdays: [b"Sunday", b"Monday", b"Tuesday", b"Wednesday", b"Thursday", b"Friday", b"Saturday"],
        shape: b", 00-___-00 00:00:00 GMT",
        day: 2..4,
        month: 5,
        year: 9..11,
        time: 12,
    },
    Format {
        weekdays: SHORT_WEEKDAYS,
        shape: b" ___ _0 00:00:00 0000",
        day: 5..7,
        month: 1,
        year: 17..21,
        time: 8,
    },
];

/// Parses a date in any of the three formats that RFC 9110 requires recipients to accept, as seconds since the Unix
/// epoch.
///
/// The weekday must be one, but which of them doesn't matter: the rest of the date says it all, and recipients are
/// asked to be robust (§5.6.7).
#[must_use]
pub fn parse_date(value: &[u8]) -> Option<i64> {
    let value = value.trim_ascii();
    let (weekday, rest) = value.split_at(value.iter().take_while(|byte| byte.is_ascii_alphabetic()).count());
    let format = FORMATS.iter().find(|format| has_shape(rest, format.shape))?;
    if !format.weekdays.contains(&weekday) {
        return None;
    }
    let month = month(&rest[format.month..format.month + 3])?;
    let day = number(&rest[format.day.clone()])?;
    let year = match number(&rest[format.year.clone()])? {
        year if format.year.len() == 4 => year,
        // Two digits mean no year that is more than 50 years ahead (§5.6.7); 2069 isn't.
        year @ 0..70 => 2000 + year,
        year => 1900 + year,
    };
    if !(1..=days_of(month, year)).contains(&day) {
        return None;
    }
    let two = |at: usize| number(&rest[format.time + at..format.time + at + 2]);
    let (hour, minute, second) = (two(0)?, two(3)?, two(6)?);
    // A leap second is the 60th; Unix time counts it as the one that follows.
    (hour < 24 && minute < 60 && second <= 60)
        .then(|| days_since_epoch(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second)
}

fn has_shape(text: &[u8], shape: &[u8]) -> bool {
    text.len() == shape.len()
        && text.iter().zip(shape).all(|(byte, expected)| match expected {
            b'0' => byte.is_ascii_digit(),
            b'_' => true,
            expected => byte == expected,
        })
}

/// Reads digits, which a blank may precede.
fn number(digits: &[u8]) -> Option<i64> {
    digits
        .strip_prefix(b" ")
        .unwrap_or(digits)
        .iter()
        .try_fold(0, |number, digit| digit.is_ascii_digit().then(|| 10 * number + i64::from(digit - b'0')))
}

/// The month, from 1.
fn month(name: &[u8]) -> Option<i64> {
    const NAMES: &[u8; 36] = b"JanFebMarAprMayJunJulAugSepOctNovDec";
    NAMES.chunks_exact(3).zip(1..).find(|(known, _)| *known == name).map(|(_, month)| month)
}

fn days_of(month: i64, year: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from the Unix epoch in the Gregorian calendar. Years begin in March here, so that leap days come last.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month > 2 { year } else { year - 1 };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    // 719 468 days lie between March 1st of the year 0 and the epoch.
    365 * year + leap_days + day_of_year - 719_468
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
    fn reads_the_rims_of_the_calendar() {
        for (text, seconds) in [
            ("Sat, 01 Jan 0000 00:00:00 GMT", -62_167_219_200),
            ("Wed, 31 Dec 1969 23:59:59 GMT", -1),
            ("Sat, 31 Dec 2016 23:59:60 GMT", 1_483_228_800),
            ("Tue, 29 Feb 2000 00:00:00 GMT", 951_782_400),
            ("Wednesday, 31-Dec-69 00:00:00 GMT", 3_155_673_600),
            ("Thursday, 01-Jan-70 00:00:00 GMT", 0),
        ] {
            assert_eq!(parse_date(text.as_bytes()), Some(seconds), "{text}");
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
