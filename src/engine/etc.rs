//! The three files of /etc that the engine writes for a container: hosts, hostname, resolv.conf.

use super::{
    Engine,
    container::{Container, Record},
    failure::Result,
};
use std::{fmt::Write as _, fs};

/// Writes them for a container that is about to start.
pub(crate) fn write(engine: &Engine, container: &Container) -> Result<()> {
    let record = container.record();
    fs::write(
        container.dir.join("hostname"),
        format!("{}\n", record.config.hostname.as_deref().unwrap_or_default()),
    )?;
    fs::write(container.dir.join("hosts"), hosts(engine, &record))?;
    fs::write(container.dir.join("resolv.conf"), resolv_conf(&record))?;
    Ok(())
}

/// Tells all running containers of a user-defined network who is there now. The files are written in place: a
/// container sees the inode that was mounted, and never one that is renamed over it.
pub(crate) fn refresh(engine: &Engine, network: &str) {
    if network == "bridge" {
        return;
    }
    for container in engine.containers() {
        let record = container.record();
        if record.state.status.alive() && record.networks.contains_key(network) {
            let _ = fs::write(container.dir.join("hosts"), hosts(engine, &record));
        }
    }
}

fn hosts(engine: &Engine, record: &Record) -> String {
    let mut text = String::from(
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\nff00::0\tip6-mcastprefix\n\
         ff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n",
    );
    for extra in record.host.extra_hosts.iter().flatten() {
        if let Some((name, address)) = extra.split_once(':') {
            let gateway = engine.networks.get("bridge").ok().and_then(|n| n.gateway).map(|g| g.to_string());
            let address =
                if address == "host-gateway" { gateway.unwrap_or_default() } else { address.to_owned() };
            let _ = writeln!(text, "{address}\t{name}");
        }
    }
    let hostname = record.config.hostname.as_deref().unwrap_or_default();
    let domain = record.config.domainname.as_deref().filter(|d| !d.is_empty());
    for settings in record.networks.values() {
        if let Some(ip) = settings.ip_address.as_deref().filter(|ip| !ip.is_empty()) {
            let full = domain.map(|d| format!("{hostname}.{d} ")).unwrap_or_default();
            let _ = writeln!(text, "{ip}\t{full}{hostname}");
        }
    }
    if matches!(record.network_mode(), "host") {
        let _ = writeln!(text, "127.0.1.1\t{hostname}");
    }
    // docker answers these names by a DNS server of its own; here they stand in the file that every program reads first.
    for other in engine.containers().iter().filter(|c| c.id != record.id) {
        other.look(|theirs| {
            for (network, settings) in &theirs.networks {
                let shared = network != "bridge" && record.networks.contains_key(network);
                let Some(ip) = settings.ip_address.as_deref().filter(|ip| shared && !ip.is_empty()) else {
                    continue;
                };
                let aliases = settings.aliases.iter().flatten().map(|a| format!(" {a}")).collect::<String>();
                let _ = writeln!(text, "{ip}\t{} {}{aliases}", theirs.name, &theirs.id[..12]);
            }
        });
    }
    text
}

fn resolv_conf(record: &Record) -> String {
    let host = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    if matches!(record.network_mode(), "host") && record.host.dns.as_ref().is_none_or(Vec::is_empty) {
        return host;
    }
    let list = |own: &Option<Vec<String>>| own.clone().unwrap_or_default();
    let (dns, search, options) =
        (list(&record.host.dns), list(&record.host.dns_search), list(&record.host.dns_options));
    let mut text = String::new();
    for line in host.lines() {
        let mut words = line.split_ascii_whitespace();
        let keep = match (words.next(), words.next()) {
            // A name server on the host's loopback is out of a container's reach.
            (Some("nameserver"), Some(address)) => {
                dns.is_empty() && !address.parse::<std::net::IpAddr>().is_ok_and(|a| a.is_loopback())
            }
            (Some("search" | "domain"), _) => search.is_empty(),
            (Some("options"), _) => options.is_empty(),
            _ => false,
        };
        if keep {
            text.push_str(line);
            text.push('\n');
        }
    }
    for server in &dns {
        let _ = writeln!(text, "nameserver {server}");
    }
    if !search.is_empty() && search != ["."] {
        let _ = writeln!(text, "search {}", search.join(" "));
    }
    if !options.is_empty() {
        let _ = writeln!(text, "options {}", options.join(" "));
    }
    text
}
