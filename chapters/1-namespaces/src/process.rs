//! The start of a container's first process.
//!
//! ```text
//!  parent                                child (in new namespaces)
//!  clone() ── clone3 ───────────────────▶ joins its cgroups, waits
//!    writes uid_map, gid_map
//!    (the caller runs hooks)
//!  Cloned::configure() ── go on ────────▶ mounts, devices, pivot, masks,
//!                                         identity, seccomp
//!  Ready ◀── ready, or the error ──────── waits at the gate
//!  gate::open() ────────────────────────▶ execve
//! ```

use crate::{Result, spec::Spec};
use nix::unistd::Pid;
use std::{
    os::fd::{BorrowedFd, OwnedFd},
    path::Path,
};

/// What the process reads and writes. With `process.terminal` it gets a new pty instead.
#[derive(Clone, Copy)]
pub enum Stdio<'a> {
    /// The caller's own standard input, output and error.
    Inherit,
    /// These three.
    Fds([BorrowedFd<'a>; 3]),
}

/// What is to be started.
pub struct Request<'a> {
    /// The bundle's configuration.
    pub spec: &'a Spec,
    /// The bundle's directory; a relative `root.path` starts here.
    pub bundle: &'a Path,
    /// Its standard streams.
    pub stdio: Stdio<'a>,
    /// A cgroup v2 directory to be born in (`CLONE_INTO_CGROUP`, clone(2)).
    pub cgroup: Option<BorrowedFd<'a>>,
    /// Open `tasks` files of cgroup v1 groups. Before anything else the child writes "0", itself, into
    /// each: a single thread that moves itself is spared the lock that makes every other
    /// way into a v1 group wait 5 to 16 ms.
    pub tasks: &'a [BorrowedFd<'a>],
    /// The listening socket from [`crate::gate::listen`].
    pub gate: BorrowedFd<'a>,
    /// How many descriptors from 3 on it inherits besides.
    pub preserve_fds: u32,
    /// `MS_MOVE` and chroot instead of pivot_root, for a root on ramfs.
    pub no_pivot: bool,
    /// Keep the caller's session keyring.
    pub no_new_keyring: bool,
}

/// A process in its new namespaces that has done nothing yet. Dropped, it dies.
pub struct Cloned {
    /// Its process ID, as the caller sees it.
    pub pid: Pid,
    /// A descriptor for it (pidfd_open(2)): never another process with a reused ID.
    pub pidfd: OwnedFd,
    // private: the socket over which both talk
}

/// A process that has become a container in all but its program: it waits at the gate.
pub struct Ready {
    /// Its process ID, as the caller sees it.
    pub pid: Pid,
    /// A descriptor for it.
    pub pidfd: OwnedFd,
    /// The master side of its terminal, if it has one.
    pub console: Option<OwnedFd>,
}

/// Makes the process (clone3) and writes its id maps. The caller must be single-threaded
/// or the child may wait for locks that no one will release.
pub fn clone(request: &Request) -> Result<Cloned> {
    let _ = request;
    todo!()
}

impl Cloned {
    /// Lets the child configure itself and waits until it stands at the gate. `state`
    /// is the container's state JSON, for the hooks that the child runs.
    pub fn configure(self, state: &[u8]) -> Result<Ready> {
        let _ = state;
        todo!()
    }
}
