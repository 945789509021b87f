//! Who the process is: user, groups, umask, and what it may do.

use crate::{
    Result, capability,
    error::{Doing, invalid},
    seccomp,
    talk::Talk,
    terminal,
};
use nix::{
    errno::Errno,
    sys::{
        prctl,
        stat::{Mode, umask},
    },
    unistd::{Gid, Uid, setgroups, setresgid, setresuid},
};
use oci_spec::runtime::{LinuxCapabilities, LinuxCapabilitiesBuilder, Process};

/// The annotation by which a container keeps the groups of its caller, with the value "1".
pub(crate) const KEEP_GROUPS: &str = "run.oci.keep_original_groups";

/// Becomes uid and gid 0 of the user namespace that we are in: until then we are whoever we were
/// outside, which mostly has no name in here, and nobody without a name may make a file. A namespace
/// without a root of its own has at least the user of the process. (The capabilities stay: only who was
/// root by name loses them by changing it, capabilities(7).)
pub(crate) fn root_of_the_namespace(process: &Process, keep_groups: bool) -> Result<()> {
    let root = (Gid::from_raw(0), Uid::from_raw(0));
    let no_root = setresgid(root.0, root.0, root.0).and_then(|()| setresuid(root.1, root.1, root.1));
    match no_root {
        Err(Errno::EINVAL) => {
            let user = process.user();
            become_ids(Uid::from_raw(user.uid()), Gid::from_raw(user.gid()))?;
        }
        other => other.doing(|| "become root of the user namespace".into())?,
    }
    let drop_groups = || no_groups(setgroups(&[])).doing(|| "drop the groups of outside".into());
    if keep_groups { Ok(()) } else { drop_groups() }
}

/// Becomes the user of the process, keeping for now the capabilities to finish the job.
pub(crate) fn user(process: &Process, keep_groups: bool, talk: &Talk) -> Result<()> {
    let user = process.user();
    let (uid, gid) = (Uid::from_raw(user.uid()), Gid::from_raw(user.gid()));
    let capabilities = wanted(process);
    capability::warn_of_missing(&capabilities, talk)?;
    capability::bound(&capabilities)?;
    if !uid.is_root() {
        terminal::give_streams(uid);
        capability::keep_over_setuid()?;
    }
    let groups: Vec<Gid> = user.additional_gids().iter().flatten().map(|gid| Gid::from_raw(*gid)).collect();
    // Also with none, unless asked: the caller's groups must not come along (CVE-2022-36109).
    if !keep_groups {
        let set = setgroups(&groups);
        // An image's user has the primary group among the additional ones (as a guard, where they can be set).
        let no_others = groups.iter().all(|group| *group == gid);
        if no_others { no_groups(set) } else { set }
            .doing(|| format!("set the additional groups {:?}", user.additional_gids()))?;
    }
    become_ids(uid, gid)?;
    if !uid.is_root() {
        capability::regain()?;
    }
    umask(Mode::from_bits_truncate(user.umask().unwrap_or(0o022)));
    Ok(())
}

/// The last things before exec, in the only order that works. A filter may be loaded by a
/// process with CAP_SYS_ADMIN, or by one that can gain no privileges any more (seccomp(2)).
/// With no_new_privs the capabilities go first and the filter last, as tight as can be;
/// without, the filter has to come before the capabilities go, and must allow capset(2).
pub(crate) fn lock(process: &Process, filter: Option<&seccomp::Program>) -> Result<()> {
    if process.no_new_privileges() == Some(true) {
        prctl::set_no_new_privs().doing(|| "set no_new_privs".into())?;
        capability::limit(&wanted(process))?;
        return filter.map_or(Ok(()), seccomp::Program::load);
    }
    filter.map_or(Ok(()), seccomp::Program::load)?;
    capability::limit(&wanted(process))
}

/// Without `process.capabilities` there are none.
fn wanted(process: &Process) -> LinuxCapabilities {
    process.capabilities().clone().unwrap_or_else(|| {
        let none = std::collections::HashSet::new;
        LinuxCapabilitiesBuilder::default()
            .bounding(none())
            .effective(none())
            .inheritable(none())
            .permitted(none())
            .ambient(none())
            .build()
            .unwrap_or_default()
    })
}

fn become_ids(uid: Uid, gid: Gid) -> Result<()> {
    // To setresuid(2) the highest number means "leave it", and what we are is root.
    if uid.as_raw() == u32::MAX || gid.as_raw() == u32::MAX {
        return invalid(format!("{} is no id for a user or a group", u32::MAX));
    }
    let not_mapped = |what: &str, id: u32, errno| match errno {
        Errno::EINVAL => invalid(format!("{what} {id} is not mapped in the user namespace")),
        errno => Err(errno).doing(|| format!("become {what} {id}")),
    };
    setresgid(gid, gid, gid).or_else(|e| not_mapped("gid", gid.as_raw(), e))?;
    setresuid(uid, uid, uid).or_else(|e| not_mapped("uid", uid.as_raw(), e))
}

/// Where the map was written by an ordinary user, setgroups(2) is denied altogether; having no
/// groups of one's own to set is then no error.
fn no_groups(result: nix::Result<()>) -> nix::Result<()> {
    if result == Err(Errno::EPERM) { Ok(()) } else { result }
}
