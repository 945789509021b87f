//! /proc and /sys are what they say they are. Masks, read-only paths and settings are only worth
//! something on the kernel's own file systems, so an image or a volume must not get in between.

use crate::{
    Result,
    error::{Doing, invalid},
    inside::{self, Kind, by_fd},
};
use nix::{
    errno::Errno,
    fcntl::{OFlag, OpenHow, ResolveFlag, openat2},
    sys::{
        stat::fstat,
        statfs::{FsType, PROC_SUPER_MAGIC, SYSFS_MAGIC, fstatfs},
    },
};
use oci_spec::runtime::Mount;
use std::{fs, os::fd::OwnedFd, path::Path};

/// procfs and sysfs go to a real directory, reached by no link: an image with
/// `/proc -> /elsewhere` would otherwise choose what our masks and sysctls are applied to
/// (CVE-2019-19921, CVE-2023-28642).
pub(crate) fn plain_directory(root: &OwnedFd, kind: &str, to: &Path) -> Result<OwnedFd> {
    drop(inside::make(root, to, Kind::Dir)?);
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_SYMLINKS);
    match openat2(root, to, how) {
        Err(Errno::ELOOP | Errno::ENOTDIR) => invalid(format!(
            "{kind} must be mounted on ordinary directory, and {} is or contains a link",
            to.display()
        )),
        other => other.doing(|| format!("open {} in the root", to.display())),
    }
}

/// Nothing may be mounted over a file of /proc, except the few that tools like lxcfs give a
/// better answer for: else a mount of the user's could stand in for /proc/self/attr.
pub(crate) fn guard_proc(root: &OwnedFd, target: &OwnedFd, to: &Path) -> Result<()> {
    const MAY: [&str; 12] = [
        "",
        "cpuinfo",
        "diskstats",
        "meminfo",
        "stat",
        "swaps",
        "uptime",
        "loadavg",
        "slabinfo",
        "net/dev",
        "sys/kernel/ns_last_pid",
        "sys/crypto/fips_enabled",
    ];
    if !is_on(target, PROC_SUPER_MAGIC)? {
        return Ok(());
    }
    let read = |fd: &OwnedFd| fs::read_link(by_fd(fd)).doing(|| format!("find {}", to.display()));
    let (proc, at) = (read(root)?.join("proc"), read(target)?);
    let below = at.strip_prefix(proc).ok();
    if below.is_some_and(|below| MAY.iter().any(|may| below == Path::new(may))) {
        return Ok(());
    }
    invalid(format!("{} is inside /proc: nothing may be mounted there", to.display()))
}

/// What was asked to be procfs or sysfs is it still, now that everything is mounted.
pub(crate) fn check(root: &OwnedFd, mounts: &[Mount]) -> Result<()> {
    for (kind, magic) in [("proc", PROC_SUPER_MAGIC), ("sysfs", SYSFS_MAGIC)] {
        for to in mounts.iter().filter(|m| m.typ().as_deref() == Some(kind)).map(Mount::destination) {
            let there = inside::find(root, to)?;
            if !there.as_ref().map(|fd| is_root_of(fd, magic)).transpose()?.unwrap_or(false) {
                return invalid(format!(
                    "{} is covered by another mount and no {kind} any more",
                    to.display()
                ));
            }
        }
    }
    Ok(())
}

/// Whether a descriptor lies on a file system of this kind. The kernel says so: it cannot be faked.
fn is_on(fd: &OwnedFd, magic: FsType) -> Result<bool> {
    Ok(fstatfs(fd).doing(|| "look at a file system".into())?.filesystem_type() == magic)
}

/// Whether it is its root, and not a part of it bound there. Both have the inode 1 there.
fn is_root_of(fd: &OwnedFd, magic: FsType) -> Result<bool> {
    Ok(is_on(fd, magic)? && fstat(fd).doing(|| "look at a file system".into())?.st_ino == 1)
}
