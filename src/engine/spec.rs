//! From a plan to the OCI runtime's configuration: docker's defaults (chapter 1), the image's process (chapter 3),
//! and what the user asked to be otherwise. Done by the monitor, once the root is mounted: users and groups are looked
//! up inside it.
//!
//! | module | what it changes |
//! |---|---|
//! | [`limits`] | memory, CPUs, processes, block devices |
//! | [`privileges`] | capabilities, seccomp, devices, masked paths |

pub(crate) mod limits;
mod privileges;

pub(crate) use privileges::exec as exec_privileges;

use super::{
    failure::{Failure, Result},
    plan::Plan,
};
use cgroups::hierarchy::Version;
use layers::{bundle::Overrides, root::Root};
use oci_spec::{
    image::ImageConfiguration,
    runtime::{
        LinuxNamespace, LinuxNamespaceBuilder, LinuxNamespaceType, Mount, MountBuilder, Process, Spec,
    },
};
use std::{collections::HashMap, path::Path};

/// What docker puts into every environment that does not say otherwise.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The whole configuration of one start.
pub(crate) fn build(plan: &Plan, root: &Root) -> Result<Spec> {
    let mut spec = namespaces::spec::docker_default();
    let (record, host) = (&plan.record, &plan.record.host);
    let mut oci_root = oci_spec::runtime::Root::default();
    oci_root.set_path(plan.run.join("rootfs"));
    oci_root.set_readonly(Some(host.readonly_rootfs.unwrap_or_default()));
    spec.set_root(Some(oci_root));
    spec.set_hostname(record.config.hostname.clone().filter(|_| !plan.join.contains_key("uts")));
    spec.set_domainname(
        record.config.domainname.clone().filter(|d| !d.is_empty() && !plan.join.contains_key("uts")),
    );
    spec.set_annotations(host.annotations.clone());

    layers::bundle::apply(&mut spec, &ImageConfiguration::default(), &overrides(plan), root)?;
    process(&mut spec, plan, root)?;
    namespaces_of(&mut spec, plan);
    mounts(&mut spec, plan);
    privileges::apply(&mut spec, plan)?;
    if let Some(linux) = spec.linux_mut() {
        linux.set_cgroups_path(Some(plan.cgroup.clone().into()));
        if !plan.rootless || delegated() {
            let limits = limits::resources(host, linux.resources().clone().unwrap_or_default())?;
            linux.set_resources(Some(limits));
        } else {
            linux.set_resources(None);
        }
        let mut sysctl: HashMap<String, String> = linux.sysctl().clone().unwrap_or_default();
        sysctl.extend(host.sysctls.clone().unwrap_or_default());
        linux.set_sysctl(Some(sysctl));
    }
    if plan.rootless {
        namespaces::spec::for_rootless(&mut spec);
    }
    Ok(spec)
}

/// The record's configuration has the image's merged in already (that is what `docker inspect` shows): nothing is
/// left to be taken from the image.
fn overrides(plan: &Plan) -> Overrides {
    let config = &plan.record.config;
    let mut env = config.env.clone().unwrap_or_default();
    let mut default = |name: &str, value: String| {
        if !env.iter().any(|e| e.split('=').next() == Some(name)) {
            env.push(value);
        }
    };
    default("PATH", PATH.into());
    default("HOSTNAME", format!("HOSTNAME={}", config.hostname.as_deref().unwrap_or_default()));
    if plan.record.tty() {
        default("TERM", "TERM=xterm".into());
    }
    let mut words = plan.record.command();
    if plan.record.host.init.unwrap_or_default() {
        words.splice(0..0, ["/sbin/docker-init".to_owned(), "--".to_owned()]);
    }
    Overrides {
        entrypoint: Some(Vec::new()),
        cmd: Some(words),
        env,
        cwd: Some(config.working_dir.clone().filter(|d| !d.is_empty()).unwrap_or_else(|| "/".into())),
        user: config.user.clone().filter(|u| !u.is_empty()),
    }
}

