//! The raw connection to a container: frames, the terminal, and the keys that let go of it.
//!
//! After `101 UPGRADED` two plain threads copy: one from the socket to stdout and stderr, one from
//! stdin to the socket. Threads, because a full pipe or a slow terminal may hold up either of them for
//! as long as it likes, and must hold up neither the other nor the signals.

use super::http::Hijacked;
use anyhow::{Result, bail};
use hyper::body::Bytes;
use nix::sys::termios::{self, SetArg, Termios};
use std::{
    io::{self, ErrorKind, IsTerminal, Read, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    sync::Mutex,
    thread,
};
use tokio::sync::oneshot;

/// The sequence that lets go of a container: ctrl-p, ctrl-q.
pub(crate) const DETACH_KEYS: &str = "ctrl-p,ctrl-q";

/// Why the input ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InputEnd {
    /// stdin is at its end; the container was told.
    Eof,
    /// The detach keys were typed.
    Detached,
}

/// Copies the container's output to ours until it ends, in a thread.
pub(crate) fn output(hijacked: &mut Hijacked, tty: bool) -> Result<oneshot::Receiver<io::Result<()>>> {
    let early = std::mem::take(&mut hijacked.early);
    let socket = hijacked.socket.try_clone()?;
    let (done, end) = oneshot::channel();
    thread::Builder::new().name("output".into()).spawn(move || {
        let mut from = io::Read::chain(&early[..], socket);
        // Not locked for good: others have a line to print now and then.
        let (mut out, mut err) = (io::stdout(), io::stderr());
        let result = if tty { raw(&mut from, &mut out) } else { demultiplex(&mut from, &mut out, &mut err) };
        let _ = done.send(result);
    })?;
    Ok(end)
}

/// Copies our stdin to the container until it ends or the `detach` keys are typed, in a thread. The
/// thread is left behind where stdin never ends.
pub(crate) fn input(socket: &UnixStream, detach: Option<Vec<u8>>) -> Result<oneshot::Receiver<InputEnd>> {
    let mut socket = socket.try_clone()?;
    let (done, end) = oneshot::channel();
    thread::Builder::new().name("input".into()).spawn(move || {
        let mut keys = Keys::new(detach.unwrap_or_default());
        let mut buffer = vec![0; 32 * 1024];
        let reason = loop {
            match io::stdin().lock().read(&mut buffer) {
                Ok(0) => break InputEnd::Eof,
                Ok(n) => {
                    let (pass, detached) = keys.filter(&buffer[..n]);
                    if socket.write_all(&pass).is_err() {
                        break InputEnd::Eof;
                    }
                    if detached {
                        break InputEnd::Detached;
                    }
                }
                Err(why) if why.kind() == ErrorKind::Interrupted => {}
                Err(_) => break InputEnd::Eof,
            }
        };
        // Only the writing side: what the container says to the end of its input is still to come.
        if reason == InputEnd::Eof {
            let _ = socket.shutdown(Shutdown::Write);
        }
        let _ = done.send(reason);
    })?;
    Ok(end)
}

/// With a terminal the stream is the terminal's, as it is.
fn raw(from: &mut impl Read, out: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; 32 * 1024];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => {
                out.write_all(&buffer[..n])?;
                out.flush()?;
            }
            Err(why) if why.kind() == ErrorKind::Interrupted => {}
            // The daemon's end of a hijacked connection may be closed while we still had input to give.
            Err(why) if why.kind() == ErrorKind::ConnectionReset => return Ok(()),
            Err(why) => return Err(why),
        }
    }
}

/// Without one, stdout and stderr share the connection in frames: 8 bytes (stream, three zeros, length,
/// big-endian), then the data.
pub(crate) fn demultiplex(
    from: &mut impl Read,
    out: &mut impl Write,
    err: &mut impl Write,
) -> io::Result<()> {
    let mut frames = Frames::default();
    let mut buffer = vec![0; 32 * 1024];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return frames.end(),
            Ok(n) => frames.feed(&buffer[..n], out, err)?,
            Err(why) if why.kind() == ErrorKind::Interrupted => {}
            Err(why) if why.kind() == ErrorKind::ConnectionReset => return Ok(()),
            Err(why) => return Err(why),
        }
    }
}

