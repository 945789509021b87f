//! The grader's own control group, and a namespace of it: whatever a check does to control groups, it does below this one, by
//! the same paths as ever; and whatever is in it, is limited together.

use crate::facts;
use anyhow::{Context, Result};
use nix::{
    errno::Errno,
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    fs::{self, File},
    io::Write,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    sync::OnceLock,
    time::{Duration, Instant},
};

/// The name of a grader's group; its process ID follows.
const NAME: &str = "teu-lab-";

/// The group below it on version 2, in which the grader itself is.
const LEAF: &str = "grader";

/// Bytes and processes that all checks may use together, the compiler included.
const LIMITS: [(&str, &str); 4] = [
    ("memory.limit_in_bytes", "6G"),
    ("memory.max", "6G"),
    ("pids.max", "600"),
    ("devices.deny", "b *:* rwm"),
];

/// The group in every tree in which one could be made, until it is dropped.
pub(super) struct Own {
    name: String,
    trees: Vec<Tree>,
}

/// Files as the host sees them, held open: their paths are soon covered by the namespace's.
struct Tree {
    /// The group above.
    above: File,
    /// `cgroup.procs` of the group that this process was in.
    home: File,
}

impl Own {
    /// Makes it and moves in; none where this machine's control groups cannot be changed.
    pub(super) fn enter() -> Result<Option<Own>> {
        let name = format!("{NAME}{}", std::process::id());
        let own = fs::read_to_string("/proc/self/cgroup").context("read /proc/self/cgroup")?;
        let mut trees = Vec::new();
        let mut covered = Vec::new();
        for mount in facts::mounts(std::process::id() as i32) {
            let v2 = mount.kind == "cgroup2";
            if !v2 && mount.kind != "cgroup" {
                continue;
            }
            let Some(path) = within(&own, v2, &mount.source_options, &mount.root) else { continue };
            let home = Path::new(&mount.at).join(path);
            // Version 2 hands nothing down from a group with processes in it; at the top it does.
            let above = if v2 { PathBuf::from(&mount.at) } else { home.clone() };
            let Ok(home) = File::options().write(true).open(home.join("cgroup.procs")) else { continue };
            sweep(&above);
            if v2 {
                hand_down(&above);
            }
            let group = above.join(&name);
            if fs::create_dir(&group).is_err() {
                // Read-only, as in a container: then checks of control groups say so themselves.
                continue;
            }
            prepare(&above, &group, v2)?;
            trees.push(Tree { above: File::open(&above)?, home });
            covered.push((PathBuf::from(mount.at), group, v2));
        }
        if trees.is_empty() {
            return Ok(None);
        }
        let own = Own { name, trees };
        let seen = covered.iter().filter(|(_, group, v2)| !v2 && group.join("freezer.state").exists());
        // A process has one grader.
        let _ = SEEN.set(seen.map(|(at, _, _)| at.clone()).collect());
        unshare(CloneFlags::CLONE_NEWCGROUP).context("make a control group namespace")?;
        for (at, group, v2) in covered {
            mount(Some(&group), &at, None::<&str>, MsFlags::MS_BIND, None::<&str>)
                .with_context(|| format!("cover {}", at.display()))?;
            if v2 {
                // As above: so this process sits in a group below.
                let leaf = at.join(LEAF);
                fs::create_dir(&leaf)?;
                fs::write(leaf.join("cgroup.procs"), "0").context("sit below")?;
                hand_down(&at);
            }
        }
        Ok(Some(own))
    }

    /// Removes the groups below. Returns those that stay.
    pub(super) fn clean(&self) -> Vec<String> {
        let mut stay = Vec::new();
        for tree in &self.trees {
            let group = tree.above().join(&self.name);
            for entry in fs::read_dir(&group).into_iter().flatten().flatten() {
                if entry.file_name() == LEAF || !entry.file_type().is_ok_and(|t| t.is_dir()) {
                    continue;
                }
                remove(&entry.path());
                if entry.path().exists() {
                    stay.push(entry.file_name().to_string_lossy().into_owned());
                }
            }
        }
        stay
    }
}

impl Tree {
    /// By its descriptor the group above is seen as the host sees it.
    fn above(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.above.as_raw_fd()))
    }
}

