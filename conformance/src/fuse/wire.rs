//! The bytes between the kernel and a FUSE daemon (`include/uapi/linux/fuse.h`, protocol 7.31).
//!
//! A request is a `fuse_in_header` and its operation's own arguments, an answer a `fuse_out_header` and what the
//! operation returns. Numbers have the machine's byte order, and structures no padding but what is named so.

use std::time::Duration;

use rustix::io::Errno;

/// The node that every path begins at (`FUSE_ROOT_ID`).
pub(super) const ROOT: u64 = 1;

/// `sizeof(struct fuse_in_header)`
const REQUEST_HEADER_BYTES: usize = 40;

/// `sizeof(struct fuse_out_header)`
const ANSWER_HEADER_BYTES: usize = 16;

/// The version that is spoken: `fuse_init_out` has its present length since 7.23.
const MAJOR: u32 = 7;
const MINOR: u32 = 31;

/// `FUSE_ASYNC_READ`: nobody waits for a READ, but for the pages that it fills.
const ASYNC_READ: u32 = 1 << 0;

/// `FUSE_AUTO_INVAL_DATA`: a read asks for the file's attributes first, where they aren't kept.
const AUTO_INVAL_DATA: u32 = 1 << 12;

/// `FUSE_PARALLEL_DIROPS`: names in one directory are looked up at the same time.
const PARALLEL_DIROPS: u32 = 1 << 18;

/// `FOPEN_DIRECT_IO`: reads don't go through the page cache.
const DIRECT_IO: u32 = 1 << 0;

/// Requests that the kernel makes for nobody in particular, such as reads ahead: more than a test ever has.
const BACKGROUND_MAX: u16 = 1000;

/// Bytes of a READ. Without `FUSE_MAX_PAGES` the kernel asks for no more anyway.
const READ_BYTES_MAX: u32 = 128 * 1024;

/// Bytes of a WRITE: nobody writes here, but the kernel wants a buffer for one.
const WRITE_BYTES_MAX: u32 = 4096;

/// Nobody is asked for a block size, but programs look at it.
const BLOCK_BYTES: u32 = 4096;

/// Longest name.
const NAME_BYTES_MAX: u32 = 255;

const DIRECTORY_MODE: u32 = libc::S_IFDIR | 0o755;
const FILE_MODE: u32 = libc::S_IFREG | 0o644;

/// Requests that needn't be answered: the kernel forgets nodes, would like an answer early because of a signal, or
/// leaves.
const FORGET: u32 = 2;
const INTERRUPT: u32 = 36;
const DESTROY: u32 = 38;
const BATCH_FORGET: u32 = 42;

const INIT: u32 = 26;

/// The mode of a volume's root, as a mount option has it.
pub(super) fn root_mode() -> u32 {
    DIRECTORY_MODE
}

/// How a volume's files are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// Ahead of their readers, who wait for pages. What libfuse has by default.
    Ahead,
    /// Ahead too, but whoever touches the first page waits for all of them, even one who said that he can't wait.
    InTurn,
    /// By each reader for himself, past the page cache. Whether he can wait makes no difference.
    Direct,
}

/// An operation on a volume that a test can count and delay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the header's")]
pub enum Op {
    Lookup = 1,
    Getattr = 3,
    Open = 14,
    Read = 15,
    Statfs = 17,
    Release = 18,
    Flush = 25,
    Opendir = 27,
    Readdir = 28,
    Releasedir = 29,
}

impl Op {
    /// All of them.
    pub const ALL: [Op; 10] = [
        Op::Lookup,
        Op::Getattr,
        Op::Open,
        Op::Read,
        Op::Statfs,
        Op::Release,
        Op::Flush,
        Op::Opendir,
        Op::Readdir,
        Op::Releasedir,
    ];
}

/// What the kernel asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Init,
    Op(Op),
    /// Something that isn't answered.
    Notice,
    /// Something that a read-only file system needn't do.
    Unknown,
}

/// A request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request<'a> {
    pub(super) asked: Asked,
    /// Its number.
    pub(super) unique: u64,
    /// What it is about.
    pub(super) node: u64,
    /// The thread that asks; 0 for the kernel itself.
    pub(super) thread: u32,
    arguments: &'a [u8],
}

impl<'a> Request<'a> {
    /// # Panics
    /// If it is shorter than a header: the kernel sends whole requests.
    pub(super) fn parse(bytes: &'a [u8]) -> Request<'a> {
        let arguments = &bytes[REQUEST_HEADER_BYTES..];
        let asked = match u32_at(bytes, 4) {
            INIT => Asked::Init,
            FORGET | BATCH_FORGET | INTERRUPT | DESTROY => Asked::Notice,
            code => Op::ALL.into_iter().find(|op| *op as u32 == code).map_or(Asked::Unknown, Asked::Op),
        };
        let (unique, node, thread) = (u64_at(bytes, 8), u64_at(bytes, 16), u32_at(bytes, 32));
        Request { asked, unique, node, thread, arguments }
    }

    /// The name that a LOOKUP asks for.
    pub(super) fn name(&self) -> &'a [u8] {
        self.arguments.split(|byte| *byte == 0).next().unwrap_or_default()
    }

