//! The layer cache: what an instruction made the last time.
//!
//! ```text
//! key  = sha256(key of what is below ‖ configuration ‖ instruction ‖ what else goes in)
//! step = { the layer it made, if any; when }
//! next = sha256(key ‖ the layer's digest)      what is below the next instruction
//! ```
//!
//! An instruction is not executed again when the same was executed on the same before. "The same" is the
//! whole secret of a build cache: a key that forgets something gives a stale image, or another's
//! (CVE-2024-24557: docker's old builder matched by the text of an instruction alone, and an image pulled
//! from a stranger could pose as the result). So here the whole configuration is in the key, not the line
//! that changed it; the result is in the next key; and entries live in a directory that only builds write,
//! never in images that came from elsewhere.

use crate::{Result, error::Doing};
use layers::{
    Store,
    root::{Next, Root},
};
use oci_spec::image::Descriptor;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::{
    io::Write,
    path::{Path, PathBuf},
};

/// The builder's directory inside the image layout.
const DIRECTORY: &str = ".builder";
/// In every key: it changes when what a key means changes.
const VERSION: &str = "1";

/// What an instruction made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Step {
    /// When (RFC 3339).
    pub(crate) created: String,
    /// The layer, unless no file changed.
    pub(crate) layer: Option<Layer>,
}

/// A layer in the store.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Layer {
    /// Its blob.
    pub(crate) descriptor: Descriptor,
    /// The digest of its uncompressed tar.
    pub(crate) diff_id: String,
}

/// The cache of one store.
pub(crate) struct Cache {
    directory: PathBuf,
}

impl Cache {
    /// The cache beside a store; its directories are made.
    pub(crate) fn open(store: &Store) -> Result<Cache> {
        let cache = Cache { directory: store.root().join(DIRECTORY) };
        for name in ["steps", "files", "mounts", "work"] {
            let path = cache.path(name);
            std::fs::create_dir_all(&path).doing(|| format!("make the directory {}", path.display()))?;
        }
        Ok(cache)
    }

    /// One of its directories: `steps`; `files`, the digests of context files by their stat; `mounts`, of
    /// `RUN --mount=type=cache`; `work`, what is being built.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// What was made under this key, if it is still there.
    pub(crate) fn get(&self, key: &str, store: &Store) -> Option<Step> {
        let step: Step = serde_json::from_slice(&std::fs::read(self.path("steps").join(key)).ok()?).ok()?;
        // The store's garbage collection knows nothing of us: a step whose blob it took is worth nothing.
        step.layer.as_ref().is_none_or(|layer| store.has(&layer.descriptor)).then_some(step)
    }

    /// Keeps what was made.
    pub(crate) fn put(&self, key: &str, step: &Step) -> Result<()> {
        let bytes = serde_json::to_vec(step).doing(|| "write a cache entry".into())?;
        replace(&self.path("steps").join(key), &bytes)
    }
}

/// Forgets everything that was built in this store, and empties the directories of
/// `RUN --mount=type=cache`. Returns the bytes that these took. Images keep their layers; the layers that
/// only the cache knew are the store's garbage now.
pub fn prune(store: &Store) -> Result<u64> {
    let cache = Cache::open(store)?;
    let mut freed = 0;
    for name in ["steps", "files", "mounts"] {
        let root = Root::open(&cache.path(name))?;
        root.walk(Path::new("/"), &mut |visit| {
            freed += visit.stat.st_blocks as u64 * 512;
            Ok(Next::Into)
        })?;
        let names =
            std::fs::read_dir(cache.path(name)).doing(|| format!("read {}", cache.path(name).display()))?;
        for entry in names.flatten() {
            root.remove_all(&Path::new("/").join(entry.file_name()))?;
        }
    }
    Ok(freed)
}

/// A digest over parts. Each is preceded by its length: `ab` and `c` are not `a` and `bc`.
pub(crate) fn key<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut hash = Sha256::new();
    for part in std::iter::once(VERSION.as_bytes()).chain(parts) {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hex(&hash.finalize())
}

/// In hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Writes beside, then renames. No fsync: an entry that a crash empties is no JSON, and is not used.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let doing = || format!("write {}", path.display());
    let directory = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(directory).doing(doing)?;
    file.write_all(bytes).doing(doing)?;
    file.persist(path).map_err(|e| e.error).doing(doing)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_not_glued() {
        assert_ne!(key([b"ab".as_slice(), b"c"]), key([b"a".as_slice(), b"bc"]));
        assert_ne!(key([b"a".as_slice()]), key([b"a".as_slice(), b""]));
    }
}
