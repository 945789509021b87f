//! What the fields of `linux.resources` mean to cgroup v2, whose files say the same things in other units
//! (Documentation/admin-guide/cgroup-v2.rst), and how controllers are handed down its tree.

use crate::{
    Error, Result,
    hierarchy::LEAF,
    setting::{KEPT, Setting, errno, write},
    tree, v1,
};
use nix::errno::Errno;
use oci_spec::runtime::{LinuxResources, LinuxThrottleDevice, LinuxWeightDevice};
use std::{fs, path::Path};

/// What one controller is told. (v2 calls `blkio` `io`.)
pub(crate) fn settings(controller: &str, limits: &LinuxResources) -> Result<Vec<Setting>> {
    Ok(match controller {
        "memory" => memory(limits)?,
        "cpu" => cpu(limits)?,
        "cpuset" => v1::cpuset(limits),
        "pids" => v1::pids(limits),
        "io" => io(limits)?,
        "hugetlb" => hugetlb(limits)?,
        "rdma" => v1::rdma(limits),
        _ => Vec::new(),
    })
}

/// `max` is what -1 says in the spec.
fn or_max(value: i64) -> String {
    if value < 0 { "max".into() } else { value.to_string() }
}

fn not_here(what: &str) -> Error {
    Error::Limit(format!("cgroup v2 has no {what}: leave it out"))
}

fn memory(limits: &LinuxResources) -> Result<Vec<Setting>> {
    let Some(m) = limits.memory() else { return Ok(Vec::new()) };
    let given = |value: Option<i64>| value.filter(|v| *v != 0);
    if m.disable_oom_killer() == Some(true) {
        return Err(Error::Limit(
            "cgroup v2 cannot disable the OOM killer (disableOOMKiller): leave it out; memory.high, by the unified \
             map, slows a group down instead"
                .into(),
        ));
    }
    if m.swappiness().is_some() {
        return Err(not_here("swappiness for each group (swappiness)"));
    }
    if given(m.kernel()).or(given(m.kernel_tcp())).is_some_and(|limit| limit > 0) {
        return Err(not_here("limit of kernel memory by itself (kernel, kernelTCP)"));
    }
    let mut all = Vec::new();
    if let Some(limit) = given(m.limit()) {
        all.push(Setting::new("memory", "memory.max", or_max(limit)));
    }
    if let Some(low) = given(m.reservation()) {
        all.push(Setting::new("memory", "memory.low", or_max(low)));
    }
    // The spec counts memory and swap together, as v1 does; v2 counts swap by itself.
    let swap = match (given(m.limit()), given(m.swap())) {
        (_, Some(-1)) | (Some(-1), None) => Some("max".to_owned()),
        (Some(limit), Some(both)) if limit >= 0 && both >= limit => Some((both - limit).to_string()),
        (_, None) => None,
        (Some(limit), Some(both)) => {
            return Err(Error::Limit(format!(
                "the swap limit {both} is memory and swap together, so it must not be below the memory limit {limit}"
            )));
        }
        (None, Some(_)) => {
            return Err(Error::Limit("a swap limit was asked without a memory limit: give both".into()));
        }
    };
    if let Some(swap) = swap {
        // A kernel without swap accounting has no file for it, and then there is nothing to lift.
        let unlimited = swap == "max";
        let setting = Setting::new("memory", "memory.swap.max", swap);
        all.push(if unlimited { setting.optional() } else { setting });
    }
    Ok(all)
}

