//! Networks: a bridge on the host for each, its subnet, and who has which address.

use super::{
    container::lock,
    disk::{self, Durable},
    failure::{Failure, Result},
    names,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, HashMap},
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Mutex,
};

/// A network: `networks/ID.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Net {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) created: String,
    /// `bridge`, `host` or `null`.
    pub(crate) driver: String,
    /// The bridge's device.
    pub(crate) bridge: String,
    /// Network address and prefix length.
    pub(crate) subnet: Option<(Ipv4Addr, u8)>,
    pub(crate) gateway: Option<Ipv4Addr>,
    /// Nobody asked for this subnet: another will do as well.
    #[serde(default)]
    pub(crate) chosen: bool,
    /// No way out of it.
    pub(crate) internal: bool,
    pub(crate) labels: HashMap<String, String>,
    pub(crate) options: HashMap<String, String>,
}

/// What a client asks for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) name: String,
    pub(crate) driver: String,
    pub(crate) subnet: Option<String>,
    pub(crate) gateway: Option<String>,
    pub(crate) internal: bool,
    pub(crate) labels: HashMap<String, String>,
    pub(crate) options: HashMap<String, String>,
}

/// All networks, and the addresses in use.
pub(crate) struct Networks {
    root: PathBuf,
    all: Mutex<BTreeMap<String, Net>>,
    /// By network and address: the container that has it. What is lasting of this is in the containers' records.
    leases: Mutex<HashMap<(String, Ipv4Addr), String>>,
}

impl Networks {
    /// Reads them, and makes the three that docker always has.
    pub(crate) fn open(data_root: &Path) -> Result<Networks> {
        let root = data_root.join("networks");
        let networks = Networks { root, all: Mutex::default(), leases: Mutex::default() };
        for entry in std::fs::read_dir(&networks.root)?.flatten() {
            if entry.path().extension().is_some_and(|e| e == "json")
                && let Some(net) = disk::read_json::<Net>(&entry.path())?
            {
                lock(&networks.all).insert(net.name.clone(), net);
            }
        }
        for (name, driver) in [("bridge", "bridge"), ("host", "host"), ("none", "null")] {
            if !lock(&networks.all).contains_key(name) {
                networks.create(Wanted { name: name.into(), driver: driver.into(), ..Wanted::default() })?;
            }
        }
        Ok(networks)
    }

    /// All of them, by name.
    pub(crate) fn list(&self) -> Vec<Net> {
        lock(&self.all).values().cloned().collect()
    }

    /// The one of a name, an ID, or the beginning of an ID.
    pub(crate) fn get(&self, reference: &str) -> Result<Net> {
        let all = lock(&self.all);
        let reference = if reference == "default" { "bridge" } else { reference };
        let by_id = |n: &&Net| !reference.is_empty() && n.id.starts_with(reference);
        all.get(reference)
            .or_else(|| all.values().find(by_id))
            .cloned()
            .ok_or_else(|| Failure::missing(format!("network {reference} not found")))
    }

    /// Makes one. Its bridge comes to be when the first container is plugged in.
    pub(crate) fn create(&self, wanted: Wanted) -> Result<Net> {
        let mut all = lock(&self.all);
        let Wanted { name, driver, internal, labels, options, .. } = wanted;
        if all.contains_key(&name) {
            return Err(Failure::conflict(format!("network with name {name} already exists")));
        }
        // docker takes any name that is not blank, spaces and all.
        if name.trim().is_empty() || name.contains(['/', '\0', '\n']) {
            return Err(Failure::bad(format!("invalid network name: {name:?}")));
        }
        let driver = if driver.is_empty() || driver == "default" { "bridge".to_owned() } else { driver };
        if !matches!(driver.as_str(), "bridge" | "host" | "null") {
            return Err(Failure::missing(format!(
                "could not find plugin {driver} in v1 plugin registry: plugin not found"
            )));
        }
        let (mut subnet, mut gateway, mut bridge) = (None, None, String::new());
        if driver == "bridge" {
            let (address, bits) = match wanted.subnet.as_deref().filter(|s| !s.is_empty()) {
                Some(text) => parse_subnet(text)?,
                None => free_subnet(all.values().filter_map(|n| n.subnet))?,
            };
            subnet = Some((address, bits));
            gateway = match wanted.gateway.as_deref().filter(|s| !s.is_empty()) {
                Some(text) => {
                    Some(text.parse().map_err(|_| Failure::bad(format!("invalid gateway: {text}")))?)
                }
                None => Some(Ipv4Addr::from(u32::from(address) + 1)),
            };
            bridge = free_device(&all)?;
        }
        let chosen = wanted.subnet.is_none_or(|s| s.is_empty());
        let id = names::id()?;
        let created = super::now();
        let net =
            Net { id, name, created, driver, bridge, subnet, gateway, chosen, internal, labels, options };
        disk::write_json(&self.root.join(format!("{}.json", net.id)), &net, Durable::Power)?;
        all.insert(net.name.clone(), net.clone());
        Ok(net)
    }

