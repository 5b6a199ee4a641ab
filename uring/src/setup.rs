//! Ring setup: sizes, and the flags each kernel supports.

use std::io;

use common::Tune;
use io_uring::IoUring;

/// The sizes of a ring, and its disabled optimizations.
#[derive(Clone, Debug)]
pub struct Options {
    /// Entries of the submission queue.
    pub submissions: u32,
    /// Entries of the completion queue.
    pub completions: u32,
    /// Receive buffers; a power of two.
    pub receive_buffers: u16,
    /// The first rung of the [`LADDER`] to try.
    pub rung: usize,
    /// Disabled optimizations.
    pub without: Vec<Tune>,
}

impl Default for Options {
    fn default() -> Self {
        Options { submissions: 1024, completions: 8192, receive_buffers: 1024, rung: 0, without: Vec::new() }
    }
}

impl Options {
    /// The rungs to try.
    fn ladder(&self) -> impl Iterator<Item = &'static Rung> {
        let may_defer = !self.without.contains(&Tune::CoopTaskrun);
        LADDER[self.rung..].iter().filter(move |rung| may_defer || !rung.defers)
    }
}

type Builder = io_uring::Builder;

/// The setup flags introduced by one kernel version.
pub struct Rung {
    /// The kernel version.
    pub kernel: &'static str,
    /// Whether completions are processed only when the server waits (`DEFER_TASKRUN`), or in any system call.
    pub defers: bool,
    flags: fn(&mut Builder) -> &mut Builder,
}

/// From the newest kernel to the oldest. Every rung also sets `SUBMIT_ALL` (5.18), without which one refused entry
/// would hold up all that follow.
pub const LADDER: [Rung; 3] = [
    Rung {
        kernel: "6.6",
        defers: true,
        flags: |to| to.setup_single_issuer().setup_defer_taskrun().setup_no_sqarray(),
    },
    Rung { kernel: "6.1", defers: true, flags: |to| to.setup_single_issuer().setup_defer_taskrun() },
    Rung { kernel: "6.0", defers: false, flags: |to| to.setup_single_issuer().setup_coop_taskrun() },
];

/// A ring with the best flags this kernel supports, and the version that introduced them.
pub(crate) fn build(options: &Options) -> io::Result<(IoUring, &'static str)> {
    let mut refused = io::Error::from_raw_os_error(libc::EINVAL);
    for Rung { kernel, flags, .. } in options.ladder() {
        let mut builder = IoUring::builder();
        flags(&mut builder)
            .setup_r_disabled()
            .setup_submit_all()
            .setup_cqsize(options.completions)
            .setup_clamp();
        match builder.build(options.submissions) {
            Ok(io) => return Ok((io, kernel)),
            // This kernel doesn't know the flags: try the next rung.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => refused = error,
            Err(error) => return Err(error),
        }
    }
    Err(refused)
}