/// Takes frames apart, however they are cut into pieces.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    head: Vec<u8>,
    stream: u8,
    left: usize,
}

impl Frames {
    /// Passes on what is in `bytes`.
    pub(crate) fn feed(
        &mut self,
        mut bytes: &[u8],
        out: &mut impl Write,
        err: &mut impl Write,
    ) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.left == 0 {
                let n = (8 - self.head.len()).min(bytes.len());
                self.head.extend_from_slice(&bytes[..n]);
                bytes = &bytes[n..];
                if let [stream @ 0..=3, 0, 0, 0, a, b, c, d] = self.head[..] {
                    self.stream = stream;
                    self.left = u32::from_be_bytes([a, b, c, d]) as usize;
                    self.head.clear();
                } else if self.head.len() == 8 {
                    return Err(io::Error::new(
                        ErrorKind::InvalidData,
                        "the daemon's stream is not in frames",
                    ));
                }
                continue;
            }
            let n = self.left.min(bytes.len());
            let piece = &bytes[..n];
            // 0 is stdin and comes from nobody; 3 is an error of the daemon itself.
            match self.stream {
                2 | 3 => err.write_all(piece).and_then(|()| err.flush())?,
                _ => out.write_all(piece).and_then(|()| out.flush())?,
            }
            self.left -= n;
            bytes = &bytes[n..];
        }
        Ok(())
    }

    /// The stream is at its end: it may not be in the middle of a frame.
    pub(crate) fn end(&self) -> io::Result<()> {
        if self.left == 0 && self.head.is_empty() {
            return Ok(());
        }
        Err(io::Error::new(ErrorKind::UnexpectedEof, "the daemon's stream broke off inside a frame"))
    }
}

/// Copies the body of an answer (logs) to ours, in frames or raw.
pub(crate) async fn body(answer: hyper::Response<hyper::body::Incoming>, tty: bool) -> Result<()> {
    let mut frames = Frames::default();
    let (mut out, mut err) = (io::stdout(), io::stderr());
    let mut body = answer.into_body();
    while let Some(bytes) = next(&mut body).await? {
        if tty {
            out.write_all(&bytes)?;
            out.flush()?;
        } else {
            frames.feed(&bytes, &mut out, &mut err)?;
        }
    }
    Ok(frames.end()?)
}

/// The next piece of a body; `None` at its end.
pub(crate) async fn next(body: &mut hyper::body::Incoming) -> Result<Option<Bytes>> {
    use http_body_util::BodyExt;
    loop {
        match body.frame().await {
            None => return Ok(None),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
            Some(Err(why)) => bail!("the daemon's answer broke off: {why}"),
        }
    }
}

/// Finds the detach keys in what is typed, holding back what may be their beginning.
#[derive(Debug)]
struct Keys {
    keys: Vec<u8>,
    matched: usize,
}

impl Keys {
    fn new(keys: Vec<u8>) -> Keys {
        Keys { keys, matched: 0 }
    }

    /// What to pass on, and whether the sequence is complete.
    fn filter(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        if self.keys.is_empty() {
            return (typed.to_vec(), false);
        }
        let mut pass = Vec::with_capacity(typed.len() + self.matched);
        for &byte in typed {
            if byte == self.keys[self.matched] {
                self.matched += 1;
                if self.matched == self.keys.len() {
                    return (pass, true);
                }
                continue;
            }
            pass.extend_from_slice(&self.keys[..self.matched]);
            self.matched = usize::from(byte == self.keys[0]);
            if self.matched == 0 {
                pass.push(byte);
            } else if self.keys.len() == 1 {
                return (pass, true);
            }
        }
        (pass, false)
    }
}

/// `ctrl-p,ctrl-q` or `a,b`: the bytes that a terminal sends for it.
pub(crate) fn parse_keys(text: &str) -> Result<Vec<u8>> {
    text.split(',')
        .map(|key| match key.as_bytes() {
            [one] => Ok(*one),
            [b'c', b't', b'r', b'l', b'-', key @ (b'a'..=b'z')] => Ok(key - b'a' + 1),
            [b'c', b't', b'r', b'l', b'-', key @ (b'@' | b'['..=b'_')] => Ok(key - b'@'),
            _ => bail!("unknown character '{key}' in the detach keys '{text}': write a letter or ctrl- and one of a-z @ [ \\ ] ^ _"),
        })
        .collect()
}

