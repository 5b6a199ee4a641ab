//! Status codes.

/// A status code that this server sends (RFC 9110 §15).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
#[expect(missing_docs, reason = "named as in the RFC")]
pub enum Status {
    Ok = 200,
    NoContent = 204,
    PartialContent = 206,
    MovedPermanently = 301,
    Found = 302,
    SeeOther = 303,
    NotModified = 304,
    TemporaryRedirect = 307,
    PermanentRedirect = 308,
    BadRequest = 400,
    Forbidden = 403,
    NotFound = 404,
    MethodNotAllowed = 405,
    RequestTimeout = 408,
    Gone = 410,
    PreconditionFailed = 412,
    ContentTooLarge = 413,
    UriTooLong = 414,
    RangeNotSatisfiable = 416,
    ExpectationFailed = 417,
    RequestHeaderFieldsTooLarge = 431,
    InternalServerError = 500,
    NotImplemented = 501,
    ServiceUnavailable = 503,
    HttpVersionNotSupported = 505,
}

/// A class of status codes (RFC 9110 §15), of those that this server sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as in the RFC")]
pub enum Class {
    Successful,
    Redirection,
    ClientError,
    ServerError,
}

impl Class {
    /// All of them, in order.
    pub const ALL: [Class; 4] =
        [Class::Successful, Class::Redirection, Class::ClientError, Class::ServerError];

    /// As logs and dashboards write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Class::Successful => "2xx",
            Class::Redirection => "3xx",
            Class::ClientError => "4xx",
            Class::ServerError => "5xx",
        }
    }
}

impl Status {
    /// Its class.
    #[must_use]
    #[inline]
    pub fn class(self) -> Class {
        match self.code() {
            ..300 => Class::Successful,
            300..400 => Class::Redirection,
            400..500 => Class::ClientError,
            500.. => Class::ServerError,
        }
    }

    /// The three digits.
    #[must_use]
    pub fn code(self) -> u16 {
        self as u16
    }

    /// The digits and the reason phrase, as in a status line.
    #[must_use]
    pub fn line(self) -> &'static str {
        match self {
            Status::Ok => "200 OK",
            Status::NoContent => "204 No Content",
            Status::PartialContent => "206 Partial Content",
            Status::MovedPermanently => "301 Moved Permanently",
            Status::Found => "302 Found",
            Status::SeeOther => "303 See Other",
            Status::NotModified => "304 Not Modified",
            Status::TemporaryRedirect => "307 Temporary Redirect",
            Status::PermanentRedirect => "308 Permanent Redirect",
            Status::BadRequest => "400 Bad Request",
            Status::Forbidden => "403 Forbidden",
            Status::NotFound => "404 Not Found",
            Status::MethodNotAllowed => "405 Method Not Allowed",
            Status::RequestTimeout => "408 Request Timeout",
            Status::Gone => "410 Gone",
            Status::PreconditionFailed => "412 Precondition Failed",
            Status::ContentTooLarge => "413 Content Too Large",
            Status::UriTooLong => "414 URI Too Long",
            Status::RangeNotSatisfiable => "416 Range Not Satisfiable",
            Status::ExpectationFailed => "417 Expectation Failed",
            Status::RequestHeaderFieldsTooLarge => "431 Request Header Fields Too Large",
            Status::InternalServerError => "500 Internal Server Error",
            Status::NotImplemented => "501 Not Implemented",
            Status::ServiceUnavailable => "503 Service Unavailable",
            Status::HttpVersionNotSupported => "505 HTTP Version Not Supported",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_begins_with_the_code() {
        for status in [
            Status::Ok,
            Status::Found,
            Status::PermanentRedirect,
            Status::NotModified,
            Status::Gone,
            Status::UriTooLong,
            Status::HttpVersionNotSupported,
        ] {
            assert!(status.line().starts_with(&format!("{} ", status.code())));
            assert_eq!(status.class().name()[..1], status.line()[..1]);
        }
    }
}
