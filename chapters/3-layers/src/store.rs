//! The image store: an OCI image layout (image-spec, image-layout.md) in `DIR`.
//!
//! ```text
//! DIR/oci-layout            {"imageLayoutVersion":"1.0.0"}
//! DIR/index.json            names -> manifests                       (names.rs)
//! DIR/blobs/sha256/<hex>    manifests, configs, layers: by content
//! DIR/.unpacked/            layers as directories, by chain ID       (receive.rs)
//! DIR/.tmp/                 what is being written
//! DIR/.lock
//! ```
//!
//! The three above are the standard's, and skopeo and umoci read and write them beside us; the rest begins
//! with a dot, and they leave it alone. A blob's name is the digest of its bytes, so a blob never changes,
//! is checked by reading it, and is stored once however many images have it.

use crate::{
    Error, Result,
    digest::{hash, known, same},
    error::Doing,
    root::{fresh, remove_at},
};
use nix::fcntl::{Flock, FlockArg};
use oci_spec::image::{Descriptor, Digest, MediaType};
use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::{
        fd::AsFd,
        unix::fs::{DirBuilderExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    time::SystemTime,
};

pub use crate::{digest::digest, ingest::Ingest};

/// The largest manifest, index or config that is read: registries have the same limit.
pub const MAX_DOCUMENT: u64 = 4 << 20;

/// An image store. Any number of processes may use one at the same time.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// Opens the store, making an empty one where there is none, and sweeps what a killed process left.
    pub fn open(root: &Path) -> Result<Store> {
        let doing = || format!("make the image store {}", root.display());
        for dir in ["blobs/sha256", ".unpacked/sha256", ".unpacked/pending", ".tmp"] {
            // Only ours to read: an image may hold setuid programs that no other user should reach.
            DirBuilder::new().recursive(true).mode(0o711).create(root.join(dir)).doing(doing)?;
        }
        let root = fs::canonicalize(root).doing(doing)?;
        let store = Store { root };
        let lock = store.lock(FlockArg::LockExclusive)?;
        match fs::read(store.root.join("oci-layout")) {
            Ok(layout) => check_layout(&layout)?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                if !store.root.join("index.json").exists() {
                    store.write_index(&crate::names::empty_index())?;
                }
                store.replace("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
            }
            Err(e) => return Err(e).doing(|| format!("read {}/oci-layout", store.root.display())),
        }
        store.sweep(&lock)?;
        Ok(store)
    }

    /// The layout's directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    // ---- blobs

    /// Where a blob is, or would be. A `Digest` has no slash and no dot of its own: its parser saw to it
    /// that it holds an algorithm's name and a hash, so it is safe as a path (CVE-2024-3727 was not).
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs").join(digest.algorithm().as_ref()).join(digest.digest())
    }

    /// Whether it is there, with the size that the descriptor gives. A blob found is a blob that somebody
    /// is about to use: [`Store::collect`] leaves it alone for a while.
    pub fn has(&self, descriptor: &Descriptor) -> bool {
        let Ok(_lock) = self.lock(FlockArg::LockShared) else { return false };
        let path = self.blob_path(descriptor.digest());
        let there = known(descriptor.digest()).is_ok()
            && fs::symlink_metadata(&path).is_ok_and(|m| m.is_file() && m.len() == descriptor.size());
        if there {
            freshen(&path);
        }
        there
    }

    /// Opens a blob. Its bytes are not checked: who reads it compares the digest.
    pub fn open_blob(&self, digest: &Digest) -> Result<File> {
        known(digest)?;
        match File::open(self.blob_path(digest)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Err(Error::Missing(format!("blob {digest}"))),
            other => other.doing(|| format!("open the blob {digest}")),
        }
    }

    /// Reads a whole document (manifest, config): at most 4 MiB, and its digest checked.
    pub fn read(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let digest = descriptor.digest();
        if descriptor.size() > MAX_DOCUMENT {
            return Err(too_big(digest));
        }
        let mut bytes = Vec::new();
        self.open_blob(digest)?
            .take(MAX_DOCUMENT + 1)
            .read_to_end(&mut bytes)
            .doing(|| format!("read the blob {digest}"))?;
        let what = || format!("the blob {digest}");
        same(what, &descriptor.size().to_string(), &bytes.len().to_string())?;
        same(what, digest.as_ref(), hash(digest.algorithm(), &mut bytes.as_slice())?.as_ref())?;
        Ok(bytes)
    }

    /// Stores a small document.
    pub fn put(&self, media_type: MediaType, bytes: &[u8]) -> Result<Descriptor> {
        let mut ingest = self.ingest()?;
        ingest.write_all(bytes).doing(|| "write a document into the store".into())?;
        ingest.commit(media_type, None)
    }

    /// Begins a new blob, written beside and visible only after [`Ingest::commit`].
    pub fn ingest(&self) -> Result<Ingest<'_>> {
        let (path, file) = self.temporary_file()?;
        Ok(Ingest::new(self, file, path))
    }

    // ---- what the other halves of the store share

    /// The store's lock: shared to add, exclusive to change names or remove. It goes with its holder, also
    /// by `kill -9` (flock(2)).
    pub(crate) fn lock(&self, how: FlockArg) -> Result<Flock<File>> {
        let path = self.root.join(".lock");
        let doing = || format!("lock {}", path.display());
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .doing(doing)?;
        Flock::lock(file, how).map_err(|(_, errno)| errno).doing(doing)
    }

    /// A new file in `.tmp`, locked as long as its writer lives: so the sweep knows what nobody writes.
    fn temporary_file(&self) -> Result<(PathBuf, Flock<File>)> {
        let path = self.temporary_name();
        let doing = || format!("make the file {}", path.display());
        // Shared, against a sweep between the making and the locking.
        let _lock = self.lock(FlockArg::LockShared)?;
        let file = OpenOptions::new()
            .write(true)
            .read(true)
            .create_new(true)
            .mode(0o644)
            .open(&path)
            .doing(doing)?;
        let file = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| errno).doing(doing)?;
        Ok((path, file))
    }

    pub(crate) fn temporary_name(&self) -> PathBuf {
        // The time too: in another pid namespace, another process may have our number.
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
        self.root.join(".tmp").join(format!("{}-{now:x}-{}", std::process::id(), fresh()))
    }

    /// Replaces one of the layout's own files: all of the new one or all of the old, never a mixture.
    pub(crate) fn replace(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let doing = || format!("write {}/{name}", self.root.display());
        let temporary = self.temporary_name();
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o644).open(&temporary).doing(doing)?;
        file.write_all(bytes).doing(doing)?;
        // The data before the name: after a power cut there must not be a name for nothing.
        file.sync_all().doing(doing)?;
        fs::rename(&temporary, self.root.join(name)).doing(doing)?;
        sync_dir(&self.root)
    }

    /// Removes from `.tmp` whatever no living process holds locked.
    fn sweep(&self, exclusive: &Flock<File>) -> Result<()> {
        self.sweep_but(exclusive, &[])
    }

    /// The same, sparing some.
    pub(crate) fn sweep_but(&self, _exclusive: &Flock<File>, spared: &[PathBuf]) -> Result<()> {
        let dir = self.root.join(".tmp");
        let doing = || format!("sweep {}", dir.display());
        let parent = File::open(&dir).doing(doing)?;
        for entry in fs::read_dir(&dir).doing(doing)? {
            let entry = entry.doing(doing)?;
            let Ok(file) = File::open(entry.path()) else { continue };
            if spared.contains(&entry.path()) {
                continue;
            }
            if Flock::lock(file, FlockArg::LockExclusiveNonblock).is_ok() {
                remove_at(parent.as_fd(), &entry.file_name()).doing(doing)?;
            }
        }
        Ok(())
    }
}

fn check_layout(bytes: &[u8]) -> Result<()> {
    let invalid = |why: String| Error::Document { what: "oci-layout".into(), why };
    let layout: oci_spec::image::OciLayout =
        serde_json::from_slice(bytes).map_err(|e| invalid(e.to_string()))?;
    match layout.image_layout_version().as_str() {
        "1.0.0" => Ok(()),
        other => Err(invalid(format!("its version is {other}, and this reads 1.0.0"))),
    }
}

fn too_big(digest: &Digest) -> Error {
    Error::Limit { what: format!("the document {digest}"), limit: format!("{} MiB", MAX_DOCUMENT >> 20) }
}

/// Marks as used now.
pub(crate) fn freshen(path: &Path) {
    // Another user's store, mounted read-only perhaps: then nobody collects it either.
    if let Ok(file) = File::open(path) {
        let _ = file.set_modified(SystemTime::now());
    }
}

pub(crate) fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir).and_then(|dir| dir.sync_all()).doing(|| format!("sync {}", dir.display()))
}

#[cfg(test)]
mod tests;
