//! `stats`: what containers use, once or again and again.

use super::{
    http::{Client, Query, escape},
    size,
    table::{List, short_id},
};
use anyhow::Result;
use bollard_stubs::models::{ContainerInspectResponse, ContainerSummary};
use serde_json::Value;
use std::{collections::HashMap, io::IsTerminal, time::Duration};

/// Show what containers use of processor, memory, network and disk
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Stats {
    /// Stopped ones too
    #[arg(short, long)]
    all: bool,
    /// A Go template, `table TEMPLATE`, or json
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Once, and no more
    #[arg(long)]
    no_stream: bool,
    /// Cut nothing short
    #[arg(long)]
    no_trunc: bool,
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
}

const COLUMNS: &[(&str, &str)] = &[
    ("Container", "CONTAINER ID"),
    ("Name", "NAME"),
    ("CPUPerc", "CPU %"),
    ("MemUsage", "MEM USAGE / LIMIT"),
    ("MemPerc", "MEM %"),
    ("NetIO", "NET I/O"),
    ("BlockIO", "BLOCK I/O"),
    ("PIDs", "PIDS"),
];

/// Between two readings: processor time is a difference.
const INTERVAL: Duration = Duration::from_secs(1);

/// `stats`. Two readings a second apart make a table; without `--no-stream` the table is made anew each second.
pub(crate) async fn stats(client: &Client, args: &Stats) -> Result<u8> {
    for name in &args.containers {
        // A name that is not there is an error now, not an empty row for ever.
        let _: ContainerInspectResponse =
            client.get(format!("/containers/{}/json", escape(name))).json().await?;
    }
    let mut before = readings(client, args).await?;
    loop {
        tokio::time::sleep(INTERVAL).await;
        let now = readings(client, args).await?;
        let earlier: HashMap<_, _> =
            before.iter().map(|r| (r["id"].as_str().unwrap_or_default(), r)).collect();
        let mut list = List::default();
        for reading in &now {
            let id = reading["id"].as_str().unwrap_or_default();
            row(&mut list, reading, earlier.get(id).copied().unwrap_or(&Value::Null), args.no_trunc);
        }
        if !args.no_stream && std::io::stdout().is_terminal() {
            // To the first line, and everything below it is old (console_codes(4)).
            print!("\x1b[H\x1b[J");
        }
        list.print(args.format.as_deref(), COLUMNS)?;
        if args.no_stream {
            return Ok(0);
        }
        before = now;
    }
}

/// A reading of each container that is asked for. One that goes away meanwhile has none.
async fn readings(client: &Client, args: &Stats) -> Result<Vec<Value>> {
    let names = if args.containers.is_empty() {
        let query = Query::default().flag("all", args.all);
        let running: Vec<ContainerSummary> = client.get(format!("/containers/json{query}")).json().await?;
        running.into_iter().filter_map(|c| c.id).collect()
    } else {
        args.containers.clone()
    };
    let mut readings = Vec::new();
    for name in names {
        let path = format!("/containers/{}/stats?stream=0&one-shot=1", escape(&name));
        if let Ok(reading) = client.get(path).json::<Value>().await {
            readings.push(reading);
        }
    }
    Ok(readings)
}

fn row(list: &mut List, now: &Value, before: &Value, whole: bool) {
    let number = |value: &Value| value.as_i64().unwrap_or(0);
    let id = now["id"].as_str().unwrap_or_default();
    let memory = &now["memory_stats"];
    // Cache that the kernel would give back at once does not count, as in docker. v2's name, then v1's.
    let inactive = ["inactive_file", "total_inactive_file"]
        .iter()
        .map(|n| number(&memory["stats"][n]))
        .max()
        .unwrap_or(0);
    let used = (number(&memory["usage"]) - inactive).max(0);
    let limit = number(&memory["limit"]);
    let (received, sent) =
        now["networks"].as_object().into_iter().flatten().fold((0, 0), |(r, s), (_, device)| {
            (r + number(&device["rx_bytes"]), s + number(&device["tx_bytes"]))
        });
    let blocks = now["blkio_stats"]["io_service_bytes_recursive"].as_array();
    let moved = |op: &str| -> i64 {
        let entries = blocks.into_iter().flatten();
        entries
            .filter(|e| e["op"].as_str().is_some_and(|o| o.eq_ignore_ascii_case(op)))
            .map(|e| number(&e["value"]))
            .sum()
    };
    list.row([
        ("Container", if whole { id.to_owned() } else { short_id(id) }),
        ("ID", if whole { id.to_owned() } else { short_id(id) }),
        ("Name", now["name"].as_str().unwrap_or_default().trim_start_matches('/').to_owned()),
        ("CPUPerc", format!("{:.2}%", processor(now, before))),
        ("MemUsage", format!("{} / {}", size::human_binary(used), size::human_binary(limit))),
        ("MemPerc", format!("{:.2}%", percent(used, limit))),
        ("NetIO", format!("{} / {}", size::human(received, 3), size::human(sent, 3))),
        ("BlockIO", format!("{} / {}", size::human(moved("read"), 3), size::human(moved("write"), 3))),
        ("PIDs", number(&now["pids_stats"]["current"]).to_string()),
    ]);
}

/// Processor time of the container against that of the machine, times its processors: two busy ones are 200%.
fn processor(now: &Value, before: &Value) -> f64 {
    let delta = |name: &[&str]| {
        let at =
            |reading: &Value| name.iter().fold(reading.clone(), |v, n| v[n].clone()).as_i64().unwrap_or(0);
        at(now) - at(before)
    };
    if before.is_null() {
        return 0.0;
    }
    let used = delta(&["cpu_stats", "cpu_usage", "total_usage"]);
    let machine = delta(&["cpu_stats", "system_cpu_usage"]);
    let online = now["cpu_stats"]["online_cpus"].as_i64().filter(|n| *n > 0).unwrap_or(1);
    percent(used * online, machine)
}

#[expect(clippy::cast_precision_loss, reason = "two decimals are shown")]
fn percent(part: i64, whole: i64) -> f64 {
    if whole <= 0 || part <= 0 { 0.0 } else { part as f64 / whole as f64 * 100.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn half_a_processor_of_two_for_a_second() {
        let reading = |used: i64, machine: i64| {
            json!({
                "id": "0123456789abcdef", "name": "/web",
                "cpu_stats": {"cpu_usage": {"total_usage": used}, "system_cpu_usage": machine, "online_cpus": 2},
                "memory_stats": {"usage": 20 << 20, "limit": 64 << 20, "stats": {"inactive_file": 4 << 20}},
                "networks": {"eth0": {"rx_bytes": 1000, "tx_bytes": 20}},
                "blkio_stats": {"io_service_bytes_recursive": [{"op": "Read", "value": 4096}, {"op": "write", "value": 1}]},
                "pids_stats": {"current": 3},
            })
        };
        let mut list = List::default();
        row(
            &mut list,
            &reading(1_500_000_000, 12_000_000_000),
            &reading(1_000_000_000, 10_000_000_000),
            false,
        );
        insta::assert_snapshot!(list.text(None, COLUMNS).unwrap(), @r"
        CONTAINER ID   NAME      CPU %     MEM USAGE / LIMIT   MEM %     NET I/O     BLOCK I/O    PIDS
        0123456789ab   web       50.00%    16MiB / 64MiB       25.00%    1kB / 20B   4.1kB / 1B   3
        ");
    }
}
