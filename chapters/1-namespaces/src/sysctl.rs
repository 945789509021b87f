//! `linux.sysctl`: kernel settings that belong to a namespace of the container's own.

use crate::{
    Result,
    error::{Doing, invalid},
    plan::Plan,
};
use nix::{
    fcntl::{OFlag, openat},
    sys::stat::Mode,
};
use oci_spec::runtime::LinuxNamespaceType as Kind;
use std::{collections::HashMap, fs::File, io::Write, os::fd::OwnedFd};

/// Writes them. `proc` is the host's procfs: it shows the settings of the namespaces of whoever
/// writes, and unlike the container's it cannot have been replaced by something else
/// (CVE-2025-52881 redirected such writes).
pub(crate) fn write(proc: &OwnedFd, plan: &Plan, settings: &HashMap<String, String>) -> Result<()> {
    for (name, value) in settings {
        let path = path_of(name);
        if !is_plain(&path) {
            return invalid(format!(
                "linux.sysctl: {name} contains an invalid path: it would change the host"
            ));
        }
        match namespace_of(&path) {
            // Two fields for one thing could contradict each other.
            _ if path == "kernel/hostname" => {
                return invalid("linux.sysctl: kernel.hostname is not allowed: set the name in hostname");
            }
            Some(kind) if plan.has(kind) => {}
            Some(kind) => {
                return invalid(format!(
                    "linux.sysctl: {name} would change the host: it needs a {kind} namespace"
                ));
            }
            None => {
                return invalid(format!(
                    "linux.sysctl: {name} belongs to no namespace: it would change the host"
                ));
            }
        }
        let doing = || format!("write {value:?} to /proc/sys/{path}");
        let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let file = openat(proc, format!("sys/{path}").as_str(), flags, Mode::empty()).doing(doing)?;
        File::from(file).write_all(value.as_bytes()).doing(doing)?;
    }
    Ok(())
}

/// `net.ipv4.ip_forward` as a path. sysctl(8): with a slash as the first separator, slashes
/// separate and dots belong to names (`net/ipv4/conf/eth0.1/...`).
fn path_of(name: &str) -> String {
    match name.find(['.', '/']) {
        Some(at) if name.as_bytes()[at] == b'/' => name.to_owned(),
        _ => name
            .chars()
            .map(|c| match c {
                '.' => '/',
                '/' => '.',
                c => c,
            })
            .collect(),
    }
}

/// Whether it names what it seems to name: with `..` it could begin in a namespace and end outside.
fn is_plain(path: &str) -> bool {
    !path.split('/').any(|part| part == ".." || part.is_empty())
}

/// The namespace that a setting is a part of (namespaces(7) and the kernel's own tables).
fn namespace_of(path: &str) -> Option<Kind> {
    const IPC: [&str; 11] = [
        "kernel/msgmax",
        "kernel/msgmnb",
        "kernel/msgmni",
        "kernel/sem",
        "kernel/shmall",
        "kernel/shmmax",
        "kernel/shmmni",
        "kernel/shm_rmid_forced",
        "kernel/msg_next_id",
        "kernel/sem_next_id",
        "kernel/shm_next_id",
    ];
    match path {
        "kernel/domainname" | "kernel/hostname" => Some(Kind::Uts),
        path if path.starts_with("net/") => Some(Kind::Network),
        path if path.starts_with("fs/mqueue/") || IPC.contains(&path) => Some(Kind::Ipc),
        path if path.starts_with("user/") => Some(Kind::User),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_paths() {
        assert_eq!(path_of("net.ipv4.ip_forward"), "net/ipv4/ip_forward");
        assert_eq!(path_of("net/ipv4/conf/eth0.1/forwarding"), "net/ipv4/conf/eth0.1/forwarding");
        assert_eq!(path_of("net.ipv4.conf.eth0/1.forwarding"), "net/ipv4/conf/eth0.1/forwarding");
    }

    #[test]
    fn what_belongs_to_no_namespace_is_nobodys() {
        assert_eq!(namespace_of("net/core/somaxconn"), Some(Kind::Network));
        assert_eq!(namespace_of("kernel/shmmax"), Some(Kind::Ipc));
        assert_eq!(namespace_of("kernel/core_pattern"), None);
        assert!(!is_plain("net/../kernel/core_pattern") && !is_plain("/net/core/somaxconn"));
        assert_eq!(namespace_of("vm/overcommit_memory"), None);
    }
}
