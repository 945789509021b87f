//! Those who connect to a monitor's socket: strangers first, whose first line says what they came for. Then one is a
//! client, who is attached to the container, or the daemon, who gives orders and is told how things stand.

use super::{
    clients::Client,
    wire::{self, Hello, Order, Report},
};
use nix::sys::socket::{MsgFlags, send};
use std::{
    io::ErrorKind,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::net::{UnixListener, UnixStream},
    },
};

/// Who is connected, but for the clients.
pub(crate) struct Visitors {
    listener: UnixListener,
    strangers: Vec<Stranger>,
    controls: Vec<Control>,
    /// What a daemon that connects now has to be told.
    reports: Vec<Report>,
}

/// Connected, and not yet said what for.
struct Stranger {
    socket: UnixStream,
    line: Vec<u8>,
    /// The connection of a client, which the daemon hands over with the line.
    passed: Option<OwnedFd>,
}

/// The daemon. (Two of them while one follows another.)
struct Control {
    socket: UnixStream,
    /// What has come of an order so far.
    line: Vec<u8>,
}

impl Visitors {
    /// Whoever comes here.
    pub(crate) fn new(listener: UnixListener) -> Visitors {
        Visitors { listener, strangers: Vec::new(), controls: Vec::new(), reports: Vec::new() }
    }

    /// Where they come in.
    pub(crate) fn listener(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// The strangers' connections.
    pub(crate) fn strangers(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.strangers.iter().map(|s| s.socket.as_fd())
    }

    /// The daemon's connections.
    pub(crate) fn controls(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.controls.iter().map(|c| c.socket.as_fd())
    }

    /// Whether a daemon is there.
    pub(crate) fn supervised(&self) -> bool {
        !self.controls.is_empty()
    }

    /// Lets in all who wait.
    pub(crate) fn accept(&mut self) {
        while let Ok((socket, _)) = self.listener.accept() {
            if socket.set_nonblocking(true).is_ok() {
                self.strangers.push(Stranger { socket, line: Vec::new(), passed: None });
            }
        }
    }

    /// Takes in all who have connected so far; those of them who are clients.
    pub(crate) fn meet(&mut self) -> Vec<Client> {
        self.accept();
        (0..self.strangers.len()).rev().filter_map(|index| self.hear(index)).collect()
    }

    /// Reads a stranger's first line. It goes, or is the daemon, or it is a client.
    pub(crate) fn hear(&mut self, index: usize) -> Option<Client> {
        let stranger = &mut self.strangers[index];
        let mut buffer = vec![0; 64 << 10];
        loop {
            match wire::receive(stranger.socket.as_fd(), &mut buffer) {
                Ok((length, fd)) if length > 0 => {
                    stranger.line.extend_from_slice(&buffer[..length]);
                    stranger.passed = fd.or(stranger.passed.take());
                    if stranger.line.contains(&b'\n') || stranger.line.len() > wire::LINE_MAX {
                        break;
                    }
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => return None,
                _ => {
                    self.strangers.swap_remove(index);
                    return None;
                }
            }
        }
        let Stranger { socket, line, passed } = self.strangers.swap_remove(index);
        let end = line.iter().position(|b| *b == b'\n').unwrap_or(line.len());
        match (serde_json::from_slice(&line[..end]), passed) {
            (Ok(Hello::Control), _) if self.reports.iter().all(|report| tell(&socket, report)) => {
                self.controls.push(Control { socket, line: line[(end + 1).min(line.len())..].to_vec() });
                None
            }
            (Ok(Hello::Attach(wants)), Some(connection)) => Client::new(connection, wants).ok(),
            _ => None,
        }
    }

    /// The orders that the daemon has given since, each a line.
    pub(crate) fn orders(&mut self, index: usize) -> Vec<Order> {
        let Control { socket, line } = &mut self.controls[index];
        let mut buffer = [0; 4096];
        match wire::receive(socket.as_fd(), &mut buffer) {
            Ok((length, _)) if length > 0 && line.len() < wire::LINE_MAX => {
                line.extend_from_slice(&buffer[..length])
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => {}
            _ => {
                self.controls.swap_remove(index);
                return Vec::new();
            }
        }
        let mut orders = Vec::new();
        while let Some(end) = line.iter().position(|b| *b == b'\n') {
            let order: Vec<u8> = line.drain(..=end).collect();
            // One that this monitor does not know is a newer daemon's: it is left out.
            orders.extend(serde_json::from_slice::<Order>(&order));
        }
        orders
    }

    /// Tells the daemon, now and whenever one connects later.
    pub(crate) fn report(&mut self, report: Report) {
        self.controls.retain(|control| tell(&control.socket, &report));
        if matches!(report, Report::Exited(_) | Report::Failed { .. }) {
            self.reports.clear();
        }
        self.reports.push(report);
    }
}

/// One line, without waiting: a daemon that does not read is on its own.
fn tell(socket: &UnixStream, report: &Report) -> bool {
    let Ok(mut line) = serde_json::to_vec(report) else { return false };
    line.push(b'\n');
    send(socket.as_raw_fd(), &line, MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT) == Ok(line.len())
}
