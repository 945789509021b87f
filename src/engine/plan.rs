//! What the daemon tells a monitor: `plan.json` in the container's run directory. All that needs the engine's
//! knowledge (which image, which network, which other container) is decided here; all that needs the mounted
//! root or the process is done there.

use super::{
    Engine,
    container::{Container, Published, Record},
    etc,
    failure::{Failure, Result},
    mounts, names, network,
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, net::Ipv4Addr, path::PathBuf};

/// One start of one container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// The container.
    pub(crate) record: Record,
    /// Its lasting directory: upper, work, log, `exit.json`.
    pub(crate) data: PathBuf,
    /// Its run directory, and the bundle: `config.json`, `rootfs`.
    pub(crate) run: PathBuf,
    /// The runtime's state.
    pub(crate) runtime_root: PathBuf,
    /// What is under its own layer, topmost first.
    pub(crate) lower: Vec<PathBuf>,
    /// The control group.
    pub(crate) cgroup: String,
    /// Everything runs in an ordinary user's user namespace.
    pub(crate) rootless: bool,
    /// What is mounted besides docker's own, in order.
    pub(crate) mounts: Vec<Bind>,
    /// Namespaces that are not its own: `network` → `/proc/PID/ns/net`; an empty path is the host's.
    pub(crate) join: BTreeMap<String, PathBuf>,
    /// The bridges it is plugged into.
    pub(crate) endpoints: Vec<Endpoint>,
    /// Ports that are to lead to it.
    pub(crate) ports: Vec<Wanted>,
}

/// A port that is to be published. (The API's word for several of the host's is a range, `8000-8010`.)
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Wanted {
    /// With the first of the host's ports that will do; 0 asks for any.
    pub(crate) first: Published,
    /// The last of them.
    pub(crate) last: u16,
}

/// A directory or file of the host, or a fresh tmpfs, in the container.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Bind {
    /// `bind`, or `tmpfs`.
    pub(crate) kind: String,
    /// On the host; empty for a tmpfs.
    pub(crate) source: PathBuf,
    /// In the container.
    pub(crate) target: PathBuf,
    /// As mount(8) spells them.
    pub(crate) options: Vec<String>,
    /// An empty volume: it gets what the image has there.
    pub(crate) copy_up: bool,
}

/// One end of a cable.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Endpoint {
    /// The network's name.
    pub(crate) network: String,
    /// The bridge it is plugged into.
    pub(crate) bridge: String,
    /// The outer end's name.
    pub(crate) host_name: String,
    /// The inner end's name.
    pub(crate) name: String,
    /// Its address and prefix length.
    pub(crate) address: (Ipv4Addr, u8),
    /// Its hardware address.
    pub(crate) mac: [u8; 6],
    /// The default route, on one of them.
    pub(crate) gateway: Option<Ipv4Addr>,
}

/// Plans the next start of a container: leases its addresses, finds whom it shares namespaces with, writes its
/// files of /etc.
pub(crate) fn make(engine: &Engine, container: &Container) -> Result<Plan> {
    let mut record = container.record();
    let endpoints = endpoints(engine, &mut record)?;
    let ports = ports(&record)?;
    container.change(|r| {
        r.networks.clone_from(&record.networks);
        r.devices.clone_from(&record.devices);
        r.state.ports = ports.iter().map(|wanted| wanted.first.clone()).collect();
    })?;
    let mut mounts = mounts::plan(&record.mounts, &record.host);
    etc::write(engine, container)?;
    for (file, target) in
        [("resolv.conf", "/etc/resolv.conf"), ("hostname", "/etc/hostname"), ("hosts", "/etc/hosts")]
    {
        // What the user mounts there himself is not hidden.
        if !mounts.iter().any(|m| m.target == std::path::Path::new(target)) {
            let options = vec!["rbind".into(), "rprivate".into()];
            mounts.push(Bind {
                kind: "bind".into(),
                source: container.dir.join(file),
                target: target.into(),
                options,
                copy_up: false,
            });
        }
    }
    if record.host.init.unwrap_or_default() {
        let options = vec!["bind".into(), "ro".into()];
        mounts.push(Bind {
            kind: "bind".into(),
            source: init()?,
            target: "/sbin/docker-init".into(),
            options,
            copy_up: false,
        });
    }
    let parent = record.host.cgroup_parent.as_deref().unwrap_or_default().trim_end_matches('/');
    Ok(Plan {
        // Directly below the parent: no group of ours is left when the last container goes.
        cgroup: format!(
            "{}/teu-{}",
            if parent.is_empty() { String::new() } else { format!("/{}", parent.trim_start_matches('/')) },
            record.id
        ),
        data: container.dir.clone(),
        run: container.run.clone(),
        runtime_root: engine.runtime.root().to_owned(),
        rootless: engine.rootless,
        mounts,
        join: joins(engine, &record)?,
        endpoints,
        ports,
        lower: [vec![engine.init_layer()], record.lower.clone()].concat(),
        record,
    })
}

