//! Names, sizes and times as HTML and JSON show them.

use crate::http::digits::push_decimal;

/// The most bytes of markup that a byte of a name becomes: `&quot;`, `\u001f`.
pub const MARKUP_FACTOR: usize = 6;

/// Appends a name as text in HTML, in an element or a quoted attribute.
///
/// What isn't UTF-8 becomes replacement characters. So do control characters, and those that would change how the text
/// around them is read: Unicode's directional controls, line and paragraph separators.
pub fn push_text(out: &mut Vec<u8>, name: &[u8]) {
    for character in String::from_utf8_lossy(name).chars() {
        let escaped: &[u8] = match character {
            '&' => b"&amp;",
            '<' => b"&lt;",
            '>' => b"&gt;",
            '"' => b"&quot;",
            '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => "\u{fffd}".as_bytes(),
            _ if character.is_control() => "\u{fffd}".as_bytes(),
            _ => {
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                continue;
            }
        };
        out.extend_from_slice(escaped);
    }
}

/// Appends a name as a string of JSON (RFC 8259 §7). What isn't UTF-8 becomes replacement characters.
pub fn push_json_string(out: &mut Vec<u8>, name: &[u8]) {
    out.push(b'"');
    for character in String::from_utf8_lossy(name).chars() {
        match character {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\0'..='\x1f' => {
                let digit = |value: u32| b"0123456789abcdef"[value as usize & 15];
                let value = u32::from(character);
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', digit(value >> 4), digit(value)]);
            }
            _ => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out.push(b'"');
}

const UNITS: [&str; 7] = [" B", " KiB", " MiB", " GiB", " TiB", " PiB", " EiB"];

/// Appends a number of bytes in two to four digits: `999 B`, `1.2 KiB`, `345 MiB`.
pub fn push_size(out: &mut Vec<u8>, bytes: u64) {
    if bytes < 1024 {
        push_decimal(out, bytes);
        return out.extend_from_slice(UNITS[0].as_bytes());
    }
    for (power, unit) in (1..).zip(&UNITS[1..]) {
        let shift = 10 * power;
        // In tenths below 9.95, else whole.
        let rounded = |scale: u64| (u128::from(bytes) * u128::from(scale) + (1 << (shift - 1))) >> shift;
        let (tenths, whole) = (rounded(10), rounded(1));
        if whole >= 1024 {
            continue;
        }
        if tenths < 100 {
            out.extend_from_slice(format!("{}.{}{unit}", tenths / 10, tenths % 10).as_bytes());
        } else {
            out.extend_from_slice(format!("{whole}{unit}").as_bytes());
        }
        return;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(push: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        push(&mut out);
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn names_as_text() {
        for (name, expected) in [
            (&b"plain.txt"[..], "plain.txt"),
            (b"<b>&amp;\"'", "&lt;b&gt;&amp;amp;&quot;'"),
            (b"line\r\nbreak\t\x1b\x7f", "line\u{fffd}\u{fffd}break\u{fffd}\u{fffd}\u{fffd}"),
            (b"latin-\xfc.txt", "latin-\u{fffd}.txt"),
            ("gnp.\u{202e}exe".as_bytes(), "gnp.\u{fffd}exe"),
            ("\u{2066}\u{2069}\u{2028}\u{85}".as_bytes(), "\u{fffd}\u{fffd}\u{fffd}\u{fffd}"),
            ("\u{5e9}\u{5dc}\u{5d5}\u{5dd} \u{1f600}".as_bytes(), "\u{5e9}\u{5dc}\u{5d5}\u{5dd} \u{1f600}"),
        ] {
            assert_eq!(written(|out| push_text(out, name)), expected);
        }
    }

    #[test]
    fn names_as_json() {
        for (name, expected) in [
            (&b"plain.txt"[..], "\"plain.txt\""),
            (b"\"\\/", "\"\\\"\\\\/\""),
            (b"\n\x1f\x7f", "\"\\u000a\\u001f\x7f\""),
            (b"latin-\xfc", "\"latin-\u{fffd}\""),
            ("\u{202e}\u{1f600}".as_bytes(), "\"\u{202e}\u{1f600}\""),
        ] {
            assert_eq!(written(|out| push_json_string(out, name)), expected);
        }
    }

    #[test]
    fn sizes() {
        for (bytes, expected) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1075, "1.0 KiB"),
            (1076, "1.1 KiB"),
            (10_188, "9.9 KiB"),
            (10_189, "10 KiB"),
            (1_048_063, "1023 KiB"),
            (1_048_064, "1.0 MiB"),
            (5 << 30, "5.0 GiB"),
            (u64::MAX, "16 EiB"),
        ] {
            assert_eq!(written(|out| push_size(out, bytes)), expected, "{bytes}");
        }
    }

    proptest! {
        #[test]
        fn nothing_is_left_of_markup_and_little_is_added(name in proptest::collection::vec(any::<u8>(), 0..99)) {
            let text = written(|out| push_text(out, &name));
            prop_assert!(!text.contains(['<', '>', '"']) && !text.contains(char::is_control));
            prop_assert!(text.len() <= name.len() * MARKUP_FACTOR);
            let json = written(|out| push_json_string(out, &name));
            prop_assert!(json.len() <= name.len() * MARKUP_FACTOR + 2);
        }

        #[test]
        fn sizes_have_at_most_four_digits(bytes in any::<u64>(), shift in 0u32..64) {
            let text = written(|out| push_size(out, bytes >> shift));
            let digits = text.bytes().filter(u8::is_ascii_digit).count();
            prop_assert!((1..=4).contains(&digits) && text.len() <= "1023 KiB".len(), "{text}");
        }
    }
}
