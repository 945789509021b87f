//! Paths inside an untrusted root: the kernel resolves them (openat2(2), `RESOLVE_IN_ROOT`), so that no
//! link, `..` or race leads out of it.
//!
//! The trap that this closes: joining strings (`root.join("etc/passwd")`) lets the *host* follow a link
//! that the image planted (`etc -> /etc`), and checking the path first does not help, because whoever owns
//! the root can swap a directory for a link between the check and the use. Here a path is never a string
//! that the host resolves; it is a descriptor that was opened with the root as `/`.

use crate::{Error, Result, error::Doing};
use nix::{
    errno::Errno,
    fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2, readlinkat},
    sys::stat::{FileStat, Mode, SFlag, fstat, mkdirat},
    unistd::symlinkat,
};
use std::{
    collections::VecDeque,
    ffi::OsString,
    fs::File,
    io::Read,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Component, Path, PathBuf},
};

pub(crate) use remove::remove_at;
pub use walk::{Next, Visit};

/// As many links as the kernel follows in one path (path_resolution(7)).
const MAX_LINKS: u32 = 40;

/// A directory that is treated as `/`.
#[derive(Debug)]
pub struct Root {
    dir: OwnedFd,
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

impl From<OwnedFd> for Root {
    /// The directory behind a descriptor (for example `/proc/PID/root`, opened by the caller) as a root.
    fn from(dir: OwnedFd) -> Root {
        Root { dir }
    }
}

impl Root {
    /// Opens it. The path itself is the caller's, and is trusted.
    pub fn open(path: &Path) -> Result<Root> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let dir = nix::fcntl::open(path, flags, Mode::empty())
            .doing(|| format!("open the root {}", path.display()))?;
        Ok(Root { dir })
    }

    /// Opens `path` inside, links followed inside the root, with the given open(2) flags. Everything
    /// else here is made of this one.
    pub fn open_with(&self, path: &Path, flags: OFlag, mode: u32) -> Result<OwnedFd> {
        self.raw(path, flags, mode).doing(|| format!("open {} in the root", path.display()))
    }