/// The program of `--init`: a small one that needs no libraries, since it runs in any root.
fn init() -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = ["docker-init", "tini-static", "catatonit"]
        .iter()
        .flat_map(|name| std::env::split_paths(&path).map(move |dir| dir.join(name)))
        .find(|file| file.is_file());
    found.ok_or_else(|| Failure::bad("--init needs one of docker-init, tini-static, catatonit on the daemon's PATH; install tini or catatonit"))
}

/// `--pid`, `--ipc`, `--uts` and `--network` of `host` or `container:ID`.
fn joins(engine: &Engine, record: &Record) -> Result<BTreeMap<String, PathBuf>> {
    let host = &record.host;
    let modes = [
        ("pid", "pid", host.pid_mode.as_deref().unwrap_or_default()),
        ("ipc", "ipc", host.ipc_mode.as_deref().unwrap_or_default()),
        ("uts", "uts", host.uts_mode.as_deref().unwrap_or_default()),
        ("network", "net", record.network_mode()),
    ];
    let mut joins = BTreeMap::new();
    for (kind, file, mode) in modes {
        if mode == "host" {
            joins.insert(kind.to_owned(), PathBuf::new());
        } else if let Some(other) = mode.strip_prefix("container:") {
            let other = engine.container(other)?;
            let pid = other.look(|r| if r.state.status.alive() { r.state.pid } else { 0 });
            if pid == 0 {
                return Err(Failure::conflict(format!(
                    "cannot join {kind} of a non running container: {}",
                    other.id
                )));
            }
            joins.insert(kind.to_owned(), format!("/proc/{pid}/ns/{file}").into());
        }
    }
    if host.cgroupns_mode == Some(bollard_stubs::models::HostConfigCgroupnsModeEnum::HOST) {
        joins.insert("cgroup".into(), PathBuf::new());
    }
    Ok(joins)
}

/// Addresses on the bridges, which are made sure of.
fn endpoints(engine: &Engine, record: &mut Record) -> Result<Vec<Endpoint>> {
    let mut endpoints = Vec::new();
    // The network of `--network` comes first: it is eth0, and the way out.
    let first = record.network_mode().to_owned();
    let mut names: Vec<String> = record.networks.keys().cloned().collect();
    names.sort_by_key(|n| *n != first);
    for name in names {
        let net = engine.networks.get(&name)?;
        if net.driver != "bridge" {
            let settings = record.networks.entry(name).or_default();
            settings.network_id = Some(net.id.clone());
            continue;
        }
        if engine.rootless {
            continue;
        }
        let endpoint = plug(engine, record, &net, endpoints.len())?;
        endpoints.push(endpoint);
    }
    Ok(endpoints)
}

