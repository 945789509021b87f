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
use oci_spec::runtime::{Linux, LinuxNamespaceType as Kind, PosixRlimit, Process};
use std::{fs, path::Path};

/// Reads and checks `bundle/config.json` (OCI runtime-spec, config.md).
pub fn load(bundle: &Path) -> Result<Spec> {
    load_with_text(&bundle.join("config.json")).map(|(spec, _)| spec)
}

/// The same of the file itself, and its text as it was read, for who wants to keep it: read again, it could be another.
pub fn load_with_text(file: &Path) -> Result<(Spec, Vec<u8>)> {
    let text = fs::read(file).doing(|| format!("read {}", file.display()))?;
    Ok((parse(&text, file)?, text))
}

/// The same from memory; `name` is for messages.
pub fn parse(text: &[u8], name: &Path) -> Result<Spec> {
    let wrong = |error| format!("{} is no OCI configuration: {error}", name.display());
    let mut spec: Spec = match serde_json::from_slice(text) {
        Ok(spec) => spec,
        Err(error) => match crate::lenient::parse(text) {
            Ok(spec) => spec,
            Err(Some(why)) => return invalid(why),
            Err(None) => return invalid(wrong(error)),
        },
    };
    check(&spec)?;
    from_the_root(&mut spec);
    Ok(spec)
}

/// A relative destination of a mount, as old tools have it, begins at `/` (config.md, "Mounts"). An empty one is none.
fn from_the_root(spec: &mut Spec) {
    let is_relative = |to: &Path| to.is_relative() && !to.as_os_str().is_empty();
    for mount in spec.mounts_mut().iter_mut().flatten() {
        if is_relative(mount.destination()) {
            let to = Path::new("/").join(mount.destination());
            mount.set_destination(to);
        }
    }
}

/// A `process.json`, as `exec --process` takes it.
pub fn parse_process(text: &[u8], name: &Path) -> Result<Process> {
    crate::lenient::process(text)
        .or_else(|error| invalid(format!("{} is no OCI process: {error}", name.display())))
}

/// What can be known to be wrong without asking the kernel. A rule that only the kernel knows
/// is left to the system call that meets it.
pub fn check(spec: &Spec) -> Result<()> {
    if !is_version_1(spec.version()) {
        return invalid(format!("ociVersion is {:?}: this runtime reads 1.x.y", spec.version()));
    }
    if spec.annotations().iter().flatten().any(|(key, _)| key.is_empty()) {
        return invalid("annotations: a key is empty");
    }
    if spec.root().is_none() {
        return invalid("config.json has no root: say where the root filesystem is, in root.path");
    }
    // It is only required of who is to be started: a container may be made without (config.md, "Process").
    spec.process().as_ref().map_or(Ok(()), check_process)?;
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
    check_needs(spec, linux, &kinds)?;
    check_domainname(spec, linux)?;
    linux.map_or(Ok(()), check_missing)
}

fn check_process(process: &Process) -> Result<()> {
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
    check_rlimits(process)
}

/// Three numbers, of which the first is 1, and perhaps a suffix (SemVer 2.0.0).
fn is_version_1(version: &str) -> bool {
    let numbers = version.split(['-', '+']).next().unwrap_or_default();
    let numbers: Option<Vec<u32>> = numbers.split('.').map(|n| n.parse().ok()).collect();
    matches!(numbers.as_deref(), Some([1, _, _]))
}

/// "If rlimits contains duplicated entries with same type, the runtime MUST generate an error."
fn check_rlimits(process: &Process) -> Result<()> {
    let limits: Vec<_> = process.rlimits().iter().flatten().map(PosixRlimit::typ).collect();
    match limits.iter().find(|l| limits.iter().filter(|other| other == l).count() > 1) {
        Some(twice) => invalid(format!("process.rlimits has {twice} more than once")),
        None => Ok(()),
    }
}

