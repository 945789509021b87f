//! One control group, on v1, hybrid and v2 alike (cgroups(7)).

use crate::{Result, stats::Stats};
use nix::unistd::Pid;
use oci_spec::runtime::LinuxResources;
use std::os::fd::BorrowedFd;

/// A control group; on v1, the directory of that name in every hierarchy in use.
pub struct Cgroup {
    // private
}

impl Cgroup {
    /// Makes the group at `path` (`linux.cgroupsPath`: absolute, from the mount point; relative,
    /// below the caller's own group) and sets its limits.
    pub fn create(path: &str, limits: Option<&LinuxResources>) -> Result<Cgroup> {
        let _ = (path, limits);
        todo!()
    }

    /// The group at `path`, made before.
    pub fn open(path: &str) -> Result<Cgroup> {
        let _ = path;
        todo!()
    }

    /// The directory to be born in, on v2 only (`CLONE_INTO_CGROUP`).
    pub fn birth(&self) -> Option<BorrowedFd<'_>> {
        todo!()
    }

    /// Puts a process into the group.
    pub fn attach(&self, pid: Pid) -> Result<()> {
        let _ = pid;
        todo!()
    }

    /// Changes limits; what is `None` stays.
    pub fn set(&self, limits: &LinuxResources) -> Result<()> {
        let _ = limits;
        todo!()
    }

    /// The processes in the group and below it.
    pub fn procs(&self) -> Result<Vec<Pid>> {
        todo!()
    }

    /// Stops all of them where they are, or lets them go on.
    pub fn freeze(&self, frozen: bool) -> Result<()> {
        let _ = frozen;
        todo!()
    }

    /// Kills everything in the group (`cgroup.kill`, or freeze, kill each, thaw).
    pub fn kill(&self) -> Result<()> {
        todo!()
    }

    /// What it has used.
    pub fn stats(&self) -> Result<Stats> {
        todo!()
    }

    /// How many processes the kernel killed here for lack of memory.
    pub fn oom_kills(&self) -> Result<u64> {
        todo!()
    }

    /// The group's directories by controller, for people to look at.
    pub fn directories(&self) -> Vec<(String, std::path::PathBuf)> {
        todo!()
    }

    /// Removes the group and the groups below it. It must be empty of processes.
    pub fn remove(self) -> Result<()> {
        todo!()
    }
}
