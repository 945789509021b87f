//! The container's view of its control groups: a mount of type `cgroup` (config.md). On cgroup v2
//! that is one file system; on v1 a tmpfs with a mount for each hierarchy. The container's
//! cgroup namespace makes each show the container's own group as the root (cgroup_namespaces(7)).

use crate::{
    Result,
    error::Doing,
    inside::{self, Kind, by_fd},
    mounts::{Mounter, set_attributes},
    options::Options,
    rootfs::set_readonly,
    sys::{self, attr},
};
use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, OFlag, openat},
    mount::{MsFlags, mount},
    sys::{
        stat::{Mode, mkdirat},
        statfs::{CGROUP2_SUPER_MAGIC, statfs},
    },
    unistd::symlinkat,
};
use std::{fs, os::fd::OwnedFd, path::Path};

const HOST: &str = "/sys/fs/cgroup";

/// Mounts what the host has.
pub(crate) fn mount_cgroup(mounter: &Mounter, to: &Path, options: &Options) -> Result<()> {
    let host = statfs(HOST).doing(|| format!("look at {HOST}"))?;
    if host.filesystem_type() == CGROUP2_SUPER_MAGIC {
        let target = inside::make(mounter.root, to, Kind::Dir)?;
        return unified(mounter, &target, Path::new(HOST), options);
    }
    let groups = fs::read_to_string("/proc/self/cgroup").doing(|| "read /proc/self/cgroup".into())?;
    let tmpfs = inside::make(mounter.root, to, Kind::Dir)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("tmpfs"), &by_fd(&tmpfs), Some("tmpfs"), flags, Some("mode=755"))
        .doing(|| format!("mount a tmpfs for the cgroups on {}", to.display()))?;
    // From here on by its descriptor: it is new, and nobody else has seen it.
    let dir = inside::make(mounter.root, to, Kind::Dir)?;
    for (controllers, group) in groups.lines().filter_map(hierarchy) {
        if !controllers.is_empty() {
            one_hierarchy(mounter, &dir, controllers, group, options)?;
        } else if Path::new(HOST).join("unified").is_dir() {
            let target = place(&dir, "unified")?;
            unified(mounter, &target, &Path::new(HOST).join("unified"), options)?;
        }
    }
    if options.attr.set & attr::RDONLY != 0 {
        set_readonly(&dir).doing(|| format!("make {} read-only", to.display()))?;
    }
    Ok(())
}

/// A directory to mount on.
fn place(dir: &OwnedFd, name: &str) -> Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    mkdirat(dir, name, Mode::from_bits_truncate(0o755))
        .and_then(|()| openat(dir, name, flags, Mode::empty()))
        .doing(|| format!("make a place for the cgroup hierarchy {name}"))
}

/// A line of /proc/PID/cgroup: "4:memory:/docker/abc" (cgroups(7)).
fn hierarchy(line: &str) -> Option<(&str, &str)> {
    let (_, rest) = line.split_once(':')?;
    rest.split_once(':')
}

fn one_hierarchy(
    mounter: &Mounter,
    dir: &OwnedFd,
    controllers: &str,
    group: &str,
    options: &Options,
) -> Result<()> {
    // A named hierarchy ("name=systemd") is mounted in a directory of that name.
    let name = controllers.strip_prefix("name=").unwrap_or(controllers);
    let host = Path::new(HOST).join(name);
    if !host.is_dir() {
        return Ok(());
    }
    let target = place(dir, name)?;
    let fresh = || mount(Some("cgroup"), &by_fd(&target), Some("cgroup"), options.flags, Some(controllers));
    match if mounter.own_cgroup { fresh() } else { Err(Errno::EPERM) } {
        // Without a namespace for it, or without the right: the container's group itself, bound.
        Err(Errno::EPERM | Errno::EBUSY) => {
            let own = host.join(group.trim_start_matches('/'));
            bind(&own, &target, options)?;
        }
        other => other.doing(|| format!("mount the cgroup hierarchy {controllers}"))?,
    }
    // "cpu,cpuacct" is looked for as cpu and as cpuacct.
    if name.contains(',') {
        for one in name.split(',') {
            symlinkat(name, dir, one).doing(|| format!("link the cgroup hierarchy {one}"))?;
        }
    }
    Ok(())
}

fn unified(mounter: &Mounter, target: &OwnedFd, host: &Path, options: &Options) -> Result<()> {
    let fresh = || mount(Some("cgroup2"), &by_fd(target), Some("cgroup2"), options.flags, None::<&str>);
    match if mounter.own_cgroup { fresh() } else { Err(Errno::EPERM) } {
        Err(Errno::EPERM | Errno::EBUSY) => bind(host, target, options),
        other => other.doing(|| "mount cgroup2".into()),
    }
}

fn bind(from: &Path, target: &OwnedFd, options: &Options) -> Result<()> {
    let doing = || format!("bind {}", from.display());
    let tree = sys::open_tree(AT_FDCWD, from, true).doing(doing)?;
    set_attributes(&tree, options).doing(doing)?;
    sys::move_mount(tree, target).doing(doing)
}
