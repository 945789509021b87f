//! Network devices, by rtnetlink(7): loopback, veth pairs, a bridge.

use crate::Result;
use nix::unistd::Pid;
use std::net::Ipv4Addr;

/// Brings `lo` up in the caller's network namespace.
pub fn loopback_up() -> Result<()> {
    todo!()
}

/// One end of a veth pair inside a container, and where its other end is plugged in.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// The bridge on the host that the outer end joins.
    pub bridge: String,
    /// The outer end's name (at most 15 bytes).
    pub host_name: String,
    /// The inner end's name, for example `eth0`.
    pub name: String,
    /// Its address and prefix length.
    pub address: (Ipv4Addr, u8),
    /// Its hardware address.
    pub mac: [u8; 6],
    /// The default route, if any.
    pub gateway: Option<Ipv4Addr>,
}

/// Makes the veth pair, plugs one end into the bridge and gives the other to the process's
/// network namespace, named, addressed, up and routed.
pub fn attach(pid: Pid, endpoint: &Endpoint) -> Result<()> {
    let _ = (pid, endpoint);
    todo!()
}

/// Makes sure that the bridge is there, up, and has this address.
pub fn bridge(name: &str, address: (Ipv4Addr, u8)) -> Result<()> {
    let _ = (name, address);
    todo!()
}

/// Removes a device (a veth's other end goes with it). One that is gone already is fine.
pub fn remove(name: &str) -> Result<()> {
    let _ = name;
    todo!()
}
