//! From a tarball to an image of one layer, without a Dockerfile (`docker import`).

use super::{
    Engine, commit,
    failure::{Failure, Result},
    images,
};
use layers::image::Compression;
use oci_spec::image::MediaType;
use registry::Reference;
use serde_json::json;
use std::io::{BufRead, BufReader, Read};

/// What is asked of an import.
pub(crate) struct Wanted {
    /// The image's name, if it gets one.
    pub(crate) name: Option<Reference>,
    /// The comment in its history.
    pub(crate) message: String,
    /// Instructions of a Dockerfile that make its configuration: `CMD ["x"]`.
    pub(crate) changes: Vec<String>,
    /// `os/architecture`, where they are not this machine's.
    pub(crate) platform: Option<String>,
}

/// Makes the image of a tarball (plain, gzip or zstd), and returns its ID.
pub(crate) fn import(engine: &Engine, from: impl Read, wanted: Wanted) -> Result<String> {
    let mut from = BufReader::with_capacity(64 << 10, from);
    let compression = Compression::of(from.fill_buf()?);
    let (layer, diff_id) = engine.store.write_tar(compression.inflate(from)?)?;
    let platform = wanted.platform.unwrap_or_default();
    let mut platform = platform.split('/');
    let or = |part: Option<&str>, own: String| part.filter(|p| !p.is_empty()).map_or(own, str::to_owned);
    let now = super::now();
    let config = json!({
        "created": now,
        "os": or(platform.next(), "linux".into()),
        "architecture": or(platform.next(), oci_spec::image::Arch::default().to_string()),
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [diff_id.to_string()]},
        "history": [{"created": now, "comment": wanted.message}],
    });
    let config = engine.store.put(MediaType::ImageConfig, &serde_json::to_vec(&config)?)?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MediaType::ImageManifest,
        "config": config,
        "layers": [layer],
    });
    let manifest = engine.store.put(MediaType::ImageManifest, &serde_json::to_vec(&manifest)?)?;
    // Unpacked before it has a name: what is no tarball, or leads out of its root, never becomes an image.
    let image = engine.store.image(&manifest)?;
    engine.store.unpack(&image).map_err(|e| Failure::from(e).doing("this is not a root filesystem"))?;
    let manifest = commit::changed(engine, manifest, &wanted.changes)?;
    match &wanted.name {
        Some(name) => engine.store.tag(&name.to_string(), &manifest)?,
        None => engine.store.add(&manifest)?,
    }
    let id = engine.store.image(&manifest)?.id().to_string();
    images::tell(engine, "import", &id, &wanted.name.map_or(id.clone(), |name| name.familiar()));
    Ok(id)
}
