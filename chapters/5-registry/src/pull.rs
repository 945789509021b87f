//! Pull: from a name to an image in the store.
//!
//! A name leads to a manifest, perhaps by way of an index; the manifest names a configuration and layers by
//! digest. So only the first answer has to be believed: everything after it is checked. The name is
//! given last. Whoever interrupts a pull, at any moment, finds no image; the layers that were complete are
//! blobs in the store like any other, and are not fetched again.

use crate::{
    Error, Options, Progress, Reference, Result,
    client::Client,
    crew,
    manifest::{self, Document},
    platform::Platform,
    resume::Download,
};
use layers::Store;
use oci_spec::image::{Descriptor, ImageConfiguration, ImageManifest};
use std::{
    collections::HashSet,
    io::{Read, Write},
    sync::atomic::{AtomicBool, Ordering},
};

/// An index may point to an index, but no one needs more than this.
const DEPTH: u32 = 3;

/// On a name in the store's `index.json`: the name and digest by which the registry knows what was pulled, if that is not the
/// manifest itself but the index that led to it.
const PULLED: &str = "io.teu.pulled";

/// The name and digest by which a registry knows what an entry of the store came from, if they are not the entry's own:
/// those of an index that has images for several platforms.
pub fn origin(entry: &Descriptor) -> Option<Reference> {
    Reference::parse(entry.annotations().as_ref()?.get(PULLED)?).ok()
}

