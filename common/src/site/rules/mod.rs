//! What a site says about its own answers: the files `_headers` and `_redirects` in its root, which generators write
//! for Netlify and Cloudflare Pages. Pure: bytes in, rules and faults out, and then a path in, what to do out.
//!
//! Where the two hosts differ, Netlify's meaning counts; `docs/rules.md` has the list. A line that can't be read is
//! named with its number, and the rest is in force. A rule may only add to what is served: [`field`] has the fields
//! that stay the server's, [`target`] why no request can choose the host that it is sent to.
//!
//! Rules are looked up when a file is opened or enters the cache, not for each request: [`HeaderRules::fields_for`]
//! tries every rule, [`RedirectRules::find`] those that can match.

pub mod fault;
pub mod field;
pub mod headers;
mod lines;
mod pattern;
mod query;
pub mod redirects;
pub mod target;

pub use fault::{FAULTS_MAX, Fault, Faults, Problem};
pub use headers::{FIELDS_BYTES_MAX, FIELDS_MAX, Fields, HEADER_RULES_MAX, HeaderRules};
pub use lines::{FILE_BYTES_MAX, LINE_BYTES_MAX};
pub use pattern::{NAMES_MAX, PATTERN_BYTES_MAX};
pub use query::PARAMETERS_MAX;
pub use redirects::{Asked, REDIRECTS_MAX, Redirect, RedirectRules};
pub use target::LOCATION_BYTES_MAX;

/// The file that [`HeaderRules`] are read from.
pub const HEADERS_FILE: &str = "_headers";

/// The file that [`RedirectRules`] are read from.
pub const REDIRECTS_FILE: &str = "_redirects";

/// Whether a path is that of a rule file, on file systems that don't tell small letters from capitals, too. What they say
/// is for the server, so they are not served.
#[must_use]
pub fn is_rule_file(path: &[u8]) -> bool {
    [HEADERS_FILE, REDIRECTS_FILE].iter().any(|name| path.eq_ignore_ascii_case(name.as_bytes()))
}

#[cfg(test)]
mod examples;
