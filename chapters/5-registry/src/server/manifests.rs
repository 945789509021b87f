//! Manifests: what a tag means, and what may be pushed.

use super::{
    Outcome, Registry,
    answer::{self, Code, refusal},
    http::{Answer, Connection, Content, Request},
};
use crate::{
    manifest::{self, Document, LIMIT},
    reference::is_tag,
};
use oci_spec::image::{Descriptor, DigestAlgorithm, MediaType};
use std::{io::Read, sync::PoisonError};

impl Registry<'_> {
    /// `GET /v2/<name>/manifests/<tag or digest>`
    pub(super) fn manifest(&self, name: &str, target: &str) -> Outcome {
        let descriptor = self.resolve(name, target)?;
        let bytes = self.store.read(&descriptor).map_err(|_| unknown())?;
        Ok(Answer::new(200)
            .header("content-type", descriptor.media_type())
            .header("docker-content-digest", descriptor.digest())
            .header("etag", format!("\"{}\"", descriptor.digest()))
            .content(Content::Bytes(bytes)))
    }

    /// The manifest that a repository knows by this tag or digest.
    fn resolve(&self, name: &str, target: &str) -> Result<Descriptor, Answer> {
        if !target.contains(':') {
            if !is_tag(target) {
                return Err(unknown());
            }
            return self.store.find(&format!("{name}:{target}")).map_err(answer::broken)?.ok_or_else(unknown);
        }
        let digest = answer::digest(target)?;
        let own = self.own(name)?;
        if let Some((_, descriptor)) = own.iter().find(|(_, descriptor)| *descriptor.digest() == digest) {
            return Ok(descriptor.clone());
        }
        // An image of an index needs no name of its own.
        for (_, index) in own.iter().filter(|(_, d)| {
            d.media_type().to_string().contains("index") || d.media_type().to_string().contains("list")
        }) {
            let Ok(bytes) = self.store.read(index) else { continue };
            let Ok(Document::Index(index)) = manifest::parse(index.media_type(), &bytes, "") else {
                continue;
            };
            if let Some(entry) = index.manifests().iter().find(|entry| *entry.digest() == digest) {
                return if self.store.has(entry) { Ok(entry.clone()) } else { Err(unknown()) };
            }
        }
        Err(unknown())
    }

    /// What a repository has: the part of each name behind the repository's (`:tag` or `@digest`).
    pub(super) fn own(&self, name: &str) -> Result<Vec<(String, Descriptor)>, Answer> {
        let all = self.store.list().map_err(answer::broken)?;
        let rest = |full: String| {
            full.strip_prefix(name).filter(|rest| rest.starts_with([':', '@'])).map(str::to_owned)
        };
        Ok(all.into_iter().filter_map(|(full, descriptor)| Some((rest(full?)?, descriptor))).collect())
    }

    /// `PUT /v2/<name>/manifests/<tag or digest>`
    pub(super) fn put_manifest(
        &self,
        name: &str,
        target: &str,
        request: &Request,
        body: &mut Connection,
    ) -> Outcome {
        let by_digest = target.contains(':').then(|| answer::digest(target)).transpose()?;
        if by_digest.is_none() && !is_tag(target) {
            return Err(refusal(400, Code::ManifestInvalid, "invalid tag"));
        }
        let mut bytes = Vec::new();
        body.take(LIMIT + 1)
            .read_to_end(&mut bytes)
            .map_err(|e| refusal(400, Code::ManifestInvalid, &e.to_string()))?;
        if bytes.len() as u64 > LIMIT {
            return Err(refusal(413, Code::ManifestInvalid, "a manifest has at most 4 MiB"));
        }

        let kind = match request.header("content-type") {
            Some(kind) => MediaType::from(kind.split(';').next().unwrap_or(kind).trim()),
            None => manifest::guess(&bytes),
        };
        let invalid = |e: crate::Error| refusal(400, Code::ManifestInvalid, &e.to_string());
        let document = manifest::parse(&kind, &bytes, name).map_err(invalid)?;
        self.check_parts(&document)?;

        let algorithm =
            by_digest.as_ref().map_or(DigestAlgorithm::Sha256, |digest| digest.algorithm().clone());
        let digest = manifest::digest(&algorithm, &bytes).ok_or_else(unknown)?;
        if by_digest.is_some_and(|asked| asked != digest) {
            return Err(refusal(400, Code::DigestInvalid, "provided digest did not match uploaded content"));
        }
        let descriptor = Descriptor::new(kind.clone(), bytes.len() as u64, digest);
        let mut ingest = self.store.ingest().map_err(answer::broken)?;
        std::io::Write::write_all(&mut ingest, &bytes)
            .map_err(|_| refusal(500, Code::Unknown, "the registry cannot write"))?;
        let descriptor = ingest.commit(kind, Some(&descriptor)).map_err(answer::broken)?;
        // The name by digest first: were we stopped in between, the tag would still mean what it did.
        self.store.tag(&format!("{name}@{}", descriptor.digest()), &descriptor).map_err(answer::broken)?;
        if !target.contains(':') {
            self.store.tag(&format!("{name}:{target}"), &descriptor).map_err(answer::broken)?;
        }
        let answer = Answer::new(201)
            .header("location", format!("/v2/{name}/manifests/{target}"))
            .header("docker-content-digest", descriptor.digest());
        // To say that the subject was understood is to say that the referrers API works.
        Ok(match subject(&document) {
            Some(subject) => answer.header("oci-subject", subject.digest()),
            None => answer,
        })
    }

    /// All that a manifest names must be there, so that no one ever pulls an image that is not whole. The
    /// subject need not: a signature may come before what it signs. Nor need layers that may not be passed on.
    fn check_parts(&self, document: &Document) -> Result<(), Answer> {
        let parts: Vec<&Descriptor> = match document {
            Document::Image(image) => image.layers().iter().chain([image.config()]).collect(),
            Document::Index(index) => index.manifests().iter().collect(),
        };
        let kept_elsewhere = |part: &Descriptor| {
            let kind = part.media_type().to_string();
            kind.contains("nondistributable") || kind.contains(".foreign.")
        };
        match parts.iter().find(|part| !self.store.has(part) && !kept_elsewhere(part)) {
            Some(part) => {
                let message =
                    format!("{} of {} bytes is not here; push it first", part.digest(), part.size());
                Err(refusal(404, Code::ManifestBlobUnknown, &message))
            }
            None => Ok(()),
        }
    }

    /// `DELETE /v2/<name>/manifests/<tag or digest>`: a tag alone, or a manifest with all its tags.
    pub(super) fn delete_manifest(&self, name: &str, target: &str) -> Outcome {
        if !target.contains(':') {
            let descriptor = self.resolve(name, target)?;
            // A layout that others made has no name by digest; without one, the manifest would be lost with its tag.
            self.store
                .tag(&format!("{name}@{}", descriptor.digest()), &descriptor)
                .map_err(answer::broken)?;
            self.store.untag(&format!("{name}:{target}")).map_err(answer::broken)?.ok_or_else(unknown)?;
            return Ok(Answer::new(202));
        }
        let digest = answer::digest(target)?;
        let mine = self.own(name)?.into_iter().filter(|(_, descriptor)| *descriptor.digest() == digest);
        let names: Vec<String> = mine.map(|(rest, _)| format!("{name}{rest}")).collect();
        if names.is_empty() {
            return Err(unknown());
        }
        self.emptied.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned());
        for name in names {
            self.store.untag(&name).map_err(answer::broken)?;
        }
        let others = self.store.list().map_err(answer::broken)?;
        if !others.iter().any(|(name, descriptor)| name.is_some() && *descriptor.digest() == digest) {
            self.store.remove(&digest).map_err(answer::broken)?;
        }
        Ok(Answer::new(202))
    }
}

/// What a manifest is about, if it is about another.
pub(super) fn subject(document: &Document) -> Option<&Descriptor> {
    match document {
        Document::Image(image) => image.subject().as_ref(),
        Document::Index(index) => index.subject().as_ref(),
    }
}

fn unknown() -> Answer {
    refusal(404, Code::ManifestUnknown, "manifest unknown")
}
