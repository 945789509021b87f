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
mod change;
mod devices;
mod error;
mod freezer;
pub mod hierarchy;
mod live;
mod plan;
pub mod runtime;
mod setting;
pub mod size;
pub mod state;
pub mod stats;
mod tree;
mod v1;
mod v2;

pub use error::{Error, Result};
