//! Chapter 3: content-addressed layers, and the overlay that stacks them.
//!
//! An image is a stack of directories, each packed as a tar and named by its own digest. This chapter
//! stores them, unpacks them, lays them over each other, and makes a new one of what was changed. Read in
//! this order:
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
//!
//! And the side rooms, each with one idea:
//!
//! | module | what it is for |
//! |---|---|
//! | `digest`, `ingest` | a blob's name; a blob on its way into the store |
//! | `names` | index.json: names that point to manifests |
//! | `document`, `compression` | what a blob is, told by its content |
//! | `receive`, `pipe` | a layer received, stored and unpacked in one pass over three threads |
//! | `unpacked` | unpacked layers, by chain ID |
//! | `settle`, [`stack`] | what a layer needs of those below it, looked up without a mount |
//! | `write_layer`, `assemble` | a tar as a layer in the store, and an image made with it |
//! | [`compare`] | what changed, without overlay to tell |
//! | [`attributes`] | owner, mode, times and xattrs, in the one order that works |
//! | [`tarball`], `sparse` | what a tar is, read and written |
//! | [`pack`] | a directory as a tar |
//! | [`users`] | /etc/passwd and /etc/group of a root |
//! | [`gc`] | what no image needs any more |
//! | [`archive`] | an image as one file: `docker save` and `docker load` |
//! | [`pagecache`] | which bytes of a file are in memory |

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test fails by panicking"))]

pub mod archive;
mod assemble;
pub mod attributes;
pub mod bundle;
pub mod compare;
mod compression;
pub mod diff;
mod digest;
mod document;
mod error;
pub mod gc;
pub mod image;
mod ingest;
mod names;
pub mod overlay;
pub mod pack;
pub mod pagecache;
mod pipe;
mod receive;
pub mod root;
mod settle;
mod sparse;
pub mod stack;
pub mod store;
pub mod tarball;
pub mod unpack;
mod unpacked;
pub mod users;
mod write_layer;

pub use error::{Error, Result};
pub use image::Image;
pub use store::Store;
