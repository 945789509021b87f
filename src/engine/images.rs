//! Images: found by name or ID, listed, described, named, removed. What is stored is chapter 3's.

use super::{
    Engine,
    container::lock,
    disk::{self, Durable},
    failure::{Failure, Result},
    volumes::disk_usage,
};
use bollard_stubs::models::HealthConfig;
use layers::Image;
use oci_spec::image::Descriptor;
use registry::Reference;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::Mutex,
};

/// An image with all its names.
pub(crate) struct Named {
    pub(crate) image: Image,
    /// As docker shows them: `alpine:latest`.
    pub(crate) tags: Vec<String>,
    /// `alpine@sha256:…`
    pub(crate) digests: Vec<String>,
    /// As they are in the store.
    pub(crate) stored: Vec<String>,
}

/// How many bytes each unpacked layer has, by chain ID. Counted once, since a layer never changes.
pub(crate) struct Sizes {
    file: PathBuf,
    known: Mutex<HashMap<String, u64>>,
}

impl Sizes {
    /// What was counted before.
    pub(crate) fn open(data_root: &Path) -> Sizes {
        let file = data_root.join("layer-sizes.json");
        // Only a cache: one that cannot be read is made anew.
        let known = disk::read_json(&file).ok().flatten().unwrap_or_default();
        Sizes { file, known: Mutex::new(known) }
    }

    /// The size of each of an image's layers, bottom first.
    pub(crate) fn of(&self, engine: &Engine, image: &Image) -> Result<Vec<u64>> {
        let chain = image.chain_ids();
        let mut known = lock(&self.known);
        if chain.iter().any(|c| !known.contains_key(c.as_ref())) {
            for (id, dir) in chain.iter().zip(engine.store.unpack(image)?.iter().rev()) {
                known.entry(id.to_string()).or_insert_with(|| disk_usage(dir));
            }
            let _ = disk::write_json(&self.file, &*known, Durable::Process);
        }
        Ok(chain.iter().map(|c| known.get(c.as_ref()).copied().unwrap_or_default()).collect())
    }
}

/// Every image once, with its names.
pub(crate) fn all(engine: &Engine) -> Result<Vec<Named>> {
    let mut images: BTreeMap<String, Named> = BTreeMap::new();
    for (name, descriptor) in engine.store.list()? {
        // One that this machine cannot run (another platform's, or damaged) must not hide the others.
        let Ok(image) = engine.store.image(&descriptor) else { continue };
        let entry = images.entry(image.id().to_string()).or_insert_with(|| Named {
            image,
            tags: Vec::new(),
            digests: Vec::new(),
            stored: Vec::new(),
        });
        let Some(name) = name else { continue };
        if let Ok(reference) = Reference::parse(&name) {
            if reference.tag.is_some() {
                entry.tags.push(reference.familiar());
            }
            entry.digests.push(by_digest(reference, &descriptor).familiar());
        }
        entry.stored.push(name);
    }
    let mut images: Vec<_> = images.into_values().collect();
    for named in &mut images {
        named.tags.sort();
        named.digests.sort();
        named.digests.dedup();
    }
    images.sort_by_key(|n| std::cmp::Reverse(created(&n.image)));
    Ok(images)
}

/// A name with its digest in the place of its tag: the digest by which its registry knows it, which is an index's where it
/// was pulled through one.
fn by_digest(name: Reference, entry: &Descriptor) -> Reference {
    let origin = registry::pull::origin(entry)
        .filter(|origin| origin.registry == name.registry && origin.repository == name.repository);
    let digest = origin.and_then(|origin| origin.digest).unwrap_or_else(|| entry.digest().to_string());
    Reference { tag: None, digest: Some(digest), ..name }
}

/// When it was made, in seconds.
pub(crate) fn created(image: &Image) -> i64 {
    image
        .config
        .created()
        .as_ref()
        .and_then(|c| c.parse::<jiff::Timestamp>().ok())
        .map_or(0, |t| t.as_second())
}

