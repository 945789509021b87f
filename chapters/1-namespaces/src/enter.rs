//! Joining the namespaces of a process that runs already: `exec`.
//!
//! One setns(2) on a pidfd joins all of them at once, and the kernel takes the right order. But
//! a pid namespace is only joined by children, so here too an usher joins, and clones ([`crate::plan`]).

use crate::{
    Result, descriptors,
    error::Doing,
    identity, label, plan,
    process::{Cloned, Leash, Stdio, step},
    program::{self, Program},
    scheduling, seccomp, show, sys,
    talk::{self, Orders, Talk, Word},
    terminal, tuning,
};
use nix::{
    fcntl::{OFlag, open},
    sched::{CloneFlags, setns},
    sys::{
        prctl,
        stat::{Mode, umask},
    },
    unistd::{Pid, chroot, fchdir, setsid},
};
use oci_spec::runtime::{Linux, Process};
use std::{
    convert::Infallible,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
};

/// What is to be started beside the container's first process.
pub struct Request<'a> {
    /// The process whose namespaces and root are joined.
    pub target: Pid,
    /// Program, environment, user, capabilities ... (config.md, Process).
    pub process: &'a Process,
    /// What of the container's configuration holds for it too: filter, personality, memory policy.
    pub linux: Option<&'a Linux>,
    /// The container's state JSON, for a seccomp agent.
    pub state: &'a [u8],
    /// Its standard streams.
    pub stdio: Stdio<'a>,
    /// A cgroup v2 directory to be born in.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// Open `tasks` files of cgroup v1 groups, into each of which the child first writes "0", itself.
    pub tasks: &'a [BorrowedFd<'a>],
    /// How many descriptors from 3 on it inherits besides.
    pub preserve_fds: u32,
}

/// A process that runs in a container's namespaces.
pub struct Running {
    /// Its process ID, as the caller sees it. It is the caller's child.
    pub pid: Pid,
    /// A descriptor for it.
    pub pidfd: OwnedFd,
    /// The master side of its terminal, if it has one.
    pub console: Option<OwnedFd>,
}

/// What is opened before anything is joined: behind, the same paths mean something else.
struct Doors {
    /// The target: its namespaces.
    target: OwnedFd,
    /// Its root, which need not be the root of its mount namespace.
    root: OwnedFd,
    /// Our procfs.
    proc: OwnedFd,
    /// The namespaces in which it differs from us.
    others: CloneFlags,
}

