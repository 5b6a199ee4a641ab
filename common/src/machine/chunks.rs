//! Chunks: what is to be sent, as a list of memory and file ranges in order.

use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use arrayvec::ArrayVec;

use crate::http::range::ByteRange;
use crate::site::file::{FileRange, SharedFile};
use crate::site::file_bytes::FileBytes;

/// Pieces of memory that one call sends at most.
pub const PIECES_MAX: usize = 8;

/// One chunk, as the connection holds it.
#[derive(Debug)]
pub(crate) enum Chunk {
    /// Bytes of the connection's own: heads, small bodies, separators. A range of its output.
    Output(Range<usize>),
    /// Bytes of a cached body.
    Body(Arc<FileBytes>, Range<usize>),
    /// Bytes of a file.
    File(Arc<SharedFile>, ByteRange),
}

impl Chunk {
    /// How many bytes it has.
    pub(crate) fn length(&self) -> u64 {
        match self {
            Chunk::Output(range) | Chunk::Body(_, range) => range.len() as u64,
            Chunk::File(_, range) => range.length,
        }
    }

    /// So many bytes of it have left, fewer than it has.
    pub(crate) fn advance(&mut self, bytes: u64) {
        match self {
            Chunk::Output(range) | Chunk::Body(_, range) => {
                range.start += usize::try_from(bytes).expect("less than what is in memory");
            }
            Chunk::File(_, range) => {
                range.start += bytes;
                range.length -= bytes;
            }
        }
    }
}

/// What is to be sent: at least one byte.
#[derive(Clone, Copy, Debug)]
pub struct Chunks<'a> {
    output: &'a Rc<Vec<u8>>,
    /// Bytes of the output that come first: in most cases all that there is.
    lead: &'a Range<usize>,
    rest: &'a [Chunk],
}

/// The memory in front of what is to be sent.
pub type Pieces<'a> = ArrayVec<Piece<'a>, PIECES_MAX>;

impl<'a> Chunks<'a> {
    pub(crate) fn new(output: &'a Rc<Vec<u8>>, lead: &'a Range<usize>, rest: &'a [Chunk]) -> Chunks<'a> {
        Chunks { output, lead, rest }
    }

    /// What comes first: pieces of memory, for one sendmsg(2), and then bytes of a file. One of the two may be
    /// missing.
    #[must_use]
    pub fn front(self) -> (Pieces<'a>, Option<FileRange<'a>>) {
        let mut pieces = Pieces::new();
        if !self.lead.is_empty() {
            pieces.push(Piece::Output { output: self.output, start: self.lead.start, end: self.lead.end });
        }
        for chunk in self.rest {
            let piece = match chunk {
                Chunk::File(file, ByteRange { start, length }) => {
                    return (pieces, Some(FileRange { file, offset: *start, length: *length }));
                }
                Chunk::Output(range) => {
                    Piece::Output { output: self.output, start: range.start, end: range.end }
                }
                Chunk::Body(body, range) => Piece::Body { body, start: range.start, end: range.end },
            };
            if pieces.try_push(piece).is_err() {
                break;
            }
        }
        (pieces, None)
    }

    /// Whether bytes of a file are among them.
    #[must_use]
    pub fn has_file(self) -> bool {
        self.rest.iter().any(|chunk| matches!(chunk, Chunk::File(..)))
    }

    /// How many bytes there are in all.
    #[must_use]
    pub fn length(self) -> u64 {
        self.lead.len() as u64 + self.rest.iter().map(Chunk::length).sum::<u64>()
    }
}

/// Some bytes in memory, at least one.
#[derive(Clone, Copy, Debug)]
pub enum Piece<'a> {
    /// Of the connection's own.
    Output {
        /// All of its output.
        output: &'a Rc<Vec<u8>>,
        /// Where the piece begins.
        start: usize,
        /// Where it ends.
        end: usize,
    },
    /// Of a cached body.
    Body {
        /// The whole file.
        body: &'a Arc<FileBytes>,
        /// Where the piece begins.
        start: usize,
        /// Where it ends.
        end: usize,
    },
}

impl<'a> Piece<'a> {
    /// The bytes.
    #[must_use]
    pub fn bytes(self) -> &'a [u8] {
        match self {
            Piece::Output { output, start, end } => &output[start..end],
            Piece::Body { body, start, end } => &body[start..end],
        }
    }

    /// The same bytes for an operation in flight: while the share is held they stay what and where they are.
    #[must_use]
    pub fn share(self) -> SharedPiece {
        match self {
            Piece::Output { output, start, end } => SharedPiece::Output(Rc::clone(output), start..end),
            Piece::Body { body, start, end } => SharedPiece::Body(Arc::clone(body), start..end),
        }
    }
}

/// A [`Piece`] that an operation in flight holds.
#[derive(Clone, Debug)]
pub enum SharedPiece {
    /// Of a connection's own.
    Output(Rc<Vec<u8>>, Range<usize>),
    /// Of a cached body.
    Body(Arc<FileBytes>, Range<usize>),
}

impl SharedPiece {
    /// The bytes that have not left yet.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match self {
            SharedPiece::Output(output, range) => &output[range.clone()],
            SharedPiece::Body(body, range) => &body[range.clone()],
        }
    }

    /// Up to `bytes` of the piece have left. Returns how many were not of this piece.
    pub fn advance(&mut self, bytes: usize) -> usize {
        let (SharedPiece::Output(_, range) | SharedPiece::Body(_, range)) = self;
        let of_this = bytes.min(range.len());
        range.start += of_this;
        bytes - of_this
    }
}
