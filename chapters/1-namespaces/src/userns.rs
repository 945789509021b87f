//! User namespaces: uid and gid maps, and how an ordinary user becomes root inside.
//!
//! A map line says "ids from A inside are ids from B outside, N of them" (user_namespaces(7)).
//! Who may write which map: a process with CAP_SETUID in the outer namespace writes any; anyone
//! else exactly one line, for their own id. For more an ordinary user needs newuidmap(1),
//! a small set-user-ID program which checks /etc/subuid and then writes what we ask.

use crate::{
    Result,
    error::{Doing, invalid},
    process::{Leash, step},
    spec::Spec,
    sys,
    talk::{self, Orders, Word},
    users,
};
use nix::{
    errno::Errno,
    sched::{CloneFlags, unshare},
    sys::wait::waitpid,
    unistd::{Gid, Pid, Uid, getegid, geteuid, getpid, setresgid, setresuid},
};
use oci_spec::runtime::{LinuxIdMapping, LinuxIdMappingBuilder};
use std::{fs, io, path::PathBuf, process::Command};

/// Writes the maps that the configuration asks for. Each file can be written once only.
pub(crate) fn write_maps(pid: Pid, spec: &Spec) -> Result<()> {
    let (uids, gids) = maps(spec);
    if uids.is_empty() && gids.is_empty() {
        tracing::warn!("the user namespace has no mappings: ids inside are those outside");
        write_map(pid, "uid", &same("uid", geteuid().as_raw())?, geteuid().as_raw())?;
        return write_map(pid, "gid", &same("gid", getegid().as_raw())?, getegid().as_raw());
    }
    if uids.is_empty() || gids.is_empty() {
        return invalid(
            "linux.namespaces asks for a new user namespace: say which ids it has, in \
             linux.uidMappings and linux.gidMappings",
        );
    }
    write_map(pid, "uid", uids, geteuid().as_raw())?;
    write_map(pid, "gid", gids, getegid().as_raw())
}

/// Where nothing is said of ids, as crun has it: root keeps all of its own, and anybody else is root inside.
fn same(which: &str, own: u32) -> Result<Vec<LinuxIdMapping>> {
    if !geteuid().is_root() {
        return Ok(vec![mapping(0, own, 1)]);
    }
    let file = format!("/proc/self/{which}_map");
    let text = fs::read_to_string(&file).doing(|| format!("read {file}"))?;
    let number = |word: Option<&str>| word.and_then(|w| w.parse::<u32>().ok());
    let lines = text.lines().map(|line| {
        let mut words = line.split_whitespace();
        (number(words.next()), number(words.nth(1)))
    });
    Ok(lines.filter_map(|(first, count)| Some(mapping(first?, first?, count?))).collect())
}

/// For `--explain`.
pub(crate) fn describe(spec: &Spec, pid: Pid) -> String {
    let (uids, gids) = maps(spec);
    let line = |m: &[LinuxIdMapping]| m.iter().map(one_line).collect::<Vec<_>>().join(", ");
    format!("/proc/{pid}/uid_map: {}; gid_map: {}", line(uids), line(gids))
}

fn maps(spec: &Spec) -> (&[LinuxIdMapping], &[LinuxIdMapping]) {
    let Some(linux) = spec.linux() else { return (&[], &[]) };
    (linux.uid_mappings().as_deref().unwrap_or_default(), linux.gid_mappings().as_deref().unwrap_or_default())
}

fn one_line(m: &LinuxIdMapping) -> String {
    format!("{} {} {}", m.container_id(), m.host_id(), m.size())
}

/// Writes `uid_map` or `gid_map` ("uid", "gid") of a process; `own` is the writer's own id.
pub(crate) fn write_map(pid: Pid, which: &str, map: &[LinuxIdMapping], own: u32) -> Result<()> {
    let file = format!("/proc/{pid}/{which}_map");
    let text: String = map.iter().map(|m| one_line(m) + "\n").collect();
    let own_only = map.len() == 1 && map[0].host_id() == own && map[0].size() == 1;
    if own_only && which == "gid" && !geteuid().is_root() {
        // Else a user could drop a group that a file's mode shuts out (CVE-2014-8989).
        let deny = format!("/proc/{pid}/setgroups");
        fs::write(&deny, "deny").doing(|| format!("write deny to {deny}"))?;
    }
    match fs::write(&file, text) {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied && !own_only => by_helper(pid, which, map),
        other => other.doing(|| format!("write {} to {file}", one_line(&map[0]))),
    }
}

/// newuidmap(1), newgidmap(1).
fn by_helper(pid: Pid, which: &str, map: &[LinuxIdMapping]) -> Result<()> {
    let helper = format!("new{which}map");
    let Some(program) = find_helper(&helper) else {
        return invalid(format!(
            "mapping more than your own {which} needs {helper}: install the package `uidmap`, or \
             map only your own id"
        ));
    };
    let numbers = map.iter().flat_map(|m| [m.container_id(), m.host_id(), m.size()]).map(|n| n.to_string());
    let output = Command::new(program)
        .arg(pid.to_string())
        .args(numbers)
        .output()
        .doing(|| format!("run {helper}"))?;
    if !output.status.success() {
        return invalid(format!(
            "{helper} refused: {} (your ranges are in /etc/sub{which})",
            String::from_utf8_lossy(&output.stderr).trim()
        ));
    }
    Ok(())
}

