//! A process's input: what was typed and not yet taken, and when it is closed.

use nix::{errno::Errno, unistd::write};
use std::{
    collections::VecDeque,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

/// What is typed ahead, at most: beyond it the clients wait.
const TYPED_AHEAD: usize = 64 << 10;

/// The writing end of a pipe, or a terminal; without one, what is typed goes nowhere.
#[derive(Default)]
pub(crate) struct Input {
    fd: Option<OwnedFd>,
    typed: VecDeque<u8>,
    /// It is closed when all that was typed is written.
    closing: bool,
}

impl Input {
    /// From now on it is written here.
    pub(crate) fn connect(&mut self, fd: Option<OwnedFd>) {
        self.fd = fd;
    }

    /// Where it has to be written as soon as there is room.
    pub(crate) fn waiting(&self) -> Option<BorrowedFd<'_>> {
        self.fd.as_ref().filter(|_| !self.typed.is_empty()).map(AsFd::as_fd)
    }

    /// Whether more may be typed.
    pub(crate) fn hungry(&self) -> bool {
        self.typed.len() < TYPED_AHEAD
    }

    /// Takes what was typed.
    pub(crate) fn take(&mut self, bytes: &[u8]) {
        if self.fd.is_some() && !self.closing {
            self.typed.extend(bytes);
            self.feed();
        }
    }

    /// Nothing will be typed any more.
    pub(crate) fn finish(&mut self) {
        self.closing = true;
        self.feed();
    }

    /// Closes it, whatever is still to be written.
    pub(crate) fn close(&mut self) {
        self.fd = None;
    }

    /// Writes what was typed, and closes it after that if that is wanted.
    pub(crate) fn feed(&mut self) {
        let Some(fd) = &self.fd else { return self.typed.clear() };
        while !self.typed.is_empty() {
            let (first, _) = self.typed.as_slices();
            match write(fd, first) {
                Ok(written) => drop(self.typed.drain(..written)),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return,
                // It does not read any more.
                Err(_) => {
                    self.typed.clear();
                    self.fd = None;
                    return;
                }
            }
        }
        if self.closing {
            self.fd = None;
        }
    }
}
