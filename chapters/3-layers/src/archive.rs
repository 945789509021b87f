//! Side room: an image as one file, `docker save` and `docker load`.
//!
//! Since docker 25 such a tar is an OCI image layout with docker's older `manifest.json` beside it, so both
//! kinds of reader find what they know. What came before is still loaded: docker-archive (only
//! `manifest.json`), with layers under any path, or linked to each other; and oci-archive (only a layout).

use crate::{
    Error, Result, Store,
    document::parse,
    error::Doing,
    image::{Compression, document_kind},
    pack::Packer,
    tarball::{Entry, Kind, Reader, write_header, write_padding},
    unpack::CHUNK,
};
use oci_spec::image::{ANNOTATION_REF_NAME, Descriptor, Digest, ImageIndex, MediaType};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io::{BufRead, BufReader, Read, Write},
    path::{Component, Path, PathBuf},
};

/// The name of an image in containerd's and docker's archives: the full reference.
const FULL_NAME: &str = "io.containerd.image.name";

/// More files than any archive of images has.
const MAX_PARTS: usize = 100_000;

/// One entry of `manifest.json`.
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: PathBuf,
    repo_tags: Option<Vec<String>>,
    layers: Vec<PathBuf>,
}

/// Loads every image of an archive (plain, gzip or zstd), checked, and lists it without a name. Returns
/// them with the names that the archive gives: one entry per name, or one without.
pub fn load(store: &Store, from: impl Read) -> Result<Vec<(Option<String>, Descriptor)>> {
    let mut from = BufReader::with_capacity(CHUNK, from);
    let doing = || "read the archive".to_string();
    let compression = Compression::of(from.fill_buf().doing(doing)?);
    let plain = compression.inflate(from).doing(doing)?;
    let parts = Parts::read(store, BufReader::with_capacity(CHUNK, plain))?;
    let images = match parts.find(Path::new("index.json")) {
        Some(index) if parts.find(Path::new("oci-layout")).is_some() => from_layout(store, &index)?,
        _ => from_manifest_json(store, &parts)?,
    };
    for (_, image) in &images {
        store.image(image)?;
        store.add(image)?;
    }
    // What else the archive held is garbage now, and need not wait for its grace.
    let needed: HashSet<Digest> =
        images.iter().flat_map(|(_, image)| store.needs(image.digest()).unwrap_or_default()).collect();
    for part in parts.files.values().filter(|part| !needed.contains(part.digest())) {
        store.age(part.digest());
    }
    Ok(images)
}

/// The files of an archive, each stored under its own digest as it came by: the stream is read once, and
/// what a file is for is said only at its end.
struct Parts {
    files: HashMap<PathBuf, Descriptor>,
    links: HashMap<PathBuf, PathBuf>,
}

impl Parts {
    fn read(store: &Store, from: impl BufRead) -> Result<Parts> {
        let mut parts = Parts { files: HashMap::new(), links: HashMap::new() };
        let mut tar = Reader::new(from);
        while let Some(entry) = tar.next()? {
            if parts.files.len() + parts.links.len() > MAX_PARTS {
                return Err(Error::Limit { what: "an archive's files".into(), limit: MAX_PARTS.to_string() });
            }
            // Paths are only ever compared with each other: none of them reaches the disk.
            let path = lexical(Path::new(""), Path::new(&entry.path));
            match entry.kind {
                Kind::File if entry.pieces.is_none() => {
                    let mut ingest = store.ingest()?;
                    tar.copy(entry.size, &mut ingest).doing(|| format!("store {}", path.display()))?;
                    parts.files.insert(path, ingest.commit(MediaType::Other(String::new()), None)?);
                }
                Kind::Symlink => {
                    let from = path.parent().unwrap_or(Path::new("")).to_owned();
                    parts.links.insert(path, lexical(&from, Path::new(&entry.link)));
                }
                Kind::HardLink => {
                    parts.links.insert(path, lexical(Path::new(""), Path::new(&entry.link)));
                }
                _ => (),
            }
        }
        Ok(parts)
    }

