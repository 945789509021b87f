//! What an image is: a manifest that names a config and layers (image-spec, manifest.md and config.md).

use oci_spec::image::{Descriptor, Digest, ImageConfiguration, ImageManifest};

/// An image, read.
#[derive(Clone, Debug)]
pub struct Image {
    /// The manifest's own descriptor.
    pub descriptor: Descriptor,
    /// The manifest.
    pub manifest: ImageManifest,
    /// The configuration. Its digest is what docker calls the image ID.
    pub config: ImageConfiguration,
}

impl Image {
    /// The image ID: the digest of the configuration.
    pub fn id(&self) -> &Digest {
        self.manifest.config().digest()
    }

    /// Chain IDs, bottom first: what each layer is called once unpacked on those below it.
    pub fn chain_ids(&self) -> Vec<Digest> {
        todo!()
    }
}
