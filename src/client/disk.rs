//! `system df` and everything that prunes: what takes room, and making it free.

use super::{
    http::{Client, Query},
    size,
    table::List,
};
use anyhow::Result;
use serde_json::Value;
use std::io::{BufRead, Write};

/// Show what takes room
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Df {
    /// A Go template, `table TEMPLATE`, or json
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
}

/// What to prune.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Prune {
    /// Only some (until=…, label=…)
    #[arg(long, value_name = "FILTER")]
    pub(crate) filter: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

/// Remove images that have no name and that no container uses
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct PruneImages {
    /// Those with a name, too, if no container uses them
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    prune: Prune,
}

/// Remove stopped containers, unused networks, images without a name, and what builds left
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct PruneAll {
    /// All images that no container uses
    #[arg(short, long)]
    all: bool,
    /// Volumes without a name, too
    #[arg(long)]
    volumes: bool,
    #[command(flatten)]
    prune: Prune,
}

/// A kind of thing that can be pruned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    path: &'static str,
    /// The field of the answer that lists what was removed.
    field: &'static str,
    heading: &'static str,
    warning: &'static str,
}

/// Stopped containers.
pub(crate) const CONTAINERS: Kind = Kind {
    path: "/containers/prune",
    field: "ContainersDeleted",
    heading: "Deleted Containers:",
    warning: "all stopped containers",
};
/// Networks that no container uses.
pub(crate) const NETWORKS: Kind = Kind {
    path: "/networks/prune",
    field: "NetworksDeleted",
    heading: "Deleted Networks:",
    warning: "all networks not used by at least one container",
};
/// Volumes that no container uses.
pub(crate) const VOLUMES: Kind = Kind {
    path: "/volumes/prune",
    field: "VolumesDeleted",
    heading: "Deleted Volumes:",
    warning: "anonymous volumes not used by at least one container",
};
/// Images that no container uses.
pub(crate) const IMAGES: Kind = Kind {
    path: "/images/prune",
    field: "ImagesDeleted",
    heading: "Deleted Images:",
    warning: "all dangling images",
};
const ALL_IMAGES: Kind =
    Kind { warning: "all images without at least one container associated to them", ..IMAGES };
const BUILD_CACHE: Kind = Kind {
    path: "/build/prune",
    field: "CachesDeleted",
    heading: "Deleted build cache objects:",
    warning: "unused build cache",
};

/// `image prune`.
pub(crate) async fn prune_images(client: &Client, args: &PruneImages) -> Result<u8> {
    let kind = if args.all { ALL_IMAGES } else { IMAGES };
    prune(client, &args.prune, &[kind]).await
}

/// `system prune`.
pub(crate) async fn prune_all(client: &Client, args: &PruneAll) -> Result<u8> {
    let mut kinds = vec![CONTAINERS, NETWORKS];
    if args.volumes {
        kinds.push(VOLUMES);
    }
    kinds.extend([if args.all { ALL_IMAGES } else { IMAGES }, BUILD_CACHE]);
    prune(client, &args.prune, &kinds).await
}

/// Asks, then removes things of these kinds.
pub(crate) async fn prune(client: &Client, args: &Prune, kinds: &[Kind]) -> Result<u8> {
    if !args.force {
        println!("WARNING! This will remove:");
        kinds.iter().for_each(|kind| println!("  - {}", kind.warning));
        print!("\nAre you sure you want to continue? [y/N] ");
        std::io::stdout().flush()?;
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer)?;
        if !answer.trim().eq_ignore_ascii_case("y") {
            return Ok(0);
        }
    }
    let mut freed = 0;
    for kind in kinds {
        let mut filter = args.filter.clone();
        if kind.warning == ALL_IMAGES.warning {
            filter.push("dangling=false".into());
        }
        let query = Query::default().filters(&filter)?;
        let answer: Value = client.post(format!("{}{query}", kind.path)).json().await?;
        let removed = answer[kind.field].as_array().cloned().unwrap_or_default();
        if !removed.is_empty() {
            println!("{}", kind.heading);
            removed.iter().for_each(|item| println!("{}", removed_line(item)));
            println!();
        }
        freed += answer["SpaceReclaimed"].as_i64().unwrap_or(0);
    }
    if kinds.len() > 1 || kinds.iter().any(|k| k.path != NETWORKS.path) {
        println!("Total reclaimed space: {}", size::human(freed, 4));
    }
    Ok(0)
}