    /// The file at a path; old archives link equal layers to each other.
    fn find(&self, path: &Path) -> Option<Descriptor> {
        let mut path = lexical(Path::new(""), path);
        for _ in 0..8 {
            match self.links.get(&path) {
                Some(target) => path = target.clone(),
                None => return self.files.get(&path).cloned(),
            }
        }
        None
    }

    fn need(&self, path: &Path) -> Result<Descriptor> {
        self.find(path).ok_or_else(|| invalid(&format!("{} is missing", path.display())))
    }
}

fn from_layout(store: &Store, index: &Descriptor) -> Result<Vec<(Option<String>, Descriptor)>> {
    let index: ImageIndex = parse(&store.read(index)?, "index.json", index)?;
    let mut images = Vec::new();
    for descriptor in index.manifests() {
        // Attestations of a build are listed beside their image, and are none.
        if descriptor.annotations().as_ref().is_some_and(|a| a.contains_key("vnd.docker.reference.type")) {
            continue;
        }
        document_kind(&store.read(descriptor)?, descriptor)?;
        if let Some(blob) = store.lacks(descriptor.digest()).first() {
            return Err(invalid(&format!("the blob {blob} is missing")));
        }
        let names = descriptor.annotations().as_ref();
        let name = names.and_then(|a| a.get(FULL_NAME).or(a.get(ANNOTATION_REF_NAME)).cloned());
        let mut plain = descriptor.clone();
        plain.set_annotations(None);
        images.push((name, plain));
    }
    Ok(images)
}

fn from_manifest_json(store: &Store, parts: &Parts) -> Result<Vec<(Option<String>, Descriptor)>> {
    let list = parts.find(Path::new("manifest.json")).ok_or_else(|| {
        invalid("it holds neither manifest.json nor an OCI layout, so it is not an archive of images")
    })?;
    let saved: Vec<Saved> = parse(&store.read(&list)?, "manifest.json", &list)?;
    let mut images = Vec::new();
    for image in saved {
        let config = typed(parts.need(&image.config)?, MediaType::ImageConfig);
        let document: Value = parse(&store.read(&config)?, "config", &config)?;
        let diff_ids = document["rootfs"]["diff_ids"].as_array().map_or(0, Vec::len);
        if diff_ids != image.layers.len() {
            return Err(invalid(&format!("{diff_ids} diff IDs for {} layers", image.layers.len())));
        }
        let mut layers = Vec::new();
        for (n, path) in image.layers.iter().enumerate() {
            let layer = parts.need(path)?;
            let mut first = [0; 4];
            let read = store.open_blob(layer.digest())?.read(&mut first).doing(|| "read a layer".into())?;
            let compression = Compression::of(&first[..read]);
            // Of a plain tar the diff ID is the digest; of a compressed one, unpacking will tell.
            if compression == Compression::None
                && document["rootfs"]["diff_ids"][n].as_str() != Some(layer.digest().as_ref())
            {
                return Err(invalid(&format!("the layer {} is not the one in the config", path.display())));
            }
            layers.push(typed(layer, compression.media_type()));
        }
        let manifest = store.write_manifest(config, layers)?;
        match image.repo_tags.filter(|tags| !tags.is_empty()) {
            Some(tags) => images.extend(tags.into_iter().map(|tag| (Some(tag), manifest.clone()))),
            None => images.push((None, manifest)),
        }
    }
    Ok(images)
}

