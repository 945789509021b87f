//! Those who are attached: what they are still to get, and what they type.

use super::wire::Attach;
use std::{
    collections::VecDeque,
    io::{Read, Write},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    time::{Duration, Instant},
};

/// How much a client may be behind before the container has to wait for it, as in a pipe to `less`.
const BACKLOG: usize = 1 << 20;

/// How long the container waits for one that takes nothing at all. Then it loses the client and not the client it.
const PATIENCE: Duration = Duration::from_secs(600);

/// An attached client.
pub(crate) struct Client {
    socket: UnixStream,
    wants: Attach,
    backlog: VecDeque<u8>,
    /// When it last took something.
    alive: Instant,
    /// How many of the detach keys it has typed, held back until it is clear what they are.
    keys: usize,
    /// It has closed its writing side.
    ended: bool,
}

/// What came of reading a client.
pub(crate) enum Typed {
    /// Bytes for the container.
    Bytes(Vec<u8>),
    /// There is nothing now.
    Nothing,
    /// It will type no more.
    End,
    /// It is gone, or detached itself.
    Gone,
}

impl Client {
    /// A client on this connection.
    pub(crate) fn new(connection: OwnedFd, wants: Attach) -> std::io::Result<Client> {
        let socket = UnixStream::from(connection);
        socket.set_nonblocking(true)?;
        Ok(Client { socket, wants, backlog: VecDeque::new(), alive: Instant::now(), keys: 0, ended: false })
    }

    /// Its connection.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Whether it may still type.
    pub(crate) fn types(&self) -> bool {
        self.wants.stdin && !self.ended
    }

    /// Whether it has something to get.
    pub(crate) fn behind(&self) -> bool {
        !self.backlog.is_empty()
    }

    /// Whether the container has to wait for it.
    pub(crate) fn full(&self) -> bool {
        self.backlog.len() >= BACKLOG
    }

    /// Whether it has been full for too long.
    pub(crate) fn hopeless(&self) -> bool {
        self.full() && self.alive.elapsed() > PATIENCE
    }

    /// Gives it output of a stream (1 or 2), in docker's frame (a header of eight bytes: the stream, three zeros, the
    /// length in network byte order) unless it is a terminal's.
    pub(crate) fn give(&mut self, stream: u8, bytes: &[u8]) {
        let wanted = if stream == 2 { self.wants.stderr } else { self.wants.stdout };
        if !wanted || bytes.is_empty() {
            return;
        }
        if self.backlog.is_empty() {
            self.alive = Instant::now();
        }
        if !self.wants.raw {
            let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes();
            self.backlog.extend([stream, 0, 0, 0]);
            self.backlog.extend(length);
        }
        self.backlog.extend(bytes);
    }

    /// Sends what it takes now; false if it is gone.
    pub(crate) fn flush(&mut self) -> bool {
        while !self.backlog.is_empty() {
            let (first, _) = self.backlog.as_slices();
            match self.socket.write(first) {
                Ok(sent) => {
                    self.backlog.drain(..sent);
                    self.alive = Instant::now();
                }
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return e.kind() == std::io::ErrorKind::WouldBlock,
            }
        }
        true
    }

    /// Reads what it types.
    pub(crate) fn typed(&mut self) -> Typed {
        let early = std::mem::take(&mut self.wants.early);
        if !early.is_empty() {
            return self.without_keys(&early);
        }
        let mut buffer = [0; 16 << 10];
        match self.socket.read(&mut buffer) {
            Ok(0) => {
                self.ended = true;
                Typed::End
            }
            Ok(length) if self.types() => self.without_keys(&buffer[..length]),
            Ok(_) => Typed::Nothing,
            Err(e)
                if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted) =>
            {
                Typed::Nothing
            }
            Err(_) => Typed::Gone,
        }
    }

    /// Whether it sent something along with its request.
    pub(crate) fn early(&self) -> bool {
        !self.wants.early.is_empty()
    }

    /// Looks for the keys that detach, which may come one by one.
    fn without_keys(&mut self, bytes: &[u8]) -> Typed {
        let keys = &self.wants.detach_keys;
        if keys.is_empty() {
            return Typed::Bytes(bytes.to_vec());
        }
        let mut through = Vec::with_capacity(bytes.len());
        for byte in bytes {
            if keys.get(self.keys) == Some(byte) {
                self.keys += 1;
                if self.keys == keys.len() {
                    return Typed::Gone;
                }
                continue;
            }
            through.extend_from_slice(&keys[..self.keys]);
            self.keys = 0;
            if keys.first() == Some(byte) {
                self.keys = 1;
            } else {
                through.push(*byte);
            }
        }
        if through.is_empty() { Typed::Nothing } else { Typed::Bytes(through) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(wants: Attach) -> (Client, UnixStream) {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        (Client::new(ours.into(), wants).expect("a client"), theirs)
    }

    #[test]
    fn output_is_framed_unless_raw() {
        let (mut client, mut other) = pair(Attach { stdout: true, ..Attach::default() });
        client.give(1, b"hi");
        client.give(2, b"not asked for");
        assert!(client.flush());
        let mut got = [0; 64];
        let length = other.read(&mut got).expect("reads");
        assert_eq!(&got[..length], b"\x01\0\0\0\0\0\0\x02hi");
    }

    #[test]
    fn detach_keys_are_seen_across_reads_and_others_pass() {
        let keys = vec![16, 17];
        let (mut client, _other) =
            pair(Attach { stdin: true, raw: true, detach_keys: keys, ..Attach::default() });
        assert!(matches!(client.without_keys(b"a\x10"), Typed::Bytes(b) if b == b"a"));
        assert!(matches!(client.without_keys(b"b"), Typed::Bytes(b) if b == b"\x10b"));
        assert!(matches!(client.without_keys(b"\x10"), Typed::Nothing));
        assert!(matches!(client.without_keys(b"\x11"), Typed::Gone));
    }

    #[test]
    fn a_client_that_does_not_read_is_bounded() {
        let (mut client, _other) = pair(Attach { stdout: true, raw: true, ..Attach::default() });
        for _ in 0..4096 {
            if client.full() {
                break;
            }
            client.give(1, &[b'x'; 4096]);
            assert!(client.flush());
        }
        assert!(client.full() && !client.hopeless());
    }
}
