//! Pull.

use crate::{Options, Progress, Reference, Result};
use layers::Store;
use oci_spec::image::Descriptor;

/// Brings an image into the store, verified, unpacked, and named by its reference. Returns its manifest.
pub fn pull(
    store: &Store,
    reference: &Reference,
    options: &Options,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Descriptor> {
    let _ = (store, reference, options, progress);
    todo!()
}