fn process(spec: &mut Spec, plan: &Plan, root: &Root) -> Result<()> {
    let host = &plan.record.host;
    let mut process = spec.process().clone().unwrap_or_default();
    process.set_terminal(Some(plan.record.tty()));
    if let Some([height, width]) = host.console_size.as_deref()
        && plan.record.tty()
        && (*height, *width) != (0, 0)
    {
        let size =
            oci_spec::runtime::BoxBuilder::default().height(*height as u64).width(*width as u64).build()?;
        process.set_console_size(Some(size));
    }
    groups(&mut process, host.group_add.as_deref().unwrap_or_default(), root)?;
    if let Some(score) = host.oom_score_adj.filter(|s| *s != 0) {
        process.set_oom_score_adj(i32::try_from(score).ok());
    }
    let limits = host.ulimits.iter().flatten().map(limits::rlimit).collect::<Result<Vec<_>>>()?;
    process.set_rlimits(Some(limits));
    spec.set_process(Some(process));
    Ok(())
}

/// `--group-add`, by number or by a name of the root's own /etc/group.
fn groups(process: &mut Process, asked: &[String], root: &Root) -> Result<()> {
    if asked.is_empty() {
        return Ok(());
    }
    let mut user = process.user().clone();
    let mut gids = user.additional_gids().clone().unwrap_or_default();
    for group in asked {
        let gid = layers::users::group(root, group);
        gids.push(gid.map_err(|_| Failure::bad(format!("Unable to find group {group}")))?);
    }
    gids.sort_unstable();
    gids.dedup();
    user.set_additional_gids(Some(gids));
    process.set_user(user);
    Ok(())
}

/// Its own namespaces, less those that it shares, with a path to those of another container.
fn namespaces_of(spec: &mut Spec, plan: &Plan) {
    let Some(linux) = spec.linux_mut() else { return };
    let mut all: Vec<LinuxNamespace> = linux.namespaces().clone().unwrap_or_default();
    for (kind, path) in &plan.join {
        let typ = match kind.as_str() {
            "pid" => LinuxNamespaceType::Pid,
            "ipc" => LinuxNamespaceType::Ipc,
            "uts" => LinuxNamespaceType::Uts,
            "cgroup" => LinuxNamespaceType::Cgroup,
            _ => LinuxNamespaceType::Network,
        };
        all.retain(|n| n.typ() != typ);
        if !path.as_os_str().is_empty()
            && let Ok(joined) = LinuxNamespaceBuilder::default().typ(typ).path(path).build()
        {
            all.push(joined);
        }
    }
    linux.set_namespaces(Some(all));
}

fn mounts(spec: &mut Spec, plan: &Plan) {
    let mut all: Vec<Mount> = spec.mounts().clone().unwrap_or_default();
    let size = plan.record.host.shm_size.unwrap_or(64 << 20);
    for mount in &mut all {
        if mount.destination() == Path::new("/dev/shm") {
            let kept = mount.options().iter().flatten().filter(|o| !o.starts_with("size=")).cloned();
            let options = kept.chain([format!("size={size}")]).collect();
            mount.set_options(Some(options));
        }
    }
    for bind in &plan.mounts {
        // What the user mounts replaces a default of ours at the same place.
        all.retain(|m| m.destination() != &bind.target);
        let (kind, source) = match bind.kind.as_str() {
            "tmpfs" => ("tmpfs", "tmpfs".into()),
            _ => ("bind", bind.source.clone()),
        };
        let mount = MountBuilder::default()
            .destination(&bind.target)
            .typ(kind)
            .source(source)
            .options(bind.options.clone());
        all.extend(mount.build());
    }
    spec.set_mounts(Some(all));
}

/// Whether an ordinary user may make control groups of its own with the controllers that limits need: on cgroup v2,
/// below the group that it is in, if somebody (systemd, as a rule) delegated it.
pub(crate) fn delegated() -> bool {
    let trees = cgroups::hierarchy::detect().unwrap_or_default();
    let Some(tree) = trees.iter().find(|tree| tree.version == Version::V2) else { return false };
    let controllers = std::fs::read_to_string(tree.own.join("cgroup.controllers")).unwrap_or_default();
    controllers.split_ascii_whitespace().any(|c| c == "memory")
        && nix::unistd::access(&tree.own.join("cgroup.procs"), nix::unistd::AccessFlags::W_OK).is_ok()
}
