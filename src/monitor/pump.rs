//! The loop of a monitor: output to the log and to those who are attached, what they type to the container, orders
//! from the daemon, and the end.

use super::{
    clients::{Client, Typed},
    nonblocking,
    wire::{self, Hello, Order, Report},
};
use crate::engine::{failure::Result, logs};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        socket::{MsgFlags, send},
        wait::{Id, WaitPidFlag, WaitStatus, waitid},
    },
    unistd::{read, write},
};
use std::{
    collections::VecDeque,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::net::{UnixListener, UnixStream},
    },
    time::{Duration, Instant},
};

/// What is typed ahead, at most: beyond it the clients wait.
const TYPED_AHEAD: usize = 64 << 10;

/// How long output is waited for after the end, if somebody beyond our reach holds the pipe open.
const DRAIN: Duration = Duration::from_secs(2);

/// How long a client may take for the last of it.
const FAREWELL: Duration = Duration::from_secs(10);

/// The loop's state.
pub(crate) struct Pump {
    listener: UnixListener,
    /// Connected, and not yet said what for.
    strangers: Vec<(UnixStream, Vec<u8>, Option<OwnedFd>)>,
    controls: Vec<(UnixStream, Vec<u8>)>,
    clients: Vec<Client>,
    /// What a daemon that connects now has to be told.
    reports: Vec<Report>,
    log: Option<logs::Writer>,
    /// The first process, and its end.
    pidfd: Option<OwnedFd>,
    exit_code: Option<i64>,
    /// Its output: the stream's number, and where to read it.
    outputs: Vec<(u8, OwnedFd)>,
    /// Its input, what is to be written to it, and whether it is closed after that.
    input: Option<OwnedFd>,
    typed: VecDeque<u8>,
    closing: bool,
    /// The daemon knows of the end.
    heard: bool,
    /// The first client that is done with typing ends the container's input (`docker run -i`).
    stdin_once: bool,
    /// The master side of its terminal.
    console: Option<OwnedFd>,
}

/// What poll(2) is asked about, in the order of its answers.
enum Watch {
    Listener,
    Process,
    Output(usize),
    Input,
    Stranger(usize),
    Control(usize),
    Client(usize),
}

impl Pump {
    /// A loop that listens here.
    pub(crate) fn new(listener: UnixListener, stdin_once: bool) -> Pump {
        Pump {
            listener,
            strangers: Vec::new(),
            controls: Vec::new(),
            clients: Vec::new(),
            reports: Vec::new(),
            log: None,
            pidfd: None,
            exit_code: None,
            outputs: Vec::new(),
            input: None,
            typed: VecDeque::new(),
            closing: false,
            heard: false,
            stdin_once,
            console: None,
        }
    }

    /// Where output is kept.
    pub(crate) fn log_to(&mut self, log: logs::Writer) {
        self.log = Some(log);
    }

    /// The process's pipes, or its terminal, which is both ways.
    pub(crate) fn connect(
        &mut self,
        input: Option<OwnedFd>,
        outputs: Vec<(u8, OwnedFd)>,
        console: Option<OwnedFd>,
    ) -> Result<()> {
        (self.input, self.outputs) = (input, outputs);
        if let Some(console) = console {
            self.outputs = vec![(1, console.try_clone()?)];
            self.input = Some(console.try_clone()?);
            self.console = Some(console);
        }
        for fd in self.input.iter().chain(self.outputs.iter().map(|(_, fd)| fd)) {
            nonblocking(fd)?;
        }
        Ok(())
    }

    /// Takes in all who have connected so far: before the program runs, so that they get its first byte.
    pub(crate) fn meet(&mut self) -> Result<()> {
        self.accept();
        for index in (0..self.strangers.len()).rev() {
            self.hear(index);
        }
        Ok(())
    }

    /// Tells the daemon, now and whenever one connects later.
    pub(crate) fn report(&mut self, report: Report) {
        self.controls.retain(|(socket, _)| tell(socket, &report));
        if matches!(report, Report::Exited(_) | Report::Failed { .. }) {
            self.reports.clear();
        }
        self.reports.push(report);
    }

