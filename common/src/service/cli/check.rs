//! `--check`: whether a server could serve this root as its flags and rules say, without being one. For people before a
//! deployment, and for whatever tests a site before it is published.

use crate::service::cli::flags::Flags;
use crate::service::say::say;
use crate::service::start::StartError;

/// Reads what a start would read of the site: the root, and the rules in it. What is wrong with these is said, a line each.
/// Nothing is bound, written or served.
///
/// # Errors
/// One line, if anything is wrong.
pub(super) fn check(flags: &Flags) -> Result<(), StartError> {
    let site = flags.open_site()?;
    let faults = site.faults_since(None);
    for fault in &faults {
        say(format_args!("error: {fault}"));
    }
    let root = flags.root.display();
    let rules = in_force(site.rule_counts());
    match faults.len() {
        0 => {
            say(format_args!("{root}: {rules}; nothing is wrong"));
            Ok(())
        }
        1 => Err(StartError::new(format!("{root}: 1 fault in its rules; without it, {rules}"))),
        more => Err(StartError::new(format!("{root}: {more} faults in its rules; without those, {rules}"))),
    }
}

/// The numbers of rules in `_headers` and `_redirects`, in words.
fn in_force([headers, redirects]: [usize; 2]) -> String {
    let rules = |count, name: &str| match count {
        0 => format!("no rules in {name}"),
        1 => format!("1 rule in {name}"),
        more => format!("{more} rules in {name}"),
    };
    format!("{}, {}", rules(headers, "_headers"), rules(redirects, "_redirects"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::service::cli::flags::tests::flags;

    #[test]
    fn a_site_is_read_as_a_start_reads_it() {
        let folder = tempfile::tempdir().expect("a directory");
        let root = folder.path().join("site");
        let path = root.to_str().expect("UTF-8");
        let checked = || check(&flags(&["--header", "A: b", path]).expect("good flags"));
        let refused = || checked().expect_err("refused").to_string();
        assert!(refused().contains("no such directory"));
        fs::create_dir(&root).expect("made");
        assert_eq!(checked(), Ok(()));
        fs::write(root.join("_headers"), "/*\n  A: b\n/c\n  D: e\n").expect("written");
        fs::write(root.join("_redirects"), "/a /b\nnonsense\n").expect("written");
        let counted = "2 rules in _headers, 1 rule in _redirects";
        assert_eq!(refused(), format!("{path}: 1 fault in its rules; without it, {counted}"));
        fs::write(root.join("_redirects"), "more\nnonsense\n").expect("written");
        let counted = "2 rules in _headers, no rules in _redirects";
        assert_eq!(refused(), format!("{path}: 2 faults in its rules; without those, {counted}"));
    }
}
