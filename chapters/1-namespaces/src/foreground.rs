//! Standing in for a process in the foreground: its signals are passed on, its terminal is
//! relayed, and its end becomes ours. A shell sees no difference between us and it.

use crate::{
    Result,
    error::Doing,
    terminal::{resize, size},
};
use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask},
        signalfd::{SfdFlags, SignalFd},
        termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr},
        wait::{WaitStatus, waitpid},
    },
    unistd::{Pid, read, write},
};
use std::{
    io::{stdin, stdout},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

/// Signals that arrive from now on wait to be passed on. Take them before the clone: one that
/// came between the clone and the wait would end us, and not the process.
pub struct Signals {
    queue: SignalFd,
    before: SigSet,
}

impl Signals {
    /// Blocks all signals and collects them in a descriptor (signalfd(2)).
    pub fn take() -> Result<Signals> {
        let doing = || "collect the signals to pass on".to_owned();
        let mut all = SigSet::all();
        // These mean us: a crash, or a terminal that we may not read or write now.
        for own in [Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGFPE, Signal::SIGILL, Signal::SIGABRT] {
            all.remove(own);
        }
        for own in [Signal::SIGTTIN, Signal::SIGTTOU, Signal::SIGPIPE] {
            all.remove(own);
        }
        let mut before = SigSet::empty();
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&all), Some(&mut before)).doing(doing)?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        Ok(Signals { queue: SignalFd::with_flags(&all, flags).doing(doing)?, before })
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&self.before), None);
    }
}

/// Waits for a child to end, passing on signals and relaying its terminal. Returns its exit
/// code, or 128 and the number of the signal that killed it, as a shell has it.
pub fn wait(pid: Pid, pidfd: &OwnedFd, console: Option<&OwnedFd>, signals: Signals) -> Result<i32> {
    let mut relay = console.map(Relay::new).transpose()?;
    loop {
        let mut watched = vec![
            PollFd::new(pidfd.as_fd(), PollFlags::POLLIN),
            PollFd::new(signals.queue.as_fd(), PollFlags::POLLIN),
        ];
        if let Some(relay) = &relay {
            relay.watch(&mut watched);
        }
        match poll(&mut watched, PollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            other => other.doing(|| "wait for the process".into())?,
        };
        let ready: Vec<bool> = watched.iter().map(|w| w.any() == Some(true)).collect();
        if let Some(relay) = &mut relay {
            relay.carry(&ready[2..]);
        }
        while let Ok(Some(info)) = signals.queue.read_signal() {
            pass_on(info.ssi_signo as i32, pid, relay.as_ref());
        }
        if ready[0] {
            if let Some(relay) = &mut relay {
                relay.last_words();
            }
            return exit_code(pid);
        }
    }
}

fn pass_on(number: i32, pid: Pid, relay: Option<&Relay>) {
    match Signal::try_from(number) {
        Ok(Signal::SIGCHLD) => {} // the pidfd says more exactly whose
        Ok(Signal::SIGWINCH) if relay.is_some() => {
            if let Some(relay) = relay {
                relay.fit();
            }
        }
        Ok(signal) => drop(kill(pid, signal)), // it may have ended a moment ago
        // SAFETY: a real-time signal, which nix does not name; two integers.
        Err(_) => drop(unsafe { libc::kill(pid.as_raw(), number) }),
    }
}

fn exit_code(pid: Pid) -> Result<i32> {
    loop {
        match waitpid(pid, None) {
            Err(Errno::EINTR) => continue,
            Ok(WaitStatus::Exited(_, code)) => return Ok(code),
            Ok(WaitStatus::Signaled(_, signal, _)) => return Ok(128 + signal as i32),
            Ok(_) => continue,
            Err(errno) => return Err(errno).doing(|| format!("wait for process {pid}")),
        }
    }
}

