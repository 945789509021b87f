//! Names of images.
//!
//! `alpine` is short for `docker.io/library/alpine:latest`: a registry, a repository there, and a tag. The
//! grammar is that of `github.com/distribution/reference`, which every tool follows:
//!
//! ```text
//! reference  = [registry "/"] repository [":" tag] ["@" digest]
//! registry   = (name or IPv4 | "[" IPv6 "]") [":" port]
//! repository = component *("/" component)          at most 255 characters
//! component  = alphanumerics, joined by one "." or "_", by "__", or by any number of "-"
//! tag        = (letter | digit | "_") 0*127(letter | digit | "_" | "." | "-")
//! digest     = algorithm ":" 32*hex
//! ```

use crate::{Error, Result};
use oci_spec::image::{Digest, DigestAlgorithm};

/// Docker Hub's name, which may be left out.
const HUB: &str = "docker.io";
/// The name that it had once.
const HUB_OF_OLD: &str = "index.docker.io";
/// Where Docker Hub keeps the images that have no owner.
const OFFICIAL: &str = "library/";
/// What is meant where no tag is written.
const LATEST: &str = "latest";

/// A full reference. `Display` gives the canonical form, `docker.io/library/alpine:latest`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reference {
    /// `docker.io`, `localhost:5000`.
    pub registry: String,
    /// `library/alpine`.
    pub repository: String,
    /// `latest`.
    pub tag: Option<String>,
    /// `sha256:...`.
    pub digest: Option<String>,
}

impl Reference {
    /// Parses what a user types, as docker does: `docker.io`, `library/` and `:latest` are filled in.
    pub fn parse(text: &str) -> Result<Reference> {
        // Without this rule, no one could tell the name of an image from the ID of one.
        if text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(invalid(format!(
                "invalid repository name ({text}), cannot specify 64-byte hexadecimal strings"
            )));
        }
        let (registry, rest) = split_registry(text);

        // Docker looks for capitals before anything else, so that the commonest slip has a message of its own.
        let name = rest.split_once(':').map_or(rest.as_str(), |(name, _)| name);
        if name.chars().any(char::is_uppercase) {
            return Err(invalid(format!(
                "invalid reference format: repository name ({name}) must be lowercase"
            )));
        }

        // From the right: a digest holds a colon, and so must be off before the tag is looked for.
        let (rest, digest) = match rest.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.to_owned())),
            None => (rest.as_str(), None),
        };
        let (repository, tag) = match rest.split_once(':') {
            Some((repository, tag)) => (repository, Some(tag.to_owned())),
            None => (rest, None),
        };

        let grammatical = is_registry(&registry)
            && repository.split('/').all(is_component)
            && tag.as_deref().is_none_or(is_tag)
            && digest.as_deref().is_none_or(looks_like_digest);
        if !grammatical {
            return Err(invalid("invalid reference format"));
        }
        if repository.len() > 255 {
            return Err(invalid("repository name must not be more than 255 characters"));
        }
        if let Some(digest) = &digest {
            check_digest(digest)?;
        }
        // A digest says exactly which image; only where there is none is `latest` meant.
        let tag = tag.or_else(|| digest.is_none().then(|| LATEST.to_owned()));
        Ok(Reference { registry, repository: repository.to_owned(), tag, digest })
    }

    /// What docker shows: `alpine:latest`, `localhost:5000/x:1`.
    pub fn familiar(&self) -> String {
        format!("{}{}", self.familiar_name(), self.suffix())
    }

    /// The same without tag and digest: `alpine`, `localhost:5000/x`.
    pub fn familiar_name(&self) -> String {
        if self.registry != HUB {
            return format!("{}/{}", self.registry, self.repository);
        }
        match self.repository.strip_prefix(OFFICIAL) {
            Some(name) if !name.contains('/') => name.to_owned(),
            _ => self.repository.clone(),
        }
    }

    /// What a registry is asked for: the digest if there is one, else the tag.
    pub fn target(&self) -> &str {
        self.digest.as_deref().or(self.tag.as_deref()).unwrap_or(LATEST)
    }

    fn suffix(&self) -> String {
        let tag = self.tag.as_ref().map(|tag| format!(":{tag}")).unwrap_or_default();
        let digest = self.digest.as_ref().map(|digest| format!("@{digest}")).unwrap_or_default();
        tag + &digest
    }
}

