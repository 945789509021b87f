//! Files of state: written beside, then renamed, so that nothing half-done is ever seen.

use super::failure::{Failure, Result};
use serde::{Serialize, de::DeserializeOwned};
use std::{fs, io::Write, path::Path};

/// How much must survive.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durable {
    /// `kill -9` of every process of ours, for which the page cache is enough: it is the kernel's, not ours. This
    /// is what the state of containers needs, and it costs no wait for a disk while one starts.
    Process,
    /// Loss of power as well: fsync(2) before the rename, and of the directory after it. For what a user
    /// made to last: volumes, networks.
    Power,
}

/// Replaces the file at `path`.
pub(crate) fn write(path: &Path, bytes: &[u8], durable: Durable) -> Result<()> {
    let doing = |e: std::io::Error| Failure::internal(format!("writing {}: {e}", path.display()));
    // One writer per file (each object's own lock): a fixed name beside it, so that a crash leaves at most one.
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let mut file = fs::File::create(&beside).map_err(doing)?;
    file.write_all(bytes).map_err(doing)?;
    if durable == Durable::Power {
        file.sync_all().map_err(doing)?;
    }
    fs::rename(&beside, path).map_err(doing)?;
    if durable == Durable::Power
        && let Some(dir) = path.parent()
    {
        fs::File::open(dir).and_then(|d| d.sync_all()).map_err(doing)?;
    }
    Ok(())
}

/// Replaces the file at `path` by a JSON document.
pub(crate) fn write_json(path: &Path, value: &impl Serialize, durable: Durable) -> Result<()> {
    write(path, &serde_json::to_vec(value)?, durable)
}

/// Reads a JSON document; `None` if there is no such file.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|e| Failure::internal(format!("reading {}: {e}", path.display()))),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Failure::internal(format!("reading {}: {e}", path.display()))),
    }
}

/// Makes a directory and those above it, for our eyes only.
pub(crate) fn make_dir(path: &Path, mode: u32) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(|e| Failure::internal(format!("making {}: {e}", path.display())))
}

/// Removes a directory and all below it; one that is gone already is fine.
pub(crate) fn remove_dir(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(Failure::internal(format!("removing {}: {e}", path.display()))),
    }
}
