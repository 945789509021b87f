//! Side room: what changed, without overlay to tell: two trees compared, as umoci does it for a bundle.

use crate::{
    Result, Store,
    attributes::Attributes,
    diff::{Kind, image_owner},
    error::Doing,
    pack::{Options, Packer},
    root::{Next, Root, Visit, kind},
    stack::Stack,
};
use nix::{
    fcntl::{OFlag, openat, readlinkat},
    sys::stat::{FileStat, Mode, SFlag},
};
use oci_spec::image::{Descriptor, Digest};
use std::{
    collections::BTreeMap,
    ffi::OsString,
    os::fd::{AsFd, BorrowedFd},
    path::{Path, PathBuf},
};

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

/// Where a link points; nothing if it is none.
fn link_text(fd: BorrowedFd) -> Option<OsString> {
    readlinkat(fd, "").ok()
}