    /// Removes one. Whether it is in use is the caller's to know.
    pub(crate) fn remove(&self, net: &Net) -> Result<()> {
        if matches!(net.name.as_str(), "bridge" | "host" | "none") {
            return Err(Failure::forbidden(format!(
                "{} is a pre-defined network and cannot be removed",
                net.name
            )));
        }
        self.down(net)?;
        std::fs::remove_file(self.root.join(format!("{}.json", net.id)))?;
        lock(&self.all).remove(&net.name);
        Ok(())
    }

    /// Gives a container an address: the one it asks for, or the lowest that is free.
    pub(crate) fn lease(&self, net: &Net, container: &str, asked: Option<Ipv4Addr>) -> Result<Ipv4Addr> {
        let (network, bits) =
            net.subnet.ok_or_else(|| Failure::bad(format!("network {} has no addresses", net.name)))?;
        let size = 1u32.checked_shl(32 - u32::from(bits)).unwrap_or(u32::MAX);
        let mut leases = lock(&self.leases);
        let free = |a: &Ipv4Addr, leases: &HashMap<_, _>| {
            Some(*a) != net.gateway && !leases.contains_key(&(net.id.clone(), *a))
        };
        let address = match asked {
            Some(address) => {
                let offset = u32::from(address).wrapping_sub(u32::from(network));
                if offset == 0 || offset >= size - 1 {
                    return Err(Failure::bad(format!("no configured subnet contains IP address {address}")));
                }
                Some(address)
                    .filter(|a| free(a, &leases))
                    .ok_or_else(|| Failure::forbidden("Address already in use"))?
            }
            None => (1..size.saturating_sub(1))
                .map(|n| Ipv4Addr::from(u32::from(network) + n))
                .find(|a| free(a, &leases))
                .ok_or_else(|| {
                    Failure::conflict(format!("no available IPv4 addresses on network {}", net.name))
                })?,
        };
        leases.insert((net.id.clone(), address), container.to_owned());
        Ok(address)
    }

    /// An address that a container of an earlier daemon has.
    pub(crate) fn renew(&self, network_id: &str, address: Ipv4Addr, container: &str) {
        lock(&self.leases).insert((network_id.to_owned(), address), container.to_owned());
    }

    /// Takes back all that a container has.
    pub(crate) fn release(&self, container: &str) {
        lock(&self.leases).retain(|_, holder| holder != container);
    }

    /// Takes one address back.
    pub(crate) fn give_back(&self, network_id: &str, address: Option<Ipv4Addr>) {
        lock(&self.leases).retain(|(id, held), _| id != network_id || Some(*held) != address);
    }

    /// Whether anyone is plugged in.
    pub(crate) fn in_use(&self, net: &Net) -> bool {
        lock(&self.leases).keys().any(|(id, _)| *id == net.id)
    }

