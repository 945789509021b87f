//! Running what the reader wrote: for a limited time, and ended with all that it started, also what
//! has left its process group or lost its parent: orphans become children of the sandbox's first process.

use crate::sandbox;
use anyhow::Result;
use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};
use std::{
    io::Read,
    os::unix::process::CommandExt,
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

/// How long a check may take.
const LIMIT: Duration = Duration::from_secs(10);

/// As many times as long as this says, on a machine that is that much slower: one in software, for instance.
const SLOW: &str = "TEU_LAB_SLOW";

/// A time of a check, on this machine.
pub fn limit(usual: Duration) -> Duration {
    let times = std::env::var(SLOW).ok().and_then(|times| times.parse::<u32>().ok()).unwrap_or(1);
    usual * times.clamp(1, 100)
}

/// A program that runs. Dropped, it and its process group are killed.
pub struct Running {
    child: Child,
    started: Instant,
    reaped: bool,
}

/// How it ended.
#[derive(Debug)]
pub struct Ended {
    /// Its status; none if its time was over.
    pub status: Option<ExitStatus>,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl Ended {
    /// Its exit code, 128 and the signal if one killed it; none if its time was over.
    pub fn code(&self) -> Option<i32> {
        use std::os::unix::process::ExitStatusExt;
        self.status.map(|s| s.signal().map_or_else(|| s.code().unwrap_or(-1), |n| 128 + n))
    }

    /// Told in one line.
    pub fn tell(&self) -> String {
        let code = self.code().map_or("no end within its time".into(), |c| format!("exit status {c}"));
        let panic = self.stderr.lines().find(|l| l.contains("not yet implemented"));
        let last = panic
            .or_else(|| self.stderr.lines().rfind(|l| !l.trim().is_empty() && !l.contains("RUST_BACKTRACE")));
        last.map_or_else(|| code.clone(), |l| format!("{code}; it said: {}", l.trim()))
    }

    /// Whether the function is still as it was given out.
    pub fn untouched(&self) -> bool {
        self.stderr.contains("not yet implemented") && self.stderr.contains("cargo lab show")
    }
}

/// Starts it.
pub fn start(command: &mut Command) -> Result<Running> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let child = sandbox::spawn(command)?;
    Ok(Running { child, started: Instant::now(), reaped: false })
}

impl Running {
    /// Its process ID.
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Looks until `fact` gives something, or the program ends, or its time is over.
    pub fn watch<T>(&mut self, mut fact: impl FnMut(i32) -> Option<T>) -> Result<Option<T>> {
        while self.started.elapsed() < limit(LIMIT) {
            if let Some(found) = fact(self.pid()) {
                return Ok(Some(found));
            }
            if self.child.try_wait()?.is_some() {
                return Ok(None);
            }
            // What is waited for is a state of /proc, which cannot be waited on.
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(None)
    }

    /// Closes its standard input and waits for its end; what it started still runs then.
    pub fn finish(&mut self) -> Result<()> {
        drop(self.child.stdin.take());
        self.watch(|_| None::<()>).map(drop)
    }

    /// Closes its standard input and waits for its end.
    pub fn end(mut self) -> Result<Ended> {
        drop(self.child.stdin.take());
        let read = |pipe: Option<Box<dyn Read + Send>>| {
            std::thread::spawn(move || {
                let mut bytes = Vec::new();
                if let Some(pipe) = pipe {
                    // A program that prints without end is not a reason to run out of memory.
                    let _ = pipe.take(1 << 20).read_to_end(&mut bytes);
                }
                String::from_utf8_lossy(&bytes).into_owned()
            })
        };
        let stdout = read(self.child.stdout.take().map(|p| Box::new(p) as _));
        let stderr = read(self.child.stderr.take().map(|p| Box::new(p) as _));
        let mut status = None;
        while status.is_none() && self.started.elapsed() < limit(LIMIT) {
            status = self.child.try_wait()?;
            // The standard library has no wait with a limit.
            std::thread::sleep(Duration::from_millis(5));
        }
        self.kill();
        let text = |t: std::thread::JoinHandle<String>| t.join().unwrap_or_default();
        Ok(Ended { status, stdout: text(stdout), stderr: text(stderr) })
    }

    fn kill(&mut self) {
        if !std::mem::replace(&mut self.reaped, true) {
            // The group may be gone already: then there is nothing to do.
            let _ = killpg(Pid::from_raw(self.pid()), Signal::SIGKILL);
            while matches!(self.child.try_wait(), Ok(None)) {
                sandbox::thaw();
            }
            end_orphans();
        }
    }
}

/// Kills what has lost its parent: it may hold the pipes that are read to their end. An end makes new orphans of what was
/// below, so until there are none; the first process of the check does not wait for its children, so the kernel reaps them.
fn end_orphans() {
    let begun = Instant::now();
    loop {
        let orphans = sandbox::orphans();
        if orphans.is_empty() || begun.elapsed() > limit(LIMIT) {
            return;
        }
        for pid in orphans.into_iter().map(Pid::from_raw) {
            // It may have ended meanwhile.
            let _ = kill(pid, Signal::SIGKILL);
        }
        // The end of another's child is not told to us.
        sandbox::thaw();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}
