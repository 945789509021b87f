//! Copying files into a stage's root.
//!
//! Source and destination are both untrusted: the context may hold links, and so may the image. On either
//! side a path is opened inside its root, and what is made is made by its last name in a directory that is
//! already open, where no link is followed.

use crate::{
    Error, Result,
    chmod::Mode,
    error::Doing,
    ignore::Ignore,
    source::{Found, Source, capabilities, open_regular},
};
use layers::root::{Root, Visit, kind};
use nix::{
    errno::Errno,
    fcntl::{AtFlags, OFlag, openat, readlinkat},
    sys::{
        stat::{
            self, FchmodatFlags, FileStat, SFlag, UtimensatFlags, fchmod, fchmodat, fstatat, futimens,
            mkdirat, mknodat, utimensat,
        },
        time::TimeSpec,
    },
    unistd::{Gid, Uid, UnlinkatFlags, fchown, fchownat, symlinkat, unlinkat},
};
use std::{
    ffi::OsString,
    fs::File,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

/// How files are copied.
#[derive(Default)]
pub(crate) struct Rules {
    /// For errors.
    pub(crate) instruction: &'static str,
    /// `--chown`; otherwise the context's files are root's, and another image's keep their owners.
    pub(crate) owner: Option<(u32, u32)>,
    /// `--chmod`.
    pub(crate) mode: Option<Mode>,
    /// `--exclude`.
    pub(crate) exclude: Ignore,
}

/// A destination while files are copied to it.
pub(crate) struct Copy<'a> {
    root: &'a Root,
    rules: &'a Rules,
    /// The directory that the last file went to: the next one goes there too, as a rule.
    last: Option<(PathBuf, OwnedFd)>,
    /// Directories that were made, with the times they will have when all is in them.
    made: Vec<(PathBuf, FileStat)>,
}

