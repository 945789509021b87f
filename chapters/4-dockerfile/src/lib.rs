//! Chapter 4: from a Dockerfile and a context, an image.
//!
//! | module | what it explains |
//! |---|---|
//! | [`parse`] | lines, continuations, heredocs, flags: the syntax |
//! | [`build`] | one instruction after the other, each a layer or a line of configuration |

pub mod build;
mod error;
pub mod parse;

pub use build::{Build, Event, Network, build};
pub use error::{Error, Result};
pub use parse::parse;
