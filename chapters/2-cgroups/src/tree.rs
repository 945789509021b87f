//! Groups as directories: made with what is above them, listed with what is below.

use crate::{
    Error, Result,
    error::Doing,
    hierarchy::{Hierarchy, Version},
    setting::write,
    v2,
};
use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Makes the group's directory and those above it, each ready to be used.
pub(crate) fn make(tree: &Hierarchy, path: &Path) -> Result<()> {
    let mut missing: Vec<&Path> = path.ancestors().take_while(|p| !p.is_dir()).collect();
    let existed = missing.is_empty();
    while let Some(next) = missing.pop() {
        match fs::create_dir(next) {
            // Another container's, in between.
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
            other => other.doing(|| format!("making the cgroup {}", next.display()))?,
        }
        // A new v1 cpuset has no processors and no memory, and a process that has none cannot be put into it.
        if tree.version == Version::V1 && tree.controllers.iter().any(|c| c == "cpuset") {
            for file in ["cpuset.cpus", "cpuset.mems"] {
                let from = next.with_file_name(file);
                let above = fs::read_to_string(&from).doing(|| format!("reading {}", from.display()))?;
                write(&next.join(file), above.trim())?;
            }
        }
    }
    if existed {
        check_free(path)?;
    }
    if tree.version == Version::V2 {
        v2::delegate(&tree.mount, &tree.own, path)?;
    }
    Ok(())
}

/// A group with processes in it is someone's: neither shared nor, when things go wrong, killed.
pub(crate) fn check_free(path: &Path) -> Result<()> {
    let inside = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
    match inside.lines().count() {
        0 => Ok(()),
        n => Err(Error::Path {
            path: path.display().to_string(),
            why: format!("is taken: it holds {n} processes already"),
        }),
    }
}

/// A group and those below it, each before its children.
pub(crate) fn below(group: &Path) -> Vec<PathBuf> {
    let mut all = vec![group.to_owned()];
    let mut at = 0;
    while at < all.len() {
        let children = fs::read_dir(&all[at]).into_iter().flatten().flatten();
        let directories = children.filter(|e| e.file_type().is_ok_and(|t| t.is_dir()));
        all.extend(directories.map(|e| e.path()).collect::<Vec<_>>());
        at += 1;
    }
    all
}

/// Asks until it is so, at growing distances, for no longer than `limit`.
pub(crate) fn wait_until(
    limit: Duration,
    mut done: impl FnMut() -> Result<bool>,
    mut failed: impl FnMut(),
) -> Result<bool> {
    let start = Instant::now();
    let mut pause = Duration::from_micros(50);
    while !done()? {
        if start.elapsed() > limit {
            return Ok(false);
        }
        failed();
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
    Ok(true)
}
