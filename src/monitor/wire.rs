//! What the daemon and a monitor say to each other, over a unix socket that the monitor listens on.
//!
//! Whoever connects says first what it wants, as one line of JSON. `Control` goes on in lines: orders one way,
//! reports the other; a daemon that was restarted connects again and is told how things stand. `Attach` carries
//! the *client's own connection* as a descriptor (SCM_RIGHTS, unix(7)): from then on the bytes go between client
//! and monitor, and no longer through the daemon, which may even die meanwhile.

use crate::engine::container::Published;
use nix::{
    cmsg_space,
    sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg},
};
use serde::{Deserialize, Serialize};
use std::{
    io::{IoSlice, IoSliceMut},
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

/// The longest line that is read.
pub(crate) const LINE_MAX: usize = 1 << 20;

/// The first line on a connection.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Hello {
    /// Orders and reports follow.
    Control,
    /// The client whose connection comes with this line.
    Attach(Attach),
}

/// What an attached client wants.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Attach {
    /// It writes to the container.
    pub(crate) stdin: bool,
    /// It reads standard output.
    pub(crate) stdout: bool,
    /// It reads standard error.
    pub(crate) stderr: bool,
    /// Output goes to it as it is (a terminal), or in docker's frames.
    pub(crate) raw: bool,
    /// The keys that detach it; none if empty.
    pub(crate) detach_keys: Vec<u8>,
    /// What it had sent before the connection was handed over.
    pub(crate) early: Vec<u8>,
}

/// From the daemon.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Order {
    /// The end was heard: those who are attached may be let go, and whatever they ask next is answered rightly.
    Heard,
    /// A signal for the first process.
    Signal(i32),
    /// The terminal's new size.
    Resize {
        /// Rows.
        height: u16,
        /// Columns.
        width: u16,
    },
}

/// To the daemon.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Report {
    /// The program runs.
    Started {
        /// Its process ID, as the daemon sees it.
        pid: i32,
        /// When.
        at: String,
        /// The host ports that it got.
        ports: Vec<Published>,
    },
    /// It could not be started.
    Failed {
        /// The exit status that docker gives such a container: 127 not found, 126 not executable, 128 else.
        code: i64,
        /// Why.
        message: String,
    },
    /// It has ended. Also in the file `exit.json`, for a daemon that is not there to hear it.
    Exited(Exit),
}

/// How it ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Exit {
    /// The exit status; 128 and the signal if it was killed.
    pub(crate) code: i64,
    /// The kernel killed one of its processes for lack of memory.
    pub(crate) oom: bool,
    /// When.
    pub(crate) at: String,
}

/// Sends a first line, with a descriptor. It is short and the connection is new: it fits in the socket's buffer.
pub(crate) fn send(socket: BorrowedFd, hello: &Hello, fd: Option<BorrowedFd>) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(hello)?;
    line.push(b'\n');
    let fds: Vec<_> = fd.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&fds)];
    let control = if fds.is_empty() { &rights[..0] } else { &rights[..] };
    let sent =
        sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(&line)], control, MsgFlags::MSG_NOSIGNAL, None)?;
    if sent == line.len() { Ok(()) } else { Err(std::io::Error::other("a line was cut short")) }
}

/// Receives bytes, and a descriptor if one came with them. Close-on-exec from the first moment: no program that is
/// started meanwhile may inherit it.
pub(crate) fn receive(socket: BorrowedFd, into: &mut [u8]) -> std::io::Result<(usize, Option<OwnedFd>)> {
    let mut space = cmsg_space!([std::os::fd::RawFd; 1]);
    let mut parts = [IoSliceMut::new(into)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), flags)?;
    let mut received = None;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = control {
            for fd in fds {
                // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
                received = Some(unsafe { OwnedFd::from_raw_fd(fd) });
            }
        }
    }
    Ok((message.bytes, received))
}
