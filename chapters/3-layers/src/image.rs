//! What an image is: a manifest that names a config and layers (image-spec, manifest.md and config.md).
//!
//! ```text
//! name -> manifest -> config    (what to run; and the diff IDs: the layers' digests before compression)
//!                  -> layer...  (compressed tars, bottom first)
//! ```
//! Each arrow is a digest, so who trusts the first one can check everything.

use crate::{Error, Result, Store, store::digest};
use oci_spec::image::{
    Arch, Descriptor, Digest, ImageConfiguration, ImageIndex, ImageManifest, MediaType, Os,
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

impl Store {
    /// Stores the manifest of an image whose config and layers are stored.
    pub fn write_manifest(&self, config: Descriptor, layers: Vec<Descriptor>) -> Result<Descriptor> {
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": MediaType::ImageManifest,
            "config": config,
            "layers": layers,
        });
        self.put(MediaType::ImageManifest, manifest.to_string().as_bytes())
    }

    /// Stores an image: `config` as JSON, whatever fields it has, and the manifest that ties it to the
    /// layers. It has no name yet ([`Store::tag`], [`Store::add`]).
    pub fn write_image(&self, config: &serde_json::Value, layers: Vec<Descriptor>) -> Result<Descriptor> {
        let config = self.put(MediaType::ImageConfig, config.to_string().as_bytes())?;
        self.write_manifest(config, layers)
    }

    /// Stores a new image: `base` (none: from scratch) with one more layer, and `change` made to its
    /// config. `history` says how the layer came to be.
    pub fn write_on(
        &self,
        base: Option<&Image>,
        layer: Option<(Descriptor, Digest)>,
        history: serde_json::Value,
        change: impl FnOnce(&mut serde_json::Value),
    ) -> Result<Descriptor> {
        let mut config = match base {
            Some(base) => base.raw_config.clone(),
            None => serde_json::json!({
                "architecture": Arch::default(), "os": Os::default(), "config": {},
                "rootfs": { "type": "layers", "diff_ids": [] },
            }),
        };
        let mut layers = base.map(|base| base.manifest.layers().clone()).unwrap_or_default();
        let push = |list: &mut serde_json::Value, item: serde_json::Value| match list.as_array_mut() {
            Some(items) => items.push(item),
            None => *list = serde_json::json!([item]),
        };
        push(&mut config["history"], history);
        if let Some((blob, diff_id)) = layer {
            push(&mut config["rootfs"]["diff_ids"], serde_json::json!(diff_id));
            layers.push(blob);
        }
        change(&mut config);
        self.write_image(&config, layers)
    }
}

/// The two documents that a name may lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Document {
    /// One image.
    Manifest,
    /// A choice of images.
    Index,
}

/// Which of the two a document is. One that could be read as either is refused, as is one that says
/// something else of itself than who sent us here: two programs would see two different images under one
/// digest (CVE-2021-41190).
pub fn document_kind(bytes: &[u8], descriptor: &Descriptor) -> Result<Document> {
    let document: serde_json::Value = parse(bytes, "manifest", descriptor)?;
    let invalid = |why: &str| Error::Document {
        what: format!("the manifest {}", descriptor.digest()),
        why: why.into(),
    };
    let manifest = document.get("config").is_some() || document.get("layers").is_some();
    let index = document.get("manifests").is_some();
    if document.get("fsLayers").is_some() || document.get("schemaVersion") == Some(&1.into()) {
        return Err(invalid(
            "it is of docker's schema 1, which has been obsolete since 2017; push the image again",
        ));
    }
    let by_type = |media_type: &str| match media_type {
        "application/vnd.oci.image.manifest.v1+json"
        | "application/vnd.docker.distribution.manifest.v2+json" => Some(Document::Manifest),
        "application/vnd.oci.image.index.v1+json"
        | "application/vnd.docker.distribution.manifest.list.v2+json" => Some(Document::Index),
        _ => None,
    };
    let kind = match (manifest, index) {
        (true, false) => Document::Manifest,
        (false, true) => Document::Index,
        (true, true) => return Err(invalid("it is a manifest and an index at once")),
        (false, false) => return Err(invalid("it is neither a manifest nor an index")),
    };
    let says = document.get("mediaType").and_then(|m| m.as_str());
    for media_type in says.into_iter().chain([descriptor.media_type().as_ref()]) {
        match by_type(media_type) {
            Some(said) if said == kind => (),
            Some(_) => return Err(invalid("its media type says something else than its content")),
            None => return Err(invalid(&format!("its media type {media_type} is not that of an image"))),
        }
    }
    Ok(kind)
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

pub(crate) fn parse<T: serde::de::DeserializeOwned>(
    bytes: &[u8],
    what: &str,
    descriptor: &Descriptor,
) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|e| Error::Document {
        what: format!("the {what} {}", descriptor.digest()),
        why: e.to_string(),
    })
}

/// How a layer's blob is compressed, by its own first bytes: media types are often wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// gzip (RFC 1952).
    Gzip,
    /// zstd (RFC 8878).
    Zstd,
    /// A plain tar.
    None,
}

impl Compression {
    /// By the first four bytes.
    pub fn of(first: &[u8]) -> Compression {
        match first {
            [0x1f, 0x8b, ..] => Compression::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
            // A skippable frame may come first (zstd:chunked).
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
            _ => Compression::None,
        }
    }

    /// The media type of a layer so compressed.
    pub fn media_type(self) -> MediaType {
        match self {
            Compression::Gzip => MediaType::ImageLayerGzip,
            Compression::Zstd => MediaType::ImageLayerZstd,
            Compression::None => MediaType::ImageLayer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(media_type: MediaType) -> Descriptor {
        Descriptor::new(media_type, 1, digest(b"x").unwrap())
    }

    #[test]
    fn chain_ids_are_as_the_spec_computes_them() {
        let (a, b) = (digest(b"a").unwrap(), digest(b"b").unwrap());
        let chain = chain_ids(&[a.clone(), b.clone()]);
        assert_eq!(chain[0], a);
        assert_eq!(chain[1], digest(format!("{a} {b}").as_bytes()).unwrap());
    }

    #[test]
    fn a_manifest_that_is_also_an_index_is_refused() {
        let both = br#"{"schemaVersion":2,"config":{},"layers":[],"manifests":[]}"#;
        let error = document_kind(both, &descriptor(MediaType::ImageManifest)).unwrap_err();
        assert!(error.to_string().contains("at once"), "{error}");
        let index = br#"{"schemaVersion":2,"manifests":[]}"#;
        assert!(document_kind(index, &descriptor(MediaType::ImageManifest)).is_err());
        assert_eq!(document_kind(index, &descriptor(MediaType::ImageIndex)).unwrap(), Document::Index);
    }
}
