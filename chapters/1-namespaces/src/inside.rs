//! Paths inside a root that we do not trust.
//!
//! An image may hold any symbolic link: `/etc -> /`, `/data -> ../../../host`. Looked up as
//! the host would, a mount target or a device node lands outside. So every path in the container's root
//! is looked up by openat2(2) with `RESOLVE_IN_ROOT`: the kernel treats the root's descriptor as
//! `/` for absolute links and for `..`, in one step that no other process can slip into
//! (CVE-2021-30465 was such a slip). What comes back is a descriptor, and from then on nothing is
//! looked up by name again.

use crate::{Result, error::Doing, error::invalid};
use nix::{
    errno::Errno,
    fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2, readlinkat},
    sys::stat::{Mode, mkdirat},
};
use std::{
    collections::VecDeque,
    ffi::OsString,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::{Component, Path, PathBuf},
};

/// What [`make`] makes where nothing is yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Dir,
    File,
}

/// Opens what is at `path` inside `root`, without reading or running it unless `flags` say so.
pub(crate) fn open(root: impl AsFd, path: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC)
        // A magic link (/proc/PID/fd/N, /proc/PID/root) leads anywhere: never follow one.
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    loop {
        match openat2(root.as_fd(), relative(path), how) {
            // The kernel saw a rename or mount while it walked: it asks to try again.
            Err(Errno::EAGAIN) => continue,
            other => return other,
        }
    }
}

/// A handle for `path` inside `root`, to mount on; `None` if there is nothing.
pub(crate) fn find(root: impl AsFd, path: &Path) -> Result<Option<OwnedFd>> {
    match open(root, path, OFlag::O_PATH) {
        Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
        other => other.map(Some).doing(|| format!("open {} in the root", path.display())),
    }
}

/// The same, making what is missing: parent directories always, and at the end a directory
/// or an empty file.
pub(crate) fn make(root: impl AsFd, path: &Path, kind: Kind) -> Result<OwnedFd> {
    match open(&root, path, OFlag::O_PATH) {
        Err(Errno::ENOENT) => walk(root, path, kind),
        other => other.doing(|| format!("open {} in the root", path.display())),
    }
}

/// Component by component. A link whose target is missing is followed by hand, so that the target
/// is made inside the root (an image's /etc/resolv.conf often points into an empty /run).
fn walk(root: impl AsFd, path: &Path, kind: Kind) -> Result<OwnedFd> {
    let doing = || format!("make {} in the root", path.display());
    let mut at = open(&root, Path::new(""), OFlag::O_PATH | OFlag::O_DIRECTORY).doing(doing)?;
    let mut done = PathBuf::new();
    let mut todo: VecDeque<OsString> = names(path).collect();
    let mut patience = 255; // for loops of links, and for others who keep removing what we make
    while let Some(name) = todo.pop_front() {
        let next = done.join(&name);
        let last_file = todo.is_empty() && kind == Kind::File;
        match open(&root, &next, OFlag::O_PATH) {
            Ok(fd) => {
                (at, done) = (fd, next);
                continue;
            }
            Err(Errno::ENOENT) => {}
            Err(errno) => return Err(errno).doing(doing),
        }
        patience -= 1;
        if patience == 0 {
            return Err(Errno::ELOOP).doing(doing);
        }
        // `at` is a directory inside the root, and `name` one component: this cannot go elsewhere.
        let made = if last_file {
            let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            openat(&at, name.as_os_str(), flags, Mode::from_bits_truncate(0o644)).map(drop)
        } else {
            mkdirat(&at, name.as_os_str(), Mode::from_bits_truncate(0o755))
        };
        match made {
            Err(Errno::EEXIST) => match readlinkat(&at, name.as_os_str()) {
                Ok(target) => {
                    let target = PathBuf::from(target);
                    if target.is_absolute() {
                        done = PathBuf::new();
                        at = open(&root, &done, OFlag::O_PATH | OFlag::O_DIRECTORY).doing(doing)?;
                    }
                    names(&target).collect::<Vec<_>>().into_iter().rev().for_each(|n| todo.push_front(n));
                    continue;
                }
                Err(_) => todo.push_front(name), // somebody else made it just now: look again
            },
            other => {
                other.doing(doing)?;
                todo.push_front(name);
            }
        }
    }
    Ok(at)
}

/// The components, `..` among them: the kernel resolves those, inside the root.
fn names(path: &Path) -> impl Iterator<Item = OsString> + '_ {
    path.components().filter_map(|c| match c {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    })
}

/// openat2 wants something to look up: the root itself is ".".
fn relative(path: &Path) -> &Path {
    let path = path.strip_prefix("/").unwrap_or(path);
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

/// A descriptor as a path for the calls that take only paths. It is looked up in the host's /proc,
/// which is still ours until the root is changed.
pub(crate) fn by_fd(fd: impl AsFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd()))
}

/// Refuses a path that is not absolute, where it must be (config-linux.md: "MUST be absolute").
pub(crate) fn must_be_absolute(path: &Path, what: &str) -> Result<()> {
    if path.is_absolute() { Ok(()) } else { invalid(format!("{what}: {} is not absolute", path.display())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::symlink};

    fn root() -> (tempfile::TempDir, OwnedFd) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("root")).unwrap();
        fs::create_dir_all(dir.path().join("host")).unwrap();
        let fd = nix::fcntl::open(&dir.path().join("root"), OFlag::O_PATH, Mode::empty()).unwrap();
        (dir, fd)
    }

    #[test]
    fn what_is_missing_is_made_inside() {
        let (dir, fd) = root();
        make(&fd, Path::new("/a/b/c"), Kind::File).unwrap();
        assert!(dir.path().join("root/a/b/c").is_file());
    }

    #[test]
    fn links_out_of_the_root_lead_back_into_it() {
        let (dir, fd) = root();
        symlink("../host", dir.path().join("root/up")).unwrap();
        symlink(dir.path().join("host"), dir.path().join("root/abs")).unwrap();
        make(&fd, Path::new("/up/x"), Kind::Dir).unwrap();
        make(&fd, Path::new("/abs/x"), Kind::Dir).unwrap();
        make(&fd, Path::new("/../../host/y"), Kind::Dir).unwrap();
        assert_eq!(fs::read_dir(dir.path().join("host")).unwrap().count(), 0);
        assert!(dir.path().join("root/host/x").is_dir());
        assert!(dir.path().join("root/host/y").is_dir());
    }

    #[test]
    fn a_loop_of_links_is_an_error_and_not_a_hang() {
        let (dir, fd) = root();
        symlink("b", dir.path().join("root/a")).unwrap();
        symlink("a", dir.path().join("root/b")).unwrap();
        let error = make(&fd, Path::new("/a/x"), Kind::Dir).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::ELOOP));
    }

    #[test]
    fn a_magic_link_is_not_followed() {
        let (_dir, fd) = root();
        let proc = nix::fcntl::open("/proc", OFlag::O_PATH, Mode::empty()).unwrap();
        assert_eq!(open(&proc, Path::new("self/root"), OFlag::O_PATH).unwrap_err(), Errno::ELOOP);
        drop(fd);
    }
}
