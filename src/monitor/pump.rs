//! The loop of a monitor: output to the log and to those who are attached, what they type to the container, orders
//! from the daemon, and the end.

use super::{
    clients::{Client, Typed},
    input::Input,
    nonblocking,
    visitors::Visitors,
    wire::{Order, Report},
};
use crate::engine::{failure::Result, logs};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::wait::{Id, WaitPidFlag, WaitStatus, waitid},
    unistd::read,
};
use std::{
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::net::UnixListener,
    },
    time::{Duration, Instant},
};

/// How long output is waited for after the end, if somebody beyond our reach holds the pipe open.
const DRAIN: Duration = Duration::from_secs(2);

/// How long a client may take for the last of it.
const FAREWELL: Duration = Duration::from_secs(10);

/// The loop's state.
pub(crate) struct Pump {
    visitors: Visitors,
    clients: Vec<Client>,
    log: Option<logs::Writer>,
    /// The first process, and its end.
    pidfd: Option<OwnedFd>,
    exit_code: Option<i64>,
    /// Its output: the stream's number, and where to read it.
    outputs: Vec<(u8, OwnedFd)>,
    input: Input,
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
            visitors: Visitors::new(listener),
            clients: Vec::new(),
            log: None,
            pidfd: None,
            exit_code: None,
            outputs: Vec::new(),
            input: Input::default(),
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
        mut input: Option<OwnedFd>,
        mut outputs: Vec<(u8, OwnedFd)>,
        console: Option<OwnedFd>,
    ) -> Result<()> {
        if let Some(console) = console {
            outputs = vec![(1, console.try_clone()?)];
            input = Some(console.try_clone()?);
            self.console = Some(console);
        }
        for fd in input.iter().chain(outputs.iter().map(|(_, fd)| fd)) {
            nonblocking(fd)?;
        }
        self.input.connect(input);
        self.outputs = outputs;
        Ok(())
    }

    /// Takes in all who have connected so far: before the program runs, so that they get its first byte.
    pub(crate) fn meet(&mut self) -> Result<()> {
        for client in self.visitors.meet() {
            self.attach(client);
        }
        Ok(())
    }

    /// Tells the daemon, now and whenever one connects later.
    pub(crate) fn report(&mut self, report: Report) {
        self.visitors.report(report);
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
        while !self.heard && self.visitors.supervised() && Instant::now() < until {
            self.turn(Some(until))?;
        }
        Ok(())
    }

    /// Lets the clients have the last of it, and goes.
    pub(crate) fn farewell(mut self) -> Result<()> {
        self.input.close();
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
                Watch::Stranger(index) => {
                    if let Some(client) = self.visitors.hear(index) {
                        self.attach(client);
                    }
                }
                Watch::Input => self.input.feed(),
                Watch::Output(index) => self.pass(index),
                Watch::Process => self.exit_code = self.reap()?,
                Watch::Listener => self.visitors.accept(),
            }
        }
        self.clients.retain(|c| !c.hopeless());
        Ok(())
    }

    fn watches(&self, room: bool) -> Vec<(Watch, PollFd<'_>)> {
        let mut all = vec![(Watch::Listener, PollFd::new(self.visitors.listener(), PollFlags::POLLIN))];
        let mut watch = |what, fd, flags| all.push((what, PollFd::new(fd, flags)));
        if let Some(pidfd) = self.pidfd.as_ref().filter(|_| self.exit_code.is_none()) {
            watch(Watch::Process, pidfd.as_fd(), PollFlags::POLLIN);
        }
        if room {
            for (index, (_, fd)) in self.outputs.iter().enumerate() {
                watch(Watch::Output(index), fd.as_fd(), PollFlags::POLLIN);
            }
        }
        if let Some(input) = self.input.waiting() {
            watch(Watch::Input, input, PollFlags::POLLOUT);
        }
        for (index, stranger) in self.visitors.strangers().enumerate() {
            watch(Watch::Stranger(index), stranger, PollFlags::POLLIN);
        }
        for (index, control) in self.visitors.controls().enumerate() {
            watch(Watch::Control(index), control, PollFlags::POLLIN);
        }
        let hungry = self.input.hungry();
        for (index, client) in self.clients.iter().enumerate() {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::POLLIN, client.types() && hungry);
            flags.set(PollFlags::POLLOUT, client.behind());
            watch(Watch::Client(index), client.fd(), flags);
        }
        all
    }

    fn attach(&mut self, client: Client) {
        let early = client.early();
        self.clients.push(client);
        if early {
            self.serve(self.clients.len() - 1, PollFlags::POLLIN);
        }
    }

    fn obey(&mut self, index: usize) {
        for order in self.visitors.orders(index) {
            match order {
                Order::Signal(number) => self.signal(number),
                Order::Resize { height, width } => self.resize(height, width),
                Order::Heard => self.heard = true,
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
            // A terminal that is hung up has no size any more, and nobody who would look at it.
            let _ = namespaces::terminal::resize(console, height, width);
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
                Typed::Bytes(bytes) => self.input.take(&bytes),
                Typed::Nothing => {}
                // A terminal has no end of input: it is hung up, or somebody types Ctrl-D.
                Typed::End => {
                    if self.stdin_once && self.console.is_none() {
                        self.input.finish();
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
