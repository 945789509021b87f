//! What `spec` writes: a configuration to start from, the same that runc and crun write, since people and scripts change
//! it by what they know is in it. (What docker gives a container is `namespaces spec`.)

use anyhow::Result;
use namespaces::spec::Spec;
use nix::{
    sys::statfs::{CGROUP2_SUPER_MAGIC, statfs},
    unistd::{getegid, geteuid},
};
use serde_json::{Value, json};

/// For root, or for an ordinary user who is to be root of a user namespace.
pub(crate) fn config(rootless: bool) -> Result<Spec> {
    let few = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    let mut config = json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": true,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {"bounding": few, "effective": few, "permitted": few, "ambient": few},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": true,
        },
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "runc",
        "mounts": mounts(),
        "linux": {
            "namespaces": namespaces(&["pid", "network", "ipc", "uts", "mount"]),
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi",
            ],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    });
    // On v1 its view of its groups is that of the runtime; there runc leaves the namespace out.
    if statfs("/sys/fs/cgroup").is_ok_and(|fs| fs.filesystem_type() == CGROUP2_SUPER_MAGIC)
        && let Some(list) = config["linux"]["namespaces"].as_array_mut()
    {
        list.push(json!({"type": "cgroup"}));
    }
    if rootless {
        for_a_user(&mut config);
    }
    // By way of the standard's own types, which also have its order of the fields.
    Ok(serde_json::from_value(config)?)
}

fn namespaces(kinds: &[&str]) -> Value {
    kinds.iter().map(|kind| json!({"type": kind})).collect()
}

fn mounts() -> Value {
    let mount = |to: &str, kind: &str, source: &str, options: &str| {
        let options: Vec<_> = options.split(' ').collect();
        json!({"destination": to, "type": kind, "source": source, "options": options})
    };
    json!([
        {"destination": "/proc", "type": "proc", "source": "proc"},
        mount("/dev", "tmpfs", "tmpfs", "nosuid strictatime mode=755 size=65536k"),
        mount("/dev/pts", "devpts", "devpts", "nosuid noexec newinstance ptmxmode=0666 mode=0620 gid=5"),
        mount("/dev/shm", "tmpfs", "shm", "nosuid noexec nodev mode=1777 size=65536k"),
        mount("/dev/mqueue", "mqueue", "mqueue", "nosuid noexec nodev"),
        mount("/sys", "sysfs", "sysfs", "nosuid noexec nodev ro"),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid noexec nodev relatime ro"),
    ])
}

/// Without what only root of the host may have: a network that it could set up, devices' rules, the group of terminals.
fn for_a_user(config: &mut Value) {
    for mount in config["mounts"].as_array_mut().into_iter().flatten() {
        match mount["destination"].as_str() {
            Some("/dev/pts") => {
                mount["options"].as_array_mut().into_iter().for_each(|o| o.retain(|o| o != "gid=5"))
            }
            // A new sysfs is for whoever owns the network namespace: the host's.
            Some("/sys") => {
                *mount = json!({"destination": "/sys", "type": "none", "source": "/sys",
                    "options": ["rbind", "nosuid", "noexec", "nodev", "ro"]});
            }
            _ => {}
        }
    }
    let own = |id: u32| json!([{"containerID": 0, "hostID": id, "size": 1}]);
    let linux = &mut config["linux"];
    if let Some(list) = linux["namespaces"].as_array_mut() {
        list.retain(|namespace| namespace["type"] != "network");
        list.push(json!({"type": "user"}));
    }
    linux["uidMappings"] = own(geteuid().as_raw());
    linux["gidMappings"] = own(getegid().as_raw());
    linux["resources"] = Value::Null;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinary_users_has_no_network_and_no_rules() {
        let config = serde_json::to_value(config(true).unwrap()).unwrap();
        let text = config.to_string();
        assert!(
            !text.contains("gid=5") && !text.contains("\"network\"") && !text.contains("resources"),
            "{text}"
        );
        assert_eq!(config["linux"]["uidMappings"][0]["hostID"], geteuid().as_raw());
        assert_eq!(config["mounts"][5]["options"][0], "rbind");
    }
}