    /// Offset and length of a READ or READDIR (`fuse_read_in`).
    pub(super) fn range(&self) -> (u64, u32) {
        (u64_at(self.arguments, 8), u32_at(self.arguments, 16))
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// What is known of a file or a directory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attributes {
    pub(super) node: u64,
    pub(super) bytes: u64,
    pub(super) is_directory: bool,
    /// Since the epoch.
    pub(super) modified: Duration,
}

/// An answer under construction. Its header is filled in when it is finished.
#[derive(Clone, Debug)]
pub(super) struct Answer(Vec<u8>);

impl Answer {
    fn new() -> Answer {
        Answer(vec![0; ANSWER_HEADER_BYTES])
    }

    /// Success, and nothing more.
    pub(super) fn done() -> Answer {
        Answer::new()
    }

    /// `fuse_init_out`
    pub(super) fn init(reads: Reads) -> Answer {
        let ahead = if reads == Reads::InTurn { 0 } else { ASYNC_READ };
        Answer::new()
            .u32(MAJOR)
            .u32(MINOR)
            .u32(READ_BYTES_MAX)
            .u32(AUTO_INVAL_DATA | PARALLEL_DIROPS | ahead)
            .u16(BACKGROUND_MAX)
            .u16(BACKGROUND_MAX)
            .u32(WRITE_BYTES_MAX)
            .u32(1) // granularity of times: a nanosecond
            .zeros(2 + 2 + 4 + 7 * 4)
    }

    /// `fuse_entry_out`
    pub(super) fn entry(attributes: &Attributes, entry_ttl: Duration, attributes_ttl: Duration) -> Answer {
        Answer::new()
            .u64(attributes.node)
            .u64(0) // generation
            .u64(entry_ttl.as_secs())
            .u64(attributes_ttl.as_secs())
            .u32(entry_ttl.subsec_nanos())
            .u32(attributes_ttl.subsec_nanos())
            .attributes(attributes)
    }

    /// `fuse_attr_out`
    pub(super) fn attr(attributes: &Attributes, ttl: Duration) -> Answer {
        Answer::new().u64(ttl.as_secs()).u32(ttl.subsec_nanos()).zeros(4).attributes(attributes)
    }

    /// `fuse_open_out`. Without `FOPEN_KEEP_CACHE` each open forgets the pages read before.
    pub(super) fn open(reads: Reads) -> Answer {
        Answer::new().zeros(8).u32(if reads == Reads::Direct { DIRECT_IO } else { 0 }).zeros(4)
    }

    /// Bytes of a file.
    pub(super) fn bytes(bytes: &[u8]) -> Answer {
        let mut answer = Answer::new();
        answer.0.extend_from_slice(bytes);
        answer
    }

    /// `fuse_statfs_out`: nothing is free.
    pub(super) fn statfs() -> Answer {
        Answer::new().zeros(5 * 8).u32(BLOCK_BYTES).u32(NAME_BYTES_MAX).u32(BLOCK_BYTES).zeros(4 + 6 * 4)
    }

    /// One more `fuse_dirent`, if the answer then has no more than `room` bytes. `next` is where a READDIR goes on
    /// after it.
    pub(super) fn dirent(
        self,
        attributes: &Attributes,
        name: &[u8],
        next: u64,
        room: u32,
    ) -> Result<Answer, Answer> {
        let length = (24 + name.len()).next_multiple_of(8);
        if self.0.len() - ANSWER_HEADER_BYTES + length > room as usize {
            return Err(self);
        }
        let mode = if attributes.is_directory { DIRECTORY_MODE } else { FILE_MODE };
        // DT_DIR and DT_REG are the mode's kind, shifted (readdir(3)).
        let mut answer = self.u64(attributes.node).u64(next).u32(length_of(name)).u32(mode >> 12);
        answer.0.extend_from_slice(name);
        Ok(answer.zeros(length - 24 - name.len()))
    }

    /// An empty listing.
    pub(super) fn listing() -> Answer {
        Answer::new()
    }

    /// `fuse_attr`
    fn attributes(self, attributes: &Attributes) -> Answer {
        let Attributes { node, bytes, is_directory, modified } = *attributes;
        let times = |answer: Answer| (0..3).fold(answer, |answer, _| answer.u64(modified.as_secs()));
        let nanos = |answer: Answer| (0..3).fold(answer, |answer, _| answer.u32(modified.subsec_nanos()));
        nanos(times(self.u64(node).u64(bytes).u64(bytes.div_ceil(512))))
            .u32(if is_directory { DIRECTORY_MODE } else { FILE_MODE })
            .u32(if is_directory { 2 } else { 1 }) // links
            .zeros(3 * 4) // user, group, device
            .u32(BLOCK_BYTES)
            .zeros(4)
    }

    fn u16(mut self, value: u16) -> Answer {
        self.0.extend_from_slice(&value.to_ne_bytes());
        self
    }

    fn u32(mut self, value: u32) -> Answer {
        self.0.extend_from_slice(&value.to_ne_bytes());
        self
    }

    fn u64(mut self, value: u64) -> Answer {
        self.0.extend_from_slice(&value.to_ne_bytes());
        self
    }

    fn zeros(mut self, count: usize) -> Answer {
        self.0.resize(self.0.len() + count, 0);
        self
    }

    /// The answer to the request of this number.
    pub(super) fn finish(mut self, unique: u64) -> Vec<u8> {
        let length = length_of(&self.0);
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        self.0[8..16].copy_from_slice(&unique.to_ne_bytes());
        self.0
    }
}

/// The refusal of the request of this number.
pub(super) fn refusal(errno: Errno, unique: u64) -> Vec<u8> {
    let mut answer = Answer::new().finish(unique);
    answer[4..8].copy_from_slice(&(-errno.raw_os_error()).to_ne_bytes());
    answer
}

fn length_of(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("an answer is short")
}
