//! Which namespaces a process has (namespaces(7)).
//!
//! A namespace has no name but a number: the inode of `/proc/PID/ns/KIND`. Two processes are in the
//! same one exactly when the numbers are the same.

use crate::{Result, error::Doing};
use nix::{
    errno::Errno,
    sched::CloneFlags,
    sys::stat::stat,
    unistd::{Pid, getpid},
};

/// In the order of namespaces(7).
const KINDS: [(&str, CloneFlags); 8] = [
    ("cgroup", CloneFlags::CLONE_NEWCGROUP),
    ("ipc", CloneFlags::CLONE_NEWIPC),
    ("net", CloneFlags::CLONE_NEWNET),
    ("mnt", CloneFlags::CLONE_NEWNS),
    ("pid", CloneFlags::CLONE_NEWPID),
    ("time", CloneFlags::from_bits_retain(libc::CLONE_NEWTIME)),
    ("user", CloneFlags::CLONE_NEWUSER),
    ("uts", CloneFlags::CLONE_NEWUTS),
];

/// One namespace of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// `pid`, `mnt`, `net`, ...
    pub kind: String,
    /// The inode that names it, as in `/proc/PID/ns`.
    pub inode: u64,
    /// The inode of the caller's own.
    pub mine: u64,
}

impl Namespace {
    /// Whether the caller is in the same one.
    pub fn shared(&self) -> bool {
        self.inode == self.mine
    }
}

/// The namespaces of a process, in the order of namespaces(7). A kind that this kernel
/// does not have is left out.
pub fn namespaces(pid: Pid) -> Result<Vec<Namespace>> {
    let mut all = Vec::new();
    for (kind, _) in KINDS {
        let Some(mine) = inode(getpid(), kind)? else { continue };
        let Some(inode) = inode(pid, kind)? else { continue };
        all.push(Namespace { kind: kind.into(), inode, mine });
    }
    Ok(all)
}

/// The kinds in which a process differs from the caller, as setns(2) wants them.
pub(crate) fn differing(pid: Pid) -> Result<CloneFlags> {
    let mut flags = CloneFlags::empty();
    for (kind, flag) in KINDS {
        if inode(pid, kind)? != inode(getpid(), kind)? {
            flags |= flag;
        }
    }
    Ok(flags)
}

/// Their names, for messages.
pub(crate) fn names(flags: CloneFlags) -> String {
    let named = KINDS.iter().filter(|(_, flag)| flags.contains(*flag)).map(|(kind, _)| *kind);
    named.collect::<Vec<_>>().join(" ")
}

fn inode(pid: Pid, kind: &str) -> Result<Option<u64>> {
    match stat(format!("/proc/{pid}/ns/{kind}").as_str()) {
        Ok(found) => Ok(Some(found.st_ino)),
        // The process is there, but not this kind: the kernel was built without it.
        Err(Errno::ENOENT) if stat(format!("/proc/{pid}/ns").as_str()).is_ok() => Ok(None),
        Err(errno) => Err(errno).doing(|| {
            let next = match errno {
                Errno::ENOENT => " (there is no such process: `ps -e` lists those that run)",
                Errno::EACCES | Errno::EPERM => " (it is another user's: look as root)",
                _ => "",
            };
            format!("look at the {kind} namespace of process {pid}{next}")
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn my_own_are_all_shared() {
        let all = namespaces(getpid()).unwrap();
        assert!(all.len() >= 7 && all.iter().all(|n| n.shared() && n.inode != 0));
        assert_eq!(differing(getpid()).unwrap(), CloneFlags::empty());
    }

    #[test]
    fn a_process_that_is_not_there() {
        let error = namespaces(Pid::from_raw(i32::MAX)).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::ENOENT));
    }
}
