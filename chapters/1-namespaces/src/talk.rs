//! What parent and child say to each other over a socketpair. A frame is one byte that names
//! the word, four bytes of length, and the payload. The child never prints and never logs: all that
//! it has to tell goes through here, and the parent tells it.

use crate::{
    Error, Result,
    error::{Doing, invalid},
};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, sendmsg,
    socketpair,
};
use std::{
    cell::Cell,
    fs::File,
    io::{IoSlice, IoSliceMut, Read, Write},
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    time::Instant,
};

/// A frame's first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Word {
    /// Parent: the maps are written, go on. Payload: a byte of [`Orders`], the state JSON.
    Go = b'g',
    /// The usher: the child's process ID.
    Pid = b'p',
    /// Child: a step is done (for `--explain`). Payload: microseconds, call, text; NUL between.
    Step = b's',
    /// Child: something asked for could not be had, and the specification allows to go on.
    Warning = b'w',
    /// Child: the mounts stand, the root is not yet changed (only when asked to stop there).
    Mounted = b'm',
    /// Child: all is done but exec. With the terminal's master, if there is one.
    Ready = b'r',
    /// Child: this failed. Payload: [`Error::frame`].
    Failed = b'f',
}

const WORDS: [Word; 7] =
    [Word::Go, Word::Pid, Word::Step, Word::Warning, Word::Mounted, Word::Ready, Word::Failed];

/// What a `Go` asks for besides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Orders {
    /// Stop once everything is mounted, say so, and wait for another `Go`.
    pub(crate) pause: bool,
    /// Die when the parent dies.
    pub(crate) die_with_parent: bool,
}

/// A frame is our own, and still bounded: a broken length must not become an allocation.
const LONGEST: usize = 16 << 20;

/// A word, its payload, and a descriptor that came along.
pub(crate) type Frame = (Word, Vec<u8>, Option<OwnedFd>);

/// One end of the conversation.
#[derive(Debug)]
pub(crate) struct Talk {
    socket: File,
    /// When the last step was told, if anyone listens; otherwise steps are not even formatted.
    explain: Option<Cell<Instant>>,
}

/// Makes both ends: parent's, child's.
pub(crate) fn pair() -> Result<(Talk, Talk)> {
    let explain = tracing::enabled!(target: "step", tracing::Level::INFO);
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC)
        .doing(|| "make a socketpair to talk with the child".into())?;
    let clock = || explain.then(|| Cell::new(Instant::now()));
    let end = |fd: OwnedFd| Talk { socket: File::from(fd), explain: clock() };
    Ok((end(ours), end(theirs)))
}

impl Talk {
    /// Says one word. A descriptor goes along as `SCM_RIGHTS` (unix(7)).
    pub(crate) fn say(&self, word: Word, payload: &[u8], fd: Option<BorrowedFd>) -> Result<()> {
        let mut head = [word as u8, 0, 0, 0, 0];
        head[1..].copy_from_slice(&(payload.len() as u32).to_ne_bytes());
        let fds = fd.map(|fd| [fd.as_raw_fd()]);
        let rights = fds.as_ref().map(|fds| [ControlMessage::ScmRights(fds)]);
        let parts = [IoSlice::new(&head), IoSlice::new(payload)];
        let control = rights.as_ref().map_or(&[][..], |r| &r[..]);
        // A reader that is gone must not kill us by SIGPIPE.
        let sent = sendmsg::<()>(self.socket.as_raw_fd(), &parts, control, MsgFlags::MSG_NOSIGNAL, None)
            .doing(|| "talk to the other side of the clone".into())?;
        let rest = &payload[sent.saturating_sub(head.len()).min(payload.len())..];
        (&self.socket).write_all(rest).doing(|| "talk to the other side of the clone".into())
    }

