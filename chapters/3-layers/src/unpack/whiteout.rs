//! Whiteouts: how a layer says that something is gone (image-spec, layer.md, "Whiteouts").
//!
//! They speak of the layers below only: what the same layer brings is there, whether its entry comes before
//! the whiteout or after it.

use super::{Extractor, OPAQUE, Whiteouts, doing, refused};
use crate::{
    Result,
    error::Doing,
    overlay,
    root::{Next, kind, proc_path, remove_at},
    tarball::Entry,
};
use nix::{
    errno::Errno,
    fcntl::AtFlags,
    sys::stat::{Mode, SFlag, fstatat, makedev, mknodat},
};
use std::{
    ffi::OsStr,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

impl Extractor<'_> {
    /// A whiteout: `name` is `.wh.` and the name of what is gone (or the opaque mark).
    pub(super) fn whiteout(
        &mut self,
        entry: &Entry,
        path: &Path,
        name: &OsStr,
        hidden: &OsStr,
    ) -> Result<()> {
        let parent = self.parent(path)?;
        let parent_path = path.parent().unwrap_or(Path::new(""));
        if name.as_bytes() == OPAQUE {
            return match self.options.whiteouts {
                Whiteouts::Overlay => self.opaque(parent.as_fd(), OsStr::new(".")).doing(|| doing(path)),
                _ => self.empty(parent_path),
            };
        }
        // `.wh..` and `.wh...` would hide, or remove, the directory itself or the one above it.
        if matches!(hidden.as_bytes(), b"" | b"." | b"..") {
            return Err(refused(&entry.path, "a whiteout must name a file"));
        }
        let gone = parent_path.join(hidden);
        let is_dir = || -> Result<bool> {
            let there =
                fstatat(parent.as_fd(), hidden, AtFlags::AT_SYMLINK_NOFOLLOW).doing(|| doing(path))?;
            Ok(kind(&there) == SFlag::S_IFDIR)
        };
        if self.options.whiteouts == Whiteouts::Remove {
            if !self.brought.contains(&gone) {
                self.open.clear();
                return remove_at(parent.as_fd(), hidden).doing(|| doing(path));
            }
            // The same layer brings it anew: whiteouts mean only what is below. Of a directory, that is what
            // was in it.
            return if is_dir()? { self.empty(&gone) } else { Ok(()) };
        }
        // mknod of 0/0 is allowed to everyone since Linux 5.8: it is no device.
        match mknodat(parent.as_fd(), hidden, SFlag::S_IFCHR, Mode::empty(), makedev(0, 0)) {
            // Anew here too: a file hides what is below anyway, a directory must be told to.
            Err(Errno::EEXIST) if is_dir()? => self.opaque(parent.as_fd(), hidden).doing(|| doing(path)),
            Err(Errno::EEXIST) => Ok(()),
            other => other.doing(|| doing(path)),
        }
    }

    /// Makes a directory hide what the layers below have in it.
    pub(super) fn opaque(&self, parent: BorrowedFd, name: &OsStr) -> std::io::Result<()> {
        let path = proc_path(parent).join(name);
        xattr::set(path, format!("{}opaque", overlay::xattr_prefix()), b"y")
    }

    /// Removes from a directory what this tar did not bring.
    fn empty(&mut self, path: &Path) -> Result<()> {
        self.open.clear();
        let mut gone = Vec::new();
        let real = self.root.resolve(path)?;
        self.root.walk(&real, &mut |visit| {
            let inside = visit.path.strip_prefix("/").unwrap_or(visit.path);
            if visit.path == real || self.brought.contains(inside) {
                return Ok(Next::Into);
            }
            gone.push(visit.path.to_owned());
            Ok(Next::Skip)
        })?;
        gone.iter().try_for_each(|path| self.root.remove_all(path))
    }

    /// Notes, for whiteouts that remove, what came with this tar, and the directories that lead to it.
    pub(super) fn brought(&mut self, path: &Path) {
        if self.options.whiteouts == Whiteouts::Remove {
            self.brought.extend(path.ancestors().map(Path::to_owned));
        }
    }
}
