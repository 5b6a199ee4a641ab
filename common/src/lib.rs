//! The HTTP core that Triptych's three servers share: HTTP decides, the backend moves bytes.
//!
//! Four rooms, each of which knows only those above it in this list:
//!
//! | room | holds | knows nothing of |
//! |---|---|---|
//! | [`http`] | what a request says and an answer looks like | files, time, sockets |
//! | [`site`] | files, and what is kept of them | connections |
//! | [`machine`] | the step machine of a connection, without I/O | sockets |
//! | [`service`] | what makes a program of a server | HTTP's grammar |

#![forbid(unsafe_code)]
// What can't be written must not end anything: `service/say.rs` is the way to standard error.
#![warn(clippy::print_stderr)]

pub mod http;
pub mod machine;
pub mod service;
pub mod site;

pub use http::conditional::EtagPolicy;
pub use http::cors::Cors;
pub use http::head::{build_404, build_ok_headers};
pub use http::mime::{MediaTypes, TypeChoice, mime_for};
pub use http::request::parse_http_get;
pub use machine::chunks::{Chunks, Piece, Pieces, SharedPiece};
pub use machine::connection::{Connection, Rank, Standing};
pub use machine::drain::Drain;
pub use machine::notice::Notice;
pub use machine::peer::Peer;
pub use machine::progress::Delivery;
pub use machine::step::{Close, Step};
pub use service::config::Config;
pub use service::endpoint::Endpoint;
pub use service::idles::Idles;
pub use service::keeper_counts::KeeperCounts;
pub use service::listen::{Bound, Listeners, Names, listen_socket};
pub use service::places::{Places, Seat};
pub use service::shared::Service;
pub use service::shutdown::Shutdown;
pub use service::slots::{Slots, Token};
pub use service::start::StartError;
pub use service::tune::{CopyMode, Tune};
pub use service::wheel::Wheel;
pub use service::worker::Worker;
pub use service::workers::run_workers;
pub use site::cache::{CacheConfig, CacheLevel};
pub use site::file::{FileRange, OpenFile, SharedFile};
pub use site::file_bytes::FileBytes;
pub use site::open::{OpenRequest, Opened};
pub use site::root::{IndexName, Site, SiteOptions, Symlinks};
pub use site::rules::HeaderRules;
pub use site::variants::Compress;
pub use site::volume::Volume;
