//! Reading what a group has used. v1 counts in nanoseconds and calls "no limit" a number near 2^63, v2 counts in
//! microseconds and says `max`; after this module that is forgotten.

use crate::{
    Result,
    cgroup::Group,
    hierarchy::Version,
    stats::{Blkio, BlkioEntry, CpuUsage, Memory, MemoryEntry, Pids, Stats, Throttling},
    tree,
};
use std::{collections::BTreeMap, path::Path};

/// Reads a group's counters. What the kernel does not count here stays 0.
pub(crate) fn read(groups: &[Group]) -> Result<Stats> {
    let mut stats = Stats::default();
    for group in groups {
        let has = |c: &str| group.controllers.iter().any(|g| g == c);
        match group.version {
            Version::V1 => read_v1(&group.path, has, &mut stats),
            Version::V2 => read_v2(&group.path, has, &mut stats),
        }
    }
    Ok(stats)
}

/// How many processes the kernel killed in the group (and below it) for lack of memory.
pub(crate) fn oom_kills(groups: &[Group]) -> Result<u64> {
    let Some(group) = groups.iter().find(|g| g.controllers.iter().any(|c| c == "memory")) else {
        return Ok(0);
    };
    let file = if group.version == Version::V1 { "memory.oom_control" } else { "memory.events" };
    Ok(pairs(&group.path.join(file)).get("oom_kill").copied().unwrap_or(0))
}

/// How often a fork was refused for the limit of processes.
pub(crate) fn refused_forks(groups: &[Group]) -> Result<u64> {
    let Some(group) = groups.iter().find(|g| g.controllers.iter().any(|c| c == "pids")) else { return Ok(0) };
    Ok(pairs(&group.path.join("pids.events")).get("max").copied().unwrap_or(0))
}

fn read_v1(group: &Path, has: impl Fn(&str) -> bool, stats: &mut Stats) {
    let value = |file: &str| number(&group.join(file));
    if has("cpuacct") {
        stats.cpu.usage = CpuUsage {
            total: value("cpuacct.usage"),
            kernel: value("cpuacct.usage_sys"),
            user: value("cpuacct.usage_user"),
            percpu: text(&group.join("cpuacct.usage_percpu"))
                .split_whitespace()
                .filter_map(|n| n.parse().ok())
                .collect(),
        };
    }
    if has("cpu") {
        let stat = pairs(&group.join("cpu.stat"));
        let count = |name: &str| stat.get(name).copied().unwrap_or(0);
        stats.cpu.throttling = Throttling {
            periods: count("nr_periods"),
            throttled_periods: count("nr_throttled"),
            throttled_time: count("throttled_time"),
        };
    }
    if has("memory") {
        let entry = |kind: &str| MemoryEntry {
            limit: value(&format!("memory.{kind}limit_in_bytes")),
            usage: value(&format!("memory.{kind}usage_in_bytes")),
            max: value(&format!("memory.{kind}max_usage_in_bytes")),
            failcnt: value(&format!("memory.{kind}failcnt")),
        };
        let raw = pairs(&group.join("memory.stat"));
        stats.memory = Memory {
            cache: raw.get("cache").copied().unwrap_or(0),
            usage: entry(""),
            swap: entry("memsw."),
            oom_kill: pairs(&group.join("memory.oom_control")).get("oom_kill").copied().unwrap_or(0),
            raw,
        };
    }
    if has("pids") {
        stats.pids = pids(group);
    }
    if has("blkio") {
        stats.blkio = Blkio {
            bytes: blkio_v1(&text(&group.join("blkio.throttle.io_service_bytes_recursive"))),
            operations: blkio_v1(&text(&group.join("blkio.throttle.io_serviced_recursive"))),
        };
    }
}

