//! The container's terminal: a pty of its own devpts, so that its name means something inside
//! (`tty` says /dev/pts/0). The master goes to the parent; the slave becomes standard input,
//! output and error, the controlling terminal, and /dev/console.

use crate::{
    Result,
    error::{Doing, invalid},
    inside::{self, Kind},
    mounts::file_kind,
    process::Stdio,
    sys,
};
use nix::{
    errno::Errno,
    fcntl::{self, OFlag},
    sys::stat::{Mode, SFlag, fstat, makedev},
    unistd::{Uid, UnlinkatFlags, close, dup2_stderr, dup2_stdin, dup2_stdout, fchown, unlinkat},
};
use oci_spec::runtime::Process;
use std::{
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
    path::Path,
};

/// Both sides of a pty.
pub(crate) struct Terminal {
    pub(crate) master: OwnedFd,
    pub(crate) slave: OwnedFd,
}

/// Opens a pty in the devpts of the root (or, where it has none, the host's).
pub(crate) fn open(root: &OwnedFd, process: &Process) -> Result<Terminal> {
    let doing = || "open a terminal".to_owned();
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let master = match inside::open(root, Path::new("/dev/pts/ptmx"), flags) {
        Err(Errno::ENOENT | Errno::ENOTDIR) => fcntl::open("/dev/ptmx", flags, Mode::empty()),
        other => other,
    }
    .doing(doing)?;
    // An image could have put anything at that path (CVE-2025-52565): is it a terminal's master?
    if fstat(&master).doing(doing)?.st_rdev != makedev(5, 2) {
        return invalid("/dev/pts/ptmx in the root is not a terminal multiplexer");
    }
    let unlock: libc::c_int = 0;
    // SAFETY: TIOCSPTLCK reads one int.
    Errno::result(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlock) })
        .doing(doing)?;
    // The slave by the master and not by its name: no path, nothing to swap.
    // SAFETY: TIOCGPTPEER takes open flags and returns a new descriptor.
    let slave = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags.bits()) };
    let slave = Errno::result(slave).doing(doing)?;
    // SAFETY: it is new, and nobody else's.
    let slave = unsafe { OwnedFd::from_raw_fd(slave) };
    if let Some(size) = process.console_size() {
        resize(&master, size.height() as u16, size.width() as u16).doing(doing)?;
    }
    Ok(Terminal { master, slave })
}

/// Rows and columns of a terminal; `None` for what is none.
pub fn size(terminal: impl AsFd) -> Option<(u16, u16)> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes one winsize (ioctl_tty(2)).
    let got = unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    (got == 0).then_some((size.ws_row, size.ws_col))
}

/// Sets a terminal's size (TIOCSWINSZ, ioctl_tty(2)); its foreground process gets SIGWINCH.
pub fn resize(terminal: impl AsFd, rows: u16, columns: u16) -> nix::Result<()> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads one winsize.
    let done = unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
    Errno::result(done).map(drop)
}

/// Shows the slave as /dev/console. A link of that name came with the image and could lead anywhere in
/// it, also into /proc: it is replaced.
pub(crate) fn bind_console(root: &OwnedFd, slave: &OwnedFd) -> Result<()> {
    let doing = || "bind the terminal on /dev/console".to_owned();
    let dev = inside::make(root, Path::new("/dev"), Kind::Dir)?;
    let path = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let new = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let look = |flags| fcntl::openat(&dev, "console", flags, Mode::from_bits_truncate(0o644));
    let console = match look(path) {
        Ok(fd) if file_kind(&fd).doing(doing)? == SFlag::S_IFLNK => {
            unlinkat(&dev, "console", UnlinkatFlags::NoRemoveDir).and_then(|()| look(new))
        }
        Err(Errno::ENOENT) => look(new),
        other => other,
    };
    let tree = sys::open_tree(slave, sys::EMPTY, false).doing(doing)?;
    sys::move_mount(tree, console.doing(doing)?).doing(doing)
}

/// Makes the slave the controlling terminal and the three standard streams.
pub(crate) fn take(slave: &OwnedFd) -> Result<()> {
    let doing = || "take the terminal".to_owned();
    // SAFETY: TIOCSCTTY takes an int: zero, do not steal it from another session.
    Errno::result(unsafe { libc::ioctl(slave.as_raw_fd(), libc::TIOCSCTTY, 0) }).doing(doing)?;
    dup2_stdin(slave).and_then(|()| dup2_stdout(slave)).and_then(|()| dup2_stderr(slave)).doing(doing)
}

/// The three streams without a terminal.
pub(crate) fn streams(stdio: Stdio) -> Result<()> {
    let Stdio::Fds([stdin, stdout, stderr]) = stdio else { return Ok(()) };
    let doing = || "set the standard streams".to_owned();
    // One of the three may itself be number 0, 1 or 2: copies first, then none is overwritten.
    let copies = [stdin, stdout, stderr].map(|fd| fd.try_clone_to_owned());
    let [new_stdin, new_stdout, new_stderr] = copies;
    dup2_stdin(new_stdin.doing(doing)?).doing(doing)?;
    dup2_stdout(new_stdout.doing(doing)?).doing(doing)?;
    dup2_stderr(new_stderr.doing(doing)?).doing(doing)?;
    // The originals need not be close-on-exec: the program shall have each once.
    for fd in [stdin, stdout, stderr].map(|fd| fd.as_raw_fd()).into_iter().filter(|fd| *fd > 2) {
        let _ = close(fd); // the same may be given twice
    }
    Ok(())
}

/// Gives the streams to the user that the process becomes, or it could not reopen them by
/// /dev/stderr. What cannot be given (a device, a read-only file, another's) stays as it is.
pub(crate) fn give_streams(uid: Uid) {
    for fd in [std::io::stdin().as_fd(), std::io::stdout().as_fd(), std::io::stderr().as_fd()] {
        let null = makedev(1, 3);
        if fstat(fd).is_ok_and(|s| s.st_uid != uid.as_raw() && s.st_rdev != null) {
            let _ = fchown(fd, Some(uid), None);
        }
    }
}
