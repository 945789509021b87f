//! The control groups of this machine, as the kernel shows them.

use crate::facts;
use anyhow::{Context, Result};
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, geteuid},
};
use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// A group by its name, in every tree that it is in. What is left of it is removed when this is dropped.
pub struct Groups {
    name: String,
    trees: Vec<Tree>,
}

/// A mounted tree of groups.
#[derive(Clone, Debug)]
pub struct Tree {
    /// Where.
    pub at: PathBuf,
    /// Its controllers; of version 2, those at the root.
    pub controllers: Vec<String>,
    /// Whether it is version 2's.
    pub v2: bool,
}

/// The trees that are mounted here.
pub fn trees() -> Vec<Tree> {
    let mut all: Vec<Tree> = Vec::new();
    for mount in facts::mounts(std::process::id() as i32) {
        let v2 = mount.kind == "cgroup2";
        if !v2 && mount.kind != "cgroup" {
            continue;
        }
        let at = PathBuf::from(&mount.at);
        // The grader's own group may be mounted over the tree.
        if all.iter().any(|t| t.at == at) {
            continue;
        }
        let text = fs::read_to_string(at.join("cgroup.controllers")).unwrap_or_default();
        let words = if v2 { text.replace(' ', ",") } else { mount.source_options.clone() };
        let controller = |word: &&str| v2 && !word.is_empty() || CONTROLLERS.contains(word);
        let controllers: Vec<String> =
            words.trim().split(',').filter(controller).map(str::to_owned).collect();
        // A named tree of version 1 (systemd's own) limits nothing.
        if !v2 && controllers.is_empty() {
            continue;
        }
        all.push(Tree { at, controllers, v2 });
    }
    all
}

/// The controllers among the mount options of a version 1 tree.
const CONTROLLERS: [&str; 8] = ["memory", "cpu", "cpuacct", "cpuset", "pids", "freezer", "blkio", "devices"];

impl Groups {
    /// The group of this name (without the leading slash), which need not be there yet.
    pub fn named(name: &str) -> Groups {
        Groups { name: name.to_owned(), trees: trees() }
    }

    /// Its path, as it is given to the program.
    pub fn path(&self) -> String {
        format!("/{}", self.name)
    }

    /// Its directory in the tree of this controller.
    pub fn directory(&self, controller: &str) -> Option<PathBuf> {
        let tree = self.trees.iter().find(|t| t.controllers.iter().any(|c| c == controller))?;
        Some(tree.at.join(&self.name))
    }

    /// Whether this controller is of version 2 here; none if it is not here.
    pub fn is_v2(&self, controller: &str) -> Option<bool> {
        self.trees.iter().find(|t| t.controllers.iter().any(|c| c == controller)).map(|t| t.v2)
    }

    /// What a file of it says.
    pub fn text(&self, controller: &str, file: &str) -> Option<String> {
        let text = fs::read_to_string(self.directory(controller)?.join(file)).ok()?;
        Some(text.trim().to_owned())
    }

    /// Its directories that are there.
    pub fn there(&self) -> Vec<PathBuf> {
        self.trees.iter().map(|t| t.at.join(&self.name)).filter(|d| d.is_dir()).collect()
    }

    /// Makes it in every tree, ready to take a process.
    pub fn make(&self) -> Result<()> {
        for tree in &self.trees {
            let at = tree.at.join(&self.name);
            fs::create_dir(&at).with_context(|| format!("make {}", at.display()))?;
            for file in ["cpuset.cpus", "cpuset.mems"] {
                if !tree.v2 && at.join(file).is_file() {
                    fs::write(at.join(file), fs::read(tree.at.join(file))?)?;
                }
            }
        }
        Ok(())
    }

    /// Puts a process into it, in every tree in which it is there.
    pub fn put(&self, pid: i32) -> Result<()> {
        self.there().iter().try_for_each(|at| {
            fs::write(at.join("cgroup.procs"), pid.to_string())
                .with_context(|| format!("enter {}", at.display()))
        })
    }

    /// Lets frozen processes go on: they could not die either.
    pub fn thaw(&self) {
        for at in self.there() {
            // On version 2, and in other trees, one of the files is not there.
            let _ = fs::write(at.join("freezer.state"), "THAWED");
            let _ = fs::write(at.join("cgroup.freeze"), "0");
        }
    }

    /// The processes in it and below.
    pub fn processes(&self) -> Vec<i32> {
        let mut all: Vec<i32> =
            self.there().iter().flat_map(|at| below(at)).flat_map(|at| members(&at)).collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

/// A group and those below it, the deepest last.
fn below(group: &Path) -> Vec<PathBuf> {
    let mut all = vec![group.to_owned()];
    let mut at = 0;
    while at < all.len() {
        let inside = fs::read_dir(&all[at]).into_iter().flatten().flatten();
        all.extend(
            inside.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()).collect::<Vec<_>>(),
        );
        at += 1;
    }
    all
}

fn members(group: &Path) -> Vec<i32> {
    let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|l| l.parse().ok()).collect()
}

impl Drop for Groups {
    fn drop(&mut self) {
        let end = Instant::now() + crate::run::limit(Duration::from_secs(5));
        while !self.there().is_empty() && Instant::now() < end {
            self.thaw();
            for at in self.there() {
                for pid in below(&at).iter().flat_map(|g| members(g)).filter(|pid| *pid > 0) {
                    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
                }
                for group in below(&at).iter().rev() {
                    // Busy until what was killed is gone: then once more.
                    let _ = fs::remove_dir(group);
                }
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Why no group can be made here, if so.
pub fn cannot_make() -> Option<String> {
    let all = trees();
    if all.is_empty() {
        return Some("no control groups are mounted on this machine".into());
    }
    let writable = |tree: &Tree| nix::unistd::access(&tree.at, nix::unistd::AccessFlags::W_OK).is_ok();
    if !geteuid().is_root() {
        return Some("control groups of its own can only be made by root here".into());
    }
    (!all.iter().any(writable)).then(|| "the control groups of this machine are read-only here".into())
}