    /// The same with the bare errno, for callers that expect one.
    pub(crate) fn raw(&self, path: &Path, flags: OFlag, mode: u32) -> nix::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() { Path::new("/") } else { path };
        // openat2 refuses a mode without O_CREAT. No magic links: /proc/self/root would lead out.
        let mode = if flags.contains(OFlag::O_CREAT) { mode } else { 0 };
        let how = OpenHow::new()
            .flags(flags | OFlag::O_CLOEXEC)
            .mode(Mode::from_bits_truncate(mode))
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        loop {
            match openat2(&self.dir, path, how) {
                // A rename somewhere raced with a `..`: the kernel asks us to try again (openat2(2)).
                Err(Errno::EAGAIN) => continue,
                result => return result,
            }
        }
    }

    /// Opens a file inside for reading, links followed inside the root. Only a regular file: opening a
    /// fifo that an image planted would wait for ever, and a device would do worse.
    pub fn read(&self, path: &Path) -> Result<File> {
        let fd = self.open_with(path, OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY, 0)?;
        regular(fd, path)
    }

    /// Reads a small file whole; one that is larger than `limit` bytes is refused.
    pub fn read_small(&self, path: &Path, limit: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let file = self.read(path)?;
        file.take(limit + 1)
            .read_to_end(&mut bytes)
            .doing(|| format!("read {} in the root", path.display()))?;
        if bytes.len() as u64 > limit {
            return Err(Error::Limit { what: path.display().to_string(), limit: format!("{limit} bytes") });
        }
        Ok(bytes)
    }

    /// Makes or empties a file inside and opens it for writing, links followed inside the root.
    pub fn create(&self, path: &Path, mode: u32) -> Result<File> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        let file = regular(self.open_with(path, flags, mode)?, path)?;
        // Emptied only now that it is known to be a regular file.
        file.set_len(0).doing(|| format!("empty {} in the root", path.display()))?;
        Ok(file)
    }

    /// What is at `path`, links followed inside the root.
    pub fn stat(&self, path: &Path) -> Result<FileStat> {
        let fd = self.open_with(path, OFlag::O_PATH, 0)?;
        fstat(fd).doing(|| format!("stat {} in the root", path.display()))
    }

    /// What is at `path`; if that is a link, the link itself.
    pub fn lstat(&self, path: &Path) -> Result<FileStat> {
        let fd = self.open_with(path, OFlag::O_PATH | OFlag::O_NOFOLLOW, 0)?;
        fstat(fd).doing(|| format!("stat {} in the root", path.display()))
    }

    /// Whether there is something at `path`; a dangling link counts.
    pub fn exists(&self, path: &Path) -> bool {
        self.raw(path, OFlag::O_PATH | OFlag::O_NOFOLLOW, 0).is_ok()
    }

    /// The text of a link inside.
    pub fn read_link(&self, path: &Path) -> Result<PathBuf> {
        let (parent, name) = self.parent(path)?;
        let text =
            readlinkat(parent, name.as_os_str()).doing(|| format!("read the link {}", path.display()))?;
        Ok(text.into())
    }

    /// The directory that holds the last component of `path` (links on the way followed inside the root),
    /// and that last component, not followed. `/` and `..` at the end have no name, and are refused.
    pub fn parent(&self, path: &Path) -> Result<(OwnedFd, OsString)> {
        let Some(name) = path.file_name() else {
            return Err(Error::Sys {
                doing: format!("take the last component of {}", path.display()),
                errno: Errno::EISDIR,
            });
        };
        let parent =
            self.open_with(path.parent().unwrap_or(Path::new("/")), OFlag::O_PATH | OFlag::O_DIRECTORY, 0)?;
        Ok((parent, name.to_owned()))
    }

    /// Makes a link inside. Its text is kept as it is; it is only ever followed inside the root.
    pub fn symlink(&self, text: &Path, path: &Path) -> Result<()> {
        let (parent, name) = self.parent(path)?;
        symlinkat(text, parent, name.as_os_str()).doing(|| format!("make the link {}", path.display()))
    }

    /// Makes a directory and those above it, and returns it as an `O_PATH` descriptor.
    pub fn mkdir_all(&self, path: &Path, mode: u32) -> Result<OwnedFd> {
        self.make_dirs(path, mode, &mut |_| ())
    }

    /// Makes a directory and those above it, and tells each one made: its real path inside the root.
    pub fn make_dirs(&self, path: &Path, mode: u32, made: &mut dyn FnMut(&Path)) -> Result<OwnedFd> {
        if let Ok(there) = self.raw(path, OFlag::O_PATH | OFlag::O_DIRECTORY, 0) {
            return Ok(there);
        }
        let (dir, _) = self.descend(path, Some(mode), made)?;
        Ok(dir)
    }

    /// The real path inside the root of what `path` means, links followed. What is missing at its end
    /// stays as it is written.
    pub fn resolve(&self, path: &Path) -> Result<PathBuf> {
        self.descend(path, None, &mut |_| ()).map(|(_, real)| real)
    }

    /// Walks `path` one component at a time, as the kernel would with this root as `/`: a stack of open
    /// directories, so that `..` is a pop and can never rise above the root. Missing directories are made
    /// if `make` has a mode. Returns the deepest directory that is there, and the real path.
    fn descend(
        &self,
        path: &Path,
        make: Option<u32>,
        made: &mut dyn FnMut(&Path),
    ) -> Result<(OwnedFd, PathBuf)> {
        let doing = || format!("resolve {} in the root", path.display());
        let mut stack = vec![self.dir.try_clone().doing(doing)?];
        let mut real = PathBuf::from("/");
        let mut todo: VecDeque<OsString> = components(path).collect();
        let mut links = 0;
        while let Some(name) = todo.pop_front() {
            if name == ".." {
                if stack.len() > 1 {
                    stack.pop();
                }
                real.pop();
                continue;
            }
            let here = &stack[stack.len() - 1];
            let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let next = match openat(here, name.as_os_str(), flags, Mode::empty()) {
                Err(Errno::ENOENT) if make.is_some() => {
                    let mode = Mode::from_bits_truncate(make.unwrap_or(0o755));
                    let new = match mkdirat(here, name.as_os_str(), mode) {
                        Ok(()) => true,
                        // Somebody else was faster: as good.
                        Err(Errno::EEXIST) => false,
                        Err(errno) => return Err(Error::Sys { doing: doing(), errno }),
                    };
                    let dir = openat(here, name.as_os_str(), flags, Mode::empty()).doing(doing)?;
                    if new {
                        // mkdirat was subject to this process's umask.
                        chmod_path(dir.as_fd(), mode.bits()).doing(doing)?;
                        made(&real.join(&name));
                    }
                    dir
                }
                Err(Errno::ENOENT) => {
                    // Nothing is there to be followed: the rest is taken as written.
                    real.push(&name);
                    for rest in todo.drain(..) {
                        if rest == ".." {
                            real.pop();
                        } else {
                            real.push(rest);
                        }
                    }
                    break;
                }
                other => other.doing(doing)?,
            };
            let kind = kind(&fstat(&next).doing(doing)?);
            if kind == SFlag::S_IFLNK {
                links += 1;
                if links > MAX_LINKS {
                    return Err(Error::Sys { doing: doing(), errno: Errno::ELOOP });
                }
                let text = PathBuf::from(readlinkat(here, name.as_os_str()).doing(doing)?);
                if text.is_absolute() {
                    stack.truncate(1);
                    real = PathBuf::from("/");
                }
                for part in components(&text).collect::<Vec<_>>().into_iter().rev() {
                    todo.push_front(part);
                }
                continue;
            }
            real.push(&name);
            if kind == SFlag::S_IFDIR {
                stack.push(next);
            } else if !todo.is_empty() || make.is_some() {
                return Err(Error::Sys { doing: doing(), errno: Errno::ENOTDIR });
            }
        }
        let dir = stack.pop().map_or_else(|| self.dir.try_clone().doing(doing), Ok)?;
        Ok((dir, real))
    }

    /// Removes what is at `path` with everything below it. A link is removed, not followed. Nothing there
    /// is no error.
    pub fn remove_all(&self, path: &Path) -> Result<()> {
        let (parent, name) = match self.parent(path) {
            Err(e) if e.errno() == Some(Errno::ENOENT) => return Ok(()),
            other => other?,
        };
        remove_at(parent.as_fd(), &name).doing(|| format!("remove {} in the root", path.display()))
    }

    /// `path` with the links of all but its last component followed.
    fn resolve_parent(&self, path: &Path) -> Result<PathBuf> {
        match path.file_name() {
            Some(name) => Ok(self.resolve(path.parent().unwrap_or(Path::new("/")))?.join(name)),
            None => self.resolve(path),
        }
    }
}

