//! Chapter 3: content-addressed layers, and the overlay that stacks them.
//!
//! | module | what it explains |
//! |---|---|
//! | [`store`] | the image store, which *is* an OCI image layout; blobs by digest |
//! | [`image`] | manifest, config, layers: what an image is |
//! | [`unpack`] | from a layer's tar to a directory, safely |
//! | [`overlay`] | many directories seen as one |
//! | [`diff`] | from a changed directory to a new layer |
//! | [`bundle`] | from an image to an OCI runtime bundle |
//! | [`root`] | paths inside an untrusted root |

pub mod bundle;
pub mod diff;
mod error;
pub mod image;
pub mod overlay;
pub mod root;
pub mod store;
pub mod unpack;

pub use error::{Error, Result};
pub use image::Image;
pub use store::Store;
