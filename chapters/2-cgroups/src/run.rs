//! `run`: create, start, wait, delete. The container's exit code becomes ours, signals sent to us go to it, and if it
//! has a terminal, ours is joined to it.

use crate::{
    cli::{Global, Run},
    oci,
};
use anyhow::Result;
use namespaces::{
    foreground::{self, Signals},
    terminal::size,
};

/// Does it.
pub(crate) fn run(global: &Global, options: &Run) -> Result<i32> {
    let runtime = oci::runtime(global)?;
    let id = &options.create.id;
    // Signals from now on are the container's.
    let signals = if options.detach { None } else { Some(Signals::take()?) };
    let created = oci::create(global, &options.create, options.detach)?;
    // From here on what is left of it is ours to remove, however this ends.
    let end = || -> Result<i32> {
        if let (Some(console), Some((rows, columns))) = (&created.console, size(std::io::stdin())) {
            // Before the start, or the program would find a terminal without a size.
            let _ = namespaces::terminal::resize(console, rows, columns);
        }
        created.start()?;
        match signals {
            None => Ok(0),
            Some(signals) => {
                Ok(foreground::wait(created.pid, &created.pidfd, created.console.as_ref(), signals)?)
            }
        }
    };
    let code = end();
    if code.is_err() || !(options.detach || options.keep) {
        runtime.delete(id, true)?;
    }
    code
}
