//! Limits: docker's numbers in the OCI runtime's fields.

use crate::engine::failure::{Failure, Result};
use bollard_stubs::models::{HostConfig, ResourcesUlimits, ThrottleDevice};
use nix::sys::stat::{major, minor};
use oci_spec::runtime::{LinuxResources, PosixRlimit};
use serde_json::{Map, Value, json};

/// Adds what the user asked to what docker's default says (its device rules).
pub(crate) fn resources(host: &HostConfig, default: LinuxResources) -> Result<LinuxResources> {
    let mut all = match serde_json::to_value(&default)? {
        Value::Object(map) => map,
        _ => Map::new(),
    };
    let mut put = |group: &str, value: Value| {
        let Value::Object(fields) = value else { return };
        let fields: Map<_, _> = fields.into_iter().filter(|(_, v)| !v.is_null()).collect();
        if !fields.is_empty() {
            all.insert(group.into(), fields.into());
        }
    };
    let positive = |n: Option<i64>| n.filter(|n| *n > 0);
    let text = |t: &Option<String>| t.clone().filter(|t| !t.is_empty());
    put(
        "memory",
        json!({
            "limit": positive(host.memory),
            "reservation": positive(host.memory_reservation),
            "swap": host.memory_swap.filter(|s| *s != 0),
            "swappiness": host.memory_swappiness.filter(|s| (0..=100).contains(s)),
            "disableOOMKiller": host.oom_kill_disable.filter(|d| *d),
        }),
    );
    // A number of CPUs is a share of each period: 1.5 CPUs are 150 ms in every 100 ms.
    let nano = positive(host.nano_cpus);
    put(
        "cpu",
        json!({
            "shares": positive(host.cpu_shares),
            "quota": nano.map(|n| n / 10_000).or(host.cpu_quota.filter(|q| *q != 0)),
            "period": nano.map(|_| 100_000).or(positive(host.cpu_period)),
            "realtimeRuntime": positive(host.cpu_realtime_runtime),
            "realtimePeriod": positive(host.cpu_realtime_period),
            "cpus": text(&host.cpuset_cpus),
            "mems": text(&host.cpuset_mems),
        }),
    );
    put("pids", json!({"limit": host.pids_limit.filter(|n| *n != 0)}));
    let weights = host.blkio_weight_device.iter().flatten().map(|d| {
        let (major, minor) = device(d.path.as_deref())?;
        Ok(json!({"major": major, "minor": minor, "weight": d.weight}))
    });
    let weights: Vec<Value> = weights.collect::<Result<_>>()?;
    put(
        "blockIO",
        json!({
            "weight": host.blkio_weight.filter(|w| *w > 0),
            "weightDevice": Some(weights).filter(|w| !w.is_empty()),
            "throttleReadBpsDevice": throttles(&host.blkio_device_read_bps)?,
            "throttleWriteBpsDevice": throttles(&host.blkio_device_write_bps)?,
            "throttleReadIOPSDevice": throttles(&host.blkio_device_read_iops)?,
            "throttleWriteIOPSDevice": throttles(&host.blkio_device_write_iops)?,
        }),
    );
    Ok(serde_json::from_value(Value::Object(all))?)
}

/// Leaves out what cgroup v2 has no files for, as docker does, and with its words.
pub(crate) fn discard_what_v2_lacks(host: &mut HostConfig, warnings: &mut Vec<String>) {
    if host.memory_swappiness.take().is_some_and(|s| s >= 0) {
        warnings.push(
            "Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. Memory swappiness discarded."
                .into(),
        );
    }
    if host.oom_kill_disable.take() == Some(true) {
        warnings.push("Your kernel does not support OomKillDisable. OomKillDisable discarded.".into());
    }
}

fn throttles(devices: &Option<Vec<ThrottleDevice>>) -> Result<Option<Vec<Value>>> {
    let all = devices.iter().flatten().map(|d| {
        let (major, minor) = device(d.path.as_deref())?;
        Ok(json!({"major": major, "minor": minor, "rate": d.rate}))
    });
    let all: Vec<Value> = all.collect::<Result<_>>()?;
    Ok(Some(all).filter(|a| !a.is_empty()))
}

fn device(path: Option<&str>) -> Result<(u64, u64)> {
    let path = path.unwrap_or_default();
    let stat = nix::sys::stat::stat(path).map_err(|e| Failure::bad(format!("device {path}: {e}")))?;
    Ok((major(stat.st_rdev), minor(stat.st_rdev)))
}

/// `--ulimit nofile=1024:2048`
pub(crate) fn rlimit(asked: &ResourcesUlimits) -> Result<PosixRlimit> {
    let name = asked.name.as_deref().unwrap_or_default();
    // -1 is "unlimited".
    let number = |n: Option<i64>| u64::try_from(n.unwrap_or_default()).unwrap_or(u64::MAX);
    let limit = json!({
        "type": format!("RLIMIT_{}", name.to_ascii_uppercase()),
        "soft": number(asked.soft),
        "hard": number(asked.hard),
    });
    serde_json::from_value(limit).map_err(|_| Failure::bad(format!("invalid ulimit type: {name}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_v2_lacks_is_left_out_with_a_word() {
        let mut warnings = Vec::new();
        let mut asked =
            HostConfig { memory_swappiness: Some(60), oom_kill_disable: Some(true), ..HostConfig::default() };
        discard_what_v2_lacks(&mut asked, &mut warnings);
        assert_eq!((asked.memory_swappiness, asked.oom_kill_disable, warnings.len()), (None, None, 2));
        // What the client sends when nobody asked.
        let mut usual = HostConfig {
            memory_swappiness: Some(-1),
            oom_kill_disable: Some(false),
            ..HostConfig::default()
        };
        discard_what_v2_lacks(&mut usual, &mut warnings);
        assert_eq!((usual.memory_swappiness, warnings.len()), (None, 2));
    }

    #[test]
    fn cpus_become_quota_and_period() {
        let host =
            HostConfig { nano_cpus: Some(1_500_000_000), memory: Some(64 << 20), ..HostConfig::default() };
        let all =
            serde_json::to_value(resources(&host, LinuxResources::default()).expect("made")).expect("json");
        assert_eq!(all["cpu"], json!({"quota": 150_000, "period": 100_000}));
        assert_eq!(all["memory"], json!({"limit": 67_108_864}));
        assert_eq!(all.get("pids"), None);
    }

    #[test]
    fn an_unknown_ulimit_is_refused() {
        let asked = |name: &str| ResourcesUlimits { name: Some(name.into()), soft: Some(-1), hard: Some(-1) };
        assert_eq!(rlimit(&asked("nofile")).map(|l| l.hard()).ok(), Some(u64::MAX));
        assert!(rlimit(&asked("bogus")).is_err());
    }
}
