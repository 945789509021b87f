//! What docker gives a container when nothing is asked, as an OCI configuration.

use crate::{seccomp, spec::Spec, userns::mapping};
use nix::unistd::{getegid, geteuid};
use oci_spec::runtime::{
    Capabilities, Capability, LinuxBuilder, LinuxCapabilitiesBuilder, LinuxDeviceCgroup,
    LinuxDeviceCgroupBuilder, LinuxDeviceType, LinuxNamespaceBuilder, LinuxNamespaceType as Kind,
    LinuxResourcesBuilder, LinuxSeccomp, Mount, MountBuilder, ProcessBuilder, RootBuilder, SpecBuilder,
    UserBuilder,
};

/// docker's 14 capabilities.
pub fn docker_capabilities() -> Capabilities {
    Capabilities::from([
        Capability::Chown,
        Capability::DacOverride,
        Capability::Fsetid,
        Capability::Fowner,
        Capability::Mknod,
        Capability::NetRaw,
        Capability::Setgid,
        Capability::Setuid,
        Capability::Setfcap,
        Capability::Setpcap,
        Capability::NetBindService,
        Capability::SysChroot,
        Capability::Kill,
        Capability::AuditWrite,
    ])
}

/// docker's seccomp profile for a container with these capabilities: `--cap-add SYS_ADMIN` allows
/// mount(2) here too.
pub fn docker_seccomp(capabilities: &Capabilities) -> LinuxSeccomp {
    seccomp::docker_profile(capabilities)
}

/// Destination, type, source, options.
const MOUNTS: [(&str, &str, &str, &[&str]); 7] = [
    ("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
    ("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
    (
        "/dev/pts",
        "devpts",
        "devpts",
        &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
    ),
    ("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
    ("/sys/fs/cgroup", "cgroup", "cgroup", &["ro", "nosuid", "noexec", "nodev"]),
    ("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
    ("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=67108864"]),
];

/// What of /proc and /sys says or changes too much about the host.
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

const READONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The configuration that docker gives a container when nothing is asked: its
/// capability set, mounts, masked and read-only paths, seccomp profile and
/// namespaces (pid, mount, uts, ipc, network, cgroup). `root.path` is `rootfs`, the
/// process is `sh`. The engine changes what the user asks to be changed.
pub fn docker_default() -> Spec {
    let capabilities = docker_capabilities();
    let sets = LinuxCapabilitiesBuilder::default()
        .bounding(capabilities.clone())
        .effective(capabilities.clone())
        .permitted(capabilities.clone())
        .inheritable(Capabilities::new())
        .ambient(Capabilities::new());
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let process = ProcessBuilder::default()
        .terminal(false)
        .user(UserBuilder::default().uid(0u32).gid(0u32).build().unwrap_or_default())
        .args(["sh".to_owned()])
        .env([path.to_owned()])
        .cwd("/")
        .capabilities(sets.build().unwrap_or_default())
        .no_new_privileges(false)
        .oom_score_adj(0);
    let namespaces = [Kind::Mount, Kind::Network, Kind::Uts, Kind::Pid, Kind::Ipc, Kind::Cgroup]
        .map(|kind| LinuxNamespaceBuilder::default().typ(kind).build().unwrap_or_default());
    let list = |paths: &[&str]| paths.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>();
    let resources = LinuxResourcesBuilder::default().devices(device_rules());
    let linux = LinuxBuilder::default()
        .namespaces(namespaces)
        .resources(resources.build().unwrap_or_default())
        .seccomp(docker_seccomp(&capabilities))
        .masked_paths(list(&MASKED))
        .readonly_paths(list(&READONLY));
    let root = RootBuilder::default().path("rootfs").readonly(false);
    let mut process = process.build().unwrap_or_default();
    process.set_rlimits(None);
    SpecBuilder::default()
        .version("1.0.2")
        .root(root.build().unwrap_or_default())
        .process(process)
        .hostname("teu")
        .mounts(MOUNTS.map(mount))
        .linux(linux.build().unwrap_or_default())
        .build()
        .unwrap_or_default()
}

fn mount((destination, kind, source, options): (&str, &str, &str, &[&str])) -> Mount {
    MountBuilder::default()
        .destination(destination)
        .typ(kind)
        .source(source)
        .options(options.iter().map(|o| (*o).to_owned()).collect::<Vec<_>>())
        .build()
        .unwrap_or_default()
}

/// Which devices a container may use: none, but making nodes of any kind is harmless, and these.
fn device_rules() -> Vec<LinuxDeviceCgroup> {
    let rule =
        |allow, kind: Option<LinuxDeviceType>, major: Option<i64>, minor: Option<i64>, access: &str| {
            let mut rule = LinuxDeviceCgroupBuilder::default().allow(allow).access(access);
            if let Some(kind) = kind {
                rule = rule.typ(kind);
            }
            if let Some(major) = major {
                rule = rule.major(major);
            }
            if let Some(minor) = minor {
                rule = rule.minor(minor);
            }
            rule.build().unwrap_or_default()
        };
    let (c, b) = (Some(LinuxDeviceType::C), Some(LinuxDeviceType::B));
    let mut rules = vec![
        rule(false, None, None, None, "rwm"),
        rule(true, c, None, None, "m"),
        rule(true, b, None, None, "m"),
    ];
    // null, zero, full, random, urandom, tty, ptmx; console; the terminals of devpts.
    for (major, minor) in [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2)] {
        rules.push(rule(true, c, Some(major), Some(minor), "rwm"));
    }
    rules.push(rule(true, c, Some(136), None, "rwm"));
    rules
}

/// Drops from a default what an unprivileged user namespace cannot have: device rules and OOM
/// scores are root's. (A device that cannot be made, a sysfs or a terminal group that
/// cannot be had, are met where they are mounted.)
pub fn for_rootless(spec: &mut Spec) {
    if let Some(resources) = spec.linux_mut().as_mut().and_then(|l| l.resources_mut().as_mut()) {
        resources.set_devices(None);
    }
    if let Some(process) = spec.process_mut() {
        process.set_oom_score_adj(None);
    }
}

/// A configuration for an ordinary user: a user namespace in which the caller is root, and nothing
/// that needs more.
pub fn in_user_namespace(spec: &mut Spec) {
    for_rootless(spec);
    if let Some(linux) = spec.linux_mut() {
        let user = LinuxNamespaceBuilder::default().typ(Kind::User).build().unwrap_or_default();
        linux.namespaces_mut().get_or_insert_default().push(user);
        linux.set_uid_mappings(Some(vec![mapping(0, geteuid().as_raw(), 1)]));
        linux.set_gid_mappings(Some(vec![mapping(0, getegid().as_raw(), 1)]));
    }
}
