//! A cable between two network namespaces, plugged into a switch.

use super::{Answer, Case, Exercise, Wrong};
use crate::{neighbour::Neighbour, run, verdict::Verdict};
use anyhow::Result;
use nix::{sched::CloneFlags, unistd::geteuid};
use std::{
    fs,
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::PathBuf,
    time::Duration,
};

const ATTACH: &str = "namespaces::net::attach";

pub(super) const EXERCISE: Exercise = Exercise {
    id: "namespaces/veth",
    title: "connect a network namespace to a bridge",
    section: "7.1",
    items: &[ATTACH],
    program: "namespaces",
    points: 20,
    task: "A veth pair is a cable with a device at each end. Make one (RTM_NEWLINK, kind \"veth\"): the outer end named `host_name`, up,\n\
           with the bridge as its IFLA_MASTER; the inner end, VETH_INFO_PEER in the IFLA_INFO_DATA of the same request, named `name`,\n\
           with the hardware address `mac`, and made right in the network namespace of the process (IFLA_NET_NS_PID).\n\
           Then, by a socket of that namespace (`socket_in`): give the inner end its address, set it up, and make the default route\n\
           over the gateway, if there is one. Names are checked first; what fails half-way takes the pair away again.",
    invariants: &[
        "inside, the device has its name, its address with the prefix, its hardware address, and is up",
        "what is not in its network goes to the gateway",
        "from the bridge, the process can be reached",
        "after a failure nothing is left outside",
    ],
    predict: "the inner end is set up before it has an address. Which routes appear, and when?",
    hints: [
        "Message::new(NEWLINK, CREATE).link(..).with_name(..).with(..).within(..): attributes may hold attributes. `bridge` below makes \
         a device of another kind in the same way.",
        "The peer is a whole link message of its own: link(0, false), its name, IFLA_ADDRESS, IFLA_NET_NS_PID.",
        "Inside: index(&inside, name), add_address, NEWLINK with link(index, true), NEWROUTE with default_route(), RTA_GATEWAY and \
         RTA_OIF. In that order: a route needs a device that is up and a gateway in its network.",
    ],
    why: (
        "Why is the inner end made in its namespace, and not moved there afterwards?",
        "Between the two it would be seen outside, under a name that may be taken (two containers both want an eth0), and whoever \
         watches for new devices would begin to configure it.",
    ),
    check,
    wrong: &[
        Wrong {
            name: "the inner end stays outside",
            answer: Answer::Change(ATTACH, ".with(libc::IFLA_NET_NS_PID, &pid.as_raw().to_ne_bytes())", ""),
            told: "no device",
        },
        Wrong {
            name: "the inner end is not set up",
            answer: Answer::Change(ATTACH, "inside.ask(Message::new(NEWLINK, 0).link(index, true))?;", ""),
            told: "is it up?",
        },
        Wrong {
            name: "not plugged into the bridge",
            answer: Answer::Change(ATTACH, ".with(libc::IFLA_MASTER, &bridge_index.to_ne_bytes())", ""),
            told: "is in no bridge",
        },
        Wrong {
            name: "the outer end is down",
            answer: Answer::Change(ATTACH, ".link(0, true)", ".link(0, false)"),
            told: "is it up?",
        },
        Wrong {
            name: "no default route",
            answer: Answer::Change(ATTACH, "inside.ask(route)", "{ let _ = route; Ok::<(), Errno>(()) }"),
            told: "no default route",
        },
        Wrong {
            name: "an address without its network",
            answer: Answer::Change(
                ATTACH,
                "add_address(&inside, index, *address)",
                "add_address(&inside, index, (address.0, 32))",
            ),
            told: "is it up?",
        },
        Wrong {
            name: "a hardware address of the kernel's own",
            answer: Answer::Change(ATTACH, ".with(libc::IFLA_ADDRESS, mac)", ""),
            told: "hardware address",
        },
        Wrong {
            name: "half a network is left",
            answer: Answer::Change(ATTACH, "drop(remove(host_name))", "()"),
            told: "is left",
        },
    ],
};