/// Makes a child in the target's namespaces that waits.
pub fn clone(request: &Request) -> Result<Cloned> {
    let target = request.target;
    let look = |path: String| {
        open(path.as_str(), OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
            .doing(|| format!("open {path} (does process {target} still run?)"))
    };
    let doors = Doors {
        target: sys::pidfd_open(target).doing(|| format!("find the process {target}"))?,
        root: look(format!("/proc/{target}/root"))?,
        proc: look("/proc".into())?,
        others: show::differing(target)?,
    };
    let filter = request.linux.and_then(|l| l.seccomp().as_ref());
    let agent = filter.map(seccomp::connect).transpose()?.flatten();
    let (ours, theirs) = talk::pair()?;
    let born = plan::by_usher(&ours, &theirs, || {
        // The container's processes will see the child at once: they must not be able to reach
        // this program through it, as /proc/PID/exe or by ptrace(2) (CVE-2019-5736).
        prctl::set_dumpable(false).doing(|| "make this process undumpable".into())?;
        scheduling::all_cpus();
        scheduling::affinity(request.process, true)?;
        // The cgroup namespace is joined last, by the child: from inside it the kernel would
        // refuse to put a child into a group that only the outside can see.
        join(&doors, doors.others - CloneFlags::CLONE_NEWCGROUP)?;
        sys::clone3(sys::CLONE_PARENT, request.cgroup).doing(|| "clone a process into the container".into())
    })?;
    let Some((pid, pidfd)) = born else {
        drop(ours);
        let Err(error) = run(request, &doors, agent, &theirs);
        theirs.fail(&error);
        sys::exit_now(1)
    };
    let leash = Leash(Some(pid));
    if let Some(mask) = scheduling::initial_mask(request.process) {
        step("sched_setaffinity(2)", || format!("affinity: {mask:#x}"));
    }
    step("setns(2)", || format!("{} of process {target}", show::names(doors.others)));
    tuning::from_outside(pid, request.process)?;
    Ok(Cloned { pid, pidfd, talk: ours, leash, die_with_me: false, begun: false })
}

/// Lets it configure itself and exec. The error is the one of the exec.
pub fn exec(cloned: Cloned) -> Result<Running> {
    let Cloned { pid, pidfd, talk, leash, die_with_me, .. } = cloned;
    talk.go(Orders { pause: false, die_with_parent: die_with_me }, b"")?;
    let console = talk.until_ready("the process that was to join the container")?;
    talk.until_exec()?;
    leash.off();
    Ok(Running { pid, pidfd, console })
}

fn join(doors: &Doors, which: CloneFlags) -> Result<()> {
    if which.is_empty() {
        return Ok(()); // to setns(2), no flag would mean "any"
    }
    setns(&doors.target, which).doing(|| format!("join the namespaces {}", show::names(which)))
}

/// The child's steps: those of [`crate::init`], without what the container has already.
fn run(request: &Request, doors: &Doors, agent: Option<UnixStream>, talk: &Talk) -> Result<Infallible> {
    let process = request.process;
    let mut needed = vec![talk.as_raw_fd(), doors.target.as_raw_fd(), doors.root.as_raw_fd()];
    needed.push(doors.proc.as_raw_fd());
    needed.extend(agent.as_ref().map(|socket| socket.as_raw_fd()));
    if let Stdio::Fds(fds) = request.stdio {
        needed.extend(fds.map(|fd| fd.as_raw_fd()));
    }
    descriptors::join_groups(request.tasks)?;
    descriptors::close_others(&needed, request.preserve_fds)?;
    let (orders, _) = talk.wait_go()?;
    join(doors, doors.others & CloneFlags::CLONE_NEWCGROUP)?;
    label::on_exec(&doors.proc, process)?;
    scheduling::apply(process, request.linux)?;
    let filter = request.linux.and_then(|l| l.seccomp().as_ref());
    let agent = match (filter, agent) {
        (Some(filter), Some(socket)) => Some(seccomp::agent(filter, socket, &doors.proc, request.state)?),
        _ => None,
    };
    scheduling::affinity(process, false)?;
    fchdir(&doors.root).and_then(|()| chroot(".")).doing(|| "enter the container's root".into())?;
    if doors.others.contains(CloneFlags::CLONE_NEWUSER) {
        identity::root_of_the_namespace(process, false)?;
    }
    let _ = sys::join_new_keyring();
    setsid().doing(|| "start a session".into())?;
    umask(Mode::empty());
    let terminal = match process.terminal() {
        Some(true) => Some(terminal::open(&doors.root, process)?),
        _ => None,
    };
    // Closed for good: nothing open may lead out when the container's paths are looked up.
    for door in [&doors.target, &doors.root, &doors.proc] {
        let _ = nix::unistd::close(door.as_raw_fd());
    }
    let entered = program::enter_directory(process.cwd());
    match &terminal {
        Some(terminal) => terminal::take(&terminal.slave)?,
        None => terminal::streams(request.stdio)?,
    }
    identity::user(process, false, talk)?;
    entered.or_else(|_| program::enter_directory(process.cwd()))?;
    let program = Program::find(process)?;
    let filter = filter.map(seccomp::compile).transpose()?.map(|f| f.tell(agent));
    descriptors::die_with_parent(orders)?;
    talk.say(Word::Ready, b"", terminal.as_ref().map(|t| t.master.as_fd()))?;
    drop(terminal);
    descriptors::restore_signals()?;
    identity::lock(process, filter.as_ref())?;
    Err(program.exec())
}
