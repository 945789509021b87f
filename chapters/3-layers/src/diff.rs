//! From a changed directory to a new layer.
//!
//! An overlay's upper directory *is* the difference: what is in it is new or changed, a whiteout stands for
//! what was removed. To make a layer of it is to translate overlayfs's spelling of "removed" into the
//! image-spec's, and to pack.

use crate::{
    Result, Store,
    pack::{Options, Packer},
    root::{Next, Root, kind},
    stack::{Stack, is_opaque, is_whiteout},
};
use nix::{fcntl::OFlag, sys::stat::SFlag};
use oci_spec::image::{Descriptor, Digest};
use std::{
    collections::BTreeMap,
    os::fd::AsFd,
    path::{Path, PathBuf},
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

/// Whose a layer's files are: of root's making, whose they are; what an ordinary user made is theirs here,
/// for they can give nothing away, and root's in the image.
pub(crate) fn image_owner() -> Option<(u32, u32)> {
    (!nix::unistd::geteuid().is_root()).then_some((0, 0))
}
