//! From limits to files: each controller is asked on whichever version it lives here, and a limit that nothing here can
//! enforce is refused with what to do about it.

use crate::{
    Error, Result, devices,
    hierarchy::{Hierarchy, Version},
    setting::Setting,
    v1, v2,
};
use oci_spec::runtime::LinuxResources;

/// Every file to be written for these limits, each controller asked where it lives on this machine.
pub(crate) fn plan(trees: &[Hierarchy], limits: &LinuxResources) -> Result<Vec<Setting>> {
    let on = |version: Version, name: &str| {
        trees.iter().any(|t| t.version == version && t.controllers.iter().any(|c| c == name))
    };
    let pure_v2 =
        trees.iter().any(|t| t.version == Version::V2) && trees.iter().all(|t| t.version == Version::V2);
    let mut all = Vec::new();
    for name in ["memory", "cpu", "cpuset", "pids", "blkio", "hugetlb", "rdma"] {
        let on_v2 = if name == "blkio" { "io" } else { name };
        if on(Version::V2, on_v2) || (pure_v2 && !on(Version::V1, name)) {
            all.extend(v2::settings(on_v2, limits)?);
        } else {
            all.extend(v1::settings(name, limits)?);
        }
    }
    // These two are of v1 only; where it is not, the group will have no directory for them and say so.
    for name in ["net_cls", "net_prio"] {
        all.extend(v1::settings(name, limits)?);
    }
    if on(Version::V1, "devices") && devices::ours_to_set() {
        all.extend(devices::settings(limits.devices().as_deref().unwrap_or_default()));
    }
    // The unified map speaks v2's own language, so it comes last and has the last word.
    for (file, value) in limits.unified().iter().flatten() {
        let controller = file.split('.').next().unwrap_or_default();
        if file.contains('/') || !file.contains('.') {
            return Err(Error::Limit(format!("unified: '{file}' is not the name of a cgroup v2 file")));
        }
        if !on(Version::V2, controller) {
            let what = format!("{controller} (unified: {file}; an invalid configuration on cgroup v1)");
            return Err(missing(&what));
        }
        all.push(Setting::new(controller, file, value));
    }
    Ok(all)
}

/// What to do about it.
fn how() -> &'static str {
    if nix::unistd::geteuid().is_root() {
        "on v2 it has to be handed down by every group above (cgroup.subtree_control), on v1 to be mounted"
    } else {
        "as an ordinary user, ask systemd for a group of your own: systemd-run --user --scope -p Delegate=yes -- COMMAND"
    }
}

/// The controller is nowhere, or was not handed down to us.
pub(crate) fn missing(controller: &str) -> Error {
    let why = format!(
        "that controller is not available here (cgroup.controllers on v2 and /proc/cgroups on v1 list those that are): {}",
        how()
    );
    Error::NoController { controller: controller.into(), why }
}

/// The controller is here, but its tree is someone else's.
pub(crate) fn not_ours(settings: &[Setting], has: impl Fn(&str) -> bool, error: &Error) -> Error {
    let controller = settings.iter().find(|s| has(&s.controller)).map_or("", |s| &s.controller);
    Error::NoController { controller: controller.into(), why: format!("{error}; {}", how()) }
}
