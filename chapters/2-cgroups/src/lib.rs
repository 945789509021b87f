//! Chapter 2: limits, and with them the OCI runtime.
//!
//! A control group is a directory: made, limited by writing numbers into its files, joined by writing a process ID,
//! removed. The first half of the spine is that, in the order in which a limit travels from `config.json` to the kernel;
//! the second half is what becomes possible with it, the whole life of a container.
//!
//! | module | what it explains |
//! |---|---|
//! | [`hierarchy`] | where groups are on this machine: v1, v2, or both |
//! | [`cgroup`] | one group: made, limited, joined, watched, removed |
//! | `plan` | which controller is asked on which version |
//! | `v1`, `v2` | what the spec's limits are called there, and in which units |
//! | `setting` | one value into one file, and pairs that hold each other |
//! | `tree` | directories above and below a group |
//! | `spawn` | a command inside a group from its first instruction on |
//! | `freezer` | a group stopped where it is, and killed as a whole |
//! | [`stats`], `counters` | what a group has used |
//! | [`state`] | what is known about a container, and how it is kept |
//! | [`runtime`] | the lifecycle: create, start, state, kill, delete |
//! | [`live`] | what is done to a running container: exec, pause, update, statistics |
//!
//! Side rooms, each one idea that a complete runtime needs: [`size`] (`64m`), `devices` and `bpf` (which devices may be
//! used), [`notify`] (`NOTIFY_SOCKET`), `change` (other limits for a group in use), `below` (a part of a group for `exec`), `pidfd` (reaching a process that may be gone).
//!
//! What production does differently: a runtime on a machine with systemd asks it for the group (over D-Bus), so that the
//! two do not write into the same tree; here the path is honoured and systemd is not told.

mod below;
mod bpf;
pub mod cgroup;
mod change;
mod counters;
mod devices;
mod error;
mod freezer;
pub mod hierarchy;
pub mod live;
pub mod notify;
mod pidfd;
mod plan;
pub mod runtime;
mod setting;
pub mod size;
mod spawn;
pub mod state;
pub mod stats;
mod tree;
mod v1;
mod v2;

pub use error::{Error, Result};
