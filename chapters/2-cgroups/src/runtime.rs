//! The container lifecycle (OCI runtime-spec, runtime.md): what `runc` does, as a library.

use crate::{Result, cgroup::Cgroup, state::State, stats::Stats};
use namespaces::process::Stdio;
use nix::{sys::signal::Signal, unistd::Pid};
use oci_spec::runtime::{LinuxResources, Process};
use std::{
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

/// Containers, by the directory that holds their state (`--root`).
pub struct Runtime {
    root: PathBuf,
}

/// How a container is made, beyond its bundle.
pub struct CreateOptions<'a> {
    /// Its standard streams.
    pub stdio: Stdio<'a>,
    /// How many descriptors from 3 on it inherits.
    pub preserve_fds: u32,
    /// `MS_MOVE` and chroot instead of pivot_root.
    pub no_pivot: bool,
    /// Keep the caller's session keyring.
    pub no_new_keyring: bool,
}

/// A container that waits for its start. Its first process is the caller's child.
pub struct Created {
    /// Its first process, as the caller sees it.
    pub pid: Pid,
    /// A descriptor for it.
    pub pidfd: OwnedFd,
    /// The master side of its terminal, if it has one.
    pub console: Option<OwnedFd>,
    /// Its control group.
    pub cgroup: Cgroup,
}

impl Runtime {
    /// Containers whose state is kept below `root`, which is made when it is missing.
    pub fn new(root: impl Into<PathBuf>) -> Runtime {
        Runtime { root: root.into() }
    }

    /// Where the state is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Makes the container of a bundle, all but its program. The caller must be single-threaded.
    pub fn create(&self, id: &str, bundle: &Path, options: &CreateOptions) -> Result<Created> {
        let _ = (id, bundle, options);
        todo!()
    }

    /// Starts the program of a created container.
    pub fn start(&self, id: &str) -> Result<()> {
        let _ = id;
        todo!()
    }

    /// Its state now.
    pub fn state(&self, id: &str) -> Result<State> {
        let _ = id;
        todo!()
    }

    /// All containers.
    pub fn list(&self) -> Result<Vec<State>> {
        todo!()
    }

    /// Sends a signal to its first process, or to all.
    pub fn kill(&self, id: &str, signal: Signal, all: bool) -> Result<()> {
        let _ = (id, signal, all);
        todo!()
    }

    /// Removes what is left of a stopped container; with `force`, of a running one, killed first.
    pub fn delete(&self, id: &str, force: bool) -> Result<()> {
        let _ = (id, force);
        todo!()
    }

    /// Starts another process in a running container; it is the caller's child.
    pub fn exec(
        &self,
        id: &str,
        process: &Process,
        stdio: Stdio,
        preserve_fds: u32,
    ) -> Result<namespaces::enter::Running> {
        let _ = (id, process, stdio, preserve_fds);
        todo!()
    }

    /// Stops all its processes where they are.
    pub fn pause(&self, id: &str) -> Result<()> {
        let _ = id;
        todo!()
    }

    /// Lets them go on.
    pub fn resume(&self, id: &str) -> Result<()> {
        let _ = id;
        todo!()
    }

    /// Changes its limits.
    pub fn update(&self, id: &str, limits: &LinuxResources) -> Result<()> {
        let _ = (id, limits);
        todo!()
    }

    /// What it has used.
    pub fn stats(&self, id: &str) -> Result<Stats> {
        let _ = id;
        todo!()
    }

    /// Its control group.
    pub fn cgroup(&self, id: &str) -> Result<Cgroup> {
        let _ = id;
        todo!()
    }
}