/// Between our terminal and the container's.
struct Relay<'a> {
    console: &'a OwnedFd,
    /// How our terminal was before we made it raw: line editing and ^C are the inner one's to do.
    cooked: Option<Termios>,
    /// Typed, and not yet taken by the other side.
    typed: Vec<u8>,
    ours_open: bool,
    theirs_open: bool,
}

impl Relay<'_> {
    fn new(console: &OwnedFd) -> Result<Relay<'_>> {
        let doing = || "prepare the terminal".to_owned();
        fcntl(console, FcntlArg::F_SETFL(OFlag::O_RDWR | OFlag::O_NONBLOCK)).doing(doing)?;
        let cooked = tcgetattr(stdin()).ok(); // not a terminal: nothing to make raw
        if let Some(cooked) = &cooked {
            let mut raw = cooked.clone();
            cfmakeraw(&mut raw);
            tcsetattr(stdin(), SetArg::TCSANOW, &raw).doing(doing)?;
        }
        let relay = Relay { console, cooked, typed: vec![], ours_open: true, theirs_open: true };
        relay.fit();
        Ok(relay)
    }

    /// Gives the inner terminal the size of ours.
    fn fit(&self) {
        if let Some((rows, columns)) = size(stdin()) {
            let _ = resize(self.console, rows, columns);
        }
    }

    fn watch<'fd>(&'fd self, watched: &mut Vec<PollFd<'fd>>) {
        let ours = self.ours_open && self.typed.is_empty();
        let mut theirs = PollFlags::empty();
        theirs.set(PollFlags::POLLIN, self.theirs_open);
        theirs.set(PollFlags::POLLOUT, self.theirs_open && !self.typed.is_empty());
        // A hang-up cannot be unwatched, only a descriptor can: the console is left out when it is over.
        if self.theirs_open {
            watched.push(PollFd::new(self.console.as_fd(), theirs));
        }
        if ours {
            // SAFETY: standard input stays open as long as this process lives.
            let stdin = unsafe { BorrowedFd::borrow_raw(0) };
            watched.push(PollFd::new(stdin, PollFlags::POLLIN));
        }
    }

    fn carry(&mut self, ready: &[bool]) {
        let mut ready = ready.iter();
        let ours = self.ours_open && self.typed.is_empty();
        if self.theirs_open && ready.next() == Some(&true) {
            self.send_typed();
            self.theirs_open = self.show();
        }
        if ours && ready.next() == Some(&true) {
            let mut buffer = [0; 4096];
            match read(stdin(), &mut buffer) {
                Ok(0) => {
                    self.ours_open = false;
                    self.typed.push(4); // ^D: what a terminal's end of input looks like
                }
                Ok(n) => self.typed.extend(&buffer[..n]),
                Err(Errno::EINTR | Errno::EAGAIN) => {}
                Err(_) => self.ours_open = false,
            }
            self.send_typed();
        }
    }

    fn send_typed(&mut self) {
        if let Ok(n) = write(self.console, &self.typed) {
            self.typed.drain(..n);
        }
    }

    /// Copies what is there to our output; false when the other side has hung up (EIO, pty(7)).
    fn show(&self) -> bool {
        let mut buffer = [0; 8192];
        match read(self.console, &mut buffer) {
            Ok(0) => false,
            Ok(n) => {
                let mut rest = &buffer[..n];
                while let Ok(written) = write(stdout(), rest) {
                    rest = &rest[written..];
                    if rest.is_empty() {
                        break;
                    }
                }
                true
            }
            Err(errno) => matches!(errno, Errno::EAGAIN | Errno::EINTR),
        }
    }

    /// The process is gone; what it wrote last may still be in the terminal.
    fn last_words(&mut self) {
        let mut console = [PollFd::new(self.console.as_fd(), PollFlags::POLLIN)];
        while poll(&mut console, PollTimeout::ZERO) == Ok(1) && self.show() {}
    }
}

impl Drop for Relay<'_> {
    fn drop(&mut self) {
        if let Some(cooked) = &self.cooked {
            let _ = tcsetattr(stdin(), SetArg::TCSANOW, cooked);
        }
    }
}
