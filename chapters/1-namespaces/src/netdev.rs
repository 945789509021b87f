//! `linux.netDevices`: a network device of the host, given to the container, under a name of the
//! container's own if it asks for one. A device that changes its namespace loses its
//! addresses; the lasting ones go along (config-linux.md, "Network Devices").

use crate::{
    Result,
    error::Doing,
    net::{check_name, index, socket_in},
    netlink::{CREATE, GETADDR, Message, NEWADDR, NEWLINK, Socket},
    process::step,
};
use nix::{errno::Errno, unistd::Pid};
use oci_spec::runtime::LinuxNetDevice;
use std::collections::HashMap;

/// Moves the devices, each by its name on the host.
pub(crate) fn give(pid: Pid, devices: &HashMap<String, LinuxNetDevice>) -> Result<()> {
    for (name, device) in devices {
        let inner = device.name().as_deref().unwrap_or(name);
        check_name(name)?;
        check_name(inner)?;
        let inner = &move_one(pid, name, inner)
            .doing(|| format!("give the network device {name} to the container as {inner}"))?;
        step("netlink(7)", || format!("{name} is the container's {inner}"));
    }
    Ok(())
}

/// Returns its name there.
fn move_one(pid: Pid, name: &str, inner: &str) -> nix::Result<String> {
    let host = Socket::open()?;
    let inside = socket_in(pid).map_err(|e| e.errno().unwrap_or(Errno::ESRCH))?;
    let inner = &free_name(&inside, inner)?;
    let outside = index(&host, name)?;
    let query = Message::all(GETADDR).address(0, 0);
    let addresses: Vec<_> =
        host.dump(query)?.into_iter().filter(|a| lasting(a) && index_of(a) == Some(outside)).collect();
    let there = Message::new(NEWLINK, 0)
        .link(outside, false)
        .with(libc::IFLA_NET_NS_PID, &pid.as_raw().to_ne_bytes())
        .with_name(libc::IFLA_IFNAME, inner);
    host.ask(there)?;
    let index = index(&inside, inner)?;
    for mut address in addresses {
        address[4..8].copy_from_slice(&index.to_ne_bytes());
        inside.ask(Message::new(NEWADDR, CREATE).again(&address))?;
    }
    inside.ask(Message::new(NEWLINK, 0).link(index, true))?;
    Ok(inner.clone())
}

/// `lan%d` is the first of lan0, lan1 ... that is free. (The kernel would find it too, and not tell which.)
fn free_name(inside: &Socket, wanted: &str) -> nix::Result<String> {
    let Some((before, after)) = wanted.split_once("%d") else { return Ok(wanted.to_owned()) };
    for number in 0..u16::MAX {
        let name = format!("{before}{number}{after}");
        if index(inside, &name) == Err(Errno::ENODEV) {
            return Ok(name);
        }
    }
    Err(Errno::EEXIST)
}

/// The `ifaddrmsg`: family, prefix, flags, scope, then the device's number. Addresses for this link
/// only, and those with a lifetime, are made anew by whoever made them.
fn lasting(address: &[u8]) -> bool {
    matches!(address, [_, _, flags, libc::RT_SCOPE_UNIVERSE, _, _, _, _, ..]
        if u32::from(*flags) & libc::IFA_F_PERMANENT != 0)
}

fn index_of(address: &[u8]) -> Option<u32> {
    let index = address.get(4..8)?;
    Some(u32::from_ne_bytes([index[0], index[1], index[2], index[3]]))
}
