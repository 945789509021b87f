//! rtnetlink(7): the socket over which network devices are made and set. A request is a header, a
//! fixed structure, and attributes, each with length, kind and value; the kernel answers each with
//! an errno, zero for "done". Everything is in the machine's byte order and aligned to four.

use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, connect, recv, send, socket,
    },
};
use std::os::fd::{AsRawFd, OwnedFd};

/// Requests (linux/rtnetlink.h).
pub(crate) const NEWLINK: u16 = libc::RTM_NEWLINK;
pub(crate) const DELLINK: u16 = libc::RTM_DELLINK;
pub(crate) const GETLINK: u16 = libc::RTM_GETLINK;
pub(crate) const GETADDR: u16 = libc::RTM_GETADDR;
pub(crate) const NEWADDR: u16 = libc::RTM_NEWADDR;
pub(crate) const NEWROUTE: u16 = libc::RTM_NEWROUTE;

/// Make it, and fail if it is there.
pub(crate) const CREATE: u16 = (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;

/// A socket, in the network namespace of the thread that makes it, for good.
pub(crate) struct Socket(OwnedFd);

impl Socket {
    pub(crate) fn open() -> nix::Result<Socket> {
        let fd = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkRoute,
        )?;
        connect(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?; // to the kernel
        Ok(Socket(fd))
    }

    /// Sends a request and waits for its errno.
    pub(crate) fn ask(&self, message: Message) -> nix::Result<()> {
        self.answer(message).map(drop)
    }

    /// The same for a request that is answered by a message, which is returned.
    pub(crate) fn answer(&self, message: Message) -> nix::Result<Vec<u8>> {
        send(self.0.as_raw_fd(), &message.finish(), MsgFlags::empty())?;
        let mut buffer = vec![0; 16 << 10];
        let length = loop {
            match recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Err(Errno::EINTR) => continue,
                other => break other?,
            }
        };
        buffer.truncate(length);
        let kind = buffer.get(4..6).map(|k| u16::from_ne_bytes([k[0], k[1]]));
        if kind == Some(libc::NLMSG_ERROR as u16) {
            let errno = buffer.get(16..20).ok_or(Errno::EBADMSG)?;
            match i32::from_ne_bytes([errno[0], errno[1], errno[2], errno[3]]) {
                0 => return Ok(buffer),
                errno => return Err(Errno::from_raw(-errno)),
            }
        }
        Ok(buffer)
    }
}

impl Socket {
    /// All answers to a query, each without its header. They come several to a datagram, each aligned to
    /// four, and the last says that it is (netlink(7), "NLMSG_DONE").
    pub(crate) fn dump(&self, query: Message) -> nix::Result<Vec<Vec<u8>>> {
        send(self.0.as_raw_fd(), &query.finish(), MsgFlags::empty())?;
        let (mut all, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
        loop {
            let length = match recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Err(Errno::EINTR) => continue,
                other => other?,
            };
            let mut rest = &buffer[..length];
            while let Some(head) = rest.get(..16) {
                let size = u32::from_ne_bytes([head[0], head[1], head[2], head[3]]) as usize;
                let body = rest.get(16..size).ok_or(Errno::EBADMSG)?;
                match i32::from(u16::from_ne_bytes([head[4], head[5]])) {
                    libc::NLMSG_DONE => return Ok(all),
                    libc::NLMSG_ERROR => return Err(Errno::EBADMSG),
                    _ => all.push(body.to_vec()),
                }
                rest = rest.get(size.next_multiple_of(4)..).unwrap_or_default();
            }
        }
    }
}

/// A request in the making.
pub(crate) struct Message(Vec<u8>);

impl Message {
    /// `flags` besides "this is a request, and I want an answer".
    pub(crate) fn new(kind: u16, flags: u16) -> Message {
        let flags = flags | (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
        let mut bytes = vec![0; 16]; // length (later), kind, flags, sequence, port
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        Message(bytes)
    }

    /// Without "and acknowledge": for requests that have an answer of their own.
    pub(crate) fn query(kind: u16) -> Message {
        let mut message = Message::new(kind, 0);
        message.0[6..8].copy_from_slice(&(libc::NLM_F_REQUEST as u16).to_ne_bytes());
        message
    }

    /// A query for everything there is of a kind.
    pub(crate) fn all(kind: u16) -> Message {
        let mut message = Message::query(kind);
        let flags = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
        message.0[6..8].copy_from_slice(&flags.to_ne_bytes());
        message
    }

    /// What an answer held, to be asked for again.
    pub(crate) fn again(mut self, body: &[u8]) -> Message {
        self.0.extend(body);
        self.pad()
    }

    /// The `ifinfomsg` of a link: which device, and flags to set.
    pub(crate) fn link(mut self, index: u32, up: bool) -> Message {
        let flags = if up { libc::IFF_UP as u32 } else { 0 };
        self.0.extend([0; 4]); // family, padding, device type
        self.0.extend(index.to_ne_bytes());
        self.0.extend(flags.to_ne_bytes());
        self.0.extend(flags.to_ne_bytes()); // which of the flags are meant
        self
    }

    /// The `ifaddrmsg` of an IPv4 address.
    pub(crate) fn address(mut self, index: u32, prefix: u8) -> Message {
        self.0.extend([libc::AF_INET as u8, prefix, 0, libc::RT_SCOPE_UNIVERSE]);
        self.0.extend(index.to_ne_bytes());
        self
    }

    /// The `rtmsg` of an IPv4 default route.
    pub(crate) fn default_route(mut self) -> Message {
        self.0.extend([libc::AF_INET as u8, 0, 0, 0]); // to anywhere: a prefix of no bits
        self.0.extend([libc::RT_TABLE_MAIN, libc::RTPROT_BOOT, libc::RT_SCOPE_UNIVERSE, libc::RTN_UNICAST]);
        self.0.extend([0; 4]);
        self
    }

    /// An attribute.
    pub(crate) fn with(mut self, kind: u16, value: &[u8]) -> Message {
        self.0.extend((value.len() as u16 + 4).to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.pad()
    }

    /// A name: with its NUL.
    pub(crate) fn with_name(self, kind: u16, name: &str) -> Message {
        self.with(kind, &[name.as_bytes(), b"\0"].concat())
    }

    /// An attribute made of attributes.
    pub(crate) fn within(mut self, kind: u16, fill: impl FnOnce(Message) -> Message) -> Message {
        let at = self.0.len();
        self.0.extend([0, 0]);
        self.0.extend(kind.to_ne_bytes());
        let mut filled = fill(self);
        let length = (filled.0.len() - at) as u16;
        filled.0[at..at + 2].copy_from_slice(&length.to_ne_bytes());
        filled.pad()
    }

    fn pad(mut self) -> Message {
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    fn finish(mut self) -> Vec<u8> {
        let length = self.0.len() as u32;
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        self.0
    }
}
