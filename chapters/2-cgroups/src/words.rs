//! What is in the files of a group, in words: what each one limits, and what its value says in units that people use.

use cgroups::size::human;
use std::path::Path;

/// Where there is no limit.
pub(crate) const FREE: &str = "no limit";

/// Whether a value, in words, is the one that a new group has.
pub(crate) fn is_usual(words: &str) -> bool {
    [FREE, "no", "nothing", "the usual", "all"].contains(&words)
}

/// The files that limit, and what each one says.
pub(crate) const FILES: [(&str, &str); 33] = [
    ("memory.max", "memory, at most"),
    ("memory.high", "memory, slowed down above"),
    ("memory.low", "memory, left alone below"),
    ("memory.min", "memory, guaranteed"),
    ("memory.swap.max", "swap, at most"),
    ("memory.oom.group", "on OOM, kill all"),
    ("memory.limit_in_bytes", "memory, at most"),
    ("memory.memsw.limit_in_bytes", "memory and swap, at most"),
    ("memory.soft_limit_in_bytes", "memory, shrunk to when short"),
    ("memory.swappiness", "eagerness to swap"),
    ("memory.oom_control", "OOM killer"),
    ("cpu.max", "cpu time in each period"),
    ("cpu.max.burst", "cpu time saved up for bursts"),
    ("cpu.weight", "weight against others"),
    ("cpu.idle", "only when no other wants the cpu"),
    ("cpu.shares", "weight against others"),
    ("cpu.cfs_quota_us", "cpu time in each period"),
    ("cpu.cfs_period_us", "the period"),
    ("cpu.cfs_burst_us", "cpu time saved up for bursts"),
    ("cpuset.cpus", "on which processors"),
    ("cpuset.mems", "on which memory nodes"),
    ("pids.max", "processes and threads, at most"),
    ("io.max", "I/O per device, at most"),
    ("io.weight", "I/O weight against others"),
    ("io.bfq.weight", "I/O weight against others (BFQ)"),
    ("blkio.bfq.weight", "I/O weight against others (BFQ)"),
    ("blkio.throttle.read_bps_device", "bytes read per second"),
    ("blkio.throttle.write_bps_device", "bytes written per second"),
    ("blkio.throttle.read_iops_device", "reads per second"),
    ("blkio.throttle.write_iops_device", "writes per second"),
    ("devices.list", "devices allowed"),
    ("net_cls.classid", "traffic class"),
    ("net_prio.ifpriomap", "traffic priority"),
];

/// What a file says.
pub(crate) fn meaning(file: &str) -> &'static str {
    let devices = [("devices.allow", "device allowed"), ("devices.deny", "device denied")];
    FILES.iter().chain(&devices).find(|(name, _)| *name == file).map_or("", |(_, what)| what)
}

/// A file's value in words; nothing where it speaks for itself.
pub(crate) fn value(file: &Path, value: &str) -> String {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let number = value.parse::<u64>().ok();
    // A number near 2^63 is how v1 says that there is no limit.
    if matches!(value, "max" | "-1") || value.starts_with("max ") || number.is_some_and(|n| n > 1 << 60) {
        return FREE.into();
    }
    match (&*name, number) {
        ("memory.swappiness", _) => String::new(),
        ("memory.oom_control", _) => match value.contains("oom_kill_disable 1") {
            true => "switched off: processes wait".into(),
            false => "kills when memory is out".into(),
        },
        ("memory.low" | "memory.min" | "cpu.max.burst" | "cpu.cfs_burst_us", Some(0)) => "nothing".into(),
        ("memory.oom.group" | "cpu.idle", Some(n)) => if n == 0 { "no" } else { "yes" }.into(),
        ("cpu.max", _) => match value.split_once(' ') {
            Some((quota, period)) => cpus(quota, period),
            None => String::new(),
        },
        ("cpu.cfs_quota_us", _) => {
            // The other half is in the file beside it; if that is gone, the group is.
            let period = std::fs::read_to_string(file.with_file_name("cpu.cfs_period_us"));
            cpus(value, period.unwrap_or_default().trim())
        }
        ("cpu.cfs_period_us" | "cpu.cfs_burst_us" | "cpu.max.burst", Some(n)) => time(n),
        ("cpu.shares", Some(n)) => weight(n, 1024),
        ("cpu.weight" | "io.weight" | "io.bfq.weight" | "blkio.bfq.weight", Some(n)) => weight(n, 100),
        ("cpuset.cpus" | "cpuset.mems", _) if value.is_empty() => "those of the group above".into(),
        ("blkio.throttle.read_bps_device" | "blkio.throttle.write_bps_device", _) => rates(value),
        ("io.max", _) => rates(&value.replace('=', " ")),
        ("net_cls.classid", Some(n)) if n != 0 => format!("class {:x}:{:x}", n >> 16, n & 0xffff),
        ("devices.list", _) if value == "a *:* rwm" => "all".into(),
        (name, Some(n)) if name.starts_with("memory.") => human(n),
        _ if value.is_empty() => FREE.into(),
        _ => String::new(),
    }
}

