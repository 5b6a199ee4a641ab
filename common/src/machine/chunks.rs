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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::file::OpenFile;
    use crate::site::volume::Volume;

    fn file(start: u64, length: u64) -> Chunk {
        let opened = std::fs::File::open("/dev/null").expect("a file that every system has");
        let file = SharedFile::new(OpenFile::new(opened.into(), Volume::Local, 0));
        Chunk::File(Arc::new(file), ByteRange { start, length })
    }

    /// The pieces in front, and where in its file the range begins that follows them, and how long it is.
    fn front(output: &Rc<Vec<u8>>, lead: Range<usize>, rest: &[Chunk]) -> (Vec<Vec<u8>>, Option<(u64, u64)>) {
        let (pieces, file) = Chunks::new(output, &lead, rest).front();
        let pieces = pieces.iter().map(|piece| piece.bytes().to_vec()).collect();
        (pieces, file.map(|range| (range.offset, range.length)))
    }

    #[test]
    fn what_has_left_is_no_longer_in_front() {
        let output = Rc::new(b"0123456789".to_vec());
        let body = Arc::new(FileBytes::from(&b"abcde"[..]));
        let mut rest = [Chunk::Output(4..7), Chunk::Body(body, 1..5), file(10, 20), Chunk::Output(7..10)];
        let chunks = Chunks::new(&output, &(2..4), &rest);
        assert_eq!((chunks.length(), chunks.has_file()), (2 + 3 + 4 + 20 + 3, true));
        let pieces = |pieces: &[&str]| pieces.iter().map(|piece| piece.as_bytes().to_vec()).collect();
        assert_eq!(front(&output, 2..4, &rest), (pieces(&["23", "456", "bcde"]), Some((10, 20))));
        for (chunk, bytes, left) in [(0, 2, 1), (1, 1, 3), (2, 6, 14)] {
            rest[chunk].advance(bytes);
            assert_eq!(rest[chunk].length(), left);
        }
        assert_eq!(front(&output, 4..4, &rest), (pieces(&["6", "cde"]), Some((16, 14))));
        let chunks = Chunks::new(&output, &(4..4), &rest[3..]);
        assert_eq!((chunks.length(), chunks.has_file()), (3, false));
    }

    #[test]
    fn one_call_takes_so_many_pieces() {
        let output = Rc::new(b"0123456789".to_vec());
        let mut rest: Vec<_> = (1..PIECES_MAX).map(|at| Chunk::Output(at..at + 1)).collect();
        rest.push(file(0, 1));
        let (pieces, range) = front(&output, 0..1, &rest);
        assert_eq!((pieces.concat(), range), (output[..PIECES_MAX].to_vec(), Some((0, 1))));
        rest.insert(0, Chunk::Output(9..10));
        let (pieces, range) = front(&output, 0..1, &rest);
        assert_eq!((pieces.len(), range), (PIECES_MAX, None), "a file behind what doesn't fit comes later");
    }

    #[test]
    fn a_shared_piece_says_what_was_not_of_it() {
        let output = Rc::new(b"0123456789".to_vec());
        let body = Arc::new(FileBytes::from(&b"0123456789"[..]));
        for piece in [
            Piece::Output { output: &output, start: 4, end: 7 },
            Piece::Body { body: &body, start: 4, end: 7 },
        ] {
            let mut shared = piece.share();
            assert_eq!(shared.bytes(), b"456");
            assert_eq!((shared.advance(2), shared.bytes()), (0, &b"6"[..]));
            assert_eq!((shared.advance(5), shared.bytes()), (4, &b""[..]));
        }
    }
}
