//! What the fields of `linux.resources` mean to cgroup v1: the spec was written after these files, so that
//! most go in as they are (Documentation/admin-guide/cgroup-v1).

use crate::{Error, Result, setting::Setting};
use oci_spec::runtime::{LinuxResources, LinuxThrottleDevice};

/// What one controller is told.
pub(crate) fn settings(controller: &str, limits: &LinuxResources) -> Result<Vec<Setting>> {
    Ok(match controller {
        "memory" => memory(limits),
        "cpu" => cpu(limits),
        "cpuset" => cpuset(limits),
        "pids" => pids(limits),
        "blkio" => blkio(limits),
        "hugetlb" => hugetlb(limits)?,
        "rdma" => rdma(limits),
        "net_cls" | "net_prio" => network(controller, limits),
        _ => Vec::new(),
    })
}

/// -1 is written as it is: to v1 it means "no limit". 0 means "not asked", as docker sends it.
fn memory(limits: &LinuxResources) -> Vec<Setting> {
    let Some(m) = limits.memory() else { return Vec::new() };
    let mut all = Vec::new();
    let mut add = |file: &str, value: Option<i64>| {
        if let Some(value) = value.filter(|v| *v != 0) {
            all.push(Setting::new("memory", file, value));
        }
    };
    add("memory.limit_in_bytes", m.limit());
    // Memory and swap together, so it is never below the limit.
    let unlimited = (m.limit() == Some(-1)).then_some(-1);
    add("memory.memsw.limit_in_bytes", m.swap().filter(|s| *s != 0).or(unlimited));
    add("memory.soft_limit_in_bytes", m.reservation());
    add("memory.kmem.limit_in_bytes", m.kernel());
    add("memory.kmem.tcp.limit_in_bytes", m.kernel_tcp());
    if let Some(swappiness) = m.swappiness() {
        all.push(Setting::new("memory", "memory.swappiness", swappiness));
    }
    // `false` is the kernel's default; written only when it changes something, since a bundle always carries it.
    if m.disable_oom_killer() == Some(true) {
        all.push(Setting::new("memory", "memory.oom_control", 1));
    }
    for setting in &mut all {
        // Without swap accounting there is no memsw file, and a limit of memory alone has to do where -1 was only implied.
        // The kernel's own memory has been counted with the rest for years, and its files go one by one.
        setting.optional =
            setting.file.contains("kmem") || (setting.file.contains("memsw") && setting.value == "-1");
    }
    all
}

fn cpu(limits: &LinuxResources) -> Vec<Setting> {
    let Some(c) = limits.cpu() else { return Vec::new() };
    let mut all = Vec::new();
    let mut add = |file: &str, value: Option<String>| {
        if let Some(value) = value {
            all.push(Setting::new("cpu", file, value));
        }
    };
    let number = |n: Option<u64>| n.filter(|n| *n != 0).map(|n| n.to_string());
    let signed = |n: Option<i64>| n.filter(|n| *n != 0).map(|n| n.to_string());
    add("cpu.shares", number(c.shares()));
    // The period before the quota: a quota is checked against the period that it finds.
    add("cpu.cfs_period_us", number(c.period()));
    add("cpu.cfs_quota_us", signed(c.quota()));
    add("cpu.cfs_burst_us", c.burst().map(|n| n.to_string()));
    add("cpu.rt_period_us", number(c.realtime_period()));
    add("cpu.rt_runtime_us", signed(c.realtime_runtime()));
    add("cpu.idle", c.idle().map(|n| n.to_string()));
    all
}

/// The same two files on both versions.
pub(crate) fn cpuset(limits: &LinuxResources) -> Vec<Setting> {
    let Some(c) = limits.cpu() else { return Vec::new() };
    [("cpuset.cpus", c.cpus()), ("cpuset.mems", c.mems())]
        .into_iter()
        .filter_map(|(file, list)| Some((file, list.as_ref().filter(|l| !l.is_empty())?)))
        .map(|(file, list)| Setting::new("cpuset", file, list))
        .collect()
}

/// The same file on both versions.
pub(crate) fn pids(limits: &LinuxResources) -> Vec<Setting> {
    let Some(p) = limits.pids() else { return Vec::new() };
    let value = if p.limit() > 0 { p.limit().to_string() } else { "max".into() };
    vec![Setting::new("pids", "pids.max", value)]
}

