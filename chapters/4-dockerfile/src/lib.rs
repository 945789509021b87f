//! Chapter 4: from a Dockerfile and a context, an image.
//!
//! The spine, in the order in which a build goes:
//!
//! | module | what it explains |
//! |---|---|
//! | [`mod@parse`] | lines, continuations, flags: the syntax |
//! | `plan` | which stages are needed |
//! | [`mod@build`] | one instruction after the other, each a layer or a line of configuration |
//! | `instruction` | what each instruction is and does; one file each: add yours there |
//! | `stage` | the image under construction |
//! | `rootfs` | its files while an instruction changes them, and the layer they become |
//! | [`cache`] | when an instruction need not be executed again |
//! | [`config`] | what the image says about itself |
//!
//! And the side rooms, each with one idea:
//!
//! | module | what it is for |
//! |---|---|
//! | `parse::heredoc` | documents inside a Dockerfile |
//! | [`expand`] | variables, quotes and escapes in words |
//! | [`ignore`], `glob` | what of the context is not seen; patterns |
//! | `source`, `copy` | COPY's two ends, neither of which is trusted |
//! | `stat_cache` | files that need not be hashed again |
//! | `chown`, `chmod`, `archive` | COPY's flags; ADD's tars |
//! | `container`, `run_mount`, `mounted` | RUN's container, and what is mounted into it |
//! | `session` | what all stages of a build share |

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test fails by panicking"))]

mod archive;
pub mod build;
pub mod cache;
mod chmod;
mod chown;
pub mod config;
mod container;
mod copy;
mod error;
pub mod expand;
mod glob;
pub mod ignore;
mod instruction;
mod mounted;
pub mod parse;
mod plan;
mod request;
mod rootfs;
mod run_mount;
mod session;
mod source;
mod stage;
mod stat_cache;
mod tree;

pub use build::{Build, Event, Network, build};
pub use error::{Error, Result};
pub use parse::parse;
