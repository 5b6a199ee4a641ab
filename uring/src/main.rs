//! `uring`: serves a directory through io_uring.

fn main() -> std::process::ExitCode {
    common::cli::run("uring", |listeners, service, ready| uring::serve(listeners, service, ready))
}
