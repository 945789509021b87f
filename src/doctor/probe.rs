//! Trying something out: as a rule in a child, in namespaces of its own.

use super::{Check, Here};
use nix::{
    errno::Errno,
    sched::{CloneFlags, unshare},
    sys::{
        prctl::set_pdeathsig,
        signal::{Signal, kill, raise},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{ForkResult, Pid, fork, getegid, geteuid, pause},
};
use std::{
    fs,
    io::{Read, Write},
    path::PathBuf,
};

/// What a probe found: a few words, or what went wrong.
pub(super) type Found = Result<String, String>;

/// What was looked at, with what a probe found.
pub(super) fn check(
    group: &'static str,
    name: &str,
    needed_for: &'static str,
    found: Found,
    remedy: &'static str,
) -> Check {
    let here = if found.is_ok() { Here::Yes } else { Here::No };
    let found = found.unwrap_or_else(|why| why);
    Check { group, name: name.to_owned(), here, essential: false, needed_for, found, remedy }
}

/// One without which no container runs.
pub(super) fn essential(check: Check) -> Check {
    Check { essential: true, ..check }
}

/// Runs `attempt` in a child and tells what it found. Whatever it did to its namespaces goes with it.
pub(super) fn in_child(attempt: impl FnOnce() -> Found) -> Found {
    let (mut answer, mut out) = std::io::pipe().map_err(|why| format!("pipe: {why}"))?;
    // SAFETY: the doctor has one thread, so the child may allocate and lock as it likes.
    match unsafe { fork() }.map_err(|errno| words("fork", errno))? {
        ForkResult::Child => {
            drop(answer);
            let text = match attempt() {
                Ok(found) => format!("+{found}"),
                Err(why) => format!("-{why}"),
            };
            let _ = out.write_all(text.as_bytes());
            // SAFETY: ends the child at once; its parent's exit handlers are not its own.
            unsafe { libc::_exit(0) }
        }
        ForkResult::Parent { child } => {
            drop(out);
            let mut text = String::new();
            let _ = answer.read_to_string(&mut text);
            let ended = wait(child);
            match text.split_at_checked(1) {
                Some(("+", found)) => Ok(found.to_owned()),
                Some((_, why)) => Err(why.to_owned()),
                None => Err(format!("the probe ended without an answer ({ended:?})")),
            }
        }
    }
}

/// Does something to a child that stands still in a new namespace, and is killed after it.
pub(super) fn beside(namespace: CloneFlags, act: impl FnOnce(Pid) -> Found) -> Found {
    // SAFETY: the doctor has one thread.
    let child = match unsafe { fork() }.map_err(|errno| words("fork", errno))? {
        ForkResult::Child => {
            // It dies with its parent, should that one not come to killing it.
            let _ = set_pdeathsig(Signal::SIGKILL);
            // If it is refused, what is then done to this child says so.
            let _ = unshare(namespace);
            let _ = raise(Signal::SIGSTOP);
            pause();
            // SAFETY: ends the child at once; its parent's exit handlers are not its own.
            unsafe { libc::_exit(0) }
        }
        ForkResult::Parent { child } => child,
    };
    // Until it stands still.
    let _ = waitpid(child, Some(WaitPidFlag::WUNTRACED));
    let found = act(child);
    let _ = kill(child, Signal::SIGKILL);
    wait(child);
    found
}

/// Waits for a child's end.
fn wait(child: Pid) -> Option<WaitStatus> {
    loop {
        match waitpid(child, None) {
            Err(Errno::EINTR) => {}
            other => return other.ok(),
        }
    }
}

/// Goes into new namespaces: as root directly, as an ordinary user inside a user namespace of one's own.
pub(super) fn enter(flags: CloneFlags) -> Result<(), String> {
    if geteuid().is_root() {
        return unshare(flags).map_err(|errno| words("unshare", errno));
    }
    enter_as_user(flags)
}

/// Goes into new namespaces inside a new user namespace, as its root.
pub(super) fn enter_as_user(flags: CloneFlags) -> Result<(), String> {
    let (uid, gid) = (geteuid(), getegid());
    unshare(flags | CloneFlags::CLONE_NEWUSER).map_err(|errno| words("unshare(CLONE_NEWUSER)", errno))?;
    // Without CAP_SETGID outside, setgroups(2) has to be given up first (user_namespaces(7)).
    for (file, text) in [
        ("/proc/self/setgroups", "deny".to_owned()),
        ("/proc/self/uid_map", format!("0 {uid} 1")),
        ("/proc/self/gid_map", format!("0 {gid} 1")),
    ] {
        fs::write(file, text).map_err(|why| format!("{file}: {why}"))?;
    }
    Ok(())
}

/// The errno by its name: `unshare: EPERM (Operation not permitted)`.
pub(super) fn words(call: &str, errno: Errno) -> String {
    format!("{call}: {errno:?} ({})", errno.desc())
}

/// The errno of a system call, made directly with arguments that no kernel which knows it accepts. `ENOSYS` if it is not there.
pub(super) fn call(number: libc::c_long, arguments: [libc::c_long; 5]) -> Errno {
    let [a, b, c, d, e] = arguments;
    // SAFETY: callers pass only null pointers and invalid descriptors: the kernel refuses before it touches any memory.
    match unsafe { libc::syscall(number, a, b, c, d, e) } {
        -1 => Errno::last(),
        _ => Errno::from_raw(0),
    }
}

/// Where a program is on the PATH, or in the directories that an ordinary user's PATH leaves out.
pub(super) fn program_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories =
        std::env::split_paths(&path).chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from));
    directories.map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// Whether a device can be opened.
pub(super) fn open(path: &str) -> Found {
    let file = fs::OpenOptions::new().read(true).write(true).open(path);
    file.map(|_| String::new()).map_err(|why| why.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_child_found_comes_back() {
        assert_eq!(in_child(|| Ok("fine".into())), Ok("fine".into()));
        assert_eq!(in_child(|| Err("EPERM".into())), Err("EPERM".into()));
    }

    #[test]
    fn a_child_that_dies_is_no_answer() {
        let found = in_child(|| std::process::exit(3));
        assert!(found.unwrap_err().contains("without an answer"));
    }
}
