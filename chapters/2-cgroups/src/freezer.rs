//! Stopping a group where it is, and ending it.

use crate::{
    Error, Result,
    cgroup::Cgroup,
    hierarchy::{self, Hierarchy, Version},
    plan::missing,
    setting::write,
    tree,
};
use nix::{sys::signal, unistd::Pid};
use std::{fs, path::PathBuf, time::Duration};

impl Cgroup {
    /// Stops all of them where they are, or lets them go on. Returns when it is so.
    pub fn freeze(&self, frozen: bool) -> Result<()> {
        if let Some(group) = self.groups.iter().find(|g| g.version == Version::V2) {
            write(&group.path.join("cgroup.freeze"), if frozen { "1" } else { "0" })?;
        } else if let Some(directory) = self.directory("freezer") {
            write(&directory.join("freezer.state"), if frozen { "FROZEN" } else { "THAWED" })?;
        } else {
            return Err(missing("freezer"));
        }
        // A process stops when it next returns to user space, so it is not done when the write is.
        let done = || Ok(self.frozen() == frozen);
        let failed = || {
            // v1 may be stuck half-way when a process forks; asking again moves it on.
            if let Some(directory) = self.directory("freezer").filter(|_| frozen) {
                let _ = write(&directory.join("freezer.state"), "FROZEN");
            }
        };
        if tree::wait_until(Duration::from_secs(10), done, failed)? {
            return Ok(());
        }
        if frozen {
            self.freeze(false)?;
        }
        Err(Error::Limit(
            "the group did not freeze within 10 s: a process in it sits in an uninterruptible wait".into(),
        ))
    }

    /// Whether it is stopped.
    pub fn frozen(&self) -> bool {
        let text = |path: PathBuf| fs::read_to_string(path).unwrap_or_default();
        self.groups.iter().any(|group| match group.version {
            Version::V2 => text(group.path.join("cgroup.events")).lines().any(|l| l == "frozen 1"),
            Version::V1 => text(group.path.join("freezer.state")).trim() == "FROZEN",
        })
    }

    /// Kills everything in the group (`cgroup.kill`, or freeze, kill each, thaw).
    pub fn kill(&self) -> Result<()> {
        if let Some(group) = self.groups.iter().find(|g| g.version == Version::V2)
            && write(&group.path.join("cgroup.kill"), "1").is_ok()
        {
            return Ok(());
        }
        // Before Linux 5.14, and on v1: a list of processes is old as soon as it is read, unless none of them can fork.
        let held = self.freeze(true).is_ok();
        for pid in self.procs()? {
            let _ = signal::kill(pid, signal::SIGKILL);
        }
        if held { self.freeze(false) } else { Ok(()) }
    }
}

/// Takes a process out of a frozen v1 group into which somebody has moved it: it could not be killed there. (On v2 SIGKILL
/// reaches the frozen.) The group and what else is in it are not ours to thaw.
pub(crate) fn take_out(pid: Pid) -> Result<()> {
    let freezer =
        |tree: &Hierarchy| tree.version == Version::V1 && tree.controllers.iter().any(|c| c == "freezer");
    let group = hierarchy::own_of(pid, freezer);
    let state = group.and_then(|group| tree::text(&group.join("freezer.state")).ok());
    if state.is_none_or(|state| state.trim() != "FROZEN") {
        return Ok(());
    }
    match hierarchy::own_of(Pid::this(), freezer) {
        Some(ours) => write(&ours.join("cgroup.procs"), &pid.to_string()),
        None => Ok(()),
    }
}
