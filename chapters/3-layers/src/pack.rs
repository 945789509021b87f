//! A directory as a tar: sorted, and with nothing in it that is not the tree's, so that equal trees give
//! equal bytes, and equal digests.

use crate::{
    Error, Result,
    attributes::read_xattrs,
    error::Doing,
    root::{Next, Root, Visit, kind, proc_path},
    stack::{is_opaque, is_whiteout},
    tarball::{Entry, Kind, write_end, write_header, write_padding},
    unpack::{OPAQUE, WHITEOUT},
};
use nix::{
    fcntl::{OFlag, openat, readlinkat},
    sys::stat::{Mode, SFlag, major, minor},
};
use std::{
    collections::HashMap,
    ffi::{OsStr, OsString},
    fs::File,
    io::{Read, Write},
    os::{
        fd::AsFd,
        unix::ffi::{OsStrExt, OsStringExt},
    },
    path::{Path, PathBuf},
};

/// How to pack a tree.
#[derive(Default)]
pub struct Options<'a> {
    /// Everything belongs to this user and group.
    pub owner: Option<(u32, u32)>,
    /// Everything has these permissions (COPY --chmod).
    pub mode: Option<u32>,
    /// Everything has this time.
    pub mtime: Option<i64>,
    /// The tree is in overlayfs's form: its whiteouts and opaque directories become those of a layer.
    pub overlay: bool,
    /// Asked of each path (from the packed tree's root): what is not wanted is left out, a directory with
    /// all that is in it.
    #[expect(clippy::type_complexity, reason = "one closure")]
    pub filter: Option<&'a dyn Fn(&Path, &nix::sys::stat::FileStat) -> bool>,
}

/// Writes a tar of one or more trees.
pub struct Packer<W: Write> {
    out: W,
    /// Files with several names: the first path of each.
    first_names: HashMap<(u64, u64), OsString>,
}

impl<W: Write> Packer<W> {
    /// Into this.
    pub fn new(out: W) -> Packer<W> {
        Packer { out, first_names: HashMap::new() }
    }

    /// Packs what is at `from` in `root`, with everything below it, as `to` in the tar (empty: the contents
    /// of the directory `from`, without an entry for itself).
    pub fn tree(&mut self, root: &Root, from: &Path, to: &Path, options: &Options) -> Result<()> {
        let real = match from.file_name() {
            Some(name) => root.resolve(from.parent().unwrap_or(Path::new("/")))?.join(name),
            None => root.resolve(from)?,
        };
        root.walk(&real, &mut |visit| {
            let inside = visit.path.strip_prefix(&real).unwrap_or(visit.path);
            let path = if inside.as_os_str().is_empty() { to.to_owned() } else { to.join(inside) };
            if options
                .filter
                .is_some_and(|wanted| !inside.as_os_str().is_empty() && !wanted(inside, &visit.stat))
            {
                return Ok(Next::Skip);
            }
            if path.as_os_str().is_empty() {
                return Ok(Next::Into);
            }
            self.visit(visit, &path, options)?;
            Ok(Next::Into)
        })
    }

    /// Adds an entry for the root itself, if it is anything but what a root is without one.
    pub fn root(&mut self, root: &Root, options: &Options) -> Result<()> {
        let stat = nix::sys::stat::fstat(root).doing(|| packing(Path::new("/")))?;
        let (uid, gid) = options.owner.unwrap_or((stat.st_uid, stat.st_gid));
        let mode = stat.st_mode & 0o7777;
        if (mode, uid, gid) == (0o755, 0, 0) {
            return Ok(());
        }
        self.directory(Path::new("."), mode, (uid, gid), stat.st_mtime)
    }

    /// Adds a directory that is in no tree.
    pub fn directory(&mut self, path: &Path, mode: u32, owner: (u32, u32), mtime: i64) -> Result<()> {
        let mut entry = Entry::new(&slashed(path), Kind::Directory, mode);
        (entry.uid, entry.gid, entry.mtime) = (owner.0, owner.1, (mtime, 0));
        self.header(&entry)
    }

    /// Adds a file that is in no tree.
    pub fn file(&mut self, path: &Path, mode: u32, owner: (u32, u32), mtime: i64, data: &[u8]) -> Result<()> {
        let mut entry = Entry::new(path.as_os_str(), Kind::File, mode);
        (entry.uid, entry.gid, entry.mtime) = (owner.0, owner.1, (mtime, 0));
        entry.size = data.len() as u64;
        self.header(&entry)?;
        self.out
            .write_all(data)
            .and_then(|()| write_padding(&mut self.out, entry.size))
            .doing(|| packing(path))
    }

