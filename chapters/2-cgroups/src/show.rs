//! Limits and counters as tables.

use crate::{cli::Global, oci};
use anyhow::Result;
use cgroups::{
    cgroup::Cgroup,
    size::human,
    stats::{BlkioEntry, Stats},
};
use comfy_table::{
    Attribute, Cell, CellAlignment, Color, ContentArrangement, LineStyle, Table, TableStyle, presets,
};
use std::{path::PathBuf, time::Duration};

/// A line below the headings, and no more.
const STYLE: TableStyle = presets::NOTHING.header_separator(LineStyle::new('─', '─', '─', '─'));

/// A table with these headings.
pub(crate) fn table<const N: usize>(headings: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(STYLE).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(headings.map(|h| Cell::new(h).add_attribute(Attribute::Bold)));
    table
}

/// Each limit's file and value.
pub(crate) fn settings(settings: &[(PathBuf, String)]) -> Table {
    let mut table = table(["what", "file", "value"]);
    for (file, value) in settings {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        table.add_row([
            Cell::new(meaning(&name)),
            Cell::new(file.display()),
            Cell::new(value).fg(Color::Green),
        ]);
    }
    table
}

/// The files that limit, and what each one says.
const FILES: [(&str, &str); 33] = [
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
    ("cpu.max", "cpu: quota and period, us"),
    ("cpu.max.burst", "cpu: saved up for bursts, us"),
    ("cpu.weight", "cpu: weight against others"),
    ("cpu.idle", "cpu: only when idle"),
    ("cpu.shares", "cpu: weight against others"),
    ("cpu.cfs_quota_us", "cpu: quota, us per period"),
    ("cpu.cfs_period_us", "cpu: period, us"),
    ("cpu.cfs_burst_us", "cpu: saved up for bursts, us"),
    ("cpuset.cpus", "on which processors"),
    ("cpuset.mems", "on which memory nodes"),
    ("pids.max", "processes and threads, at most"),
    ("io.max", "I/O per device, at most"),
    ("io.weight", "I/O weight"),
    ("io.bfq.weight", "I/O weight (BFQ)"),
    ("blkio.bfq.weight", "I/O weight (BFQ)"),
    ("blkio.throttle.read_bps_device", "reads, bytes per second"),
    ("blkio.throttle.write_bps_device", "writes, bytes per second"),
    ("blkio.throttle.read_iops_device", "reads per second"),
    ("blkio.throttle.write_iops_device", "writes per second"),
    ("devices.list", "devices allowed"),
    ("net_cls.classid", "traffic class"),
    ("net_prio.ifpriomap", "traffic priority"),
];

fn meaning(file: &str) -> &'static str {
    let devices = [("devices.allow", "device allowed"), ("devices.deny", "device denied")];
    FILES.iter().chain(&devices).find(|(name, _)| *name == file).map_or("", |(_, what)| what)
}

/// A group's limits as the kernel has them now.
fn limits(cgroup: &Cgroup) -> Table {
    let mut table = table(["what", "file", "value"]);
    for (_, directory) in cgroup.directories() {
        for (name, what) in FILES {
            let file = directory.join(name);
            let Ok(value) = std::fs::read_to_string(&file) else { continue };
            let value = value.trim();
            // A number near 2^63 is how v1 says that there is no limit.
            let free = matches!(value, "" | "max" | "-1")
                || value.starts_with("max ")
                || value.parse::<u64>().is_ok_and(|n| n > 1 << 60);
            let cell = if free {
                Cell::new("no limit").fg(Color::DarkGrey)
            } else {
                Cell::new(pretty(name, value)).fg(Color::Green)
            };
            table.add_row([Cell::new(what), Cell::new(file.display()), cell]);
        }
    }
    table
}

/// Bytes with their unit besides.
fn pretty(name: &str, value: &str) -> String {
    match value.parse::<u64>() {
        Ok(n) if name.starts_with("memory.") && n >= 1024 => format!("{value} ({})", human(n)),
        _ => value.replace('\n', ", "),
    }
}

