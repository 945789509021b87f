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
    ffi::OsStr,
    fs::File,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
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
    count: usize,
}

impl<'a> Copy<'a> {
    pub(crate) fn new(root: &'a Root, rules: &'a Rules) -> Copy<'a> {
        Copy { root, rules, last: None, made: Vec::new(), count: 0 }
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
        tracing::info!(target: "step", section = "6.1", call = "copy_file_range(2)", "{} files copied", self.count);
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
        // The content of a directory into the root: the root itself stays as it is.
        let Some(name) = to.file_name() else { return Ok(()) };
        let above = to.parent().unwrap_or(Path::new("/"));
        let last = match self.last.take().filter(|(path, _)| path == above) {
            Some(last) => last,
            None => (above.to_owned(), self.directories(above)?),
        };
        if self.clear(last.1.as_fd(), name, to, kind(&visit.stat))? {
            self.make(from, visit, last.1.as_fd(), name, to)?;
        }
        self.last = Some(last);
        Ok(())
    }

    /// Makes room for something of type `new`; tells whether it is to be made at all.
    fn clear(&self, dir: BorrowedFd, name: &OsStr, to: &Path, new: SFlag) -> Result<bool> {
        let there = fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW).ok().map(|stat| kind(&stat));
        let refused = |what: &str| {
            let reason = format!("cannot copy to {what}: {}", to.display());
            Err(Error::Instruction { instruction: self.rules.instruction, reason })
        };
        match (there, new == SFlag::S_IFDIR) {
            // Directories are merged, and what is there keeps its attributes.
            (Some(SFlag::S_IFDIR), true) => return Ok(false),
            (Some(SFlag::S_IFDIR), false) => return refused("directory"),
            (Some(_), true) => return refused("non-directory"),
            // Removed, not written into: it may be a link, or a file with other links.
            (Some(_), false) => unlinkat(dir, name, UnlinkatFlags::NoRemoveDir)
                .doing(|| format!("replace {}", to.display()))?,
            (None, _) => {}
        }
        // A socket is nothing without the process that listens on it.
        Ok(new != SFlag::S_IFSOCK)
    }

    /// Makes it, as `name` in `dir`.
    fn make(&mut self, from: &Source, visit: &Visit, dir: BorrowedFd, name: &OsStr, to: &Path) -> Result<()> {
        let doing = || format!("copy {} to {}", visit.path.display(), to.display());
        let stat = &visit.stat;
        let (uid, gid) = match self.rules.owner {
            Some(owner) => owner,
            None if from.context => (0, 0),
            None => (stat.st_uid, stat.st_gid),
        };
        let mode = self.rules.mode.as_ref().map_or(stat.st_mode & 0o7777, |m| m.apply(stat.st_mode));
        let mode = stat::Mode::from_bits_truncate(mode);
        match kind(stat) {
            SFlag::S_IFREG => {
                self.count += 1;
                return regular(visit, dir, name, (uid, gid), mode).doing(doing);
            }
            SFlag::S_IFDIR => {
                mkdirat(dir, name, stat::Mode::S_IRWXU).doing(doing)?;
                self.made.push((to.to_owned(), *stat));
            }
            SFlag::S_IFLNK => {
                let text = readlinkat(visit.dir, visit.name).doing(doing)?;
                symlinkat(text.as_os_str(), dir, name).doing(doing)?;
            }
            // (0/0 is how an overlay says "deleted": the kernel lets nobody make one through it.)
            device => mknodat(dir, name, device, stat::Mode::S_IRUSR, stat.st_rdev).doing(doing)?,
        }
        own(dir, name, uid, gid).doing(doing)?;
        if kind(stat) != SFlag::S_IFLNK {
            fchmodat(dir, name, mode, FchmodatFlags::FollowSymlink).doing(doing)?;
        }
        times(dir, name, stat).doing(doing)
    }
}

/// A file, with its content.
fn regular(
    visit: &Visit,
    dir: BorrowedFd,
    name: &OsStr,
    (uid, gid): (u32, u32),
    mode: stat::Mode,
) -> std::io::Result<()> {
    let mut source = open_regular(visit.dir, visit.name)?;
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut file = File::from(openat(dir, name, flags, stat::Mode::S_IRUSR)?);
    // Inside the kernel (copy_file_range(2), sendfile(2)), without passing through this process.
    std::io::copy(&mut source, &mut file)?;
    fchown(&file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))).map_err(unmapped)?;
    // After chown, which takes set-user-ID bits and capabilities away.
    fchmod(&file, mode)?;
    if let Some(value) = capabilities(&source) {
        xattr::FileExt::set_xattr(&file, "security.capability", &value)?;
    }
    Ok(futimens(&file, &TimeSpec::UTIME_OMIT, &mtime(&visit.stat))?)
}

fn own(dir: BorrowedFd, name: &OsStr, uid: u32, gid: u32) -> nix::Result<()> {
    let flags = AtFlags::AT_SYMLINK_NOFOLLOW;
    fchownat(dir, name, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)), flags).map_err(unmapped)
}

/// chown(2) says EINVAL of an id that this user namespace has no number for. (EOVERFLOW is what stat(2)'s
/// family says of a number that does not fit.)
fn unmapped(errno: Errno) -> Errno {
    if errno == Errno::EINVAL { Errno::EOVERFLOW } else { errno }
}

fn mtime(stat: &FileStat) -> TimeSpec {
    TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec)
}

fn times(dir: BorrowedFd, name: &OsStr, stat: &FileStat) -> nix::Result<()> {
    let flag = UtimensatFlags::NoFollowSymlink;
    utimensat(dir, name, &TimeSpec::UTIME_OMIT, &mtime(stat), flag)
}
