//! A process in namespaces of its own, to be joined or connected by what is checked.

use crate::{course::Case, facts, fence, sandbox};
use anyhow::{Context, Result, bail};
use nix::{
    sched::CloneFlags,
    unistd::{getegid, geteuid},
};
use std::{
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

/// The process and its shell. Both end when this is dropped.
pub struct Neighbour {
    shell: Child,
    /// It is `cat`, the first process of its pid namespace if that is new; as we see it.
    pub pid: i32,
}

impl Neighbour {
    /// Starts one in new namespaces of these kinds, as this user (root can choose; none is whoever we are). In a user
    /// namespace it is root.
    pub fn start(case: &Case, kinds: CloneFlags, user: Option<u32>) -> Result<Neighbour> {
        // The shell forks `cat` since it has something to do afterwards: after unshare(2) it is children that are in a
        // new pid namespace.
        let mut command = case.sandbox.command(Path::new("/bin/sh"));
        command.args(["-c", "cat; :"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        if let Some(id) = user {
            fence::as_user(&mut command, id);
        }
        let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
        let enter = fence::unshared(kinds, user.unwrap_or(uid), user.unwrap_or(gid));
        // SAFETY: between fork and exec only system calls are made, on what was made before.
        unsafe {
            command.pre_exec(enter);
        }
        let shell = sandbox::spawn(&mut command).context("start a process in new namespaces")?;
        let mut neighbour = Neighbour { shell, pid: 0 };
        let start = Instant::now();
        while start.elapsed() < crate::run::limit(Duration::from_secs(5)) {
            let ready = |pid: &i32| facts::status(*pid, "Name").as_deref() == Some("cat");
            if let Some(pid) = facts::children(neighbour.shell.id() as i32).into_iter().find(ready) {
                neighbour.pid = pid;
                return Ok(neighbour);
            }
            // A state of /proc cannot be waited on.
            std::thread::sleep(Duration::from_millis(2));
        }
        bail!("the process in new namespaces does not start")
    }

    /// What the program calls it.
    pub fn number(&self) -> i32 {
        facts::inside(self.pid).unwrap_or_default()
    }

    /// The file by which a namespace of it is joined, as the program finds it.
    pub fn namespace(&self, kind: &str) -> String {
        format!("/proc/{}/ns/{kind}", self.number())
    }

    /// Whether it runs still.
    pub fn lives(&self) -> bool {
        facts::status(self.pid, "State").is_some_and(|s| !s.starts_with('Z'))
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        // `cat` ends with its input. Both may be gone already, reaped with what was checked.
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}
