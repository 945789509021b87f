//! What is done to a container while it runs: another process in it, a pause, other limits, a look at
//! its counters.

use crate::{
    Result,
    cgroup::Cgroup,
    error::Doing,
    hierarchy,
    runtime::{Runtime, wrong},
    state::Status,
    stats::Stats,
};
use namespaces::{enter, process::Stdio, spec};
use nix::unistd::Pid;
use oci_spec::runtime::{LinuxResources, Process};
use std::{
    fs::{self, File},
    os::fd::{AsFd, BorrowedFd},
};

impl Runtime {
    /// Starts another process in a running container; it is the caller's child.
    pub fn exec(
        &self,
        id: &str,
        process: &Process,
        stdio: Stdio,
        preserve_fds: u32,
    ) -> Result<enter::Running> {
        let (record, directory) = self.load(id)?;
        let status = record.status(&directory);
        let target = match (status, record.alive()) {
            // runc, too, lets a process into a container that waits for its start.
            (Status::Running | Status::Created, Some(pid)) => pid,
            (Status::Paused, _) => return Err(wrong(id, "exec in", status, " (resume it first)")),
            _ => return Err(wrong(id, "exec in", status, "")),
        };
        let file = directory.join("config.json");
        let text = fs::read(&file).doing(|| format!("reading {}", file.display()))?;
        let spec = spec::parse(&text, &file)?;
        let cgroup = Cgroup::of_directories(record.cgroup);
        // Beside the first process, which may have moved down by now (systemd and docker in a container do): a v2 group
        // that has handed controllers to groups below takes no process of its own any more.
        let beside =
            cgroup.birth().and_then(|_| hierarchy::unified_of(target)).and_then(|d| File::open(d).ok());
        let tasks = cgroup.tasks()?;
        let tasks: Vec<BorrowedFd> = tasks.iter().map(AsFd::as_fd).collect();
        let cloned = enter::clone(&enter::Request {
            target,
            process,
            seccomp: spec.linux().as_ref().and_then(|l| l.seccomp().as_ref()),
            stdio,
            cgroup: beside.as_ref().map(AsFd::as_fd).or(cgroup.birth()),
            tasks: &tasks,
            preserve_fds,
        })?;
        Ok(enter::exec(cloned)?)
    }

    /// The process that the bundle describes: what `exec` takes its user, environment and capabilities from.
    pub fn process(&self, id: &str) -> Result<Process> {
        let (record, _) = self.load(id)?;
        Ok(record.process.unwrap_or_default())
    }

    /// Stops all its processes where they are.
    pub fn pause(&self, id: &str) -> Result<()> {
        let (record, directory) = self.load(id)?;
        match record.status(&directory) {
            Status::Running | Status::Created => Cgroup::of_directories(record.cgroup).freeze(true),
            status => Err(wrong(id, "pause", status, "")),
        }
    }

    /// Lets them go on.
    pub fn resume(&self, id: &str) -> Result<()> {
        let (record, directory) = self.load(id)?;
        match record.status(&directory) {
            Status::Paused => Cgroup::of_directories(record.cgroup).freeze(false),
            status => Err(wrong(id, "resume", status, "")),
        }
    }

    /// Changes its limits.
    pub fn update(&self, id: &str, limits: &LinuxResources) -> Result<()> {
        let (record, directory) = self.load(id)?;
        let mut cgroup = match record.status(&directory) {
            Status::Stopped | Status::Creating => {
                return Err(wrong(id, "update", record.status(&directory), ""));
            }
            _ => Cgroup::of_directories(record.cgroup),
        };
        cgroup.set(limits)
    }

    /// What it has used.
    pub fn stats(&self, id: &str) -> Result<Stats> {
        self.cgroup(id)?.stats()
    }

    /// Its processes, as the host sees them.
    pub fn processes(&self, id: &str) -> Result<Vec<Pid>> {
        let (record, _) = self.load(id)?;
        let mut pids = Cgroup::of_directories(record.cgroup.clone()).procs()?;
        // Without a group (an ordinary user, no limits) the first one is all that we know of.
        if pids.is_empty() {
            pids.extend(record.alive());
        }
        Ok(pids)
    }

    /// Its control group.
    pub fn cgroup(&self, id: &str) -> Result<Cgroup> {
        Ok(Cgroup::of_directories(self.load(id)?.0.cgroup))
    }
}
