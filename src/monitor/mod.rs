//! The small process beside each container: makes it, keeps its log and its exit status, and outlives the daemon.
//!
//! It is one thread and one loop, without a runtime: clone(2) wants a single-threaded caller, and there is one such
//! process for every container on the machine. The daemon's other helpers are started the same way.
//!
//! | role | module | lives as long as |
//! |---|---|---|
//! | `container` | [`container`] | the container |
//! | `exec` | [`exec`] | the process of a `docker exec` |
//! | `proxy` | [`proxy`] | its container: carries published ports |
//! | `build` | [`build`] | one build |
//! | `archive` | [`archive`] | one `docker cp` |
//!
//! [`pump`] is the loop; [`visitors`] those who connect, [`clients`] those of them who are attached, [`input`] what they
//! type; [`wire`] is what is said between daemon and monitor.

pub(crate) mod archive;
pub(crate) mod build;
mod clients;
mod container;
mod copy_up;
mod exec;
mod input;
mod proxy;
mod pump;
mod visitors;
pub(crate) mod wire;

use crate::engine::failure::{Failure, Result};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use std::{
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixListener,
    },
    path::Path,
    process::ExitCode,
};

/// The first argument by which the daemon starts it.
pub(crate) const ROLE: &str = "monitor";

/// The monitor's main.
pub(crate) fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(2);
    let role = arguments.next().unwrap_or_default();
    let dir = arguments.next().unwrap_or_default();
    let dir = Path::new(&dir);
    let done = match role.to_str() {
        Some("container") => inherit_listener().and_then(|listener| container::main(dir, listener)),
        Some("exec") => inherit_listener().and_then(|listener| exec::main(dir, listener)),
        Some("proxy") => proxy::main(),
        Some("build") => build::main(dir),
        Some("archive") => archive::main(dir),
        Some("hold-network") => build::hold_network(),
        _ => Err(Failure::bad("this role is for the daemon to start, not for people")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{}", failure.message);
            ExitCode::FAILURE
        }
    }
}

/// The socket that the daemon gave us as standard input, moved out of the way, close-on-exec: no container may have it.
fn inherit_listener() -> Result<UnixListener> {
    // A session of our own: the terminal's Ctrl-C is for the daemon, not for the containers.
    let _ = nix::unistd::setsid();
    let listener = std::io::stdin().as_fd().try_clone_to_owned()?;
    let null = std::fs::File::open("/dev/null")?;
    nix::unistd::dup2_stdin(&null)?;
    let listener = UnixListener::from(listener);
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Makes reads and writes return at once where they would wait.
fn nonblocking(fd: &OwnedFd) -> Result<()> {
    let flags = OFlag::from_bits_truncate(fcntl(fd.as_fd(), FcntlArg::F_GETFL)?);
    fcntl(fd.as_fd(), FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}