/// `50000` in each `100000` microseconds.
fn cpus(quota: &str, period: &str) -> String {
    match (quota.parse::<u64>(), period.parse::<u64>()) {
        (Ok(quota), Ok(period)) if period > 0 => {
            let cpus = (quota as f64 / period as f64 * 100.0).round() / 100.0;
            format!("{} in each {}: {cpus} of a cpu", time(quota), time(period))
        }
        _ => String::new(),
    }
}

/// Microseconds.
fn time(us: u64) -> String {
    match us {
        0..1_000 => format!("{us}µs"),
        1_000..1_000_000 => format!("{}ms", us as f64 / 1e3),
        _ => format!("{}s", us as f64 / 1e6),
    }
}

/// A weight beside the one that a new group has.
fn weight(n: u64, usual: u64) -> String {
    match n == usual {
        true => "the usual".into(),
        false => format!("{:.2} times the usual", n as f64 / usual as f64),
    }
}

/// The bytes per second in lines such as `8:0 1048576` and `8:0 rbps 1048576 wbps max`.
fn rates(value: &str) -> String {
    let word = |word: &str| match word.parse::<u64>() {
        Ok(n) => format!("{}/s", human(n)),
        Err(_) => word.to_owned(),
    };
    let mut lines: Vec<String> = Vec::new();
    for line in value.lines() {
        let mut words = Vec::new();
        let mut counts = false;
        for text in line.split(' ') {
            // Operations are counted, not measured.
            words.push(if counts { text.to_owned() } else { word(text) });
            counts = text.ends_with("iops");
        }
        lines.push(words.join(" "));
    }
    if lines.is_empty() { FREE.into() } else { lines.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_in_words() {
        for (file, text, words) in [
            ("memory.max", "67108864", "64MiB"),
            ("memory.max", "max", FREE),
            ("memory.limit_in_bytes", "9223372036854771712", FREE),
            ("memory.low", "0", "nothing"),
            ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0", "kills when memory is out"),
            ("cpu.max", "50000 100000", "50ms in each 100ms: 0.5 of a cpu"),
            ("cpu.max", "max 100000", FREE),
            ("cpu.cfs_period_us", "100000", "100ms"),
            ("cpu.cfs_quota_us", "-1", FREE),
            ("cpu.weight", "100", "the usual"),
            ("cpu.shares", "512", "0.50 times the usual"),
            ("cpuset.cpus", "0-1", ""),
            ("pids.max", "20", ""),
            (
                "io.max",
                "8:0 rbps=1048576 wbps=max riops=120 wiops=max",
                "8:0 rbps 1MiB/s wbps max riops 120 wiops max",
            ),
            ("blkio.throttle.read_bps_device", "8:0 1048576\n8:16 512", "8:0 1MiB/s, 8:16 512B/s"),
            ("blkio.throttle.read_bps_device", "", FREE),
            ("net_cls.classid", "1048577", "class 10:1"),
        ] {
            assert_eq!(value(Path::new(file), text), words, "{file} {text}");
        }
    }

    #[test]
    fn a_quota_is_read_with_its_period() {
        let group = tempfile::tempdir().unwrap();
        std::fs::write(group.path().join("cpu.cfs_period_us"), "50000\n").unwrap();
        let file = group.path().join("cpu.cfs_quota_us");
        assert_eq!(value(&file, "75000"), "75ms in each 50ms: 1.5 of a cpu");
    }
}