impl std::fmt::Display for Reference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}{}", self.registry, self.repository, self.suffix())
    }
}

impl std::str::FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Reference> {
        Reference::parse(text)
    }
}

/// The registry, and what follows it. The first component names a registry if it could not be an owner's
/// name on Docker Hub: it has a dot, a colon or a capital, or is `localhost`.
fn split_registry(text: &str) -> (String, String) {
    let (registry, rest) = match text.split_once('/') {
        Some((HUB | HUB_OF_OLD, rest)) => (HUB, rest),
        Some((first, rest))
            if first == "localhost"
                || first.contains(['.', ':'])
                || first.chars().any(char::is_uppercase) =>
        {
            (first, rest)
        }
        _ => (HUB, text),
    };
    let owner = if registry == HUB && !rest.contains('/') { OFFICIAL } else { "" };
    (registry.to_owned(), format!("{owner}{rest}"))
}

fn is_registry(text: &str) -> bool {
    // The colon of a port is the last one, and outside the brackets of an IPv6 address.
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (text, None),
    };
    let label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let ipv6 = |host: &str| {
        host.strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .is_some_and(|host| !host.is_empty() && host.bytes().all(|b| b.is_ascii_hexdigit() || b == b':'))
    };
    (ipv6(host) || host.split('.').all(label))
        && port.is_none_or(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()))
}

fn is_component(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let ends_well = |b: Option<&u8>| b.is_some_and(|b| word(*b));
    ends_well(text.as_bytes().first())
        && ends_well(text.as_bytes().last())
        && text
            .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            .all(|between| matches!(between, "" | "." | "_" | "__") || between.bytes().all(|b| b == b'-'))
}

/// Whether this may be the name of a repository.
pub fn is_repository(text: &str) -> bool {
    text.len() <= 255 && text.split('/').all(is_component)
}

/// Whether this may be a tag.
pub fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    text.len() <= 128
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|b| word(b) || matches!(b, b'.' | b'-'))
}