fn read_v2(group: &Path, has: impl Fn(&str) -> bool, stats: &mut Stats) {
    let value = |file: &str| number(&group.join(file));
    // Time is counted in every v2 group; in a hybrid, v1's cpuacct has the better figures.
    if stats.cpu.usage.total == 0 {
        let stat = pairs(&group.join("cpu.stat"));
        let nanoseconds = |name: &str| stat.get(name).copied().unwrap_or(0) * 1000;
        stats.cpu.usage.total = nanoseconds("usage_usec");
        stats.cpu.usage.user = nanoseconds("user_usec");
        stats.cpu.usage.kernel = nanoseconds("system_usec");
        if has("cpu") {
            stats.cpu.throttling = Throttling {
                periods: stat.get("nr_periods").copied().unwrap_or(0),
                throttled_periods: stat.get("nr_throttled").copied().unwrap_or(0),
                throttled_time: nanoseconds("throttled_usec"),
            };
        }
    }
    if has("memory") {
        let raw = pairs(&group.join("memory.stat"));
        let events = pairs(&group.join("memory.events"));
        let usage = value("memory.current");
        let swapped = value("memory.swap.current");
        let limit = value("memory.max");
        stats.memory = Memory {
            cache: raw.get("file").copied().unwrap_or(0),
            usage: MemoryEntry {
                limit,
                usage,
                max: value("memory.peak").max(usage),
                failcnt: events.get("max").copied().unwrap_or(0),
            },
            // As v1 and the spec count it: together.
            swap: MemoryEntry {
                limit: limit.saturating_add(value("memory.swap.max")),
                usage: usage + swapped,
                max: 0,
                failcnt: 0,
            },
            oom_kill: events.get("oom_kill").copied().unwrap_or(0),
            raw,
        };
    }
    if has("pids") {
        stats.pids = pids(group);
    }
    if has("io") {
        stats.blkio = io_v2(&text(&group.join("io.stat")));
    }
}

fn pids(group: &Path) -> Pids {
    let limit = text(&group.join("pids.max")).trim().parse().unwrap_or(0);
    Pids { current: number(&group.join("pids.current")), limit }
}

fn text(file: &Path) -> String {
    tree::text(file).unwrap_or_default()
}

/// A file that holds one number, or `max`.
fn number(file: &Path) -> u64 {
    match text(file).trim() {
        "max" => u64::MAX,
        other => other.parse().unwrap_or(0),
    }
}

/// A file of lines `name number`.
fn pairs(file: &Path) -> BTreeMap<String, u64> {
    text(file)
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(name, value)| Some((name.to_owned(), value.trim().parse().ok()?)))
        .collect()
}

/// Lines `8:0 Read 4096`; the sum of all is on a line of its own, without a device.
fn blkio_v1(text: &str) -> Vec<BlkioEntry> {
    let entry = |line: &str| {
        let [device, op, value] = line.split_whitespace().collect::<Vec<_>>()[..] else { return None };
        let (major, minor) = device.split_once(':')?;
        Some(BlkioEntry {
            major: major.parse().ok()?,
            minor: minor.parse().ok()?,
            op: op.into(),
            value: value.parse().ok()?,
        })
    };
    text.lines().filter_map(entry).collect()
}

/// Lines `8:0 rbytes=4096 wbytes=0 rios=1 wios=0 …`.
fn io_v2(text: &str) -> Blkio {
    let mut blkio = Blkio::default();
    for line in text.lines() {
        let mut words = line.split(' ');
        let Some((major, minor)) = words.next().and_then(|d| d.split_once(':')) else { continue };
        let (Ok(major), Ok(minor)) = (major.parse(), minor.parse()) else { continue };
        for (key, value) in words.filter_map(|w| w.split_once('=')) {
            let Ok(value) = value.parse() else { continue };
            let entry = |op: &str| BlkioEntry { major, minor, op: op.into(), value };
            match key {
                "rbytes" => blkio.bytes.push(entry("Read")),
                "wbytes" => blkio.bytes.push(entry("Write")),
                "rios" => blkio.operations.push(entry("Read")),
                "wios" => blkio.operations.push(entry("Write")),
                _ => {}
            }
        }
    }
    blkio
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_devices() {
        let v1 = blkio_v1("8:0 Read 4096\n8:0 Write 512\nTotal 4608\n");
        assert_eq!(
            v1.iter().map(|e| (e.op.as_str(), e.value)).collect::<Vec<_>>(),
            [("Read", 4096), ("Write", 512)]
        );
        let v2 = io_v2("8:16 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0\n");
        assert_eq!((v2.bytes[0].minor, v2.bytes[0].value, v2.operations[0].value), (16, 4096, 1));
    }
}
