//! Digests: content's own name (image-spec, descriptor.md, "Digests").

use crate::{Error, Result, error::Doing};
use oci_spec::image::{Digest, DigestAlgorithm, Sha256Digest};
use sha2::Digest as _;
use std::{
    io::{self, Read},
    str::FromStr,
};

/// Only what the image-spec registers, and its parser has checked the length of.
pub(crate) fn known(digest: &Digest) -> Result<()> {
    match digest.algorithm() {
        DigestAlgorithm::Sha256 | DigestAlgorithm::Sha512 => Ok(()),
        _ => Err(Error::Algorithm(digest.to_string())),
    }
}

/// The digest of a stream.
pub(crate) fn hash(algorithm: &DigestAlgorithm, from: &mut dyn Read) -> Result<Digest> {
    let doing = || "hash a blob".to_string();
    let text = match algorithm {
        DigestAlgorithm::Sha512 => {
            let mut hash = sha2::Sha512::new();
            copy_into(from, |bytes| hash.update(bytes)).doing(doing)?;
            format!("sha512:{}", hex(&hash.finalize()))
        }
        _ => {
            let mut hash = sha2::Sha256::new();
            copy_into(from, |bytes| hash.update(bytes)).doing(doing)?;
            format!("sha256:{}", hex(&hash.finalize()))
        }
    };
    Digest::from_str(&text).map_err(|_| Error::Algorithm(text))
}

/// The sha256 digest of bytes.
pub fn digest(bytes: &[u8]) -> Result<Digest> {
    sha256_digest(sha2::Sha256::new_with_prefix(bytes))
}

pub(crate) fn sha256_digest(hash: sha2::Sha256) -> Result<Digest> {
    let hex = hex(&hash.finalize());
    Ok(Sha256Digest::from_str(&hex).map_err(|_| Error::Algorithm(hex))?.into())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn copy_into(from: &mut dyn Read, mut each: impl FnMut(&[u8])) -> io::Result<()> {
    let mut buf = vec![0; crate::unpack::CHUNK];
    loop {
        match from.read(&mut buf)? {
            0 => return Ok(()),
            n => each(&buf[..n]),
        }
    }
}

pub(crate) fn same(what: impl Fn() -> String, expected: &str, found: &str) -> Result<()> {
    if expected == found {
        return Ok(());
    }
    Err(Error::Mismatch { what: what(), expected: expected.into(), found: found.into() })
}