/// How the terminal was before it was made raw. Here, so that every way out can put it back: the end of
/// the scope, a panic, a signal, an exit in the middle.
static SAVED: Mutex<Option<Termios>> = Mutex::new(None);

/// The terminal in raw mode, until this is dropped.
#[derive(Debug)]
pub(crate) struct Raw(());

impl Raw {
    /// Makes the terminal on stdin raw, if it is one.
    pub(crate) fn enter() -> Result<Option<Raw>> {
        let stdin = io::stdin();
        if !stdin.is_terminal() {
            return Ok(None);
        }
        let before = termios::tcgetattr(&stdin)?;
        let mut now = before.clone();
        termios::cfmakeraw(&mut now);
        termios::tcsetattr(&stdin, SetArg::TCSANOW, &now)?;
        if let Ok(mut saved) = SAVED.lock() {
            *saved = Some(before);
        }
        // A panic of the release build aborts and unwinds nothing.
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            restore_terminal();
            hook(panic);
        }));
        Ok(Some(Raw(())))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        restore_terminal();
    }
}

/// Puts the terminal back as it was. Call it before every exit that unwinds nothing.
pub(crate) fn restore_terminal() {
    if let Ok(mut saved) = SAVED.lock()
        && let Some(before) = saved.take()
    {
        let _ = termios::tcsetattr(io::stdin(), SetArg::TCSADRAIN, &before);
    }
}

/// The size of the terminal: rows and columns; `None` if there is none.
pub(crate) fn terminal_size() -> Option<(u16, u16)> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes one winsize (ioctl_tty(2)), and `size` is one.
    let done = unsafe { libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &raw mut size) };
    (done == 0 && size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(pieces: &[&[u8]]) -> io::Result<(Vec<u8>, Vec<u8>)> {
        let (mut out, mut err, mut frames) = (Vec::new(), Vec::new(), Frames::default());
        for piece in pieces {
            frames.feed(piece, &mut out, &mut err)?;
        }
        frames.end()?;
        Ok((out, err))
    }

    #[test]
    fn frames_are_taken_apart_however_they_are_cut() {
        let wire = b"\x01\0\0\0\0\0\0\x03out\x02\0\0\0\0\0\0\x03err\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\x01!";
        for cut in 0..wire.len() {
            let (out, err) = split(&[&wire[..cut], &wire[cut..]]).unwrap();
            assert_eq!((&out[..], &err[..]), (&b"out!"[..], &b"err"[..]), "cut at {cut}");
        }
    }

    #[test]
    fn what_is_not_in_frames_is_refused() {
        assert_eq!(split(&[b"plain text"]).unwrap_err().kind(), ErrorKind::InvalidData);
        assert_eq!(split(&[b"\x01\0\0\0\0\0\0\x05ab"]).unwrap_err().kind(), ErrorKind::UnexpectedEof);
    }

    #[test]
    fn detach_keys_are_found_across_reads_and_never_passed_on() {
        let mut keys = Keys::new(parse_keys(DETACH_KEYS).unwrap());
        assert_eq!(keys.filter(b"ls\x10"), (b"ls".to_vec(), false));
        assert_eq!(keys.filter(b"\x11rest"), (vec![], true));
    }

    #[test]
    fn half_of_the_keys_is_passed_on_with_what_follows() {
        let mut keys = Keys::new(parse_keys(DETACH_KEYS).unwrap());
        assert_eq!(keys.filter(b"\x10"), (vec![], false));
        assert_eq!(keys.filter(b"x"), (b"\x10x".to_vec(), false));
        assert_eq!(keys.filter(b"\x10\x10\x11"), (b"\x10".to_vec(), true));
    }

    #[test]
    fn keys_are_written_as_docker_writes_them() {
        assert_eq!(parse_keys("ctrl-a,x,ctrl-[").unwrap(), [1, b'x', 0x1b]);
        assert!(parse_keys("ctrl-P").is_err());
        assert!(parse_keys("").is_err());
    }
}
