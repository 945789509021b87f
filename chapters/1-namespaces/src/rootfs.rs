//! The root: prepared aside, then swapped in by pivot_root(2).

use crate::{
    Result,
    error::{Doing, invalid},
    inside::{self, by_fd},
    mounts::file_kind,
    options,
    sys::{self, MountAttr, attr},
};
use nix::{
    errno::Errno,
    fcntl::{OFlag, open},
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::stat::{Mode, SFlag, fstat, makedev},
    unistd::{chdir, chroot, fchdir, pivot_root},
};
use oci_spec::runtime::Mount;
use std::{os::fd::OwnedFd, path::Path};

const NONE: Option<&str> = None;

/// Cuts our mount namespace off from the host's. This comes before any mount: a new mount
/// namespace starts as a copy whose mounts still share events with the originals
/// (mount_namespaces(7)), and systemd makes `/` shared. Without this our mounts would appear
/// on the host, and pivot_root(2) would refuse with EINVAL. As a slave we still see what the host
/// mounts later, which is the default of the specification's runtimes.
pub(crate) fn cut_off(propagation: Option<&str>) -> Result<()> {
    let (flag, recursive) = match propagation.filter(|p| !p.is_empty()) {
        None => (MsFlags::MS_SLAVE, true),
        Some(name) => match options::propagation(name) {
            Some(found) => found,
            None => return invalid(format!("linux.rootfsPropagation: {name} is unknown")),
        },
    };
    let flag = if recursive { flag | MsFlags::MS_REC } else { flag };
    // "unbindable" would forbid the very bind that comes next; it is set at the end.
    let now =
        if flag.contains(MsFlags::MS_UNBINDABLE) { MsFlags::MS_PRIVATE | MsFlags::MS_REC } else { flag };
    mount(NONE, "/", NONE, now, NONE).doing(|| format!("make / {}", propagation.unwrap_or("rslave")))
}

/// Whether [`cut_off`] left nothing, at any depth, that the host would hear of.
fn is_all_cut_off(propagation: Option<&str>) -> bool {
    matches!(propagation, None | Some("" | "rslave" | "rprivate" | "unbindable" | "runbindable"))
}

/// Mounts the root on itself, and returns a descriptor of that mount. pivot_root(2) wants a mount
/// point, and a directory of an image is none. Everything below is only looked up from here.
/// `place` is the directory, and its path is for where that has to do.
pub(crate) fn bind_root(place: OwnedFd, root: &Path, propagation: Option<&str>) -> Result<OwnedFd> {
    let doing = || format!("bind the root {} on itself", root.display());
    if !is_all_cut_off(propagation) {
        make_parent_private(root)?; // and with it the bind, which is a copy of it
    }
    let tree = sys::open_tree(&place, sys::EMPTY, true).doing(doing)?;
    sys::move_mount(&tree, place).doing(doing)?;
    Ok(tree)
}

/// pivot_root(2) refuses when the mount that the new root hangs in is shared, and the bind
/// would appear on the host: that one mount must be private even where the rest shall share.
fn make_parent_private(root: &Path) -> Result<()> {
    let root = root.canonicalize().doing(|| format!("find the root {}", root.display()))?;
    for place in root.ancestors() {
        match mount(NONE, place, NONE, MsFlags::MS_PRIVATE, NONE) {
            Err(Errno::EINVAL) => continue, // not a mount point: it is in the mount of a parent
            other => return other.doing(|| format!("make {} private", place.display())),
        }
    }
    Ok(())
}

/// Hides what lies at these paths: a directory under an empty read-only tmpfs, anything else under
/// /dev/null. What is not there needs no mask.
pub(crate) fn mask(root: &OwnedFd, paths: &[String]) -> Result<()> {
    if paths.is_empty() {
        return Ok(());
    }
    let null = host_null()?;
    let mut empty: Option<OwnedFd> = None;
    for path in paths {
        inside::must_be_absolute(Path::new(path), "linux.maskedPaths")?;
        let Some(target) = inside::find(root, Path::new(path))? else { continue };
        let doing = || format!("mask {path}");
        if file_kind(&target).doing(doing)? != SFlag::S_IFDIR {
            let tree = sys::open_tree(&null, sys::EMPTY, false).doing(doing)?;
            sys::move_mount(tree, target).doing(doing)?;
        } else if let Some(empty) = &empty {
            // One empty file system serves all directories: making one costs more than a bind.
            let tree = sys::open_tree(empty, sys::EMPTY, false).doing(doing)?;
            sys::move_mount(tree, target).doing(doing)?;
        } else {
            let data = Some("size=0k,nr_inodes=2,mode=755");
            mount(Some("tmpfs"), &by_fd(&target), Some("tmpfs"), MsFlags::MS_RDONLY, data).doing(doing)?;
            empty = inside::find(root, Path::new(path))?;
        }
    }
    Ok(())
}

