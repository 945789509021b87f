//! Privileges: capabilities, seccomp, devices, and the paths that are hidden or read-only.

use crate::engine::{
    failure::{Failure, Result},
    plan::Plan,
};
use nix::sys::stat::{SFlag, major, minor};
use oci_spec::runtime::{
    Capabilities, Capability, LinuxCapabilities, LinuxCapabilitiesBuilder, LinuxDevice, LinuxResources,
    Process, Spec,
};
use serde_json::{Value, json};
use std::{collections::HashSet, path::Path};

/// Gives and takes what was asked.
pub(crate) fn apply(spec: &mut Spec, plan: &Plan) -> Result<()> {
    let host = &plan.record.host;
    let privileged = host.privileged.unwrap_or_default();
    let mut process = spec.process().clone().unwrap_or_default();
    let default = process.capabilities().as_ref().and_then(|c| c.bounding().clone()).unwrap_or_default();
    let bounding = capabilities(
        if privileged { everything()? } else { default },
        host.cap_add.as_deref().unwrap_or_default(),
        host.cap_drop.as_deref().unwrap_or_default(),
    )?;
    hold(&mut process, bounding)?;
    let mut seccomp = !privileged;
    for option in host.security_opt.iter().flatten() {
        let (name, value) = option.split_once(['=', ':']).unwrap_or((option, "true"));
        match (name, value) {
            ("no-new-privileges", "true") => process.set_no_new_privileges(Some(true)),
            ("no-new-privileges", "false") => process.set_no_new_privileges(Some(false)),
            ("seccomp", "unconfined") => {
                seccomp = false;
                &mut process
            }
            ("seccomp", "builtin")
            | ("apparmor", "unconfined" | "docker-default")
            | ("label", "disable")
            | ("systempaths", "unconfined") => &mut process,
            ("seccomp", profile) => {
                // docker's client sends the profile's text.
                let profile: Value = serde_json::from_str(profile)
                    .map_err(|e| Failure::bad(format!("Decoding seccomp profile failed: {e}")))?;
                let filter = serde_json::from_value(profile).map_err(|e| {
                    Failure::bad(format!("the seccomp profile is not one of the OCI runtime-spec: {e}"))
                })?;
                if let Some(linux) = spec.linux_mut() {
                    linux.set_seccomp(Some(filter));
                }
                &mut process
            }
            _ => return Err(Failure::bad(format!("invalid --security-opt 2: \"{option}\""))),
        };
    }
    spec.set_process(Some(process));
    let open_paths = host.security_opt.iter().flatten().any(|o| o == "systempaths=unconfined");
    if privileged {
        for mount in spec.mounts_mut().iter_mut().flatten() {
            if mount.destination().starts_with("/sys") {
                let options = mount
                    .options()
                    .iter()
                    .flatten()
                    .map(|o| if o == "ro" { "rw".into() } else { o.clone() })
                    .collect();
                mount.set_options(Some(options));
            }
        }
    }
    let Some(linux) = spec.linux_mut() else { return Ok(()) };
    if !seccomp {
        linux.set_seccomp(None);
    }
    if privileged || open_paths {
        linux.set_masked_paths(None);
        linux.set_readonly_paths(None);
    }
    if let Some(paths) = &host.masked_paths {
        linux.set_masked_paths(Some(paths.clone()));
    }
    if let Some(paths) = &host.readonly_paths {
        linux.set_readonly_paths(Some(paths.clone()));
    }
    let mut devices = linux.devices().clone().unwrap_or_default();
    let mut rules = Vec::new();
    if privileged {
        for name in host_devices() {
            devices.extend(device(&name, &name).ok());
        }
        rules.push(json!({"allow": true, "access": "rwm"}));
    }
    for asked in host.devices.iter().flatten() {
        let from = asked.path_on_host.as_deref().unwrap_or_default();
        let to = asked.path_in_container.as_deref().filter(|p| !p.is_empty()).unwrap_or(from);
        let device = device(from, to)?;
        let kind = serde_json::to_value(device.typ())?;
        let access = asked.cgroup_permissions.as_deref().filter(|p| !p.is_empty()).unwrap_or("rwm");
        rules.push(json!({"allow": true, "type": kind, "major": device.major(), "minor": device.minor(), "access": access}));
        devices.push(device);
    }
    for rule in host.device_cgroup_rules.iter().flatten() {
        rules.push(device_rule(rule)?);
    }
    linux.set_devices(Some(devices));
    let resources = linux.resources().clone().unwrap_or_default();
    linux.set_resources(Some(with_rules(resources, rules)?));
    Ok(())
}