/// The image of a name, an ID, or the beginning of an ID.
pub(crate) fn find(engine: &Engine, reference: &str) -> Result<Image> {
    let parsed = Reference::parse(reference);
    if let Ok(name) = &parsed
        && let Some(descriptor) = engine.store.find(&name.to_string())?
    {
        return Ok(engine.store.image(&descriptor)?);
    }
    let hex = reference.strip_prefix("sha256:").unwrap_or(reference);
    if hex.len() >= 2 && hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        let mut found: Option<Image> = None;
        for named in all(engine)? {
            if named.image.id().digest().starts_with(hex) {
                if found.is_some() {
                    return Err(Failure::bad(format!("image reference {reference} is ambiguous")));
                }
                found = Some(named.image);
            }
        }
        if let Some(image) = found {
            return Ok(image);
        }
    }
    // `name@sha256:…`, pulled under a tag.
    if let Ok(Reference { registry, repository, digest: Some(digest), .. }) = &parsed {
        for (name, descriptor) in engine.store.list()? {
            let Some(Ok(name)) = name.map(|n| Reference::parse(&n)) else { continue };
            if name.registry == *registry
                && name.repository == *repository
                && (descriptor.digest().as_ref() == digest
                    || by_digest(name, &descriptor).digest.as_ref() == Some(digest))
            {
                return Ok(engine.store.image(&descriptor)?);
            }
        }
    }
    let shown = parsed.map_or(reference.to_owned(), |r| r.familiar());
    Err(Failure::missing(format!("No such image: {shown}")))
}

/// An image and all its names.
pub(crate) fn named(engine: &Engine, reference: &str) -> Result<Named> {
    let id = find(engine, reference)?.id().to_string();
    all(engine)?
        .into_iter()
        .find(|n| n.image.id().as_ref() == id)
        .ok_or_else(|| Failure::missing(format!("No such image: {reference}")))
}

/// The configuration as it is stored, with what docker keeps there beyond the OCI's fields.
pub(crate) fn raw_config(engine: &Engine, image: &Image) -> Result<Value> {
    Ok(serde_json::from_slice(&engine.store.read(image.manifest.config())?)?)
}

/// The HEALTHCHECK of an image, which is docker's own field.
pub(crate) fn healthcheck(engine: &Engine, image: &Image) -> Option<HealthConfig> {
    let mut config = raw_config(engine, image).ok()?;
    serde_json::from_value(config["config"]["Healthcheck"].take()).ok()
}

/// `GET /images/NAME/json`
pub(crate) fn inspect(engine: &Engine, reference: &str) -> Result<Value> {
    let named = named(engine, reference)?;
    let image = &named.image;
    let config = raw_config(engine, image)?;
    let sizes = engine.sizes.of(engine, image)?;
    let size: u64 = sizes.iter().sum();
    let layers: Vec<_> = image.config.rootfs().diff_ids().iter().map(ToString::to_string).collect();
    let lower = engine.store.unpack(image)?;
    Ok(json!({
        "Id": image.id().to_string(),
        "RepoTags": named.tags,
        "RepoDigests": named.digests,
        "Parent": "",
        "Comment": image.config.history().iter().flatten().last().and_then(|h| h.comment().clone()).unwrap_or_default(),
        "Created": image.config.created(),
        "DockerVersion": "",
        "Author": image.config.author().clone().unwrap_or_default(),
        "Config": config["config"],
        "Architecture": image.config.architecture().to_string(),
        "Variant": image.config.variant(),
        "Os": image.config.os().to_string(),
        "Size": size,
        "VirtualSize": size,
        "GraphDriver": {"Name": "overlay2", "Data": {
            "LowerDir": lower.iter().map(|l| l.display().to_string()).collect::<Vec<_>>().join(":"),
        }},
        "RootFS": {"Type": "layers", "Layers": layers},
        "Metadata": {"LastTagTime": super::container::NO_TIME},
        "Descriptor": image.descriptor,
    }))
}