impl<'a> Copy<'a> {
    pub(crate) fn new(root: &'a Root, rules: &'a Rules) -> Copy<'a> {
        Copy { root, rules, last: None, made: Vec::new() }
    }

    /// Copies a file to the path `to`, or a directory's content into the directory `to`. `to` is a real
    /// path of the root: whoever calls has followed its links.
    pub(crate) fn copy(&mut self, from: &Source, found: &Found, to: &Path) -> Result<()> {
        from.walk(found, &self.rules.exclude, &mut |below, visit| {
            let to = if below == Path::new("") { to.to_owned() } else { to.join(below) };
            self.one(from, visit, &to)
        })
    }

    /// Sets the directories' times. (Each file made in a directory changed them.)
    pub(crate) fn finish(self) -> Result<()> {
        for (path, stat) in self.made.iter().rev() {
            let (parent, name) = self.root.parent(path)?;
            times(parent.as_fd(), &name, stat).doing(|| format!("set the times of {}", path.display()))?;
        }
        Ok(())
    }

    /// `--chown`.
    pub(crate) fn owner(&self) -> Option<(u32, u32)> {
        self.rules.owner
    }

    /// Makes a directory and those above it, owned as `--chown` says.
    pub(crate) fn directories(&mut self, path: &Path) -> Result<OwnedFd> {
        let mut made = Vec::new();
        let directory = self.root.make_dirs(path, 0o755, &mut |path| made.push(path.to_owned()))?;
        if let Some((uid, gid)) = self.rules.owner {
            for path in made {
                let (parent, name) = self.root.parent(&path)?;
                own(parent.as_fd(), &name, uid, gid).doing(|| format!("chown {}", path.display()))?;
            }
        }
        Ok(directory)
    }

    fn one(&mut self, from: &Source, visit: &Visit, to: &Path) -> Result<()> {
        let doing = || format!("copy {} to {}", visit.path.display(), to.display());
        let Some(name) = to.file_name() else {
            // The content of a directory into the root: the root itself stays as it is.
            return Ok(());
        };
        let (parent, name) = (self.parent(to)?, name.to_owned());
        let dir = parent.as_fd();
        let stat = &visit.stat;
        let there = fstatat(dir, name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW).ok().map(|s| kind(&s));
        let is_dir = kind(stat) == SFlag::S_IFDIR;
        match there {
            // Directories are merged, and what is there keeps its attributes.
            Some(SFlag::S_IFDIR) if is_dir => return Ok(()),
            Some(SFlag::S_IFDIR) => {
                return Err(self.refused(format!("cannot copy to directory: {}", to.display())));
            }
            Some(_) if is_dir => {
                return Err(self.refused(format!("cannot copy to non-directory: {}", to.display())));
            }
            Some(_) => unlinkat(dir, name.as_os_str(), UnlinkatFlags::NoRemoveDir).doing(doing)?,
            None => {}
        }
        let (uid, gid) = match self.rules.owner {
            Some(owner) => owner,
            None if from.context => (0, 0),
            None => (stat.st_uid, stat.st_gid),
        };
        let mode = self.rules.mode.as_ref().map_or(stat.st_mode & 0o7777, |m| m.apply(stat.st_mode));
        let permissions = stat::Mode::from_bits_truncate(mode);
        match kind(stat) {
            SFlag::S_IFREG => {
                let mut source = open_regular(visit.dir, visit.name, visit.path)?;
                let flags =
                    OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                let mut file =
                    File::from(openat(dir, name.as_os_str(), flags, stat::Mode::S_IRUSR).doing(doing)?);
                // Inside the kernel (copy_file_range(2)), without passing through this process.
                std::io::copy(&mut source, &mut file).doing(doing)?;
                fchown(&file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))).doing(doing)?;
                // After chown, which takes set-user-ID bits and capabilities away.
                fchmod(&file, permissions).doing(doing)?;
                if let Some(value) = capabilities(&source) {
                    xattr::FileExt::set_xattr(&file, "security.capability", &value).doing(doing)?;
                }
                futimens(&file, &TimeSpec::UTIME_OMIT, &mtime(stat)).doing(doing)?;
                return Ok(());
            }
            SFlag::S_IFDIR => {
                mkdirat(dir, name.as_os_str(), stat::Mode::S_IRWXU).doing(doing)?;
                self.made.push((to.to_owned(), *stat));
            }
            SFlag::S_IFLNK => {
                let text = readlinkat(visit.dir, visit.name).doing(doing)?;
                symlinkat(text.as_os_str(), dir, name.as_os_str()).doing(doing)?;
            }
            // A socket is nothing without the process that listens on it.
            SFlag::S_IFSOCK => return Ok(()),
            device => {
                // 0/0 is how an overlay says "deleted": nobody may make one by hand.
                mknodat(dir, name.as_os_str(), device, stat::Mode::S_IRUSR, stat.st_rdev).doing(doing)?;
            }
        }
        own(dir, &name, uid, gid).doing(doing)?;
        if kind(stat) != SFlag::S_IFLNK {
            fchmodat(dir, name.as_os_str(), permissions, FchmodatFlags::FollowSymlink).doing(doing)?;
        }
        times(dir, &name, stat).doing(doing)
    }

    fn refused(&self, reason: String) -> Error {
        Error::Instruction { instruction: self.rules.instruction, reason }
    }

    /// The directory that `to` is made in.
    fn parent(&mut self, to: &Path) -> Result<OwnedFd> {
        let path = to.parent().unwrap_or(Path::new("/"));
        if self.last.as_ref().is_none_or(|(last, _)| last != path) {
            self.last = Some((path.to_owned(), self.directories(path)?));
        }
        let doing = || format!("open {}", path.display());
        match &self.last {
            Some((_, directory)) => directory.try_clone().doing(doing),
            None => self.directories(path),
        }
    }
}

fn own(dir: std::os::fd::BorrowedFd, name: &OsString, uid: u32, gid: u32) -> nix::Result<()> {
    let flags = AtFlags::AT_SYMLINK_NOFOLLOW;
    match fchownat(dir, name.as_os_str(), Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)), flags) {
        // An id that this user namespace has no number for.
        Err(Errno::EINVAL) => Err(Errno::EOVERFLOW),
        other => other,
    }
}

fn mtime(stat: &FileStat) -> TimeSpec {
    TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec)
}

fn times(dir: std::os::fd::BorrowedFd, name: &OsString, stat: &FileStat) -> nix::Result<()> {
    let flag = UtimensatFlags::NoFollowSymlink;
    utimensat(dir, name.as_os_str(), &TimeSpec::UTIME_OMIT, &mtime(stat), flag)
}
