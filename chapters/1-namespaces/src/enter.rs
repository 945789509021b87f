//! Joining the namespaces of a process that runs already: `exec`.

use crate::{
    Result,
    process::{Cloned, Stdio},
};
use nix::unistd::Pid;
use oci_spec::runtime::{LinuxSeccomp, Process};
use std::os::fd::{BorrowedFd, OwnedFd};

/// What is to be started beside the container's first process.
pub struct Request<'a> {
    /// The process whose namespaces and root are joined.
    pub target: Pid,
    /// Program, environment, user, capabilities ... (config.md, Process).
    pub process: &'a Process,
    /// The container's filter.
    pub seccomp: Option<&'a LinuxSeccomp>,
    /// Its standard streams.
    pub stdio: Stdio<'a>,
    /// A cgroup v2 directory to be born in.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// Open `tasks` files of cgroup v1 groups, into each of which the child first writes "0", itself.
    pub tasks: &'a [BorrowedFd<'a>],
    /// How many descriptors from 3 on it inherits besides.
    pub preserve_fds: u32,
}

/// A process that runs in a container's namespaces.
pub struct Running {
    /// Its process ID, as the caller sees it. It is the caller's child.
    pub pid: Pid,
    /// A descriptor for it.
    pub pidfd: OwnedFd,
    /// The master side of its terminal, if it has one.
    pub console: Option<OwnedFd>,
}

/// Makes a child in the target's namespaces that waits.
pub fn clone(request: &Request) -> Result<Cloned> {
    let _ = request;
    todo!()
}

/// Lets it configure itself and exec. The error is the one of the exec.
pub fn exec(cloned: Cloned) -> Result<Running> {
    let _ = cloned;
    todo!()
}
