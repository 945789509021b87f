//! Signals that the client gets while it is attached: most are the container's.

use anyhow::Result;
use nix::sys::{
    signal::{SigSet, Signal},
    signalfd::{SfdFlags, SignalFd},
};
use tokio::io::unix::AsyncFd;

/// Signals as a stream. They are blocked (signalfd(2)), so that none is lost between two reads and none
/// ends the client while it holds a terminal in raw mode.
pub(crate) struct Signals(AsyncFd<SignalFd>);

impl Signals {
    /// Everything that can be sent on. Not SIGCHLD and SIGPIPE, which are about the client itself, and
    /// not the faults.
    pub(crate) fn all() -> Result<Signals> {
        use Signal::{
            SIGABRT, SIGBUS, SIGCHLD, SIGFPE, SIGILL, SIGKILL, SIGPIPE, SIGSEGV, SIGSTOP, SIGSYS, SIGTRAP,
            SIGURG,
        };
        let mut set = SigSet::all();
        for kept in [
            SIGABRT, SIGBUS, SIGCHLD, SIGFPE, SIGILL, SIGKILL, SIGPIPE, SIGSEGV, SIGSTOP, SIGSYS, SIGTRAP,
            SIGURG,
        ] {
            set.remove(kept);
        }
        Signals::of(&set)
    }

    /// Those that would end the client, and SIGWINCH.
    pub(crate) fn fatal() -> Result<Signals> {
        Signals::of(&SigSet::from_iter([
            Signal::SIGHUP,
            Signal::SIGINT,
            Signal::SIGQUIT,
            Signal::SIGTERM,
            Signal::SIGWINCH,
        ]))
    }

    fn of(set: &SigSet) -> Result<Signals> {
        // Before any thread is made: a thread inherits the mask, and a signal goes to any thread that does not block it.
        set.thread_block()?;
        let fd = SignalFd::with_flags(set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        // SAFETY: a SignalFd owns its descriptor, and it is the same one until it is dropped.
        Ok(Signals(unsafe { AsyncFd::register(fd)? }))
    }

    /// The next signal.
    pub(crate) async fn next(&mut self) -> Result<Signal> {
        loop {
            let mut ready = self.0.readable_mut().await?;
            match ready.get_inner_mut().read_signal()? {
                Some(info) => {
                    if let Ok(signal) = Signal::try_from(i32::try_from(info.ssi_signo)?) {
                        return Ok(signal);
                    }
                }
                None => ready.clear_ready(),
            }
        }
    }
}
