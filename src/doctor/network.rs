//! Devices for containers' networks: a bridge, a pair of cards, a table of rules, each made where it harms nobody.

use super::{
    Check,
    probe::{Found, beside, check, enter, in_child, open, program_path},
};
use nix::sched::CloneFlags;
use std::net::Ipv4Addr;

/// Each of them, made in a network namespace of its own.
pub(super) fn checks() -> Vec<Check> {
    const GROUP: &str = "network";
    let net = || enter(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS);
    let address = (Ipv4Addr::new(10, 0, 0, 1), 24);
    let bridge = in_child(|| {
        net()?;
        ::namespaces::net::bridge("probe0", address).map(|()| String::new()).map_err(|why| why.to_string())
    });
    let veth = in_child(|| {
        net()?;
        ::namespaces::net::bridge("probe0", address).map_err(|why| why.to_string())?;
        veth()
    });
    let tables = in_child(|| {
        let nft = program_path("nft").ok_or("needs the program nft to tell")?;
        net()?;
        let done = std::process::Command::new(nft).args(["add", "table", "ip", "probe"]).output();
        let done = done.map_err(|why| format!("nft: {why}"))?;
        let said = String::from_utf8_lossy(&done.stderr).lines().next().unwrap_or_default().to_owned();
        if done.status.success() { Ok(String::new()) } else { Err(said) }
    });
    vec![
        check(
            GROUP,
            "bridge",
            "--network bridge (7.1)",
            bridge,
            "modprobe bridge; without: --network none or host",
        ),
        check(
            GROUP,
            "veth",
            "--network bridge (7.1)",
            veth,
            "modprobe veth; without: --network none or host",
        ),
        check(
            GROUP,
            "nf_tables",
            "--publish, the way out of a bridge (7.1)",
            tables,
            "modprobe nf_tables; install nftables",
        ),
        check(
            GROUP,
            "/dev/net/tun",
            "pasta: the network of ordinary users",
            open("/dev/net/tun"),
            "modprobe tun",
        ),
    ]
}

/// A pair between this namespace and a child's.
fn veth() -> Found {
    let endpoint = ::namespaces::net::Endpoint {
        bridge: "probe0".into(),
        host_name: "probe1".into(),
        name: "eth0".into(),
        address: (Ipv4Addr::new(10, 0, 0, 2), 24),
        mac: [2, 0, 0, 0, 0, 1],
        gateway: None,
    };
    beside(CloneFlags::CLONE_NEWNET, |child| {
        ::namespaces::net::attach(child, &endpoint).map(|()| String::new()).map_err(|why| why.to_string())
    })
}
