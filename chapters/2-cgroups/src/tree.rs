//! Groups as directories: made with what is above them, listed with what is below.

use crate::{
    Error, Result,
    error::Doing,
    hierarchy::{Hierarchy, Version},
    setting::write,
    v2,
};
use std::{
    fs::{self, File},
    io::{self, ErrorKind, Read},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Makes the group's directory and those above it, each ready to be used. With `share`, the groups above a v2 group
/// hand their controllers down.
pub(crate) fn make(tree: &Hierarchy, path: &Path, share: bool) -> Result<()> {
    if !make_directory(tree, path)? {
        check_free(path)?;
    }
    if share && tree.version == Version::V2 {
        v2::delegate(&tree.mount, &tree.own, path)?;
    }
    Ok(())
}

/// Whether it was not there before.
fn make_directory(tree: &Hierarchy, path: &Path) -> Result<bool> {
    let mut made = fs::create_dir(path);
    if let (Err(e), Some(above)) = (&made, path.parent())
        && e.kind() == ErrorKind::NotFound
        && above.starts_with(&tree.mount)
    {
        make_directory(tree, above)?;
        made = fs::create_dir(path);
    }
    match made {
        Err(e) if e.kind() == ErrorKind::AlreadyExists => return Ok(false),
        other => other.doing(|| format!("making the cgroup {}", path.display()))?,
    }
    if tree.version == Version::V1 && tree.controllers.iter().any(|c| c == "cpuset") {
        inherit_cpuset(tree, path)?;
    }
    Ok(true)
}

/// A new v1 cpuset has no processors and no memory, and a process that has none cannot be put into it: it gets those of
/// the group above, which may have been made by someone who did not think of that.
fn inherit_cpuset(tree: &Hierarchy, path: &Path) -> Result<()> {
    for name in ["cpuset.cpus", "cpuset.mems"] {
        let from = path.with_file_name(name);
        let read = || text(&from).doing(|| format!("reading {}", from.display()));
        let mut above = read()?;
        if let Some(parent) = path.parent().filter(|p| above.trim().is_empty() && *p != tree.mount) {
            inherit_cpuset(tree, parent)?;
            above = read()?;
        }
        write(&path.join(name), above.trim())?;
    }
    Ok(())
}

/// A kernel's file as text. These have no size that could be asked beforehand, so that std would grow its buffer from
/// 32 bytes on, with a read(2) for each step.
pub(crate) fn text(file: &Path) -> io::Result<String> {
    let mut text = String::with_capacity(8192);
    File::open(file)?.take(16 << 20).read_to_string(&mut text)?;
    Ok(text)
}

/// A group with processes in it is someone's: neither shared nor, when things go wrong, killed.
pub(crate) fn check_free(path: &Path) -> Result<()> {
    if !path.is_dir() {
        return Ok(());
    }
    let count = |group: &PathBuf| text(&group.join("cgroup.procs")).unwrap_or_default().lines().count();
    let taken = |why: String| Err(Error::Path { path: path.display().to_string(), why });
    match below(path).iter().map(count).sum::<usize>() {
        0 => {
            let says = |file: &str, frozen: &str| text(&path.join(file)).is_ok_and(|t| t.trim() == frozen);
            if says("freezer.state", "FROZEN") || says("cgroup.freeze", "1") {
                return taken(
                    "is there already, and the container's cgroup unexpectedly frozen: thaw it, or remove it"
                        .into(),
                );
            }
            Ok(())
        }
        n => taken(format!("is taken: the container's cgroup is not empty, it holds {n} processes already")),
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
