//! Labels of the security modules: an AppArmor profile or an SELinux context for the program. An
//! empty string is "not asked"; a label that no module would enforce is an error, not a no-op.

use crate::{
    Result,
    error::{Doing, invalid},
    spec::Spec,
};
use nix::{
    errno::Errno,
    fcntl::{OFlag, openat},
    sys::stat::Mode,
};
use oci_spec::runtime::Process;
use std::{fs, fs::File, io::Write, os::fd::OwnedFd, path::Path};

/// Arranges for the label to apply from the next execve on. `proc` is the host's procfs.
pub(crate) fn on_exec(proc: &OwnedFd, process: &Process) -> Result<()> {
    if let Some(profile) = process.apparmor_profile().as_deref().filter(|p| !p.is_empty()) {
        if !fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|t| t.starts_with('Y')) {
            return invalid(format!("process.apparmorProfile is {profile}, and this host has no AppArmor"));
        }
        let written = write(proc, "self/attr/apparmor/exec", &format!("exec {profile}"))
            .or_else(|_| write(proc, "self/attr/exec", &format!("exec {profile}")));
        return match written {
            Err(e) if e.errno() == Some(Errno::ENOENT) => {
                invalid(format!("process.apparmorProfile: the profile {profile} is not loaded"))
            }
            other => other,
        };
    }
    if let Some(context) = process.selinux_label().as_deref().filter(|l| !l.is_empty()) {
        need_selinux("process.selinuxLabel", context)?;
        return write(proc, "self/attr/exec", context);
    }
    Ok(())
}

/// `linux.mountLabel`: refused where nothing would enforce it. Returns the mount option for it.
pub(crate) fn mount_context(spec: &Spec) -> Result<Option<String>> {
    let label = spec.linux().as_ref().and_then(|l| l.mount_label().as_deref());
    let Some(label) = label.filter(|l| !l.is_empty()) else { return Ok(None) };
    need_selinux("linux.mountLabel", label)?;
    Ok(Some(format!("context=\"{label}\"")))
}

fn need_selinux(field: &str, label: &str) -> Result<()> {
    if Path::new("/sys/fs/selinux/enforce").exists() {
        return Ok(());
    }
    invalid(format!("{field} is {label}, and this host has no SELinux"))
}

fn write(proc: &OwnedFd, file: &str, text: &str) -> Result<()> {
    let doing = || format!("write {text:?} to /proc/{file}");
    let fd = openat(proc, file, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty()).doing(doing)?;
    File::from(fd).write_all(text.as_bytes()).doing(doing)
}
