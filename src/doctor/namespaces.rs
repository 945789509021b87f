//! Each kind of namespace, as root and as an ordinary user.

use super::{
    Check,
    probe::{check, enter, enter_as_user, essential, in_child, words},
};
use nix::{
    sched::{CloneFlags, unshare},
    unistd::{Uid, geteuid, setresuid},
};
use std::{fs, path::Path};

/// Each kind of namespace.
pub(super) fn checks() -> Vec<Check> {
    const GROUP: &str = "namespaces";
    // From linux/sched.h; nix does not know it yet.
    const CLONE_NEWTIME: CloneFlags = CloneFlags::from_bits_retain(0x80);
    let remedy = "a kernel with this namespace built in, and not inside a container that forbids it";
    let one = |name, flag, needed_for| {
        check(GROUP, name, needed_for, in_child(|| enter(flag).map(|()| String::new())), remedy)
    };
    let ordinary = check(
        GROUP,
        "user, for ordinary users",
        "running without root (7.1)",
        in_child(|| {
            if geteuid().is_root() {
                let nobody = Uid::from_raw(65534);
                setresuid(nobody, nobody, nobody).map_err(|errno| words("setresuid", errno))?;
            }
            // The maps of a process that changed its user belong to root until it executes something: making the namespace is the test.
            unshare(CloneFlags::CLONE_NEWUSER)
                .map_err(|errno| format!("{}{}", words("unshare", errno), sysctls()))?;
            Ok(sysctls().trim_start_matches(", ").to_owned())
        }),
        "sysctl -w user.max_user_namespaces=15000; on Debian also kernel.unprivileged_userns_clone=1, on Ubuntu \
         kernel.apparmor_restrict_unprivileged_userns=0",
    );
    let ordinary = if geteuid().is_root() { ordinary } else { essential(ordinary) };
    vec![
        essential(one("mount", CloneFlags::CLONE_NEWNS, "a root of its own (7.1)")),
        essential(one("pid", CloneFlags::CLONE_NEWPID, "being process 1 (7.1)")),
        essential(one("uts", CloneFlags::CLONE_NEWUTS, "--hostname (7.1)")),
        essential(one("ipc", CloneFlags::CLONE_NEWIPC, "/dev/shm, --ipc (7.1)")),
        essential(one("network", CloneFlags::CLONE_NEWNET, "--network none and bridge (7.1)")),
        one("cgroup", CloneFlags::CLONE_NEWCGROUP, "its own /sys/fs/cgroup (7.2)"),
        one("time", CLONE_NEWTIME, "clock offsets of a bundle (7.1)"),
        check(
            GROUP,
            "user",
            "root inside, nobody outside (7.1)",
            in_child(|| enter_as_user(CloneFlags::empty()).map(|()| String::new())),
            remedy,
        ),
        ordinary,
    ]
}

/// The switches by which distributions forbid user namespaces, where they have them.
fn sysctls() -> String {
    [
        "user/max_user_namespaces",
        "kernel/unprivileged_userns_clone",
        "kernel/apparmor_restrict_unprivileged_userns",
    ]
    .iter()
    .filter_map(|name| {
        let value = fs::read_to_string(Path::new("/proc/sys").join(name)).ok()?;
        Some(format!(", {}={}", name.replace('/', "."), value.trim()))
    })
    .collect()
}
