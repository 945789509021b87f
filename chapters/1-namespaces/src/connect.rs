//! `connect`: a cable from a process's network namespace to a bridge.

use anyhow::Result;
use clap::Args;
use namespaces::net::{self, Endpoint};
use nix::unistd::Pid;
use std::net::Ipv4Addr;

/// What is plugged in where.
#[derive(Args)]
pub(crate) struct Connect {
    /// The process, for example a container's first
    pid: i32,
    /// The bridge: made if it is not there, and given the gateway's address
    #[arg(long, default_value = "teu0")]
    bridge: String,
    /// The inner device's address and the length of its network's prefix (10.1.2.3/24)
    #[arg(long, value_parser = address)]
    address: (Ipv4Addr, u8),
    /// The bridge's address in that network: the way out
    #[arg(long)]
    gateway: Ipv4Addr,
    /// The inner device's name
    #[arg(long, default_value = "eth0")]
    name: String,
    /// The outer device's name; veth and the process's number if none is given
    #[arg(long)]
    host_name: Option<String>,
}

/// Makes the bridge and the cable.
pub(crate) fn connect(options: &Connect) -> Result<i32> {
    let (address, prefix) = options.address;
    net::bridge(&options.bridge, (options.gateway, prefix))?;
    let [a, b, c, d] = address.octets();
    let endpoint = Endpoint {
        bridge: options.bridge.clone(),
        host_name: options.host_name.clone().unwrap_or_else(|| format!("veth{}", options.pid)),
        name: options.name.clone(),
        address: options.address,
        mac: [0x02, 0x42, a, b, c, d], // docker's way: never twice in a network, and locally administered
        gateway: Some(options.gateway),
    };
    net::attach(Pid::from_raw(options.pid), &endpoint)?;
    Ok(0)
}

fn address(text: &str) -> Result<(Ipv4Addr, u8), String> {
    let bad = || format!("'{text}' is no address with its prefix, as 10.1.2.3/24 is");
    let (address, prefix) = text.split_once('/').ok_or_else(bad)?;
    let prefix = prefix.parse().ok().filter(|p| *p <= 32).ok_or_else(bad)?;
    Ok((address.parse().map_err(|_| bad())?, prefix))
}
