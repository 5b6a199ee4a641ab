//! The system calls that serve. Any other fails with `EPERM`, as if it were forbidden to the user; those that no mistake
//! explains, like executing a program, end the process (seccomp(2)).
//!
//! The kernel remembers which calls are allowed whatever their arguments (Linux 5.11), so those cost nothing.

use std::collections::BTreeMap;

use libc::{O_ACCMODE, O_APPEND, O_CREAT, O_RDONLY, O_TMPFILE, O_TRUNC, PROT_EXEC, c_long};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter_all_threads,
};

/// Whatever their arguments.
const SERVE: &[c_long] = &[
    // Files beneath the root.
    libc::SYS_openat2,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_preadv2,
    libc::SYS_lseek,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_getdents64,
    libc::SYS_readlinkat,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fadvise64,
    libc::SYS_readahead,
    libc::SYS_inotify_add_watch,
    libc::SYS_inotify_init1,
    libc::SYS_inotify_rm_watch,
    libc::SYS_close,
    libc::SYS_dup,
    // Clients, the log, standard error.
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_connect, // to nowhere: a reset
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendfile,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    libc::SYS_write,
    libc::SYS_writev,
    // Waiting.
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_eventfd2,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_restart_syscall,
    // Memory.
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_mremap,
    libc::SYS_munmap,
    // Threads, time, signals.
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_clone3, // answered by another filter
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_gettid,
    libc::SYS_gettimeofday,
    libc::SYS_membarrier,
    libc::SYS_nanosleep,
    libc::SYS_prlimit64,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    libc::SYS_setpriority,
    libc::SYS_sigaltstack,
    libc::SYS_tgkill,
];

/// Those that x86-64 alone has.
#[cfg(target_arch = "x86_64")]
const SERVE_HERE: &[c_long] =
    &[libc::SYS_epoll_wait, libc::SYS_poll, libc::SYS_getrlimit, libc::SYS_readlink, libc::SYS_stat];
#[cfg(not(target_arch = "x86_64"))]
const SERVE_HERE: &[c_long] = &[];

/// What is never an accident.
const KILL: &[c_long] = &[
    libc::SYS_bpf,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_finit_module,
    libc::SYS_init_module,
    libc::SYS_io_uring_setup,
    libc::SYS_kexec_load,
    libc::SYS_mount,
    libc::SYS_perf_event_open,
    libc::SYS_pivot_root,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
];

/// Requests of ioctl(2): how much has come; not to wait (asm-generic/ioctls.h, on both architectures). In the `libc` crate
/// their type depends on the C library.
const FIONREAD: u64 = 0x541b;
const FIONBIO: u64 = 0x5421;

type Rules = BTreeMap<c_long, Vec<SeccompRule>>;

/// Restricts all threads of this process, for good. The error is a line that says what is missing.
pub(super) fn restrict() -> Result<(), String> {
    // The last one forbids the call that this takes.
    for program in filters().map_err(|error| format!("seccomp: {error}"))? {
        apply_filter_all_threads(&program).map_err(|error| format!("seccomp: {error}"))?;
    }
    Ok(())
}

fn filters() -> Result<[BpfProgram; 3], seccompiler::Error> {
    let whole = |calls: &[c_long]| calls.iter().map(|call| (*call, Vec::new())).collect::<Rules>();
    let mut serve = whole(SERVE);
    serve.extend(whole(SERVE_HERE));
    serve.extend(with_arguments()?);
    let errno = |errno: i32| SeccompAction::Errno(errno.unsigned_abs());
    Ok([
        filter(whole(KILL), SeccompAction::Allow, SeccompAction::KillProcess)?,
        // Its arguments are in memory, where no filter sees them; libraries then use clone(2).
        filter(whole(&[libc::SYS_clone3]), SeccompAction::Allow, errno(libc::ENOSYS))?,
        filter(serve, errno(libc::EPERM), SeccompAction::Allow)?,
    ])
}

fn filter(
    rules: Rules,
    otherwise: SeccompAction,
    matched: SeccompAction,
) -> Result<BpfProgram, seccompiler::Error> {
    let arch = std::env::consts::ARCH.try_into()?;
    Ok(SeccompFilter::new(rules, otherwise, matched, arch)?.try_into()?)
}

/// Those that serve with some arguments alone.
fn with_arguments() -> Result<Rules, seccompiler::Error> {
    let bits = |argument, mask: i32, value: i32| -> Result<SeccompCondition, seccompiler::Error> {
        let mask = SeccompCmpOp::MaskedEq(u64::from(mask.cast_unsigned()));
        Ok(SeccompCondition::new(argument, SeccompCmpArgLen::Dword, mask, u64::from(value.cast_unsigned()))?)
    };
    let is = |argument, value: u64| -> Result<Vec<SeccompRule>, seccompiler::Error> {
        let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)?;
        Ok(vec![SeccompRule::new(vec![condition])?])
    };
    let one = |condition| -> Result<Vec<SeccompRule>, seccompiler::Error> {
        Ok(vec![SeccompRule::new(vec![condition])?])
    };
    let writing = (O_ACCMODE | O_APPEND | O_CREAT | O_TRUNC | O_TMPFILE) & !libc::O_DIRECTORY;
    let mut socket_requests = is(1, FIONREAD)?;
    socket_requests.extend(is(1, FIONBIO)?);
    let mut commands = Vec::new();
    for command in [libc::F_GETFD, libc::F_SETFD, libc::F_GETFL, libc::F_SETFL, libc::F_DUPFD_CLOEXEC] {
        commands.extend(is(1, u64::from(command.cast_unsigned()))?);
    }
    let mut rules = Rules::from([
        // To read.
        (libc::SYS_openat, one(bits(2, writing, O_RDONLY)?)?),
        // No code comes in.
        (libc::SYS_mmap, one(bits(2, PROT_EXEC, 0)?)?),
        (libc::SYS_mprotect, one(bits(2, PROT_EXEC, 0)?)?),
        // A thread, no process.
        (libc::SYS_clone, one(bits(0, libc::CLONE_THREAD, libc::CLONE_THREAD)?)?),
        (libc::SYS_prctl, is(0, u64::from(libc::PR_SET_NAME.cast_unsigned()))?),
        (libc::SYS_fcntl, commands),
        (libc::SYS_ioctl, socket_requests),
    ]);
    // As musl opens a file.
    #[cfg(target_arch = "x86_64")]
    rules.insert(libc::SYS_open, one(bits(1, writing, O_RDONLY)?)?);
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filters_are_programs_that_the_kernel_takes() {
        for program in filters().expect("filters") {
            // BPF_MAXINSNS
            assert!((5..4096).contains(&program.len()), "{}", program.len());
        }
        let serve = filters().expect("filters");
        assert!(serve[2].len() > SERVE.len());
        assert!(KILL.iter().all(|call| !SERVE.contains(call) && !SERVE_HERE.contains(call)));
    }
}
