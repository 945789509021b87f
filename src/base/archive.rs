//! From a tree to an image in one file: an OCI image layout (image-spec, image-layout.md), with the
//! manifest.json beside it by which `docker load` finds its way.

use super::tree::Tree;
use anyhow::Result;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fmt::Write;

/// Makes the archive of an image with this one layer.
pub(super) fn make(name: &str, tree: &Tree, path: &str) -> Result<Vec<u8>> {
    let modified = tree.modified();
    let created = jiff::Timestamp::from_second(i64::try_from(modified)?)?.to_string();
    let layer = tree.tar()?;
    // Not compressed: then the digest of the blob is the diff ID too, and no compressor's version changes it.
    let layer_digest = digest(&layer);
    let config = document(&json!({
        "architecture": crate::client::architecture(),
        "os": "linux",
        "created": created,
        "config": {
            "Env": [format!("PATH={path}")],
            "Cmd": ["sh"],
            "Labels": {
                "org.opencontainers.image.title": "base",
                "org.opencontainers.image.description": "The tools of the machine that it was made on",
            },
        },
        "rootfs": {"type": "layers", "diff_ids": [layer_digest]},
        "history": [{"created": created, "created_by": "teu image base"}],
    }))?;
    let manifest = document(&json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer)],
    }))?;
    let full = crate::client::full_name(name);
    let mut reference = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest);
    reference["annotations"] = json!({
        "io.containerd.image.name": full,
        "org.opencontainers.image.ref.name": full.rsplit_once(':').map_or("latest", |(_, tag)| tag),
    });
    let index = document(&json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [reference],
    }))?;
    let familiar = crate::client::familiar_name(name);
    let docker = document(&json!([{
        "Config": blob_path(&config),
        "RepoTags": [familiar],
        "Layers": [blob_path(&layer)],
    }]))?;

    let mut tar = tar::Builder::new(Vec::with_capacity(layer.len() + (1 << 16)));
    let mut put = |path: &str, content: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_uid(0);
        header.set_gid(0);
        header.set_mode(0o644);
        header.set_mtime(modified);
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, path, content)
    };
    put("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    put("index.json", &index)?;
    put("manifest.json", &docker)?;
    for blob in [&config, &manifest, &layer] {
        put(&blob_path(blob), blob)?;
    }
    Ok(tar.into_inner()?)
}

/// serde_json keeps keys sorted: the same document is the same bytes.
fn document(value: &Value) -> Result<Vec<u8>> {
    Ok(serde_json::to_vec(value)?)
}

fn descriptor(media_type: &str, blob: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": digest(blob), "size": blob.len()})
}

fn blob_path(blob: &[u8]) -> String {
    format!("blobs/{}", digest(blob).replace(':', "/"))
}

fn digest(bytes: &[u8]) -> String {
    let mut text = String::from("sha256:");
    for byte in Sha256::digest(bytes) {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn every_name_in_the_archive_leads_to_a_blob_of_that_digest() {
        let mut tree = Tree::default();
        tree.text(Path::new("/etc/hello"), "hello");
        let bytes = make("localhost:5000/base:1", &tree, "/bin").unwrap();
        let mut files = std::collections::HashMap::new();
        for entry in tar::Archive::new(&bytes[..]).entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().display().to_string();
            let mut content = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut content).unwrap();
            files.insert(path, content);
        }
        let json = |path: &str| serde_json::from_slice::<Value>(&files[path]).unwrap();
        let blob = |descriptor: &Value| {
            let path = format!("blobs/{}", descriptor["digest"].as_str().unwrap().replace(':', "/"));
            assert_eq!(blob_path(&files[&path]), path);
            assert_eq!(descriptor["size"], files[&path].len());
            path
        };
        let manifest = json(&blob(&json("index.json")["manifests"][0]));
        let config = blob(&manifest["config"]);
        let layer = blob(&manifest["layers"][0]);
        let docker = &json("manifest.json")[0];
        assert_eq!(docker["Config"], config);
        assert_eq!(docker["Layers"][0], layer);
        assert_eq!(docker["RepoTags"][0], "localhost:5000/base:1");
        assert_eq!(json(&config)["rootfs"]["diff_ids"][0], manifest["layers"][0]["digest"]);
    }
}
