//! `docker stats` and `docker top`.

use super::{
    answer::{self, Answer, json},
    call::Call,
    router::routes,
};
use crate::engine::{
    Engine, blocking,
    container::Container,
    failure::{Failure, Result},
};
use cgroups::stats::{Blkio, BlkioEntry, Stats};
use hyper::body::Bytes;
use serde_json::{Map, Value, json};
use std::{fs, sync::Arc, time::Duration};
use tokio::sync::mpsc;

routes! {
    GET "/containers/{}/stats" => stats;
    GET "/containers/{}/top" => top;
}

async fn stats(call: Call) -> Answer {
    let container = call.engine.container(&call.path[0])?;
    let engine = call.engine.clone();
    if !call.flag_or("stream", true) {
        let first = if call.flag("one-shot") { None } else { Some(reading(&engine, &container).await?) };
        if first.is_some() && container.status().alive() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let second = reading(&engine, &container).await?;
        return json(&document(&container, first.as_ref(), &second));
    }
    let (sender, body) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut before = None;
        let mut every = tokio::time::interval(Duration::from_secs(1));
        let mut phase = container.phase.subscribe();
        loop {
            tokio::select! {
                _ = every.tick() => {}
                () = sender.closed() => return,
                removed = phase.wait_for(|p| p.removed) => { let _ = removed; return }
            }
            let Ok(now) = reading(&engine, &container).await else { return };
            let line = format!("{}\n", document(&container, before.as_ref(), &now));
            if sender.send(Bytes::from(line)).await.is_err() {
                return;
            }
            before = Some(now);
        }
    });
    answer::pieces("application/json", body)
}

/// One look at the counters.
struct Reading {
    at: String,
    stats: Option<Stats>,
    system: u64,
    networks: Map<String, Value>,
}

async fn reading(engine: &Arc<Engine>, container: &Arc<Container>) -> Result<Reading> {
    let (engine, container) = (engine.clone(), container.clone());
    blocking(move || {
        let at = crate::engine::now();
        let pid = container.look(|r| r.state.pid);
        // One that does not run has no counters; docker shows zeros.
        if !container.status().alive() {
            return Ok(Reading { at, stats: None, system: 0, networks: Map::new() });
        }
        Ok(Reading {
            at,
            stats: engine.runtime.stats(&container.id).ok(),
            system: system_time(),
            networks: networks(pid),
        })
    })
    .await
}

/// The time that all processors have had, in nanoseconds: the measure that a container's own is put against. proc(5)
/// counts it in ticks, of which there are 100 a second.
fn system_time() -> u64 {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let first = stat.lines().next().unwrap_or_default();
    let ticks: u64 =
        first.split_ascii_whitespace().skip(1).take(8).filter_map(|n| n.parse::<u64>().ok()).sum();
    ticks * 10_000_000
}

/// The devices of a process's network namespace (proc(5), net/dev).
fn networks(pid: i32) -> Map<String, Value> {
    let text = fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap_or_default();
    let mut all = Map::new();
    for line in text.lines().skip(2) {
        let Some((name, numbers)) = line.split_once(':') else { continue };
        let n: Vec<u64> = numbers.split_ascii_whitespace().filter_map(|n| n.parse().ok()).collect();
        let name = name.trim();
        if name == "lo" || n.len() < 12 {
            continue;
        }
        all.insert(
            name.into(),
            json!({
                "rx_bytes": n[0], "rx_packets": n[1], "rx_errors": n[2], "rx_dropped": n[3],
                "tx_bytes": n[8], "tx_packets": n[9], "tx_errors": n[10], "tx_dropped": n[11],
            }),
        );
    }
    all
}

fn document(container: &Container, before: Option<&Reading>, now: &Reading) -> Value {
    let zero = Stats::default();
    let stats = now.stats.as_ref().unwrap_or(&zero);
    let alive = now.stats.is_some();
    let mut raw: Map<String, Value> =
        stats.memory.raw.iter().map(|(k, v)| (k.clone(), (*v).into())).collect();
    // What docker's client takes off the use: page cache that could be given up at any time.
    raw.entry("total_inactive_file")
        .or_insert_with(|| stats.memory.raw.get("inactive_file").copied().unwrap_or_default().into());
    let total = total_memory();
    let limit = if stats.memory.usage.limit == 0 || stats.memory.usage.limit > total {
        total
    } else {
        stats.memory.usage.limit
    };
    let memory = if alive {
        json!({"usage": stats.memory.usage.usage, "max_usage": stats.memory.usage.max, "failcnt": stats.memory.usage.failcnt, "limit": limit, "stats": raw})
    } else {
        json!({})
    };
    json!({
        "id": container.id,
        "name": format!("/{}", container.name()),
        "read": now.at,
        "preread": before.map_or(crate::engine::container::NO_TIME, |b| b.at.as_str()),
        "num_procs": 0,
        "pids_stats": if alive { json!({"current": stats.pids.current, "limit": if stats.pids.limit == 0 { u64::MAX } else { stats.pids.limit }}) } else { json!({}) },
        "cpu_stats": cpu(stats, now.system),
        "precpu_stats": before.map_or_else(|| cpu(&zero, 0), |b| cpu(b.stats.as_ref().unwrap_or(&zero), b.system)),
        "memory_stats": memory,
        "blkio_stats": blkio(&stats.blkio),
        "networks": now.networks,
        "storage_stats": {},
    })
}

