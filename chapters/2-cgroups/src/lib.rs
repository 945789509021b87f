//! Chapter 2: limits, and with them the OCI runtime.
//!
//! | module | what it explains |
//! |---|---|
//! | [`cgroup`] | one group: made, limited, joined, watched, emptied, removed |
//! | [`size`] | `64m`: how people write bytes |
//! | [`stats`] | what a group has used |
//! | [`state`] | what is known about a container, and how it is kept |
//! | [`runtime`] | the container lifecycle: create, start, state, kill, delete, exec |

pub mod cgroup;
mod error;
pub mod runtime;
pub mod size;
pub mod state;
pub mod stats;

pub use error::{Error, Result};
