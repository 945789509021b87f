//! The image store: an OCI image layout (image-spec, image-layout.md) in `DIR`, and beside its files
//! the directory `DIR/.unpacked` of unpacked layers, by chain ID.

use crate::{Image, Result};
use oci_spec::image::{Descriptor, Digest, MediaType};
use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
};

/// An image store. Any number of processes may use one at the same time.
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// Opens the store, making an empty one where there is none.
    pub fn open(root: &Path) -> Result<Store> {
        let _ = root;
        todo!()
    }

    /// The layout's directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    // ---- blobs

    /// Where a blob is, or would be.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        let _ = digest;
        todo!()
    }

    /// Whether it is there, with the size that the descriptor gives.
    pub fn has(&self, descriptor: &Descriptor) -> bool {
        let _ = descriptor;
        todo!()
    }

    /// Opens a blob.
    pub fn open_blob(&self, digest: &Digest) -> Result<File> {
        let _ = digest;
        todo!()
    }

    /// Reads a whole document (manifest, config): at most 4 MiB, and its digest checked.
    pub fn read(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let _ = descriptor;
        todo!()
    }

    /// Begins a new blob, written beside and visible only after [`Ingest::commit`].
    pub fn ingest(&self) -> Result<Ingest<'_>> {
        todo!()
    }

    /// Stores a small document.
    pub fn put(&self, media_type: MediaType, bytes: &[u8]) -> Result<Descriptor> {
        let _ = (media_type, bytes);
        todo!()
    }

    // ---- names

    /// Gives a manifest a name (`org.opencontainers.image.ref.name` in index.json); the name moves if it
    /// was another's. The engine's names are full references: `docker.io/library/base:latest`.
    pub fn tag(&self, name: &str, manifest: &Descriptor) -> Result<()> {
        let _ = (name, manifest);
        todo!()
    }

    /// Takes a name away. An image with no name left stays, listed without one, until it is removed.
    pub fn untag(&self, name: &str) -> Result<Option<Descriptor>> {
        let _ = name;
        todo!()
    }

    /// The manifest of exactly this name.
    pub fn find(&self, name: &str) -> Result<Option<Descriptor>> {
        let _ = name;
        todo!()
    }

    /// Everything in index.json: manifests with their names (none for an untagged image).
    pub fn list(&self) -> Result<Vec<(Option<String>, Descriptor)>> {
        todo!()
    }

    /// Takes a manifest and all its names out of index.json.
    pub fn remove(&self, manifest: &Digest) -> Result<()> {
        let _ = manifest;
        todo!()
    }

    /// Removes every blob and unpacked layer that no image needs (those in `keep`, chain IDs in use by
    /// containers, stay), and what a crash left. Returns the bytes freed.
    pub fn collect(&self, keep: &[Digest]) -> Result<u64> {
        let _ = keep;
        todo!()
    }

    // ---- images

    /// Reads an image; of an index, the one of this machine's platform.
    pub fn image(&self, descriptor: &Descriptor) -> Result<Image> {
        let _ = descriptor;
        todo!()
    }

    /// Unpacks the layers that are not unpacked yet (in parallel where it can) and returns their
    /// directories for [`crate::overlay::mount`], topmost first.
    pub fn unpack(&self, image: &Image) -> Result<Vec<PathBuf>> {
        let _ = image;
        todo!()
    }

    /// Receives one layer in one pass: hashes, stores, inflates, hashes again and unpacks while it is read.
    /// The blob is visible only if its digest is `descriptor`'s. `parent` is the chain ID below.
    pub fn receive_layer(&self, descriptor: &Descriptor, from: &mut dyn std::io::Read) -> Result<()> {
        let _ = (descriptor, from);
        todo!()
    }
}

/// A blob that is being written.
pub struct Ingest<'a> {
    #[expect(dead_code, reason = "to be written")]
    store: &'a Store,
}

impl Write for Ingest<'_> {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        let _ = buf;
        todo!()
    }
    fn flush(&mut self) -> std::io::Result<()> {
        todo!()
    }
}

impl Ingest<'_> {
    /// Makes it visible (fsync, then rename); refuses if `expected` is another digest or size.
    pub fn commit(self, media_type: MediaType, expected: Option<&Descriptor>) -> Result<Descriptor> {
        let _ = (media_type, expected);
        todo!()
    }
}
