//! Referrers: signatures, bills of material, whatever else is about an image (distribution-spec, "Listing
//! Referrers").

use super::{Outcome, Registry, answer, http::Request, manifests::subject};
use crate::manifest::{self, Document};
use std::collections::BTreeMap;

impl Registry<'_> {
    /// `GET /v2/<name>/referrers/<digest>?artifactType=…`: an index of all manifests with that subject, which
    /// is empty, and no error, where there is none.
    pub(super) fn referrers(&self, name: &str, digest: &str, request: &Request) -> Outcome {
        let digest = answer::digest(digest)?;
        let wanted = request.query("artifactType").filter(|kind| !kind.is_empty());
        let mut found = BTreeMap::new();
        for (_, descriptor) in self.own(name)? {
            let Ok(bytes) = self.store.read(&descriptor) else { continue };
            let Ok(document) = manifest::parse(descriptor.media_type(), &bytes, name) else { continue };
            if subject(&document).is_none_or(|subject| *subject.digest() != digest) {
                continue;
            }
            let (kind, annotations) = match &document {
                // An image without a type of its own has that of its configuration.
                Document::Image(image) => {
                    let own = image.artifact_type().clone().filter(|kind| !kind.as_ref().is_empty());
                    (Some(own.unwrap_or_else(|| image.config().media_type().clone())), image.annotations())
                }
                Document::Index(index) => (index.artifact_type().clone(), index.annotations()),
            };
            if wanted.is_some_and(|wanted| kind.as_ref().is_none_or(|kind| kind.as_ref() != wanted)) {
                continue;
            }
            let mut entry = serde_json::json!({
                "mediaType": descriptor.media_type(), "digest": descriptor.digest(), "size": descriptor.size(),
            });
            if let Some(kind) = kind {
                entry["artifactType"] = kind.as_ref().into();
            }
            if let Some(annotations) = annotations {
                entry["annotations"] = serde_json::json!(annotations);
            }
            found.insert(descriptor.digest().to_string(), entry);
        }
        let kind = "application/vnd.oci.image.index.v1+json";
        let index = serde_json::json!({
            "schemaVersion": 2, "mediaType": kind, "manifests": found.into_values().collect::<Vec<_>>(),
        });
        let mut answer = answer::json(200, &index);
        answer.headers = vec![("content-type", kind.to_owned())];
        if wanted.is_some() {
            answer.headers.push(("oci-filters-applied", "artifactType".to_owned()));
        }
        Ok(answer)
    }
}
