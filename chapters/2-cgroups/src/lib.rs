//! Chapter 2: limits, and with them the OCI runtime.
//!
//! | module | what it explains |
//! |---|---|
//! | [`cgroup`] | one group: made, limited, joined, watched, emptied, removed |
//! | [`stats`] | what a group has used |
//! | [`runtime`] | the container lifecycle: create, start, state, kill, delete, exec |

pub mod cgroup;
mod error;
pub mod runtime;
pub mod stats;

pub use error::{Error, Result};