    /// Makes sure of the bridge and of the way out. Returns the network as it is then, and what is lost where a helper
    /// is missing.
    pub(crate) fn up(&self, net: &Net) -> Result<(Net, Option<String>)> {
        let mut net = net.clone();
        if is_ours(&net) {
            return Ok((net, None));
        }
        // Since the network was recorded, another engine (or anybody) may have taken the name or the addresses.
        let mut all = lock(&self.all);
        if device(&net.bridge).exists() {
            net.bridge = free_device(&all)?;
        }
        if net.chosen && net.subnet.is_some_and(taken_by_a_route) {
            let others = all.values().filter(|n| n.id != net.id).filter_map(|n| n.subnet);
            let (address, bits) = free_subnet(others)?;
            (net.subnet, net.gateway) = (Some((address, bits)), Some(Ipv4Addr::from(u32::from(address) + 1)));
        }
        disk::write_json(&self.root.join(format!("{}.json", net.id)), &net, Durable::Process)?;
        all.insert(net.name.clone(), net.clone());
        drop(all);
        let (Some((network, bits)), Some(gateway)) = (net.subnet, net.gateway) else {
            return Ok((net, None));
        };
        namespaces::net::bridge(&net.bridge, (gateway, bits))?;
        // Whose it is stands on the device itself, where another engine can read it too.
        std::fs::write(device(&net.bridge).join("ifalias"), &net.id)
            .map_err(|e| Failure::internal(format!("marking the bridge {}: {e}", net.bridge)))?;
        if net.internal {
            return Ok((net, None));
        }
        // Packets of containers are forwarded by the host, and leave it with its own address.
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")
            .map_err(|e| Failure::internal(format!("turning on net.ipv4.ip_forward: {e}")))?;
        let rules = format!(
            "table ip {table}\ndelete table ip {table}\ntable ip {table} {{\n  chain out {{\n    type nat hook postrouting \
             priority srcnat; policy accept;\n    ip saddr {network}/{bits} oifname != \"{bridge}\" masquerade\n  }}\n}}\n",
            table = table(&net),
            bridge = net.bridge
        );
        let warning = nft(&rules).err();
        let warning = warning
            .map(|why| format!("containers on network {} cannot reach beyond this host: {why}", net.name));
        Ok((net, warning))
    }

    /// Takes the bridge away.
    pub(crate) fn down(&self, net: &Net) -> Result<()> {
        if !is_ours(net) {
            return Ok(());
        }
        namespaces::net::remove(&net.bridge)?;
        // Without nft there is no table either.
        let _ = nft(&format!("table ip {0}\ndelete table ip {0}\n", table(net)));
        Ok(())
    }

    /// Takes away the bridges that nobody is plugged into, so that an engine at rest leaves no trace.
    pub(crate) fn sweep(&self) {
        for net in self.list().iter().filter(|n| !self.in_use(n)) {
            if let Err(e) = self.down(net) {
                eprintln!("warning: the bridge {} stays: {}", net.bridge, e.message);
            }
        }
    }
}

/// The hardware address that belongs to an address: docker's scheme, locally administered (bit 1 of the first byte).
pub(crate) fn mac(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [0x02, 0x42, a, b, c, d]
}

/// As it is written.
pub(crate) fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|b| format!("{b:02x}")).join(":")
}

/// As it is read.
pub(crate) fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let bytes: Vec<u8> = text.split(':').map(|b| u8::from_str_radix(b, 16)).collect::<Result<_, _>>().ok()?;
    bytes.try_into().ok()
}

fn parse_subnet(text: &str) -> Result<(Ipv4Addr, u8)> {
    let bad = || Failure::bad(format!("invalid subnet {text}: want for example 172.30.0.0/16"));
    let (address, bits) = text.split_once('/').ok_or_else(bad)?;
    let address: Ipv4Addr = address.parse().map_err(|_| bad())?;
    let bits: u8 = bits.parse().ok().filter(|b| (8..=30).contains(b)).ok_or_else(bad)?;
    let mask = u32::MAX << (32 - bits);
    if u32::from(address) & !mask != 0 {
        return Err(bad());
    }
    Ok((address, bits))
}

