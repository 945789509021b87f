//! A new volume gets what the image has in its place.

use crate::engine::{failure::Result, plan::Plan};
use layers::root::Root;
use nix::{
    fcntl::OFlag,
    sys::stat::{FchmodatFlags, Mode, UtimensatFlags, fchmodat, utimensat},
    sys::time::TimeSpec,
    unistd::{FchownatFlags, Gid, Uid, fchownat},
};
use std::{
    collections::HashMap,
    fs,
    os::{
        fd::AsRawFd,
        unix::fs::{MetadataExt, PermissionsExt},
    },
    path::{Path, PathBuf},
};

/// Fills the empty volumes of a plan.
pub(crate) fn all(plan: &Plan, root: &Root) -> Result<()> {
    for bind in plan.mounts.iter().filter(|b| b.copy_up) {
        if fs::read_dir(&bind.source)?.next().is_some() {
            continue;
        }
        // The image's path, links and all, is resolved inside the root by the kernel; what is below it is read
        // without following any.
        let Ok(dir) = root.open_with(&bind.target, OFlag::O_RDONLY | OFlag::O_DIRECTORY, 0) else { continue };
        let from = Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string());
        tree(&from, &bind.source, &mut HashMap::new())?;
        same(&fs::metadata(&from)?, &bind.source)?;
    }
    Ok(())
}

/// Copies what is in a directory: files, directories and links, each with owner, mode and time. A file with several
/// names is one file again: `names` has the first of each.
fn tree(from: &Path, to: &Path, names: &mut HashMap<(u64, u64), PathBuf>) -> Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let meta = fs::symlink_metadata(&source)?;
        if meta.is_dir() {
            fs::create_dir(&target)?;
            tree(&source, &target, names)?;
        } else if meta.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(&source)?, &target)?;
        } else if meta.is_file() {
            if let Some(first) = names.get(&(meta.dev(), meta.ino())) {
                fs::hard_link(first, &target)?;
                continue;
            }
            fs::copy(&source, &target)?;
            if meta.nlink() > 1 {
                names.insert((meta.dev(), meta.ino()), target.clone());
            }
        } else {
            // A device, a socket: nothing that an image needs to hand on.
            continue;
        }
        same(&meta, &target)?;
    }
    Ok(())
}

fn same(meta: &fs::Metadata, target: &Path) -> Result<()> {
    let here = nix::fcntl::AT_FDCWD;
    let (uid, gid) = (Uid::from_raw(meta.uid()), Gid::from_raw(meta.gid()));
    fchownat(here, target, Some(uid), Some(gid), FchownatFlags::AT_SYMLINK_NOFOLLOW)?;
    if !meta.is_symlink() {
        // After the owner: a change of owner takes set-user-ID away (chown(2)).
        fchmodat(
            here,
            target,
            Mode::from_bits_truncate(meta.permissions().mode()),
            FchmodatFlags::FollowSymlink,
        )?;
    }
    let time = TimeSpec::new(meta.mtime(), meta.mtime_nsec());
    utimensat(here, target, &time, &time, UtimensatFlags::NoFollowSymlink)?;
    Ok(())
}
