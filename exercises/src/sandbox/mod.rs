//! Where the reader's code runs: it is a stranger's, perhaps with root's rights, and the machine and the grade must outlive it.
//!
//! | what | so that |
//! |---|---|
//! | [`apart`]: the grader itself leaves the host's mounts and control groups | what is mounted for a check is gone with the grader, even by `kill -9`; a bomb hits one group |
//! | a pid namespace for each check | it sees and can kill nobody but itself; when its first process ends, all do |
//! | a room ([`room`]) for each check: its own root | the course, the reference, the reader's own tree, docker's sockets and the peers are not there |
//! | new network, IPC and UTS namespaces for each check | there is loopback, and no way out |
//! | limits ([`limits`]) on memory, files, processes; no modules, clocks, disks | |
//! | a keeper ([`keeper`]) for each check | it ends with the grader, whatever it does to stay |
//! | limits on the compiler ([`compile`]) too | an answer that is never compiled to its end is an answer |
//!
//! The grader sits in the check's network, IPC, UTS and control group namespaces too, and looks at its processes and
//! mounts from outside, by `/proc`.

mod compiler;
mod groups;
mod keeper;
mod limits;
mod room;

use anyhow::{Context, Result, anyhow, bail};
pub use compiler::compile;
pub use groups::end;
use keeper::Keeper;
use nix::{
    errno::Errno,
    fcntl::OFlag,
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns, unshare},
    sys::{
        signal::{SigSet, Signal, kill},
        socket::{AddressFamily, SockFlag, SockType, socketpair},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{ForkResult, Pid, fork, getegid, geteuid, pipe2},
};
use room::Room;
use std::{
    cell::RefCell,
    fs::{self, File},
    io::Read,
    os::{fd::OwnedFd, unix::process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

const NONE: Option<&str> = None;

/// Where the program is, in the room.
const PROGRAMS: &str = "/opt/teu";

/// The grader's own step aside, to be held as long as it judges.
pub struct Apart {
    groups: Option<Arc<groups::Own>>,
}

impl Apart {
    /// Removes the control groups that a check has left. Returns those that stay.
    pub fn clean(&self) -> Vec<String> {
        unless_ending();
        self.groups.as_ref().map(|own| own.clean()).unwrap_or_default()
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        // The thread that waits for a signal holds the group too: so it is left here, by name.
        if let Some(own) = &self.groups {
            own.leave();
        }
    }
}

/// Takes this process out of the host's mount namespace and, as root, puts it into a control group of its own; an ordinary
/// user does it in a user namespace. To be called before there is a second thread.
pub fn apart() -> Result<Apart> {
    let ordinary = !geteuid().is_root();
    if ordinary {
        let (uid, gid) = (geteuid(), getegid());
        unshare(CloneFlags::CLONE_NEWUSER).context(
            "an ordinary user is not allowed to make user namespaces here (user_namespaces(7)); as root it works",
        )?;
        fs::write("/proc/self/setgroups", "deny").context("give up setgroups")?;
        fs::write("/proc/self/uid_map", format!("{uid} {uid} 1")).context("map the user")?;
        fs::write("/proc/self/gid_map", format!("{gid} {gid} 1")).context("map the group")?;
    }
    unshare(CloneFlags::CLONE_NEWNS).context("leave the host's mount namespace")?;
    mount(NONE, "/", NONE, MsFlags::MS_SLAVE | MsFlags::MS_REC, NONE).context("keep mounts from the host")?;
    let groups = if ordinary { None } else { groups::Own::enter()?.map(Arc::new) };
    if let Some(own) = &groups {
        tidy_when_interrupted(own.clone())?;
    }
    sweep();
    Ok(Apart { groups })
}

/// Ctrl-C is how a `watch` ends: then too the control group goes.
fn tidy_when_interrupted(own: Arc<groups::Own>) -> Result<()> {
    let mut signals = SigSet::empty();
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().for_each(|s| signals.add(s));
    // Threads that are made later block them too, and programs that are started do not (std's Command sees to it).
    signals.thread_block().context("block signals")?;
    std::thread::spawn(move || {
        if let Ok(signal) = signals.wait() {
            ENDING.store(true, Ordering::SeqCst);
            own.leave();
            std::process::exit(128 + signal as i32);
        }
    });
    Ok(())
}

/// Whether this process has been told to end.
static ENDING: AtomicBool = AtomicBool::new(false);

/// Never returns when this process has been told to end: what a program or a compiler did that has just been killed for that
/// is nobody's verdict, and the next moment is the last.
fn unless_ending() {
    while ENDING.load(Ordering::SeqCst) {
        std::thread::park();
    }
}

/// What a check's directory is called; the process ID of the grader follows.
const PLACE: &str = "teu-lab-";

/// A directory of this grader's.
fn place() -> Result<tempfile::TempDir> {
    let prefix = format!("{PLACE}{}.", std::process::id());
    tempfile::Builder::new().prefix(&prefix).tempdir().context("no directory for the check")
}

/// Removes the directories of graders that were killed: what was mounted in them went with them.
fn sweep() {
    for entry in fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|n| n.strip_prefix(PLACE)?.split_once('.')?.0.parse::<i32>().ok());
        if pid.is_some_and(|pid| kill(Pid::from_raw(pid), None) == Err(Errno::ESRCH)) {
            // It may be another user's, or somebody else's turn.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

thread_local! {
    /// The first process of the check that runs on this thread, and its pid namespace.
    static HERE: RefCell<Option<(i32, File)>> = const { RefCell::new(None) };
}

/// A sandbox for one check. Dropped, all that was in it is gone.
pub struct Sandbox {
    first: Pid,
    /// Its mount namespace.
    mounts: Arc<File>,
    /// As long as this end is open, the first process lives: so it does not outlive the grader.
    _life: OwnedFd,
    /// Nor does it if somebody has hold of it.
    keeper: Option<Keeper>,
    /// The check's directory, a small file system of its own.
    files: PathBuf,
    /// What it is in.
    _base: tempfile::TempDir,
    program: PathBuf,
}

impl Sandbox {
    /// Makes one for this program of the engine.
    pub fn new(program: &Path) -> Result<Sandbox> {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS)
            .context("make namespaces for the check")?;
        room::loopback().context("bring the check's loopback device up")?;
        let base = place()?;
        let (files, room) = (base.path().join("check"), base.path().join("room"));
        for dir in [&files, &room] {
            fs::create_dir(dir).with_context(|| format!("make {}", dir.display()))?;
        }
        let size = Some("size=1g,nr_inodes=200k,mode=755");
        mount(Some("lab"), &files, Some("tmpfs"), MsFlags::empty(), size)
            .context("mount the check's files")?;
        let name = program.file_name().context("a program without a name")?;
        let inside = Path::new(PROGRAMS).join(name);
        let begun = first_process(&Room { at: room, files: files.clone(), program: program.to_owned() });
        let (first, life) = begun.inspect_err(|_| unmount(&files))?;
        let ns = |kind: &str| {
            File::open(format!("/proc/{first}/ns/{kind}"))
                .with_context(|| format!("find the check's {kind} namespace"))
        };
        let (mounts, pids) = (Arc::new(ns("mnt")?), ns("pid")?);
        let keeper = Some(Keeper::of(first)?);
        HERE.with_borrow_mut(|here| *here = Some((first.as_raw(), pids)));
        Ok(Sandbox { first, mounts, _life: life, keeper, files, _base: base, program: inside })
    }

    /// The check's directory, at the same path inside and outside.
    pub fn dir(&self) -> &Path {
        &self.files
    }

    /// The program, as it is called inside.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The first process in it: what its namespaces are, nobody has left them.
    pub fn first(&self) -> i32 {
        self.first.as_raw()
    }

    /// Makes a command run in here: in the room, in the check's directory, within the limits, with an environment that
    /// says nothing. It is to be started by [`spawn`].
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear().envs([("PATH", "/usr/bin:/bin"), ("HOME", "/root"), ("LANG", "C.UTF-8")]);
        let (mounts, dir) = (self.mounts.clone(), self.files.clone());
        // SAFETY: between fork and exec only system calls are made, on what was made before.
        unsafe {
            command.pre_exec(move || {
                setns(&*mounts, CloneFlags::CLONE_NEWNS)?;
                nix::unistd::chdir(&dir)?;
                limits::close_the_rest()?;
                limits::apply()
            });
        }
        command
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        HERE.with_borrow_mut(|here| *here = None);
        // With the first process of its pid namespace every other ends, and the kernel reaps them (pid_namespaces(7)).
        let _ = kill(self.first, Signal::SIGKILL);
        drop(self.keeper.take());
        while waitpid(self.first, Some(WaitPidFlag::WNOHANG)) == Ok(WaitStatus::StillAlive) {
            thaw();
        }
        // What it held mounted is gone with the last process in its mount namespace.
        unmount(&self.files);
    }
}

fn unmount(files: &Path) {
    // It is in the grader's own mount namespace, so at the latest it goes with the grader.
    let _ = umount2(files, MntFlags::MNT_DETACH);
}

/// Starts a command in the pid namespace of the check that runs on this thread.
pub fn spawn(command: &mut Command) -> Result<Child> {
    let pids = HERE.with_borrow(|here| here.as_ref().map(|(_, pids)| pids.try_clone()).transpose())?;
    let Some(pids) = pids else { bail!("nothing is run outside of a check") };
    // setns(2) with a pid namespace is for the children of one thread, and after it that thread can start no other.
    let spawned = std::thread::scope(|threads| {
        let start = || {
            setns(&pids, CloneFlags::CLONE_NEWPID).context("join the check's pid namespace")?;
            command.spawn().with_context(|| format!("{:?} does not start", command.get_program()))
        };
        threads.spawn(start).join()
    });
    spawned.unwrap_or_else(|_| Err(anyhow!("a thread that starts a program has panicked")))
}

/// For who waits for the end of what has been killed: a moment's time, and what is frozen thawed, which could not die.
pub fn thaw() {
    groups::thaw();
    // The end of a process can be waited for, or the next look at what is frozen: not both.
    std::thread::sleep(Duration::from_millis(1));
}

/// The processes of the check on this thread that have lost their parent: they are the first one's children now.
pub fn orphans() -> Vec<i32> {
    HERE.with_borrow(|here| here.as_ref().map(|(first, _)| crate::facts::children(*first)))
        .unwrap_or_default()
}

/// The first process of a new pid namespace, in a room. It waits for the other end to close.
fn first_process(room: &Room) -> Result<(Pid, OwnedFd)> {
    // Of a pipe, its process's `/proc/1/fd` would give the reader's code an end to hold open; a socket cannot be opened there.
    let (life, hold) = socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC)
        .context("make a pair of sockets")?;
    let (said, say) = pipe2(OFlag::O_CLOEXEC).context("make a pipe")?;
    let forked = std::thread::scope(|threads| {
        let start = || {
            unshare(CloneFlags::CLONE_NEWPID)?;
            // SAFETY: the child goes on with system calls and glibc's malloc, which fork(2) leaves usable, and executes
            // another program; it takes no lock that another thread of ours could hold.
            match unsafe { fork() }? {
                ForkResult::Parent { child } => Ok(child),
                ForkResult::Child => room.live(&life, &hold, say.try_clone()),
            }
        };
        threads.spawn(start).join()
    });
    let first: Result<Pid, Errno> = forked.unwrap_or(Err(Errno::ENOMEM));
    let first = first.context("start the check's first process")?;
    drop(say);
    let mut trouble = String::new();
    File::from(said).read_to_string(&mut trouble).context("hear of the check's first process")?;
    if !trouble.is_empty() {
        waitpid(first, None).context("reap the check's first process")?;
        bail!("{trouble}");
    }
    Ok((first, hold))
}