fn total_memory() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix("MemTotal:"));
    line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or_default() * 1024
}

fn cpu(stats: &Stats, system: u64) -> Value {
    let cpu = &stats.cpu;
    json!({
        "cpu_usage": {
            "total_usage": cpu.usage.total, "percpu_usage": cpu.usage.percpu,
            "usage_in_kernelmode": cpu.usage.kernel, "usage_in_usermode": cpu.usage.user,
        },
        "system_cpu_usage": system,
        "online_cpus": std::thread::available_parallelism().map_or(1, usize::from),
        "throttling_data": {
            "periods": cpu.throttling.periods, "throttled_periods": cpu.throttling.throttled_periods,
            "throttled_time": cpu.throttling.throttled_time,
        },
    })
}

fn blkio(blkio: &Blkio) -> Value {
    let list = |entries: &[BlkioEntry]| {
        entries
            .iter()
            .map(|e| json!({"major": e.major, "minor": e.minor, "op": e.op, "value": e.value}))
            .collect::<Vec<_>>()
    };
    json!({
        "io_service_bytes_recursive": list(&blkio.bytes), "io_serviced_recursive": list(&blkio.operations),
        "io_queue_recursive": [], "io_service_time_recursive": [], "io_wait_time_recursive": [], "io_merged_recursive": [],
        "io_time_recursive": [], "sectors_recursive": [],
    })
}

async fn top(call: Call) -> Answer {
    let container = call.engine.container(&call.path[0])?;
    if !container.status().alive() {
        return Err(Failure::conflict(format!("container {} is not running", container.id)));
    }
    let arguments = call.get("ps_args").unwrap_or("-ef").to_owned();
    let engine = call.engine.clone();
    let table = blocking(move || {
        let group = engine.runtime.cgroup(&container.id)?.procs()?;
        let pids = match group.is_empty() {
            false => group.iter().map(|p| p.as_raw()).collect(),
            // An ordinary user's container without a group: what else its processes have in common.
            true => neighbours(container.look(|r| r.state.pid)),
        };
        processes(&pids, &arguments)
    })
    .await?;
    json(&table)
}

/// The processes that are in one PID namespace with a container's first. With the host's, that is no sign of belonging to
/// it: then only that first one is known.
fn neighbours(first: i32) -> Vec<i32> {
    // Of a process of somebody else, and of one that has just ended, there is nothing to be read.
    let namespace = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let Some(theirs) = namespace(&first.to_string()).filter(|n| Some(n) != namespace("self").as_ref()) else {
        return vec![first];
    };
    let names = std::fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.file_name());
    names
        .filter_map(|name| name.to_str()?.parse::<i32>().ok())
        .filter(|pid| namespace(&pid.to_string()).as_ref() == Some(&theirs))
        .collect()
}

/// As docker does it: the host's ps(1), of whose lines those of the container's processes are kept.
fn processes(pids: &[i32], arguments: &str) -> Result<Value> {
    if arguments.bytes().any(|b| b == 0) {
        return Err(Failure::bad("invalid ps_args"));
    }
    let output = std::process::Command::new("ps").args(arguments.split_ascii_whitespace()).output();
    let Ok(output) = output else { return Ok(own_table(pids)) };
    if !output.status.success() {
        return Err(Failure::bad(format!("ps: {}", String::from_utf8_lossy(&output.stderr).trim())));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines();
    let titles: Vec<&str> = lines.next().unwrap_or_default().split_ascii_whitespace().collect();
    let column = titles
        .iter()
        .position(|t| *t == "PID")
        .ok_or_else(|| Failure::bad("Couldn't find PID field in ps output"))?;
    let mut rows = Vec::new();
    for line in lines {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let ours = words.get(column).and_then(|w| w.parse().ok()).is_some_and(|pid: i32| pids.contains(&pid));
        if ours && words.len() >= titles.len() {
            // The last column is the command, which has spaces of its own.
            let (fields, command) = words.split_at(titles.len() - 1);
            let mut row: Vec<String> = fields.iter().map(|w| (*w).to_owned()).collect();
            row.push(command.join(" "));
            rows.push(row);
        }
    }
    Ok(json!({"Titles": titles, "Processes": rows}))
}

/// Where there is no ps(1): what /proc says.
fn own_table(pids: &[i32]) -> Value {
    let rows: Vec<Vec<String>> = pids
        .iter()
        .filter_map(|pid| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let field = |name: &str| {
                Some(
                    status
                        .lines()
                        .find_map(|l| l.strip_prefix(name))?
                        .split_ascii_whitespace()
                        .next()?
                        .to_owned(),
                )
            };
            let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?.replace('\0', " ");
            let command = if command.is_empty() { field("Name:")? } else { command.trim_end().to_owned() };
            Some(vec![field("Uid:")?, pid.to_string(), field("PPid:")?, command])
        })
        .collect();
    json!({"Titles": ["UID", "PID", "PPID", "CMD"], "Processes": rows})
}
