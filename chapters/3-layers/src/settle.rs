//! What a layer needs of the layers below it, done when those are there.

use crate::{
    Error, Result,
    attributes::{Attributes, Owners},
    error::Doing,
    root::{Root, kind, proc_path},
    stack::Stack,
};
use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, AtFlags, OFlag, openat},
    sys::{
        stat::{Mode, SFlag, UtimensatFlags, fstat, utimensat},
        time::TimeSpec,
    },
    unistd::linkat,
};
use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs::File,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

/// What [`crate::unpack::extract`] leaves open. Paths are bytes, from the layer's root.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Unsettled {
    /// Directories that the tar implies but does not hold.
    pub implied: BTreeSet<Vec<u8>>,
    /// Hard links to files that are not in this tar: the link, and what it links to.
    pub links: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Settles it: implied directories get the attributes they have below, and linked files are copied up, as
/// overlayfs itself does when a lower file gets another name.
pub fn settle(root: &Root, unsettled: &Unsettled, parents: &[&Path]) -> Result<()> {
    let below = Stack::open(parents)?;
    let owners = Owners::new(None);
    let mut implied = unsettled.implied.clone();
    for (link, target) in &unsettled.links {
        let (link, target) = (path(link), path(target));
        copy_up(root, &below, target, &owners, &mut implied)?;
        let (to, to_name) = root.parent(link)?;
        let (from, from_name) = root.parent(target)?;
        let made = keeping_time(to.as_fd(), || {
            linkat(&from, from_name.as_os_str(), &to, to_name.as_os_str(), AtFlags::empty())
        });
        match made {
            Err(Errno::EEXIST) => (), // a later entry of that name: the last one wins
            other => other.doing(|| format!("link {} to {}", link.display(), target.display()))?,
        }
    }
    // Deepest first: setting a directory's time comes after everything that would change it.
    for dir in implied.iter().rev().map(|dir| path(dir)) {
        let Ok(fd) = root.raw(dir, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW, 0) else {
            continue; // replaced by a later entry
        };
        let attributes = match below.find(dir)? {
            Some(shown) if kind(&shown.stat) == SFlag::S_IFDIR => {
                Attributes::read(shown.fd.as_fd(), &shown.stat)
            }
            // New here, and nobody says how it should be: as docker has it, and the same every time.
            _ => Attributes { mode: 0o755, ..Attributes::default() },
        };
        owners
            .set_directory(fd.as_fd(), &attributes)
            .doing(|| format!("set the attributes of {}", dir.display()))?;
    }
    Ok(())
}

/// Brings a file of the layers below into this one.
fn copy_up(
    root: &Root,
    below: &Stack,
    file: &Path,
    owners: &Owners,
    implied: &mut BTreeSet<Vec<u8>>,
) -> Result<()> {
    if root.exists(file) {
        return Ok(());
    }
    let missing = || Error::Entry {
        entry: file.display().to_string(),
        why: "a hard link names it, and neither this layer nor one below has such a file".into(),
    };
    let shown = below.find(file)?.ok_or_else(missing)?;
    if kind(&shown.stat) != SFlag::S_IFREG {
        return Err(missing());
    }
    let doing = || format!("copy up {}", file.display());
    let parent = root.make_dirs(file.parent().unwrap_or(Path::new("")), 0o755, &mut |made| {
        let inside = made.strip_prefix("/").unwrap_or(made);
        implied.insert(inside.as_os_str().as_bytes().to_vec());
    })?;
    let name = file.file_name().unwrap_or_default();
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let open = || openat(&parent, name, flags, Mode::from_bits_truncate(0o600));
    let mut to: File = match keeping_time(parent.as_fd(), open) {
        Err(Errno::EEXIST) => return Ok(()),
        other => other.doing(doing)?.into(),
    };
    let mut from = below.roots()[shown.layer].read(file)?;
    std::io::copy(&mut from, &mut to).doing(doing)?;
    owners.set(to.as_fd(), &Attributes::read(shown.fd.as_fd(), &shown.stat)).doing(doing)
}

/// Makes something in a directory whose time is set already, and must stay.
fn keeping_time<T>(dir: BorrowedFd, make: impl FnOnce() -> nix::Result<T>) -> nix::Result<T> {
    let before = fstat(dir)?;
    let made = make()?;
    let time = TimeSpec::new(before.st_mtime, before.st_mtime_nsec);
    utimensat(AT_FDCWD, proc_path(dir).as_path(), &time, &time, UtimensatFlags::FollowSymlink)?;
    Ok(made)
}

fn path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}
