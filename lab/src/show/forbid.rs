//! C12: a filter forbids io_uring.

use std::collections::BTreeMap;
use std::thread;

use nix::errno::Errno;
use nix::libc::{EPERM, SYS_io_uring_setup};
use rustix::event::epoll::EventFlags;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};
use uring::refusal::Refusal;
use uring::ring::{Options, Ring};

use super::calls::{epoll_add, epoll_create, epoll_wait, pair, send_bytes};
use super::{Script, Stop};

/// A filter holds for its thread, and can't be taken off. So the scene has a thread of its own.
pub(super) fn play(script: &mut Script) -> Result<bool, Stop> {
    let scene = thread::scope(|scope| scope.spawn(|| behind_a_filter(script)).join());
    scene.unwrap_or_else(|_| Err(Stop("the scene's thread has panicked".to_owned())))
}

fn behind_a_filter(script: &mut Script) -> Result<bool, Stop> {
    let refusal = SeccompAction::Errno(EPERM.unsigned_abs());
    let rules = BTreeMap::from([(SYS_io_uring_setup, Vec::new())]);
    let filter =
        SeccompFilter::new(rules, SeccompAction::Allow, refusal, std::env::consts::ARCH.try_into()?)?;
    let program: BpfProgram = filter.try_into()?;
    apply_filter(&program)?;
    script.found(format_args!("seccomp(SECCOMP_SET_MODE_FILTER): call {SYS_io_uring_setup} gives EPERM"));
    let refused = match Ring::new(&Options::default()) {
        Err(Refusal::Setup(error)) => error.raw_os_error().map(Errno::from_raw),
        Err(_) | Ok(_) => None,
    };
    let told = refused.map_or_else(|| "a ring".to_owned(), |errno| format!("-1 {errno:?}"));
    script.found(format_args!("io_uring_setup = {told}"));
    let epoll = epoll_create(script)?;
    let (reader, writer) = pair(script)?;
    epoll_add(script, &epoll, &reader, EventFlags::IN)?;
    send_bytes(script, &writer, b"x")?;
    let events = epoll_wait(script, &epoll, 0)?;
    Ok(refused == Some(Errno::EPERM) && events.len() == 1)
}
