//! An entry of the cache: one file as it was found, ready to be sent.

use std::sync::Arc;
use std::time::Instant;

use crate::http::conditional::Validators;
use crate::http::date::Date;
use crate::http::head::{self, General, Persistence, Representation};
use crate::http::mime::MediaType;
use crate::http::status::Status;
use crate::site::file::{Metadata, SharedFile};
use crate::site::file_bytes::FileBytes;

/// Where the bytes of a body come from. It is a share: neither is freed while it is being sent.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// An open file.
    File(Arc<SharedFile>),
    /// The whole file, in memory.
    Memory(Arc<FileBytes>),
}

/// A file in the cache. It never changes: a file that does gets another entry.
#[derive(Debug)]
pub(crate) struct CachedFile {
    pub(crate) metadata: Metadata,
    pub(crate) media_type: MediaType,
    /// The head of a 200 on a kept HTTP/1.1 connection; its date is replaced.
    head: Box<[u8]>,
    pub(crate) source: Source,
    /// The bytes belong in memory and are not there yet.
    pub(crate) wants_bytes: bool,
    /// The watch of the file's inode, where changes produce events.
    pub(crate) watch: Option<i32>,
    /// The entry isn't trusted from this moment on.
    pub(crate) expires: Instant,
}

impl CachedFile {
    /// An entry that is read from `file`.
    pub(crate) fn new(
        metadata: Metadata,
        media_type: MediaType,
        file: Arc<SharedFile>,
        unix_seconds: i64,
        wants_bytes: bool,
        watch: Option<i32>,
        expires: Instant,
    ) -> CachedFile {
        let mut head = Vec::with_capacity(512);
        let general = General { date: Date::EPOCH, persistence: Persistence::Kept };
        let representation = representation(&metadata, media_type, unix_seconds);
        head::build_ok_headers(&mut head, &general, &representation);
        let source = Source::File(file);
        CachedFile { metadata, media_type, head: head.into(), source, wants_bytes, watch, expires }
    }

    /// The same with its bytes in memory.
    pub(crate) fn with_bytes(&self, bytes: Arc<FileBytes>) -> CachedFile {
        CachedFile {
            metadata: self.metadata,
            media_type: self.media_type,
            head: self.head.clone(),
            source: Source::Memory(bytes),
            wants_bytes: false,
            watch: self.watch,
            expires: self.expires,
        }
    }

    /// Appends the head of a 200: the prepared one, or where it doesn't fit, a new one.
    pub(crate) fn push_head(&self, out: &mut Vec<u8>, general: &General, unix_seconds: i64) {
        if general.persistence != Persistence::Kept {
            return head::build_ok_headers(out, general, &self.representation(unix_seconds));
        }
        let start = out.len();
        out.extend_from_slice(&self.head);
        let date = head::date_range(Status::Ok);
        out[start..][date].copy_from_slice(general.date.as_bytes());
    }

    /// The representation at this second: whether its date is a strong validator depends on the time.
    pub(crate) fn representation(&self, unix_seconds: i64) -> Representation {
        representation(&self.metadata, self.media_type, unix_seconds)
    }

    /// Bytes of memory that the body takes.
    pub(crate) fn body_bytes(&self) -> u64 {
        match &self.source {
            Source::File(_) => 0,
            Source::Memory(bytes) => bytes.len() as u64,
        }
    }
}

/// What is sent of a file, at this second.
pub(crate) fn representation(
    metadata: &Metadata,
    media_type: MediaType,
    unix_seconds: i64,
) -> Representation {
    let validators = Validators::new(
        metadata.inode,
        metadata.size,
        metadata.modified_seconds,
        metadata.modified_nanoseconds,
        unix_seconds,
    );
    Representation { media_type, size: metadata.size, validators }
}
