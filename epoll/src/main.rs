//! The command `epoll`.

fn main() -> std::process::ExitCode {
    common::cli::run("epoll", |listeners, service, ready| epoll::serve(listeners, service, ready))
}
