//! Network devices, and what an ordinary user may become.

#![allow(clippy::unwrap_used)]

mod bundle;

use bundle::{Bundle, finish, program};
use kit::{Case, Need, Traces};
use namespaces::net::{self, Endpoint};
use nix::unistd::Pid;
use std::{net::Ipv4Addr, process::Stdio};

const ROOT: &[Need] = &[Need::Root];

fn main() {
    // Before any test, and alone: a user namespace is for a process with one thread.
    if std::env::args().nth(1).as_deref() == Some("become-root") {
        return become_root();
    }
    kit::run(vec![
        Case::new("a_veth_pair_on_a_bridge", ROOT, a_veth_pair_on_a_bridge),
        Case::new("a_half_made_pair_is_removed", ROOT, a_half_made_pair_is_removed),
        Case::new(
            "a_device_of_the_hosts_is_given_away",
            &[Need::Root, Need::Program("ip")],
            a_device_of_the_hosts_is_given_away,
        ),
        Case::new("names_are_checked", &[], names_are_checked),
        Case::new("a_user_becomes_root", &[Need::UserNamespaces], a_user_becomes_root),
    ]);
}

fn endpoint(address: [u8; 4]) -> Endpoint {
    Endpoint {
        bridge: "nstest0".into(),
        host_name: "nstest1".into(),
        name: "eth0".into(),
        address: (Ipv4Addr::from(address), 24),
        mac: [2, 0x42, address[0], address[1], address[2], address[3]],
        gateway: Some(Ipv4Addr::new(10, 213, 7, 1)),
    }
}

/// Takes the bridge away, also when the test fails.
struct Bridge(&'static str);

impl Drop for Bridge {
    fn drop(&mut self) {
        let _ = net::remove(self.0);
    }
}

fn a_veth_pair_on_a_bridge() {
    let before = Traces::now();
    let bridge = Bridge("nstest0");
    let own = (Ipv4Addr::new(10, 213, 7, 1), 24);
    net::bridge("nstest0", own).unwrap();
    net::bridge("nstest0", own).unwrap(); // it is there already: fine
    let mut bundle = Bundle::new();
    let running = bundle.start("");
    net::attach(Pid::from_raw(running.pid), &endpoint([10, 213, 7, 2])).unwrap();
    let enter = |script: &str| {
        let pid = running.pid.to_string();
        finish(program().args(["enter", &pid, "sh", "-c", script]).stdin(Stdio::null())).stdout
    };
    assert_eq!(enter("cat /sys/class/net/eth0/address"), "02:42:0a:d5:07:02\n");
    assert_eq!(enter("cat /sys/class/net/eth0/operstate"), "up\n");
    // Destination, gateway, flags, mask, in hexadecimal and the machine's byte order (proc(5)).
    let routes = enter("cut -f1-4,8 /proc/net/route");
    assert!(routes.contains("eth0\t00000000\t0107D50A\t0003\t00000000"), "{routes}");
    assert!(routes.contains("eth0\t0007D50A\t00000000\t0001\t00FFFFFF"), "{routes}");
    assert!(std::path::Path::new("/sys/class/net/nstest0/brif/nstest1").exists());
    // It carries packets: a connection to the bridge's address is refused, not lost.
    let output = enter("exec 2>&1; bash -c 'echo >/dev/tcp/10.213.7.1/9'");
    assert!(output.contains("refused"), "{output}");
    drop(running); // the pair goes with the namespace
    drop(bridge);
    for _ in 0..50 {
        if Traces::now().beyond(&before).is_empty() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    panic!("{:?}", Traces::now().beyond(&before));
}

fn a_device_of_the_hosts_is_given_away() {
    let _bridge = Bridge("nstest4");
    net::bridge("nstest4", (Ipv4Addr::new(10, 213, 9, 1), 24)).unwrap();
    let mut bundle = Bundle::new();
    bundle.set("/linux/netDevices", serde_json::json!({"nstest4": {"name": "lan0"}}));
    let output = bundle.sh("true");
    // A bridge is one of the few devices that may not move; the message says which.
    assert!(output.code == 125 && output.stderr.contains("give the network device nstest4"), "{output:?}");
    drop(_bridge);
    let ip = |line: &str| {
        let done = finish(std::process::Command::new("ip").args(line.split(' ')));
        assert_eq!(done.code, 0, "{done:?}");
    };
    // A namespace is taken down when the kernel has time for it, so each pair has names of its own.
    let pair = |given: &str, other: &'static str| {
        ip(&format!("link add {given} type veth peer {other}"));
        ip(&format!("addr add 10.213.9.7/24 dev {given}"));
        Bridge(other)
    };
    for (given, other, name) in [("nstest5", "nstest6", "lan0"), ("nstest7", "nstest8", "lan%d")] {
        let _pair = pair(given, other);
        bundle.set("/linux/netDevices", serde_json::json!({given: {"name": name}}));
        let seen = bundle.says(
            "ls /sys/class/net; cut -f1,2,8 /proc/net/route | grep lan0; cat /sys/class/net/lan0/flags",
        );
        assert!(seen.starts_with("lan0\nlo\n") || seen.contains("\nlan0\n"), "{seen}");
        assert!(seen.contains("lan0\t0009D50A\t00FFFFFF") && !seen.ends_with("0x82"), "{seen}");
    }
    let _pair = pair("nstest9", "nstest10");
    bundle.set("/linux/netDevices", serde_json::json!({"nstest9": {"name": "lo"}}));
    let output = bundle.sh("true");
    assert!(output.code == 125 && output.stderr.contains("to the container as lo: EEXIST"), "{output:?}");
}

fn a_half_made_pair_is_removed() {
    let _bridge = Bridge("nstest2");
    net::bridge("nstest2", (Ipv4Addr::new(10, 213, 8, 1), 24)).unwrap();
    let mut bundle = Bundle::new();
    let running = bundle.start("");
    let lost = Endpoint {
        bridge: "nstest2".into(),
        host_name: "nstest3".into(),
        gateway: Some(Ipv4Addr::new(192, 0, 2, 1)), // not on its network: no route can be made
        ..endpoint([10, 213, 8, 2])
    };
    let attached = net::attach(Pid::from_raw(running.pid), &lost);
    let there = std::path::Path::new("/sys/class/net/nstest3").exists();
    net::remove("nstest2").unwrap();
    net::remove("nstest2").unwrap(); // it is gone already: fine
    assert!(attached.unwrap_err().to_string().contains("ENETUNREACH"));
    assert!(!there);
}

fn names_are_checked() {
    for name in ["", ".", "..", "a/b", "much-too-long-a-name", "with blank"] {
        let error = net::remove(name).unwrap_err().to_string();
        assert!(error.contains("network device"), "{error}");
    }
}

fn a_user_becomes_root() {
    let own = std::env::current_exe().unwrap();
    let output = finish(std::process::Command::new(own).arg("become-root"));
    assert_eq!((output.code, output.stdout.trim()), (0, "root, mounted"), "{output:?}");
}

fn become_root() {
    let mapped = namespaces::userns::become_root().unwrap();
    assert!(mapped >= 1 && nix::unistd::geteuid().is_root() && nix::unistd::getegid().as_raw() == 0);
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap();
    let total: u32 = map.lines().map(|l| l.split_whitespace().nth(2).unwrap().parse::<u32>().unwrap()).sum();
    assert_eq!(total, mapped);
    let none = None::<&str>;
    nix::mount::mount(Some("t"), "/tmp", Some("tmpfs"), nix::mount::MsFlags::empty(), none).unwrap();
    println!("root, mounted");
}
