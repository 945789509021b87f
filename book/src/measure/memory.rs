//! What one more container of an image costs in memory: the fair share of one, beside more and more neighbours.

use super::{Found, peers::said};
use crate::data::Row;
use anyhow::{Context, Result};
use std::fs;

pub(super) fn run() -> Result<Found> {
    said("teu image base")?;
    let mut rows = Vec::new();
    let mut running = 0;
    for count in [1, 2, 4, 8, 16] {
        while running < count {
            running += 1;
            said(&format!("teu run -d --network none --name n{running} base sleep 1000"))?;
        }
        let name = if count == 1 { "alone".into() } else { format!("one of {count}") };
        rows.push(Row {
            key: format!("of{count}"),
            name,
            value: kilobytes(&first()?, "Pss")?,
            ..Row::default()
        });
    }
    let value = kilobytes(&first()?, "Private_Dirty")?;
    rows.push(Row {
        key: "own".into(),
        name: "its own pages, which nobody shares".into(),
        ours: true,
        value,
        ..Row::default()
    });
    let names: Vec<String> = (1..=running).map(|n| format!("n{n}")).collect();
    said(&format!("teu rm -f {}", names.join(" ")))?;
    let title = "Memory of one container, beside others of its image";
    Ok(Found { title, unit: "kB", with: vec![], rounds: None, rows })
}

fn first() -> Result<String> {
    Ok(said("teu inspect -f {{.State.Pid}} n1")?.trim().to_owned())
}

/// A line of `/proc/PID/smaps_rollup` (proc(5)), whose kB have 1024 bytes, in such of 1000.
pub(super) fn kilobytes(pid: &str, what: &str) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(what)?.strip_prefix(':'));
    let number =
        line.and_then(|line| line.split_whitespace().next()).with_context(|| format!("no {what}"))?;
    Ok(number.parse::<f64>()? * 1.024)
}
