//! Whatever `_redirects` holds and whatever is asked for, a location has only bytes that may stand in a URL, and leads to
//! this host or to one that the file names.
#![no_main]

use common::site::rules::{Asked, RedirectRules};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&[u8], bool, &[u8], Option<&[u8]>, &[u8])| {
    let (path, directory, query, host, file) = input;
    let rules = RedirectRules::parse(file).0;
    let Some(redirect) = rules.find(&Asked { path, directory, query, host }) else { return };
    assert!(!redirect.is_forced || rules.may_force(path));
    let location = &redirect.location;
    assert!(location.iter().all(u8::is_ascii_graphic) && !location.contains(&b'\\'));
    if location[0] == b'/' {
        assert_ne!(location.get(1), Some(&b'/'));
        return;
    }
    assert!(!redirect.is_rewrite());
    let host = location.iter().position(|byte| *byte == b':').expect("a scheme") + b"://".len();
    let end = location[host..].iter().position(|byte| b"/?#".contains(byte));
    let origin = &location[..end.map_or(location.len(), |end| host + end)];
    assert!(file.windows(origin.len()).any(|part| part == origin), "no rule names it");
});