/// Brings an image into the store, verified, unpacked, and named by its reference. Returns its manifest.
pub fn pull(
    store: &Store,
    reference: &Reference,
    options: &Options,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Descriptor> {
    let say = |id: &str, status: &str| progress(Progress { id, status, bytes: None });
    let platform = options.platform.as_deref().map(Platform::parse).transpose()?;
    let name = reference.familiar();

    let client = Client::new(reference, options, "pull", &[])?;
    let (top, bytes) = manifest::fetch(&client, reference.target())?;
    say(reference.target(), &format!("Pulling from {}", reference.repository));
    let (descriptor, bytes, image) =
        choose(&client, store, top.clone(), bytes, &platform.clone().unwrap_or_else(Platform::host))?;

    let (config, config_bytes) = config(&client, store, &image)?;
    let made_for = Platform::of_config(&config);
    if let Some(wanted) = platform.filter(|wanted| !wanted.runs(&made_for)) {
        return Err(Error::OtherPlatform { name, wanted: wanted.to_string(), has: made_for.to_string() });
    }
    receive(&client, store, image.layers(), progress)?;

    // The parts are there. Documents go in now, the one that names the others last.
    keep(store, image.config(), &config_bytes)?;
    keep(store, &descriptor, &bytes)?;
    let whole = store.image(&descriptor)?;
    store.unpack(&whole)?;
    for layer in unique(image.layers()) {
        say(layer.digest().as_ref(), "Pull complete");
    }

    let mut entry = descriptor.clone();
    if top.digest() != descriptor.digest() {
        let origin = Reference { tag: None, digest: Some(top.digest().to_string()), ..reference.clone() };
        let mut annotations = entry.annotations().clone().unwrap_or_default();
        annotations.insert(PULLED.into(), origin.to_string());
        entry.set_annotations(Some(annotations));
    }
    store.tag(&reference.to_string(), &entry)?;
    tracing::info!(target: "step", section = "6.3", call = "rename(2)", "index.json: {reference} is {}", descriptor.digest());
    say("", &format!("Digest: {}", top.digest()));
    Ok(descriptor)
}

/// From what the name leads to, to one image: through an index, to the entry for `platform`.
fn choose(
    client: &Client,
    store: &Store,
    mut descriptor: Descriptor,
    mut bytes: Vec<u8>,
    platform: &Platform,
) -> Result<(Descriptor, Vec<u8>, ImageManifest)> {
    let name = client.reference().familiar();
    for _ in 0..DEPTH {
        let index = match manifest::parse(descriptor.media_type(), &bytes, &name)? {
            Document::Image(image) => return Ok((descriptor, bytes, *image)),
            Document::Index(index) => index,
        };
        let entry = platform.choose(index.manifests()).ok_or_else(|| {
            let has: Vec<_> =
                index.manifests().iter().filter_map(Platform::of_entry).map(|p| p.to_string()).collect();
            Error::Platform { name: name.clone(), wanted: platform.to_string(), has: has.join(", ") }
        })?;
        if let Some(bytes_here) = here(store, entry) {
            (descriptor, bytes) = (entry.clone(), bytes_here);
            continue;
        }
        let (found, found_bytes) = manifest::fetch(client, entry.digest().as_ref())?;
        if found.size() != entry.size() || found.media_type() != entry.media_type() {
            let why = format!("the index says {} of {} bytes", entry.media_type(), entry.size());
            return Err(Error::Untrusted { what: format!("the manifest {} of {name}", entry.digest()), why });
        }
        (descriptor, bytes) = (found, found_bytes);
    }
    Err(Error::Untrusted { what: format!("the index of {name}"), why: "it leads from index to index".into() })
}

/// Puts a document into the store, under the digest by which it is known: not always the store's own kind.
fn keep(store: &Store, document: &Descriptor, bytes: &[u8]) -> Result<()> {
    let mut ingest = store.ingest()?;
    let doing = || format!("write {} into the store", document.digest());
    ingest.write_all(bytes).map_err(|source| Error::Io { doing: doing(), source })?;
    ingest.commit(document.media_type().clone(), Some(document))?;
    Ok(())
}

/// A document that is in the store already, and right.
fn here(store: &Store, document: &Descriptor) -> Option<Vec<u8>> {
    store.has(document).then(|| store.read(document).ok()).flatten()
}

/// Fetches the configuration, and checks that it belongs to this manifest.
fn config(client: &Client, store: &Store, image: &ImageManifest) -> Result<(ImageConfiguration, Vec<u8>)> {
    let blob = image.config();
    let untrusted = |why: String| Error::Untrusted {
        what: format!("the configuration of {}", client.reference().familiar()),
        why,
    };
    if blob.size() > manifest::LIMIT {
        return Err(untrusted(format!("it has {} bytes, and {} are allowed", blob.size(), manifest::LIMIT)));
    }
    let bytes = match here(store, blob) {
        Some(bytes) => bytes,
        None => {
            let mut bytes = Vec::new();
            let never = AtomicBool::new(false);
            let mut download = Download::new(client, blob, &|_| {}, &never);
            let read = download.read_to_end(&mut bytes);
            if let Some(failure) = download.failure.take() {
                return Err(failure);
            }
            read.map_err(|e| untrusted(e.to_string()))?;
            if manifest::digest(blob.digest().algorithm(), &bytes).as_ref() != Some(blob.digest()) {
                return Err(untrusted(format!("its digest is not {}", blob.digest())));
            }
            tracing::info!(target: "step", section = "6.3", call = "GET", "blobs/{}: the configuration", blob.digest());
            bytes
        }
    };
    let config: ImageConfiguration =
        serde_json::from_slice(&bytes).map_err(|e| untrusted(format!("it cannot be read: {e}")))?;
    let (said, found) = (config.rootfs().diff_ids().len(), image.layers().len());
    if said != found {
        return Err(untrusted(format!("it speaks of {said} layers, and the manifest of {found}")));
    }
    Ok((config, bytes))
}

/// Fetches the layers that are not there, several at a time. Each goes through the store in one pass: it
/// is hashed, written, inflated and unpacked while it still arrives.
fn receive(
    client: &Client,
    store: &Store,
    layers: &[Descriptor],
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<()> {
    let layers = unique(layers);
    let mut missing = Vec::new();
    for &layer in &layers {
        let there = store.has(layer);
        let status = if there { "Already exists" } else { "Pulling fs layer" };
        progress(Progress { id: layer.digest().as_ref(), status, bytes: None });
        if !there {
            missing.push(layer);
        }
    }
    crew::each(&missing, |layer, stop| {
        let say = |status, at| {
            progress(Progress { id: layer.digest().as_ref(), status, bytes: Some((at, layer.size())) });
        };
        let watch = |at| say("Downloading", at);
        let mut download = Download::new(client, layer, &watch, stop);
        let received = store.receive_layer(layer, &mut download);
        // Why the download failed says more than that the store did not get all of it.
        if let Some(failure) = download.failure.take() {
            return Err(failure);
        }
        received?;
        say("Download complete", layer.size());
        tracing::info!(target: "step", section = "6.3", call = "GET", "blobs/{}: {} bytes, digest right", layer.digest(), layer.size());
        if stop.load(Ordering::Relaxed) {
            Err(Error::Cancelled(client.reference().familiar()))
        } else {
            Ok(())
        }
    })
}

/// Each layer once: an image may hold the same one twice.
fn unique(layers: &[Descriptor]) -> Vec<&Descriptor> {
    let mut seen = HashSet::new();
    layers.iter().filter(|layer| seen.insert(layer.digest().to_string())).collect()
}