fn cpu(limits: &LinuxResources) -> Result<Vec<Setting>> {
    let Some(c) = limits.cpu() else { return Ok(Vec::new()) };
    if c.realtime_runtime().is_some_and(|r| r != 0) || c.realtime_period().is_some_and(|p| p != 0) {
        return Err(Error::Limit(
            "cgroup v2 has no real-time limits (realtimeRuntime, realtimePeriod)".into(),
        ));
    }
    let mut all = Vec::new();
    if let Some(idle) = c.idle() {
        all.push(Setting::new("cpu", "cpu.idle", idle));
    }
    if let Some(shares) = c.shares().filter(|s| *s != 0) {
        all.push(Setting::new("cpu", "cpu.weight", weight_of_shares(shares)));
    }
    match (c.quota().filter(|q| *q != 0).map(or_max), c.period().filter(|p| *p != 0)) {
        (Some(quota), Some(period)) => all.push(Setting::new("cpu", "cpu.max", format!("{quota} {period}"))),
        (Some(quota), None) => all.push(Setting::new("cpu", "cpu.max", quota)),
        // The file wants both, and the quota is to stay what it is.
        (None, Some(period)) => all.push(Setting::new("cpu", "cpu.max", format!("{KEPT}{period}"))),
        (None, None) => {}
    }
    if let Some(burst) = c.burst() {
        all.push(Setting::new("cpu", "cpu.max.burst", burst));
    }
    Ok(all)
}

