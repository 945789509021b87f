//! Chapter 1: from an OCI runtime bundle, a process with its own world.
//!
//! The spine, in the order in which a start goes:
//!
//! | module | what it explains |
//! |---|---|
//! | [`spec`] | a bundle's `config.json`, read and checked; docker's defaults |
//! | [`process`] | the start itself, step by step: clone, configure, wait at the gate, exec |
//! | [`gate`] | the door between `create` and `start` |
//! | [`enter`] | joining the namespaces of a process that runs already |
//! | [`net`] | network devices: loopback, veth pairs, a bridge |
//! | [`show`] | which namespaces a process has |
//! | [`userns`] | uid and gid maps; an ordinary user becomes root inside |

pub mod enter;
mod error;
pub mod gate;
pub mod net;
pub mod process;
pub mod show;
pub mod spec;
pub mod userns;

pub use error::{Error, Result};
