//! The syntax of a Dockerfile.

use crate::Result;
use serde::Serialize;

/// A Dockerfile, parsed.
#[derive(Clone, Debug, Serialize)]
pub struct Dockerfile {
    // stages, global ARGs, directives
}

/// Parses it. An error names its line, and what was expected there.
pub fn parse(text: &str) -> Result<Dockerfile> {
    let _ = text;
    todo!()
}