/// One end of a cable into a network.
pub(crate) fn plug(
    engine: &Engine,
    record: &mut Record,
    net: &network::Net,
    number: usize,
) -> Result<Endpoint> {
    let (net, warning) = engine.networks.up(net)?;
    if let Some(warning) = warning {
        eprintln!("warning: {warning}");
    }
    let settings = record.networks.entry(net.name.clone()).or_default();
    let asked =
        settings.ipam_config.as_ref().and_then(|c| c.ipv4_address.as_deref()).and_then(|a| a.parse().ok());
    let address = engine.networks.lease(&net, &record.id, asked)?;
    let bits = net.subnet.map_or(16, |(_, bits)| bits);
    let mac =
        settings.mac_address.as_deref().and_then(network::parse_mac).unwrap_or_else(|| network::mac(address));
    let gateway = net.gateway.filter(|_| !net.internal);
    settings.network_id = Some(net.id.clone());
    settings.endpoint_id = Some(names::id()?);
    settings.ip_address = Some(address.to_string());
    settings.ip_prefix_len = Some(bits.into());
    settings.gateway = Some(gateway.map(|g| g.to_string()).unwrap_or_default());
    settings.mac_address = Some(network::mac_text(mac));
    let [a, b, c] = names::random::<3>()?;
    let host_name = format!("teuv{a:02x}{b:02x}{c:02x}");
    record.devices.insert(net.name.clone(), host_name.clone());
    Ok(Endpoint {
        network: net.name.clone(),
        bridge: net.bridge.clone(),
        host_name,
        name: format!("eth{number}"),
        address: (address, bits),
        mac,
        gateway: gateway.filter(|_| number == 0),
    })
}

/// `-p`, and with `-P` all that the image exposes. Which port of the host it is, of a range or of all, is known when it is
/// bound.
fn ports(record: &Record) -> Result<Vec<Wanted>> {
    let mut ports = Vec::new();
    let bindings = record.host.port_bindings.iter().flatten();
    for (spec, hosts) in bindings {
        let (port, protocol) = parse_port(spec)?;
        for host in hosts.iter().flatten() {
            let text = host.host_port.as_deref().unwrap_or_default();
            let (host_port, last) =
                range(text).ok_or_else(|| Failure::bad(format!("invalid port specification: {text:?}")))?;
            let host_ip = match host.host_ip.as_deref() {
                None | Some("") => "0.0.0.0".to_owned(),
                Some(ip) => ip.to_owned(),
            };
            let first = Published { port, protocol: protocol.clone(), host_ip, host_port };
            ports.push(Wanted { first, last });
        }
    }
    if record.host.publish_all_ports.unwrap_or_default() {
        for spec in record.config.exposed_ports.iter().flatten() {
            let (port, protocol) = parse_port(spec)?;
            if !ports.iter().any(|p| p.first.port == port && p.first.protocol == protocol) {
                let first = Published { port, protocol, host_ip: "0.0.0.0".into(), host_port: 0 };
                ports.push(Wanted { first, last: 0 });
            }
        }
    }
    Ok(ports)
}

/// `8000`, `8000-8010`, or nothing: then any will do.
fn range(text: &str) -> Option<(u16, u16)> {
    if text.is_empty() {
        return Some((0, 0));
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some((first, last))
}

/// `80/tcp`
fn parse_port(spec: &str) -> Result<(u16, String)> {
    let (port, protocol) = spec.split_once('/').unwrap_or((spec, "tcp"));
    let port = port.parse().map_err(|_| Failure::bad(format!("invalid port: {spec}")))?;
    if !matches!(protocol, "tcp" | "udp") {
        return Err(Failure::bad(format!("ports of {protocol} cannot be published, only tcp and udp")));
    }
    Ok((port, protocol.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::range;

    #[test]
    fn ranges_of_the_hosts_ports() {
        for (text, expected) in
            [("", Some((0, 0))), ("80", Some((80, 80))), ("8000-8010", Some((8000, 8010)))]
        {
            assert_eq!(range(text), expected, "{text}");
        }
        for bad in ["-", "80-", "81-80", "http", "1-99999"] {
            assert_eq!(range(bad), None, "{bad}");
        }
    }
}
