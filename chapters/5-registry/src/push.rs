//! Push.

use crate::{Options, Progress, Reference, Result};
use layers::Store;
use oci_spec::image::Descriptor;

/// Sends an image to its registry. Returns the digest by which the registry has it.
pub fn push(
    store: &Store,
    manifest: &Descriptor,
    reference: &Reference,
    options: &Options,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Descriptor> {
    let _ = (store, manifest, reference, options, progress);
    todo!()
}
