//! Limits and counters as tables.

use crate::{cli::Global, oci, words};
use anyhow::Result;
use cgroups::{
    cgroup::Cgroup,
    size::human,
    stats::{BlkioEntry, Stats},
};
use comfy_table::{Attribute, Cell, CellAlignment, Color, LineStyle, Table, TableStyle, presets};
use namespaces::table::{self, Colour};
use std::{path::PathBuf, time::Duration};

/// A line below the headings, and no more.
const STYLE: TableStyle = presets::NOTHING.header_separator(LineStyle::new('─', '─', '─', '─'));

/// A table with these headings, in colour if it is for a terminal.
fn headed<const N: usize>(headings: [&str; N], coloured: bool) -> Table {
    let mut table = Table::new();
    table.load_style(STYLE);
    match coloured {
        true => table.enforce_styling(),
        false => table.force_no_tty(),
    };
    table.set_header(headings.map(|h| Cell::new(h).add_attribute(Attribute::Bold)));
    table
}

/// Files and their values below the directory that they are in: `FILE VALUE IN WORDS WHAT IT SAYS`.
fn files(settings: &[(PathBuf, String)], coloured: bool) -> String {
    let cell = |text: &str, colour| table::Cell::new(text, colour);
    let mut rows = Vec::new();
    let mut above = None;
    for (file, value) in settings {
        if above != file.parent() {
            above = file.parent();
            if !rows.is_empty() {
                rows.push(vec![cell("", Colour::Plain)]);
            }
            let directory = above.map(|d| d.display().to_string()).unwrap_or_default();
            rows.push(vec![cell(&directory, Colour::Cyan)]);
        }
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let words = words::value(file, value);
        // A value that limits is what the reader is looking for.
        let colour = if words::is_usual(&words) { Colour::Dim } else { Colour::Green };
        let value = value.split('\n').collect::<Vec<_>>().join(", ");
        rows.push(vec![
            cell(&format!("  {name}"), Colour::Plain),
            cell(if value.is_empty() { "(empty)" } else { &value }, colour),
            cell(&words, colour),
            cell(words::meaning(&name), Colour::Plain),
        ]);
    }
    if !rows.is_empty() {
        let head = ["  FILE", "VALUE", "IN WORDS", "WHAT IT IS"];
        rows.insert(0, head.map(|h| cell(h, Colour::Bold)).to_vec());
    }
    table::align(&rows, coloured)
}

/// Each limit's file and what was written into it, for standard error.
pub(crate) fn settings(settings: &[(PathBuf, String)]) -> String {
    files(settings, table::coloured(&std::io::stderr()))
}

/// A group's limits as the kernel has them now.
fn limits(cgroup: &Cgroup) -> Vec<(PathBuf, String)> {
    let mut all = Vec::new();
    for (_, directory) in cgroup.directories() {
        for (name, _) in words::FILES {
            let file = directory.join(name);
            // A file that is not there: this kernel, or this controller, has no such limit.
            if let Ok(value) = std::fs::read_to_string(&file) {
                all.push((file, value.trim().to_owned()));
            }
        }
    }
    all
}

/// What a command used in the end.
pub(crate) fn used(stats: &Stats, wall: Duration) -> Table {
    let mut table = headed(["used", "", "limit", "held back"], table::coloured(&std::io::stderr()));
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
    let limits = limits(&cgroup);
    if limits.is_empty() {
        let directories = cgroup.directories();
        let place = directories.first().map_or("here".into(), |(_, d)| format!("in {}", d.display()));
        anyhow::bail!(
            "no controller is switched on {place}, so nothing is limited by this group: name another one, such as /teu"
        );
    }
    print!("{}", files(&limits, table::coloured(&std::io::stdout())));
    Ok(())
}

/// A row for each group, like `docker stats`.
fn stats(groups: &[(String, Cgroup)]) -> Result<Table> {
    let mut table = headed(
        ["group", "cpu time", "memory / limit", "mem %", "pids", "block in / out", "held back", "oom"],
        table::coloured(&std::io::stdout()),
    );
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
