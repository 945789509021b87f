//! From a changed directory to a new layer.
//!
//! An overlay's upper directory *is* the difference: what is in it is new or changed, a whiteout stands for
//! what was removed. To make a layer of it is to translate overlayfs's spelling of "removed" into the
//! image-spec's, and to pack.

use crate::{
    Result, Store,
    attributes::Attributes,
    error::Doing,
    image::Compression,
    pack::{Options, Packer},
    pipe::Pipe,
    receive::join,
    root::{Next, Root, Visit, kind},
    stack::{Stack, is_opaque, is_whiteout},
    store::sha256_digest,
};
use flate2::{Compression as Level, GzBuilder};
use nix::{
    fcntl::{OFlag, openat, readlinkat},
    sys::stat::{FileStat, Mode, SFlag},
};
use oci_spec::image::{Descriptor, Digest};
use sha2::Digest as _;
use std::{
    collections::BTreeMap,
    ffi::OsString,
    io::{self, BufWriter, Write},
    os::fd::{AsFd, BorrowedFd},
    path::{Path, PathBuf},
    sync::mpsc::{SyncSender, sync_channel},
    thread,
};

/// What happened to a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `C`, `A`, `D` of `docker diff`.
    Modified,
    /// New.
    Added,
    /// Gone.
    Deleted,
}

impl Kind {
    /// The letter that `docker diff` prints.
    pub fn letter(self) -> char {
        match self {
            Kind::Modified => 'C',
            Kind::Added => 'A',
            Kind::Deleted => 'D',
        }
    }
}

/// What an overlay's upper directory changes over the layers below (topmost first), sorted by path. Paths
/// begin with a slash.
pub fn changes(upper: &Path, lower: &[PathBuf]) -> Result<Vec<(Kind, PathBuf)>> {
    let root = Root::open(upper)?;
    let below = Stack::open(lower)?;
    let mut changes = BTreeMap::new();
    root.walk(Path::new("/"), &mut |visit| {
        if visit.path == Path::new("/") {
            return Ok(Next::Into);
        }
        let before = below.find(visit.path)?;
        let path = visit.path.to_owned();
        if is_whiteout(&visit.stat) {
            if before.is_some() {
                changes.insert(path, Kind::Deleted);
            }
            return Ok(Next::Skip);
        }
        let is_dir = kind(&visit.stat) == SFlag::S_IFDIR;
        let Some(before) = before else {
            changes.insert(path, Kind::Added);
            return Ok(Next::Into);
        };
        // A directory is here whenever something in it changed; it counts by itself if it changed itself.
        let same = is_dir
            && kind(&before.stat) == SFlag::S_IFDIR
            && visit.stat.st_mode == before.stat.st_mode
            && (visit.stat.st_uid, visit.stat.st_gid) == (before.stat.st_uid, before.stat.st_gid)
            && (visit.stat.st_mtime, visit.stat.st_mtime_nsec)
                == (before.stat.st_mtime, before.stat.st_mtime_nsec);
        if !same {
            changes.insert(path.clone(), Kind::Modified);
        }
        // Removed and made again: all that was in it is gone, without a whiteout for each.
        if is_dir && is_opaque(root.open_with(visit.path, OFlag::O_PATH, 0)?.as_fd()) {
            for name in below.names(visit.path)? {
                let gone = path.join(name);
                if !root.exists(&gone) {
                    changes.insert(gone, Kind::Deleted);
                }
            }
        }
        Ok(Next::Into)
    })?;
    // What leads to a change has changed, as docker has it.
    let above: Vec<PathBuf> = changes
        .keys()
        .flat_map(|path| path.ancestors().skip(1).map(Path::to_owned))
        .filter(|path| path != Path::new("/"))
        .collect();
    for path in above {
        changes.entry(path).or_insert(Kind::Modified);
    }
    Ok(changes.into_iter().map(|(path, kind)| (kind, path)).collect())
}

/// Writes an upper directory as a layer (gzip) into the store. Equal trees give equal digests.
/// Returns the blob and its diff ID.
pub fn commit(store: &Store, upper: &Path) -> Result<(Descriptor, Digest)> {
    let root = Root::open(upper)?;
    store.write_layer(|out| {
        let mut packer = Packer::new(out);
        let options = Options { overlay: true, owner: image_owner(), ..Options::default() };
        packer.root(&root, &options)?;
        packer.tree(&root, Path::new("/"), Path::new(""), &options)?;
        packer.finish().map(drop)
    })
}

