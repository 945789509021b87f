//! The mounts of the configuration, in its order: a later one may lie inside an earlier one.
//!
//! Two rules hold throughout. A target is looked up inside the root and then only used as a
//! descriptor ([`crate::inside`]). And whatever the kernel lets us leave to it we leave to it: a
//! bind is made unattached, gets its attributes, and only then appears (open_tree(2),
//! mount_setattr(2), move_mount(2)), so that a read-only volume is never writable for a moment.

use crate::{
    Result, cgroupfs, copyup,
    error::{Doing, invalid},
    inside::{self, Kind, by_fd},
    options::{self, Options},
    process::in_bundle,
    pseudo,
    sys::{self, MountAttr, attr},
    talk::Talk,
};
use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, OFlag, open},
    mount::{MsFlags, mount},
    sys::stat::{Mode, SFlag, fstat},
};
use oci_spec::runtime::Mount;
use std::{
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::{Path, PathBuf},
};

/// What every mount needs to know.
pub(crate) struct Mounter<'a> {
    pub(crate) root: &'a OwnedFd,
    pub(crate) bundle: &'a Path,
    pub(crate) talk: &'a Talk,
    /// Whether the container has a cgroup namespace of its own.
    pub(crate) own_cgroup: bool,
    /// Whether it has a pid namespace of its own.
    pub(crate) own_pid: bool,
    /// Those that the parent has mapped already, by their place in the list.
    pub(crate) idmapped: &'a [(usize, OwnedFd)],
    /// `linux.mountLabel` as a mount option.
    pub(crate) context: Option<String>,
}

impl Mounter<'_> {
    /// Mounts everything. Returns what must become read-only later, after it has been filled:
    /// a read-only `/dev` still needs its devices.
    pub(crate) fn all(&self, mounts: &[Mount]) -> Result<Vec<PathBuf>> {
        let mut later = Vec::new();
        for (index, wanted) in mounts.iter().enumerate() {
            let mut options = options::parse(wanted.options().as_deref().unwrap_or_default());
            let to = wanted.destination().as_path();
            inside::must_be_absolute(to, "a mount's destination")?;
            if to == Path::new("/dev") && options.bind.is_none() && options.attr.set & attr::RDONLY != 0 {
                options.flags -= MsFlags::MS_RDONLY;
                later.push(to.to_owned());
            }
            self.one(index, wanted, to, options)?;
        }
        pseudo::check(self.root, mounts)?;
        Ok(later)
    }

    fn one(&self, index: usize, wanted: &Mount, to: &Path, options: Options) -> Result<()> {
        let kind = wanted.typ().as_deref().unwrap_or("none");
        let source = wanted.source().as_deref().unwrap_or(Path::new("none"));
        match kind {
            "cgroup" | "cgroup2" if options.bind.is_none() => cgroupfs::mount_cgroup(self, to, &options)?,
            kind if options.bind.is_some() || kind == "bind" => self.bind(index, source, to, &options)?,
            kind => self.fresh(kind, source, to, &options)?,
        }
        self.talk.step("mount(2)", || format!("{kind} {} on {}", source.display(), to.display()));
        Ok(())
    }

    /// A part of the host's tree, seen at another place.
    fn bind(&self, index: usize, source: &Path, to: &Path, options: &Options) -> Result<()> {
        let source = in_bundle(self.bundle, source)?;
        let doing = || format!("bind {} on {}", source.display(), to.display());
        let recursive = options.bind.unwrap_or(true);
        let mapped = self.idmapped.iter().find(|(i, _)| *i == index).map(|(_, tree)| tree);
        let tree = match mapped {
            Some(tree) => tree.try_clone().doing(doing)?,
            None => sys::open_tree(AT_FDCWD, &source, recursive).doing(doing)?,
        };
        set_attributes(&tree, options).doing(|| {
            format!("set the options of the bind on {} (the host may have locked them)", to.display())
        })?;
        let is_dir = file_kind(&tree).doing(doing)? == SFlag::S_IFDIR;
        let target = inside::make(self.root, to, if is_dir { Kind::Dir } else { Kind::File })?;
        pseudo::guard_proc(self.root, &target, to)?;
        sys::move_mount(&tree, &target).doing(doing)?;
        self.follow_the_root(to)
    }

    /// A mount on `/` covers the root that our descriptor means: from here on it means what is on top.
    fn follow_the_root(&self, to: &Path) -> Result<()> {
        if to != Path::new("/") {
            return Ok(());
        }
        let doing = || "open the root that was mounted over the root".to_owned();
        let place = std::fs::read_link(by_fd(self.root)).doing(doing)?;
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let top = open(&place, flags, Mode::empty()).doing(doing)?;
        // SAFETY: both are ours; the number that everyone holds as the root stays, and is open again.
        Errno::result(unsafe { libc::dup3(top.as_raw_fd(), self.root.as_raw_fd(), libc::O_CLOEXEC) })
            .map(drop)
            .doing(doing)
    }

    /// A file system of its own: proc, sysfs, tmpfs, devpts, mqueue ...
    fn fresh(&self, kind: &str, source: &Path, to: &Path, options: &Options) -> Result<()> {
        let was_there = if kind == "tmpfs" { inside::find(self.root, to)? } else { None };
        let target = match kind {
            "proc" | "sysfs" => pseudo::plain_directory(self.root, kind, to)?,
            _ => inside::make(self.root, to, Kind::Dir)?,
        };
        pseudo::guard_proc(self.root, &target, to)?;
        let labelled = match &self.context {
            Some(context) if !matches!(kind, "proc" | "sysfs") => context.as_str(),
            _ => "",
        };
        let try_with = |data: &str| {
            let parts = [data, labelled];
            let data = parts.into_iter().filter(|p| !p.is_empty()).collect::<Vec<_>>().join(",");
            let data = (!data.is_empty()).then_some(data.as_str());
            mount(Some(source), &by_fd(&target), Some(kind), options.flags, data)
        };
        match try_with(&as_covered(&options.data, was_there.as_ref())) {
            // In a user namespace the group that owns terminals (gid=5) may not be mapped.
            Err(Errno::EINVAL) if kind == "devpts" => try_with(&without_gid(&options.data)),
            // A new sysfs shows the network namespace's devices, so only who owns that namespace may
            // have one; the host's, below, is the same but for them. mqueue: likewise ipc.
            Err(Errno::EPERM) if kind == "sysfs" => return self.host_instead("/sys", &target, options),
            Err(Errno::EPERM) if kind == "mqueue" => {
                return self.host_instead("/dev/mqueue", &target, options);
            }
            // And proc: pid. With a pid namespace of its own the host's would show the wrong processes.
            Err(Errno::EPERM) if kind == "proc" && !self.own_pid => {
                return self.host_instead("/proc", &target, options);
            }
            Err(Errno::EPERM) if kind == "proc" => {
                return invalid(format!(
                    "mount proc on {}: EPERM: the kernel refuses a new /proc where the present one is \
                     covered in part, as it is inside a container",
                    to.display()
                ));
            }
            other => other,
        }
        .doing(|| format!("mount {kind} on {}", to.display()))?;
        self.follow_the_root(to)?;
        if options.copy_up {
            copyup::fill(self.root, to, &target)?;
        }
        if options.propagation.is_some() || options.below != MountAttr::default() {
            let mounted = inside::make(self.root, to, Kind::Dir)?;
            let rest = Options { attr: MountAttr::default(), ..clone_attributes(options) };
            set_attributes(&mounted, &rest).doing(|| format!("set the mode of {}", to.display()))?;
        }
        Ok(())
    }

    fn host_instead(&self, host: &str, target: &OwnedFd, options: &Options) -> Result<()> {
        self.talk.warn(&format!("{host} is the host's: this namespace may not have a new one"));
        let doing = || format!("bind the host's {host}");
        let tree = sys::open_tree(AT_FDCWD, host, true).doing(doing)?;
        // What is mounted below comes along, and is to be as read-only as the rest.
        sys::mount_setattr(&tree, &options.attr, true).doing(doing)?;
        sys::move_mount(&tree, target).doing(doing)
    }
}

