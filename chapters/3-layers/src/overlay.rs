//! Many directories seen as one (Documentation/filesystems/overlayfs.rst).

use crate::Result;
use std::path::{Path, PathBuf};

/// Mounts `lower` (topmost first) under `upper` at `target`; without an upper, read-only. `volatile`
/// leaves out the syncs, for a container that is removed when it ends. Any number of layers; in a user
/// namespace too (`userxattr`).
pub fn mount(lower: &[PathBuf], upper: Option<(&Path, &Path)>, target: &Path, volatile: bool) -> Result<()> {
    let _ = (lower, upper, target, volatile);
    todo!()
}

/// Unmounts it.
pub fn unmount(target: &Path) -> Result<()> {
    let _ = target;
    todo!()
}