/// Gives a process its five sets. That of a program which runs as another user is empty, as execve(2) would leave it;
/// only its bounds remain. Nothing is inheritable (CVE-2022-24769).
fn hold(process: &mut Process, bounding: Capabilities) -> Result<()> {
    let held = if process.user().uid() == 0 { bounding.clone() } else { HashSet::new() };
    let sets: LinuxCapabilities = LinuxCapabilitiesBuilder::default()
        .bounding(bounding)
        .effective(held.clone())
        .permitted(held)
        .inheritable(HashSet::new())
        .ambient(HashSet::new())
        .build()?;
    process.set_capabilities(Some(sets));
    Ok(())
}

/// The same for an exec: the container's bounds, or all with `--privileged`; its user may be another.
pub(crate) fn exec(process: &mut Process, privileged: bool) -> Result<()> {
    let own = process.capabilities().as_ref().and_then(|c| c.bounding().clone()).unwrap_or_default();
    hold(process, if privileged { everything()? } else { own })
}

/// The default set, changed: `ALL` first, then additions and removals by name, with or without `CAP_`.
fn capabilities(mut set: Capabilities, add: &[String], drop: &[String]) -> Result<Capabilities> {
    let all = |list: &[String]| list.iter().any(|c| c.eq_ignore_ascii_case("all"));
    if all(add) {
        set = everything()?;
    }
    if all(drop) {
        set.clear();
    }
    for name in drop.iter().filter(|n| !n.eq_ignore_ascii_case("all")) {
        set.remove(&capability(name)?);
    }
    for name in add.iter().filter(|n| !n.eq_ignore_ascii_case("all")) {
        set.insert(capability(name)?);
    }
    Ok(set)
}

fn capability(name: &str) -> Result<Capability> {
    let upper = name.to_ascii_uppercase();
    let full = if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
    serde_json::from_value(Value::String(full))
        .map_err(|_| Failure::bad(format!("unknown capability: \"{name}\"")))
}

/// All that the kernel knows and this daemon may give: the bounding set.
fn everything() -> Result<Capabilities> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let bits = status.lines().find_map(|l| l.strip_prefix("CapBnd:")).map_or("0", str::trim);
    let bits =
        u64::from_str_radix(bits, 16).map_err(|_| Failure::internal("/proc/self/status has no CapBnd"))?;
    // capabilities(7), in the order of their numbers.
    const NAMES: &[&str] = &[
        "CHOWN",
        "DAC_OVERRIDE",
        "DAC_READ_SEARCH",
        "FOWNER",
        "FSETID",
        "KILL",
        "SETGID",
        "SETUID",
        "SETPCAP",
        "LINUX_IMMUTABLE",
        "NET_BIND_SERVICE",
        "NET_BROADCAST",
        "NET_ADMIN",
        "NET_RAW",
        "IPC_LOCK",
        "IPC_OWNER",
        "SYS_MODULE",
        "SYS_RAWIO",
        "SYS_CHROOT",
        "SYS_PTRACE",
        "SYS_PACCT",
        "SYS_ADMIN",
        "SYS_BOOT",
        "SYS_NICE",
        "SYS_RESOURCE",
        "SYS_TIME",
        "SYS_TTY_CONFIG",
        "MKNOD",
        "LEASE",
        "AUDIT_WRITE",
        "AUDIT_CONTROL",
        "SETFCAP",
        "MAC_OVERRIDE",
        "MAC_ADMIN",
        "SYSLOG",
        "WAKE_ALARM",
        "BLOCK_SUSPEND",
        "AUDIT_READ",
        "PERFMON",
        "BPF",
        "CHECKPOINT_RESTORE",
    ];
    NAMES.iter().enumerate().filter(|(n, _)| bits >> n & 1 == 1).map(|(_, name)| capability(name)).collect()
}