/// Shares go from 2 to 262144, weights from 1 to 10000: a straight line between the ends, as runc and crun draw it.
fn weight_of_shares(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

/// Block I/O weights go from 10 to 1000. BFQ takes them as they are; iocost's file from 1 to 10000.
fn io(limits: &LinuxResources) -> Result<Vec<Setting>> {
    let Some(b) = limits.block_io() else { return Ok(Vec::new()) };
    let leaves = b.weight_device().iter().flatten().map(LinuxWeightDevice::leaf_weight);
    if leaves.chain([b.leaf_weight()]).flatten().any(|weight| weight != 0) {
        return Err(not_here("weights for the processes of a group beside its children (leafWeight)"));
    }
    let line = |weight: u16| 1 + u64::from(weight.clamp(10, 1000) - 10) * 9999 / 990;
    let mut all = Vec::new();
    if let Some(weight) = b.weight().filter(|w| *w != 0) {
        all.push(Setting::new("io", "io.bfq.weight", weight).or("io.weight", line(weight)));
    }
    for device in b.weight_device().iter().flatten() {
        if let Some(weight) = device.weight() {
            let name = format!("{}:{}", device.major(), device.minor());
            let one = Setting::new("io", "io.bfq.weight", format!("{name} {weight}"));
            all.push(one.or("io.weight", format!("{name} {}", line(weight))));
        }
    }
    let mut throttle = |key: &str, devices: &Option<Vec<LinuxThrottleDevice>>| {
        for d in devices.iter().flatten() {
            all.push(Setting::new("io", "io.max", format!("{}:{} {key}={}", d.major(), d.minor(), d.rate())));
        }
    };
    throttle("rbps", b.throttle_read_bps_device());
    throttle("wbps", b.throttle_write_bps_device());
    throttle("riops", b.throttle_read_iops_device());
    throttle("wiops", b.throttle_write_iops_device());
    Ok(all)
}

fn hugetlb(limits: &LinuxResources) -> Result<Vec<Setting>> {
    let mut all = Vec::new();
    for page in limits.hugepage_limits().iter().flatten() {
        let size = v1::page_size(page.page_size())?;
        all.push(Setting::new("hugetlb", format!("hugetlb.{size}.max"), or_max(page.limit())));
        all.push(
            Setting::new("hugetlb", format!("hugetlb.{size}.rsvd.max"), or_max(page.limit())).optional(),
        );
    }
    Ok(all)
}

/// Hands all controllers down from the top of the tree to `group`'s parent: a group has the files of
/// a controller only when its parent lists that controller in `cgroup.subtree_control`.
///
/// A controller that cannot be handed down is passed over here; a limit that needs it will say so.
pub(crate) fn delegate(mount: &Path, own: &Path, group: &Path) -> Result<()> {
    let mut above: Vec<&Path> = group.ancestors().skip(1).take_while(|p| p.starts_with(mount)).collect();
    above.reverse();
    for parent in above {
        let list = |file: &str| tree::text(&parent.join(file)).unwrap_or_default();
        let (offered, given) = (list("cgroup.controllers"), list("cgroup.subtree_control"));
        let missing: Vec<String> = offered
            .split_whitespace()
            .filter(|c| !given.split_whitespace().any(|g| g == *c))
            .map(|c| format!("+{c}"))
            .collect();
        if missing.is_empty() {
            continue;
        }
        let control = parent.join("cgroup.subtree_control");
        let mut done = write(&control, &missing.join(" "));
        // "No internal processes": a group with processes of its own cannot share controllers among
        // children, or the processes would compete with the groups. So the caller moves down into a leaf
        // first. Only out of its own group: others' processes are not ours to move.
        if done.as_ref().is_err_and(|e| errno(e) == Some(Errno::EBUSY)) && parent == own {
            move_into_leaf(own)?;
            done = write(&control, &missing.join(" "));
        }
        // One write is all or nothing: try each by itself, so that one that is refused takes none with it.
        if done.is_err() {
            for one in &missing {
                let _ = write(&control, one);
            }
        }
    }
    Ok(())
}

/// Moves every process of a group into a child of it.
fn move_into_leaf(group: &Path) -> Result<()> {
    let leaf = group.join(LEAF);
    let _ = fs::create_dir(&leaf);
    for pid in tree::text(&group.join("cgroup.procs")).unwrap_or_default().lines() {
        match write(&leaf.join("cgroup.procs"), pid) {
            // It ended in between.
            Err(e) if errno(&e) == Some(Errno::ESRCH) => {}
            other => other?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(controller: &str, json: &str) -> Result<Vec<String>> {
        let limits: LinuxResources = serde_json::from_str(json).unwrap();
        Ok(settings(controller, &limits)?.iter().map(|s| format!("{}={}", s.file, s.value)).collect())
    }

    #[test]
    fn swap_is_counted_by_itself() {
        let memory = |json: &str| lines("memory", &format!(r#"{{"memory":{json}}}"#));
        assert_eq!(
            memory(r#"{"limit":1000,"swap":3000}"#).unwrap(),
            ["memory.max=1000", "memory.swap.max=2000"]
        );
        assert_eq!(memory(r#"{"limit":1000,"swap":1000}"#).unwrap()[1], "memory.swap.max=0");
        assert_eq!(memory(r#"{"limit":-1}"#).unwrap(), ["memory.max=max", "memory.swap.max=max"]);
        assert_eq!(memory(r#"{"limit":5,"reservation":4}"#).unwrap(), ["memory.max=5", "memory.low=4"]);
        for bad in [
            r#"{"swap":3000}"#,
            r#"{"limit":3000,"swap":2000}"#,
            r#"{"disableOOMKiller":true}"#,
            r#"{"swappiness":60}"#,
            r#"{"kernel":1000}"#,
        ] {
            assert!(memory(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn shares_become_weights() {
        assert_eq!([2, 1024, 262_144, 9_999_999].map(weight_of_shares), [1, 39, 10_000, 10_000]);
        let cpu = |json: &str| lines("cpu", &format!(r#"{{"cpu":{json}}}"#));
        assert_eq!(cpu(r#"{"quota":50000,"period":100000}"#).unwrap(), ["cpu.max=50000 100000"]);
        assert_eq!(cpu(r#"{"quota":-1}"#).unwrap(), ["cpu.max=max"]);
        assert!(cpu(r#"{"realtimeRuntime":1}"#).is_err());
    }

    #[test]
    fn throttles() {
        let json = r#"{"blockIO":{"weight":500,
            "throttleReadBpsDevice":[{"major":8,"minor":0,"rate":1048576}],
            "throttleWriteIOPSDevice":[{"major":8,"minor":16,"rate":100}]}}"#;
        assert_eq!(
            lines("io", json).unwrap(),
            ["io.bfq.weight=500", "io.max=8:0 rbps=1048576", "io.max=8:16 wiops=100"]
        );
        assert!(lines("io", r#"{"blockIO":{"leafWeight":500}}"#).is_err());
    }
}
