//! A detached container's terminal: its master side goes to whoever listens at `--console-socket`, in one message
//! whose descriptor is the point of it (unix(7), `SCM_RIGHTS`).

use anyhow::{Context, Result};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use std::{
    io::IoSlice,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::Path,
};

/// Sends the master. The bytes beside it are its name, which conmon and containerd's shim read and ignore.
pub(crate) fn send(socket: &Path, master: &OwnedFd) -> Result<()> {
    let stream = UnixStream::connect(socket)
        .with_context(|| format!("connecting to the console socket {}", socket.display()))?;
    let descriptors = [master.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&descriptors)];
    sendmsg::<()>(stream.as_raw_fd(), &[IoSlice::new(b"/dev/ptmx")], &rights, MsgFlags::empty(), None)
        .with_context(|| format!("sending the terminal to {}", socket.display()))?;
    Ok(())
}
