//! Owner, mode, times and extended attributes: set on what was unpacked, in the one order that works.

use crate::{
    root::{chmod_path, kind, proc_path},
    tarball::Entry,
};
use nix::{
    errno::Errno,
    fcntl::AtFlags,
    sys::{
        stat::{FileStat, Mode, SFlag, UtimensatFlags, fchmod, futimens, utimensat},
        time::TimeSpec,
    },
    unistd::{Gid, Uid, fchown, fchownat, geteuid},
};
use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

/// What a file has besides its content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Permissions with setuid, setgid and sticky bits.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The owning group.
    pub gid: u32,
    /// Modification time: seconds and nanoseconds.
    pub mtime: (i64, u32),
    /// Extended attributes, overlayfs's own left out.
    pub xattrs: Vec<(OsString, Vec<u8>)>,
}

impl Attributes {
    /// Those of a tar entry.
    pub fn of(entry: Entry) -> Attributes {
        let Entry { mode, uid, gid, mtime, xattrs, .. } = entry;
        Attributes { mode, uid, gid, mtime, xattrs }
    }

    /// Those of a file that an open descriptor holds (`O_PATH` will do).
    pub fn read(fd: BorrowedFd, stat: &FileStat) -> Attributes {
        Attributes {
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime: (stat.st_mtime, stat.st_mtime_nsec as u32),
            // No user xattrs on links, and /proc would follow one.
            xattrs: if kind(stat) == SFlag::S_IFLNK { Vec::new() } else { read_xattrs(&proc_path(fd)) },
        }
    }
}

/// The extended attributes of what `path` leads to, sorted; overlayfs's own are bookkeeping of a mount that
/// is no more, and left out.
pub(crate) fn read_xattrs(path: &Path) -> Vec<(OsString, Vec<u8>)> {
    let names = xattr::list_deref(path).into_iter().flatten();
    let mut all: Vec<_> = names
        .filter(|name| !reserved(name))
        .filter_map(|name| xattr::get_deref(path, &name).ok().flatten().map(|value| (name, value)))
        .collect();
    all.sort();
    all
}

/// Whether a layer may not carry it. `overlay.` would let an image steer the mount that it becomes part of
/// (redirects, opaque marks); `security.selinux` is the host's label, not the image's.
fn reserved(name: &OsStr) -> bool {
    let name = name.as_bytes();
    name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.") || name == b"security.selinux"
}

/// Who may own what is unpacked.
pub struct Owners {
    /// Everything is given to these.
    all: Option<(u32, u32)>,
    /// An ordinary user cannot give files away: everything stays their own.
    may_chown: bool,
    warned: AtomicBool,
}

impl Owners {
    /// `all` replaces the owner of everything.
    pub fn new(all: Option<(u32, u32)>) -> Owners {
        Owners { all, may_chown: geteuid().is_root(), warned: AtomicBool::new(false) }
    }

    /// Whom a file of `uid` and `gid` goes to.
    fn owner(&self, uid: u32, gid: u32) -> (Option<Uid>, Option<Gid>) {
        let (uid, gid) = self.all.unwrap_or((uid, gid));
        (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
    }

    /// In a user namespace, an id that is not mapped cannot own anything (EINVAL). The file stays with us:
    /// better a wrong owner than no image, and this is how podman's `ignore_chown_errors` has it.
    fn tolerate(&self, result: nix::Result<()>) -> nix::Result<()> {
        match result {
            Err(Errno::EINVAL) => {
                if !self.warned.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        "some owners have no id in this user namespace; their files belong to its root. \
                         More ids are in /etc/subuid and /etc/subgid (subuid(5))"
                    );
                }
                Ok(())
            }
            other => other,
        }
    }

    /// Sets them on an open file.
    ///
    /// The order: owner first, for chown(2) takes away setuid bits and file capabilities; then the mode and
    /// the xattrs; the time last, for everything before may change it.
    pub(crate) fn set(&self, fd: BorrowedFd, attributes: &Attributes) -> io::Result<()> {
        if self.may_chown {
            let (uid, gid) = self.owner(attributes.uid, attributes.gid);
            self.tolerate(fchown(fd, uid, gid))?;
        }
        fchmod(fd, Mode::from_bits_truncate(attributes.mode))?;
        if !attributes.xattrs.is_empty() {
            self.set_xattrs(&proc_path(fd), &attributes.xattrs, true)?;
        }
        let time = timespec(attributes.mtime);
        Ok(futimens(fd, &time, &time)?)
    }

    /// Sets an entry's on the file made of it.
    pub(crate) fn set_file(&self, file: &File, entry: &Entry) -> io::Result<()> {
        let attributes = Attributes {
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            mtime: entry.mtime,
            xattrs: entry.xattrs.clone(),
        };
        self.set(file.as_fd(), &attributes)
    }

    /// Sets them on an open directory.
    pub(crate) fn set_directory(&self, dir: BorrowedFd, attributes: &Attributes) -> io::Result<()> {
        self.set(dir, attributes)
    }

    /// Sets them on a link: never on what it points to. Links have no mode.
    pub(crate) fn set_link(&self, dir: BorrowedFd, name: &OsStr, attributes: &Attributes) -> io::Result<()> {
        if self.may_chown {
            let (uid, gid) = self.owner(attributes.uid, attributes.gid);
            self.tolerate(fchownat(dir, name, uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW))?;
        }
        if !attributes.xattrs.is_empty() {
            self.set_xattrs(&proc_path(dir).join(name), &attributes.xattrs, false)?;
        }
        let time = timespec(attributes.mtime);
        Ok(utimensat(dir, name, &time, &time, UtimensatFlags::NoFollowSymlink)?)
    }

    /// Sets them on a device or pipe, which must not be opened.
    pub(crate) fn set_node(&self, dir: BorrowedFd, name: &OsStr, attributes: &Attributes) -> io::Result<()> {
        use nix::fcntl::{OFlag, openat};
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let node = openat(dir, name, flags, Mode::empty())?;
        self.set_link(dir, name, attributes)?;
        Ok(chmod_path(node.as_fd(), attributes.mode)?)
    }

    /// What the filesystem or the user namespace does not take is left out, as docker leaves it out.
    fn set_xattrs(&self, path: &Path, xattrs: &[(OsString, Vec<u8>)], follow: bool) -> io::Result<()> {
        for (name, value) in xattrs.iter().filter(|(name, _)| !reserved(name)) {
            let result = match follow {
                true => xattr::set_deref(path, name, value),
                false => xattr::set(path, name, value),
            };
            match result {
                Err(e) if matches!(e.raw_os_error(), Some(libc::EPERM | libc::ENOTSUP)) => {
                    tracing::warn!(xattr = %name.display(), "extended attribute left out: {e}");
                }
                other => other?,
            }
        }
        Ok(())
    }
}

fn timespec((seconds, nanoseconds): (i64, u32)) -> TimeSpec {
    TimeSpec::new(seconds, nanoseconds.into())
}
