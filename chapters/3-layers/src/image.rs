//! What an image is: a manifest that names a config and layers (image-spec, manifest.md and config.md).
//!
//! ```text
//! name -> manifest -> config    (what to run; and the diff IDs: the layers' digests before compression)
//!                  -> layer...  (compressed tars, bottom first)
//! ```
//! Each arrow is a digest, so who trusts the first one can check everything.

use crate::{Error, Result, Store, digest::digest, document::parse};
use oci_spec::image::{Arch, Descriptor, Digest, ImageConfiguration, ImageIndex, ImageManifest, Os};

pub use crate::{
    compression::Compression,
    document::{Document, document_kind},
};

/// How many indexes may lie inside each other.
const MAX_NESTING: u32 = 4;

/// An image, read.
#[derive(Clone, Debug)]
pub struct Image {
    /// The manifest's own descriptor.
    pub descriptor: Descriptor,
    /// The manifest.
    pub manifest: ImageManifest,
    /// The configuration. Its digest is what docker calls the image ID.
    pub config: ImageConfiguration,
    /// The configuration as it was written: with what docker has beyond the standard (`Healthcheck`,
    /// `OnBuild`, `Shell`).
    pub raw_config: serde_json::Value,
}

impl Image {
    /// The image ID: the digest of the configuration.
    pub fn id(&self) -> &Digest {
        self.manifest.config().digest()
    }

    /// Diff IDs, bottom first. Reading the image has checked that each is a digest.
    pub fn diff_ids(&self) -> Vec<Digest> {
        self.config.rootfs().diff_ids().iter().filter_map(|id| id.parse().ok()).collect()
    }

    /// Chain IDs, bottom first: what each layer is called once unpacked on those below it.
    pub fn chain_ids(&self) -> Vec<Digest> {
        chain_ids(&self.diff_ids())
    }
}

/// Chain IDs of diff IDs (config.md, "Layer ChainID"): the first is its diff ID, each further one the
/// digest of the chain below, a space, and its diff ID. So a directory's name says all that is under it.
pub fn chain_ids(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut chain: Vec<Digest> = Vec::new();
    for id in diff_ids {
        let next = match chain.last() {
            None => Ok(id.clone()),
            Some(below) => digest(format!("{below} {id}").as_bytes()),
        };
        chain.extend(next);
    }
    chain
}

impl Store {
    /// Reads an image; of an index, the one of this machine's platform.
    pub fn image(&self, descriptor: &Descriptor) -> Result<Image> {
        let manifest_descriptor = self.manifest_of(descriptor, MAX_NESTING)?;
        let manifest: ImageManifest =
            parse(&self.read(&manifest_descriptor)?, "manifest", &manifest_descriptor)?;
        let config = self.read(manifest.config())?;
        let raw_config: serde_json::Value = parse(&config, "config", manifest.config())?;
        let config: ImageConfiguration = parse(&config, "config", manifest.config())?;
        let image = Image { descriptor: manifest_descriptor, manifest, config, raw_config };

        let layers = image.manifest.layers().len();
        let invalid = |why: String| Error::Document { what: format!("the config {}", image.id()), why };
        if image.diff_ids().len() != image.config.rootfs().diff_ids().len() {
            return Err(invalid("a diff ID is not a digest".into()));
        }
        if image.diff_ids().len() != layers {
            return Err(invalid(format!(
                "it has {} diff IDs, and the manifest {layers} layers",
                image.diff_ids().len()
            )));
        }
        Ok(image)
    }

    /// The manifest that a descriptor leads to: itself, or through indexes that of this machine's platform.
    fn manifest_of(&self, descriptor: &Descriptor, nesting: u32) -> Result<Descriptor> {
        let what = || format!("the index {}", descriptor.digest());
        let bytes = self.read(descriptor)?;
        if document_kind(&bytes, descriptor)? == Document::Manifest {
            return Ok(descriptor.clone());
        }
        if nesting == 0 {
            return Err(Error::Document { what: what(), why: "indexes inside indexes go too deep".into() });
        }
        let index: ImageIndex = parse(&bytes, "index", descriptor)?;
        let mut offers: Vec<_> = index.manifests().iter().filter(|d| fits(d)).collect();
        // Those that say so before those that say nothing; the lowest variant is the one that runs anywhere.
        offers.sort_by_key(|d| {
            (d.platform().is_none(), d.platform().as_ref().and_then(|p| p.variant().clone()))
        });
        match offers.first() {
            Some(offer) => self.manifest_of(offer, nesting - 1),
            None => Err(Error::Platform {
                what: what(),
                wanted: format!("{}/{}", Os::default(), Arch::default()),
                offered: index.manifests().iter().filter_map(platform).collect::<Vec<_>>().join(", "),
            }),
        }
    }
}

/// Whether a manifest in an index is for this machine. Attestations are for platform `unknown`.
fn fits(descriptor: &Descriptor) -> bool {
    descriptor
        .platform()
        .as_ref()
        .is_none_or(|p| *p.os() == Os::default() && *p.architecture() == Arch::default())
}

fn platform(descriptor: &Descriptor) -> Option<String> {
    let p = descriptor.platform().as_ref()?;
    let variant = p.variant().as_ref().map(|v| format!("/{v}")).unwrap_or_default();
    Some(format!("{}/{}{variant}", p.os(), p.architecture()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chain_ids_are_as_the_spec_computes_them() {
        let (a, b) = (digest(b"a").unwrap(), digest(b"b").unwrap());
        let chain = chain_ids(&[a.clone(), b.clone()]);
        assert_eq!(chain[0], a);
        assert_eq!(chain[1], digest(format!("{a} {b}").as_bytes()).unwrap());
    }
}
