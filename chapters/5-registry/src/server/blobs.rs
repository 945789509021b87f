//! Blobs: bytes by their digest, whole or in part.

use super::{
    Outcome, Registry,
    answer::{self, Code, refusal},
    http::{Answer, Content, Request},
};
use crate::manifest::{self, Document};
use oci_spec::image::Digest;

impl Registry<'_> {
    /// `GET /v2/<name>/blobs/<digest>`
    pub(super) fn blob(&self, digest: &str, request: &Request) -> Outcome {
        let digest = answer::digest(digest)?;
        let unknown = |_| refusal(404, Code::BlobUnknown, "blob unknown to registry");
        let file = std::fs::File::open(self.store.blob_path(&digest)).map_err(unknown)?;
        let size = file.metadata().map_err(unknown)?.len();
        let answer = Answer::new(200)
            .header("content-type", "application/octet-stream")
            .header("docker-content-digest", &digest)
            .header("etag", format!("\"{digest}\""))
            .header("accept-ranges", "bytes");
        // A range that cannot be understood is no range (RFC 9110, section 14.2); one beyond the end is an error.
        match request.header("range").and_then(|range| part(range, size)) {
            None => Ok(answer.content(Content::File(file, 0, size))),
            Some(Some((from, length))) => {
                let range = format!("bytes {from}-{}/{size}", from + length - 1);
                let answer = Answer { status: 206, ..answer };
                Ok(answer.header("content-range", range).content(Content::File(file, from, length)))
            }
            Some(None) => {
                let answer = refusal(416, Code::SizeInvalid, "the blob is not that long");
                Err(answer.header("content-range", format!("bytes */{size}")))
            }
        }
    }

    /// `DELETE /v2/<name>/blobs/<digest>`. Repositories share their blobs, so one that any manifest still
    /// needs stays.
    pub(super) fn delete_blob(&self, digest: &str) -> Outcome {
        let digest = answer::digest(digest)?;
        let path = self.store.blob_path(&digest);
        if !path.exists() {
            return Err(refusal(404, Code::BlobUnknown, "blob unknown to registry"));
        }
        if self.is_needed(&digest)? {
            return Err(refusal(
                405,
                Code::Unsupported,
                "a manifest needs this blob; delete the manifest first",
            ));
        }
        std::fs::remove_file(&path)
            .map_err(|_| refusal(404, Code::BlobUnknown, "blob unknown to registry"))?;
        Ok(Answer::new(202))
    }

    fn is_needed(&self, digest: &Digest) -> Result<bool, Answer> {
        for (_, descriptor) in self.store.list().map_err(answer::broken)? {
            let Ok(bytes) = self.store.read(&descriptor) else { continue };
            let document = manifest::parse(descriptor.media_type(), &bytes, "");
            let needed = descriptor.digest() == digest
                || match document {
                    Ok(Document::Image(image)) => {
                        image.config().digest() == digest
                            || image.layers().iter().any(|layer| layer.digest() == digest)
                    }
                    Ok(Document::Index(index)) => {
                        index.manifests().iter().any(|entry| entry.digest() == digest)
                    }
                    Err(_) => false,
                };
            if needed {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// `bytes=2-5`, `bytes=2-`, `bytes=-3` of `size` bytes, as the first byte and how many.
fn part(range: &str, size: u64) -> Option<Option<(u64, u64)>> {
    let (from, to) = range.trim().strip_prefix("bytes=")?.split_once('-')?;
    let number =
        |text: &str| if text.bytes().all(|b| b.is_ascii_digit()) { text.parse::<u64>().ok() } else { None };
    let (from, to) = match (from, to) {
        ("", last) => (size.saturating_sub(number(last)?), size.checked_sub(1)),
        (from, "") => (number(from)?, size.checked_sub(1)),
        (from, to) => {
            let to = number(to)?;
            (number(from)?, size.checked_sub(1).map(|end| end.min(to)))
        }
    };
    Some(to.filter(|to| from <= *to).map(|to| (from, to - from + 1)))
}

#[cfg(test)]
mod tests {
    use super::part;

    #[test]
    fn ranges_are_those_of_http() {
        for (range, meant) in [
            ("bytes=0-", Some(Some((0, 10)))),
            ("bytes=2-5", Some(Some((2, 4)))),
            ("bytes=2-99", Some(Some((2, 8)))),
            ("bytes=-3", Some(Some((7, 3)))),
            ("bytes=-99", Some(Some((0, 10)))),
            ("bytes=9-9", Some(Some((9, 1)))),
            ("bytes=10-", Some(None)),
            ("bytes=-0", Some(None)),
            ("bytes=5-2", Some(None)),
            ("bytes=a-b", None),
            ("bytes=0-1,3-4", None),
            ("bytes=+1-2", None),
            ("lines=1-2", None),
            ("bytes=99999999999999999999-", None),
        ] {
            assert_eq!(part(range, 10), meant, "{range}");
        }
        assert_eq!(part("bytes=0-", 0), Some(None));
    }
}