/// The first of docker's pools (172.17–31.0.0/16, then 192.168.0–240.0/20) that neither a network of ours nor a route
/// of this host touches.
fn free_subnet(ours: impl Iterator<Item = (Ipv4Addr, u8)>) -> Result<(Ipv4Addr, u8)> {
    let ours: Vec<_> = ours.collect();
    (17..32)
        .map(|n| (Ipv4Addr::new(172, n, 0, 0), 16))
        .chain((0..16).map(|n| (Ipv4Addr::new(192, 168, n * 16, 0), 20)))
        .find(|pool| !ours.iter().any(|net| overlap(*pool, *net)) && !taken_by_a_route(*pool))
        .ok_or_else(|| Failure::conflict("all predefined address pools have been fully subnetted"))
}

fn overlap(a: (Ipv4Addr, u8), b: (Ipv4Addr, u8)) -> bool {
    let mask = u32::MAX << (32 - u32::from(a.1.min(b.1)));
    u32::from(a.0) & mask == u32::from(b.0) & mask
}

/// Whether a route of this host, other than the default, leads there. proc(5): destination and mask as hexadecimal
/// numbers, in network byte order.
fn taken_by_a_route(net: (Ipv4Addr, u8)) -> bool {
    let routes = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
    routes.lines().skip(1).any(|line| {
        let fields: Vec<_> = line.split_ascii_whitespace().collect();
        let number = |n: usize| {
            u32::from_str_radix(fields.get(n)?, 16).ok().map(|v| u32::from_be_bytes(v.to_ne_bytes()))
        };
        match (number(1), number(7)) {
            (Some(address), Some(mask)) if mask != 0 => {
                overlap(net, (address.into(), mask.count_ones() as u8))
            }
            _ => false,
        }
    })
}

fn device(name: &str) -> PathBuf {
    Path::new("/sys/class/net").join(name)
}

/// Whether the bridge is there, and is this network's.
fn is_ours(net: &Net) -> bool {
    !net.bridge.is_empty()
        && std::fs::read_to_string(device(&net.bridge).join("ifalias")).is_ok_and(|a| a.trim() == net.id)
}

/// The name of the packet filter's table for it.
fn table(net: &Net) -> String {
    format!("teu_{}", &net.id[..12])
}

/// A name for a bridge that no device and no network of ours has: several engines may share this host.
fn free_device(all: &BTreeMap<String, Net>) -> Result<String> {
    (0..4096)
        .map(|n| format!("teu{n}"))
        .find(|name| !device(name).exists() && !all.values().any(|n| n.bridge == *name))
        .ok_or_else(|| Failure::conflict("no name is left for a bridge"))
}

fn nft(rules: &str) -> Result<(), String> {
    use std::io::Write;
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| format!("nft (package nftables) cannot be run: {e}"))?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(rules.as_bytes()).map_err(|e| e.to_string())?;
    }
    let output = child.wait_with_output().map_err(|e| e.to_string())?;
    if output.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subnet_is_a_network_address() {
        assert_eq!(parse_subnet("10.1.0.0/16").ok(), Some((Ipv4Addr::new(10, 1, 0, 0), 16)));
        for bad in ["10.1.0.1/16", "10.1.0.0", "10.1.0.0/33", "x/8", "10.0.0.0/31"] {
            assert!(parse_subnet(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses_are_given_once_and_come_back() {
        let dir = tempfile::tempdir().expect("a directory");
        disk::make_dir(&dir.path().join("networks"), 0o755).expect("a directory");
        let networks = Networks::open(dir.path()).expect("opens");
        let wanted = Wanted { name: "n1".into(), subnet: Some("10.9.8.0/30".into()), ..Wanted::default() };
        let net = networks.create(wanted).expect("made");
        assert_eq!(networks.lease(&net, "a", None).ok(), Some(Ipv4Addr::new(10, 9, 8, 2)));
        assert!(networks.lease(&net, "b", None).is_err(), "a /30 has room for one beside the gateway");
        networks.release("a");
        assert!(networks.lease(&net, "b", Some(Ipv4Addr::new(10, 9, 9, 2))).is_err(), "outside");
        assert!(networks.lease(&net, "b", Some(Ipv4Addr::new(10, 9, 8, 2))).is_ok());
    }
}
