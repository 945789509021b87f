//! The compiler works for the reader too: what it is given may make it compute without end (a constant is a program), or want
//! all of the memory. So it runs within limits, and with its grader it ends, like the programs that it makes.

use super::{keeper::held, limits};
use anyhow::{Context, Result, anyhow, bail};
use nix::{
    errno::Errno,
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sched::{CloneFlags, unshare},
    sys::{prctl, resource::Resource, signal::Signal},
    unistd::Pid,
};
use std::{
    io,
    os::{
        fd::AsFd,
        unix::process::{CommandExt, ExitStatusExt},
    },
    process::{Command, Output},
};

/// Seconds of CPU time of each process: a crate of the engine takes three, its largest library twenty.
const CPU: u64 = 120;

/// The variable that sets another number of seconds.
const SECONDS: &str = "TEU_LAB_COMPILE_SECONDS";

/// Bytes of memory of each process.
const MEMORY: u64 = 4 << 30;

/// The largest file that it writes.
const FILE: u64 = 1 << 30;

/// Runs a compiler to its end, in a pid namespace of which it is the first process: nothing that it starts outlives it.
pub fn compile(command: &mut Command) -> Result<Output> {
    let cpu = std::env::var(SECONDS).ok().and_then(|s| s.parse().ok()).unwrap_or(CPU);
    let grader = held(Pid::this()).context("hold this process")?;
    // Where it keeps what it needs for a moment: killed, it leaves that, and the next grader finds it by its name.
    let dir = super::place()?;
    command.env("TMPDIR", dir.path());
    // SAFETY: between fork and exec only system calls are made, on what was made before.
    unsafe {
        command.pre_exec(move || {
            // When the thread that starts it ends (prctl(2)), and that waits below; unless it has ended already.
            prctl::set_pdeathsig(Signal::SIGKILL)?;
            let mut end = [PollFd::new(grader.as_fd(), PollFlags::POLLIN)];
            if poll(&mut end, PollTimeout::ZERO)? > 0 {
                return Err(Errno::ESRCH.into());
            }
            bound(cpu)
        });
    }
    let output = std::thread::scope(|threads| {
        let run = || {
            unshare(CloneFlags::CLONE_NEWPID).context("make a pid namespace for the compiler")?;
            command.output().context("cargo does not start")
        };
        threads.spawn(run).join()
    });
    let mut output = output.unwrap_or_else(|_| Err(anyhow!("the thread that compiles has panicked")))?;
    super::unless_ending();
    if let Some(signal) = output.status.signal() {
        bail!("cargo was ended by signal {signal}");
    }
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() && ended_by_limit(&said) {
        // Behind it stands the whole command, with this machine's paths.
        let said = said.split("\nCaused by:").next().unwrap_or_default();
        let gib = MEMORY >> 30;
        let told = format!(
            "{said}\nthe compiler was ended: it may compute for {cpu} seconds and have {gib} GiB of memory for a crate\n"
        );
        output.stderr = told.into_bytes();
    }
    Ok(output)
}

fn bound(cpu: u64) -> io::Result<()> {
    let limits = [
        (Resource::RLIMIT_CORE, 0, 0),
        // First the signal that says what it is about.
        (Resource::RLIMIT_CPU, cpu, cpu + 5),
        (Resource::RLIMIT_AS, MEMORY, MEMORY),
        (Resource::RLIMIT_FSIZE, FILE, FILE),
    ];
    limits.into_iter().try_for_each(|(resource, soft, hard)| limits::lower(resource, soft, hard))
}

/// Cargo tells by which signal a compiler ended, some with their names; out of memory is an abort.
fn ended_by_limit(said: &str) -> bool {
    [libc::SIGXCPU, libc::SIGKILL, libc::SIGABRT, libc::SIGXFSZ]
        .iter()
        .any(|n| said.contains(&format!("(signal: {n})")) || said.contains(&format!("(signal: {n}, ")))
}