    /// Adds the mark that `path` is gone in this layer.
    pub fn whiteout(&mut self, path: &Path) -> Result<()> {
        let name = [WHITEOUT, path.file_name().unwrap_or_default().as_bytes()].concat();
        let path = path.with_file_name(OsString::from_vec(name));
        self.header(&Entry::new(path.as_os_str(), Kind::File, 0o644))
    }

    /// What it is written to, with no end written.
    pub fn into_inner(self) -> W {
        self.out
    }

    /// Ends the tar, and gives back what it was written to.
    pub fn finish(mut self) -> Result<W> {
        write_end(&mut self.out).doing(|| "end the tar".into())?;
        Ok(self.out)
    }

    /// Packs one thing that a walk shows, as `path`.
    pub fn visit(&mut self, visit: &Visit, path: &Path, options: &Options) -> Result<()> {
        let doing = || packing(path);
        let stat = &visit.stat;
        if options.overlay && is_whiteout(stat) {
            return self.whiteout(path);
        }
        if options.overlay && visit.name.as_bytes().starts_with(WHITEOUT) {
            return Err(Error::Entry {
                entry: path.display().to_string(),
                why: "in a layer, a name that begins with .wh. deletes what is below; call it otherwise"
                    .into(),
            });
        }
        let entry_kind = match kind(stat) {
            SFlag::S_IFREG => Kind::File,
            SFlag::S_IFDIR => Kind::Directory,
            SFlag::S_IFLNK => Kind::Symlink,
            SFlag::S_IFCHR => Kind::Char,
            SFlag::S_IFBLK => Kind::Block,
            SFlag::S_IFIFO => Kind::Fifo,
            // A tar cannot hold a socket, and a socket without its process is nothing; docker leaves it out.
            _ => return Ok(()),
        };
        let name = if entry_kind == Kind::Directory { slashed(path) } else { path.as_os_str().to_owned() };
        let mut entry = Entry::new(&name, entry_kind, options.mode.unwrap_or(stat.st_mode) & 0o7777);
        (entry.uid, entry.gid) = options.owner.unwrap_or((stat.st_uid, stat.st_gid));
        entry.mtime = (stat.st_mtime, stat.st_mtime_nsec as u32);
        if let Some(mtime) = options.mtime {
            entry.mtime = (mtime, 0);
        }
        entry.device = (major(stat.st_rdev) as u32, minor(stat.st_rdev) as u32);
        match entry_kind {
            Kind::Symlink => entry.link = readlinkat(visit.dir, visit.name).doing(doing)?,
            Kind::File => return self.regular(visit, entry, path),
            Kind::Directory => {
                let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                let dir = openat(visit.dir, visit.name, flags, Mode::empty()).doing(doing)?;
                entry.xattrs = read_xattrs(&proc_path(dir.as_fd()));
                self.header(&entry)?;
                if options.overlay && is_opaque(dir.as_fd()) {
                    let mark = path.join(OsStr::from_bytes(OPAQUE));
                    self.header(&Entry::new(mark.as_os_str(), Kind::File, 0o644))?;
                }
                return Ok(());
            }
            _ => (),
        }
        self.header(&entry)
    }

    fn regular(&mut self, visit: &Visit, mut entry: Entry, path: &Path) -> Result<()> {
        let doing = || packing(path);
        let stat = &visit.stat;
        if stat.st_nlink > 1 {
            if let Some(first) = self.first_names.get(&(stat.st_dev, stat.st_ino)) {
                entry.kind = Kind::HardLink;
                entry.link = first.clone();
                return self.header(&entry);
            }
            self.first_names.insert((stat.st_dev, stat.st_ino), path.as_os_str().to_owned());
        }
        let flags =
            OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let file: File = openat(visit.dir, visit.name, flags, Mode::empty()).doing(doing)?.into();
        entry.xattrs = read_xattrs(&proc_path(file.as_fd()));
        entry.size = stat.st_size as u64;
        self.header(&entry)?;
        // The header has said how many bytes come; a file that grows meanwhile is cut there.
        let copied = std::io::copy(&mut (&file).take(entry.size), &mut self.out).doing(doing)?;
        if copied < entry.size {
            return Err(Error::Entry {
                entry: path.display().to_string(),
                why: "it became shorter while it was read; try again when nobody writes to it".into(),
            });
        }
        write_padding(&mut self.out, entry.size).doing(doing)
    }

    fn header(&mut self, entry: &Entry) -> Result<()> {
        write_header(&mut self.out, entry).doing(|| packing(Path::new(&entry.path)))
    }
}

fn packing(path: &Path) -> String {
    format!("pack {}", path.display())
}

/// Directories have a slash at their end.
fn slashed(path: &Path) -> OsString {
    let mut name = PathBuf::from(path).into_os_string();
    name.push("/");
    name
}