/// The file type of a stat.
pub fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits())
}

fn regular(fd: OwnedFd, path: &Path) -> Result<File> {
    let stat = fstat(&fd).doing(|| format!("stat {} in the root", path.display()))?;
    match kind(&stat) {
        SFlag::S_IFREG => Ok(File::from(fd)),
        SFlag::S_IFDIR => {
            Err(Error::Sys { doing: format!("open {} in the root", path.display()), errno: Errno::EISDIR })
        }
        _ => Err(Error::Entry {
            entry: path.display().to_string(),
            why: "a regular file is needed here, and this is a device, pipe or socket".into(),
        }),
    }
}

/// The components that lead somewhere: names and `..`.
fn components(path: &Path) -> impl Iterator<Item = OsString> {
    path.components().filter_map(|c| match c {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        _ => None,
    })
}

/// chmod(2) on exactly what an `O_PATH` descriptor holds: the link in /proc leads to that file and no
/// other, where a path could have been swapped for a link (CVE-2021-32760).
pub(crate) fn chmod_path(fd: BorrowedFd, mode: u32) -> nix::Result<()> {
    nix::sys::stat::fchmodat(
        nix::fcntl::AT_FDCWD,
        proc_path(fd).as_path(),
        Mode::from_bits_truncate(mode),
        nix::sys::stat::FchmodatFlags::FollowSymlink,
    )
}

/// The path in /proc that means an open descriptor (proc(5), /proc/pid/fd).
pub(crate) fn proc_path(fd: BorrowedFd) -> PathBuf {
    use std::os::fd::AsRawFd;
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

/// A number that is new in this process.
pub(crate) fn fresh() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

mod remove;
#[cfg(test)]
mod tests;
mod walk;
