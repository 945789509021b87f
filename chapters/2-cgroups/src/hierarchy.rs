//! Where control groups are on this machine: one v1 tree per controller, one v2 tree for all, or both
//! ("hybrid", where each controller lives in one of the two worlds).
//!
//! The kernel tells it in two files, and both are needed: `/proc/self/mountinfo` says where each tree is
//! mounted, `/proc/self/cgroup` says where in each tree the caller is (cgroups(7)).

use crate::{Result, error::Doing, tree};
use nix::unistd::Pid;
use std::path::{Component, Path, PathBuf};

/// The two kernel interfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// A tree for one controller, or a few bound together.
    V1,
    /// One tree for all controllers.
    V2,
}

/// One tree of groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    /// Which interface its files follow.
    pub version: Version,
    /// The controllers that it can limit with.
    pub controllers: Vec<String>,
    /// Where it is mounted.
    pub mount: PathBuf,
    /// The directory of the caller's own group.
    pub own: PathBuf,
}

/// The leaf into which [`crate::v2`] moves the caller out of a group that gets children.
pub(crate) const LEAF: &str = "teu-self";

/// All trees that are mounted here, v2 first.
pub fn detect() -> Result<Vec<Hierarchy>> {
    let read = |file: &str| tree::text(Path::new(file)).doing(|| format!("reading {file}"));
    let mut found = parse(&read("/proc/self/mountinfo")?, &read("/proc/self/cgroup")?);
    for tree in found.iter_mut().filter(|t| t.version == Version::V2) {
        let offered = tree::text(&tree.mount.join("cgroup.controllers")).unwrap_or_default();
        tree.controllers = offered.split_whitespace().map(str::to_owned).collect();
    }
    Ok(found)
}

/// The directory of the v2 group in which another process is now.
pub(crate) fn unified_of(pid: Pid) -> Option<PathBuf> {
    own_of(pid, |tree| tree.version == Version::V2)
}

/// The directory of its group in the first tree that is wanted.
pub(crate) fn own_of(pid: Pid, wanted: impl Fn(&Hierarchy) -> bool) -> Option<PathBuf> {
    let mountinfo = tree::text(Path::new("/proc/self/mountinfo")).ok()?;
    let cgroup = tree::text(Path::new(&format!("/proc/{pid}/cgroup"))).ok()?;
    parse(&mountinfo, &cgroup).into_iter().find(wanted).map(|t| t.own)
}

/// A mountinfo line is `ID parent dev ROOT POINT options [tags] - TYPE source SUPER-OPTIONS` (proc(5)).
fn parse(mountinfo: &str, cgroup: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    let places: Vec<Place> = mountinfo.lines().filter_map(Place::of).collect();
    for line in mountinfo.lines() {
        let Some((before, after)) = line.split_once(" - ") else { continue };
        let (before, after): (Vec<&str>, Vec<&str>) =
            (before.split(' ').collect(), after.split(' ').collect());
        let (&[_, _, _, root, point, ..], &[kind, _, options]) = (&before[..], &after[..]) else { continue };
        let (root, mount) = (unescape(root), unescape(point));
        let version = match kind {
            "cgroup" => Version::V1,
            "cgroup2" => Version::V2,
            _ => continue,
        };
        // A v1 tree names its controllers among its mount options; a "named" tree (systemd's own) has none.
        let controllers: Vec<String> = match version {
            Version::V1 => options.split(',').filter(|o| is_controller(o)).map(str::to_owned).collect(),
            Version::V2 => Vec::new(),
        };
        if version == Version::V1 && controllers.is_empty() {
            continue;
        }
        if Place::of(line).is_some_and(|place| place.is_hidden(&places)) {
            continue;
        }
        // The same tree may be mounted twice (a bind for a container's root, say): the first one is it.
        if found.iter().any(|h| h.version == version && h.controllers == controllers) {
            continue;
        }
        let own = own_group(cgroup, &controllers);
        // In a container, the mount shows only a part of the tree, and that part's place in it is `root`.
        let own = own.strip_prefix(&root).unwrap_or(Path::new(""));
        let mut own = mount.join(own);
        if own.file_name().is_some_and(|n| n == LEAF) {
            own.pop();
        }
        found.push(Hierarchy { version, controllers, mount, own });
    }
    found.sort_by_key(|h| h.version == Version::V1);
    found
}