/// `GET /images/NAME/history`, the newest first. Only the last step is an image of its own.
pub(crate) fn history(engine: &Engine, reference: &str) -> Result<Value> {
    let named = named(engine, reference)?;
    let sizes = engine.sizes.of(engine, &named.image)?;
    let mut sizes = sizes.iter();
    let mut lines = Vec::new();
    for step in named.image.config.history().iter().flatten() {
        let empty = step.empty_layer().unwrap_or_default();
        let at = step
            .created()
            .as_ref()
            .and_then(|c| c.parse::<jiff::Timestamp>().ok())
            .map_or(0, |t| t.as_second());
        lines.push(json!({
            "Id": "<missing>",
            "Created": at,
            "CreatedBy": step.created_by().clone().unwrap_or_default(),
            "Tags": null,
            "Size": if empty { 0 } else { sizes.next().copied().unwrap_or_default() },
            "Comment": step.comment().clone().unwrap_or_default(),
        }));
    }
    // An image without a history still has layers.
    lines.extend(sizes.map(|size| json!({"Id": "<missing>", "Created": created(&named.image), "CreatedBy": "", "Tags": null, "Size": size, "Comment": ""})));
    lines.reverse();
    if let Some(first) = lines.first_mut() {
        first["Id"] = named.image.id().to_string().into();
        first["Tags"] = json!(named.tags);
    }
    Ok(lines.into())
}

/// `docker tag`
pub(crate) fn tag(engine: &Engine, reference: &str, repository: &str, tag: &str) -> Result<()> {
    let image = find(engine, reference)?;
    let target = if tag.is_empty() { repository.to_owned() } else { format!("{repository}:{tag}") };
    let target = Reference::parse(&target).map_err(|e| Failure::bad(e.to_string()))?;
    if target.digest.is_some() {
        return Err(Failure::bad("refusing to create a tag with a digest reference"));
    }
    engine.store.tag(&target.to_string(), &image.descriptor)?;
    tell(engine, "tag", image.id().as_ref(), &target.familiar());
    Ok(())
}

/// `docker rmi`: what was done, in docker's lines. A name goes; the image goes with its last name, unless something
/// needs it.
pub(crate) fn remove(engine: &Engine, reference: &str, force: bool) -> Result<Vec<Value>> {
    let target = named(engine, reference)?;
    let id = target.image.id().to_string();
    let short = &target.image.id().digest()[..12];
    let name = Reference::parse(reference).ok().map(|r| r.to_string()).filter(|n| target.stored.contains(n));
    let mut done = Vec::new();
    let users: Vec<_> = engine.containers().into_iter().filter(|c| c.look(|r| r.image_id == id)).collect();
    let last = target.stored.len() <= 1;
    if let Some(name) = &name
        && (!last || (force && !users.is_empty()))
    {
        engine.store.untag(name)?;
        let shown = Reference::parse(name)?.familiar();
        tell(engine, "untag", &id, &shown);
        done.push(json!({"Untagged": shown}));
        return Ok(done);
    }
    if name.is_none() && target.stored.len() > 1 && !force {
        return Err(Failure::conflict(format!(
            "conflict: unable to delete {short} (must be forced) - image is referenced in multiple repositories"
        )));
    }
    if let Some(user) = users.iter().find(|c| c.status().alive()) {
        return Err(Failure::conflict(format!(
            "conflict: unable to {} (cannot be forced) - {} {}",
            if name.is_some() {
                format!("remove repository reference \"{reference}\"")
            } else {
                format!("delete {short}")
            },
            if name.is_some() { "container" } else { "image is being used by running container" },
            if name.is_some() {
                format!("{} is using its referenced image {short}", &user.id[..12])
            } else {
                user.id[..12].to_owned()
            },
        )));
    }
    if let Some(user) = users.first().filter(|_| !force) {
        return Err(Failure::conflict(match &name {
            Some(_) => format!(
                "conflict: unable to remove repository reference \"{reference}\" (must force) - container {} is using its \
                 referenced image {short}",
                &user.id[..12]
            ),
            None => format!(
                "conflict: unable to delete {short} (must be forced) - image is being used by stopped container {}",
                &user.id[..12]
            ),
        }));
    }
    for stored in &target.stored {
        let shown = Reference::parse(stored)?.familiar();
        tell(engine, "untag", &id, &shown);
        done.push(json!({"Untagged": shown}));
    }
    done.extend(target.digests.iter().map(|d| json!({"Untagged": d})));
    // Two manifests may have the same configuration, pulled from two places: the image is both.
    for (_, descriptor) in engine.store.list()? {
        if engine.store.image(&descriptor).is_ok_and(|i| i.id().as_ref() == id) {
            engine.store.remove(descriptor.digest())?;
        }
    }
    collect(engine)?;
    tell(engine, "delete", &id, &id);
    done.push(json!({"Deleted": id}));
    for chain in target.image.chain_ids().iter().rev() {
        if !all(engine)?.iter().any(|n| n.image.chain_ids().contains(chain)) {
            done.push(json!({"Deleted": chain.to_string()}));
        }
    }
    Ok(done)
}

