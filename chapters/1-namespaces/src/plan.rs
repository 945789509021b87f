//! Which namespaces are new and which are joined, and the one clone that makes them.
//!
//! New ones are all flags of a single clone3(2). The kernel makes the user namespace first and the
//! others inside it, so that root of the new user namespace owns them (user_namespaces(7)).
//! The cgroup and the time namespace are not among the flags: both are made later, by the child.
//!
//! Existing ones are joined by setns(2), and setns(2) of a pid namespace does not move the caller,
//! only its later children. So a container that joins anything has three generations: we, an usher
//! that joins and clones, and the container's first process, which `CLONE_PARENT` makes our own
//! child and the usher's sibling. We can wait for it as if there had been no usher.

use crate::{
    Result,
    error::{Doing, invalid},
    inside,
    process::explain_clone,
    spec::Spec,
    sys,
    talk::{Talk, Word},
};
use nix::{
    errno::Errno,
    fcntl::{OFlag, open},
    sched::{CloneFlags, setns},
    sys::{stat::Mode, wait::waitpid},
    unistd::Pid,
};
use oci_spec::runtime::LinuxNamespaceType as Kind;
use std::{
    fmt,
    os::fd::{BorrowedFd, OwnedFd},
    path::PathBuf,
};

/// What `linux.namespaces` asks for.
pub(crate) struct Plan {
    /// Flags for clone3.
    flags: u64,
    /// A new user namespace is among them.
    pub(crate) new_user: bool,
    /// New, but made by the child once it stands in its cgroup (see [`crate::init`]).
    pub(crate) new_cgroup: bool,
    /// New, but made by the child, since its clocks must be set before anyone lives in it.
    pub(crate) new_time: bool,
    /// Joined by path.
    joins: Vec<(Kind, PathBuf)>,
}

impl Plan {
    pub(crate) fn new(spec: &Spec) -> Result<Plan> {
        let mut plan = Plan { flags: 0, new_user: false, new_cgroup: false, new_time: false, joins: vec![] };
        let wanted = spec.linux().as_ref().and_then(|l| l.namespaces().as_ref());
        for namespace in wanted.into_iter().flatten() {
            match (namespace.typ(), namespace.path()) {
                (kind, Some(path)) if !path.as_os_str().is_empty() => {
                    inside::must_be_absolute(path, "linux.namespaces: the path of a namespace")?;
                    plan.joins.push((kind, path.clone()));
                }
                (Kind::Cgroup, _) => plan.new_cgroup = true,
                (Kind::Time, _) => plan.new_time = true,
                (kind, _) => plan.flags |= kind as u64,
            }
        }
        plan.new_user = plan.makes(Kind::User);
        Ok(plan)
    }

    /// Whether a new one of this kind is made by the clone.
    pub(crate) fn makes(&self, kind: Kind) -> bool {
        self.flags & kind as u64 != 0
    }

    /// Whether the container has one of this kind that is not simply the caller's.
    pub(crate) fn has(&self, kind: Kind) -> bool {
        self.makes(kind)
            || self.joins.iter().any(|(k, _)| *k == kind)
            || (kind == Kind::Cgroup && self.new_cgroup)
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("in new namespaces:")?;
        const ALL: [Kind; 6] = [Kind::User, Kind::Mount, Kind::Pid, Kind::Uts, Kind::Ipc, Kind::Network];
        for kind in ALL.into_iter().filter(|k| self.makes(*k)) {
            write!(f, " {kind}")?;
        }
        for (kind, path) in &self.joins {
            write!(f, ", joining {kind} of {}", path.display())?;
        }
        Ok(())
    }
}

/// Clones the container's first process. `None` in that process.
pub(crate) fn clone(
    plan: &Plan,
    cgroup: Option<BorrowedFd>,
    ours: &Talk,
    theirs: &Talk,
) -> Result<Option<(Pid, OwnedFd)>> {
    if plan.joins.is_empty() {
        return sys::clone3(plan.flags, cgroup).map_err(|e| explain_clone(e, plan));
    }
    by_usher(ours, theirs, || {
        join(&plan.joins)?;
        sys::clone3(plan.flags | sys::CLONE_PARENT, cgroup).map_err(|e| explain_clone(e, plan))
    })
}

/// Lets an usher clone the child: `lead` joins, then clones with `CLONE_PARENT`.
pub(crate) fn by_usher(
    ours: &Talk,
    theirs: &Talk,
    lead: impl FnOnce() -> Result<Option<(Pid, OwnedFd)>>,
) -> Result<Option<(Pid, OwnedFd)>> {
    let usher = sys::clone3(0, None).doing(|| "clone a process that joins the namespaces".into())?;
    let Some((usher, _)) = usher else {
        match lead() {
            Ok(None) => return Ok(None),
            // The usher still lives in our pid namespace: the number it sees is the one we see.
            Ok(Some((pid, _))) => {
                let _ = theirs.say(Word::Pid, &pid.as_raw().to_ne_bytes(), None);
            }
            Err(error) => theirs.fail(&error),
        }
        sys::exit_now(0)
    };
    while waitpid(usher, None) == Err(Errno::EINTR) {}
    match ours.hear()? {
        Some((Word::Pid, pid, _)) if pid.len() == 4 => {
            let pid = Pid::from_raw(i32::from_ne_bytes([pid[0], pid[1], pid[2], pid[3]]));
            // It is our child and not reaped: the number is still its own.
            let pidfd = sys::pidfd_open(pid).doing(|| format!("open a pidfd for {pid}"))?;
            Ok(Some((pid, pidfd)))
        }
        Some((Word::Failed, frame, _)) => Err(crate::talk::failure(&frame)),
        _ => invalid("the process that was to join the namespaces ended without a word"),
    }
}

/// Joins namespaces in an order that works for both: first whatever our present privileges
/// allow, then the user namespace, then what only root of that user namespace may join.
/// (Root on the host may join anything, but not any more once inside the user namespace; an
/// ordinary user may join nothing before.)
fn join(wanted: &[(Kind, PathBuf)]) -> Result<()> {
    // All are opened first: after setns of a mount namespace the paths mean something else.
    let mut open_ones = Vec::new();
    for (kind, path) in wanted {
        let fd = open(path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
            .doing(|| format!("open the {kind} namespace {}", path.display()))?;
        open_ones.push((*kind, path, fd));
    }
    let (user, others): (Vec<_>, Vec<_>) = open_ones.iter().partition(|(kind, ..)| *kind == Kind::User);
    // The mount namespace last: it changes what every path means.
    let mut others = others;
    others.sort_by_key(|(kind, ..)| *kind == Kind::Mount);
    let enter = |(kind, path, fd): &(Kind, &PathBuf, OwnedFd)| {
        setns(fd, CloneFlags::from_bits_retain(*kind as i32))
            .doing(|| format!("join the {kind} namespace {}", path.display()))
    };
    let mut later = Vec::new();
    for one in others {
        match enter(one) {
            Err(e) if e.errno() == Some(Errno::EPERM) && !user.is_empty() => later.push(one),
            other => other?,
        }
    }
    user.into_iter().chain(later).try_for_each(enter)
}
