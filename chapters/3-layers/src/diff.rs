//! From a changed directory to a new layer.

use crate::{Result, Store};
use oci_spec::image::{Descriptor, Digest};
use std::path::{Path, PathBuf};

/// What happened to a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `C`, `A`, `D` of `docker diff`.
    Modified,
    /// New.
    Added,
    /// Gone.
    Deleted,
}

/// What an overlay's upper directory changes over the layers below (topmost first), sorted by path.
pub fn changes(upper: &Path, lower: &[PathBuf]) -> Result<Vec<(Kind, PathBuf)>> {
    let _ = (upper, lower);
    todo!()
}

/// Writes an upper directory as a layer (gzip) into the store. Equal trees give equal digests.
/// Returns the blob and its diff ID.
pub fn commit(store: &Store, upper: &Path) -> Result<(Descriptor, Digest)> {
    let _ = (store, upper);
    todo!()
}