/// The helpers are set-user-ID programs: they are only looked for where root installs things.
fn find_helper(name: &str) -> Option<PathBuf> {
    ["/usr/bin", "/bin", "/usr/local/bin", "/usr/sbin"]
        .map(|dir| PathBuf::from(dir).join(name))
        .into_iter()
        .find(|path| path.is_file())
}

/// Moves the calling (single-threaded) process into a new user namespace in which it is
/// root, and a new mount namespace, mapping the ranges of /etc/subuid and /etc/subgid
/// by newuidmap(1) where both are there, and only the caller's own ids otherwise.
/// Returns how many ids are mapped.
pub fn become_root() -> Result<u32> {
    let (uid, gid, me) = (geteuid(), getegid(), getpid());
    let wide =
        ranges(uid, gid).filter(|_| find_helper("newuidmap").is_some() && find_helper("newgidmap").is_some());
    let narrow = || (vec![mapping(0, uid.as_raw(), 1)], vec![mapping(0, gid.as_raw(), 1)]);
    let (uids, gids) = wide.unwrap_or_else(narrow);

    // After unshare we are nobody outside any more: a child that stayed behind writes our maps.
    let (ours, theirs) = talk::pair()?;
    let child = sys::clone3(0, None).doing(|| "clone a process that writes the maps".into())?;
    let Some((child, _)) = child else {
        drop(ours);
        let _ = theirs.wait_go();
        let done = write_map(me, "uid", &uids, uid.as_raw())
            .and_then(|()| write_map(me, "gid", &gids, gid.as_raw()));
        match done {
            Ok(()) => drop(theirs.say(Word::Ready, b"", None)),
            Err(error) => theirs.fail(&error),
        }
        sys::exit_now(0)
    };
    drop(theirs);
    let leash = Leash(Some(child));
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS).map_err(|errno| crate::Error::Sys {
        doing: "make a user namespace (is it forbidden by \
                    /proc/sys/kernel/unprivileged_userns_clone or \
                    /proc/sys/kernel/apparmor_restrict_unprivileged_userns?)"
            .into(),
        errno,
    })?;
    ours.go(Orders::default(), b"")?;
    ours.until_ready("the process that writes the id maps")?;
    while waitpid(child, None) == Err(Errno::EINTR) {}
    leash.off();
    // Mapped, we are already uid 0; saying so also settles the saved and the group ids.
    setresgid(Gid::from_raw(0), Gid::from_raw(0), Gid::from_raw(0))
        .doing(|| "become group 0 of the new user namespace".into())?;
    setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0))
        .doing(|| "become root of the new user namespace".into())?;
    let mapped = uids.iter().map(LinuxIdMapping::size).sum();
    step("unshare(2)", || format!("a user namespace in which uid {uid} is root; {mapped} ids"));
    Ok(mapped)
}

type Maps = (Vec<LinuxIdMapping>, Vec<LinuxIdMapping>);

/// Root inside is the user; from 1 on come the ranges that subuid(5) and subgid(5) grant.
fn ranges(uid: Uid, gid: Gid) -> Option<Maps> {
    let name = users::name(uid)?;
    let of = |file: &str, own: u32| {
        let text = fs::read_to_string(file).ok()?;
        let granted = parse_ranges(&text, &name, uid.as_raw());
        let mut map = vec![mapping(0, own, 1)];
        let mut next = 1u32;
        for (start, count) in granted {
            map.push(mapping(next, start, count));
            next = next.checked_add(count)?;
        }
        (map.len() > 1).then_some(map)
    };
    Some((of("/etc/subuid", uid.as_raw())?, of("/etc/subgid", gid.as_raw())?))
}

/// `name:start:count`, a user by name or by number.
fn parse_ranges(text: &str, name: &str, uid: u32) -> Vec<(u32, u32)> {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.trim().split(':');
            let who = fields.next()?;
            if who != name && who != uid.to_string() {
                return None;
            }
            Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
        })
        .filter(|(_, count)| *count > 0)
        .collect()
}

/// One line of a map.
pub fn mapping(inside: u32, outside: u32, count: u32) -> LinuxIdMapping {
    LinuxIdMappingBuilder::default()
        .container_id(inside)
        .host_id(outside)
        .size(count)
        .build()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_name_and_by_number() {
        let text = "ann:100000:65536\n1001:300000:10\nbob:1:0\nann:bad:1\n";
        assert_eq!(parse_ranges(text, "ann", 1000), [(100_000, 65536)]);
        assert_eq!(parse_ranges(text, "carl", 1001), [(300_000, 10)]);
        assert_eq!(parse_ranges(text, "bob", 7), []);
    }
}