fn looks_like_digest(text: &str) -> bool {
    let Some((algorithm, hex)) = text.split_once(':') else { return false };
    algorithm.split(['+', '.', '-', '_']).all(|part| {
        part.starts_with(|c: char| c.is_ascii_alphabetic()) && part.bytes().all(|b| b.is_ascii_alphanumeric())
    }) && hex.len() >= 32
        && hex.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Reads a digest and accepts the algorithms that the image specification registers and someone uses.
pub fn check_digest(text: &str) -> Result<Digest> {
    let known = ["sha256:", "sha384:", "sha512:"].iter().any(|known| text.starts_with(known));
    if !known {
        return Err(invalid("unsupported digest algorithm"));
    }
    let digest: Digest = text.parse().map_err(|_| invalid("invalid checksum digest length"))?;
    match digest.algorithm() {
        DigestAlgorithm::Sha256 | DigestAlgorithm::Sha384 | DigestAlgorithm::Sha512 => Ok(digest),
        _ => Err(invalid("unsupported digest algorithm")),
    }
}

fn invalid(why: impl Into<String>) -> Error {
    Error::Reference(why.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEX: &str = "6c3c624b58dbbcd3c0dd82b4c53f04194d1247c6eebdaab7c610cf7d66709b3b";

    #[test]
    fn what_is_left_out_is_filled_in() {
        for (typed, canonical, familiar) in [
            ("alpine", "docker.io/library/alpine:latest", "alpine:latest"),
            ("alpine:3.20", "docker.io/library/alpine:3.20", "alpine:3.20"),
            ("me/app", "docker.io/me/app:latest", "me/app:latest"),
            ("docker.io/alpine", "docker.io/library/alpine:latest", "alpine:latest"),
            ("index.docker.io/alpine", "docker.io/library/alpine:latest", "alpine:latest"),
            ("docker.io/library/alpine", "docker.io/library/alpine:latest", "alpine:latest"),
            ("library/alpine", "docker.io/library/alpine:latest", "alpine:latest"),
            ("library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
            ("localhost/x", "localhost/x:latest", "localhost/x:latest"),
            ("localhost", "docker.io/library/localhost:latest", "localhost:latest"),
            ("localhost:5000/x:1", "localhost:5000/x:1", "localhost:5000/x:1"),
            ("quay.io/a/b-c__d.e", "quay.io/a/b-c__d.e:latest", "quay.io/a/b-c__d.e:latest"),
            ("HOST/x", "HOST/x:latest", "HOST/x:latest"),
            ("[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000/x:latest"),
            ("[2001:db8::1]/x", "[2001:db8::1]/x:latest", "[2001:db8::1]/x:latest"),
            ("a---b", "docker.io/library/a---b:latest", "a---b:latest"),
        ] {
            let reference = Reference::parse(typed).unwrap();
            assert_eq!(reference.to_string(), canonical, "{typed}");
            assert_eq!(reference.familiar(), familiar, "{typed}");
        }
    }

    #[test]
    fn a_digest_takes_the_place_of_latest() {
        let both = Reference::parse(&format!("alpine:3@sha256:{HEX}")).unwrap();
        assert_eq!(both.to_string(), format!("docker.io/library/alpine:3@sha256:{HEX}"));
        assert_eq!(both.target(), format!("sha256:{HEX}"));
        let digest = Reference::parse(&format!("localhost:5000/x@sha256:{HEX}")).unwrap();
        assert_eq!(digest.tag, None);
        assert_eq!(digest.familiar(), format!("localhost:5000/x@sha256:{HEX}"));
    }

    #[test]
    fn what_docker_refuses_is_refused_in_its_words() {
        let hundred = "a".repeat(100);
        for (typed, why) in [
            ("", "invalid reference format"),
            (":tag", "invalid reference format"),
            ("a:", "invalid reference format"),
            ("a//b", "invalid reference format"),
            ("/a", "invalid reference format"),
            ("a/", "invalid reference format"),
            ("../etc", "invalid reference format"),
            ("a..b", "invalid reference format"),
            ("a___b", "invalid reference format"),
            ("-a", "invalid reference format"),
            ("a-", "invalid reference format"),
            ("a._b", "invalid reference format"),
            ("a b", "invalid reference format"),
            ("a:b:c", "invalid reference format"),
            ("https://a/b", "invalid reference format"),
            ("-host.example/x", "invalid reference format"),
            ("host.example:port/x", "invalid reference format"),
            ("[::g]/x", "invalid reference format"),
            ("a@sha256:12", "invalid reference format"),
            ("a:-tag", "invalid reference format"),
            ("Alpine", "invalid reference format: repository name (library/Alpine) must be lowercase"),
            ("me/App", "invalid reference format: repository name (me/App) must be lowercase"),
            (
                &format!("{hundred}/{hundred}/{hundred}"),
                "repository name must not be more than 255 characters",
            ),
            (HEX, &format!("invalid repository name ({HEX}), cannot specify 64-byte hexadecimal strings")),
            (&format!("a@md5:{}", &HEX[..32]), "unsupported digest algorithm"),
            (&format!("a@sha256:{}", &HEX[..40]), "invalid checksum digest length"),
            (&format!("a:{}", "t".repeat(129)), "invalid reference format"),
        ] {
            assert_eq!(Reference::parse(typed).unwrap_err().to_string(), why, "{typed}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in "\\PC{0,80}") {
            let _ = Reference::parse(&text);
        }

        /// Whatever is accepted reads back from its canonical form as itself, and no part can leave its place.
        #[test]
        fn the_canonical_form_is_stable(text in "([a-zA-Z0-9.\\[\\]-]{1,8}(:[0-9]{1,3})?/)?[a-z0-9._/-]{1,12}(:[\\w.-]{1,5})?(@sha256:[0-9a-f]{64})?") {
            if let Ok(reference) = Reference::parse(&text) {
                prop_assert_eq!(&Reference::parse(&reference.to_string()).unwrap(), &reference);
                prop_assert!(is_repository(&reference.repository));
                prop_assert!(!reference.repository.split('/').any(|part| part.is_empty() || part.starts_with('.')));
            }
        }
    }
}