/// The path of this process's group below a mount of its tree.
fn within(own: &str, v2: bool, options: &str, root: &str) -> Option<PathBuf> {
    let mine = own.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let same = if v2 {
            controllers.is_empty()
        } else {
            !controllers.is_empty() && controllers.split(',').all(|c| options.split(',').any(|o| o == c))
        };
        same.then(|| path.to_owned())
    })?;
    let below = Path::new(&mine).strip_prefix(root).ok()?;
    Some(below.to_owned())
}

/// Sets the limits and moves this process in.
fn prepare(above: &Path, group: &Path, v2: bool) -> Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if !v2 && let Ok(text) = fs::read(above.join(file)) {
            fs::write(group.join(file), text).with_context(|| format!("set {file}"))?;
        }
    }
    for (file, value) in LIMITS {
        if group.join(file).exists() {
            fs::write(group.join(file), value).with_context(|| format!("set {file}"))?;
        }
    }
    fs::write(group.join("cgroup.procs"), "0").with_context(|| format!("enter {}", group.display()))
}

/// Hands down the controllers of version 2 that there are.
fn hand_down(group: &Path) {
    let all = fs::read_to_string(group.join("cgroup.controllers")).unwrap_or_default();
    for controller in all.split_whitespace() {
        // One that cannot be handed down is missing below, and the check that wants it says so.
        let _ = fs::write(group.join("cgroup.subtree_control"), format!("+{controller}"));
    }
}

/// Ends a grader by its control groups, with all that it has started, and removes them: also one that has been frozen, which no
/// signal ends. To be called by who has started it.
pub fn end(grader: u32) -> Result<()> {
    let own = fs::read_to_string("/proc/self/cgroup").context("read /proc/self/cgroup")?;
    for mount in facts::mounts(std::process::id() as i32) {
        let v2 = mount.kind == "cgroup2";
        if !v2 && mount.kind != "cgroup" {
            continue;
        }
        let Some(path) = within(&own, v2, &mount.source_options, &mount.root) else { continue };
        let above = if v2 { PathBuf::from(&mount.at) } else { Path::new(&mount.at).join(path) };
        remove(&above.join(format!("{NAME}{grader}")));
    }
    Ok(())
}

/// Where this grader's groups of version 1 are seen.
static SEEN: OnceLock<Vec<PathBuf>> = OnceLock::new();

/// Thaws what a check has frozen below this grader's group of version 1: frozen, not even SIGKILL ends it.
pub(super) fn thaw() {
    for group in SEEN.get().into_iter().flatten().flat_map(|at| below(at)) {
        // In the other trees there is no such file.
        let _ = fs::write(group.join("freezer.state"), "THAWED");
    }
}

/// A group and those below it.
fn below(group: &Path) -> Vec<PathBuf> {
    let mut all = vec![group.to_owned()];
    let mut at = 0;
    while at < all.len() {
        let inside = fs::read_dir(&all[at]).into_iter().flatten().flatten();
        all.extend(inside.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()));
        at += 1;
    }
    all
}

/// Removes the groups of graders that have ended without doing it.
fn sweep(above: &Path) {
    for entry in fs::read_dir(above).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|n| n.strip_prefix(NAME)).and_then(|n| n.parse::<i32>().ok());
        if pid.is_some_and(|pid| kill(Pid::from_raw(pid), None) == Err(Errno::ESRCH)) {
            remove(&entry.path());
        }
    }
}

/// Removes a group and those below it, with the processes in them.
fn remove(group: &Path) {
    let end = Instant::now() + Duration::from_secs(5);
    while group.exists() && Instant::now() < end {
        for group in below(group).iter().rev() {
            // A frozen process cannot die; in other trees the files are not there.
            let _ = fs::write(group.join("freezer.state"), "THAWED");
            let _ = fs::write(group.join("cgroup.freeze"), "0");
            let members = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
            for pid in members.lines().filter_map(|l| l.parse().ok()).filter(|pid| *pid > 0) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            // Busy until what was killed is gone: then once more.
            let _ = fs::remove_dir(group);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

impl Own {
    /// Moves this process back to where it was, and removes the group with all that is in it.
    pub(super) fn leave(&self) {
        for tree in &self.trees {
            if let Err(error) = (&tree.home).write_all(b"0") {
                eprintln!("lab: cannot leave its control group: {error}");
                continue;
            }
            remove(&tree.above().join(&self.name));
        }
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        self.leave();
    }
}