/// Where a mount is: which it is, which it is mounted on, and at which path.
#[derive(Clone, Copy)]
struct Place<'a> {
    id: &'a str,
    parent: &'a str,
    point: &'a str,
}

impl<'a> Place<'a> {
    fn of(line: &'a str) -> Option<Place<'a>> {
        let mut words = line.split(' ');
        let (id, parent) = (words.next()?, words.next()?);
        Some(Place { id, parent, point: words.nth(2)? })
    }

    /// Whether its path leads to something else. Who mounts over a mount hides it, and yet it stays in the list.
    fn is_hidden(&self, all: &[Place]) -> bool {
        all.iter().any(|other| other.parent == self.id && other.point == self.point) || self.is_cut_off(all)
    }

    /// Whether something else is mounted on the way to it.
    fn is_cut_off(&self, all: &[Place]) -> bool {
        if self.id == self.parent {
            return false; // the first root of all
        }
        let leads_here = |above: &str| {
            let rest = self.point.strip_prefix(above);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || above == "/")
        };
        let mut beside = all.iter().filter(|other| other.parent == self.parent && other.id != other.parent);
        beside.any(|other| other.id != self.id && leads_here(other.point))
            || all.iter().find(|other| other.id == self.parent).is_some_and(|parent| parent.is_cut_off(all))
    }
}

/// `4:memory:/user/alice` for v1, `0::/user/alice` for v2.
fn own_group(cgroup: &str, controllers: &[String]) -> PathBuf {
    cgroup
        .lines()
        .find_map(|line| {
            let mut parts = line.splitn(3, ':');
            let (_, names, path) = (parts.next()?, parts.next()?, parts.next()?);
            let mine = match controllers.first() {
                Some(first) => names.split(',').any(|n| n == first),
                None => names.is_empty(),
            };
            mine.then(|| PathBuf::from(path))
        })
        .unwrap_or_else(|| PathBuf::from("/"))
}

/// The kernel's controllers. (Other mount options are `rw`, `xattr`, `name=…`, `release_agent=…`.)
fn is_controller(option: &str) -> bool {
    matches!(
        option,
        "cpu"
            | "cpuacct"
            | "cpuset"
            | "memory"
            | "devices"
            | "freezer"
            | "blkio"
            | "pids"
            | "hugetlb"
            | "rdma"
            | "net_cls"
            | "net_prio"
            | "perf_event"
            | "misc"
    )
}

/// mountinfo writes a space as `\040`, and likewise tab, newline and backslash.
fn unescape(text: &str) -> PathBuf {
    let text =
        text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\");
    PathBuf::from(text)
}

impl Hierarchy {
    /// The directory that `path` names in this tree (OCI runtime-spec, config-linux.md, "Cgroups Path"): an
    /// absolute one starts at the mount point, a relative one at the caller's own group.
    pub(crate) fn directory(&self, path: &Path) -> PathBuf {
        match path.strip_prefix("/") {
            Ok(below) => self.mount.join(below),
            Err(_) => self.own.join(path),
        }
    }
}

/// Refuses what would lead out of the tree: the path may come from a bundle that someone else wrote.
pub(crate) fn check(path: &str) -> Result<PathBuf> {
    let bad = |why: &str| crate::Error::Path { path: path.into(), why: why.into() };
    let mut clean = PathBuf::new();
    for part in Path::new(path).components() {
        match part {
            Component::RootDir => clean.push("/"),
            Component::Normal(name) => clean.push(name),
            Component::CurDir => {}
            _ => return Err(bad("contains '..', which could lead out of the tree")),
        }
    }
    if clean.file_name().is_none() {
        return Err(bad("names no group: give one below the root, such as /teu/web"));
    }
    Ok(clean)
}

