//! `ps`: the list of containers.

use super::{
    http::{Client, Query},
    size,
    table::{List, short_id, shorten},
};
use anyhow::Result;
use bollard_stubs::models::{ContainerSummary, PortSummary};

/// List containers
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Ps {
    /// Stopped ones too
    #[arg(short, long)]
    all: bool,
    /// Only some (name=…, status=…, label=…, ancestor=…, …)
    #[arg(short, long, value_name = "FILTER")]
    filter: Vec<String>,
    /// A Go template, `table TEMPLATE`, or json
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// The last ones made, of any state
    #[arg(short = 'n', long, value_name = "NUMBER", allow_negative_numbers = true)]
    last: Option<i64>,
    /// The last one made, of any state
    #[arg(short, long)]
    latest: bool,
    /// Cut nothing short
    #[arg(long)]
    no_trunc: bool,
    /// Only IDs
    #[arg(short, long)]
    quiet: bool,
    /// What each has written
    #[arg(short, long)]
    size: bool,
}

const COLUMNS: &[(&str, &str)] = &[
    ("ID", "CONTAINER ID"),
    ("Image", "IMAGE"),
    ("Command", "COMMAND"),
    ("RunningFor", "CREATED"),
    ("Status", "STATUS"),
    ("Ports", "PORTS"),
    ("Names", "NAMES"),
];

/// `ps`.
pub(crate) async fn ps(client: &Client, args: &Ps) -> Result<u8> {
    let limit = if args.latest { Some(1) } else { args.last.filter(|n| *n > 0) };
    let size = args.size || args.format.as_deref().is_some_and(|f| f.contains(".Size"));
    let query = Query::default()
        .flag("all", args.all || limit.is_some())
        .maybe("limit", limit.map(|n| n.to_string()))
        .flag("size", size)
        .filters(&args.filter)?;
    let containers: Vec<ContainerSummary> = client.get(format!("/containers/json{query}")).json().await?;
    let mut list = List::default();
    for container in &containers {
        row(&mut list, container, args.no_trunc);
    }
    let format = if args.quiet { Some("{{.ID}}") } else { args.format.as_deref() };
    let mut columns = COLUMNS.to_vec();
    if args.size {
        columns.push(("Size", "SIZE"));
    }
    list.print(format, &columns)?;
    Ok(0)
}

fn row(list: &mut List, container: &ContainerSummary, whole: bool) {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let cut = |value: String, length| if whole { value } else { shorten(&value, length) };
    let id = text(&container.id);
    let image = text(&container.image);
    let created = container.created.unwrap_or(0);
    let labels = container.labels.clone().unwrap_or_default();
    let mut labels: Vec<_> = labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
    labels.sort();
    let mounts = container.mounts.clone().unwrap_or_default();
    let mount = |m: &bollard_stubs::models::MountPoint| {
        let name = m.name.clone().filter(|n| !n.is_empty()).or(m.source.clone()).unwrap_or_default();
        cut(name, 15)
    };
    let networks = container.network_settings.as_ref().and_then(|n| n.networks.clone()).unwrap_or_default();
    let mut networks: Vec<_> = networks.into_keys().collect();
    networks.sort();
    list.row([
        ("ID", if whole { id.clone() } else { short_id(&id) }),
        ("Image", if image.starts_with("sha256:") && !whole { short_id(&image) } else { image }),
        ("Command", format!("\"{}\"", cut(text(&container.command), 20))),
        ("CreatedAt", size::created_at(created)),
        ("RunningFor", size::ago(created)),
        ("Status", text(&container.status)),
        ("State", container.state.map(|s| s.to_string()).unwrap_or_default()),
        ("Ports", ports(container.ports.as_deref().unwrap_or_default())),
        ("Names", names(container.names.as_deref().unwrap_or_default())),
        ("Labels", labels.join(",")),
        ("Mounts", mounts.iter().map(mount).collect::<Vec<_>>().join(",")),
        ("LocalVolumes", mounts.iter().filter(|m| m.driver.as_deref() == Some("local")).count().to_string()),
        ("Networks", networks.join(",")),
        ("Size", sizes(container)),
    ]);
}

/// Names without the slash that stands before them; links (`/a/b`) are not names.
fn names(names: &[String]) -> String {
    let own = names.iter().map(|n| n.trim_start_matches('/')).filter(|n| !n.contains('/'));
    own.collect::<Vec<_>>().join(",")
}

