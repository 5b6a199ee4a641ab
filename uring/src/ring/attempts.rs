//! For the tests: operations with which somebody who has taken over the process would try to get out of it.

use std::io;

use io_uring::opcode;
use io_uring::squeue::{Entry as Sqe, Flags};
use io_uring::types::Fd;

use super::Ring;

/// No descriptor: whatever isn't forbidden fails with `EBADF`.
const NONE: Fd = Fd(-1);

impl Ring {
    /// Tries what no ring is for: what each operation is called, and its result. The first two are allowed.
    pub fn try_to_get_out(&mut self) -> Vec<(&'static str, io::Result<usize>)> {
        let path = c"/nowhere".as_ptr();
        let attempts: [(&'static str, Sqe); 15] = [
            ("nop", opcode::Nop::new().build()),
            ("close", opcode::Close::new(NONE).build()),
            ("nop, async", opcode::Nop::new().build().flags(Flags::ASYNC)),
            ("nop, drained", opcode::Nop::new().build().flags(Flags::IO_DRAIN)),
            ("socket", opcode::Socket::new(libc::AF_INET, libc::SOCK_STREAM, 0).build()),
            ("connect", opcode::Connect::new(NONE, std::ptr::null(), 0).build()),
            ("openat", opcode::OpenAt::new(NONE, path).flags(libc::O_RDWR).build()),
            ("unlinkat", opcode::UnlinkAt::new(NONE, path).build()),
            ("renameat", opcode::RenameAt::new(NONE, path, NONE, path).build()),
            ("mkdirat", opcode::MkDirAt::new(NONE, path).build()),
            ("linkat", opcode::LinkAt::new(NONE, path, NONE, path).build()),
            ("write", opcode::Write::new(NONE, path.cast(), 1).build()),
            ("splice", opcode::Splice::new(NONE, -1, NONE, -1, 1).build()),
            ("fallocate", opcode::Fallocate::new(NONE, 1).build()),
            ("fsync", opcode::Fsync::new(NONE).build()),
        ];
        attempts.into_iter().map(|(name, entry)| (name, self.attempt(entry))).collect()
    }
}
