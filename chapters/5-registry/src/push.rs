//! Push: from the store to a registry.
//!
//! The other way round, and so in the other order: first what is named, then what names it. A registry
//! takes a manifest only when it has all its parts, and so it never shows an image that is not whole. What
//! it has already is not sent: since a blob's name is its content, asking by name is enough.

use crate::{
    Error, Options, Progress, Reference, Result,
    client::{self, Client, Payload},
    crew,
    manifest::{self, Document},
    upload,
};
use layers::Store;
use oci_spec::image::{Descriptor, Digest, ImageManifest};
use std::{
    collections::{HashMap, HashSet},
    sync::atomic::AtomicBool,
};
use ureq::http::Method;

/// Tells what happens to one blob.
type Say<'a> = dyn Fn(&str, Option<(u64, u64)>) + Sync + 'a;

/// Sends an image to its registry. Returns the digest by which the registry has it.
pub fn push(
    store: &Store,
    manifest: &Descriptor,
    reference: &Reference,
    options: &Options,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Descriptor> {
    let Some(tag) = reference.tag.as_deref().filter(|_| reference.digest.is_none()) else {
        return Err(Error::NotPushable {
            name: reference.familiar(),
            why: "a push needs a tag, and a digest is not one".into(),
        });
    };
    let bytes = store.read(manifest)?;
    let images = images(store, manifest, &bytes, reference)?;
    let elsewhere = elsewhere(store, reference, &images)?;
    let others: HashSet<String> = elsewhere.values().cloned().collect();
    let others: Vec<String> = others.into_iter().collect();
    let client = Client::new(reference, options, "pull,push", &others)?;

    for (_, _, image) in &images {
        parts(&client, store, image, &elsewhere, progress)?;
    }
    // An index is taken only when its images are there; they have no tag of their own.
    for (descriptor, bytes, _) in images.iter().filter(|(image, _, _)| image.digest() != manifest.digest()) {
        put(&client, descriptor.digest().as_ref(), descriptor, bytes)?;
    }
    put(&client, tag, manifest, &bytes)?;
    Ok(manifest.clone())
}

/// The images to send: the one, or all of an index.
fn images(
    store: &Store,
    descriptor: &Descriptor,
    bytes: &[u8],
    reference: &Reference,
) -> Result<Vec<(Descriptor, Vec<u8>, ImageManifest)>> {
    let name = reference.familiar();
    let index = match manifest::parse(descriptor.media_type(), bytes, &name)? {
        Document::Image(image) => return Ok(vec![(descriptor.clone(), bytes.to_vec(), *image)]),
        Document::Index(index) => index,
    };
    let mut images = Vec::new();
    for entry in index.manifests() {
        let bytes = store.read(entry).map_err(|e| Error::NotPushable {
            name: name.clone(),
            why: format!(
                "of its images, {} is not whole in the store ({e}); push one of them by itself",
                entry.digest()
            ),
        })?;
        match manifest::parse(entry.media_type(), &bytes, &name)? {
            Document::Image(image) => images.push((entry.clone(), bytes, *image)),
            Document::Index(_) => {
                return Err(Error::NotPushable { name, why: "it is an index of indexes".into() });
            }
        }
    }
    Ok(images)
}

/// Sends the layers and the configuration of an image, several at a time.
fn parts(
    client: &Client,
    store: &Store,
    image: &ImageManifest,
    elsewhere: &HashMap<Digest, String>,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<()> {
    let mut seen = HashSet::new();
    let mut blobs: Vec<&Descriptor> = image.layers().iter().collect();
    blobs.push(image.config());
    blobs.retain(|blob| seen.insert(blob.digest().to_string()));
    for layer in blobs.iter().filter(|blob| blob.digest() != image.config().digest()) {
        progress(Progress { id: layer.digest().as_ref(), status: "Preparing", bytes: None });
    }
    crew::each(&blobs, |blob, stop| {
        let is_layer = blob.digest() != image.config().digest();
        let say = |status: &str, bytes| {
            if is_layer {
                progress(Progress { id: blob.digest().as_ref(), status, bytes });
            }
        };
        part(client, store, blob, elsewhere.get(blob.digest()), &say, stop)
    })
}

/// Sends one blob, unless the registry has it, or can take it from a repository that has.
fn part(
    client: &Client,
    store: &Store,
    blob: &Descriptor,
    from: Option<&String>,
    say: &Say,
    stop: &AtomicBool,
) -> Result<()> {
    let repository = &client.reference().repository;
    let url = client.url(&format!("blobs/{}", blob.digest()))?;
    let response = client.send(&Method::HEAD, &url, &[], &Payload::None)?;
    tracing::info!(target: "step", section = "6.3", call = "HEAD", "/v2/{repository}/blobs/{}: {}", blob.digest(), response.status());
    match response.status().as_u16() {
        200 => {
            say("Layer already exists", None);
            return Ok(());
        }
        404 => {}
        _ => return Err(client.refused(response, "push")),
    }

    let mount = from.map(|from| format!("?mount={}&from={from}", blob.digest())).unwrap_or_default();
    let url = client.url(&format!("blobs/uploads/{mount}"))?;
    let response = client.send(&Method::POST, &url, &[], &Payload::Bytes(b""))?;
    match response.status().as_u16() {
        201 => {
            say(&format!("Mounted from {}", from.map_or("", String::as_str)), None);
            return Ok(());
        }
        202 => {}
        _ => return Err(client.refused(response, "push")),
    }
    let session = client::location(&url, &response).ok_or_else(|| no_location(&url.to_string()))?;

    say("Pushing", Some((0, blob.size())));
    upload::blob(client, store, blob, session, &|at| say("Pushing", Some((at, blob.size()))), stop)?;
    tracing::info!(target: "step", section = "6.3", call = "PUT", "/v2/{repository}/blobs/uploads/: {}, {} bytes", blob.digest(), blob.size());
    say("Pushed", None);
    Ok(())
}

/// Sends a manifest, and sees that the registry understands by it what we do.
fn put(client: &Client, target: &str, descriptor: &Descriptor, bytes: &[u8]) -> Result<()> {
    let url = client.url(&format!("manifests/{target}"))?;
    let kind = descriptor.media_type().to_string();
    let response = client.send(&Method::PUT, &url, &[("content-type", &kind)], &Payload::Bytes(bytes))?;
    if !response.status().is_success() {
        return Err(client.refused(response, "push"));
    }
    let said = response.headers().get("docker-content-digest").and_then(|v| v.to_str().ok()).map(str::trim);
    if let Some(said) = said.filter(|said| *said != descriptor.digest().as_ref()) {
        let why = format!("it calls {said} what was sent as {}", descriptor.digest());
        return Err(Error::Untrusted { what: format!("the registry's receipt for {target}"), why });
    }
    tracing::info!(target: "step", section = "6.3", call = "PUT", "/v2/{}/manifests/{target}: {}", client.reference().repository, descriptor.digest());
    Ok(())
}

/// Which of these images' layers are, as far as we know, in another repository of the same registry: the
/// names in our own store tell. Whether it is still so, the registry will say.
fn elsewhere(
    store: &Store,
    reference: &Reference,
    images: &[(Descriptor, Vec<u8>, ImageManifest)],
) -> Result<HashMap<Digest, String>> {
    let wanted: HashSet<&Digest> =
        images.iter().flat_map(|(_, _, image)| image.layers()).map(Descriptor::digest).collect();
    let mut found = HashMap::new();
    for (name, descriptor) in store.list()? {
        let Some(other) = name.and_then(|name| Reference::parse(&name).ok()) else { continue };
        if other.registry != reference.registry || other.repository == reference.repository {
            continue;
        }
        // Another image that cannot be read is no reason not to send this one.
        let Ok(image) = store.image(&descriptor) else { continue };
        for layer in image.manifest.layers().iter().filter(|layer| wanted.contains(layer.digest())) {
            found.entry(layer.digest().clone()).or_insert_with(|| other.repository.clone());
        }
    }
    Ok(found)
}

pub(crate) fn no_location(url: &str) -> Error {
    Error::Untrusted {
        what: format!("the answer to {url}"),
        why: "it does not say where to send the data".into(),
    }
}
