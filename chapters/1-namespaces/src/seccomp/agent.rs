//! An agent outside decides on some calls (`SCMP_ACT_NOTIFY`, seccomp_unotify(2)): a program that listens at
//! `linux.seccomp.listenerPath`, and is sent the filter's descriptor together with what the specification calls the
//! container process state (config-linux.md).

use crate::{
    Result,
    error::{Doing, invalid},
};
use nix::{
    fcntl::readlinkat,
    sys::socket::{ControlMessage, MsgFlags, sendmsg},
};
use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction as Action};
use serde_json::{Value, json};
use std::{
    io::IoSlice,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
        unix::net::UnixStream,
    },
};

/// An agent that has been found, and what it will be told.
pub(crate) struct Agent {
    socket: UnixStream,
    message: Vec<u8>,
}

/// Whether an agent is asked for. What could not be answered is refused.
pub(super) fn check(filter: &LinuxSeccomp) -> Result<bool> {
    let listener = filter.listener_path().as_ref().is_some_and(|path| !path.as_os_str().is_empty());
    let rules = filter.syscalls().iter().flatten();
    let mut notify = rules.filter(|rule| rule.action() == Action::ScmpActNotify).peekable();
    if filter.default_action() == Action::ScmpActNotify {
        return invalid(
            "linux.seccomp: SCMP_ACT_NOTIFY cannot be the default action: this process could not even tell the agent",
        );
    }
    if notify.peek().is_some() && !listener {
        return invalid(
            "linux.seccomp: SCMP_ACT_NOTIFY needs an agent: say where it listens, in listenerPath",
        );
    }
    // Once the filter is loaded we still have to send its descriptor: nobody could answer for that call. (write(2) is runc's,
    // and whoever relies on the one runtime should not be surprised by the other.)
    match notify.flat_map(|rule| rule.names()).find(|name| ["write", "sendmsg"].contains(&name.as_str())) {
        Some(name) => {
            invalid(format!("linux.seccomp: SCMP_ACT_NOTIFY cannot be used for the {name} syscall"))
        }
        None => Ok(listener),
    }
}

/// Connects to the agent, if there is to be one: in the parent, where the host's sockets are found whatever namespaces the
/// child is in by then.
pub(crate) fn connect(filter: &LinuxSeccomp) -> Result<Option<UnixStream>> {
    match filter.listener_path().as_ref().filter(|_| check(filter).unwrap_or(false)) {
        None => Ok(None),
        Some(path) => UnixStream::connect(path)
            .map(Some)
            .doing(|| format!("failed to connect with seccomp agent at {}", path.display())),
    }
}

/// What it will be told. `proc` is the host's procfs, `state` the container's state.
pub(crate) fn agent(
    filter: &LinuxSeccomp,
    socket: UnixStream,
    proc: &OwnedFd,
    state: &[u8],
) -> Result<Agent> {
    // As the host counts: whoever mounted this procfs sees us by that number.
    let pid = readlinkat(proc, "self").doing(|| "find this process's ID".into())?;
    let pid: i32 = pid.to_str().and_then(|pid| pid.parse().ok()).unwrap_or_default();
    let mut state: Value = serde_json::from_slice(state).unwrap_or_default();
    // The agent is told at a moment when the container still is being made.
    if state.get("status").is_some_and(|status| status == "created") {
        state["status"] = json!("creating");
    }
    let message = json!({
        // Of this message. The specification has never changed it, and agents that were written for crun compare.
        "ociVersion": "0.2.0",
        "fds": ["seccompFd"],
        "pid": pid,
        "metadata": filter.listener_metadata().clone().unwrap_or_default(),
        "state": state,
    });
    Ok(Agent { socket, message: message.to_string().into_bytes() })
}

impl Agent {
    /// Sends the filter's descriptor. It is one single call: from here on each is judged by the filter.
    pub(super) fn send(&self, listener: RawFd) -> Result<()> {
        // SAFETY: seccomp(2) has just made it for us; it is closed again when it is sent.
        let listener = unsafe { OwnedFd::from_raw_fd(listener) };
        let descriptors = [listener.as_raw_fd()];
        let rights = [ControlMessage::ScmRights(&descriptors)];
        let parts = [IoSlice::new(&self.message)];
        sendmsg::<()>(self.socket.as_raw_fd(), &parts, &rights, MsgFlags::MSG_NOSIGNAL, None)
            .doing(|| "send the seccomp filter to its agent".into())
            .map(drop)
    }
}