/// What a changed copy of a stack (a bundle's root, unpacked without overlay) changes over it: found by
/// looking at every file. Type, mode, owner, size, time, link text and xattrs are compared, never content.
pub fn compare(root: &Root, below: &Stack) -> Result<BTreeMap<PathBuf, Kind>> {
    let mut changes = BTreeMap::new();
    root.walk(Path::new("/"), &mut |visit| {
        let path = visit.path.to_owned();
        let is_dir = kind(&visit.stat) == SFlag::S_IFDIR;
        let before = below.find(visit.path)?;
        match &before {
            None => drop(changes.insert(path.clone(), Kind::Added)),
            Some(before) if visit.path != Path::new("/") => {
                let fd = openat(visit.dir, visit.name, OFlag::O_PATH | OFlag::O_NOFOLLOW, Mode::empty())
                    .doing(|| format!("compare {}", path.display()))?;
                let size = |stat: &FileStat| if is_dir { 0 } else { stat.st_size };
                if kind(&before.stat) != kind(&visit.stat)
                    || size(&before.stat) != size(&visit.stat)
                    || before.stat.st_rdev != visit.stat.st_rdev
                    || Attributes::read(before.fd.as_fd(), &before.stat)
                        != Attributes::read(fd.as_fd(), &visit.stat)
                    || link_text(before.fd.as_fd()) != link_text(fd.as_fd())
                {
                    changes.insert(path.clone(), Kind::Modified);
                }
            }
            Some(_) => (),
        }
        if is_dir && before.is_some_and(|before| kind(&before.stat) == SFlag::S_IFDIR) {
            for name in below.names(visit.path)? {
                let gone = path.join(name);
                if !root.exists(&gone) {
                    changes.insert(gone, Kind::Deleted);
                }
            }
        }
        Ok(Next::Into)
    })?;
    Ok(changes)
}

/// Packs what [`compare`] found as a layer.
pub fn commit_changes(
    store: &Store,
    root: &Root,
    changes: &BTreeMap<PathBuf, Kind>,
) -> Result<(Descriptor, Digest)> {
    let options = Options { owner: image_owner(), ..Options::default() };
    store.write_layer(|out| {
        let mut packer = Packer::new(out);
        for (path, what) in changes {
            let inside = path.strip_prefix("/").unwrap_or(path);
            if *what == Kind::Deleted {
                packer.whiteout(inside)?;
                continue;
            }
            let (dir, name) = root.parent(path)?;
            let stat = root.lstat(path)?;
            packer.visit(&Visit { path, dir: dir.as_fd(), name: &name, stat }, inside, &options)?;
        }
        packer.finish().map(drop)
    })
}

/// Whose a layer's files are: of root's making, whose they are; what an ordinary user made is theirs here,
/// for they can give nothing away, and root's in the image.
fn image_owner() -> Option<(u32, u32)> {
    (!nix::unistd::geteuid().is_root()).then_some((0, 0))
}

/// Where a link points; nothing if it is none.
fn link_text(fd: BorrowedFd) -> Option<OsString> {
    readlinkat(fd, "").ok()
}

impl Store {
    /// Stores the tar that `write` writes as a layer: hashed for its diff ID, compressed, hashed for its
    /// digest, all in one pass, the compressing on a thread of its own.
    pub fn write_layer(
        &self,
        write: impl FnOnce(&mut dyn Write) -> Result<()>,
    ) -> Result<(Descriptor, Digest)> {
        let mut ingest = self.ingest()?;
        let mut hash = sha2::Sha256::new();
        let doing = || "compress a layer".to_string();
        thread::scope(|scope| -> Result<()> {
            let (plain, compressor) = sync_channel(16);
            let ingest = &mut ingest;
            let compress = scope.spawn(move || {
                // No name and no time in gzip's header: they would make equal layers differ.
                let mut gzip = GzBuilder::new().write(BufWriter::with_capacity(1 << 16, ingest), LEVEL);
                io::copy(&mut Pipe::new(compressor), &mut gzip).doing(doing)?;
                gzip.finish().doing(doing)?.flush().doing(doing)
            });
            let mut out = BufWriter::with_capacity(crate::unpack::CHUNK, Tee { hash: &mut hash, plain });
            let written = write(&mut out).and_then(|()| out.flush().doing(doing));
            drop(out);
            join(compress).and(written)
        })?;
        let blob = ingest.commit(Compression::Gzip.media_type(), None)?;
        let diff_id = sha256_digest(hash)?;
        tracing::info!(target: "step", section = "5.1", call = "rename(2)", "layer {} is in the store", blob.digest());
        Ok((blob, diff_id))
    }

    /// Stores a tar (compressed or not) that is to be a layer as it is. Returns the blob and its diff ID.
    pub fn write_tar(&self, mut tar: impl io::Read) -> Result<(Descriptor, Digest)> {
        self.write_layer(|out| io::copy(&mut tar, out).map(drop).doing(|| "read a layer".into()))
    }
}

/// Fast rather than small: a layer is compressed once for every build, and a registry can be told better.
const LEVEL: Level = Level::new(1);

/// Hashes, and hands over to the compressing thread.
struct Tee<'a> {
    hash: &'a mut sha2::Sha256,
    plain: SyncSender<Vec<u8>>,
}

impl Write for Tee<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.hash.update(buf);
        self.plain.send(buf.to_vec()).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(buf.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