/// Removes what no image and no container needs. Returns the bytes freed.
pub(crate) fn collect(engine: &Engine) -> Result<u64> {
    let keep: Vec<_> = engine.containers().iter().flat_map(|c| c.look(|r| r.chain.clone())).collect();
    Ok(engine.store.collect(&keep)?)
}

/// Tells of something that happened to an image.
pub(crate) fn tell(engine: &Engine, action: &str, id: &str, name: &str) {
    engine.events.emit("image", action, id, json!({"name": name}));
}

/// `docker load`. Returns docker's lines.
pub(crate) fn load(engine: &Engine, from: impl std::io::Read) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for (name, descriptor) in layers::archive::load(&engine.store, from)? {
        let id = engine.store.image(&descriptor)?.id().to_string();
        let line = match name {
            Some(name) => {
                // A name out of an archive is anybody's word: it has to be one, and gets its registry and tag.
                let reference = Reference::parse(&name).map_err(|e| Failure::bad(e.to_string()))?;
                engine.store.tag(&reference.to_string(), &descriptor)?;
                format!("Loaded image: {}", reference.familiar())
            }
            None => format!("Loaded image ID: {id}"),
        };
        tell(engine, "load", &id, &id);
        lines.push(line);
    }
    Ok(lines)
}

/// `docker save`
pub(crate) fn save(engine: &Engine, references: &[String], out: impl std::io::Write) -> Result<()> {
    let mut images = Vec::new();
    for reference in references {
        let image = find(engine, reference)?;
        let by_name = Reference::parse(reference)
            .ok()
            .filter(|r| engine.store.find(&r.to_string()).is_ok_and(|f| f.is_some()));
        images.push((by_name.map(|r| r.familiar()).unwrap_or_default(), image.descriptor));
    }
    Ok(layers::archive::save(&engine.store, &images, out)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_has_the_digest_of_the_index_that_it_was_pulled_through() {
        let digest = |letter: &str| format!("sha256:{}", letter.repeat(64));
        let entry = json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "size": 2, "digest": digest("a"),
            "annotations": {"io.teu.pulled": format!("docker.io/library/alpine@{}", digest("b"))}});
        let entry: Descriptor = serde_json::from_value(entry).unwrap();
        let shown = |name: &str| by_digest(Reference::parse(name).unwrap(), &entry).familiar();
        assert_eq!(shown("alpine:3"), format!("alpine@{}", digest("b")));
        // A name that was given here, in another repository: no registry knows it by the index.
        assert_eq!(shown("mine:1"), format!("mine@{}", digest("a")));
    }
}
