//! What a process inherits or keeps besides memory: cgroups, descriptors, signal settings, its
//! parent's fate. All are brought to what a fresh program expects.

use crate::{Result, error::Doing, talk::Orders};
use nix::{
    errno::Errno,
    sys::{
        prctl,
        signal::{SigHandler, SigSet, Signal, signal},
    },
    unistd::write,
};
use std::os::fd::{BorrowedFd, RawFd};

/// Moves this process into cgroups, each given as its open `tasks` file (cgroup v1).
pub(crate) fn join_groups(tasks: &[BorrowedFd]) -> Result<()> {
    for tasks in tasks {
        write(tasks, b"0").doing(|| "enter a cgroup".into())?;
    }
    Ok(())
}

/// Closes every descriptor from `3 + preserve` on but those needed. Closed, not only marked
/// close-on-exec: until the exec, /proc/self/fd/N in a working directory or program name would
/// lead through an open one to the host (CVE-2024-21626).
pub(crate) fn close_others(needed: &[RawFd], preserve: u32) -> Result<()> {
    let mut needed: Vec<u32> = needed.iter().map(|fd| *fd as u32).collect();
    needed.sort_unstable();
    let mut from = 3 + preserve;
    for fd in needed {
        if fd > from {
            close_range(from, fd - 1)?;
        }
        from = from.max(fd + 1);
    }
    close_range(from, u32::MAX)
}

fn close_range(first: u32, last: u32) -> Result<()> {
    // SAFETY: no object of ours owns a descriptor in the range, or it is leaked: the child never
    // returns to code that would use or close one.
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    Errno::result(done).map(drop).doing(|| "close what the runtime has open (close_range(2))".into())
}

/// Arranges to be killed when the parent dies (`PR_SET_PDEATHSIG`). A change of user undoes it, so it
/// comes after that; that the parent lives still is found out by talking to it next.
pub(crate) fn die_with_parent(orders: Orders) -> Result<()> {
    if !orders.die_with_parent {
        return Ok(());
    }
    prctl::set_pdeathsig(Signal::SIGKILL).doing(|| "arrange to die with the parent".into())
}

/// Ignored and blocked signals survive execve(2): Rust ignores SIGPIPE, and whoever started the runtime may have ignored
/// more (nohup(1), a shell's `&`). A container must not depend on that: inside, Ctrl-C could then do nothing.
pub(crate) fn restore_signals() -> Result<()> {
    let doing = || "reset the signals".to_owned();
    for each in Signal::iterator().filter(|s| !matches!(s, Signal::SIGKILL | Signal::SIGSTOP)) {
        // SAFETY: the default action is no function of ours.
        unsafe { signal(each, SigHandler::SigDfl) }.doing(doing)?;
    }
    SigSet::empty().thread_set_mask().doing(doing)
}
