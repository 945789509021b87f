//! What others have set up on this machine: security modules, helper programs, and the files that these read.

use super::{
    Check,
    probe::{Found, check, program_path},
};
use nix::unistd::geteuid;
use std::fs;

/// Security modules: nothing needs them, but they explain refusals.
pub(super) fn security() -> Vec<Check> {
    const GROUP: &str = "security modules";
    let apparmor = match fs::read_to_string("/sys/module/apparmor/parameters/enabled") {
        Ok(text) if text.trim() == "Y" => Ok("enabled".into()),
        _ => Err("not enabled".into()),
    };
    let selinux = match fs::read_to_string("/sys/fs/selinux/enforce") {
        Ok(text) if text.trim() == "1" => Ok("enforcing".into()),
        Ok(_) => Ok("permissive".into()),
        Err(_) => Err("not enabled".into()),
    };
    vec![
        check(GROUP, "AppArmor", "--security-opt apparmor", apparmor, ""),
        check(GROUP, "SELinux", "--security-opt label", selinux, ""),
    ]
}

/// Programs that are used where they are, and files that they read.
pub(super) fn programs() -> Vec<Check> {
    const GROUP: &str = "helpers";
    let program = |name: &str| {
        program_path(name).map(|p| p.display().to_string()).ok_or_else(|| "not on the PATH".to_owned())
    };
    vec![
        check(
            GROUP,
            "newuidmap",
            "more than one user in an ordinary user's container",
            program("newuidmap"),
            "install uidmap (shadow-utils)",
        ),
        check(
            GROUP,
            "newgidmap",
            "more than one group, likewise",
            program("newgidmap"),
            "install uidmap (shadow-utils)",
        ),
        check(
            GROUP,
            "/etc/subuid",
            "ids for newuidmap to give",
            subordinate("/etc/subuid"),
            "usermod --add-subuids 100000-165535 USER",
        ),
        check(
            GROUP,
            "/etc/subgid",
            "ids for newgidmap to give",
            subordinate("/etc/subgid"),
            "usermod --add-subgids 100000-165535 USER",
        ),
        check(
            GROUP,
            "pasta",
            "a way out for ordinary users' containers",
            program("pasta"),
            "install passt; without: --network none or host",
        ),
        check(GROUP, "nft", "--publish, the way out of a bridge", program("nft"), "install nftables"),
    ]
}

/// The line of this user in /etc/subuid: `name:first:count` (subuid(5)).
fn subordinate(file: &str) -> Found {
    let text = fs::read_to_string(file).map_err(|why| why.to_string())?;
    if geteuid().is_root() {
        return Ok("root has all ids and needs none".into());
    }
    let uid = geteuid().to_string();
    let name = nix::unistd::User::from_uid(geteuid()).ok().flatten().map(|u| u.name).unwrap_or_default();
    let line = text.lines().find(|l| l.split(':').next().is_some_and(|owner| owner == name || owner == uid));
    line.map(str::to_owned).ok_or_else(|| format!("no line for {name}"))
}
