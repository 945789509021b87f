//! `tmpcopyup`: a new tmpfs starts with what the image has at its place. It is mounted already,
//! so the image's directory is seen through a descriptor from before.

use crate::{
    Result,
    error::Doing,
    inside::{self, Kind},
    mounts::file_kind,
};
use nix::{
    dir::Dir,
    errno::Errno,
    fcntl::{AtFlags, OFlag, openat, readlinkat},
    sys::stat::{Mode, SFlag, fchmod, fstat, mkdirat, mknodat},
    unistd::{Gid, Uid, fchownat, symlinkat},
};
use std::{
    ffi::CStr,
    fs::File,
    io,
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

/// Copies what `below` (a handle of the covered directory) holds into the tmpfs at `to`.
pub(crate) fn fill(root: &OwnedFd, to: &Path, below: &OwnedFd) -> Result<()> {
    let tmpfs = inside::make(root, to, Kind::Dir)?;
    copy_dir(below, &tmpfs, 0).doing(|| format!("copy the image's {} into its tmpfs", to.display()))
}

fn copy_dir(from: &OwnedFd, to: &OwnedFd, depth: u32) -> nix::Result<()> {
    if depth > 100 {
        return Err(Errno::ELOOP);
    }
    // A handle to look up from is no handle to read: open the directory itself.
    let mut dir = Dir::openat(from, ".", OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    let names = dir.iter().collect::<nix::Result<Vec<_>>>()?;
    for name in names.iter().map(nix::dir::Entry::file_name).filter(|n| *n != c"." && *n != c"..") {
        copy_one(from, to, name, depth)?;
    }
    let stat = fstat(from)?;
    let to = openat(to, ".", OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    fchmod(&to, Mode::from_bits_truncate(stat.st_mode & 0o7777))
}

fn copy_one(from: &OwnedFd, to: &OwnedFd, name: &CStr, depth: u32) -> nix::Result<()> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let there = openat(from, name, flags, Mode::empty())?;
    let stat = fstat(&there)?;
    let mode = Mode::from_bits_truncate(stat.st_mode & 0o7777);
    match file_kind(&there)? {
        SFlag::S_IFDIR => {
            mkdirat(to, name, mode)?;
            let made = openat(to, name, flags, Mode::empty())?;
            copy_dir(&there, &made, depth + 1)?;
        }
        SFlag::S_IFLNK => symlinkat(readlinkat(&there, c"")?.as_os_str(), to, name)?,
        SFlag::S_IFREG => {
            let read = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
            let mut source = File::from(openat(from, name, read, Mode::empty())?);
            let write = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
            let mut target = File::from(openat(to, name, write, mode)?);
            io::copy(&mut source, &mut target)
                .map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO)))?;
            fchmod(target.as_fd(), mode)?;
        }
        kind => mknodat(to, name, kind, mode, stat.st_rdev)?,
    }
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    fchownat(to, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)
}
