//! A bundle's `config.json`, read and checked; docker's defaults.

use crate::Result;
pub use oci_spec::runtime::Spec;
use std::path::Path;

/// Reads and checks `bundle/config.json` (OCI runtime-spec, config.md).
pub fn load(bundle: &Path) -> Result<Spec> {
    let _ = bundle;
    todo!()
}

/// The configuration that docker gives a container when nothing is asked: its
/// capability set, mounts, masked and read-only paths, seccomp profile and
/// namespaces (pid, mount, uts, ipc, network, cgroup). `root.path` is `rootfs`, the
/// process is `sh`. The engine changes what the user asks to be changed.
pub fn docker_default() -> Spec {
    todo!()
}

/// Drops from a default what an unprivileged user namespace cannot have
/// (mknod devices become binds, a fresh sysfs without its own network, ...).
pub fn for_rootless(spec: &mut Spec) {
    let _ = spec;
    todo!()
}
