//! Hooks: programs that the configuration has run at fixed moments of a container's life
//! (config.md, "POSIX-platform Hooks"). Each reads the container's state from standard input.

use crate::{
    Error, Result,
    error::{Doing, invalid},
    sys,
};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::memfd::{MFdFlags, memfd_create},
    unistd::Pid,
};
use oci_spec::runtime::Hook;
use std::{
    fs::File,
    io::{Read, Seek, Write},
    os::{
        fd::AsFd,
        unix::process::{CommandExt, ExitStatusExt},
    },
    process::{Child, Command},
    time::{Duration, Instant},
};

/// Runs hooks one after the other, until one fails. Whether that is fatal depends on the kind of
/// hook and is the caller's to know; the kind is for the message, which is runc's.
pub fn run(kind: &str, hooks: &[Hook], state: &[u8]) -> Result<()> {
    hooks.iter().enumerate().try_for_each(|(number, hook)| {
        run_one(hook, state)
            .map_err(|error| Error::Hook(format!("error running {kind} hook #{number}: {error}")))
    })
}

fn run_one(hook: &Hook, state: &[u8]) -> Result<()> {
    let path = hook.path();
    if !path.is_absolute() {
        return invalid(format!("the hook {} has no absolute path", path.display()));
    }
    if hook.timeout().is_some_and(|t| t <= 0) {
        return invalid(format!("the hook {} has a timeout that is not above zero", path.display()));
    }
    let doing = || format!("run the hook {}", path.display());
    // Files in memory, not pipes: neither a hook that does not read nor one that writes much blocks.
    let mut input = memory("state").doing(doing)?;
    input.write_all(state).and_then(|()| input.rewind()).doing(doing)?;
    let mut output = memory("output").doing(doing)?;
    let mut command = Command::new(path);
    if let Some((name, args)) = hook.args().as_deref().and_then(<[String]>::split_first) {
        command.arg0(name).args(args);
    }
    // Exactly the hook's environment, not one variable of ours besides. One that has none at all has ours, as with runc and
    // crun.
    if let Some(env) = hook.env() {
        command.env_clear();
        command.envs(env.iter().filter_map(|variable| variable.split_once('=')));
    }
    command.stdin(input);
    command.stdout(output.try_clone().doing(doing)?);
    command.stderr(output.try_clone().doing(doing)?);
    let mut child = command.spawn().doing(doing)?;
    let limit = hook.timeout().map(|t| Duration::from_secs(t as u64));
    if !finished(&child, limit)? {
        let _ = child.kill();
        let _ = child.wait();
        let seconds = limit.unwrap_or_default().as_secs();
        return Err(Error::Invalid(format!(
            "the hook {} did not end in {seconds} s: killed",
            path.display()
        )));
    }
    let status = child.wait().doing(doing)?;
    if status.success() {
        return Ok(());
    }
    let mut said = Vec::new();
    let _ = output.rewind().and_then(|()| output.take(4096).read_to_end(&mut said));
    let how = match status.signal() {
        Some(libc::SIGSYS) => "was killed by the seccomp filter (bad system call)".to_owned(),
        Some(signal) => format!("was killed by signal {signal}"),
        None => format!("failed with exit code {}", status.code().unwrap_or(-1)),
    };
    invalid(format!("the hook {} {how}: {}", path.display(), String::from_utf8_lossy(&said).trim()))
}

/// Waits for the process to end, at most so long. A pidfd is readable when it has (pidfd_open(2)).
fn finished(child: &Child, limit: Option<Duration>) -> Result<bool> {
    let Some(limit) = limit else { return Ok(true) };
    let doing = || "wait for a hook".to_owned();
    let pidfd = sys::pidfd_open(Pid::from_raw(child.id() as i32)).doing(doing)?;
    let end = Instant::now() + limit;
    loop {
        let left = end.saturating_duration_since(Instant::now()).as_millis().min(i32::MAX as u128);
        let timeout = PollTimeout::try_from(left as i32).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)], timeout) {
            Err(nix::errno::Errno::EINTR) => continue,
            ready => return Ok(ready.doing(doing)? > 0),
        }
    }
}

fn memory(name: &str) -> nix::Result<File> {
    memfd_create(name, MFdFlags::MFD_CLOEXEC).map(File::from)
}
