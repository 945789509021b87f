//! The keeper: a small process of the grader's, outside of the sandbox, that outlives it by one system call. The sandbox's
//! first process ends by itself when its grader does; but the reader's code is root in there, and may trace that process
//! (ptrace(2)) and make it do anything, also stay. The keeper is nowhere to be seen from inside, and what it sends, a first
//! process cannot ignore: it comes from above (pid_namespaces(7)).

use anyhow::{Context, Result};
use nix::{
    errno::Errno,
    fcntl::OFlag,
    libc,
    sys::wait::waitpid,
    unistd::{ForkResult, Pid, fork, pipe2},
};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Dropped, it has done its work.
pub(super) struct Keeper {
    pid: Pid,
    /// When this end of its pipe closes, the keeper kills: it closes with the grader, however that ends.
    life: Option<OwnedFd>,
}

impl Keeper {
    /// The keeper of a sandbox that has this first process.
    pub(super) fn of(first: Pid) -> Result<Keeper> {
        let first = held(first).context("hold the check's first process")?;
        let (ended, life) = pipe2(OFlag::O_CLOEXEC).context("make a pipe")?;
        // SAFETY: the child makes system calls only.
        match unsafe { fork() }.context("start the keeper")? {
            ForkResult::Parent { child } => Ok(Keeper { pid: child, life: Some(life) }),
            ForkResult::Child => keep(ended.as_raw_fd(), first.as_raw_fd()),
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.life.take());
        // It is a child of ours, and its pipe has just closed.
        let _ = waitpid(self.pid, None);
    }
}

/// A descriptor for a process (pidfd_open(2)).
pub(super) fn held(pid: Pid) -> Result<OwnedFd, Errno> {
    // SAFETY: two numbers; what it returns is a new descriptor, and ours.
    unsafe {
        let fd = Errno::result(libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0))?;
        Ok(OwnedFd::from_raw_fd(fd as i32))
    }
}

/// Waits for the end of the grader, and then ends the sandbox.
fn keep(ended: i32, first: i32) -> ! {
    // SAFETY: system calls with numbers, and one byte of this function's own.
    unsafe {
        // Out of the terminal's reach, and away from its descriptors: nobody is to wait for what the grader holds open, and
        // other checks' pipes must end with the grader.
        libc::setsid();
        libc::chdir(c"/".as_ptr());
        libc::dup2(ended, 0);
        libc::dup2(first, 1);
        libc::syscall(libc::SYS_close_range, 2, u32::MAX, 0);
        let mut byte = 0_u8;
        while libc::read(0, (&raw mut byte).cast(), 1) < 0 && Errno::last() == Errno::EINTR {}
        libc::syscall(libc::SYS_pidfd_send_signal, 1, libc::SIGKILL, std::ptr::null::<libc::siginfo_t>(), 0);
        libc::_exit(0)
    }
}
