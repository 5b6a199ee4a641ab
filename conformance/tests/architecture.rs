//! What ARCHITECTURE.md says about the shape of the code is true, and what the documentation says about its pages.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest, Sha256};

/// The rooms of `common`: each knows only those before it.
const ROOMS: [&str; 4] = ["http", "site", "machine", "service"];

#[test]
fn the_three_servers_share_one_skeleton() {
    let (_, old, new) = conformance::skeleton::architecture().expect("one skeleton");
    assert!(old == new, "ARCHITECTURE.md is out of date: cargo run -p conformance --example skeleton");
}

#[test]
fn a_room_knows_only_those_before_it() {
    let common = Path::new(env!("CARGO_MANIFEST_DIR")).join("../common/src");
    let mut files = 0;
    for (index, room) in ROOMS.iter().enumerate() {
        for file in sources(&common.join(room)) {
            files += 1;
            let source = fs::read_to_string(&file).expect("readable");
            for later in &ROOMS[index + 1..] {
                let path = format!("crate::{later}::");
                assert!(!source.contains(&path), "{} uses {path}", file.display());
            }
        }
    }
    assert!(files > 30, "only {files} files were found");
}

/// A policy that has the documented hashes allows the styles.
#[test]
fn the_hashes_of_the_built_in_styles_are_documented() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let read = |path: &str| fs::read_to_string(root.join(path)).expect("readable");
    let documented = read("docs/serving.md");
    for style in ["site/listing/page.css", "http/error_page.css"] {
        // As it is between the tags.
        let hash = Sha256::digest(read(&format!("common/src/{style}")).trim_ascii_end());
        let source = format!("'sha256-{}'", BASE64_STANDARD.encode(hash));
        assert!(documented.contains(&source), "docs/serving.md lacks {source} for {style}");
    }
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a room").map(|entry| entry.expect("an entry").path());
    entries.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] }).collect()
}