fn device(from: &str, to: &str) -> Result<LinuxDevice> {
    let stat = nix::sys::stat::stat(from).map_err(|e| {
        Failure::bad(format!("error gathering device information while adding custom device \"{from}\": {e}"))
    })?;
    let kind = match SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) {
        SFlag::S_IFCHR => "c",
        SFlag::S_IFBLK => "b",
        _ => {
            return Err(Failure::bad(format!(
                "error gathering device information while adding custom device \"{from}\": not a device node"
            )));
        }
    };
    Ok(serde_json::from_value(json!({
        "path": to, "type": kind, "major": major(stat.st_rdev), "minor": minor(stat.st_rdev),
        "fileMode": stat.st_mode & 0o7777, "uid": stat.st_uid, "gid": stat.st_gid,
    }))?)
}

/// Every device node of /dev, less what every container has of its own.
fn host_devices() -> Vec<String> {
    let mut found = Vec::new();
    let mut left = vec![Path::new("/dev").to_owned()];
    while let Some(dir) = left.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            let path = entry.path();
            let own = ["/dev/pts", "/dev/shm", "/dev/mqueue", "/dev/console", "/dev/fd", "/dev/ptmx"];
            let text = path.to_string_lossy().into_owned();
            match entry.file_type() {
                Ok(t) if t.is_dir() && !own.contains(&text.as_str()) => left.push(path),
                Ok(t) if !t.is_symlink() && !t.is_file() && !own.contains(&text.as_str()) => found.push(text),
                _ => {}
            }
        }
    }
    found
}

/// `c 1:3 rwm`
fn device_rule(text: &str) -> Result<Value> {
    let bad = || Failure::bad(format!("invalid device cgroup rule format: '{text}'"));
    let fields: Vec<_> = text.split_ascii_whitespace().collect();
    let [kind, numbers, access] = fields[..] else { return Err(bad()) };
    let (major, minor) = numbers.split_once(':').ok_or_else(bad)?;
    let number = |n: &str| if n == "*" { Ok(None) } else { n.parse::<i64>().map(Some).map_err(|_| bad()) };
    let mut rule = json!({"allow": true, "type": kind, "access": access});
    for (field, text) in [("major", major), ("minor", minor)] {
        if let Some(n) = number(text)? {
            rule[field] = n.into();
        }
    }
    Ok(rule)
}

fn with_rules(resources: LinuxResources, rules: Vec<Value>) -> Result<LinuxResources> {
    let mut devices = resources.devices().clone().unwrap_or_default();
    for rule in rules {
        devices.push(serde_json::from_value(rule)?);
    }
    let mut resources = resources;
    resources.set_devices(Some(devices));
    Ok(resources)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_and_without_prefix_in_any_case() {
        let words = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        let set =
            capabilities(HashSet::from([Capability::Chown]), &words(&["net_admin"]), &words(&["CAP_CHOWN"]));
        assert_eq!(set.expect("known"), HashSet::from([Capability::NetAdmin]));
        let only = capabilities(HashSet::from([Capability::Chown]), &words(&["SYS_TIME"]), &words(&["ALL"]));
        assert_eq!(only.expect("known"), HashSet::from([Capability::SysTime]));
        assert!(capabilities(HashSet::new(), &words(&["nonsense"]), &[]).is_err());
    }
}
