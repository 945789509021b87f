//! Walking a tree that somebody else made, and may be changing.

use super::{Root, kind};
use crate::{Result, error::Doing};
use nix::{
    dir::Dir,
    errno::Errno,
    fcntl::{AtFlags, OFlag},
    sys::stat::{FileStat, Mode, SFlag, fstatat},
};
use std::{
    ffi::{OsStr, OsString},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::{OsStrExt, OsStringExt},
    },
    path::{Path, PathBuf},
};

impl Root {
    /// Visits what is at `path` and, in the order of their names, everything below it; each directory
    /// before what is in it. Links are shown, never followed.
    pub fn walk(&self, path: &Path, visit: &mut dyn FnMut(&Visit) -> Result<Next>) -> Result<()> {
        let real = self.resolve_parent(path)?;
        let top = real.parent().unwrap_or(Path::new("/")).to_owned();
        let mut todo = vec![real.clone()];
        let mut parent: Option<(PathBuf, OwnedFd)> = None;
        while let Some(path) = todo.pop() {
            let doing = || format!("walk {}", path.display());
            // One descriptor at a time, however deep the tree; no link can have come between. Most often
            // it is the one of the last visit: files come directory by directory.
            let (above, name) = match (path.parent(), path.file_name()) {
                (Some(above), Some(name)) => (above, name.to_owned()),
                _ => (Path::new("/"), OsString::from(".")),
            };
            let parent = match parent.take().filter(|(at, _)| at == above) {
                Some(same) => parent.insert(same),
                None => {
                    match self.raw(above, OFlag::O_PATH | OFlag::O_DIRECTORY, 0) {
                        // It went while we walked, or is no directory any more: a living root.
                        Err(Errno::ENOENT | Errno::ENOTDIR) if above != top => continue,
                        dir => parent.insert((above.to_owned(), dir.doing(doing)?)),
                    }
                }
            };
            let parent = parent.1.as_fd();
            let stat = match fstatat(parent, name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
                Err(Errno::ENOENT) if path != real => continue,
                other => other.doing(doing)?,
            };
            let next = visit(&Visit { path: &path, dir: parent, name: &name, stat })?;
            if next == Next::Into && kind(&stat) == SFlag::S_IFDIR {
                let names = match names(parent, &name) {
                    Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => continue,
                    names => names.doing(doing)?,
                };
                todo.extend(names.into_iter().rev().map(|name| path.join(name)));
            }
        }
        Ok(())
    }
}

/// What [`Root::walk`] shows.
#[derive(Debug)]
pub struct Visit<'a> {
    /// Where it is, from the root (`/etc/passwd`).
    pub path: &'a Path,
    /// The directory that holds it.
    pub dir: BorrowedFd<'a>,
    /// Its name in `dir` (`.` for the root itself).
    pub name: &'a OsStr,
    /// What it is; of a link, the link itself.
    pub stat: FileStat,
}

/// What [`Root::walk`] does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// If this is a directory, visit what is in it.
    Into,
    /// Leave out what is below.
    Skip,
}

/// The names in a directory, sorted by their bytes.
pub(super) fn names(parent: BorrowedFd, name: &OsStr) -> nix::Result<Vec<OsString>> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut names = Vec::new();
    for entry in Dir::openat(parent, name, flags, Mode::empty())?.iter() {
        let bytes = entry?.file_name().to_bytes().to_vec();
        if bytes != b"." && bytes != b".." {
            names.push(OsString::from_vec(bytes));
        }
    }
    names.sort_unstable_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
    Ok(names)
}
