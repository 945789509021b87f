//! From a layer's tar to a directory (image-spec, layer.md), trusting nothing in it.

use crate::Result;
use std::{io::Read, path::Path};

/// Extracts one layer into `target`. Whiteouts become overlay's own (a 0/0 character device; the opaque
/// xattr). `parents` are the unpacked layers below, topmost first: they give the attributes of directories
/// that the tar implies but does not hold, and files that its hard links name.
pub fn layer(tar: impl Read, target: &Path, parents: &[&Path]) -> Result<()> {
    let _ = (tar, target, parents);
    todo!()
}
