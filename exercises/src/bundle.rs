//! A bundle for a check: a root made of this machine's own directories, and a configuration with values
//! that are new in every run, so that no answer can be written down beforehand.

use crate::course::Case;
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};

/// The host's directories that hold its programs and libraries, as far as it has them.
const SYSTEM: [&str; 6] = ["usr", "bin", "sbin", "lib", "lib32", "lib64"];

/// A bundle, and what is random in it.
#[derive(Clone, Debug)]
pub struct Bundle {
    /// Its directory.
    pub dir: PathBuf,
    /// Its configuration, to be changed before it is written.
    pub config: Value,
    /// A word that is nowhere else.
    pub word: String,
}

impl Bundle {
    /// Makes one in the case's directory whose process is `sh -c SCRIPT`.
    pub fn new(case: &Case, script: &str) -> Result<Bundle> {
        let (dir, word) = (case.dir, case.dice.word());
        let rootfs = dir.join("rootfs");
        for name in ["proc", "dev", "sys", "tmp", "etc", "old"] {
            fs::create_dir_all(rootfs.join(name)).with_context(|| format!("make {name} in the root"))?;
        }
        fs::write(rootfs.join("etc/marker"), &word)?;
        let mut mounts = vec![
            json!({ "destination": "/proc", "type": "proc", "source": "proc" }),
            json!({ "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"] }),
        ];
        for name in SYSTEM {
            let host = Path::new("/").join(name);
            match fs::read_link(&host) {
                Ok(target) => symlink(target, rootfs.join(name))?,
                Err(_) if host.is_dir() => {
                    fs::create_dir(rootfs.join(name))?;
                    mounts.push(json!({
                        "destination": host, "source": host, "type": "bind", "options": ["rbind", "ro"]
                    }));
                }
                Err(_) => {}
            }
        }
        let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        let mut namespaces: Vec<Value> = ["pid", "mount", "uts", "ipc", "network", "cgroup"]
            .iter()
            .map(|t| json!({ "type": t }))
            .collect();
        let mut linux = json!({});
        if uid != 0 {
            // An ordinary user makes namespaces only inside a user namespace.
            namespaces.push(json!({ "type": "user" }));
            linux["uidMappings"] = json!([{ "containerID": 0, "hostID": uid, "size": 1 }]);
            linux["gidMappings"] = json!([{ "containerID": 0, "hostID": gid, "size": 1 }]);
        }
        linux["namespaces"] = Value::Array(namespaces);
        let config = json!({
            "ociVersion": "1.2.0",
            "process": {
                "user": { "uid": 0, "gid": 0 },
                "args": ["/bin/sh", "-c", script],
                "env": ["PATH=/usr/bin:/bin:/usr/sbin:/sbin"],
                "cwd": "/",
                "noNewPrivileges": true
            },
            "root": { "path": "rootfs" },
            "hostname": format!("box-{word}"),
            "mounts": mounts,
            "linux": linux
        });
        Ok(Bundle { dir: dir.to_owned(), config, word })
    }

    /// Lets users whose ids are not ours look into it, and write to its /tmp.
    pub fn open_to_all(&self) -> Result<()> {
        let rootfs = self.dir.join("rootfs");
        for (path, mode) in [(&self.dir, 0o755), (&rootfs, 0o755), (&rootfs.join("tmp"), 0o777)] {
            fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        }
        Ok(())
    }

    /// The list in its configuration at this JSON pointer.
    pub fn list(&self, pointer: &str) -> Vec<Value> {
        self.config.pointer(pointer).and_then(Value::as_array).cloned().unwrap_or_default()
    }

    /// Writes its `config.json`.
    pub fn write(&self) -> Result<()> {
        fs::write(self.dir.join("config.json"), self.config.to_string()).context("write config.json")
    }
}
