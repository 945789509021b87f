//! Images that a check writes itself, byte by byte, with nothing of the chapters in them: so they may also hold what no
//! honest tool would write. The chapters' store is an OCI image layout, so nothing has to be loaded to be in it.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256, Sha512};
use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
};

pub use crate::tarball::Tar;

/// `sha256:` and the digits, as content is called by all tools.
pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(bytes)))
}

/// The same by the other algorithm that image-spec registers.
pub fn digest512(bytes: &[u8]) -> String {
    format!("sha512:{}", hex(&Sha512::digest(bytes)))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// This machine's processor, as images name it.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// An OCI image layout on disk (image-spec, image-layout.md).
#[derive(Clone, Debug)]
pub struct Layout {
    /// Its directory.
    pub dir: PathBuf,
}

impl Layout {
    /// Makes an empty one.
    pub fn make(dir: &Path) -> Result<Layout> {
        let layout = Layout { dir: dir.to_owned() };
        fs::create_dir_all(layout.blobs()).with_context(|| format!("make {}", dir.display()))?;
        layout.write("oci-layout", &json!({ "imageLayoutVersion": "1.0.0" }))?;
        layout.write("index.json", &json!({ "schemaVersion": 2, "manifests": [] }))?;
        Ok(layout)
    }

    /// Where its blobs are.
    pub fn blobs(&self) -> PathBuf {
        self.dir.join("blobs/sha256")
    }

    fn write(&self, name: &str, document: &Value) -> Result<()> {
        fs::write(self.dir.join(name), document.to_string()).with_context(|| format!("write {name}"))
    }

    /// Puts a blob in. Returns its descriptor, but for the media type.
    pub fn blob(&self, bytes: &[u8]) -> Result<Value> {
        let digest = digest(bytes);
        fs::write(self.path(&digest), bytes).with_context(|| format!("write the blob {digest}"))?;
        Ok(json!({ "digest": digest, "size": bytes.len() }))
    }

    /// Where the blob of a digest is, or would be.
    pub fn path(&self, digest: &str) -> PathBuf {
        let (algorithm, hex) = digest.split_once(':').unwrap_or(("sha256", digest));
        self.dir.join("blobs").join(algorithm).join(hex)
    }

    /// Makes an image of these tars, bottom first, and gives it a name.
    pub fn image(&self, name: &str, layers: &[Vec<u8>]) -> Result<()> {
        let document = documents(layers);
        for layer in layers {
            self.blob(layer)?;
        }
        self.blob(document.config.as_bytes())?;
        self.blob(document.manifest.as_bytes())?;
        self.name(name, &document.manifest)
    }

    /// Gives a manifest that is there a name.
    pub fn name(&self, name: &str, manifest: &str) -> Result<()> {
        let mut index = self.json("index.json")?;
        let entry = json!({
            "mediaType": MANIFEST,
            "digest": digest(manifest.as_bytes()),
            "size": manifest.len(),
            "annotations": { NAME: name }
        });
        index["manifests"].as_array_mut().context("index.json has no manifests")?.push(entry);
        self.write("index.json", &index)
    }

    fn json(&self, name: &str) -> Result<Value> {
        let bytes = fs::read(self.dir.join(name)).with_context(|| format!("read {name}"))?;
        serde_json::from_slice(&bytes).with_context(|| format!("{name} is not JSON"))
    }

    /// The names that index.json gives, each with its entry.
    pub fn names(&self) -> Result<Vec<(String, Value)>> {
        let index = self.json("index.json")?;
        let entries = index["manifests"].as_array().cloned().unwrap_or_default();
        let name = |e: &Value| e["annotations"][NAME].as_str().map(str::to_owned);
        Ok(entries.into_iter().filter_map(|e| Some((name(&e)?, e))).collect())
    }

    /// The manifest and the config of the image of this name; none if it is not there whole.
    pub fn find(&self, name: &str) -> Result<Option<(Value, Value)>> {
        let Some((_, entry)) = self.names()?.into_iter().find(|(other, _)| other == name) else {
            return Ok(None);
        };
        let read = |descriptor: &Value| -> Option<Value> {
            let wanted = descriptor["digest"].as_str()?;
            let bytes = fs::read(self.path(wanted)).ok()?;
            (digest(&bytes) == wanted).then(|| serde_json::from_slice(&bytes).ok())?
        };
        Ok(read(&entry).and_then(|manifest| {
            let config = read(&manifest["config"])?;
            Some((manifest, config))
        }))
    }

    /// The names of what is in its blobs: digests, and whatever else a bad writer has left there.
    pub fn blob_names(&self) -> Vec<String> {
        let mut names = Vec::new();
        for algorithm in ["sha256", "sha512"] {
            for entry in fs::read_dir(self.dir.join("blobs").join(algorithm)).into_iter().flatten().flatten()
            {
                names.push(format!("{algorithm}:{}", entry.file_name().to_string_lossy()));
            }
        }
        names.sort();
        names
    }

    /// What is left of things that were being written.
    pub fn left(&self) -> Vec<String> {
        let entries = fs::read_dir(self.dir.join(".tmp")).into_iter().flatten().flatten();
        entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect()
    }

    /// Where the chapters unpack the layer that lies on top of these (diff IDs, bottom first): by its chain ID
    /// (image-spec, config.md, "Layer ChainID").
    pub fn unpacked(&self, layers: &[Vec<u8>]) -> PathBuf {
        let mut chain = String::new();
        for layer in layers {
            let own = digest(layer);
            chain = if chain.is_empty() { own } else { digest(format!("{chain} {own}").as_bytes()) };
        }
        self.dir.join(".unpacked").join(chain.replacen(':', "/", 1)).join("diff")
    }
}

const NAME: &str = "org.opencontainers.image.ref.name";
/// An OCI manifest's media type.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// The two documents of an image.
#[derive(Clone, Debug)]
pub struct Documents {
    /// What to run, and the diff IDs.
    pub config: String,
    /// What names the config and the layers.
    pub manifest: String,
}

/// The documents of an image of these tars, bottom first.
pub fn documents(layers: &[Vec<u8>]) -> Documents {
    let diff_ids: Vec<String> = layers.iter().map(|tar| digest(tar)).collect();
    let config = json!({
        "architecture": architecture(),
        "os": "linux",
        "config": { "Cmd": ["sh"] },
        "rootfs": { "type": "layers", "diff_ids": diff_ids }
    })
    .to_string();
    let layer = |tar: &Vec<u8>| json!({ "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest(tar), "size": tar.len() });
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": digest(config.as_bytes()),
            "size": config.len()
        },
        "layers": layers.iter().map(layer).collect::<Vec<_>>()
    })
    .to_string();
    Documents { config, manifest }
}

/// A layer's tar, taken out of gzip if it is in it.
pub fn inflate(blob: &[u8]) -> Result<Vec<u8>> {
    let mut tar = Vec::new();
    if blob.starts_with(&[0x1f, 0x8b]) {
        flate2::read::MultiGzDecoder::new(blob)
            .read_to_end(&mut tar)
            .context("the layer is not whole gzip")?;
    } else {
        tar.extend(blob);
    }
    Ok(tar)
}
