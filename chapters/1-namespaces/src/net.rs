//! Network devices, by rtnetlink(7): loopback, veth pairs, a bridge.
//!
//! A new network namespace has nothing but a loopback device that is down. A veth pair is a cable:
//! what goes in at one end comes out at the other. One end is plugged into a bridge on the host, a
//! switch in software; the other is made right in the container's namespace, as its `eth0`.

use crate::{
    Result,
    error::{Doing, invalid},
    netlink::{CREATE, DELLINK, GETLINK, Message, NEWADDR, NEWLINK, NEWROUTE, Socket},
    process::step,
};
use nix::{
    errno::Errno,
    sched::{CloneFlags, setns},
    unistd::Pid,
};
use std::{fs::File, net::Ipv4Addr, thread};

/// `VETH_INFO_PEER` (linux/veth.h).
const VETH_INFO_PEER: u16 = 1;

/// Brings `lo` up in the caller's network namespace. It always is device number 1.
pub fn loopback_up() -> Result<()> {
    let doing = || "bring the loopback device up".to_owned();
    let socket = Socket::open().doing(doing)?;
    socket.ask(Message::new(NEWLINK, 0).link(1, true)).doing(doing)
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
    let Endpoint { bridge, host_name, name, address, mac, gateway } = endpoint;
    check_name(host_name)?;
    check_name(name)?;
    let host = Socket::open().doing(|| "open a netlink socket".into())?;
    let bridge_index = index(&host, bridge).doing(|| format!("find the bridge {bridge}"))?;
    let peer = |m: Message| {
        m.link(0, false)
            .with_name(libc::IFLA_IFNAME, name)
            .with(libc::IFLA_ADDRESS, mac)
            .with(libc::IFLA_NET_NS_PID, &pid.as_raw().to_ne_bytes())
    };
    let pair = Message::new(NEWLINK, CREATE)
        .link(0, true)
        .with_name(libc::IFLA_IFNAME, host_name)
        .with(libc::IFLA_MASTER, &bridge_index.to_ne_bytes())
        .within(libc::IFLA_LINKINFO, |m| {
            m.with(libc::IFLA_INFO_KIND, b"veth")
                .within(libc::IFLA_INFO_DATA, |m| m.within(VETH_INFO_PEER, peer))
        });
    host.ask(pair).doing(|| format!("make the veth pair {host_name} - {name} on {bridge}"))?;
    step("netlink(7)", || format!("veth {host_name} on {bridge}, {name} in the netns of {pid}"));

    let inside = socket_in(pid)?;
    let configure = || {
        let index = index(&inside, name)?;
        add_address(&inside, index, *address)?;
        inside.ask(Message::new(NEWLINK, 0).link(index, true))?;
        let Some(gateway) = gateway else { return Ok(()) };
        let route = Message::new(NEWROUTE, CREATE)
            .default_route()
            .with(libc::RTA_GATEWAY, &gateway.octets())
            .with(libc::RTA_OIF, &index.to_ne_bytes());
        inside.ask(route)
    };
    // Half a network is none: a failure takes the pair away again.
    configure()
        .inspect_err(|_| drop(remove(host_name)))
        .doing(|| format!("set {name} to {}/{} in the netns of {pid}", address.0, address.1))?;
    step("netlink(7)", || format!("{name} has {}/{}, up, routed", address.0, address.1));
    Ok(())
}

/// Makes sure that the bridge is there, up, and has this address.
pub fn bridge(name: &str, address: (Ipv4Addr, u8)) -> Result<()> {
    check_name(name)?;
    let doing = || format!("make the bridge {name}");
    let socket = Socket::open().doing(doing)?;
    let new = Message::new(NEWLINK, CREATE)
        .link(0, true)
        .with_name(libc::IFLA_IFNAME, name)
        .within(libc::IFLA_LINKINFO, |m| m.with(libc::IFLA_INFO_KIND, b"bridge"));
    there_is_fine(socket.ask(new), Errno::EEXIST).doing(doing)?;
    let index = index(&socket, name).doing(doing)?;
    there_is_fine(add_address(&socket, index, address), Errno::EEXIST)
        .doing(|| format!("give {name} the address {}", address.0))?;
    socket.ask(Message::new(NEWLINK, 0).link(index, true)).doing(doing)?;
    step("netlink(7)", || format!("bridge {name} has {}/{}", address.0, address.1));
    Ok(())
}

/// Removes a device (a veth's other end goes with it). One that is gone already is fine.
pub fn remove(name: &str) -> Result<()> {
    check_name(name)?;
    let doing = || format!("remove the network device {name}");
    let socket = Socket::open().doing(doing)?;
    let gone = socket.ask(Message::new(DELLINK, 0).link(0, false).with_name(libc::IFLA_IFNAME, name));
    there_is_fine(gone, Errno::ENODEV).doing(doing)
}

/// A socket of another network namespace. Which one a socket belongs to is settled when it
/// is made, so a thread joins the namespace, makes it, and ends.
pub(crate) fn socket_in(pid: Pid) -> Result<Socket> {
    let doing = || format!("join the network namespace of {pid}");
    let namespace = File::open(format!("/proc/{pid}/ns/net")).doing(doing)?;
    let made = thread::spawn(move || {
        setns(namespace, CloneFlags::CLONE_NEWNET)?;
        Socket::open()
    });
    made.join().unwrap_or(Err(Errno::EINVAL)).doing(doing)
}

/// A device's number by its name: the answer's `ifinfomsg` has it, behind the header.
pub(crate) fn index(socket: &Socket, name: &str) -> nix::Result<u32> {
    let query = Message::query(GETLINK).link(0, false).with_name(libc::IFLA_IFNAME, name);
    let answer = socket.answer(query)?;
    let index = answer.get(20..24).ok_or(Errno::EBADMSG)?;
    Ok(u32::from_ne_bytes([index[0], index[1], index[2], index[3]]))
}

fn add_address(socket: &Socket, index: u32, (address, prefix): (Ipv4Addr, u8)) -> nix::Result<()> {
    let hosts = u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
    let broadcast = Ipv4Addr::from(u32::from(address) | hosts);
    let message = Message::new(NEWADDR, CREATE)
        .address(index, prefix)
        .with(libc::IFA_LOCAL, &address.octets())
        .with(libc::IFA_ADDRESS, &address.octets())
        .with(libc::IFA_BROADCAST, &broadcast.octets());
    socket.ask(message)
}

fn there_is_fine(result: nix::Result<()>, errno: Errno) -> nix::Result<()> {
    if result == Err(errno) { Ok(()) } else { result }
}

/// IFNAMSIZ is 16 with the NUL; the kernel takes no slash, no blank, and not `.` or `..`.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let plain = |b: u8| b.is_ascii_graphic() && b != b'/' && b != b':';
    match name {
        "" | "." | ".." => invalid(format!("{name:?} is no name for a network device")),
        _ if name.len() > 15 => invalid(format!("{name}: a network device's name has at most 15 bytes")),
        _ if !name.bytes().all(plain) => invalid(format!("{name:?} is no name for a network device")),
        _ => Ok(()),
    }
}
