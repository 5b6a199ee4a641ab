//! hyper on tokio with tower-http's `ServeDir`: what a Rust programmer would pick instead.
//!
//! Configured for one CPU as its authors would: a single-threaded runtime, a task per connection, HTTP/1
//! only, `TCP_NODELAY`, keep-alive, and the timer for hyper's header timeout. `ServeDir` opens and reads
//! files on tokio's blocking pool, whose threads share the CPU.

use ::hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::io;
use std::net::TcpListener;
use std::path::Path;
use tower_http::services::ServeDir;

/// Serves the files below `root` for as long as the process lives, with `sends_sidecars` as they were compressed
/// beforehand.
pub(crate) fn serve(listener: TcpListener, root: &Path, sends_sidecars: bool) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let files = ServeDir::new(root);
    let files = if sends_sidecars {
        files.precompressed_zstd().precompressed_br().precompressed_gzip()
    } else {
        files
    };
    runtime.block_on(accept(listener, files))
}

async fn accept(listener: TcpListener, files: ServeDir) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    loop {
        // An accept fails for a client that is gone already, or for want of descriptors: others go on.
        let Ok((stream, _)) = listener.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        stream.set_nodelay(true)?;
        let service = TowerToHyperService::new(files.clone());
        let connection =
            http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
        tokio::spawn(async move {
            let _ended_by_the_client = connection.await;
        });
    }
}

/// The versions that were compiled in.
pub(crate) fn version() -> String {
    const LOCK: &str = include_str!("../../../Cargo.lock");
    let version = |name: &str| {
        let entry = LOCK.split_once(&format!("\nname = \"{name}\"\nversion = \""))?.1;
        Some(format!("{name} {}", entry.split('"').next()?))
    };
    let versions: Vec<String> = ["hyper", "tokio", "tower-http"].into_iter().filter_map(version).collect();
    versions.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_versions_are_told() {
        let version = version();
        assert!(version.starts_with("hyper 1.") && version.contains(", tower-http 0."), "{version}");
    }
}
