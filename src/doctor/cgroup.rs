//! Control groups: which layout, which controllers, and whether this user may use them.

use super::{Check, Here};
use cgroups::hierarchy::{Hierarchy, Version, detect};
use nix::unistd::{AccessFlags, access, geteuid};

const GROUP: &str = "control groups";

/// The controllers that a flag needs, under the names that v1 and v2 have for them.
const CONTROLLERS: &[(&str, &[&str], &str)] = &[
    ("memory", &["memory"], "--memory, naming the OOM kill (7.2)"),
    ("cpu", &["cpu"], "--cpus, --cpu-shares (7.2)"),
    ("cpuset", &["cpuset"], "--cpuset-cpus (7.2)"),
    ("pids", &["pids"], "--pids-limit (7.2)"),
    ("io", &["io", "blkio"], "--device-write-bps, stats (7.2)"),
    ("hugetlb", &["hugetlb"], "limits of huge pages in a bundle (7.2)"),
];

/// The layout, and each controller.
pub(super) fn checks() -> Vec<Check> {
    let trees = detect().unwrap_or_default();
    let v2 = trees.iter().any(|t| t.version == Version::V2);
    let v1 = trees.iter().any(|t| t.version == Version::V1);
    let layout = match (v1, v2) {
        (true, true) => Ok("hybrid: v1 trees beside a v2 tree"),
        (true, false) => Ok("v1: a tree for each controller"),
        (false, true) => Ok("v2: one tree"),
        (false, false) => Err("no tree is mounted"),
    };
    let mut checks = vec![Check {
        group: GROUP,
        name: "layout".into(),
        here: if layout.is_ok() { Here::Yes } else { Here::No },
        essential: false,
        needed_for: "all limits (7.2)",
        found: layout.unwrap_or_else(|why| why).into(),
        remedy: "mount -t cgroup2 none /sys/fs/cgroup",
    }];
    checks.extend(
        CONTROLLERS.iter().map(|(name, names, needed_for)| controller(&trees, name, names, needed_for)),
    );
    checks
}

fn controller(trees: &[Hierarchy], name: &str, names: &[&str], needed_for: &'static str) -> Check {
    let tree = trees.iter().find(|t| t.controllers.iter().any(|c| names.contains(&c.as_str())));
    let (here, found) = match tree {
        None => (Here::No, "no tree has it".to_owned()),
        Some(tree) if usable(tree) => {
            (Here::Yes, format!("{:?}, {}", tree.version, tree.own.display()).to_lowercase())
        }
        Some(tree) => (Here::No, format!("not delegated: {} is not writable", tree.own.display())),
    };
    let remedy = match tree.map(|t| t.version) {
        None => "a kernel with this controller, not switched off by cgroup_disable=",
        Some(_) if geteuid().is_root() => "the tree is mounted read-only here: mount it read-write",
        Some(Version::V1) => {
            "v1 trees are root's: have cgroup v2 (systemd.unified_cgroup_hierarchy=1), which can be delegated"
        }
        Some(Version::V2) => {
            "have it delegated: systemd-run --user --scope -p Delegate=yes, or Delegate=cpu cpuset io memory pids in user@.service"
        }
    };
    Check { group: GROUP, name: name.to_owned(), here, essential: false, needed_for, found, remedy }
}

/// Whether groups can be made below one's own, and processes moved there.
fn usable(tree: &Hierarchy) -> bool {
    access(&tree.own, AccessFlags::W_OK).is_ok()
        && access(&tree.own.join("cgroup.procs"), AccessFlags::W_OK).is_ok()
}