fn check(case: &Case) -> Result<Verdict> {
    if !geteuid().is_root() {
        return Ok(Verdict::NotChecked("a bridge and a cable can only be made by root".into()));
    }
    for round in 0..2 {
        if let Some(verdict) = connected(case, round)? {
            return Ok(verdict);
        }
    }
    if let Some(verdict) = named(case)? {
        return Ok(verdict);
    }
    Ok(nothing_left(case)?.unwrap_or(Verdict::Passed))
}

/// A network: its prefix, a gateway, and an address in it.
fn network(case: &Case) -> (u8, Ipv4Addr, Ipv4Addr) {
    let prefix = [16, 20, 24, 26][case.dice.number(0..4) as usize];
    let size = 1_u32 << (32 - prefix);
    let base = (u32::from(Ipv4Addr::new(10, 0, 0, 0)) + case.dice.number(0..1 << 24) as u32) & !(size - 1);
    let address = base + case.dice.number(2..u64::from(size) - 2) as u32;
    (prefix as u8, Ipv4Addr::from(base + 1), Ipv4Addr::from(address))
}

/// What the check's own network namespace says of a device. (The room's sysfs is of that namespace.)
fn outside(case: &Case, device: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{}/root/sys/class/net/{device}", case.sandbox.first()))
}

/// Numbers of /proc/net/route are an address as it lies in memory.
fn in_memory(address: Ipv4Addr) -> String {
    format!("{:08X}", u32::from_ne_bytes(address.octets()))
}

fn connected(case: &Case, round: u32) -> Result<Option<Verdict>> {
    let neighbour = Neighbour::start(case, CloneFlags::CLONE_NEWNET, None)?;
    let (prefix, gateway, address) = network(case);
    let (bridge, host) =
        (format!("br{}{round}", &case.dice.word()[..6]), format!("v{}{round}", &case.dice.word()[..6]));
    let name = format!("net{}", case.dice.number(0..90));
    let mut command = case.command();
    command.args([
        "connect",
        &neighbour.number().to_string(),
        "--bridge",
        &bridge,
        "--host-name",
        &host,
        "--name",
        &name,
    ]);
    command.args(["--address", &format!("{address}/{prefix}"), "--gateway", &gateway.to_string()]);
    let mut running = run::start(&mut command)?;
    running.finish()?;
    let look =
        |file: &str| fs::read_to_string(format!("/proc/{}/net/{file}", neighbour.pid)).unwrap_or_default();
    let (devices, routes, table) = (look("dev"), look("route"), look("fib_trie"));
    let master = fs::read_link(outside(case, &host).join("master")).ok();
    let master = master.and_then(|m| Some(m.file_name()?.to_string_lossy().into_owned()));
    // A port at which nobody listens: who is there, refuses.
    let answer = TcpStream::connect_timeout(&SocketAddr::from((address, 9)), Duration::from_secs(5));
    let refused = matches!(&answer, Err(e) if e.kind() == ErrorKind::ConnectionRefused);
    let neighbours = fs::read_to_string("/proc/thread-self/net/arp").unwrap_or_default();
    let ended = running.end()?;

    let fail = |expected: String, seen: String, hint: &str| Ok(Some(Verdict::failed(expected, seen, hint)));
    let hint = |text: &'static str| if ended.untouched() { "the function is still empty" } else { text };
    if !devices.lines().any(|l| l.trim_start().starts_with(&format!("{name}:"))) {
        return fail(
            format!("a device {name} in the process's network namespace"),
            format!("there is no device {name} ({})", ended.tell()),
            hint(if ended.stderr.contains("ENETUNREACH") {
                "the gateway cannot be reached: has the device its address, with the prefix, and is it up?"
            } else {
                "in whose namespace is the peer made? IFLA_NET_NS_PID"
            }),
        );
    }
    if master.as_ref() != Some(&bridge) {
        return fail(
            format!("{host} is a port of {bridge}"),
            format!("{host} is in no bridge: {master:?}"),
            "IFLA_MASTER is the bridge's number",
        );
    }
    let mask = in_memory(Ipv4Addr::from(u32::MAX << (32 - prefix)));
    let net = in_memory(Ipv4Addr::from(u32::from(address) & (u32::MAX << (32 - prefix))));
    let route = |to: &str, over: &str, mask: &str| {
        routes
            .lines()
            .map(|l| l.split_whitespace().collect::<Vec<_>>())
            .any(|f| f.len() > 7 && f[0] == name && f[1] == to && f[2] == over && f[7] == mask)
    };
    if !route(&net, "00000000", &mask) || !table.contains(&format!("-- {address}\n")) {
        return fail(
            format!("inside, {name} has {address}/{prefix} and leads to its network"),
            format!(
                "the routes are: {} ({})",
                routes.lines().skip(1).collect::<Vec<_>>().join("; "),
                ended.tell()
            ),
            "has it its address, with the prefix, and is it up?",
        );
    }
    if !route("00000000", &in_memory(gateway), "00000000") {
        return fail(
            format!("inside, the default route leads to {gateway}"),
            format!("there is no default route ({})", ended.tell()),
            "RTM_NEWROUTE, when the device is up",
        );
    }
    if !refused {
        return fail(
            format!("from the bridge, {address} can be reached"),
            answer.map_or_else(|e| e.to_string(), |_| "somebody else answers".to_owned()),
            "the outer end: is it up?",
        );
    }
    let [a, b, c, d] = address.octets();
    let mac = format!("02:42:{a:02x}:{b:02x}:{c:02x}:{d:02x}");
    let line = neighbours.lines().find(|l| l.starts_with(&format!("{address} "))).unwrap_or_default();
    if !line.contains(&mac) {
        return fail(
            format!("its hardware address is {mac}"),
            format!("it answers with another hardware address: {line}"),
            "IFLA_ADDRESS of the peer",
        );
    }
    if ended.code() != Some(0) {
        return fail("all of it succeeds".into(), ended.tell(), "which request failed?");
    }
    Ok(None)
}

