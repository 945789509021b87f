//! The start of a container's first process, as its parent sees it.
//!
//! ```text
//!  parent                                child (in new namespaces)
//!  clone() ── clone3 ───────────────────▶ joins its cgroups, waits
//!    writes uid_map, gid_map
//!    (the caller runs hooks)
//!  Cloned::configure() ── go on ────────▶ mounts, devices, pivot, masks,
//!                                         identity
//!  Ready ◀── ready, or the error ──────── waits at the gate
//!  gate::open() ────────────────────────▶ seccomp, execve
//! ```
//!
//! The child's half of the story is [`crate::init`].

use crate::{
    Error, Result,
    error::Doing,
    idmap, init, netdev, nodes,
    plan::{self, Plan},
    seccomp,
    spec::Spec,
    talk::{self, Orders, Talk},
    tuning, userns,
};
use nix::{
    errno::Errno,
    sys::{
        signal::{Signal, kill},
        wait::waitpid,
    },
    unistd::{Pid, geteuid},
};
use std::{
    os::{
        fd::{BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
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
    pub(crate) talk: Talk,
    pub(crate) leash: Leash,
    pub(crate) die_with_me: bool,
    pub(crate) begun: bool,
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

/// What the parent has made ready before the clone, since the child could not any more.
pub(crate) struct Provided {
    /// Mounts with translated owners, and sources that the child may not reach, by their place in the list.
    pub(crate) idmapped: Vec<(usize, OwnedFd)>,
    /// Device nodes for a user namespace.
    pub(crate) nodes: Option<OwnedFd>,
    /// The filter, compiled.
    pub(crate) filter: Option<seccomp::Program>,
    /// The seccomp agent's socket.
    pub(crate) agent: Option<UnixStream>,
}

/// Makes the process (clone3) and writes its id maps. The caller must be single-threaded
/// or the child may wait for locks that no one will release.
pub fn clone(request: &Request) -> Result<Cloned> {
    let plan = Plan::new(request.spec)?;
    let root_makes_user = plan.new_user && geteuid().is_root();
    let idmapped = idmap::trees(request.spec, request.bundle, root_makes_user)?;
    let nodes = if root_makes_user { nodes::make(request.spec)? } else { None };
    // Compiled here and loaded in the child, last of all: what the child computes, it does in copies of our pages.
    let wanted = request.spec.linux().as_ref().and_then(|l| l.seccomp().as_ref());
    let filter = wanted.map(seccomp::compile).transpose()?;
    let agent = wanted.map(seccomp::connect).transpose()?.flatten();
    let provided = Provided { idmapped, nodes, filter, agent };
    let (ours, theirs) = talk::pair()?;
    let born = plan::clone(&plan, request.cgroup, &ours, &theirs)?;
    let Some((pid, pidfd)) = born else {
        drop(ours); // or the child would never see the parent's end closed
        init::run(request, &plan, provided, theirs)
    };
    drop((theirs, provided));
    let leash = Leash(Some(pid));
    step("clone3(2)", || plan.to_string());
    // From here a failure drops the leash, and the child is gone before the caller hears of it.
    if plan.new_user {
        userns::write_maps(pid, request.spec)?;
        step("write(2)", || userns::describe(request.spec, pid));
    }
    if let Some(process) = request.spec.process() {
        tuning::from_outside(pid, process)?;
    }
    if let Some(devices) = request.spec.linux().as_ref().and_then(|l| l.net_devices().as_ref()) {
        netdev::give(pid, devices)?;
    }
    Ok(Cloned { pid, pidfd, talk: ours, leash, die_with_me: false, begun: false })
}

impl Cloned {
    /// Lets the child configure itself and waits until it stands at the gate. `state`
    /// is the container's state JSON, for the hooks that the child runs.
    pub fn configure(self, state: &[u8]) -> Result<Ready> {
        self.go_on(state, None::<fn() -> Result<()>>)
    }

    /// Lets the child begin, which [`Cloned::configure`] does otherwise: what the caller has to do now, it does while
    /// the child makes its mounts.
    pub fn begin(&mut self, state: &[u8]) -> Result<()> {
        self.begun = true;
        self.talk.go(Orders { pause: false, die_with_parent: self.die_with_me }, state)
    }

    /// The same, and calls `mounted` at the moment when everything is mounted in the new root
    /// and the root is not yet changed: there the specification wants the `prestart` and
    /// `createRuntime` hooks (config.md, "POSIX-platform Hooks"). An error of it is the result.
    pub fn configure_with(self, state: &[u8], mounted: impl FnOnce() -> Result<()>) -> Result<Ready> {
        self.go_on(state, Some(mounted))
    }

    /// The container shall not outlive the caller: from `configure` on the kernel kills its first
    /// process, and with it all others, when the caller dies. For a container in the foreground.
    pub fn die_with_me(&mut self) {
        self.die_with_me = true;
    }

    fn go_on(self, state: &[u8], mounted: Option<impl FnOnce() -> Result<()>>) -> Result<Ready> {
        let Cloned { pid, pidfd, talk, leash, die_with_me, begun } = self;
        let orders = Orders { pause: mounted.is_some(), die_with_parent: die_with_me };
        if !begun {
            talk.go(orders, state)?;
        }
        if let Some(mounted) = mounted {
            talk.until_ready(CHILD)?;
            mounted()?;
            talk.go(orders, b"")?;
        }
        let console = talk.until_ready(CHILD)?;
        leash.off();
        Ok(Ready { pid, pidfd, console })
    }
}

const CHILD: &str = "the container's first process";

/// Emits a step of the parent's own.
pub(crate) fn step(call: &str, what: impl FnOnce() -> String) {
    if tracing::enabled!(target: "step", tracing::Level::INFO) {
        tracing::info!(target: "step", section = "7.1", call, "{}", what());
    }
}

/// Kills and reaps a half-made child unless taken off: nothing half-done outlives an error.
pub(crate) struct Leash(pub(crate) Option<Pid>);

impl Leash {
    pub(crate) fn off(mut self) {
        self.0 = None;
    }
}

impl Drop for Leash {
    fn drop(&mut self) {
        // The number cannot mean another process: the child is ours, and nobody has reaped it.
        if let Some(pid) = self.0 {
            let _ = kill(pid, Signal::SIGKILL);
            while waitpid(pid, None) == Err(Errno::EINTR) {}
        }
    }
}

/// clone3's refusals, with what to do about them.
pub(crate) fn explain_clone(errno: Errno, plan: &Plan) -> Error {
    let hint = match errno {
        Errno::EPERM if !plan.new_user && !geteuid().is_root() => {
            return Error::Invalid(
                "an ordinary user may only make namespaces inside a user namespace of their own: add \
                 {\"type\": \"user\"} to linux.namespaces and map your ids in linux.uidMappings and \
                 linux.gidMappings (`namespaces spec --rootless` prints such a configuration)"
                    .into(),
            );
        }
        Errno::EPERM if plan.new_user => {
            " (are user namespaces forbidden by /proc/sys/kernel/unprivileged_userns_clone?)"
        }
        Errno::EPERM => " (this root has no CAP_SYS_ADMIN: is it root of a container?)",
        Errno::ENOSYS => " (clone3 is forbidden by a filter, as docker's default one does)",
        Errno::ENOSPC | Errno::EUSERS => " (the limits are in /proc/sys/user/max_*_namespaces)",
        _ => "",
    };
    Error::Sys { doing: format!("clone a process {plan}{hint}"), errno }
}

/// For messages: what a path of the configuration is relative to.
pub(crate) fn in_bundle(bundle: &Path, path: &Path) -> Result<std::path::PathBuf> {
    if path.is_absolute() {
        return Ok(path.to_owned());
    }
    let bundle = std::path::absolute(bundle).doing(|| format!("find the bundle {}", bundle.display()))?;
    Ok(bundle.join(path))
}