/// What a command used in the end.
pub(crate) fn used(stats: &Stats, wall: Duration) -> Table {
    let mut table = table(["used", "", "limit", "held back"]);
    let (memory, cpu) = (&stats.memory.usage, &stats.cpu);
    let times = |n: u64| if n == 1 { "once".to_owned() } else { format!("{n} times") };
    let met =
        if memory.failcnt > 0 { format!("met the limit {}", times(memory.failcnt)) } else { String::new() };
    table.add_row([
        Cell::new("memory"),
        Cell::new(format!("{} at most", human(memory.max))),
        limit_cell(memory.limit, human),
        Cell::new(met).fg(Color::Yellow),
    ]);
    let seconds = |ns: u64| format!("{:.2}s", ns as f64 / 1e9);
    let share = cpu.usage.total as f64 / wall.as_nanos().max(1) as f64;
    let throttled = if cpu.throttling.throttled_periods > 0 {
        let t = &cpu.throttling;
        format!("in {} of {} periods, {} in all", t.throttled_periods, t.periods, seconds(t.throttled_time))
    } else {
        String::new()
    };
    table.add_row([
        Cell::new("cpu"),
        Cell::new(format!(
            "{} in {:.2}s ({:.0}%)",
            seconds(cpu.usage.total),
            wall.as_secs_f64(),
            share * 100.0
        )),
        Cell::new(if cpu.throttling.periods > 0 { "quota" } else { "" }),
        Cell::new(throttled).fg(Color::Yellow),
    ]);
    table.add_row([
        Cell::new("processes"),
        Cell::new(format!("{} left", stats.pids.current)),
        limit_cell(if stats.pids.limit == 0 { u64::MAX } else { stats.pids.limit }, |n| n.to_string()),
        Cell::new(""),
    ]);
    let io = |op: &str| stats.blkio.bytes.iter().filter(|e| e.op == op).map(|e| e.value).sum::<u64>();
    if io("Read") + io("Write") > 0 {
        let text = format!("{} read, {} written", human(io("Read")), human(io("Write")));
        table.add_row([Cell::new("block I/O"), Cell::new(text), Cell::new(""), Cell::new("")]);
    }
    table
}

fn limit_cell(limit: u64, text: impl Fn(u64) -> String) -> Cell {
    if limit > 1 << 60 { Cell::new("none").fg(Color::DarkGrey) } else { Cell::new(text(limit)) }
}

/// Names the OOM killer.
pub(crate) fn oom(kills: u64, limit: u64) -> String {
    let who = if kills == 1 { "a process".to_owned() } else { format!("{kills} processes") };
    format!(
        "out of memory: the kernel's OOM killer killed {who} here, because the group needed more than its limit of {}",
        human(limit)
    )
}

/// Names what stopped a fork bomb.
pub(crate) fn refused(forks: u64, limit: u64) -> String {
    let times = if forks == 1 { "once".to_owned() } else { format!("{forks} times") };
    format!("out of processes: a fork was refused {times}, because the group may hold no more than {limit}")
}

/// The group that a path or a container's ID names.
fn group(global: &Global, name: &str) -> Result<Cgroup> {
    if !name.contains('/')
        && let Ok(cgroup) = oci::runtime(global)?.cgroup(name)
    {
        return Ok(cgroup);
    }
    Ok(Cgroup::open(name)?)
}

/// `stats`.
pub(crate) fn stats_of(global: &Global, names: &[String], json: bool) -> Result<()> {
    let mut groups = Vec::new();
    for name in names {
        groups.push((name.clone(), group(global, name)?));
    }
    if names.is_empty() {
        groups.push(("(my own)".into(), Cgroup::own()?));
    }
    if !json {
        println!("{}", stats(&groups)?);
        return Ok(());
    }
    for (name, cgroup) in &groups {
        println!("{}", serde_json::json!({"type": "stats", "id": name, "data": cgroup.stats()?}));
    }
    Ok(())
}

/// `show`.
pub(crate) fn limits_of(global: &Global, name: Option<&str>) -> Result<()> {
    let cgroup = match name {
        Some(name) => group(global, name)?,
        None => Cgroup::own()?,
    };
    println!("{}", limits(&cgroup));
    Ok(())
}

/// A row for each group, like `docker stats`.
fn stats(groups: &[(String, Cgroup)]) -> Result<Table> {
    let mut table =
        table(["group", "cpu time", "memory / limit", "mem %", "pids", "block in / out", "held back", "oom"]);
    for column in 1..8 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for (name, cgroup) in groups {
        let stats = cgroup.stats()?;
        let memory = &stats.memory.usage;
        let free = memory.limit > 1 << 60;
        let sum = |entries: &[BlkioEntry], op: &str| {
            human(entries.iter().filter(|e| e.op == op).map(|e| e.value).sum())
        };
        let percent = memory.usage as f64 / memory.limit.max(1) as f64 * 100.0;
        table.add_row([
            Cell::new(name).fg(Color::Cyan),
            Cell::new(format!("{:.2}s", stats.cpu.usage.total as f64 / 1e9)),
            Cell::new(format!(
                "{} / {}",
                human(memory.usage),
                if free { "-".into() } else { human(memory.limit) }
            )),
            Cell::new(if free { "-".into() } else { format!("{percent:.1}") }).fg(if percent > 90.0 {
                Color::Red
            } else {
                Color::Reset
            }),
            Cell::new(match stats.pids.limit {
                0 => stats.pids.current.to_string(),
                limit => format!("{} / {limit}", stats.pids.current),
            }),
            Cell::new(format!("{} / {}", sum(&stats.blkio.bytes, "Read"), sum(&stats.blkio.bytes, "Write"))),
            Cell::new(format!("{:.2}s", stats.cpu.throttling.throttled_time as f64 / 1e9)),
            Cell::new(cgroup.oom_kills()?),
        ]);
    }
    Ok(table)
}
