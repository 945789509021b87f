//! Published ports: a small process that takes connections on the host and carries them to the container. It works on
//! loopback, without a packet filter and without privileges. It is its container's: it ends when the monitor does.

use super::wire;
use crate::engine::{
    container::Published,
    failure::{Failure, Result},
    plan::{Plan, Wanted},
};
use nix::{
    sched::{CloneFlags, setns},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    ops::RangeInclusive,
    os::{
        fd::{AsFd, OwnedFd},
        unix::{net::UnixStream, process::CommandExt},
    },
    process::{Child, Command, Stdio},
    sync::Arc,
};

/// The proxy's process, as its monitor holds it. Dropped, it ends.
pub(crate) struct Proxy {
    process: Child,
    wire: UnixStream,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // It reads the other end, and ends with it.
        let _ = self.wire.shutdown(std::net::Shutdown::Both);
        let _ = self.process.wait();
    }
}

/// What it is told: one line for each socket, which comes with it, then one `Go`.
#[derive(Serialize, Deserialize)]
struct Route {
    tcp: bool,
    to: SocketAddr,
}

/// Takes the host's ports, and starts the proxy. Returns the ports with the numbers that they got.
pub(crate) fn publish(plan: &Plan, pid: Pid) -> Result<(Option<Proxy>, Vec<Published>)> {
    let host_network = plan.join.contains_key("network");
    if plan.ports.is_empty() || host_network {
        return Ok((None, Vec::new()));
    }
    // Plugged into a bridge, it is reached there. Without one (an ordinary user's), the proxy goes where it is.
    let bridged = plan.endpoints.first().map(|e| IpAddr::V4(e.address.0));
    let address = bridged.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let mut ports = Vec::new();
    let mut sockets: Vec<(OwnedFd, Route)> = Vec::new();
    for Wanted { first: port, last } in &plan.ports {
        let ip: IpAddr = port
            .host_ip
            .parse()
            .map_err(|_| Failure::bad(format!("invalid host address: {}", port.host_ip)))?;
        let to = SocketAddr::new(address, port.port);
        let (socket, bound) = bind_first(port.protocol == "tcp", ip, port.host_port..=*last)?;
        sockets.push((socket, Route { tcp: port.protocol == "tcp", to }));
        ports.push(Published { host_port: bound, ..port.clone() });
    }
    let (wire, theirs) = UnixStream::pair()?;
    let process = Command::new("/proc/self/exe")
        .arg0("teu")
        .args([super::ROLE, "proxy"])
        .arg(if bridged.is_some() { "0".to_owned() } else { pid.to_string() })
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .spawn()?;
    let proxy = Proxy { process, wire };
    for (socket, route) in &sockets {
        let attach = wire::Attach { early: serde_json::to_vec(route)?, ..wire::Attach::default() };
        wire::send(proxy.wire.as_fd(), &wire::Hello::Attach(attach), Some(socket.as_fd()))?;
    }
    Ok((Some(proxy), ports))
}

/// Takes the first of these ports that is free.
fn bind_first(tcp: bool, ip: IpAddr, ports: RangeInclusive<u16>) -> Result<(OwnedFd, u16)> {
    let last = *ports.end();
    for port in ports {
        match bind(tcp, SocketAddr::new(ip, port)) {
            Err(_) if port != last => {}
            bound => return bound,
        }
    }
    Err(Failure::bad("the range of the host's ports is empty"))
}

fn bind(tcp: bool, at: SocketAddr) -> Result<(OwnedFd, u16)> {
    let taken = |e: std::io::Error| {
        Failure::internal(format!(
            "driver failed programming external connectivity on endpoint: failed to bind host port for {at}: {}",
            if e.kind() == std::io::ErrorKind::AddrInUse {
                "port is already allocated".into()
            } else {
                e.to_string()
            }
        ))
    };
    if tcp {
        let socket = TcpListener::bind(at).map_err(taken)?;
        let port = socket.local_addr()?.port();
        Ok((socket.into(), port))
    } else {
        let socket = UdpSocket::bind(at).map_err(taken)?;
        let port = socket.local_addr()?.port();
        Ok((socket.into(), port))
    }
}

