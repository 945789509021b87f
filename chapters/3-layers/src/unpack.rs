//! From a layer's tar to a directory (image-spec, layer.md), trusting nothing in it.
//!
//! A layer is a list of changes written as a tar: what is new or different is there whole, and what is gone
//! is an empty file `.wh.NAME`, a whiteout. Each layer is unpacked into a directory of its own, without
//! looking at those below: so layers can be unpacked at the same time. Only two things need the layers
//! below, and they wait until those are there ([`settle`]): a directory that the tar implies but does not
//! hold (`a/b/file` with no entry for `a`) has the attributes it had before, and a hard link may name a file
//! that an earlier layer brought.

use crate::{
    Error, Result,
    attributes::{Attributes, Owners},
    error::Doing,
    root::{Root, kind, remove_at},
    stack::is_whiteout,
    tarball::{Entry, Kind, Reader},
};
use nix::{
    errno::Errno,
    fcntl::{AtFlags, OFlag, openat},
    sys::stat::{Mode, SFlag, fstatat, makedev, mkdirat, mknodat},
    unistd::{linkat, symlinkat},
};
use std::{
    collections::{HashMap, HashSet},
    ffi::{OsStr, OsString},
    fs::File,
    io::{BufRead, BufReader, Read, Seek, SeekFrom},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::{OsStrExt, OsStringExt},
    },
    path::{Component, Path, PathBuf},
    rc::Rc,
};

pub use crate::settle::{Unsettled, settle};

/// The most entries that a layer may have: a bomb of empty files stops here.
pub const MAX_ENTRIES: u64 = 8 << 20;

/// The most bytes that a layer's files may have together: a bomb of zeros stops here.
pub const MAX_BYTES: u64 = 128 << 30;

/// How much is read at a time.
pub(crate) const CHUNK: usize = 256 << 10;

/// The prefix of a whiteout's name, and the name of the one for "everything that was in this directory".
pub(crate) const WHITEOUT: &[u8] = b".wh.";
/// See [`WHITEOUT`].
pub(crate) const OPAQUE: &[u8] = b".wh..wh..opq";

/// What whiteouts in a tar mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Whiteouts {
    /// They become overlayfs's own: the layer has a directory to itself.
    Overlay,
    /// They remove: all layers go into one directory, bottom first.
    Remove,
    /// Nothing: this tar is no layer (`docker cp`, ADD).
    #[default]
    Plain,
}

/// How to unpack.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// What whiteouts mean.
    pub whiteouts: Whiteouts,
    /// Everything is given to this user and group, whatever the tar says.
    pub owner: Option<(u32, u32)>,
    /// A directory never replaces something else, nor the other way round (`docker cp`).
    pub keep_kind: bool,
}

/// Extracts one layer into `target`. Whiteouts become overlay's own (a 0/0 character device; the opaque
/// xattr). `parents` are the unpacked layers below, topmost first: they give the attributes of directories
/// that the tar implies but does not hold, and files that its hard links name.
pub fn layer(tar: impl Read, target: &Path, parents: &[&Path]) -> Result<()> {
    let root = Root::open(target)?;
    let options = Options { whiteouts: Whiteouts::Overlay, ..Options::default() };
    let unsettled = extract(BufReader::with_capacity(CHUNK, tar), &root, &options)?;
    settle(&root, &unsettled, parents)
}

/// Extracts a tar below `root`. What needs the layers below is returned, not done.
pub fn extract(tar: impl BufRead, root: &Root, options: &Options) -> Result<Unsettled> {
    let mut extractor = Extractor::new(root, *options);
    let mut tar = Reader::new(tar);
    let (mut entries, mut bytes) = (0, 0u64);
    while let Some(entry) = tar.next()? {
        entries += 1;
        bytes = bytes.saturating_add(entry.size);
        within("the number of a layer's files", entries, MAX_ENTRIES)?;
        within("the bytes of a layer's files", bytes, MAX_BYTES)?;
        extractor.entry(entry, &mut tar)?;
    }
    extractor.finish()
}

fn within(what: &str, value: u64, limit: u64) -> Result<()> {
    if value > limit {
        return Err(Error::Limit { what: what.into(), limit: limit.to_string() });
    }
    Ok(())
}

