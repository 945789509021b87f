//! A stage: directories and files that look like control groups of a version that this machine may not have. A program
//! that is told of them by its `/proc/self/mountinfo` reads the numbers that were put there, and what it writes
//! stays there to be looked at. (That the kernel does with it what is meant, is checked on real groups.)

use crate::{course::Case, fence};
use anyhow::{Context, Result};
use nix::sched::CloneFlags;
use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The stage, in a directory.
pub struct Stage {
    dir: PathBuf,
    mountinfo: String,
    cgroup: String,
    /// The name of the group, the same in every tree.
    pub group: String,
}

impl Stage {
    /// An empty one; `name` is new in the case's directory.
    pub fn new(case: &Case, name: &str) -> Result<Stage> {
        let dir = case.dir.join(name);
        fs::create_dir(&dir).context("make a stage")?;
        let group = format!("lab-{}", case.dice.word());
        Ok(Stage { dir, mountinfo: String::new(), cgroup: String::new(), group })
    }

    /// A tree of version 1 for one controller, with these files in the group.
    pub fn v1(&mut self, controller: &str, files: &[(&str, &str)]) -> Result<()> {
        let at = self.tree(controller)?;
        self.line(&at, "cgroup", &format!("rw,{controller}"));
        let number = self.cgroup.lines().count() + 1;
        let _ = writeln!(self.cgroup, "{number}:{controller}:/"); // into a String: cannot fail
        self.fill(&at, &[("cgroup.procs", ""), ("tasks", "")])?;
        self.fill(&at, files)
    }

    /// The tree of version 2 with these controllers, all of them handed down, and these files in the group.
    pub fn v2(&mut self, controllers: &str, files: &[(&str, &str)]) -> Result<()> {
        let at = self.tree("unified")?;
        self.line(&at, "cgroup2", "rw");
        self.cgroup.push_str("0::/\n");
        fs::write(at.join("cgroup.controllers"), controllers)?;
        fs::write(at.join("cgroup.subtree_control"), controllers)?;
        self.fill(&at, &[("cgroup.procs", ""), ("cgroup.kill", ""), ("cgroup.controllers", controllers)])?;
        self.fill(&at, files)
    }

    fn tree(&self, name: &str) -> Result<PathBuf> {
        let at = self.dir.join(name);
        fs::create_dir_all(at.join(&self.group)).context("make a group on the stage")?;
        Ok(at)
    }

    fn line(&mut self, at: &Path, kind: &str, options: &str) {
        let id = 900 + self.mountinfo.lines().count();
        let at = at.display().to_string().replace('\\', "\\134").replace(' ', "\\040");
        let _ = writeln!(self.mountinfo, "{id} 1 0:{id} / {at} rw - {kind} {kind} {options}");
    }

    fn fill(&self, tree: &Path, files: &[(&str, &str)]) -> Result<()> {
        files.iter().try_for_each(|(file, text)| {
            fs::write(tree.join(&self.group).join(file), text).with_context(|| format!("write {file}"))
        })
    }

    /// A file of the group in the tree of this controller (`unified` is version 2's).
    pub fn file(&self, tree: &str, file: &str) -> PathBuf {
        self.dir.join(tree).join(&self.group).join(file)
    }

    /// What is in it now.
    pub fn text(&self, tree: &str, file: &str) -> String {
        fs::read_to_string(self.file(tree, file)).unwrap_or_default().trim().to_owned()
    }

    /// The root of the tree of this controller.
    pub fn root(&self, tree: &str) -> PathBuf {
        self.dir.join(tree)
    }

    /// Shows the command this stage instead of the machine's groups.
    pub fn around(&self, command: &mut Command) -> Result<()> {
        let mut over = Vec::new();
        for (name, text) in [("mountinfo", &self.mountinfo), ("cgroup", &self.cgroup)] {
            let file = self.dir.join(name);
            fs::write(&file, text).context("write what /proc is to say")?;
            over.push((file, Path::new("/proc/self").join(name)));
        }
        fence::around(command, CloneFlags::empty(), over);
        Ok(())
    }
}

/// Hides the machine's version 2 tree from the command, so that it does what it would where there is none.
pub fn without_v2(case: &Case, command: &mut Command) -> Result<()> {
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").context("read /proc/self/mountinfo")?;
    let kept: Vec<&str> = mountinfo.lines().filter(|line| !line.contains(" - cgroup2 ")).collect();
    let file = case.dir.join("mountinfo-v1");
    fs::write(&file, kept.join("\n") + "\n").context("write what /proc is to say")?;
    fence::around(command, CloneFlags::empty(), vec![(file, "/proc/self/mountinfo".into())]);
    Ok(())
}
