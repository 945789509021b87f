//! Which namespaces a process has (namespaces(7)).

use crate::Result;
use nix::unistd::Pid;

/// One namespace of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// `pid`, `mnt`, `net`, ...
    pub kind: String,
    /// The inode that names it, as in `/proc/PID/ns`.
    pub inode: u64,
    /// Whether the caller is in the same one.
    pub shared: bool,
}

/// The namespaces of a process, in the order of namespaces(7).
pub fn namespaces(pid: Pid) -> Result<Vec<Namespace>> {
    let _ = pid;
    todo!()
}
