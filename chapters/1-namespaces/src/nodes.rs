//! Devices of `linux.devices` for a container with a user namespace. Its root may make no device nodes, and a file system
//! that it mounts has none that work. It may bind the host's, which serves for what the host has. For the
//! rest the parent, who may, makes the nodes in a small file system of the host's, attached nowhere, and the child
//! takes them from there.

use crate::{
    Result, devices,
    error::Doing,
    inside::{self, Kind, by_fd},
    spec::Spec,
    sys,
};
use nix::{
    errno::Errno,
    fcntl::AtFlags,
    mount::{MntFlags, umount2},
    sys::stat::{FchmodatFlags, Mode, fchmodat, mknodat},
    unistd::{Gid, Uid, fchownat},
};
use oci_spec::runtime::{LinuxDevice, LinuxIdMapping};
use std::os::fd::OwnedFd;

/// In the parent: the file system with the nodes that the host has not, each named by its place in the list; `None` if
/// it has all.
pub(crate) fn make(spec: &Spec) -> Result<Option<OwnedFd>> {
    let Some(linux) = spec.linux() else { return Ok(None) };
    let all = linux.devices().as_deref().unwrap_or_default();
    let mut made = None;
    for (index, device) in all.iter().enumerate().filter(|(_, d)| !devices::host_has(d)) {
        let path = device.path().display();
        let doing = || format!("make the device {path} for a user namespace");
        if made.is_none() {
            made = Some(sys::new_tmpfs().doing(doing)?);
        }
        let Some(dir) = &made else { continue };
        let name = index.to_string();
        let (kind, mode, number) = devices::node(device)?;
        mknodat(dir, name.as_str(), kind, Mode::empty(), number).doing(doing)?;
        let uid = outside(linux.uid_mappings().as_deref(), device.uid().unwrap_or(0));
        let gid = outside(linux.gid_mappings().as_deref(), device.gid().unwrap_or(0));
        let owner = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        fchownat(dir, name.as_str(), owner.0, owner.1, AtFlags::AT_SYMLINK_NOFOLLOW).doing(doing)?;
        // Not by mknod(2), which the caller's umask takes from.
        let mode = Mode::from_bits_truncate(mode);
        fchmodat(dir, name.as_str(), mode, FchmodatFlags::FollowSymlink).doing(doing)?;
    }
    Ok(made)
}

/// In the child: what the parent made is at the places where it should be.
pub(crate) fn take(root: &OwnedFd, made: &OwnedFd, all: &[LinuxDevice]) -> Result<()> {
    let doing = || "take the devices that the parent made".to_owned();
    // A bind is only made of what is attached: for a moment it lies over the root.
    sys::move_mount(made, root).doing(doing)?;
    let nodes: Vec<_> =
        (0..all.len()).map(|index| sys::open_tree(made, index.to_string().as_str(), false)).collect();
    umount2(by_fd(made).as_path(), MntFlags::MNT_DETACH).doing(doing)?;
    for (device, node) in all.iter().zip(nodes) {
        let doing = || format!("bind the device {}", device.path().display());
        match node {
            Err(Errno::ENOENT) => continue, // the host's own will do
            node => {
                let target = inside::make(root, device.path(), Kind::File)?;
                sys::move_mount(node.doing(doing)?, target).doing(doing)?;
            }
        }
    }
    Ok(())
}

/// What an id inside is outside.
fn outside(map: Option<&[LinuxIdMapping]>, id: u32) -> u32 {
    let line =
        map.into_iter().flatten().find(|m| id.checked_sub(m.container_id()).is_some_and(|n| n < m.size()));
    line.map_or(id, |m| m.host_id() + (id - m.container_id()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::userns::mapping;

    #[test]
    fn ids_outside() {
        let map = [mapping(0, 1000, 1), mapping(1, 100_000, 10)];
        assert_eq!([0, 1, 10, 11].map(|id| outside(Some(&map), id)), [1000, 100_000, 100_009, 11]);
    }
}
