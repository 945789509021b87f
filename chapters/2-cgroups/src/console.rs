//! A detached container's terminal goes to whoever listens at `--console-socket`, its process's descriptor to
//! `--pidfd-socket`: one message each, whose descriptor is the point of it (unix(7), `SCM_RIGHTS`).

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

/// Sends it. The bytes beside it are its name, which conmon and containerd's shim read and ignore.
pub(crate) fn send(socket: &Path, descriptor: &OwnedFd, name: &str) -> Result<()> {
    let stream = UnixStream::connect(socket)
        .with_context(|| format!("connecting to the socket {}", socket.display()))?;
    let descriptors = [descriptor.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&descriptors)];
    sendmsg::<()>(stream.as_raw_fd(), &[IoSlice::new(name.as_bytes())], &rights, MsgFlags::empty(), None)
        .with_context(|| format!("sending {name} to {}", socket.display()))?;
    Ok(())
}
