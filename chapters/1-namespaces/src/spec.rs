//! A bundle's `config.json`, read and checked; docker's defaults.
//!
//! A bundle is a directory with two things: `config.json`, which says everything about a container,
//! and the root filesystem it names (OCI runtime-spec, bundle.md).

pub use crate::defaults::{
    docker_capabilities, docker_default, docker_seccomp, for_rootless, in_user_namespace,
};
use crate::{
    Result,
    error::{Doing, invalid},
};
pub use oci_spec::runtime::Spec;
use oci_spec::runtime::{Linux, LinuxNamespaceType as Kind};
use std::{fs, path::Path};

/// Reads and checks `bundle/config.json` (OCI runtime-spec, config.md).
pub fn load(bundle: &Path) -> Result<Spec> {
    let file = bundle.join("config.json");
    let text = fs::read(&file).doing(|| format!("read {}", file.display()))?;
    parse(&text, &file)
}

/// The same from memory; `name` is for messages.
pub fn parse(text: &[u8], name: &Path) -> Result<Spec> {
    let spec: Spec = match serde_json::from_slice(text) {
        Ok(spec) => spec,
        Err(error) => return invalid(format!("{} is no OCI configuration: {error}", name.display())),
    };
    check(&spec)?;
    Ok(spec)
}

/// What can be known to be wrong without asking the kernel. A rule that only the kernel knows
/// is left to the system call that meets it.
pub fn check(spec: &Spec) -> Result<()> {
    let major = spec.version().split('.').next().unwrap_or_default();
    if major != "1" {
        return invalid(format!("ociVersion is {:?}: this runtime reads 1.x", spec.version()));
    }
    if spec.root().is_none() {
        return invalid("config.json has no root: say where the root filesystem is, in root.path");
    }
    let Some(process) = spec.process() else {
        return invalid("config.json has no process: say what to run, in process.args");
    };
    if process.args().as_ref().is_none_or(Vec::is_empty) {
        return invalid("process.args is empty: say what to run");
    }
    if !process.cwd().is_absolute() {
        return invalid(format!("process.cwd {} is not absolute", process.cwd().display()));
    }
    if let Some(score) = process.oom_score_adj()
        && !(-1000..=1000).contains(&score)
    {
        return invalid(format!("process.oomScoreAdj {score} is not between -1000 and 1000"));
    }
    let linux = spec.linux().as_ref();
    let kinds: Vec<Kind> = linux
        .and_then(|l| l.namespaces().as_ref())
        .into_iter()
        .flatten()
        .map(oci_spec::runtime::LinuxNamespace::typ)
        .collect();
    if let Some(twice) = kinds.iter().find(|k| kinds.iter().filter(|other| other == k).count() > 1) {
        return invalid(format!("linux.namespaces has {twice} more than once"));
    }
    check_needs(spec, linux, &kinds)
}

/// What only makes sense in a namespace of the container's own would otherwise change the host.
fn check_needs(spec: &Spec, linux: Option<&Linux>, kinds: &[Kind]) -> Result<()> {
    let given = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|l| !l.is_empty());
    let needs = [
        (spec.hostname().is_some(), "hostname", Kind::Uts),
        (spec.domainname().is_some(), "domainname", Kind::Uts),
        (spec.mounts().as_ref().is_some_and(|m| !m.is_empty()), "mounts", Kind::Mount),
        (linux.is_some_and(|l| given(l.masked_paths())), "linux.maskedPaths", Kind::Mount),
        (linux.is_some_and(|l| given(l.readonly_paths())), "linux.readonlyPaths", Kind::Mount),
        (linux.is_some_and(|l| l.time_offsets().is_some()), "linux.timeOffsets", Kind::Time),
    ];
    match needs.into_iter().find(|(given, _, kind)| *given && !kinds.contains(kind)) {
        Some((_, field, kind)) => {
            invalid(format!("{field} would change the host: add a {kind} namespace to linux.namespaces"))
        }
        None => Ok(()),
    }
}