/// A tar on its way into a directory.
struct Extractor<'r> {
    root: &'r Root,
    options: Options,
    owners: Owners,
    /// Open directories by path, so that not every file resolves its whole path. Emptied when anything
    /// that may be part of a path goes or changes.
    open: HashMap<PathBuf, Rc<OwnedFd>>,
    /// Directories' attributes, set last: a file made in a directory changes its time, and a read-only one
    /// would take no files from an ordinary user.
    directories: HashMap<PathBuf, Attributes>,
    /// What this tar itself brought ([`Whiteouts::Remove`] only): its whiteouts leave that alone.
    brought: HashSet<PathBuf>,
    unsettled: Unsettled,
}

impl<'r> Extractor<'r> {
    fn new(root: &'r Root, options: Options) -> Extractor<'r> {
        Extractor {
            root,
            options,
            owners: Owners::new(options.owner),
            open: HashMap::new(),
            directories: HashMap::new(),
            brought: HashSet::new(),
            unsettled: Unsettled::default(),
        }
    }

    /// Extracts one entry.
    fn entry<R: BufRead>(&mut self, entry: Entry, tar: &mut Reader<R>) -> Result<()> {
        let path = clean(&entry.path, &entry.path)?;
        let Some(name) = path.file_name().map(OsStr::to_owned) else {
            return self.top(&entry);
        };
        if self.options.whiteouts != Whiteouts::Plain {
            if path.iter().any(|part| part.as_bytes().starts_with(b".wh..wh.") && part.as_bytes() != OPAQUE) {
                return Ok(()); // what AUFS kept for itself; docker skips it too
            }
            if let Some(hidden) = name.as_bytes().strip_prefix(WHITEOUT) {
                return self.whiteout(&entry, &path, &name, OsStr::from_bytes(hidden));
            }
        }
        let parent = self.parent(&path)?;
        self.brought(&path);
        let parent = parent.as_fd();
        match entry.kind {
            Kind::File => self.file(&entry, &path, parent, &name, tar),
            Kind::Directory => self.directory(entry, &path, parent, &name),
            Kind::HardLink => self.hard_link(&entry, &path, parent, &name),
            Kind::Symlink => {
                self.replacing(&path, parent, &name, &mut || {
                    symlinkat(entry.link.as_os_str(), parent, name.as_os_str())
                })?;
                self.owners.set_link(parent, &name, &Attributes::of(entry)).doing(|| doing(&path))
            }
            Kind::Char | Kind::Block | Kind::Fifo => self.node(entry, &path, parent, &name),
        }
    }

    /// The entry for the target itself (`./`): it gives attributes, and must be a directory. As a link it
    /// would move the whole layer elsewhere (CVE-2021-29136).
    fn top(&mut self, entry: &Entry) -> Result<()> {
        if entry.kind != Kind::Directory {
            return Err(refused(&entry.path, "the layer's own root can only be a directory"));
        }
        self.directories.insert(PathBuf::new(), Attributes::of(entry.clone()));
        Ok(())
    }

    fn file<R: BufRead>(
        &mut self,
        entry: &Entry,
        path: &Path,
        parent: BorrowedFd,
        name: &OsStr,
        tar: &mut Reader<R>,
    ) -> Result<()> {
        let mut file = self.new_file(path, parent, name)?;
        let write = match &entry.pieces {
            None => tar.copy(entry.size, &mut file),
            Some(pieces) => pieces
                .iter()
                .try_for_each(|(offset, length)| {
                    file.seek(SeekFrom::Start(*offset))?;
                    tar.copy(*length, &mut file)
                })
                .and_then(|()| file.set_len(entry.size)),
        };
        write.doing(|| doing(path))?;
        self.owners.set_file(&file, entry).doing(|| doing(path))
    }

    /// An empty file to write an entry's content into, in the place of whatever had its name.
    fn new_file(&mut self, path: &Path, parent: BorrowedFd, name: &OsStr) -> Result<File> {
        // O_EXCL: what we write into is new, never something that was there or that a link leads to.
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mode = Mode::from_bits_truncate(0o600);
        Ok(self.replacing(path, parent, name, &mut || openat(parent, name, flags, mode))?.into())
    }

    fn directory(&mut self, entry: Entry, path: &Path, parent: BorrowedFd, name: &OsStr) -> Result<()> {
        match mkdirat(parent, name, Mode::from_bits_truncate(0o700)) {
            Ok(()) => (),
            Err(Errno::EEXIST) => {
                let there = fstatat(parent, name, AtFlags::AT_SYMLINK_NOFOLLOW).doing(|| doing(path))?;
                if kind(&there) != SFlag::S_IFDIR {
                    if self.options.keep_kind {
                        return Err(Error::Sys { doing: doing(path), errno: Errno::ENOTDIR });
                    }
                    let hides = is_whiteout(&there) && self.options.whiteouts == Whiteouts::Overlay;
                    self.replacing(path, parent, name, &mut || {
                        mkdirat(parent, name, Mode::from_bits_truncate(0o700))
                    })?;
                    if hides {
                        self.opaque(parent, name).doing(|| doing(path))?;
                    }
                }
            }
            Err(errno) => return Err(errno).doing(|| doing(path)),
        }
        self.unsettled.implied.remove(path.as_os_str().as_bytes());
        self.directories.insert(path.to_owned(), Attributes::of(entry));
        Ok(())
    }

    /// Another name for a file. The target's path is treated as hostile as the entry's own: unchecked, it
    /// would put the host's files into the image (CVE-2014-9356).
    fn hard_link(&mut self, entry: &Entry, path: &Path, parent: BorrowedFd, name: &OsStr) -> Result<()> {
        let target = clean(&entry.link, &entry.path)?;
        if target == path {
            return Ok(());
        }
        let found = self.root.parent(&target).and_then(|(dir, file)| {
            let stat = fstatat(&dir, file.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW)
                .doing(|| format!("find {}, of which {} is a link", target.display(), path.display()))?;
            Ok((dir, file, stat))
        });
        match found {
            Ok((dir, file, stat)) if !is_whiteout(&stat) => {
                let link = || linkat(&dir, file.as_os_str(), parent, name, AtFlags::empty());
                self.replacing(path, parent, name, &mut { link })
            }
            Err(e) if self.options.whiteouts != Whiteouts::Overlay || e.errno() != Some(Errno::ENOENT) => {
                Err(e)
            }
            _ => {
                // In a layer below, perhaps. What an earlier entry put here goes.
                self.open.clear();
                remove_at(parent, name).doing(|| doing(path))?;
                self.unsettled
                    .links
                    .push((path.as_os_str().as_bytes().into(), target.into_os_string().into_vec()));
                Ok(())
            }
        }
    }

    fn node(&mut self, entry: Entry, path: &Path, parent: BorrowedFd, name: &OsStr) -> Result<()> {
        let (kind, device) = match entry.kind {
            Kind::Char => (SFlag::S_IFCHR, makedev(entry.device.0.into(), entry.device.1.into())),
            Kind::Block => (SFlag::S_IFBLK, makedev(entry.device.0.into(), entry.device.1.into())),
            _ => (SFlag::S_IFIFO, 0),
        };
        let make = self.replacing(path, parent, name, &mut || {
            mknodat(parent, name, kind, Mode::from_bits_truncate(0o600), device)
        });
        if make.as_ref().is_err_and(|e| e.errno() == Some(Errno::EPERM)) {
            // Only the first user namespace may make devices: one made elsewhere would open the host's
            // disks. Containers do not miss it: their /dev comes from the runtime.
            tracing::warn!(path = %path.display(), "device left out: only root on the host may make devices");
            return Ok(());
        }
        make?;
        self.owners.set_node(parent, name, &Attributes::of(entry)).doing(|| doing(path))
    }

    /// Does `make`; if something is in the way, removes it and does it again: the last entry of a name wins.
    fn replacing<T>(
        &mut self,
        path: &Path,
        parent: BorrowedFd,
        name: &OsStr,
        make: &mut dyn FnMut() -> nix::Result<T>,
    ) -> Result<T> {
        match make() {
            Err(Errno::EEXIST) => {
                let there = fstatat(parent, name, AtFlags::AT_SYMLINK_NOFOLLOW).doing(|| doing(path))?;
                if matches!(kind(&there), SFlag::S_IFDIR | SFlag::S_IFLNK) {
                    if self.options.keep_kind && kind(&there) == SFlag::S_IFDIR {
                        return Err(Error::Sys { doing: doing(path), errno: Errno::EISDIR });
                    }
                    self.open.clear();
                    self.directories.retain(|dir, _| !dir.starts_with(path));
                }
                remove_at(parent, name).doing(|| doing(path))?;
                make().doing(|| doing(path))
            }
            other => other.doing(|| doing(path)),
        }
    }

    /// The directory that an entry goes into, links of this tar followed inside the root.
    fn parent(&mut self, path: &Path) -> Result<Rc<OwnedFd>> {
        let parent = path.parent().unwrap_or(Path::new(""));
        if let Some(open) = self.open.get(parent) {
            return Ok(open.clone());
        }
        let dir = match self.root.raw(parent, OFlag::O_PATH | OFlag::O_DIRECTORY, 0) {
            Ok(dir) => dir,
            Err(Errno::ENOENT | Errno::ENOTDIR) => self.imply(parent)?,
            Err(errno) => return Err(errno).doing(|| doing(path)),
        };
        if self.open.len() >= 64 {
            self.open.clear();
        }
        let dir = Rc::new(dir);
        self.open.insert(parent.to_owned(), dir.clone());
        Ok(dir)
    }

    /// Makes the directories that an entry's path implies.
    fn imply(&mut self, parent: &Path) -> Result<OwnedFd> {
        // A whiteout in the way, of this same layer: the directory is new, and hides what was below.
        for above in parent.ancestors().collect::<Vec<_>>().into_iter().rev() {
            if self.options.whiteouts == Whiteouts::Overlay
                && self.root.lstat(above).is_ok_and(|stat| is_whiteout(&stat))
            {
                let (dir, name) = self.root.parent(above)?;
                remove_at(dir.as_fd(), &name).doing(|| doing(above))?;
                mkdirat(&dir, name.as_os_str(), Mode::from_bits_truncate(0o755)).doing(|| doing(above))?;
                self.opaque(dir.as_fd(), &name).doing(|| doing(above))?;
            }
        }
        let implied = &mut self.unsettled.implied;
        self.root.make_dirs(parent, 0o755, &mut |made| {
            let inside = made.strip_prefix("/").unwrap_or(made);
            implied.insert(inside.as_os_str().as_bytes().to_vec());
        })
    }

    /// Sets what had to wait, deepest first: a directory that is closed to us must not be on the way.
    fn finish(mut self) -> Result<Unsettled> {
        self.open.clear();
        let mut directories: Vec<_> = self.directories.drain().collect();
        directories.sort_unstable_by(|(a, _), (b, _)| b.as_os_str().cmp(a.as_os_str()));
        for (path, attributes) in directories {
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
            match self.root.raw(&path, flags, 0) {
                Ok(dir) => self.owners.set_directory(dir.as_fd(), &attributes).doing(|| doing(&path))?,
                // A later entry put something else there.
                Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => (),
                Err(errno) => return Err(errno).doing(|| doing(&path)),
            }
        }
        Ok(self.unsettled)
    }
}

/// An entry's path as a path below the root: no leading slash, no `.`; a `..` that leads out is refused, as
/// docker refuses it.
fn clean(path: &OsStr, entry: &OsStr) -> Result<PathBuf> {
    if path.as_bytes().contains(&0) {
        return Err(refused(entry, "its path holds a NUL"));
    }
    let mut clean = PathBuf::new();
    for component in Path::new(path).components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir if clean.pop() => (),
            Component::ParentDir => return Err(refused(entry, "its path leads out of the layer")),
            _ => (),
        }
    }
    Ok(clean)
}

fn doing(path: &Path) -> String {
    format!("unpack {}", path.display())
}

fn refused(entry: &OsStr, why: &str) -> Error {
    Error::Entry { entry: OsString::from(entry).to_string_lossy().into_owned(), why: why.into() }
}

#[cfg(test)]
mod tests;
mod whiteout;
