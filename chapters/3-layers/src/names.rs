//! The store's names: `index.json` (image-spec, image-layout.md, "index.json file").

use crate::{Error, Result, Store, error::Doing, store::MAX_DOCUMENT};
use nix::fcntl::FlockArg;
use oci_spec::image::{ANNOTATION_REF_NAME, Descriptor, Digest, ImageIndex, MediaType};
use std::{collections::HashMap, fs::File, io::Read};

impl Store {
    /// Gives a manifest a name (`org.opencontainers.image.ref.name` in index.json); the name moves if it
    /// was another's. The engine's names are full references: `docker.io/library/base:latest`.
    pub fn tag(&self, name: &str, manifest: &Descriptor) -> Result<()> {
        self.complete(manifest)?;
        self.change(|entries| {
            for other in entries.iter_mut().filter(|d| self::name(d) == Some(name)) {
                set_name(other, None);
            }
            let mut named = manifest.clone();
            set_name(&mut named, Some(name));
            entries.push(named);
        })
    }

    /// Lists a manifest without a name, unless it is listed already: so it is an image, and stays.
    pub fn add(&self, manifest: &Descriptor) -> Result<()> {
        self.complete(manifest)?;
        self.change(|entries| {
            let mut unnamed = manifest.clone();
            set_name(&mut unnamed, None);
            entries.push(unnamed);
        })
    }

    /// Takes a name away. An image with no name left stays, listed without one, until it is removed.
    pub fn untag(&self, name: &str) -> Result<Option<Descriptor>> {
        let mut untagged = None;
        self.change(|entries| {
            for entry in entries.iter_mut().filter(|d| self::name(d) == Some(name)) {
                set_name(entry, None);
                untagged = Some(entry.clone());
            }
        })?;
        Ok(untagged)
    }

    /// The manifest of exactly this name.
    pub fn find(&self, name: &str) -> Result<Option<Descriptor>> {
        Ok(self.index()?.manifests().iter().find(|d| self::name(d) == Some(name)).cloned())
    }

    /// Everything in index.json: manifests with their names (none for an untagged image).
    pub fn list(&self) -> Result<Vec<(Option<String>, Descriptor)>> {
        Ok(self.index()?.manifests().iter().map(|d| (name(d).map(str::to_owned), d.clone())).collect())
    }

    /// Takes a manifest and all its names out of index.json. What only it needed goes with the next
    /// [`Store::collect`].
    pub fn remove(&self, manifest: &Digest) -> Result<()> {
        // What it needs is no longer "just arrived": see `gc`.
        for blob in self.needs(manifest).unwrap_or_default() {
            self.age(&blob);
        }
        self.change(|entries| entries.retain(|d| d.digest() != manifest))
    }

    /// Refuses to name what is not all there: a collect may have been faster than a slow pull.
    fn complete(&self, manifest: &Descriptor) -> Result<()> {
        match self.lacks(manifest.digest()).first() {
            Some(blob) => Err(Error::Missing(format!("blob {blob}, which the image to be named needs,"))),
            None => Ok(()),
        }
    }

    /// Changes index.json, under the lock: many processes may do so at once, and none loses another's.
    fn change(&self, change: impl FnOnce(&mut Vec<Descriptor>)) -> Result<()> {
        let _lock = self.lock(FlockArg::LockExclusive)?;
        let mut index = self.index()?;
        let mut entries = index.manifests().clone();
        change(&mut entries);
        // An image that has a name needs no line without one, and no line twice.
        let mut kept: Vec<Descriptor> = Vec::new();
        for (n, entry) in entries.iter().enumerate() {
            let named = |d: &Descriptor| d.digest() == entry.digest() && name(d).is_some();
            let twice = entries[..n].iter().any(|d| d.digest() == entry.digest() && name(d) == name(entry));
            if !(twice || (name(entry).is_none() && entries.iter().any(named))) {
                kept.push(entry.clone());
            }
        }
        if kept == *index.manifests() {
            return Ok(());
        }
        index.set_manifests(kept);
        self.write_index(&index)
    }

    /// Reads index.json.
    pub(crate) fn index(&self) -> Result<ImageIndex> {
        let path = self.root().join("index.json");
        let doing = || format!("read {}", path.display());
        let mut bytes = Vec::new();
        File::open(&path).doing(doing)?.take(MAX_DOCUMENT).read_to_end(&mut bytes).doing(doing)?;
        serde_json::from_slice(&bytes)
            .map_err(|e| Error::Document { what: path.display().to_string(), why: e.to_string() })
    }

    pub(crate) fn write_index(&self, index: &ImageIndex) -> Result<()> {
        let bytes = serde_json::to_vec(index)
            .map_err(|e| Error::Document { what: "index.json".into(), why: e.to_string() })?;
        self.replace("index.json", &bytes)
    }
}

pub(crate) fn empty_index() -> ImageIndex {
    let mut index = ImageIndex::default();
    index.set_media_type(Some(MediaType::ImageIndex));
    index
}

fn name(descriptor: &Descriptor) -> Option<&str> {
    descriptor.annotations().as_ref()?.get(ANNOTATION_REF_NAME).map(String::as_str)
}

fn set_name(descriptor: &mut Descriptor, name: Option<&str>) {
    let mut annotations: HashMap<String, String> = descriptor.annotations().clone().unwrap_or_default();
    annotations.remove(ANNOTATION_REF_NAME);
    if let Some(name) = name {
        annotations.insert(ANNOTATION_REF_NAME.into(), name.into());
    }
    descriptor.set_annotations((!annotations.is_empty()).then_some(annotations));
}