    /// Says something to those who are attached, as if the container had said it on standard error.
    pub(crate) fn say(&mut self, text: &str) {
        for client in &mut self.clients {
            client.give(2, text.as_bytes());
            client.flush();
        }
    }

    /// Runs until the process has ended and its output is read. Returns its exit status.
    pub(crate) fn run(&mut self, pidfd: OwnedFd) -> Result<i64> {
        self.pidfd = Some(pidfd);
        while self.exit_code.is_none() {
            self.turn(None)?;
        }
        Ok(self.exit_code.unwrap_or_default())
    }

    /// Reads what output is left.
    pub(crate) fn drain(&mut self) -> Result<()> {
        let until = Instant::now() + DRAIN;
        while !self.outputs.is_empty() && Instant::now() < until {
            self.turn(Some(until))?;
        }
        if let Some(log) = &mut self.log {
            let _ = log.finish();
        }
        Ok(())
    }

    /// Waits until the daemon, if there is one, has heard of the end. A client sees its connection end, and asks the
    /// daemon for the exit status: it must not be faster than we were.
    pub(crate) fn until_heard(&mut self) -> Result<()> {
        let until = Instant::now() + DRAIN;
        while !self.heard && !self.controls.is_empty() && Instant::now() < until {
            self.turn(Some(until))?;
        }
        Ok(())
    }

    /// Lets the clients have the last of it, and goes.
    pub(crate) fn farewell(mut self) -> Result<()> {
        self.input = None;
        let until = Instant::now() + FAREWELL;
        self.clients.retain_mut(|c| c.flush() && c.behind());
        while !self.clients.is_empty() && Instant::now() < until {
            self.turn(Some(until))?;
            self.clients.retain(Client::behind);
        }
        Ok(())
    }

    /// One poll(2), and what it brings.
    fn turn(&mut self, until: Option<Instant>) -> Result<()> {
        // Output is read only while all who get it can take it: a pipe that is full makes the program wait.
        let room = !self.clients.iter().any(Client::full);
        let watches = self.watches(room);
        // Somebody is being waited for: look again now and then whether there is still hope.
        let patience = (!room).then(|| Instant::now() + Duration::from_secs(5));
        let timeout = match until.into_iter().chain(patience).min() {
            None => PollTimeout::NONE,
            Some(at) => {
                let left = at.saturating_duration_since(Instant::now()).as_millis() + 1;
                PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
            }
        };
        let mut fds: Vec<PollFd> = watches.iter().map(|(_, fd)| fd.clone()).collect();
        match poll(&mut fds, timeout) {
            Err(Errno::EINTR) => return Ok(()),
            result => result?,
        };
        let answers: Vec<PollFlags> = fds.iter().map(|f| f.revents().unwrap_or(PollFlags::empty())).collect();
        let ready: Vec<_> =
            watches.into_iter().map(|(watch, _)| watch).zip(answers).filter(|(_, f)| !f.is_empty()).collect();
        // From the last to the first: what is removed on the way does not move what is still to come.
        for (watch, flags) in ready.into_iter().rev() {
            match watch {
                Watch::Client(index) => self.serve(index, flags),
                Watch::Control(index) => self.obey(index),
                Watch::Stranger(index) => self.hear(index),
                Watch::Input => self.feed(),
                Watch::Output(index) => self.pass(index),
                Watch::Process => self.exit_code = self.reap()?,
                Watch::Listener => self.accept(),
            }
        }
        self.clients.retain(|c| !c.hopeless());
        Ok(())
    }

