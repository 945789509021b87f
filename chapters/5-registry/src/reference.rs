//! Names of images.

use crate::Result;

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
        let _ = text;
        todo!()
    }

    /// What docker shows: `alpine:latest`, `localhost:5000/x:1`.
    pub fn familiar(&self) -> String {
        todo!()
    }
}

impl std::fmt::Display for Reference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let _ = f;
        todo!()
    }
}
