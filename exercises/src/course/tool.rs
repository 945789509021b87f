//! What the exercises of chapters 3 to 5 share: a program that is run to its end, or serves until it is stopped.

use super::Case;
use crate::{
    order::{self, Order},
    run::{self, Ended, Running},
    verdict::Verdict,
    wire,
};
use anyhow::Result;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::net::SocketAddr;

/// Runs the chapter's program to its end.
pub(super) fn ran(case: &Case, arguments: &[&str]) -> Result<Ended> {
    run::start(case.command().args(arguments))?.end()
}

/// Whether it ended well.
pub(super) fn well(ended: &Ended) -> bool {
    ended.code() == Some(0)
}

/// Whether it said no: neither well, nor by a panic or a signal, nor by the end of its time.
pub(super) fn refused(ended: &Ended) -> bool {
    ended.code().is_some_and(|code| (1..=100).contains(&code))
}

/// The verdict on a program that should have ended well.
pub(super) fn unwell(expected: &str, ended: &Ended, hint: &str) -> Verdict {
    let hint = if ended.untouched() { "the function is still empty" } else { hint };
    Verdict::failed(expected, ended.tell(), hint)
}

/// A program that serves.
pub(super) struct Service {
    running: Running,
    /// Where.
    pub(super) address: SocketAddr,
}

/// Starts a program that is to listen on a loopback port; the other result is why it does not. The kernel tells in which order
/// it syncs and renames; nothing where it cannot.
pub(super) fn serve_in_order(
    case: &Case,
    arguments: &[&str],
) -> Result<(Result<Service, Verdict>, Option<Order>)> {
    let mut command = case.command();
    command.args(arguments);
    let listening = order::listen(&mut command)?;
    let running = run::start(&mut command)?;
    let order = listening.begin()?;
    Ok((listens(running)?, order))
}

fn listens(mut running: Running) -> Result<Result<Service, Verdict>> {
    match running.watch(wire::listening)? {
        Some(address) => Ok(Ok(Service { running, address })),
        None => Ok(Err(unwell("the program listens", &running.end()?, "does it end before it listens?"))),
    }
}

impl Service {
    /// Kills it at once, as a power cut would, and tells what it said.
    pub(super) fn kill(self) -> Result<Ended> {
        // It may have ended by itself: that is told too.
        let _ = kill(Pid::from_raw(self.running.pid()), Signal::SIGKILL);
        self.running.end()
    }
}
