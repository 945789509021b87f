//! The document that lists an image's parts (image-spec, manifest.md), or several images (image-index.md).
//!
//! Everything else is checked against this document, so it is checked hardest itself: its bytes against
//! their digest, its kind against what the registry said it is, and what it holds against that kind.

use crate::{Error, Result, client::Client, reference};
use oci_spec::image::{Descriptor, Digest, DigestAlgorithm, ImageIndex, ImageManifest, MediaType};
use sha2::{Digest as _, Sha256, Sha384, Sha512};
use std::fmt::Write as _;
use ureq::http::Method;

/// No manifest is larger (distribution-spec, "Pushing Manifests").
pub const LIMIT: u64 = 4 << 20;

/// Docker's own media types, older than OCI's and equal in meaning.
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Its first, which signed itself instead of being named by its digest.
const SCHEMA1: &str = "application/vnd.docker.distribution.manifest.v1+";

/// Everything we understand.
const ACCEPT: [&str; 4] = [OCI_INDEX, OCI_MANIFEST, DOCKER_INDEX, DOCKER_MANIFEST];

/// A manifest of one kind or the other.
#[derive(Debug)]
pub enum Document {
    /// One image.
    Image(Box<ImageManifest>),
    /// One image for each of several platforms.
    Index(Box<ImageIndex>),
}

/// Asks for the manifest `target` (a tag, or a digest) and returns it with its descriptor.
pub fn fetch(client: &Client, target: &str) -> Result<(Descriptor, Vec<u8>)> {
    let name = client.reference().familiar();
    let untrusted = |why: String| Error::Untrusted { what: format!("the manifest of {name}"), why };

    let url = client.url(&format!("manifests/{target}"))?;
    let response = client.send(
        &Method::GET,
        &url,
        &ACCEPT.map(|kind| ("accept", kind)),
        &crate::client::Payload::None,
    )?;
    if response.status() != 200 {
        return Err(client.refused(response, "pull"));
    }
    let header =
        |name: &str| response.headers().get(name).and_then(|v| v.to_str().ok()).map(|v| v.trim().to_owned());
    let (kind, said) = (header("content-type"), header("docker-content-digest"));
    let bytes = response
        .into_body()
        .into_with_config()
        .limit(LIMIT)
        .read_to_vec()
        .map_err(|e| untrusted(e.to_string()))?;

    // Asked by digest, the answer must be what the digest names. Asked by tag, the registry may say what
    // it means to send; then it must have arrived so.
    let asked = target.contains(':').then_some(target.to_owned());
    let algorithm = asked.as_deref().map(reference::check_digest).transpose()?;
    let algorithm = algorithm.map_or(DigestAlgorithm::Sha256, |digest| digest.algorithm().clone());
    let digest = digest(&algorithm, &bytes)
        .ok_or_else(|| untrusted(format!("digests by {algorithm} are not supported")))?;
    if let Some(asked) = asked.filter(|asked| asked != digest.as_ref()) {
        return Err(untrusted(format!("its digest is {digest}, and {asked} was asked for")));
    }
    let same_algorithm = |said: &String| said.split(':').next() == Some(algorithm.as_ref());
    if let Some(said) = said.filter(same_algorithm).filter(|said| said != digest.as_ref()) {
        return Err(untrusted(format!("its digest is {digest}, and the registry said {said}")));
    }
    let kind = media_type(kind.as_deref(), &bytes);
    tracing::info!(target: "step", section = "6.3", call = "GET", "/v2/{}/manifests/{target}: {} bytes, {kind}", client.reference().repository, bytes.len());
    Ok((Descriptor::new(kind, bytes.len() as u64, digest), bytes))
}

/// The kind: what the registry says, or where that says nothing, what the document says of itself.
fn media_type(header: Option<&str>, bytes: &[u8]) -> MediaType {
    let header = header.map(|kind| kind.split(';').next().unwrap_or(kind).trim().to_ascii_lowercase());
    match header {
        Some(kind) if kind.starts_with("application/vnd.") => MediaType::from(kind.as_str()),
        _ => guess(bytes),
    }
}

/// The kind by the document alone.
pub fn guess(bytes: &[u8]) -> MediaType {
    let document: serde_json::Value = serde_json::from_slice(bytes).unwrap_or_default();
    match document.get("mediaType").and_then(|kind| kind.as_str()) {
        Some(kind) => MediaType::from(kind),
        None if document.get("manifests").is_some() => MediaType::ImageIndex,
        None if document.get("schemaVersion") == Some(&1.into()) => {
            MediaType::Other(format!("{SCHEMA1}prettyjws"))
        }
        None => MediaType::ImageManifest,
    }
}