/// A name with letters that the kernel would take, and hardly a program.
fn named(case: &Case) -> Result<Option<Verdict>> {
    let neighbour = Neighbour::start(case, CloneFlags::CLONE_NEWNET, None)?;
    let word = || case.dice.word()[..6].to_owned();
    for (what, host, name) in
        [("outer", format!("{}ü", word()), word()), ("inner", word(), format!("{}ü", word()))]
    {
        let bridge = format!("br{}", word());
        let mut command = case.command();
        command.args(["connect", &neighbour.number().to_string(), "--bridge", &bridge]);
        command.args(["--host-name", &host, "--name", &name]);
        command.args(["--address", "10.79.1.2/24", "--gateway", "10.79.1.1"]);
        let ended = run::start(&mut command)?.end()?;
        let made = outside(case, &host).exists();
        if ended.code() == Some(0) || made {
            let bad = if what == "outer" { &host } else { &name };
            return Ok(Some(Verdict::failed(
                format!("{bad} as the {what} end's name is refused, before anything is made"),
                if made { format!("{host} was made ({})", ended.tell()) } else { "it succeeded".into() },
                "both names are checked first: `check_name`",
            )));
        }
    }
    Ok(None)
}

/// A gateway that cannot be reached: the kernel refuses the route, and the cable goes.
fn nothing_left(case: &Case) -> Result<Option<Verdict>> {
    let neighbour = Neighbour::start(case, CloneFlags::CLONE_NEWNET, None)?;
    let (bridge, host) = (format!("br{}", &case.dice.word()[..6]), format!("v{}", &case.dice.word()[..6]));
    let mut command = case.command();
    command.args(["connect", &neighbour.number().to_string(), "--bridge", &bridge, "--host-name", &host]);
    command.args(["--address", "10.77.1.2/24", "--gateway", "10.78.1.1"]);
    let ended = run::start(&mut command)?.end()?;
    let left = outside(case, &host).exists();
    Ok((ended.code() == Some(0) || left).then(|| {
        Verdict::failed(
            "with a gateway that is not in the network it fails, and takes the cable away again",
            if left { format!("{host} is left ({})", ended.tell()) } else { "it succeeded".into() },
            "half a network is none: remove the outer end, and the inner one goes with it",
        )
    }))
}
