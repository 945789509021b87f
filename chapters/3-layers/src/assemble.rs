//! Side room: a new image out of an old one and a layer.

use crate::{Image, Result, Store};
use oci_spec::image::{Arch, Descriptor, Digest, MediaType, Os};

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
