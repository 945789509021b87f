//! Groups below a container's own, for `exec --cgroup`: a container may divide what it has, and whoever puts another
//! process into it may choose the part.

use crate::{
    Error, Result,
    cgroup::{Cgroup, Group},
};
use nix::errno::Errno;
use std::path::{Component, Path};

impl Cgroup {
    /// The groups below it that `exec --cgroup` names: each a path, on v1 with the controllers whose tree it is for
    /// (`cpu,cpuacct:web`).
    pub(crate) fn below(mut self, paths: &[String]) -> Result<Cgroup> {
        for path in paths {
            let (controllers, path) = path.split_once(':').unwrap_or(("", path));
            let below = path.trim_start_matches('/');
            if Path::new(below).components().any(|c| !matches!(c, Component::Normal(_))) {
                return Err(Error::Path {
                    path: path.into(),
                    why: format!("is a bad sub cgroup path: {path} is not a sub cgroup path, it leads out"),
                });
            }
            let wanted: Vec<&str> = controllers.split(',').filter(|c| !c.is_empty()).collect();
            let has = |group: &Group, name: &&str| group.controllers.iter().any(|c| c == name);
            let spare = |name: &str| self.spare.iter().any(|(label, _)| label.split(',').any(|c| c == name));
            if let Some(name) = wanted.iter().find(|n| !spare(n) && !self.groups.iter().any(|g| has(g, n))) {
                return Err(Error::Path {
                    path: path.into(),
                    why: format!("is for an unknown controller {name}"),
                });
            }
            if let Some((_, group)) =
                self.spare.iter().find(|(label, _)| wanted.iter().any(|n| label.contains(n)))
            {
                let procs = group.join(below).join("cgroup.procs");
                let doing = format!("adding pid to {}: no such file or directory", procs.display());
                return Err(Error::Sys { doing, errno: Errno::ENOENT });
            }
            for group in &mut self.groups {
                if wanted.is_empty() || wanted.iter().any(|name| has(group, name)) {
                    let to = group.path.join(below);
                    if !to.is_dir() {
                        let procs = to.join("cgroup.procs");
                        let doing = format!("adding pid to {}: no such file or directory", procs.display());
                        return Err(Error::Sys { doing, errno: Errno::ENOENT });
                    }
                    group.path = to;
                }
            }
        }
        Ok(if paths.is_empty() { self } else { Cgroup::of(self.groups) })
    }
}