    /// Hears one word; `None` when the other side is gone.
    pub(crate) fn hear(&self) -> Result<Option<Frame>> {
        let what = || "listen to the other side of the clone".to_owned();
        let mut head = [0; 5];
        let mut space = nix::cmsg_space!([i32; 1]);
        let mut part = [IoSliceMut::new(&mut head)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_WAITALL;
        let got = loop {
            match recvmsg::<()>(self.socket.as_raw_fd(), &mut part, Some(&mut space), flags) {
                Err(nix::errno::Errno::EINTR) => continue,
                other => break other.doing(what)?,
            }
        };
        let fd = got.cmsgs().doing(what)?.find_map(|message| match message {
            // SAFETY: the kernel has just installed this descriptor for us alone.
            ControlMessageOwned::ScmRights(fds) => fds.first().map(|fd| unsafe { OwnedFd::from_raw_fd(*fd) }),
            _ => None,
        });
        if got.bytes < 5 {
            return Ok(None);
        }
        let length = u32::from_ne_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let Some(word) = WORDS.into_iter().find(|w| *w as u8 == head[0] && length <= LONGEST) else {
            return invalid("the other side of the clone talks nonsense");
        };
        let mut payload = vec![0; length];
        (&self.socket).read_exact(&mut payload).doing(what)?;
        Ok(Some((word, payload, fd)))
    }

    // --- the child's side ---

    /// Waits for the parent's `Go`, and ends here if there is no parent any more.
    pub(crate) fn wait_go(&self) -> Result<(Orders, Vec<u8>)> {
        let Some((Word::Go, mut state, _)) = self.hear()? else { crate::sys::exit_now(1) };
        let bits = if state.is_empty() { 0 } else { state.remove(0) };
        if let Some(last) = &self.explain {
            last.set(Instant::now()); // the waiting was the parent's time
        }
        Ok((Orders { pause: bits & 1 != 0, die_with_parent: bits & 2 != 0 }, state))
    }

    /// Tells that a step is done: the system call, and what it did. How long it took is measured
    /// here; when the parent hears of it says nothing.
    pub(crate) fn step(&self, call: &str, what: impl FnOnce() -> String) {
        if let Some(last) = &self.explain {
            let now = Instant::now();
            let took = now.duration_since(last.replace(now)).as_micros();
            let frame = format!("{took}\0{call}\0{}", what());
            let _ = self.say(Word::Step, frame.as_bytes(), None);
            last.set(Instant::now());
        }
    }

    /// Tells that something could not be had.
    pub(crate) fn warn(&self, what: &str) {
        let _ = self.say(Word::Warning, what.as_bytes(), None);
    }

    /// Tells why all ends here.
    pub(crate) fn fail(&self, error: &Error) {
        let _ = self.say(Word::Failed, &error.frame(), None);
    }

    // --- the parent's side ---

    /// Lets the child go on.
    pub(crate) fn go(&self, orders: Orders, state: &[u8]) -> Result<()> {
        let bits = u8::from(orders.pause) | u8::from(orders.die_with_parent) << 1;
        self.say(Word::Go, &[&[bits], state].concat(), None)
    }

    /// Listens until the child says `Ready` (or `Mounted`), telling steps and warnings on the
    /// way. `who` is for the message if the child just dies.
    pub(crate) fn until_ready(&self, who: &'static str) -> Result<Option<OwnedFd>> {
        loop {
            match self.hear()? {
                Some((Word::Ready | Word::Mounted, _, fd)) => return Ok(fd),
                Some((Word::Step, text, _)) => tell_step(&String::from_utf8_lossy(&text)),
                Some((Word::Warning, text, _)) => {
                    tracing::warn!("{}", String::from_utf8_lossy(&text));
                }
                Some((Word::Failed, text, _)) => return Err(failure(&text)),
                Some(_) => return invalid("the child says what only a parent says"),
                None => return Err(Error::Gone(who)),
            }
        }
    }

    /// Listens until the socket closes by itself, which is what a successful execve does to it.
    pub(crate) fn until_exec(&self) -> Result<()> {
        match self.hear()? {
            Some((Word::Failed, text, _)) => Err(failure(&text)),
            _ => Ok(()),
        }
    }
}

/// A child's `Failed` frame as our error.
pub(crate) fn failure(frame: &[u8]) -> Error {
    let (code, text) = frame.split_first().unwrap_or((&1, b""));
    let message = String::from_utf8_lossy(text).into_owned();
    match *code {
        0 => Error::Hook(message),
        code @ (126 | 127) => Error::Program { message, code: code.into() },
        _ => Error::Inside(message),
    }
}

fn tell_step(frame: &str) {
    let mut parts = frame.splitn(3, '\0');
    if let (Some(took), Some(call), Some(text)) = (parts.next(), parts.next(), parts.next()) {
        let us: u64 = took.parse().unwrap_or(0);
        tracing::info!(target: "step", section = "7.1", call, us, "{text}");
    }
}

impl AsRawFd for Talk {
    fn as_raw_fd(&self) -> i32 {
        self.socket.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn words_payloads_and_descriptors_arrive() {
        let (parent, child) = pair().unwrap();
        parent.go(Orders { pause: true, die_with_parent: false }, b"{}").unwrap();
        let orders = Orders { pause: true, die_with_parent: false };
        assert_eq!(child.wait_go().unwrap(), (orders, b"{}".to_vec()));
        child.warn("it is late");
        let file = tempfile::tempfile().unwrap();
        child.say(Word::Ready, b"", Some(file.as_fd())).unwrap();
        assert!(parent.until_ready("it").unwrap().is_some());
        drop(child);
        parent.until_exec().unwrap();
        assert!(matches!(parent.until_ready("it"), Err(Error::Gone("it"))));
    }

    #[test]
    fn a_failure_keeps_its_kind() {
        let (parent, child) = pair().unwrap();
        child.fail(&Error::Program { message: "not there".into(), code: 127 });
        let error = parent.until_ready("it").unwrap_err();
        assert_eq!((error.exit_code(), error.to_string().as_str()), (127, "not there"));
        child.fail(&Error::Hook("it failed".into()));
        assert!(matches!(parent.until_ready("it").unwrap_err(), Error::Hook(_)));
        child.fail(&Error::Invalid("no".into()));
        assert_eq!(parent.until_exec().unwrap_err().exit_code(), 1);
    }

    #[test]
    fn a_state_larger_than_the_sockets_buffer() {
        let (parent, child) = pair().unwrap();
        let state = vec![b'x'; 3 << 20];
        let sent = state.clone();
        let sender = std::thread::spawn(move || parent.go(Orders::default(), &sent));
        assert_eq!(child.wait_go().unwrap().1, state);
        sender.join().unwrap().unwrap();
    }
}