/// The host's /dev/null, checked to be it: a mask of anything else would show that
/// (CVE-2025-31133 replaced the container's).
fn host_null() -> Result<OwnedFd> {
    let null = open("/dev/null", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
        .doing(|| "open /dev/null".into())?;
    let stat = fstat(&null).doing(|| "look at /dev/null".into())?;
    if file_kind(&null).doing(|| "look at /dev/null".into())? == SFlag::S_IFCHR
        && stat.st_rdev == makedev(1, 3)
    {
        Ok(null)
    } else {
        invalid("/dev/null is not the null device: nothing can be masked with it")
    }
}

/// Makes these paths read-only: each is bound on itself, since read-only is a property of a mount.
pub(crate) fn make_readonly(root: &OwnedFd, paths: &[String]) -> Result<()> {
    for path in paths {
        inside::must_be_absolute(Path::new(path), "linux.readonlyPaths")?;
        let Some(target) = inside::find(root, Path::new(path))? else { continue };
        let doing = || format!("make {path} read-only");
        let tree = sys::open_tree(&target, sys::EMPTY, true).doing(doing)?;
        set_readonly(&tree).doing(doing)?;
        sys::move_mount(tree, target).doing(doing)?;
    }
    Ok(())
}

/// What was left writable to be filled becomes read-only.
pub(crate) fn close_later(root: &OwnedFd, paths: &[std::path::PathBuf]) -> Result<()> {
    for path in paths {
        let doing = || format!("make {} read-only", path.display());
        let mounted = inside::open(root, path, OFlag::O_PATH).doing(doing)?;
        set_readonly(&mounted).doing(doing)?;
    }
    Ok(())
}

/// Whether a destination is a bind of the host's: then it has its devices, and they are the host's.
pub(crate) fn is_bound(mounts: &[Mount], to: &str) -> bool {
    mounts.iter().filter(|m| m.destination() == Path::new(to)).any(|m| {
        let options = m.options().iter().flatten();
        m.typ().as_deref() == Some("bind") || options.into_iter().any(|o| o == "bind" || o == "rbind")
    })
}

/// The mount that this descriptor is the root of.
pub(crate) fn set_readonly(mount: &OwnedFd) -> nix::Result<()> {
    let readonly = MountAttr { set: attr::RDONLY, ..MountAttr::default() };
    sys::mount_setattr(mount, &readonly, false)
}

/// Makes `root` the root. With both arguments ".", the old root ends up mounted on top of
/// the new one at the same place, and one lazy unmount of "." takes it away (pivot_root(2), "NOTES"):
/// no directory for the old root is needed inside the image, which may be read-only.
pub(crate) fn pivot(root: &OwnedFd, propagation: Option<&str>) -> Result<()> {
    fchdir(root).doing(|| "enter the new root".into())?;
    pivot_root(".", ".").doing(|| "make the new root the root".into())?;
    if !is_all_cut_off(propagation) {
        // Else the host would follow when we let go of what is, after all, its own tree.
        mount(NONE, ".", NONE, MsFlags::MS_SLAVE | MsFlags::MS_REC, NONE)
            .doing(|| "cut the old root off".into())?;
    }
    umount2(".", MntFlags::MNT_DETACH).doing(|| "let go of the old root".into())?;
    chdir("/").doing(|| "enter the new root".into())?;
    if let Some((flag, recursive)) = propagation.and_then(options::propagation) {
        let flag = if recursive { flag | MsFlags::MS_REC } else { flag };
        mount(NONE, "/", NONE, flag, NONE).doing(|| "set the root's propagation".into())?;
    }
    Ok(())
}

/// For a root on the initial ramfs, which cannot be pivoted away from: move the new root over the
/// old and chroot. The old root stays reachable for a process with CAP_SYS_CHROOT, so this is only
/// done when asked for.
pub(crate) fn move_and_chroot(root: &OwnedFd) -> Result<()> {
    cover_the_hosts(root)?;
    fchdir(root).doing(|| "enter the new root".into())?;
    mount(Some("."), "/", NONE, MsFlags::MS_MOVE, NONE).doing(|| "move the root over /".into())?;
    chroot(".").doing(|| "change the root".into())?;
    chdir("/").doing(|| "enter the new root".into())
}

/// The old root's /proc and /sys stay below. As long as one is there in the open, the kernel lets the root of a user
/// namespace inside mount another, without our masks: they are taken off, or covered where the kernel holds them.
fn cover_the_hosts(root: &OwnedFd) -> Result<()> {
    let doing = || "take the host's /proc and /sys away".to_owned();
    let inside = std::fs::read_link(by_fd(root)).doing(doing)?;
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").doing(doing)?;
    let kinds = |line: &str| line.contains(" - proc ") || line.contains(" - sysfs ");
    let points: Vec<_> = mounts
        .lines()
        .filter(|line| kinds(line))
        .filter_map(|line| line.split(' ').nth(4))
        .filter(|point| !Path::new(point).starts_with(&inside))
        .collect();
    for point in points {
        if umount2(point, MntFlags::MNT_DETACH).is_err() {
            mount(Some("tmpfs"), point, Some("tmpfs"), MsFlags::MS_RDONLY, NONE).doing(doing)?;
        }
    }
    Ok(())
}

/// Without a mount namespace of its own the container cannot have mounts: they would be the host's.
pub(crate) fn only_chroot(place: &OwnedFd, root: &Path) -> Result<()> {
    fchdir(place).and_then(|()| chroot(".")).doing(|| format!("change the root to {}", root.display()))?;
    chdir("/").doing(|| "enter the new root".into())
}
