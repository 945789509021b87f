//! Answers in JSON, and the errors of distribution-spec, "Error Codes".

use super::http::{Answer, Content};
use oci_spec::image::Digest;
use serde::Serialize;

/// Why a request is refused.
#[derive(Clone, Copy)]
pub(super) enum Code {
    BlobUnknown,
    UploadInvalid,
    UploadUnknown,
    DigestInvalid,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestUnknown,
    NameInvalid,
    NameUnknown,
    SizeInvalid,
    TooManyRequests,
    Unknown,
    Unsupported,
}

impl Code {
    fn word(self) -> &'static str {
        match self {
            Code::BlobUnknown => "BLOB_UNKNOWN",
            Code::UploadInvalid => "BLOB_UPLOAD_INVALID",
            Code::UploadUnknown => "BLOB_UPLOAD_UNKNOWN",
            Code::DigestInvalid => "DIGEST_INVALID",
            Code::ManifestBlobUnknown => "MANIFEST_BLOB_UNKNOWN",
            Code::ManifestInvalid => "MANIFEST_INVALID",
            Code::ManifestUnknown => "MANIFEST_UNKNOWN",
            Code::NameInvalid => "NAME_INVALID",
            Code::NameUnknown => "NAME_UNKNOWN",
            Code::SizeInvalid => "SIZE_INVALID",
            Code::TooManyRequests => "TOOMANYREQUESTS",
            Code::Unknown => "UNKNOWN",
            Code::Unsupported => "UNSUPPORTED",
        }
    }
}

/// An answer that says no.
pub(super) fn refusal(status: u16, code: Code, message: &str) -> Answer {
    json(status, &serde_json::json!({"errors": [{"code": code.word(), "message": message}]}))
}

/// The store could not do its part. Its reason may name our files, so it goes to our log only.
pub(super) fn broken(error: layers::Error) -> Answer {
    tracing::error!("{error}");
    refusal(500, Code::Unknown, "the registry cannot read or write its store; its log says why")
}

/// A document.
pub(super) fn json(status: u16, document: &impl Serialize) -> Answer {
    let bytes = serde_json::to_vec(document).unwrap_or_default();
    Answer::new(status).header("content-type", "application/json").content(Content::Bytes(bytes))
}

/// A digest from a URL. It becomes a path only after this.
pub(super) fn digest(text: &str) -> Result<Digest, Answer> {
    crate::reference::check_digest(text).map_err(|_| {
        refusal(400, Code::DigestInvalid, "a digest is sha256: or sha512: and its hexadecimal digits")
    })
}
