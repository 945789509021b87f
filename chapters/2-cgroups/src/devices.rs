//! Which devices a group may open and make: a side room. On v1 the rules are written into two
//! files. v2 has no files for it: there the rules become a small program that the kernel runs whenever
//! a process of the group opens a device (bpf(2), `BPF_PROG_TYPE_CGROUP_DEVICE`).

use crate::{Result, bpf, setting::Setting};
use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};
use std::{fs, path::Path};

/// One rule, complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) allow: bool,
    /// `b`, `c`, or `a` for both.
    pub(crate) kind: char,
    /// `None` is every one.
    pub(crate) major: Option<i64>,
    pub(crate) minor: Option<i64>,
    /// Of `r`, `w` and `m` (mknod).
    pub(crate) access: String,
}

/// What every container may do, whatever its rules (config-linux.md, "Default Devices": what must be there must be
/// usable): make any device node, though not open it, and use these. Major, minor.
const DEFAULTS: [(i64, Option<i64>); 9] = [
    (1, Some(3)), // null
    (1, Some(5)), // zero
    (1, Some(7)), // full
    (1, Some(8)), // random
    (1, Some(9)), // urandom
    (5, Some(0)), // tty
    (5, Some(1)), // console
    (5, Some(2)), // ptmx
    (136, None),  // pseudo-terminals
];

/// The bundle's rules and the default ones. No rules at all leave the group as free as its parent.
pub(crate) fn complete(rules: &[LinuxDeviceCgroup]) -> Vec<Rule> {
    if rules.is_empty() {
        return Vec::new();
    }
    let asked = rules.iter().map(|r| Rule {
        allow: r.allow(),
        kind: match r.typ() {
            Some(LinuxDeviceType::B) => 'b',
            Some(LinuxDeviceType::C | LinuxDeviceType::U | LinuxDeviceType::P) => 'c',
            Some(LinuxDeviceType::A) | None => 'a',
        },
        // -1 is an older way to say every one.
        major: r.major().filter(|n| *n >= 0),
        minor: r.minor().filter(|n| *n >= 0),
        access: r.access().clone().filter(|a| !a.is_empty()).unwrap_or_else(|| "rwm".into()),
    });
    let allow =
        |kind, major, minor, access: &str| Rule { allow: true, kind, major, minor, access: access.into() };
    let nodes = ['c', 'b'].map(|kind| allow(kind, None, None, "m"));
    let usual = DEFAULTS.map(|(major, minor)| allow('c', Some(major), minor, "rwm"));
    // The kernel is spared what the bundle says itself, unless a later rule takes it back.
    let mut all: Vec<Rule> = asked.collect();
    let last: Vec<Rule> = all.iter().rev().take_while(|r| r.allow).cloned().collect();
    all.extend(nodes.into_iter().chain(usual).filter(|rule| !last.contains(rule)));
    all
}

/// v1: one line for each rule, `c 1:3 rwm`, in order.
pub(crate) fn settings(rules: &[LinuxDeviceCgroup]) -> Vec<Setting> {
    let number = |n: Option<i64>| n.map_or("*".to_owned(), |n| n.to_string());
    let line = |r: &Rule| {
        let file = if r.allow { "devices.allow" } else { "devices.deny" };
        let line = format!("{} {}:{} {}", r.kind, number(r.major), number(r.minor), r.access);
        Setting::new("devices", file, line)
    };
    complete(rules).iter().map(line).collect()
}

/// Whether this process may say which devices others use: root on the host, not in a user namespace. (For others
/// there is nothing to guard: they cannot make a device node, nor open one that they could not open anyway.)
pub(crate) fn ours_to_set() -> bool {
    nix::unistd::geteuid().is_root()
        && fs::read_to_string("/proc/self/uid_map")
            .is_ok_and(|m| m.split_whitespace().collect::<Vec<_>>() == ["0", "0", "4294967295"])
}

/// v2: attaches the rules to the group as a program, in the place of those attached before.
pub(crate) fn program(group: &Path, rules: &[LinuxDeviceCgroup]) -> Result<()> {
    let rules = complete(rules);
    if rules.is_empty() || !ours_to_set() { Ok(()) } else { bpf::attach(group, &rules) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(json: &str) -> Vec<LinuxDeviceCgroup> {
        serde_json::from_str(json).unwrap()
    }

    const DOCKER: &str = r#"[{"allow":false,"access":"rwm"},
        {"allow":true,"type":"c","major":10,"minor":229,"access":"rw"},
        {"allow":false,"type":"b","major":8,"access":"w"}]"#;

    #[test]
    fn v1_lines() {
        let lines: Vec<_> =
            settings(&rules(DOCKER)).iter().map(|s| format!("{} {}", s.file, s.value)).take(4).collect();
        assert_eq!(
            lines,
            [
                "devices.deny a *:* rwm",
                "devices.allow c 10:229 rw",
                "devices.deny b 8:* w",
                "devices.allow c *:* m"
            ]
        );
        assert!(settings(&[]).is_empty());
    }
}