/// Writes images with their names (empty for none) as one archive, which docker, podman, skopeo and
/// containerd load. Of an index, this machine's image is written.
pub fn save(store: &Store, images: &[(String, Descriptor)], out: impl Write) -> Result<()> {
    let mut packer = Packer::new(out);
    let mut blobs: BTreeMap<String, Descriptor> = BTreeMap::new();
    let mut index = Vec::new();
    let mut saved: Vec<Saved> = Vec::new();
    for (name, descriptor) in images {
        let image = store.image(descriptor)?;
        let layers = image.manifest.layers();
        for blob in layers.iter().chain([image.manifest.config(), &image.descriptor]) {
            blobs.insert(blob.digest().to_string(), blob.clone());
        }
        let mut entry = json!({
            "mediaType": image.descriptor.media_type(),
            "digest": image.descriptor.digest(),
            "size": image.descriptor.size(),
        });
        if !name.is_empty() {
            let tag = name.rsplit_once(':').map_or("latest", |(_, tag)| tag);
            entry["annotations"] = json!({ FULL_NAME: name, ANNOTATION_REF_NAME: tag });
        }
        index.push(entry);
        let config = blob_name(image.id());
        let tag = (!name.is_empty()).then(|| familiar(name).to_owned());
        match saved.iter_mut().find(|other| other.config == config) {
            Some(other) => other.repo_tags.get_or_insert_default().extend(tag),
            None => saved.push(Saved {
                config,
                repo_tags: tag.map(|tag| vec![tag]),
                layers: layers.iter().map(|l| blob_name(l.digest())).collect(),
            }),
        }
    }

    packer.directory(Path::new("blobs"), 0o755, (0, 0), 0)?;
    packer.directory(Path::new("blobs/sha256"), 0o755, (0, 0), 0)?;
    let mut out = packer.into_inner();
    for blob in blobs.values() {
        let path = blob_name(blob.digest());
        let doing = || format!("save {}", path.display());
        let mut entry = Entry::new(path.as_os_str(), Kind::File, 0o644);
        entry.size = blob.size();
        write_header(&mut out, &entry).doing(doing)?;
        let mut from = store.open_blob(blob.digest())?.take(blob.size());
        let copied = std::io::copy(&mut from, &mut out).doing(doing)?;
        if copied != blob.size() {
            return Err(Error::Mismatch {
                what: format!("the size of the blob {}", blob.digest()),
                expected: blob.size().to_string(),
                found: copied.to_string(),
            });
        }
        write_padding(&mut out, entry.size).doing(doing)?;
    }
    let mut packer = Packer::new(out);
    let index = json!({ "schemaVersion": 2, "mediaType": MediaType::ImageIndex, "manifests": index });
    for (name, document) in [
        ("index.json", index),
        ("manifest.json", json!(saved)),
        ("oci-layout", json!({ "imageLayoutVersion": "1.0.0" })),
    ] {
        packer.file(Path::new(name), 0o644, (0, 0), 0, document.to_string().as_bytes())?;
    }
    packer.finish()?.flush().doing(|| "write the archive".into())
}

/// The name as docker prints it: Docker Hub and its `library` are left out.
fn familiar(name: &str) -> &str {
    let name = name.strip_prefix("docker.io/").unwrap_or(name);
    name.strip_prefix("library/").unwrap_or(name)
}

fn blob_name(digest: &Digest) -> PathBuf {
    ["blobs", digest.algorithm().as_ref(), digest.digest()].iter().collect()
}

fn typed(mut descriptor: Descriptor, media_type: MediaType) -> Descriptor {
    descriptor.set_media_type(media_type);
    descriptor
}

/// `path` as seen from `from`, without dots.
fn lexical(from: &Path, path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for component in from.join(path).components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => drop(clean.pop()),
            _ => (),
        }
    }
    clean
}

fn invalid(why: &str) -> Error {
    Error::Document { what: "the archive".into(), why: why.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_compared_without_dots() {
        assert_eq!(lexical(Path::new("a/b"), Path::new("../c/layer.tar")), Path::new("a/c/layer.tar"));
        assert_eq!(lexical(Path::new(""), Path::new("../../x")), Path::new("x"));
    }

    #[test]
    fn docker_hub_is_left_out_of_names() {
        assert_eq!(familiar("docker.io/library/base:latest"), "base:latest");
        assert_eq!(familiar("docker.io/me/base:1"), "me/base:1");
        assert_eq!(familiar("localhost:5000/base:1"), "localhost:5000/base:1");
    }
}
