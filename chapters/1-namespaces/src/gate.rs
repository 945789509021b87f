//! The door between `create` and `start`: a listening unix socket that the
//! container's first process holds. It waits in `accept(2)`; whoever connects lets
//! it exec, and reads on that connection what became of it: end of file when the
//! program runs (the descriptor is close-on-exec), the error's text when it could
//! not be executed.
//!
//! A socket file needs no process of ours beside the container, survives the end of `create`,
//! and is refused by the kernel when the container is dead.

use crate::{Error, Result, error::Doing, talk::failure};
use nix::{
    errno::Errno,
    fcntl::{self, OFlag},
    sys::{
        socket::{
            AddressFamily, Backlog, SockFlag, SockType, UnixAddr, accept4, bind, connect,
            listen as start_listening, socket,
        },
        stat::Mode,
    },
};
use std::{
    fs::File,
    io::Read,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    path::Path,
};

/// Makes the gate at `path` (a socket file in the runtime's state directory).
pub fn listen(path: &Path) -> Result<OwnedFd> {
    let gate = stream()?;
    at_address(path, |address| bind(gate.as_raw_fd(), address))
        .doing(|| format!("make the start gate {}", path.display()))?;
    let one = Backlog::new(1).unwrap_or(Backlog::MAXCONN);
    start_listening(&gate, one).doing(|| format!("listen at {}", path.display()))?;
    Ok(gate)
}

/// Opens the gate: returns when the container's program has been executed, or with
/// the reason why it could not be ("exec format error", ...).
pub fn open(path: &Path) -> Result<()> {
    hear(knock(path)?)
}

/// The first half of it: from here on the process goes through as soon as it stands at the gate, and the socket file
/// may be removed.
pub fn knock(path: &Path) -> Result<OwnedFd> {
    let connection = stream()?;
    at_address(path, |address| connect(connection.as_raw_fd(), address)).map_err(|errno| match errno {
        Errno::ECONNREFUSED => Error::Gone("the container's process"),
        errno => Error::Sys { doing: format!("open the gate {}", path.display()), errno },
    })?;
    Ok(connection)
}

/// The second half: what became of the program.
pub fn hear(connection: OwnedFd) -> Result<()> {
    let mut answer = Vec::new();
    // 64 KiB is more than any message: what answers was, a moment ago, our own code.
    match File::from(connection).take(1 << 16).read_to_end(&mut answer) {
        // A reset means that the listener closed with our connection still in its queue.
        Err(e) if e.raw_os_error() == Some(Errno::ECONNRESET as i32) => {
            return Err(Error::Gone("the container's process"));
        }
        other => other.doing(|| "hear what became of the container's program".into())?,
    };
    if answer.is_empty() { Ok(()) } else { Err(failure(&answer)) }
}

/// The child's side: waits until somebody opens, and returns the connection.
pub(crate) fn wait(gate: BorrowedFd) -> Result<OwnedFd> {
    loop {
        match accept4(gate.as_raw_fd(), SockFlag::SOCK_CLOEXEC) {
            Err(Errno::EINTR | Errno::ECONNABORTED) => continue,
            fd => {
                let fd = fd.doing(|| "wait at the start gate".into())?;
                // SAFETY: accept has just made this descriptor for us alone.
                return Ok(unsafe { OwnedFd::from_raw_fd(fd) });
            }
        }
    }
}

fn stream() -> Result<OwnedFd> {
    socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)
        .doing(|| "make a unix socket".into())
}

/// A socket's address holds 107 bytes of path. A longer one goes by way of its directory's
/// descriptor, which /proc/self/fd makes short again.
fn at_address<T>(path: &Path, call: impl FnOnce(&UnixAddr) -> nix::Result<T>) -> nix::Result<T> {
    if let Ok(address) = UnixAddr::new(path) {
        return call(&address);
    }
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Errno::EINVAL);
    };
    let dir = fcntl::open(dir, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
    let short = Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(name);
    call(&UnixAddr::new(&short)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{io::Write, os::fd::AsFd, thread};

    fn gate(path: &Path, answer: &'static [u8]) -> thread::JoinHandle<()> {
        let gate = listen(path).unwrap();
        thread::spawn(move || {
            let opener = wait(gate.as_fd()).unwrap();
            File::from(opener).write_all(answer).unwrap();
        })
    }

    #[test]
    fn an_end_without_a_word_is_a_program_that_runs() {
        let dir = tempfile::tempdir().unwrap();
        let child = gate(&dir.path().join("gate"), b"");
        open(&dir.path().join("gate")).unwrap();
        child.join().unwrap();
    }

    #[test]
    fn a_failure_comes_with_its_exit_code() {
        let dir = tempfile::tempdir().unwrap();
        let child = gate(&dir.path().join("gate"), b"\x7eexec /x: permission denied");
        let error = open(&dir.path().join("gate")).unwrap_err();
        assert_eq!((error.exit_code(), error.to_string().as_str()), (126, "exec /x: permission denied"));
        child.join().unwrap();
    }

    #[test]
    fn a_long_path_is_no_hindrance() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("d".repeat(120));
        std::fs::create_dir(&deep).unwrap();
        let child = gate(&deep.join("gate"), b"");
        open(&deep.join("gate")).unwrap();
        child.join().unwrap();
    }

    #[test]
    fn nobody_behind_it_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        drop(listen(&dir.path().join("gate")).unwrap());
        assert!(matches!(open(&dir.path().join("gate")), Err(Error::Gone(_))));
    }
}
