//! `/dev`: the devices and links that every container has (config-linux.md, "Default
//! Devices"), and those that its configuration adds.

use crate::{
    Result,
    error::{Doing, invalid},
    inside::{self, Kind},
    mounts::file_kind,
    nodes, sys,
    talk::Talk,
};
use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, AtFlags, OFlag, openat, readlinkat},
    sys::stat::{Mode, SFlag, fstat, makedev, mknodat, stat},
    unistd::{Gid, Uid, UnlinkatFlags, fchownat, symlinkat, unlinkat},
};
use oci_spec::runtime::{LinuxDevice, LinuxDeviceType};
use std::{os::fd::OwnedFd, path::Path};

/// Name, major, minor.
const DEFAULT: [(&str, u64, u64); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// Name, and where it leads. `ptmx` must be the one of the container's own devpts.
const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Makes the default devices and links. The umask is zero by now, so modes are what we say.
pub(crate) fn default_ones(root: &OwnedFd, talk: &Talk) -> Result<()> {
    let dev = inside::make(root, Path::new("/dev"), Kind::Dir)?;
    for (name, major, minor) in DEFAULT {
        let node = Node {
            path: &Path::new("/dev").join(name),
            kind: SFlag::S_IFCHR,
            mode: 0o666,
            number: makedev(major, minor),
            ours: true,
        };
        node.make(root, &dev, name)?;
    }
    for (name, target) in LINKS {
        link(&dev, name, target).doing(|| format!("link /dev/{name} to {target}"))?;
    }
    // The kernel's memory as a core file, where the kernel was built with it (and masked by default).
    if Path::new("/proc/kcore").exists() {
        link(&dev, "core", "/proc/kcore").doing(|| "link /dev/core to /proc/kcore".into())?;
    }
    talk.step("mknod(2)", || {
        "/dev/null zero full random urandom tty; links fd stdin stdout stderr ptmx".into()
    });
    Ok(())
}

/// `linux.devices`; of those that the parent has `made` ([`crate::nodes`]), what it made.
pub(crate) fn more(root: &OwnedFd, devices: &[LinuxDevice], made: Option<&OwnedFd>) -> Result<()> {
    if let Some(made) = made {
        nodes::take(root, made, devices)?;
    }
    for device in devices {
        let path = device.path();
        // That one is a link to the container's own devpts, whoever lists it.
        if path == Path::new("/dev/ptmx") || (made.is_some() && !host_has(device)) {
            continue;
        }
        inside::must_be_absolute(path, "a device's path")?;
        let (Some(parent), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str())) else {
            return invalid(format!("linux.devices: {} is no name for a device", path.display()));
        };
        let dir = inside::make(root, parent, Kind::Dir)?;
        let (kind, mode, number) = node(device)?;
        Node { path, kind, mode, number, ours: false }.make(root, &dir, name)?;
        if device.uid().is_some() || device.gid().is_some() {
            let (uid, gid) = (device.uid().map(Uid::from_raw), device.gid().map(Gid::from_raw));
            fchownat(&dir, name, uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW)
                .doing(|| format!("give {} to its owner", path.display()))?;
        }
    }
    Ok(())
}

/// What it is to be: its kind, its mode, its number.
pub(crate) fn node(device: &LinuxDevice) -> Result<(SFlag, u32, u64)> {
    let kind = match device.typ() {
        LinuxDeviceType::B => SFlag::S_IFBLK,
        LinuxDeviceType::P => SFlag::S_IFIFO,
        LinuxDeviceType::C | LinuxDeviceType::U => SFlag::S_IFCHR,
        LinuxDeviceType::A => return invalid("linux.devices: type \"a\" is for cgroup rules only"),
    };
    let mode = device.file_mode().unwrap_or(0o666) & 0o7777;
    Ok((kind, mode, makedev(device.major() as u64, device.minor() as u64)))
}

/// Whether the host has that device at the same path. (A FIFO anybody can make.)
pub(crate) fn host_has(device: &LinuxDevice) -> bool {
    let number = makedev(device.major() as u64, device.minor() as u64);
    device.typ() == LinuxDeviceType::P || stat(device.path()).is_ok_and(|there| there.st_rdev == number)
}

/// A device node to be.
struct Node<'a> {
    path: &'a Path,
    kind: SFlag,
    mode: u32,
    number: u64,
    /// One that every container has, and not one that the configuration names.
    ours: bool,
}

impl Node<'_> {
    fn make(&self, root: &OwnedFd, dir: &OwnedFd, name: &str) -> Result<()> {
        let doing = || format!("make the device {}", self.path.display());
        let mknod = || mknodat(dir, name, self.kind, Mode::from_bits_truncate(self.mode), self.number);
        let made = match mknod() {
            Err(Errno::EEXIST) if self.is_at(dir, name).doing(doing)? => return Ok(()),
            // "If a file already exists at path that does not match the requested device, the runtime MUST generate an error."
            Err(Errno::EEXIST) if !self.ours => {
                return invalid(format!(
                    "linux.devices: something else is at {} already: take it out of the image, or out of linux.devices",
                    self.path.display()
                ));
            }
            // Something else by that name came with the image: a program would trust it.
            Err(Errno::EEXIST) => {
                unlinkat(dir, name, UnlinkatFlags::NoRemoveDir).doing(doing)?;
                mknod()
            }
            other => other,
        };
        match made {
            // Root of a user namespace may make no devices; it may bind the host's.
            Err(Errno::EPERM) if self.kind != SFlag::S_IFIFO => self.bind(root),
            other => other.doing(doing),
        }
    }

    fn is_at(&self, dir: &OwnedFd, name: &str) -> nix::Result<bool> {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        self.is(&openat(dir, name, flags, Mode::empty())?)
    }

    fn is(&self, there: &OwnedFd) -> nix::Result<bool> {
        Ok(file_kind(there)? == self.kind && fstat(there)?.st_rdev == self.number)
    }

    /// The host's node of the same path, if it is that device, seen in the container.
    fn bind(&self, root: &OwnedFd) -> Result<()> {
        let doing = || format!("bind the host's {}", self.path.display());
        let tree = sys::open_tree(AT_FDCWD, self.path, false).doing(doing)?;
        if !self.is(&tree).doing(doing)? {
            return invalid(format!("the host's {} is not the device asked for", self.path.display()));
        }
        let target = inside::make(root, self.path, Kind::File)?;
        sys::move_mount(tree, target).doing(doing)
    }
}

/// Makes a link, or leaves one that is right.
fn link(dir: &OwnedFd, name: &str, target: &str) -> nix::Result<()> {
    match symlinkat(target, dir, name) {
        Err(Errno::EEXIST) => match readlinkat(dir, name) {
            Ok(there) if there == target => Ok(()),
            _ => {
                unlinkat(dir, name, UnlinkatFlags::NoRemoveDir)?;
                symlinkat(target, dir, name)
            }
        },
        other => other,
    }
}
