//! What the kernel shows of a process, in `/proc`.

use std::{collections::BTreeMap, fs};

/// The inode of each of a process's namespaces (`/proc/PID/ns`), by kind.
pub fn namespaces(pid: i32) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    // A process may be gone between two looks: then it has no namespaces, and the check says so.
    for entry in fs::read_dir(format!("/proc/{pid}/ns")).into_iter().flatten().flatten() {
        if let Ok(link) = fs::read_link(entry.path()) {
            all.insert(entry.file_name().to_string_lossy().into_owned(), link.display().to_string());
        }
    }
    all
}

/// A process's children.
pub fn children(pid: i32) -> Vec<i32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|p| p.parse().ok()).collect()
}

/// One line of `/proc/PID/mountinfo`.
#[derive(Clone, Debug)]
pub struct Mount {
    /// What part of the file system is shown.
    pub root: String,
    /// Where.
    pub at: String,
    /// Options, comma-separated.
    pub options: String,
    /// `shared:N`, `master:N`, ...; empty when private.
    pub propagation: String,
    /// File system type.
    pub kind: String,
    /// What the file system was mounted with, comma-separated: a tree of control groups has its controllers here.
    pub source_options: String,
}

/// What a process sees mounted.
pub fn mounts(pid: i32) -> Vec<Mount> {
    let text = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
    text.lines().filter_map(mount).collect()
}

fn mount(line: &str) -> Option<Mount> {
    let (before, after) = line.split_once(" - ")?;
    let mut fields = before.split(' ').skip(3);
    let mut after = after.split(' ');
    Some(Mount {
        root: fields.next()?.into(),
        at: fields.next()?.into(),
        options: fields.next()?.into(),
        propagation: fields.collect::<Vec<_>>().join(" "),
        kind: after.next()?.into(),
        source_options: after.nth(1)?.into(),
    })
}

/// A field of `/proc/PID/status`.
pub fn status(pid: i32, field: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    text.lines().find_map(|l| l.strip_prefix(field)?.strip_prefix(':')).map(|v| v.trim().to_owned())
}

/// In which function of the kernel it waits (`/proc/PID/wchan`); "0" if it runs.
pub fn wait_channel(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/wchan")).unwrap_or_default()
}

/// What a process is called inside the check's sandbox, which is a pid namespace: so the program is told of it. None if
/// it is not in there.
pub fn inside(pid: i32) -> Option<i32> {
    // One number for each namespace, from ours inwards (proc_pid_status(5)).
    status(pid, "NSpid")?.split_whitespace().nth(1)?.parse().ok()
}

/// The process that the program calls by this number.
pub fn outside(number: i32) -> Option<i32> {
    let all = fs::read_dir("/proc").ok()?.flatten();
    let mut pids = all.filter_map(|e| e.file_name().to_str()?.parse().ok());
    pids.find(|&pid| inside(pid) == Some(number) && ours(pid))
}

/// Whether a process descends from this one: other containers of the machine have numbers too.
fn ours(mut pid: i32) -> bool {
    let me = std::process::id() as i32;
    while pid > 1 && pid != me {
        pid = status(pid, "PPid").and_then(|p| p.parse().ok()).unwrap_or(0);
    }
    pid == me
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_namespaces_mounts_and_a_status() {
        let me = std::process::id() as i32;
        assert!(namespaces(me)["pid"].starts_with("pid:["));
        assert!(mounts(me).iter().any(|m| m.at == "/"));
        assert_eq!(status(me, "Tgid"), Some(me.to_string()));
    }

    #[test]
    fn a_line_of_mountinfo() {
        let m =
            mount("36 35 98:0 /mnt1 /mnt2 rw,noatime shared:1 master:2 - ext3 /dev/root rw,errors=continue")
                .expect("a mount");
        assert_eq!(
            (m.at.as_str(), m.propagation.as_str(), m.kind.as_str(), m.source_options.as_str()),
            ("/mnt2", "shared:1 master:2", "ext3", "rw,errors=continue")
        );
    }
}
