//! Chapter 4: from a Dockerfile and a context, an image.
//!
//! The spine, in the order in which a build goes:
//!
//! | module | what it explains |
//! |---|---|
//! | [`parse`] | lines, continuations, flags: the syntax |
//! | `plan` | which stages are needed |
//! | [`build`] | one instruction after the other, each a layer or a line of configuration |
//! | `instruction` | what each instruction is and does; one file each: add yours there |
//! | `stage` | the image under construction |
//! | `rootfs` | its files while an instruction changes them, and the layer they become |
//! | [`cache`] | when an instruction need not be executed again |
//! | [`config`] | what the image says about itself |
//!
//! Side rooms: `parse::heredoc`, [`expand`] (variables), [`glob`](crate::ignore) and [`ignore`] (the ignore
//! file), `source` and `copy` (COPY's two ends), `stat_cache`, `chown`, `chmod`, `archive` (ADD),
//! `container` and `run_mount` (RUN's), `mounted`, `session`.

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
