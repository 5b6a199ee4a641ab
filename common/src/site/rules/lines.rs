//! The lines of a rule file.

use crate::site::rules::fault::{Faults, Problem};

/// Bytes of a rule file that are read; lines that aren't whole by then are not in force.
pub const FILE_BYTES_MAX: usize = 1 << 20;

/// Bytes of a line, blanks at its ends aside. Cloudflare allows 1000 for a redirect and 2000 for a field, which is
/// less than what a long `Content-Security-Policy` takes; Netlify names no bound.
pub const LINE_BYTES_MAX: usize = 8192;

/// A line that says something.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line<'a> {
    /// Counted from 1.
    pub(super) number: usize,
    /// Without blanks at its ends, and not empty.
    pub(super) text: &'a [u8],
}

/// Lines that are neither empty nor a comment. How far a line is indented makes no difference.
pub(super) fn lines<'a>(bytes: &'a [u8], faults: &mut Faults) -> impl Iterator<Item = Line<'a>> + use<'a> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let bytes = whole_lines(bytes, faults);
    bytes
        .split(|byte| *byte == b'\n')
        .enumerate()
        .map(|(index, line)| Line { number: index + 1, text: line.trim_ascii() })
        .filter(|line| !line.text.is_empty() && line.text[0] != b'#')
}

/// The lines within the bound.
fn whole_lines<'a>(bytes: &'a [u8], faults: &mut Faults) -> &'a [u8] {
    if bytes.len() <= FILE_BYTES_MAX {
        return bytes;
    }
    let end = memchr::memrchr(b'\n', &bytes[..FILE_BYTES_MAX]).map_or(0, |at| at + 1);
    let line = memchr::memchr_iter(b'\n', &bytes[..end]).count() + 1;
    let rest = &bytes[end..];
    let shown = memchr::memchr(b'\n', rest).map_or(rest, |at| &rest[..at]);
    faults.add(line, shown.trim_ascii(), Problem::FileTooLarge);
    &bytes[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> (Vec<(usize, String)>, Faults) {
        let mut faults = Faults::default();
        let read = lines(bytes, &mut faults)
            .map(|line| (line.number, String::from_utf8_lossy(line.text).into_owned()))
            .collect();
        (read, faults)
    }

    #[test]
    fn lines_that_say_something() {
        let (read, faults) = read(b"\xef\xbb\xbf/a\r\n\r\n  # no\n\t/b \n#\n \n/c");
        assert_eq!(read, [(1, "/a".to_owned()), (4, "/b".to_owned()), (7, "/c".to_owned())]);
        assert_eq!(faults, Faults::default());
    }

    #[test]
    fn a_file_beyond_the_bound_ends_with_a_whole_line() {
        let line = b"/a-path /to-another\n";
        let whole = FILE_BYTES_MAX / line.len();
        let (at_the_bound, faults) = read(&line.repeat(whole));
        assert_eq!((at_the_bound.len(), faults.told.len()), (whole, 0));
        let (beyond, faults) = read(&line.repeat(whole + 1));
        assert_eq!(beyond.len(), whole);
        assert_eq!((faults.told[0].line, faults.told[0].problem), (whole + 1, Problem::FileTooLarge));
        assert_eq!(read(&vec![b'a'; FILE_BYTES_MAX + 1]).0.len(), 0, "one endless line");
    }
}