/// Reads a document as the kind that it is said to be. `name` is for the messages.
///
/// A document that could be read as either kind would be one thing to the one who checks it and another
/// to the one who runs it (CVE-2021-41190), so it is refused; so is one that disagrees with its header.
pub fn parse(media_type: &MediaType, bytes: &[u8], name: &str) -> Result<Document> {
    let untrusted = |why: String| Error::Untrusted { what: format!("the manifest of {name}"), why };
    let kind = media_type.to_string();
    let broken = |e: serde_json::Error| untrusted(format!("it is not a document of the kind {kind}: {e}"));

    let fields: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(bytes).map_err(broken)?;
    if kind.starts_with(SCHEMA1) || fields.get("schemaVersion") == Some(&1.into()) {
        return Err(Error::Schema1 { name: name.to_owned() });
    }
    if fields.get("schemaVersion") != Some(&2.into()) {
        return Err(untrusted("its schemaVersion is not 2".into()));
    }
    if let Some(own) = fields.get("mediaType").filter(|own| own.as_str() != Some(&kind)) {
        return Err(untrusted(format!("it calls itself {own} and was sent as {kind}")));
    }
    let either = |names: &[&str]| names.iter().any(|name| fields.contains_key(*name));
    let (image, index) = (either(&["config", "layers", "fsLayers"]), either(&["manifests"]));
    match kind.as_str() {
        OCI_MANIFEST | DOCKER_MANIFEST if !index => {
            Ok(Document::Image(Box::new(serde_json::from_slice(bytes).map_err(broken)?)))
        }
        OCI_INDEX | DOCKER_INDEX if !image => {
            Ok(Document::Index(Box::new(serde_json::from_slice(bytes).map_err(broken)?)))
        }
        OCI_MANIFEST | DOCKER_MANIFEST | OCI_INDEX | DOCKER_INDEX => Err(untrusted(
            "it is an image and an index in one, which different tools would read differently".into(),
        )),
        _ => Err(untrusted(format!("{kind} is not a kind of image"))),
    }
}

/// The digest of some bytes; `None` for an algorithm that is not ours.
pub fn digest(algorithm: &DigestAlgorithm, bytes: &[u8]) -> Option<Digest> {
    let hash = match algorithm {
        DigestAlgorithm::Sha256 => Sha256::digest(bytes).to_vec(),
        DigestAlgorithm::Sha384 => Sha384::digest(bytes).to_vec(),
        DigestAlgorithm::Sha512 => Sha512::digest(bytes).to_vec(),
        _ => return None,
    };
    let mut text = format!("{algorithm}:");
    for byte in hash {
        write!(text, "{byte:02x}").ok()?;
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: &str, document: serde_json::Value) -> Result<Document> {
        parse(&MediaType::from(kind), document.to_string().as_bytes(), "x")
    }

    fn part() -> serde_json::Value {
        serde_json::json!({"mediaType": "a/b", "size": 1, "digest": format!("sha256:{}", "0".repeat(64))})
    }

    #[test]
    fn images_and_indexes_are_told_apart() {
        let image = serde_json::json!({"schemaVersion": 2, "config": part(), "layers": [part()]});
        assert!(matches!(read(OCI_MANIFEST, image.clone()), Ok(Document::Image(_))));
        assert!(matches!(read(DOCKER_MANIFEST, image.clone()), Ok(Document::Image(_))));
        let index = serde_json::json!({"schemaVersion": 2, "manifests": [part()]});
        assert!(matches!(read(OCI_INDEX, index.clone()), Ok(Document::Index(_))));
        assert_eq!(guess(image.to_string().as_bytes()), MediaType::ImageManifest);
        assert_eq!(guess(index.to_string().as_bytes()), MediaType::ImageIndex);
        for (kind, document) in [(OCI_INDEX, image), (OCI_MANIFEST, index)] {
            assert!(read(kind, document).is_err(), "{kind}");
        }
    }

    #[test]
    fn a_document_of_two_kinds_is_refused() {
        let both = serde_json::json!({"schemaVersion": 2, "config": part(), "layers": [], "manifests": []});
        for kind in ACCEPT {
            let error = read(kind, both.clone()).unwrap_err().to_string();
            assert!(error.contains("an image and an index in one"), "{error}");
        }
        let lies =
            serde_json::json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "config": part(), "layers": []});
        assert!(read(OCI_MANIFEST, lies).unwrap_err().to_string().contains("calls itself"));
    }

    #[test]
    fn a_key_that_comes_twice_is_refused() {
        let twice = format!("{{\"schemaVersion\":2,\"config\":{0},\"layers\":[],\"config\":{0}}}", part());
        assert!(parse(&MediaType::ImageManifest, twice.as_bytes(), "x").is_err());
    }

    #[test]
    fn the_old_schema_is_refused_by_name() {
        let old = serde_json::json!({"schemaVersion": 1, "fsLayers": []});
        let kind = guess(old.to_string().as_bytes());
        let error = parse(&kind, old.to_string().as_bytes(), "app:1").unwrap_err().to_string();
        assert!(error.starts_with("app:1 is in Docker's image manifest version 2, schema 1"), "{error}");
    }

    #[test]
    fn digests_are_those_of_sha256sum() {
        let hello = digest(&DigestAlgorithm::Sha256, b"hello\n").unwrap();
        assert_eq!(hello.as_ref(), "sha256:5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03");
        assert_eq!(digest(&DigestAlgorithm::Sha512, b"").unwrap().digest().len(), 128);
        assert_eq!(digest(&DigestAlgorithm::Other("md5".into()), b""), None);
    }
}
