//! Reaching a process by a descriptor: a number may mean another process by the time it is used, a descriptor never
//! does (pidfd_open(2)).

use crate::{Error, Result, error::Doing, state::Record};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    unistd::Pid,
};
use std::{
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
    ptr,
};

pub(crate) fn open(pid: Pid) -> nix::Result<OwnedFd> {
    // SAFETY: a plain system call without pointers.
    let fd = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) })?;
    // SAFETY: the kernel has just made this descriptor for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Sends a signal. A process that has just ended has nothing left to be told.
pub(crate) fn send(pid: Pid, signal: i32) -> Result<()> {
    let sent = open(pid).and_then(|fd| {
        let none = ptr::null::<libc::siginfo_t>();
        // SAFETY: a null siginfo is allowed, and stands for kill(2)'s (pidfd_send_signal(2)).
        Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd.as_raw_fd(), signal, none, 0) })
    });
    match sent {
        Ok(_) | Err(Errno::ESRCH) => Ok(()),
        Err(errno) => Err(errno).doing(|| format!("sending signal {signal} to process {pid}")),
    }
}

/// Waits until a killed process is gone (or a zombie, which is its parent's to reap).
pub(crate) fn wait_for_end(record: &Record) -> Result<()> {
    let Some(pid) = record.alive() else { return Ok(()) };
    let Ok(fd) = open(pid) else { return Ok(()) };
    let mut watched = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    loop {
        match poll(&mut watched, PollTimeout::from(10_000u16)) {
            Err(Errno::EINTR) => continue,
            Ok(0) if record.alive().is_some() => {
                let doing = format!("waiting for process {pid} to end after SIGKILL");
                return Err(Error::Sys { doing, errno: Errno::ETIMEDOUT });
            }
            other => return other.map(|_| ()).doing(|| format!("waiting for process {pid}")),
        }
    }
}
