//! A fence around what the reader wrote: mount and other namespaces of its own, so that a mistake in the very functions
//! that make namespaces (no new mount namespace, and then pivot_root) happens in there and not on this machine.

use nix::{
    errno::Errno,
    fcntl::{OFlag, open},
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    sys::{prctl, stat::Mode},
    unistd::{Gid, Uid, getegid, geteuid, setgroups, setresgid, setresuid, write},
};
use std::{os::unix::process::CommandExt, path::PathBuf, process::Command};

const NONE: Option<&str> = None;

/// Puts the command into new namespaces of these kinds and a new mount namespace from which nothing gets out, in which
/// each file of `over` is mounted on another. An ordinary user does it as root of a user namespace.
pub fn around(command: &mut Command, kinds: CloneFlags, over: Vec<(PathBuf, PathBuf)>) {
    let ordinary = !geteuid().is_root();
    let user = if ordinary { CloneFlags::CLONE_NEWUSER } else { CloneFlags::empty() };
    let enter = unshared(user | kinds | CloneFlags::CLONE_NEWNS, geteuid().as_raw(), getegid().as_raw());
    // SAFETY: between fork and exec only system calls are made, on what was made before.
    unsafe {
        command.pre_exec(move || {
            enter()?;
            mount(NONE, "/", NONE, MsFlags::MS_SLAVE | MsFlags::MS_REC, NONE)?;
            for (file, at) in &over {
                mount(Some(file), at, NONE, MsFlags::MS_BIND, NONE)?;
            }
            Ok(())
        });
    }
}

/// What takes a process that is about to execute a program into new namespaces; in a user namespace it is root, and
/// outside still `uid` and `gid`.
pub fn unshared(kinds: CloneFlags, uid: u32, gid: u32) -> impl Fn() -> std::io::Result<()> + Send + Sync {
    let maps = [
        ("/proc/self/setgroups", "deny".to_owned()),
        ("/proc/self/uid_map", format!("0 {uid} 1")),
        ("/proc/self/gid_map", format!("0 {gid} 1")),
    ];
    move || {
        unshare(kinds)?;
        if kinds.contains(CloneFlags::CLONE_NEWUSER) {
            for (file, text) in &maps {
                let file = open(*file, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())?;
                write(file, text.as_bytes())?;
            }
        }
        Ok(())
    }
}

/// Runs the command as an ordinary user of this number, with no groups but that of the same number. Only root can.
pub fn as_user(command: &mut Command, id: u32) {
    // SAFETY: between fork and exec only system calls are made.
    unsafe {
        command.pre_exec(move || {
            setgroups(&[])?;
            let (uid, gid) = (Uid::from_raw(id), Gid::from_raw(id));
            setresgid(gid, gid, gid)?;
            setresuid(uid, uid, uid)?;
            // A change of user makes /proc/self root's; the next step may be to write one's id maps there.
            prctl::set_dumpable(true).map_err(|e: Errno| e.into())
        });
    }
}
