//! Whatever `_headers` holds, what is sent is whole lines of fields that rules may set.
#![no_main]

use common::site::rules::field::{Owner, owner};
use common::site::rules::{FIELDS_BYTES_MAX, HeaderRules};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&[u8], &[u8])| {
    let (path, file) = input;
    let fields = HeaderRules::parse(file).0.fields_for(path);
    assert!(fields.lines().len() <= FIELDS_BYTES_MAX);
    for line in fields.lines().split_inclusive(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r\n").expect("a whole line");
        let colon = line.iter().position(|byte| *byte == b':').expect("a name");
        assert_eq!(owner(&line[..colon]), Owner::Rules);
        assert!(line[..colon].iter().all(u8::is_ascii_graphic));
        assert!(!line.iter().any(|byte| *byte < b' ' && *byte != b'\t' || *byte == 0x7f));
    }
    for value in [fields.content_type(), fields.vary()].into_iter().flatten() {
        assert!(!value.iter().any(|byte| *byte < b' ' && *byte != b'\t' || *byte == 0x7f));
    }
});
