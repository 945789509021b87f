//! Our terminal, joined to the one of a container. The kernel's line discipline of the container's side is
//! the one that counts, so ours is switched off (raw mode) and only passes bytes.

use anyhow::{Context, Result};
use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    poll::{PollFd, PollFlags},
    sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr},
    unistd::{read, write},
};
use std::{
    io::{IsTerminal, Write, stdin, stdout},
    os::fd::{AsFd, AsRawFd, OwnedFd},
};

/// Standard input in raw mode, until dropped.
pub(crate) struct Raw(Option<Termios>);

impl Raw {
    /// Changes nothing if it is no terminal.
    pub(crate) fn stdin() -> Raw {
        let before = if stdin().is_terminal() { tcgetattr(stdin()).ok() } else { None };
        if let Some(before) = &before {
            let mut raw = before.clone();
            cfmakeraw(&mut raw);
            let _ = tcsetattr(stdin(), SetArg::TCSANOW, &raw);
        }
        Raw(before)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = tcsetattr(stdin(), SetArg::TCSANOW, before);
        }
    }
}

/// The rows and columns of our terminal, if standard input is one.
pub(crate) fn size() -> Option<(u64, u64)> {
    let size = window()?;
    Some((size.ws_row.into(), size.ws_col.into()))
}

fn window() -> Option<libc::winsize> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ fills in the structure, which is ours (ioctl_tty(2)).
    let result = unsafe { libc::ioctl(stdin().as_raw_fd(), libc::TIOCGWINSZ, &mut size) };
    (result == 0).then_some(size)
}

/// Bytes between our standard streams and a master side.
pub(crate) struct Link {
    master: OwnedFd,
    /// What was typed and not yet taken. A program that prints and does not read must not stop us
    /// from passing on what it prints, so writing to it never blocks.
    pending: Vec<u8>,
    /// Whether there is more to come from standard input.
    open: bool,
}

impl Link {
    pub(crate) fn new(master: OwnedFd) -> Result<Link> {
        let flags =
            OFlag::from_bits_truncate(fcntl(&master, FcntlArg::F_GETFL).context("the terminal's flags")?);
        fcntl(&master, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).context("the terminal's flags")?;
        let link = Link { master, pending: Vec::new(), open: true };
        link.resize();
        Ok(link)
    }

    /// Gives the container's terminal the size of ours.
    pub(crate) fn resize(&self) {
        if let Some(size) = window() {
            // SAFETY: TIOCSWINSZ reads the structure (ioctl_tty(2)).
            unsafe { libc::ioctl(self.master.as_raw_fd(), libc::TIOCSWINSZ, &size) };
        }
    }

    /// What to wait for: output always, and either room for what was typed or more of that.
    pub(crate) fn interests(&self) -> Vec<PollFd<'_>> {
        let mut events = PollFlags::POLLIN;
        if !self.pending.is_empty() {
            events |= PollFlags::POLLOUT;
        }
        let mut all = vec![PollFd::new(self.master.as_fd(), events)];
        if self.open && self.pending.is_empty() {
            // SAFETY: standard input is open as long as this process.
            let stdin = unsafe { std::os::fd::BorrowedFd::borrow_raw(0) };
            all.push(PollFd::new(stdin, PollFlags::POLLIN));
        }
        all
    }

    /// Moves what can be moved; `ready` is for [`Link::interests`].
    pub(crate) fn move_bytes(&mut self, ready: &[bool]) {
        let mut buffer = [0u8; 8192];
        if ready.get(1) == Some(&true) {
            match read(stdin(), &mut buffer) {
                // End of input is, for a terminal, the character that says so.
                Ok(0) => {
                    self.pending.push(4);
                    self.open = false;
                }
                Ok(n) => self.pending.extend(&buffer[..n]),
                Err(Errno::EINTR | Errno::EAGAIN) => {}
                Err(_) => self.open = false,
            }
        }
        if !self.pending.is_empty() {
            match write(&self.master, &self.pending) {
                Ok(n) => drop(self.pending.drain(..n)),
                Err(Errno::EINTR | Errno::EAGAIN) => {}
                Err(_) => self.pending.clear(),
            }
        }
        if ready.first() == Some(&true) {
            self.pass_output(&mut buffer);
        }
    }

    /// Passes on one buffer of output; false when there is none.
    fn pass_output(&mut self, buffer: &mut [u8]) -> bool {
        match read(&self.master, buffer) {
            Ok(n) if n > 0 => {
                let mut out = stdout().lock();
                out.write_all(&buffer[..n]).and_then(|()| out.flush()).is_ok()
            }
            // EIO: nobody holds the other side any more.
            Err(Errno::EIO) => {
                std::thread::sleep(std::time::Duration::from_millis(1));
                false
            }
            _ => false,
        }
    }

    /// Passes on what the container said last.
    pub(crate) fn drain(&mut self) {
        let mut buffer = [0u8; 8192];
        while self.pass_output(&mut buffer) {}
    }
}
