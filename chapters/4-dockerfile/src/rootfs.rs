//! A stage's files while an instruction changes them: an overlay with a fresh upper directory on top of the
//! layers, which becomes the next layer.

use crate::{Result, cache::Layer, error::Doing, session::Session, stage::Stage};
use layers::{
    overlay,
    root::{Next, Root},
};
use nix::sys::{
    stat::{UtimensatFlags, utimensat},
    time::TimeSpec,
};
use oci_spec::runtime::Mount;
use std::{
    fs::{self, Permissions},
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
};

/// A mounted root that may be changed. Dropped, it is unmounted and forgotten.
pub(crate) struct Change {
    /// The merged root.
    pub(crate) merged: PathBuf,
    /// A directory for whatever is needed beside it.
    pub(crate) directory: PathBuf,
    upper: PathBuf,
    mounted: bool,
}

impl Change {
    /// Mounts `lower` (topmost first) with a new upper directory.
    pub(crate) fn begin(session: &Session, lower: &[PathBuf]) -> Result<Change> {
        let directory = session.directory()?;
        let make = |name: &str| -> Result<PathBuf> {
            let path = directory.join(name);
            fs::create_dir(&path).doing(|| format!("make the directory {}", path.display()))?;
            Ok(path)
        };
        let (upper, work, merged) = (make("upper")?, make("work")?, make("merged")?);
        // An overlay has no root of its own: what `/` looks like is what the topmost directory looks like.
        let (mode, uid, gid) = lower.first().map_or(Ok((0o755, 0, 0)), |top| attributes(top))?;
        let doing = || format!("prepare {}", upper.display());
        chown(&upper, Some(uid), Some(gid)).doing(doing)?;
        fs::set_permissions(&upper, Permissions::from_mode(mode)).doing(doing)?;
        let mut lower = lower.to_vec();
        if lower.is_empty() {
            lower.push(make("scratch")?);
        }
        overlay::mount(&lower, Some((&upper, &work)), &merged, true)?;
        tracing::info!(
            target: "step", section = "6.1", call = "mkdir(2)",
            "a fresh upper directory over {} layers: what is in it afterwards is the next layer", lower.len()
        );
        Ok(Change { merged, directory, upper, mounted: true })
    }

    /// The same for a container, with the mount points that it needs. Those that the image lacks are made
    /// below the upper directory, in a layer that no image gets: `/proc` in a root does not become part of
    /// it because somebody mounted something there.
    pub(crate) fn begin_under(session: &Session, lower: &[PathBuf], mounts: &[Mount]) -> Result<Change> {
        let change = Change::begin(session, lower)?;
        make_points(&change.root()?, mounts)?;
        if fs::read_dir(&change.upper).doing(|| format!("read {}", change.upper.display()))?.next().is_none()
        {
            return Ok(change);
        }
        let points = change.upper.clone();
        drop(change);
        let lower: Vec<_> = std::iter::once(points).chain(lower.iter().cloned()).collect();
        Change::begin(session, &lower)
    }

    /// The root, in which paths are resolved.
    pub(crate) fn root(&self) -> Result<Root> {
        Ok(Root::open(&self.merged)?)
    }

    /// Makes a layer of what changed, and tells where it is unpacked; `None` if nothing changed.
    pub(crate) fn commit(mut self, stage: &Stage) -> Result<Option<(Layer, PathBuf)>> {
        // First unmounted: while it is mounted, the upper directory is the kernel's.
        overlay::unmount(&self.merged)?;
        self.mounted = false;
        tracing::info!(target: "step", section = "6.1", call = "umount2(2)", "the upper directory is ours alone");
        let doing = || format!("read {}", self.upper.display());
        let nothing = fs::read_dir(&self.upper).doing(doing)?.next().is_none();
        if nothing {
            return Ok(None);
        }
        if let Some(epoch) = stage.session.epoch()? {
            clamp(&self.upper, epoch)?;
        }
        let (descriptor, diff_id) = layers::diff::commit(stage.session.store, &self.upper)?;
        let layer = Layer { descriptor, diff_id: diff_id.to_string() };
        Ok(Some((layer, self.upper.clone())))
    }
}

impl Drop for Change {
    fn drop(&mut self) {
        if self.mounted {
            // On the way out of an error, which is what is to be told.
            let _ = overlay::unmount(&self.merged);
        }
    }
}

/// Makes what is to be mounted over, where it is missing.
fn make_points(root: &Root, mounts: &[Mount]) -> Result<()> {
    for mount in mounts {
        let target = mount.destination();
        // Below another mount it is made there.
        let covered =
            |other: &Mount| target != other.destination() && target.starts_with(other.destination());
        if root.exists(target) || mounts.iter().any(covered) {
            continue;
        }
        let is_bind = mount.typ().as_deref() == Some("bind");
        let is_file = is_bind && mount.source().as_ref().is_some_and(|s| s.is_file());
        if is_file {
            root.mkdir_all(target.parent().unwrap_or(Path::new("/")), 0o755)?;
            root.create(target, 0o644)?;
        } else {
            root.mkdir_all(target, 0o755)?;
        }
    }
    Ok(())
}

/// Mode and owner.
fn attributes(path: &Path) -> Result<(u32, u32, u32)> {
    let stat = fs::symlink_metadata(path).doing(|| format!("stat {}", path.display()))?;
    Ok((stat.mode() & 0o7777, stat.uid(), stat.gid()))
}

/// Sets every time after `epoch` to it (the reproducible builds' SOURCE_DATE_EPOCH): what a command wrote
/// has the time of the build, and would make each build's layer another.
fn clamp(upper: &Path, epoch: i64) -> Result<()> {
    let time = TimeSpec::new(epoch, 0);
    Root::open(upper)?.walk(Path::new("/"), &mut |visit| {
        if (visit.stat.st_mtime, visit.stat.st_mtime_nsec) > (epoch, 0) {
            let flag = UtimensatFlags::NoFollowSymlink;
            utimensat(visit.dir, visit.name, &TimeSpec::UTIME_OMIT, &time, flag).map_err(|errno| {
                layers::Error::Sys { doing: format!("set the time of {}", visit.path.display()), errno }
            })?;
        }
        Ok(Next::Into)
    })?;
    Ok(())
}