/// systemd's way to name a group, `slice:prefix:name`, as the path at which systemd itself would put it:
/// `user-1000.slice:teu:web` is `/user.slice/user-1000.slice/teu-web.scope`.
pub fn systemd_path(path: &str) -> Option<String> {
    let [slice, prefix, name] = path.split(':').collect::<Vec<_>>()[..] else { return None };
    let slice = if slice.is_empty() { "system.slice" } else { slice };
    let stem = slice.strip_suffix(".slice")?;
    let mut whole = String::new();
    // Each dash in a slice's name is one level: a-b.slice is below a.slice (systemd.slice(5)).
    for (at, _) in stem.match_indices('-').chain([(stem.len(), "")]).filter(|_| stem != "-") {
        whole += &format!("/{}.slice", &stem[..at]);
    }
    let unit = if name.ends_with(".slice") { format!("/{name}") } else { format!("/{prefix}-{name}.scope") };
    Some(whole + &unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 /docker/a /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/my\\040unified rw - cgroup2 cgroup2 rw,nsdelegate
";

    #[test]
    fn hybrid_trees() {
        let trees =
            parse(HYBRID, "4:memory:/docker/a/b\n1:cpu,cpuacct:/x\n2:name=systemd:/s\n0::/u/teu-self\n");
        let seen: Vec<_> =
            trees.iter().map(|t| (t.version, t.controllers.join("+"), t.own.display().to_string())).collect();
        assert_eq!(
            seen,
            [
                (Version::V2, "".into(), "/sys/fs/cgroup/my unified/u".into()),
                (Version::V1, "cpu+cpuacct".into(), "/sys/fs/cgroup/cpu,cpuacct/x".into()),
                (Version::V1, "memory".into(), "/sys/fs/cgroup/memory/b".into()),
            ]
        );
        assert_eq!(trees[2].directory(Path::new("/x/y")), Path::new("/sys/fs/cgroup/memory/x/y"));
        assert_eq!(trees[2].directory(Path::new("x/y")), Path::new("/sys/fs/cgroup/memory/b/x/y"));
    }

    #[test]
    fn what_is_hidden_is_not_there() {
        let seen = |more: &str| {
            parse(
                &format!("1 1 0:1 / / rw - rootfs rootfs rw\n23 1 8:1 / / rw - ext4 x rw\n{HYBRID}{more}"),
                "",
            )
            .len()
        };
        assert_eq!(seen(""), 3);
        // Another file system over one tree, over all of them, and over a directory on the way.
        assert_eq!(seen("50 35 0:40 / /sys/fs/cgroup/memory rw - tmpfs tmpfs rw\n"), 2);
        assert_eq!(seen("50 31 0:40 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"), 0);
        assert_eq!(seen("50 23 0:40 / /sys rw - tmpfs tmpfs rw\n"), 0);
        // Beside them, and a tree over the file system that was there.
        assert_eq!(seen("50 31 0:40 / /sys/fs/cgroup/mem rw - tmpfs tmpfs rw\n"), 3);
        assert_eq!(seen("50 31 0:40 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"), 1);
    }

    #[test]
    fn no_way_out() {
        assert_eq!(check("/a//./b/").ok(), Some("/a/b".into()));
        for path in ["..", "/a/../../b", "", "/", "."] {
            assert!(check(path).is_err(), "{path}");
        }
    }

    #[test]
    fn systemd_names() {
        let path = |p| systemd_path(p);
        assert_eq!(
            path("user-1000.slice:teu:web").as_deref(),
            Some("/user.slice/user-1000.slice/teu-web.scope")
        );
        assert_eq!(path(":docker:abc").as_deref(), Some("/system.slice/docker-abc.scope"));
        assert_eq!(path("-.slice:a:b").as_deref(), Some("/a-b.scope"));
        assert_eq!(path("/plain/path"), None);
    }
}