/// The role `proxy`: the sockets come over standard input, and when that ends, so do we.
pub(crate) fn main() -> Result<()> {
    let pid = std::env::args().nth(3).and_then(|a| a.parse::<i32>().ok()).unwrap_or_default();
    let wire = std::io::stdin().as_fd().try_clone_to_owned()?;
    if pid > 0 {
        // Its own network: connections are made from inside. The sockets that come are of the host's, and stay so.
        let network = std::fs::File::open(format!("/proc/{pid}/ns/net"))?;
        setns(network, CloneFlags::CLONE_NEWNET)
            .map_err(|e| Failure::from(e).doing("joining the container's network"))?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async move {
        let wire = UnixStream::from(wire);
        wire.set_nonblocking(true)?;
        let wire = tokio::net::UnixStream::from_std(wire)?;
        let mut line = Vec::new();
        let mut sockets = std::collections::VecDeque::new();
        let mut buffer = vec![0; 4096];
        loop {
            wire.readable().await?;
            match wire.try_io(tokio::io::Interest::READABLE, || wire::receive(wire.as_fd(), &mut buffer)) {
                Ok((0, _)) => return Ok(()),
                Ok((length, socket)) => {
                    line.extend_from_slice(&buffer[..length]);
                    sockets.extend(socket);
                }
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => continue,
                Err(e) => return Err(e.into()),
            }
            while let Some(end) = line.iter().position(|b| *b == b'\n') {
                let text: Vec<u8> = line.drain(..=end).collect();
                let hello: wire::Hello = serde_json::from_slice(&text)?;
                if let (wire::Hello::Attach(attach), Some(socket)) = (hello, sockets.pop_front()) {
                    let route: Route = serde_json::from_slice(&attach.early)?;
                    carry(socket, route)?;
                }
            }
        }
    })
}

fn carry(socket: OwnedFd, route: Route) -> Result<()> {
    if route.tcp {
        let listener = TcpListener::from(socket);
        listener.set_nonblocking(true)?;
        tokio::spawn(carry_tcp(tokio::net::TcpListener::from_std(listener)?, route.to));
    } else {
        let socket = UdpSocket::from(socket);
        socket.set_nonblocking(true)?;
        tokio::spawn(carry_udp(tokio::net::UdpSocket::from_std(socket)?, route.to));
    }
    Ok(())
}

async fn carry_tcp(listener: tokio::net::TcpListener, to: SocketAddr) {
    loop {
        let Ok((mut outer, _)) = listener.accept().await else {
            // Out of descriptors, for example: give those that are open time to end.
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            continue;
        };
        tokio::spawn(async move {
            if let Ok(mut inner) = tokio::net::TcpStream::connect(to).await {
                let _ = tokio::io::copy_bidirectional(&mut outer, &mut inner).await;
            }
        });
    }
}

/// How many who ask, and for how long their answers find them.
const CONVERSATIONS: usize = 1024;
const SILENCE: std::time::Duration = std::time::Duration::from_secs(90);

async fn carry_udp(outer: tokio::net::UdpSocket, to: SocketAddr) {
    let outer = Arc::new(outer);
    let mut known: HashMap<SocketAddr, Arc<tokio::net::UdpSocket>> = HashMap::new();
    let mut buffer = vec![0; 65536];
    loop {
        let Ok((length, from)) = outer.recv_from(&mut buffer).await else { continue };
        if !known.contains_key(&from) {
            known.retain(|_, inner| Arc::strong_count(inner) > 1);
            if known.len() >= CONVERSATIONS {
                continue;
            }
            let Ok(inner) = tokio::net::UdpSocket::bind("0.0.0.0:0").await else { continue };
            if inner.connect(to).await.is_err() {
                continue;
            }
            let inner = Arc::new(inner);
            known.insert(from, inner.clone());
            let outer = outer.clone();
            tokio::spawn(async move {
                let mut buffer = vec![0; 65536];
                while let Ok(Ok(length)) = tokio::time::timeout(SILENCE, inner.recv(&mut buffer)).await {
                    let _ = outer.send_to(&buffer[..length], from).await;
                }
            });
        }
        if let Some(inner) = known.get(&from) {
            let _ = inner.send(&buffer[..length]).await;
        }
    }
}
