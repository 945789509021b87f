//! What is done to a container while it runs: another process in it, a pause, other limits, a look at
//! its counters.

use crate::{
    Error, Result,
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

/// How a process is put into a container, beyond its description.
#[derive(Default)]
pub struct ExecOptions {
    /// How many descriptors from 3 on it inherits.
    pub preserve_fds: u32,
    /// Into a paused container too: it runs when the container does.
    pub ignore_paused: bool,
    /// Groups below the container's: `path`, or on v1 `controllers:path`.
    pub cgroups: Vec<String>,
}

impl Runtime {
    /// Starts another process in a running container; it is the caller's child.
    pub fn exec(
        &self,
        id: &str,
        process: &Process,
        stdio: Stdio,
        options: &ExecOptions,
    ) -> Result<enter::Running> {
        let (record, directory) = self.load(id)?;
        let status = record.status(&directory);
        let target = match (status, record.alive()) {
            // runc, too, lets a process into a container that waits for its start.
            (Status::Running | Status::Created, Some(pid)) => pid,
            (Status::Paused, Some(pid)) if options.ignore_paused => pid,
            (Status::Paused, _) => return Err(Error::Paused(id.into())),
            _ => return Err(wrong(id, "exec in", status, "")),
        };
        let file = directory.join("config.json");
        let text = fs::read(&file).doing(|| format!("reading {}", file.display()))?;
        let spec = spec::parse(&text, &file)?;
        let state = serde_json::to_vec(&record.state(&directory)).unwrap_or_default();
        let cgroup = Cgroup::of_directories(record.cgroup).below(&options.cgroups)?;
        // Beside the first process, which may have moved down by now (systemd and docker in a container do): a v2 group
        // that has handed controllers to groups below takes no process of its own any more.
        let asked = !options.cgroups.is_empty();
        let beside = cgroup
            .birth()
            .filter(|_| !asked)
            .and_then(|_| hierarchy::unified_of(target))
            .and_then(|d| File::open(d).ok());
        let tasks = cgroup.tasks()?;
        let tasks: Vec<BorrowedFd> = tasks.iter().map(AsFd::as_fd).collect();
        let cloned = enter::clone(&enter::Request {
            target,
            process,
            linux: spec.linux().as_ref(),
            state: &state,
            stdio,
            cgroup: beside.as_ref().map(AsFd::as_fd).or(cgroup.birth()),
            tasks: &tasks,
            preserve_fds: options.preserve_fds,
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
