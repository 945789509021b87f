//! Other limits for a group that is in use.

use crate::{
    Error, Result,
    cgroup::{Cgroup, Group, label},
    hierarchy::{self, Hierarchy},
    plan::plan,
    setting::{Setting, write},
    tree,
};
use nix::unistd::Pid;
use oci_spec::runtime::LinuxResources;
use std::{fs, path::Path};

impl Cgroup {
    /// Changes limits; what is `None` stays.
    pub fn set(&mut self, limits: &LinuxResources) -> Result<()> {
        let trees = hierarchy::detect()?;
        let settings = plan(&trees, limits)?;
        self.check_before_update(limits)?;
        self.join_missing(&trees, &settings)?;
        self.apply(&settings, limits)
    }

    /// A limit below what is used makes the kernel kill. The bundle may ask for an error instead.
    fn check_before_update(&self, limits: &LinuxResources) -> Result<()> {
        let Some(memory) = limits.memory().filter(|m| m.check_before_update() == Some(true)) else {
            return Ok(());
        };
        let used = self.stats()?.memory.usage.usage;
        let what = if memory.swap().is_some() { "memory+swap limit" } else { "memory limit" };
        match memory.limit() {
            Some(limit) if limit > 0 && used > limit.unsigned_abs() => Err(Error::Limit(format!(
                "rejecting {what}: {limit} is below the {used} that are used now, and checkBeforeUpdate asks to refuse that"
            ))),
            _ => Ok(()),
        }
    }

    /// On v1, a limit may ask for a tree in which the group has no directory yet: it gets one, and the processes
    /// that run already go there too.
    fn join_missing(&mut self, trees: &[Hierarchy], settings: &[Setting]) -> Result<()> {
        for setting in settings.iter().filter(|s| !s.optional) {
            let named = |label: &str| label.split(',').any(|c| c == setting.controller);
            let Some(at) = self.spare.iter().position(|(label, _)| named(label)) else { continue };
            let (name, path) = self.spare.swap_remove(at);
            let Some(tree) = trees.iter().find(|t| label(t.version, &t.controllers) == name) else {
                continue;
            };
            tree::make(tree, &path, true)?;
            self.move_into(&path)?;
            self.groups.push(Group::open(tree.version, &tree.controllers, path));
        }
        Ok(())
    }

    /// A process may fork while we move others: again, until none is left outside.
    fn move_into(&self, directory: &Path) -> Result<()> {
        let file = directory.join("cgroup.procs");
        for _ in 0..100 {
            let inside = fs::read_to_string(&file).unwrap_or_default();
            let is_inside = |pid: &Pid| inside.lines().any(|l| l == pid.to_string());
            let outside: Vec<Pid> = self.procs()?.into_iter().filter(|p| !is_inside(p)).collect();
            if outside.is_empty() {
                return Ok(());
            }
            for pid in outside {
                // One that has ended is not outside any more.
                let _ = write(&file, &pid.to_string());
            }
        }
        Err(Error::Limit(format!(
            "the group forks faster than its processes can be moved into {}",
            directory.display()
        )))
    }
}
