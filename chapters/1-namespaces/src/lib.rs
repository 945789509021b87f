//! Chapter 1: from an OCI runtime bundle, a process with its own world.
//!
//! The spine, in the order in which a start goes:
//!
//! | module | what it explains |
//! |---|---|
//! | [`spec`] | a bundle's `config.json`, read and checked |
//! | `plan` | which namespaces are new, which are joined; the one clone |
//! | [`process`] | the start as the parent sees it: clone, maps, configure, ready |
//! | [`userns`] | uid and gid maps; an ordinary user becomes root inside |
//! | `init` | the start as the child lives it: every step, in order |
//! | `inside` | paths in a root that nobody trusts |
//! | `mounts` | the mounts of the configuration |
//! | `devices` | `/dev` |
//! | `rootfs` | private mounts, masks, pivot_root |
//! | `identity` | user, groups, the order of the last locks |
//! | `capability` | the five sets |
//! | `program` | found on the PATH, executed |
//! | [`gate`] | the door between `create` and `start` |
//! | [`enter`] | joining the namespaces of a process that runs already |
//! | [`show`] | which namespaces a process has |
//!
//! Side rooms, each one idea that a complete runtime needs: `talk` (what parent and child say to each
//! other), `sys` (system calls that nobody wraps), `options` (mount options by name),
//! `cgroupfs` (the container's view of its groups), [`sealed`] (our own program out of
//! reach), [`seccomp`] (system call filters), [`net`] and
//! `netlink` (devices), `netdev` (the host's, given away), [`terminal`], [`hooks`], [`foreground`] (signals and terminal passed on), `sysctl`, `label` (AppArmor, SELinux), `tuning`
//! (limits), `scheduling`, `timens` (clocks), `idmap`, `copyup`, `descriptors`, `defaults` (docker's).

mod capability;
mod cgroupfs;
mod copyup;
mod defaults;
mod descriptors;
mod devices;
pub mod enter;
mod error;
pub mod foreground;
pub mod gate;
pub mod hooks;
mod identity;
mod idmap;
mod init;
mod inside;
mod label;
mod mounts;
pub mod net;
mod netdev;
mod netlink;
mod options;
mod plan;
pub mod process;
mod program;
mod rootfs;
mod scheduling;
pub mod sealed;
pub mod seccomp;
pub mod show;
pub mod spec;
mod sys;
mod sysctl;
mod talk;
pub mod terminal;
mod timens;
mod tuning;
pub mod userns;

pub use error::{Error, Result};