/// Said twice, it must be the same.
fn check_domainname(spec: &Spec, linux: Option<&Linux>) -> Result<()> {
    let settings = linux.and_then(|l| l.sysctl().as_ref());
    let again = settings.and_then(|s| s.get("kernel.domainname").or_else(|| s.get("kernel/domainname")));
    match (spec.domainname(), again) {
        (Some(name), Some(again)) if name != again => {
            invalid(format!("domainname is {name}, and linux.sysctl has {again} for kernel.domainname"))
        }
        _ => Ok(()),
    }
}

/// What this runtime does not do, it says.
fn check_missing(linux: &Linux) -> Result<()> {
    match linux.intel_rdt() {
        Some(_) => invalid("linux.intelRdt: this runtime does not do that"),
        None => Ok(()),
    }
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
        (linux.is_some_and(|l| l.net_devices().is_some()), "linux.netDevices", Kind::Network),
    ];
    match needs.into_iter().find(|(given, _, kind)| *given && !kinds.contains(kind)) {
        Some((_, field, Kind::Network)) => invalid(format!(
            "{field}: unable to move network devices without a NET namespace: add {{\"type\": \"network\"}} to linux.namespaces"
        )),
        Some((_, field, kind)) => {
            invalid(format!("{field} would change the host: add a {kind} namespace to linux.namespaces"))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn changed(pointer: &str, value: Value) -> Result<Spec> {
        let mut config = serde_json::to_value(docker_default()).unwrap();
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        config.pointer_mut(parent).unwrap()[name] = value;
        parse(config.to_string().as_bytes(), Path::new("config.json"))
    }

    #[test]
    fn the_default_is_valid_and_survives_json() {
        let spec = changed("/hostname", json!("x")).unwrap();
        assert_eq!(spec.process(), docker_default().process());
        assert_eq!(spec.linux(), docker_default().linux());
    }

    #[test]
    fn what_the_specification_forbids_is_refused() {
        for (pointer, value, why) in [
            ("/ociVersion", json!("2.0.0"), "ociVersion"),
            ("/ociVersion", json!("1.0"), "ociVersion"),
            ("/annotations", json!({"": "x"}), "a key is empty"),
            ("/root", Value::Null, "no root"),
            ("/process/args", json!([]), "nothing to run|what to run"),
            ("/process/cwd", json!("here"), "not absolute"),
            ("/process/oomScoreAdj", json!(2000), "between -1000 and 1000"),
            ("/process/user/uid", json!(4_294_967_296_u64), "no OCI configuration"),
            ("/linux/namespaces", json!([{"type": "pid"}, {"type": "pid"}]), "more than once"),
            ("/linux/namespaces", json!([{"type": "mount"}]), "hostname would change the host"),
            ("/linux/timeOffsets", json!({"boottime": {"secs": 1}}), "add a time namespace"),
            ("/linux/intelRdt", json!({"closID": "x"}), "does not do that"),
        ] {
            let error = changed(pointer, value).unwrap_err().to_string();
            assert!(why.split('|').any(|w| error.contains(w)), "{pointer}: {error}");
        }
        let limit = json!({"type": "RLIMIT_CORE", "soft": 0, "hard": 0});
        let error = changed("/process/rlimits", json!([limit, limit])).unwrap_err();
        assert!(error.to_string().contains("more than once"));
    }

    #[test]
    fn a_relative_destination_begins_at_the_root() {
        let spec = changed("/mounts", json!([{"destination": "a/b", "type": "tmpfs"}])).unwrap();
        assert_eq!(spec.mounts().as_ref().unwrap()[0].destination(), Path::new("/a/b"));
    }

    #[test]
    fn an_unknown_capability_is_left_out() {
        let spec = changed("/process/capabilities/bounding", json!(["CAP_KILL", "CAP_FLY"])).unwrap();
        let sets = spec.process().as_ref().unwrap().capabilities().clone().unwrap();
        assert_eq!(sets.bounding().as_ref().unwrap().len(), 1);
    }

    #[test]
    fn fields_of_later_versions_are_ignored() {
        changed("/linux/fromTheFuture", json!({"a": 1})).unwrap();
        changed("/ociVersion", json!("1.3.0")).unwrap();
    }
}
