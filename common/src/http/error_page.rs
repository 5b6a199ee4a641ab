//! The page that tells a person of an error, where the site has none of its own.
//!
//! Scanners ask for much that isn't there, so it is small, and the same for every request with its status.

use crate::http::status::Status;

/// What the page looks like. A policy can allow it by its hash (CSP Level 3, `style-src`).
pub const STYLE: &str = include_str!("error_page.css").trim_ascii_end();

/// Appends the page.
pub fn push(out: &mut Vec<u8>, status: Status) {
    for part in parts(status) {
        out.extend_from_slice(part.as_bytes());
    }
}

/// The length of the page in bytes.
#[must_use]
pub fn bytes(status: Status) -> u64 {
    parts(status).iter().map(|part| part.len() as u64).sum()
}

#[inline]
fn parts(status: Status) -> [&'static str; 10] {
    let (code, reason) = status.line().split_at(3);
    [
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>",
        status.line(),
        "</title><style>",
        STYLE,
        "</style><main><h1><b>",
        code,
        "</b>",
        reason,
        "</h1><p>",
        sentence(status),
    ]
}

/// What has happened, in words for whoever sees the page; with the page's end.
fn sentence(status: Status) -> &'static str {
    match status {
        Status::BadRequest => "The server can\u{2019}t make sense of this request.</main>\n",
        Status::Forbidden => "The server may not show what is here.</main>\n",
        Status::NotFound => "There is nothing at this address.</main>\n",
        Status::Gone => "What was at this address is gone.</main>\n",
        Status::MethodNotAllowed => "What is here can be read and nothing else.</main>\n",
        Status::RequestTimeout => "The request took too long to arrive.</main>\n",
        Status::ContentTooLarge => "The request is larger than this server takes.</main>\n",
        Status::UriTooLong => "The address is longer than this server takes.</main>\n",
        Status::RangeNotSatisfiable => "The file has no such part.</main>\n",
        Status::ExpectationFailed => "The server can\u{2019}t do what the request expects.</main>\n",
        Status::RequestHeaderFieldsTooLarge => {
            "The request\u{2019}s header is larger than this server takes.</main>\n"
        }
        Status::InternalServerError => "Something went wrong on the server.</main>\n",
        Status::NotImplemented => "The server doesn\u{2019}t know how to do this.</main>\n",
        Status::ServiceUnavailable => "The server has its hands full. Please try again in a moment.</main>\n",
        Status::HttpVersionNotSupported => "The server speaks HTTP/1.1 and HTTP/1.0.</main>\n",
        // No errors, or without content.
        Status::Ok
        | Status::NoContent
        | Status::PartialContent
        | Status::MovedPermanently
        | Status::Found
        | Status::SeeOther
        | Status::NotModified
        | Status::TemporaryRedirect
        | Status::PermanentRedirect
        | Status::PreconditionFailed => "</main>\n",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ERRORS: [Status; 15] = [
        Status::BadRequest,
        Status::Forbidden,
        Status::NotFound,
        Status::Gone,
        Status::MethodNotAllowed,
        Status::RequestTimeout,
        Status::ContentTooLarge,
        Status::UriTooLong,
        Status::RangeNotSatisfiable,
        Status::ExpectationFailed,
        Status::RequestHeaderFieldsTooLarge,
        Status::InternalServerError,
        Status::NotImplemented,
        Status::ServiceUnavailable,
        Status::HttpVersionNotSupported,
    ];

    #[test]
    fn every_error_has_a_small_page() {
        for status in ERRORS {
            let mut out = Vec::new();
            push(&mut out, status);
            let page = String::from_utf8(out).expect("UTF-8");
            assert_eq!(page.len() as u64, bytes(status));
            assert!(page.len() < 1200, "{status:?} has {} bytes", page.len());
            assert!(page.contains(&format!("<title>{}</title>", status.line())), "{page}");
            assert!(page.contains(&format!("<h1><b>{}</b> ", status.code())), "{page}");
            assert!(!page.contains("<p></main>") && page.ends_with(".</main>\n"), "{page}");
            for elsewhere in ["http", "url(", "@import", "<script", "src=", "href=", "style=\""] {
                assert!(!page.contains(elsewhere), "{elsewhere}: {page}");
            }
        }
    }
}
