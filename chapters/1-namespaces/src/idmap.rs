//! Idmapped mounts: a volume whose files appear owned by other ids than on disk
//! (mount_setattr(2), "ID-mapped mounts"). The kernel takes the map from a user namespace, so one is
//! made for the purpose, by a child that does nothing. All this needs the host's privileges, which
//! the container's first process may not have: the parent does it, before the clone, and
//! the child inherits the unattached mounts.

use crate::{
    Result,
    error::{Doing, invalid},
    options,
    process::{Leash, in_bundle},
    spec::Spec,
    sys::{self, MountAttr, attr},
    talk,
    userns::write_map,
};
use nix::{
    fcntl::{AT_FDCWD, OFlag, open},
    mount::MsFlags,
    sys::stat::Mode,
    unistd::{getegid, geteuid},
};
use oci_spec::runtime::LinuxIdMapping;
use std::{
    os::fd::{AsRawFd, OwnedFd},
    path::Path,
};

/// The idmapped mounts of a configuration, each with its place in the list of mounts; and with a new user namespace
/// (`new_user`) all single binds.
pub(crate) fn trees(spec: &Spec, bundle: &Path, new_user: bool) -> Result<Vec<(usize, OwnedFd)>> {
    let mut trees = Vec::new();
    for (index, mount) in spec.mounts().iter().flatten().enumerate() {
        let options = options::parse(mount.options().as_deref().unwrap_or_default());
        let own = (mount.uid_mappings().as_deref(), mount.gid_mappings().as_deref());
        let linux = spec.linux().as_ref();
        let (uids, gids) = match (own, options.idmap) {
            ((None, None), None) => {
                if let Some(source) =
                    mount.source().as_ref().filter(|_| new_user && options.bind == Some(false))
                {
                    // Root of the new namespace may not be let into the source's directory; we are.
                    let tree = open_source(&in_bundle(bundle, source)?, false)?;
                    trees.push((index, tree));
                }
                continue;
            }
            ((Some(uids), Some(gids)), _) => (uids, gids),
            // Without maps of its own it takes the container's (config.md, "idmap").
            ((None, None), Some(_)) => (
                linux.and_then(|l| l.uid_mappings().as_deref()).unwrap_or_default(),
                linux.and_then(|l| l.gid_mappings().as_deref()).unwrap_or_default(),
            ),
            _ => return invalid("an idmapped mount needs both uidMappings and gidMappings"),
        };
        let to = mount.destination().display();
        if uids.is_empty() || gids.is_empty() {
            return invalid(format!("the idmapped mount {to} has no ids to map"));
        }
        let Some(source) = mount.source().as_ref().filter(|_| options.bind.is_some()) else {
            return invalid(format!("{to}: only a bind mount can be idmapped"));
        };
        let source = in_bundle(bundle, source)?;
        let doing = || format!("map the ids of {} for {to}", source.display());
        let userns = user_namespace(uids, gids)?;
        let tree = open_source(&source, options.bind == Some(true))?;
        let change =
            MountAttr { set: attr::IDMAP, userns: userns.as_raw_fd() as u64, ..MountAttr::default() };
        sys::mount_setattr(&tree, &change, options.idmap == Some(true)).doing(doing)?;
        trees.push((index, tree));
    }
    Ok(trees)
}

/// The source of a bind, attached nowhere. It hears what the host mounts there later, and tells it nothing.
fn open_source(source: &Path, recursive: bool) -> Result<OwnedFd> {
    let doing = || format!("open the mount source {}", source.display());
    let tree = sys::open_tree(AT_FDCWD, source, recursive).doing(doing)?;
    let slave = MountAttr { propagation: MsFlags::MS_SLAVE.bits(), ..MountAttr::default() };
    sys::mount_setattr(&tree, &slave, recursive).doing(doing)?;
    Ok(tree)
}

/// A user namespace with these maps. A descriptor keeps it; its only process is killed again.
fn user_namespace(uids: &[LinuxIdMapping], gids: &[LinuxIdMapping]) -> Result<OwnedFd> {
    let (ours, theirs) = talk::pair()?;
    let child = sys::clone3(libc::CLONE_NEWUSER as u64, None)
        .doing(|| "make a user namespace for an idmapped mount".into())?;
    let Some((pid, _)) = child else {
        drop(ours);
        let _ = theirs.wait_go();
        sys::exit_now(0)
    };
    let _leash = Leash(Some(pid));
    write_map(pid, "uid", uids, geteuid().as_raw())?;
    write_map(pid, "gid", gids, getegid().as_raw())?;
    let path = format!("/proc/{pid}/ns/user");
    open(path.as_str(), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).doing(|| format!("open {path}"))
}
