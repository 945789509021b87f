//! Removing a tree that somebody else made.

use super::{chmod_path, fresh, walk::names};
use nix::{
    errno::Errno,
    fcntl::{OFlag, openat},
    sys::stat::{Mode, fchmod},
    unistd::{UnlinkatFlags, unlinkat},
};
use std::{
    ffi::{OsStr, OsString},
    os::fd::{AsFd, BorrowedFd},
};

/// How many directories are held open at once, one inside the other; what lies deeper is first moved up.
const MAX_OPEN: usize = 64;

/// Removes `name` in `parent`, whatever it is, and never anything else: every step is taken from an open
/// directory, and nothing is followed. Any depth: neither descriptors nor the stack bound it.
pub(crate) fn remove_at(parent: BorrowedFd, name: &OsStr) -> nix::Result<()> {
    match unlinkat(parent, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => return Ok(()),
        // Linux says EISDIR for a directory; POSIX allows EPERM.
        Err(Errno::EISDIR | Errno::EPERM) => (),
        Err(errno) => return Err(errno),
    }
    let mut todo = vec![name.to_owned()];
    while let Some(name) = todo.pop() {
        let mut move_up = |dir: BorrowedFd, deep: &OsStr| {
            let aside = OsString::from(format!(".remove-{}-{}", std::process::id(), fresh()));
            nix::fcntl::renameat(dir, deep, parent, aside.as_os_str())?;
            todo.push(aside);
            Ok(())
        };
        remove_dir(parent, &name, MAX_OPEN, &mut move_up)?;
    }
    Ok(())
}

type MoveUp<'a> = dyn FnMut(BorrowedFd, &OsStr) -> nix::Result<()> + 'a;

fn remove_dir(parent: BorrowedFd, name: &OsStr, depth: usize, move_up: &mut MoveUp) -> nix::Result<()> {
    if depth == 0 {
        return move_up(parent, name);
    }
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let dir = match openat(parent, name, flags, Mode::empty()) {
        // Ours, but closed to us (an ordinary user removing a layer with a directory of mode 0).
        Err(Errno::EACCES) => {
            let path = openat(parent, name, OFlag::O_PATH | OFlag::O_NOFOLLOW, Mode::empty())?;
            chmod_path(path.as_fd(), 0o700)?;
            openat(parent, name, flags, Mode::empty())?
        }
        other => other?,
    };
    let mut opened = false;
    for entry in names(dir.as_fd(), OsStr::new("."))? {
        loop {
            match unlinkat(&dir, entry.as_os_str(), UnlinkatFlags::NoRemoveDir) {
                Ok(()) | Err(Errno::ENOENT) => break,
                Err(Errno::EISDIR | Errno::EPERM) => {
                    remove_dir(dir.as_fd(), &entry, depth - 1, move_up)?;
                    break;
                }
                Err(Errno::EACCES) if !opened => {
                    fchmod(&dir, Mode::from_bits_truncate(0o700))?;
                    opened = true;
                }
                Err(errno) => return Err(errno),
            }
        }
    }
    match unlinkat(parent, name, UnlinkatFlags::RemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(errno) => Err(errno),
    }
}