/// Attributes and propagation, by as few calls as it takes.
pub(crate) fn set_attributes(mount: &OwnedFd, options: &Options) -> nix::Result<()> {
    let none = MountAttr::default();
    let mut here = options.attr;
    if let Some((propagation, recursive)) = options.propagation {
        if recursive {
            sys::mount_setattr(mount, &MountAttr { propagation, ..none }, true)?;
        } else {
            here.propagation = propagation;
        }
    }
    if options.below != none {
        sys::mount_setattr(mount, &options.below, true)?;
    }
    if here != none { sys::mount_setattr(mount, &here, false) } else { Ok(()) }
}

fn clone_attributes(options: &Options) -> Options {
    Options {
        attr: options.attr,
        below: options.below,
        propagation: options.propagation,
        ..Options::default()
    }
}

/// A tmpfs is as open as the directory that it covers, unless its options say how open it is.
fn as_covered(data: &str, covered: Option<&OwnedFd>) -> String {
    match covered.and_then(|fd| fstat(fd).ok()) {
        Some(stat) if !data.split(',').any(|o| o.starts_with("mode=")) => {
            let mode = format!("mode={:o}", stat.st_mode & 0o7777);
            if data.is_empty() { mode } else { format!("{mode},{data}") }
        }
        _ => data.to_owned(),
    }
}

fn without_gid(data: &str) -> String {
    data.split(',').filter(|o| !o.starts_with("gid=")).collect::<Vec<_>>().join(",")
}

/// What a descriptor is: `S_IFDIR`, `S_IFREG`, `S_IFCHR` ...
pub(crate) fn file_kind(fd: impl AsFd) -> nix::Result<SFlag> {
    Ok(SFlag::from_bits_truncate(fstat(fd)?.st_mode & SFlag::S_IFMT.bits()))
}
