//! A scripted backend: executes the steps of one connection.

#![allow(dead_code, reason = "each test program uses only a part")]

use std::fs;
use std::path::Path;
use std::sync::Arc;

use common::service::log::AccessLog;
use common::{Chunks, Close, Config, Connection, Notice, Peer, Service, Site, SiteOptions, Step, Worker};
use tempfile::TempDir;

/// A site in a temporary directory, a worker, and one connection.
pub(crate) struct Script {
    root: TempDir,
    pub(crate) service: Arc<Service>,
    pub(crate) worker: Worker,
    pub(crate) connection: Connection,
}

pub(crate) const BIG_BYTES: usize = 100_000;

impl Script {
    pub(crate) fn new() -> Script {
        Script::with(Config::default(), SiteOptions::default())
    }

    pub(crate) fn with(config: Config, options: SiteOptions) -> Script {
        Script::of(config, options, None)
    }

    pub(crate) fn with_notice(options: SiteOptions, unlisted: Arc<Notice>) -> Script {
        Script::of(Config::default(), options, Some(unlisted))
    }

    /// With a log, and a notice for proxies that don't introduce their clients.
    pub(crate) fn of_proxies(
        config: Config,
        options: SiteOptions,
        log: AccessLog,
        unintroduced: Arc<Notice>,
    ) -> Script {
        Script::build(config, options, |service| {
            service.log = Some(log);
            service.unintroduced = Some(unintroduced);
        })
    }

    fn of(config: Config, options: SiteOptions, unlisted: Option<Arc<Notice>>) -> Script {
        Script::build(config, options, |service| service.unlisted = unlisted)
    }

    fn build(config: Config, options: SiteOptions, equip: impl FnOnce(&mut Service)) -> Script {
        let root = TempDir::new().expect("a directory");
        fs::write(root.path().join("a.txt"), "hello").expect("written");
        fs::write(root.path().join("big"), vec![b'x'; BIG_BYTES]).expect("written");
        fs::create_dir(root.path().join("dir")).expect("made");
        let site = Site::open_root(root.path(), options).expect("opened");
        Script::new_of(root, site, config, equip)
    }

    /// Of a site that is somewhere else.
    pub(crate) fn of_site(site: Site) -> Script {
        Script::new_of(TempDir::new().expect("a directory"), site, Config::default(), |_| {})
    }

    fn new_of(root: TempDir, site: Site, config: Config, equip: impl FnOnce(&mut Service)) -> Script {
        let mut service = Service::new(site, config).expect("made");
        equip(&mut service);
        let service = Arc::new(service);
        let worker = Worker::new(Arc::clone(&service), 0);
        let connection = Connection::new(&worker, None);
        Script { root, service, worker, connection }
    }

    pub(crate) fn root(&self) -> &Path {
        self.root.path()
    }

    /// Another connection, of this peer.
    pub(crate) fn connect(&mut self, peer: Option<Peer>) {
        self.connection = Connection::new(&self.worker, peer);
    }

    pub(crate) fn receive(&mut self, bytes: &[u8]) {
        self.connection.received(&mut self.worker, bytes);
    }

    /// Executes opens, reads and sends, at most `most` bytes at a time, until the machine wants to receive or close.
    pub(crate) fn run(&mut self, most: usize) -> Vec<u8> {
        let mut wire = Vec::new();
        loop {
            match self.connection.step() {
                Step::Open(request) => {
                    let result = request.open();
                    self.connection.opened(&mut self.worker, result);
                }
                Step::Read(range) => {
                    let bytes = range.read().expect("read");
                    self.connection.read(&mut self.worker, Ok(bytes));
                }
                Step::Send(chunks) => {
                    let (_, file) = chunks.front();
                    let mut bytes = in_memory(chunks);
                    if let Some(range) = file {
                        let body = range.read().expect("read");
                        assert_eq!(body.len() as u64, range.length, "the file must not be short");
                        bytes.extend_from_slice(&body);
                    }
                    assert!(!bytes.is_empty(), "an empty send");
                    bytes.truncate(most);
                    self.connection.sent(&mut self.worker, bytes.len());
                    wire.extend_from_slice(&bytes);
                }
                Step::Receive | Step::Close(_) => return wire,
            }
        }
    }

    pub(crate) fn closes(&self) -> Option<Close> {
        match self.connection.step() {
            Step::Close(close) => Some(close),
            Step::Receive | Step::Open(_) | Step::Read(_) | Step::Send(_) => None,
        }
    }
}

/// The bytes in memory before any part of a file.
pub(crate) fn in_memory(chunks: Chunks<'_>) -> Vec<u8> {
    chunks.front().0.iter().flat_map(|piece| piece.bytes()).copied().collect()
}

pub(crate) fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes()
}

pub(crate) fn text(wire: &[u8]) -> String {
    String::from_utf8_lossy(wire).into_owned()
}
