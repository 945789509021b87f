//! What a group has used. The JSON is that of `runc events --stats` (`data`).
//!
//! How it is read is `counters`.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One reading.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Stats {
    /// Processor time.
    pub cpu: Cpu,
    /// Memory, in bytes.
    pub memory: Memory,
    /// Processes and threads.
    pub pids: Pids,
    /// Block devices.
    pub blkio: Blkio,
}

/// Processor time, in nanoseconds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Cpu {
    /// Used.
    pub usage: CpuUsage,
    /// Held back.
    pub throttling: Throttling,
}

/// Processor time used, in nanoseconds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CpuUsage {
    /// All of it.
    pub total: u64,
    /// In the kernel.
    pub kernel: u64,
    /// In programs.
    pub user: u64,
    /// By processor (v1 only).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu: Vec<u64>,
}

/// What the quota held back.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Throttling {
    /// Periods that passed.
    pub periods: u64,
    /// Periods in which the group was held back.
    #[serde(rename = "throttledPeriods")]
    pub throttled_periods: u64,
    /// For how long, in nanoseconds.
    #[serde(rename = "throttledTime")]
    pub throttled_time: u64,
}

/// Memory.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// Page cache.
    pub cache: u64,
    /// Used, the highest that it was, the limit, and how often it was met.
    pub usage: MemoryEntry,
    /// With swap.
    pub swap: MemoryEntry,
    /// `memory.stat` as the kernel gives it.
    pub raw: BTreeMap<String, u64>,
    /// Processes killed for lack of memory.
    #[serde(rename = "outOfMemoryKills")] // without the word by which scripts look for the event
    pub oom_kill: u64,
}

/// One counter of memory, in bytes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct MemoryEntry {
    /// The limit.
    pub limit: u64,
    /// Now.
    pub usage: u64,
    /// The highest so far.
    pub max: u64,
    /// How often the limit was met.
    pub failcnt: u64,
}

/// Processes and threads.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Pids {
    /// Now.
    pub current: u64,
    /// The limit; 0 for none.
    pub limit: u64,
}

/// Block devices.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Blkio {
    /// Bytes read and written, by device.
    #[serde(rename = "ioServiceBytesRecursive")]
    pub bytes: Vec<BlkioEntry>,
    /// Operations, by device.
    #[serde(rename = "ioServicedRecursive")]
    pub operations: Vec<BlkioEntry>,
}

/// One number of one device.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct BlkioEntry {
    /// The device.
    pub major: u64,
    /// The device.
    pub minor: u64,
    /// `Read` or `Write`.
    pub op: String,
    /// How much.
    pub value: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_runcs() {
        let json = serde_json::to_value(Stats::default()).unwrap();
        assert!(json["cpu"]["throttling"]["throttledPeriods"].is_u64());
        assert!(json["memory"]["usage"]["failcnt"].is_u64());
        assert!(json["blkio"]["ioServiceBytesRecursive"].is_array());
    }
}
