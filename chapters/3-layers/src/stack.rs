//! What a stack of layers shows at a path, without mounting it: the rules of overlayfs, in user space
//! (Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories").

use crate::{
    Result,
    error::Doing,
    root::{Root, kind, proc_path},
};
use nix::{
    errno::Errno,
    fcntl::{OFlag, openat},
    sys::stat::{FileStat, Mode, SFlag, fstat},
};
use std::{
    collections::BTreeSet,
    ffi::OsString,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

/// Unpacked layers, topmost first.
#[derive(Debug)]
pub struct Stack {
    layers: Vec<Root>,
}

/// What a stack shows at a path.
#[derive(Debug)]
pub struct Shown {
    /// It, as an `O_PATH` descriptor.
    pub fd: OwnedFd,
    /// Its attributes.
    pub stat: FileStat,
    /// Which layer it is in, the topmost being 0.
    pub layer: usize,
}

impl Stack {
    /// Opens the layers' directories, topmost first.
    pub fn open(layers: &[impl AsRef<Path>]) -> Result<Stack> {
        let layers = layers.iter().map(|dir| Root::open(dir.as_ref())).collect::<Result<_>>()?;
        Ok(Stack { layers })
    }

    /// What is at `path`; links are shown, never followed. `None` if nothing is, or a whiteout hides it.
    pub fn find(&self, path: &Path) -> Result<Option<Shown>> {
        let doing = || format!("look for {} in the layers below", path.display());
        'layers: for (layer, root) in self.layers.iter().enumerate() {
            let mut here = root.as_fd().try_clone_to_owned().doing(doing)?;
            let mut opaque = false;
            let mut names = path.iter().filter(|n| *n != "/" && *n != ".").peekable();
            let mut stat = fstat(&here).doing(doing)?;
            while let Some(name) = names.next() {
                opaque |= is_opaque(here.as_fd());
                let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                here = match openat(&here, name, flags, Mode::empty()) {
                    Err(Errno::ENOENT) if opaque => return Ok(None),
                    Err(Errno::ENOENT) => continue 'layers,
                    other => other.doing(doing)?,
                };
                stat = fstat(&here).doing(doing)?;
                // A whiteout, or a file where the path wants a directory: what is below is hidden.
                if is_whiteout(&stat) || (names.peek().is_some() && kind(&stat) != SFlag::S_IFDIR) {
                    return Ok(None);
                }
            }
            return Ok(Some(Shown { fd: here, stat, layer }));
        }
        Ok(None)
    }

    /// The names that the stack shows in a directory, sorted.
    pub fn names(&self, path: &Path) -> Result<BTreeSet<OsString>> {
        let doing = || format!("list {} in the layers below", path.display());
        let mut names = BTreeSet::new();
        let mut hidden = BTreeSet::new();
        for root in &self.layers {
            let Ok(shown) = root.raw(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW, 0)
            else {
                // Not in this layer; if it is hidden here (a whiteout, a file), then all below is too.
                if root.exists(path) {
                    break;
                }
                continue;
            };
            let opaque = is_opaque(shown.as_fd());
            let mut dir = nix::dir::Dir::from_fd(shown).doing(doing)?;
            let all: Vec<_> = dir
                .iter()
                .filter_map(|e| e.ok())
                .map(|e| std::os::unix::ffi::OsStringExt::from_vec(e.file_name().to_bytes().to_vec()))
                .filter(|n: &OsString| n != "." && n != "..")
                .collect();
            for name in all {
                let stat =
                    nix::sys::stat::fstatat(&dir, name.as_os_str(), nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW)
                        .doing(doing)?;
                if is_whiteout(&stat) {
                    hidden.insert(name);
                } else if !hidden.contains(&name) {
                    names.insert(name);
                }
            }
            if opaque {
                break;
            }
        }
        Ok(names)
    }

    /// The layers' roots, topmost first.
    pub fn roots(&self) -> &[Root] {
        &self.layers
    }

    /// Whether `path` is a directory in any layer that is shown.
    pub fn is_dir(&self, path: &Path) -> Result<bool> {
        Ok(self.find(path)?.is_some_and(|s| kind(&s.stat) == SFlag::S_IFDIR))
    }
}

/// Whether this is overlayfs's mark for "nothing here": a character device 0/0.
pub fn is_whiteout(stat: &FileStat) -> bool {
    kind(stat) == SFlag::S_IFCHR && stat.st_rdev == 0
}

/// Whether a directory hides what is below it, in either of the two spellings (see
/// [`crate::overlay::xattr_prefix`]).
pub fn is_opaque(dir: BorrowedFd) -> bool {
    let path: PathBuf = proc_path(dir);
    ["trusted.overlay.opaque", "user.overlay.opaque"]
        .iter()
        .any(|name| matches!(xattr::get_deref(&path, name), Ok(Some(value)) if value == b"y"))
}
