//! Side room: telling a manifest from an index, and refusing what could pass for both.

use crate::{Error, Result};
use oci_spec::image::Descriptor;

/// The two documents that a name may lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Document {
    /// One image.
    Manifest,
    /// A choice of images.
    Index,
}

/// Which of the two a document is. One that could be read as either is refused, as is one that says
/// something else of itself than who sent us here: two programs would see two different images under one
/// digest (CVE-2021-41190).
pub fn document_kind(bytes: &[u8], descriptor: &Descriptor) -> Result<Document> {
    let document: serde_json::Value = parse(bytes, "manifest", descriptor)?;
    let invalid = |why: &str| Error::Document {
        what: format!("the manifest {}", descriptor.digest()),
        why: why.into(),
    };
    let manifest = document.get("config").is_some() || document.get("layers").is_some();
    let index = document.get("manifests").is_some();
    if document.get("fsLayers").is_some() || document.get("schemaVersion") == Some(&1.into()) {
        return Err(invalid(
            "it is of docker's schema 1, which has been obsolete since 2017; push the image again",
        ));
    }
    let by_type = |media_type: &str| match media_type {
        "application/vnd.oci.image.manifest.v1+json"
        | "application/vnd.docker.distribution.manifest.v2+json" => Some(Document::Manifest),
        "application/vnd.oci.image.index.v1+json"
        | "application/vnd.docker.distribution.manifest.list.v2+json" => Some(Document::Index),
        _ => None,
    };
    let kind = match (manifest, index) {
        (true, false) => Document::Manifest,
        (false, true) => Document::Index,
        (true, true) => return Err(invalid("it is a manifest and an index at once")),
        (false, false) => return Err(invalid("it is neither a manifest nor an index")),
    };
    let says = document.get("mediaType").and_then(|m| m.as_str());
    for media_type in says.into_iter().chain([descriptor.media_type().as_ref()]) {
        match by_type(media_type) {
            Some(said) if said == kind => (),
            Some(_) => return Err(invalid("its media type says something else than its content")),
            None => return Err(invalid(&format!("its media type {media_type} is not that of an image"))),
        }
    }
    Ok(kind)
}

pub(crate) fn parse<T: serde::de::DeserializeOwned>(
    bytes: &[u8],
    what: &str,
    descriptor: &Descriptor,
) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|e| Error::Document {
        what: format!("the {what} {}", descriptor.digest()),
        why: e.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::digest;
    use oci_spec::image::MediaType;

    fn descriptor(media_type: MediaType) -> Descriptor {
        Descriptor::new(media_type, 1, digest(b"x").unwrap())
    }

    #[test]
    fn a_manifest_that_is_also_an_index_is_refused() {
        let both = br#"{"schemaVersion":2,"config":{},"layers":[],"manifests":[]}"#;
        let error = document_kind(both, &descriptor(MediaType::ImageManifest)).unwrap_err();
        assert!(error.to_string().contains("at once"), "{error}");
        let index = br#"{"schemaVersion":2,"manifests":[]}"#;
        assert!(document_kind(index, &descriptor(MediaType::ImageManifest)).is_err());
        assert_eq!(document_kind(index, &descriptor(MediaType::ImageIndex)).unwrap(), Document::Index);
    }
}
