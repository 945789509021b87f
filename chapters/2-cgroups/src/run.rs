//! `run`: create, start, wait, delete. The container's exit code becomes ours, signals sent to us go to it, and if it
//! has a terminal, ours is joined to it.

use crate::{
    cli::{Global, Run},
    oci,
};
use anyhow::Result;
use cgroups::notify::Relay;
use namespaces::{
    foreground::{self, Signals},
    terminal::size,
};

/// Does it.
pub(crate) fn run(global: &Global, options: &Run) -> Result<i32> {
    // Signals from now on are the container's.
    let signals = if options.detach { None } else { Some(Signals::take()?) };
    let created = oci::create(global, &options.create, options.detach)?;
    // From here on what is left of it is ours to remove, however this ends.
    let end = || -> Result<i32> {
        if let (Some(console), Some((rows, columns))) = (&created.console, size(std::io::stdin())) {
            // Before the start, or the program would find a terminal without a size.
            let _ = namespaces::terminal::resize(console, rows, columns);
        }
        let relay = created.relay()?;
        created.start()?;
        let Some(signals) = signals else { return Ok(relay.map_or(Ok(()), Relay::wait).map(|()| 0)?) };
        let relaying = relay.map(|relay| std::thread::spawn(|| relay.wait()));
        let code = foreground::wait(created.pid, &created.pidfd, created.console.as_ref(), signals)?;
        // It ends with the container's first process; a manager that is gone is none of the container's business.
        if let Some(Ok(Err(error))) = relaying.map(std::thread::JoinHandle::join) {
            tracing::warn!("{error}");
        }
        Ok(code)
    };
    let code = end();
    if code.is_err() || !(options.detach || options.keep) {
        created.delete()?;
    }
    code
}