fn removed_line(item: &Value) -> String {
    match (item["Untagged"].as_str(), item["Deleted"].as_str()) {
        (Some(name), _) => format!("untagged: {name}"),
        (None, Some(id)) => format!("deleted: {id}"),
        (None, None) => item.as_str().unwrap_or_default().to_owned(),
    }
}

/// `system df`.
pub(crate) async fn df(client: &Client, args: &Df) -> Result<u8> {
    let usage: Value = client.get("/system/df").json().await?;
    df_list(&usage).print(
        args.format.as_deref(),
        &[
            ("Type", "TYPE"),
            ("TotalCount", "TOTAL"),
            ("Active", "ACTIVE"),
            ("Size", "SIZE"),
            ("Reclaimable", "RECLAIMABLE"),
        ],
    )?;
    Ok(0)
}

fn df_list(usage: &Value) -> List {
    let items = |name: &str| usage[name].as_array().cloned().unwrap_or_default();
    let number = |value: &Value| value.as_i64().unwrap_or(0).max(0);
    let mut list = List::default();
    let mut row = |kind: &str, total: usize, active: usize, bytes: i64, free: i64| {
        let share = if bytes > 0 { free * 100 / bytes } else { 0 };
        let percent = if bytes > 0 && kind != "Build Cache" { format!(" ({share}%)") } else { String::new() };
        list.row([
            ("Type", kind.to_owned()),
            ("TotalCount", total.to_string()),
            ("Active", active.to_string()),
            ("Size", size::human(bytes, 4)),
            ("Reclaimable", format!("{}{percent}", size::human(free, 4))),
        ]);
    };
    let images = items("Images");
    let used: Vec<_> = images.iter().filter(|i| number(&i["Containers"]) > 0).collect();
    let layers = number(&usage["LayersSize"]);
    // What a used image shares with others is in use; its layers are counted once.
    let kept: i64 = used.iter().map(|i| number(&i["Size"]) - number(&i["SharedSize"])).sum();
    row("Images", images.len(), used.len(), layers, (layers - kept).max(0));
    let containers = items("Containers");
    let running = |c: &&Value| matches!(c["State"].as_str(), Some("running" | "paused" | "restarting"));
    let written = |c: &Value| number(&c["SizeRw"]);
    row(
        "Containers",
        containers.len(),
        containers.iter().filter(running).count(),
        containers.iter().map(written).sum(),
        containers.iter().filter(|c| !running(c)).map(written).sum(),
    );
    let volumes = items("Volumes");
    let (users, bytes) =
        (|v: &Value| number(&v["UsageData"]["RefCount"]), |v: &Value| number(&v["UsageData"]["Size"]));
    row(
        "Local Volumes",
        volumes.len(),
        volumes.iter().filter(|v| users(v) > 0).count(),
        volumes.iter().map(bytes).sum(),
        volumes.iter().filter(|v| users(v) == 0).map(bytes).sum(),
    );
    let cache = items("BuildCache");
    let in_use = |c: &&Value| c["InUse"].as_bool().unwrap_or(false);
    row(
        "Build Cache",
        cache.len(),
        cache.iter().filter(in_use).count(),
        cache.iter().map(|c| number(&c["Size"])).sum(),
        cache.iter().filter(|c| !in_use(c)).map(|c| number(&c["Size"])).sum(),
    );
    list
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_takes_room() {
        let usage = json!({
            "LayersSize": 20_000_000,
            "Images": [
                {"Size": 14_000_000, "SharedSize": 0, "Containers": 1},
                {"Size": 6_000_000, "SharedSize": 0, "Containers": 0},
            ],
            "Containers": [{"State": "running", "SizeRw": 100}, {"State": "exited", "SizeRw": 50}],
            "Volumes": null,
            "BuildCache": null,
        });
        let columns = [
            ("Type", "TYPE"),
            ("TotalCount", "TOTAL"),
            ("Active", "ACTIVE"),
            ("Size", "SIZE"),
            ("Reclaimable", "RECLAIMABLE"),
        ];
        insta::assert_snapshot!(df_list(&usage).text(None, &columns).unwrap(), @r"
        TYPE            TOTAL     ACTIVE    SIZE      RECLAIMABLE
        Images          2         1         20MB      6MB (30%)
        Containers      2         1         150B      50B (33%)
        Local Volumes   0         0         0B        0B
        Build Cache     0         0         0B        0B
        ");
    }
}