/// Weights are the business of the I/O scheduler: BFQ has its own files, and others none.
fn blkio(limits: &LinuxResources) -> Vec<Setting> {
    let Some(b) = limits.block_io() else { return Vec::new() };
    let mut all = Vec::new();
    if let Some(weight) = b.weight().filter(|w| *w != 0) {
        all.push(Setting::new("blkio", "blkio.weight", weight).or("blkio.bfq.weight", weight));
    }
    if let Some(weight) = b.leaf_weight().filter(|w| *w != 0) {
        all.push(Setting::new("blkio", "blkio.leaf_weight", weight));
    }
    for device in b.weight_device().iter().flatten() {
        let line = |weight: u16| format!("{}:{} {weight}", device.major(), device.minor());
        if let Some(weight) = device.weight() {
            let one = Setting::new("blkio", "blkio.weight_device", line(weight));
            all.push(one.or("blkio.bfq.weight_device", line(weight)));
        }
        if let Some(weight) = device.leaf_weight() {
            all.push(Setting::new("blkio", "blkio.leaf_weight_device", line(weight)));
        }
    }
    let mut throttle = |file: &str, devices: &Option<Vec<LinuxThrottleDevice>>| {
        for d in devices.iter().flatten() {
            let line = format!("{}:{} {}", d.major(), d.minor(), d.rate());
            all.push(Setting::new("blkio", format!("blkio.throttle.{file}"), line));
        }
    };
    throttle("read_bps_device", b.throttle_read_bps_device());
    throttle("write_bps_device", b.throttle_write_bps_device());
    throttle("read_iops_device", b.throttle_read_iops_device());
    throttle("write_iops_device", b.throttle_write_iops_device());
    all
}

/// Huge pages: those in use, and (Linux 5.7) those only reserved.
fn hugetlb(limits: &LinuxResources) -> Result<Vec<Setting>> {
    let mut all = Vec::new();
    for page in limits.hugepage_limits().iter().flatten() {
        let size = page_size(page.page_size())?;
        all.push(Setting::new("hugetlb", format!("hugetlb.{size}.limit_in_bytes"), page.limit()));
        let reserved = format!("hugetlb.{size}.rsvd.limit_in_bytes");
        all.push(Setting::new("hugetlb", reserved, page.limit()).optional());
    }
    Ok(all)
}

/// The size becomes part of a file's name, so it must be one: `2MB`, `1GB`, `64KB`.
pub(crate) fn page_size(text: &str) -> Result<&str> {
    let number = text.strip_suffix("KB").or(text.strip_suffix("MB")).or(text.strip_suffix("GB"));
    match number {
        Some(n) if !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()) => Ok(text),
        _ => {
            Err(Error::Limit(format!("hugepage size '{text}' is not a number with KB, MB or GB, as 2MB is")))
        }
    }
}

/// The same file on both versions.
pub(crate) fn rdma(limits: &LinuxResources) -> Vec<Setting> {
    let mut all = Vec::new();
    for (device, limit) in limits.rdma().iter().flatten() {
        let mut line = device.clone();
        for (name, value) in [("hca_handle", limit.hca_handles()), ("hca_object", limit.hca_objects())] {
            if let Some(value) = value {
                line += &format!(" {name}={value}");
            }
        }
        all.push(Setting::new("rdma", "rdma.max", line));
    }
    all
}

/// A class for tc(8) to shape by, and priorities by interface. (v2 has neither: there it is a BPF program's work.)
fn network(controller: &str, limits: &LinuxResources) -> Vec<Setting> {
    let Some(n) = limits.network() else { return Vec::new() };
    let class = n.class_id().map(|id| Setting::new("net_cls", "net_cls.classid", id));
    let priorities = n.priorities().iter().flatten();
    let priorities = priorities
        .map(|p| Setting::new("net_prio", "net_prio.ifpriomap", format!("{} {}", p.name(), p.priority())));
    class.into_iter().chain(priorities).filter(|s| s.controller == controller).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(controller: &str, json: &str) -> Vec<String> {
        let limits: LinuxResources = serde_json::from_str(json).unwrap();
        settings(controller, &limits).unwrap().iter().map(|s| format!("{}={}", s.file, s.value)).collect()
    }

    #[test]
    fn memory_and_swap() {
        assert_eq!(
            lines(
                "memory",
                r#"{"memory":{"limit":1000,"swap":2000,"reservation":500,"disableOOMKiller":true}}"#
            ),
            [
                "memory.limit_in_bytes=1000",
                "memory.memsw.limit_in_bytes=2000",
                "memory.soft_limit_in_bytes=500",
                "memory.oom_control=1"
            ]
        );
        assert_eq!(
            lines("memory", r#"{"memory":{"limit":-1}}"#),
            ["memory.limit_in_bytes=-1", "memory.memsw.limit_in_bytes=-1"]
        );
        assert!(lines("memory", r#"{"memory":{"limit":0,"disableOOMKiller":false}}"#).is_empty());
    }

    #[test]
    fn cpu_and_pids() {
        assert_eq!(
            lines("cpu", r#"{"cpu":{"shares":512,"quota":50000,"period":100000,"cpus":"0"}}"#),
            ["cpu.shares=512", "cpu.cfs_period_us=100000", "cpu.cfs_quota_us=50000"]
        );
        assert_eq!(lines("cpuset", r#"{"cpu":{"cpus":"0-1"}}"#), ["cpuset.cpus=0-1"]);
        assert_eq!(lines("pids", r#"{"pids":{"limit":-1}}"#), ["pids.max=max"]);
    }

    #[test]
    fn a_page_size_is_not_a_path() {
        assert!(page_size("2MB").is_ok());
        for bad in ["", "MB", "../../x/2MB", "2mb", "2"] {
            assert!(page_size(bad).is_err(), "{bad}");
        }
    }
}
