//! Chapter 1: from an OCI runtime bundle, a process with its own world.
//!
//! The spine, in the order in which a start goes:
//!
//! | module | what it explains |
//! |---|---|
//! | [`spec`] | a bundle's `config.json`, read and checked |
//! | `plan` | which namespaces are new, which are joined; the one clone |
//! | [`process`] | the start as the parent sees it: clone, maps, configure, ready |
//! | `init` | the start as the child lives it: every step, in order |
//! | `inside` | paths in a root that nobody trusts |
//! | `mounts` | the mounts of the configuration |
//! | `rootfs` | private mounts, masks, pivot_root |
//! | `identity` | user, groups, the order of the last locks |
//! | [`gate`] | the door between `create` and `start` |
//! | [`enter`] | joining the namespaces of a process that runs already |
//!
//! Side rooms, each one idea that a complete runtime needs and a first reader can pass by:
//!
//! | module | what is in it |
//! |---|---|
//! | [`show`], [`tell`], [`table`] | which namespaces a process has; each step told as it is done; columns for people |
//! | [`userns`] | id maps; an ordinary user becomes root inside |
//! | `talk`, `sys` | what parent and child say to each other; system calls that nobody wraps |
//! | `options`, `pseudo`, `cgroupfs`, `idmap`, `copyup` | mounts: options by name; /proc and /sys kept honest; the container's view of its groups; translated owners; a filled tmpfs |
//! | `devices`, `nodes`, [`terminal`] | `/dev`; what of it only the parent can make; a pty of the container's own |
//! | `capability`, [`seccomp`], `label` | the five sets; system call filters; AppArmor and SELinux |
//! | `program`, `descriptors`, [`sealed`] | found and executed; nothing left open; the runtime's own file out of reach |
//! | [`users`] | users by name |
//! | `tuning`, `scheduling`, `sysctl`, `timens` | limits; CPUs and priorities; kernel settings; clocks |
//! | [`net`], `netdev`, `netlink` | veth and bridge; the host's devices given away; how to ask for them |
//! | [`hooks`], [`foreground`], `defaults`, `lenient` | programs of others; signals and terminal passed on; docker's configuration; what is read with patience |

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
mod lenient;
mod mounts;
pub mod net;
mod netdev;
mod netlink;
mod nodes;
mod options;
mod plan;
pub mod process;
mod program;
mod pseudo;
mod rootfs;
mod scheduling;
pub mod sealed;
pub mod seccomp;
pub mod show;
pub mod spec;
mod sys;
mod sysctl;
pub mod table;
mod talk;
pub mod tell;
pub mod terminal;
mod timens;
mod tuning;
pub mod userns;
pub mod users;

pub use error::{Error, Result};