fn sizes(container: &ContainerSummary) -> String {
    let written = size::human(container.size_rw.unwrap_or(0), 3);
    match container.size_root_fs {
        Some(all) if all > 0 => format!("{written} (virtual {})", size::human(all, 3)),
        _ => written,
    }
}

/// `0.0.0.0:8080-8081->80-81/tcp`: ports that follow each other are one range, as docker shows them.
pub(crate) fn ports(ports: &[PortSummary]) -> String {
    let mut sorted: Vec<_> = ports
        .iter()
        .map(|p| {
            let kind = p.typ.map(|t| t.to_string()).filter(|t| !t.is_empty()).unwrap_or_else(|| "tcp".into());
            let host = p.public_port.filter(|p| *p > 0).map(|port| (p.ip.clone().unwrap_or_default(), port));
            (kind, host.as_ref().map(|(ip, _)| ip.clone()), p.private_port, host.map(|(_, port)| port))
        })
        .collect();
    sorted.sort();
    let mut shown: Vec<String> = Vec::new();
    let mut at = 0;
    while let Some((kind, ip, first, host)) = sorted.get(at).cloned() {
        let mut last = first;
        at += 1;
        while let Some((next_kind, next_ip, port, next_host)) = sorted.get(at) {
            let follows = (next_kind, next_ip) == (&kind, &ip)
                && Some(*port) == last.checked_add(1)
                && next_host.map(i64::from) == host.map(|h| i64::from(h) + i64::from(last - first) + 1);
            if !follows {
                break;
            }
            last = *port;
            at += 1;
        }
        let range = |from: u16| {
            if last == first { from.to_string() } else { format!("{from}-{}", from + (last - first)) }
        };
        let bracketed = |ip: &str| if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
        shown.push(match (ip, host) {
            (Some(ip), Some(host)) => format!("{}:{}->{}/{kind}", bracketed(&ip), range(host), range(first)),
            _ => format!("{}/{kind}", range(first)),
        });
    }
    shown.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(ip: &str, public: u16, private: u16) -> PortSummary {
        serde_json::from_value(if public == 0 {
            serde_json::json!({"PrivatePort": private, "Type": "tcp"})
        } else {
            serde_json::json!({"IP": ip, "PublicPort": public, "PrivatePort": private, "Type": "tcp"})
        })
        .unwrap()
    }

    #[test]
    fn ports_in_a_row_are_a_range() {
        assert_eq!(ports(&[port("", 0, 80), port("", 0, 81), port("", 0, 90)]), "80-81/tcp, 90/tcp");
        assert_eq!(
            ports(&[port("0.0.0.0", 8080, 80), port("::", 8080, 80), port("0.0.0.0", 8081, 81)]),
            "0.0.0.0:8080-8081->80-81/tcp, [::]:8080->80/tcp"
        );
        assert_eq!(
            ports(&[port("0.0.0.0", 9000, 80), port("0.0.0.0", 8081, 81)]),
            "0.0.0.0:9000->80/tcp, 0.0.0.0:8081->81/tcp"
        );
    }

    #[test]
    fn a_container_is_a_row() {
        let container: ContainerSummary = serde_json::from_value(serde_json::json!({
            "Id": "0123456789abcdef0123", "Names": ["/web", "/other/alias"], "Image": "base",
            "Command": "sh -c 'sleep 100000'", "Created": size::now() - 200, "State": "running", "Status": "Up 3 minutes",
            "Labels": {"b": "2", "a": "1"}, "Ports": [], "SizeRw": 12, "SizeRootFs": 14_000_000,
        }))
        .unwrap();
        let mut list = List::default();
        row(&mut list, &container, false);
        insta::assert_snapshot!(list.text(None, COLUMNS).unwrap(), @r#"
        CONTAINER ID   IMAGE     COMMAND                  CREATED         STATUS         PORTS     NAMES
        0123456789ab   base      "sh -c 'sleep 100000'"   3 minutes ago   Up 3 minutes             web
        "#);
        let format = Some("{{.Labels}} {{.State}} {{.Size}}");
        assert_eq!(list.text(format, COLUMNS).unwrap(), "a=1,b=2 running 12B (virtual 14MB)\n");
    }
}
