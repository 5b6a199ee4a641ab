//! What the admin listener answers: pages by their path, each one a whole message that ends its connection.

use std::time::SystemTime;

use crate::http::date::{Date, unix_seconds};
use crate::http::request::{Method, Request};
use crate::http::status::Status;
use crate::service::admin::is_ready;
use crate::service::admin::metrics::Source;
use crate::service::shared::Service;

/// Version 0.0.4 of the text format, as Prometheus asks for it.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
const TEXT_TYPE: &str = "text/plain; charset=utf-8";

/// The answer to a request. `head` is what it was parsed from.
pub(super) fn answer(request: &Request, head: &[u8], source: &Source) -> Vec<u8> {
    let target = request.target(head);
    let path = target.split(|byte| *byte == b'?').next().unwrap_or_default();
    let page: fn(&Source) -> (Status, &'static str, String) = match path {
        b"/healthz" => |source| health(source.service()),
        b"/readyz" => |source| readiness(source.service()),
        b"/metrics" => |source| (Status::Ok, METRICS_TYPE, source.text()),
        _ => return refuse_as(Status::NotFound, request.method),
    };
    match request.method {
        Method::Get | Method::Head => {
            let (status, media_type, text) = page(source);
            message(status, media_type, &text, request.method)
        }
        Method::Options | Method::Known | Method::Unknown => {
            refuse_as(Status::MethodNotAllowed, request.method)
        }
    }
}

/// The answer to what is no request.
pub(super) fn refuse(status: Status) -> Vec<u8> {
    refuse_as(status, Method::Get)
}

fn refuse_as(status: Status, method: Method) -> Vec<u8> {
    message(status, TEXT_TYPE, &format!("{}\n", status.line()), method)
}

/// Whether the process lives and is whole.
fn health(service: &Service) -> (Status, &'static str, String) {
    match service.shutdown.failure() {
        None => (Status::Ok, TEXT_TYPE, "ok\n".to_owned()),
        Some(reason) => (Status::ServiceUnavailable, TEXT_TYPE, format!("failed: {reason}\n")),
    }
}

/// Whether clients are to be sent here.
fn readiness(service: &Service) -> (Status, &'static str, String) {
    if is_ready(service) {
        return (Status::Ok, TEXT_TYPE, "ok\n".to_owned());
    }
    let reason = if service.is_set_up() { "draining\n" } else { "starting\n" };
    (Status::ServiceUnavailable, TEXT_TYPE, reason.to_owned())
}

fn message(status: Status, media_type: &str, text: &str, method: Method) -> Vec<u8> {
    let now = Date::from_unix(unix_seconds(SystemTime::now()).unwrap_or(0));
    let date = String::from_utf8_lossy(now.as_bytes());
    let allow = if status == Status::MethodNotAllowed { "Allow: GET, HEAD\r\n" } else { "" };
    let head = format!(
        "HTTP/1.1 {}\r\nServer: triptych\r\nDate: {date}\r\nConnection: close\r\n{allow}Cache-Control: no-store\r\n\
         X-Content-Type-Options: nosniff\r\nContent-Type: {media_type}\r\nContent-Length: {}\r\n\r\n",
        status.line(),
        text.len(),
    );
    let body = if method == Method::Head { "" } else { text };
    [head.as_bytes(), body.as_bytes()].concat()
}