    fn watches(&self, room: bool) -> Vec<(Watch, PollFd<'_>)> {
        let mut all = vec![(Watch::Listener, PollFd::new(self.listener.as_fd(), PollFlags::POLLIN))];
        let mut watch = |what, fd, flags| all.push((what, PollFd::new(fd, flags)));
        if let Some(pidfd) = self.pidfd.as_ref().filter(|_| self.exit_code.is_none()) {
            watch(Watch::Process, pidfd.as_fd(), PollFlags::POLLIN);
        }
        if room {
            for (index, (_, fd)) in self.outputs.iter().enumerate() {
                watch(Watch::Output(index), fd.as_fd(), PollFlags::POLLIN);
            }
        }
        if let Some(input) = self.input.as_ref().filter(|_| !self.typed.is_empty()) {
            watch(Watch::Input, input.as_fd(), PollFlags::POLLOUT);
        }
        for (index, (socket, ..)) in self.strangers.iter().enumerate() {
            watch(Watch::Stranger(index), socket.as_fd(), PollFlags::POLLIN);
        }
        for (index, (socket, _)) in self.controls.iter().enumerate() {
            watch(Watch::Control(index), socket.as_fd(), PollFlags::POLLIN);
        }
        let hungry = self.typed.len() < TYPED_AHEAD;
        for (index, client) in self.clients.iter().enumerate() {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::POLLIN, client.types() && hungry);
            flags.set(PollFlags::POLLOUT, client.behind());
            watch(Watch::Client(index), client.fd(), flags);
        }
        all
    }

    fn accept(&mut self) {
        while let Ok((socket, _)) = self.listener.accept() {
            if socket.set_nonblocking(true).is_ok() {
                self.strangers.push((socket, Vec::new(), None));
            }
        }
    }

    /// Reads a first line.
    fn hear(&mut self, index: usize) {
        let (socket, line, passed) = &mut self.strangers[index];
        let mut buffer = vec![0; 64 << 10];
        loop {
            match wire::receive(socket.as_fd(), &mut buffer) {
                Ok((0, _)) => {
                    self.strangers.swap_remove(index);
                    return;
                }
                Ok((length, fd)) => {
                    line.extend_from_slice(&buffer[..length]);
                    *passed = fd.or(passed.take());
                    if line.contains(&b'\n') || line.len() > wire::LINE_MAX {
                        break;
                    }
                }
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.strangers.swap_remove(index);
                    return;
                }
            }
        }
        let (socket, line, passed) = self.strangers.swap_remove(index);
        let end = line.iter().position(|b| *b == b'\n').unwrap_or(line.len());
        match (serde_json::from_slice(&line[..end]), passed) {
            (Ok(Hello::Control), _) if self.reports.iter().all(|report| tell(&socket, report)) => {
                self.controls.push((socket, line[(end + 1).min(line.len())..].to_vec()));
            }
            (Ok(Hello::Attach(wants)), Some(connection)) => {
                if let Ok(client) = Client::new(connection, wants) {
                    self.clients.push(client);
                    let index = self.clients.len() - 1;
                    if self.clients[index].early() {
                        self.serve(index, PollFlags::POLLIN);
                    }
                }
            }
            _ => {}
        }
    }

    fn obey(&mut self, index: usize) {
        let (socket, line) = &mut self.controls[index];
        let mut buffer = [0; 4096];
        match wire::receive(socket.as_fd(), &mut buffer) {
            Ok((length, _)) if length > 0 && line.len() < wire::LINE_MAX => {
                line.extend_from_slice(&buffer[..length])
            }
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
            _ => {
                self.controls.swap_remove(index);
                return;
            }
        }
        while let Some(end) = self.controls[index].1.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = self.controls[index].1.drain(..=end).collect();
            match serde_json::from_slice(&line) {
                Ok(Order::Signal(number)) => self.signal(number),
                Ok(Order::Resize { height, width }) => self.resize(height, width),
                Ok(Order::Heard) => self.heard = true,
                Err(_) => {}
            }
        }
    }

    /// By the descriptor and not the number: never another process that got the number since (pidfd_send_signal(2)).
    fn signal(&self, number: i32) {
        if let Some(pidfd) = self.pidfd.as_ref().filter(|_| self.exit_code.is_none()) {
            // SAFETY: a system call with a valid descriptor, two integers and a null pointer; no crate wraps it.
            unsafe {
                libc::syscall(
                    libc::SYS_pidfd_send_signal,
                    pidfd.as_raw_fd(),
                    number,
                    std::ptr::null::<libc::siginfo_t>(),
                    0,
                )
            };
        }
    }

    fn resize(&self, height: u16, width: u16) {
        if let Some(console) = &self.console {
            set_size(console, height, width);
        }
    }

    fn serve(&mut self, index: usize, flags: PollFlags) {
        let client = &mut self.clients[index];
        if flags.contains(PollFlags::POLLOUT) && !client.flush() {
            self.clients.swap_remove(index);
            return;
        }
        if flags.intersects(PollFlags::POLLIN) || client.early() {
            match client.typed() {
                Typed::Bytes(bytes) => {
                    if self.input.is_some() && !self.closing {
                        self.typed.extend(bytes);
                        self.feed();
                    }
                }
                Typed::Nothing => {}
                // A terminal has no end of input: it is hung up, or somebody types Ctrl-D.
                Typed::End => {
                    if self.stdin_once && self.console.is_none() {
                        self.closing = true;
                        self.feed();
                    }
                }
                Typed::Gone => {
                    self.clients.swap_remove(index);
                    return;
                }
            }
        }
        // Both directions are closed and nothing is left to read: poll(2) would report it for ever.
        if flags.intersects(PollFlags::POLLHUP | PollFlags::POLLERR) && !flags.contains(PollFlags::POLLIN) {
            self.clients.swap_remove(index);
        }
    }

    /// Writes what was typed, and closes the input after it if that is wanted.
    fn feed(&mut self) {
        let Some(input) = &self.input else { return self.typed.clear() };
        while !self.typed.is_empty() {
            let (first, _) = self.typed.as_slices();
            match write(input, first) {
                Ok(written) => drop(self.typed.drain(..written)),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return,
                // It does not read any more.
                Err(_) => {
                    self.typed.clear();
                    self.input = None;
                    return;
                }
            }
        }
        if self.closing {
            self.input = None;
        }
    }

    /// Reads output once: what there is, to the log first.
    fn pass(&mut self, index: usize) {
        let mut buffer = [0; 32 << 10];
        let (stream, fd) = &self.outputs[index];
        let stream = *stream;
        match read(fd, &mut buffer) {
            // EIO is how a terminal says that nobody has it open any more.
            Ok(0) | Err(Errno::EIO) => {
                self.outputs.remove(index);
            }
            Ok(length) => {
                if let Some(log) = &mut self.log
                    && let Err(e) = log.write(stream, &buffer[..length])
                {
                    eprintln!("the log cannot be written: {e}");
                }
                self.clients.retain_mut(|client| {
                    client.give(stream, &buffer[..length]);
                    client.flush()
                });
            }
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(_) => {
                self.outputs.remove(index);
            }
        }
    }

    fn reap(&self) -> Result<Option<i64>> {
        let Some(pidfd) = &self.pidfd else { return Ok(None) };
        Ok(match waitid(Id::PIDFd(pidfd.as_fd()), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG)? {
            WaitStatus::Exited(_, code) => Some(code.into()),
            WaitStatus::Signaled(_, signal, _) => Some(128 + signal as i64),
            _ => None,
        })
    }
}

/// The size of a terminal.
pub(crate) fn set_size(console: &OwnedFd, height: u16, width: u16) {
    let size = libc::winsize { ws_row: height, ws_col: width, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the descriptor is a terminal's and the pointer that of a whole winsize, which the kernel only reads.
    unsafe { libc::ioctl(console.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
}

/// One line, without waiting: a daemon that does not read is on its own.
fn tell(socket: &UnixStream, report: &Report) -> bool {
    let Ok(mut line) = serde_json::to_vec(report) else { return false };
    line.push(b'\n');
    send(socket.as_raw_fd(), &line, MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT) == Ok(line.len())
}
