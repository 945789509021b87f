//! One control group, on v1, hybrid and v2 alike (cgroups(7)).
//!
//! A group is a directory, made by mkdir(2), limited and joined by writing into its files, removed by rmdir(2).
//! On v1 it is one directory in each tree; on v2 a single one. Which tree a controller is in is
//! [`crate::hierarchy`]'s to know, what is written where is [`crate::v1`]'s and [`crate::v2`]'s, and here is
//! what both have in common.

use crate::{
    Error, Result, counters, devices,
    error::Doing,
    hierarchy::{self, Hierarchy, Version},
    plan::{missing, not_ours, plan},
    setting::{self, Setting, errno, write},
    stats::Stats,
    tree,
};
use nix::{errno::Errno, unistd::Pid};
use oci_spec::runtime::LinuxResources;
use std::{
    fs::{self, File, OpenOptions},
    os::fd::{AsFd, BorrowedFd},
    path::{Path, PathBuf},
    time::Duration,
};
use tracing::info;

/// A control group; on v1, the directory of that name in every hierarchy in use.
pub struct Cgroup {
    pub(crate) groups: Vec<Group>,
    birth: Option<File>,
    /// Directories that it could have in other trees, and has not, since nothing asked for them.
    pub(crate) spare: Vec<(String, PathBuf)>,
}

/// Its directory in one hierarchy.
pub(crate) struct Group {
    pub(crate) version: Version,
    pub(crate) controllers: Vec<String>,
    pub(crate) path: PathBuf,
}

/// v1 trees that every group is in, limits or not: they are what statistics are read from. The others cost a
/// mkdir and an rmdir each (about 45 us), and are used when a limit asks for them.
const ALWAYS: [&str; 4] = ["memory", "cpuacct", "pids", "blkio"];

impl Cgroup {
    /// Makes the group at `path` (`linux.cgroupsPath`: absolute, from the mount point; relative,
    /// below the caller's own group) and sets its limits. On failure nothing of it is left.
    ///
    /// # Errors
    /// A path that leaves the tree or holds processes already; a limit whose controller is not here
    /// or not the caller's to use; a value that the kernel refuses.
    pub fn create(path: &str, limits: Option<&LinuxResources>) -> Result<Cgroup> {
        let none = LinuxResources::default();
        Draft::new(path, limits.unwrap_or(&none))?.create()
    }

    /// Makes the directories.
    fn make(&mut self, name: &Path, trees: &[Hierarchy], settings: &[Setting]) -> Result<()> {
        // Beside v1 trees that limit, the v2 tree is not made to hand anything down unasked: it would change the host's own
        // group, for good, and other runtimes (crun) take a v2 root that hands down controllers for one that they cannot use.
        let hybrid = trees
            .iter()
            .any(|t| t.version == Version::V1 && t.controllers.iter().any(|c| !c.starts_with("name=")));
        for tree in trees {
            let has = |c: &str| tree.controllers.iter().any(|t| t == c);
            let asked = settings.iter().any(|s| has(&s.controller));
            // A v2 tree kills and freezes a whole group at one word, even where it limits nothing (hybrid).
            let freezer = has("freezer") && !self.groups.iter().any(|g| g.version == Version::V2);
            let path = tree.directory(name);
            if tree.version == Version::V1 && !asked && !freezer && !ALWAYS.iter().any(|c| has(c)) {
                self.spare.push((label(tree.version, &tree.controllers), path));
                continue;
            }
            if let Err(error) = tree::make(tree, &path, asked || !hybrid) {
                match errno(&error) {
                    // Someone else's tree. Only a limit that needs it makes that an error.
                    Some(Errno::EACCES | Errno::EPERM | Errno::EROFS) if asked => {
                        return Err(not_ours(settings, has, &error));
                    }
                    Some(Errno::EACCES | Errno::EPERM | Errno::EROFS) => continue,
                    _ => return Err(error),
                }
            }
            info!(target: "step", section = "7.2", call = "mkdir(2)", "{}", path.display());
            self.groups.push(Group::open(tree.version, &tree.controllers, path.clone()));
            if tree.version == Version::V2 {
                let opened = OpenOptions::new().read(true).open(&path);
                self.birth = Some(opened.doing(|| format!("opening {}", path.display()))?);
            }
        }
        Ok(())
    }

    /// The group at `path`, made before.
    pub fn open(path: &str) -> Result<Cgroup> {
        let name = hierarchy::check(path)?;
        let trees = hierarchy::detect()?;
        let there = trees
            .iter()
            .map(|tree| Group::open(tree.version, &tree.controllers, tree.directory(&name)))
            .filter(|group| group.path.is_dir());
        let cgroup = Cgroup::of(there.collect());
        if cgroup.groups.is_empty() {
            return Err(Error::Path { path: path.into(), why: "is no group on this machine (groups are the directories below /sys/fs/cgroup; /proc/PID/cgroup names those of a process)".into() });
        }
        Ok(cgroup)
    }

    /// The caller's own group.
    pub fn own() -> Result<Cgroup> {
        let trees = hierarchy::detect()?;
        Ok(Cgroup::of(trees.iter().map(|t| Group::open(t.version, &t.controllers, t.own.clone())).collect()))
    }

    pub(crate) fn of(groups: Vec<Group>) -> Cgroup {
        let v2 = groups.iter().find(|g| g.version == Version::V2);
        let birth = v2.and_then(|g| File::open(&g.path).ok());
        Cgroup { groups, birth, spare: Vec::new() }
    }

    /// The group that has these directories (as from [`Cgroup::directories`]); those that are gone are passed over.
    pub fn of_directories(directories: impl IntoIterator<Item = (String, PathBuf)>) -> Cgroup {
        let (there, spare): (Vec<_>, Vec<_>) = directories.into_iter().partition(|(_, path)| path.is_dir());
        let group = |(label, path): (String, PathBuf)| {
            let version = if label == UNIFIED { Version::V2 } else { Version::V1 };
            let controllers: Vec<_> = label.split(',').map(str::to_owned).collect();
            Group::open(version, &controllers, path)
        };
        Cgroup { spare, ..Cgroup::of(there.into_iter().map(group).collect()) }
    }

    /// The directory to be born in, on v2 only (`CLONE_INTO_CGROUP`).
    pub fn birth(&self) -> Option<BorrowedFd<'_>> {
        self.birth.as_ref().map(AsFd::as_fd)
    }

    /// The `tasks` files of its v1 directories, open for writing. A single-threaded process
    /// that writes "0" into one moves itself, and is spared the lock for which every other way in waits.
    pub fn tasks(&self) -> Result<Vec<File>> {
        let v1 = self.groups.iter().filter(|g| g.version == Version::V1);
        v1.map(|group| {
            let file = group.path.join("tasks");
            OpenOptions::new().write(true).open(&file).doing(|| format!("opening {}", file.display()))
        })
        .collect()
    }

    /// One open file for each directory into which a process writes "0" to move itself there.
    pub fn doors(&self) -> Result<Vec<File>> {
        let mut doors = self.tasks()?;
        for group in self.groups.iter().filter(|g| g.version == Version::V2) {
            let file = group.path.join("cgroup.procs");
            let opened = OpenOptions::new().write(true).open(&file);
            doors.push(opened.doing(|| format!("opening {}", file.display()))?);
        }
        Ok(doors)
    }

    /// Puts a process into the group, with all its threads.
    pub fn attach(&self, pid: Pid) -> Result<()> {
        self.groups.iter().try_for_each(|group| write(&group.path.join("cgroup.procs"), &pid.to_string()))
    }

    pub(crate) fn directory(&self, controller: &str) -> Option<&Path> {
        let group = self.groups.iter().find(|g| g.controllers.iter().any(|c| c == controller));
        group.map(|g| g.path.as_path())
    }

    /// Writes the limits.
    pub(crate) fn apply(&self, settings: &[Setting], limits: &LinuxResources) -> Result<()> {
        let unmet = |s: &&Setting| !s.optional && self.directory(&s.controller).is_none();
        if let Some(setting) = settings.iter().find(unmet) {
            return Err(missing(&setting.controller));
        }
        setting::apply(settings, |controller| self.directory(controller))?;
        for s in settings {
            info!(target: "step", section = "7.2", call = "write(2)", "{} > {}", s.value, s.file);
        }
        // v2 has no device files: there the rules are a program.
        let v2 = self.groups.iter().find(|g| g.version == Version::V2);
        if let (Some(group), None, Some(rules)) = (v2, self.directory("devices"), limits.devices()) {
            devices::program(&group.path, rules)?;
        }
        Ok(())
    }

    /// The processes in the group and below it.
    pub fn procs(&self) -> Result<Vec<Pid>> {
        let mut all = Vec::new();
        // They are the same ones in every tree.
        let Some(group) = self.groups.first() else { return Ok(all) };
        for directory in tree::below(&group.path) {
            let text = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
            all.extend(text.lines().filter_map(|l| l.parse().ok()).map(Pid::from_raw));
        }
        Ok(all)
    }

    /// What it has used.
    pub fn stats(&self) -> Result<Stats> {
        counters::read(&self.groups)
    }

    /// How many processes the kernel killed here for lack of memory.
    pub fn oom_kills(&self) -> Result<u64> {
        counters::oom_kills(&self.groups)
    }

    /// How often a fork was refused here for the limit of processes.
    pub fn refused_forks(&self) -> Result<u64> {
        counters::refused_forks(&self.groups)
    }

    /// The group's directories by controller, for people to look at and for [`Cgroup::of_directories`].
    pub fn directories(&self) -> Vec<(String, PathBuf)> {
        self.groups.iter().map(|g| (label(g.version, &g.controllers), g.path.clone())).collect()
    }

    /// Which file is given which value for these limits.
    pub fn settings(&self, limits: &LinuxResources) -> Result<Vec<(PathBuf, String)>> {
        let settings = plan(&hierarchy::detect()?, limits)?;
        Ok(settings
            .into_iter()
            .filter_map(|s| Some((self.directory(&s.controller)?.join(&s.file), s.value)))
            .collect())
    }

    /// Removes the group and the groups below it. It must be empty of processes, or about to be:
    /// a killed process leaves its group only when it has torn down its memory, so the first rmdir(2) after
    /// a kill may find it busy.
    pub fn remove(self) -> Result<()> {
        for group in &self.groups {
            if fs::remove_dir(&group.path).is_ok() {
                continue; // as a rule
            }
            // The deepest first.
            for directory in tree::below(&group.path).iter().rev() {
                let gone = || match fs::remove_dir(directory) {
                    Ok(()) => Ok(true),
                    Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(true),
                    Err(e) if e.raw_os_error() == Some(libc::EBUSY) => Ok(false),
                    Err(e) => Err(e).doing(|| format!("removing the cgroup {}", directory.display())),
                };
                if !tree::wait_until(Duration::from_secs(10), gone, || ())? {
                    let doing =
                        format!("removing the cgroup {} (processes in it do not end)", directory.display());
                    return Err(Error::Sys { doing, errno: Errno::EBUSY });
                }
            }
        }
        Ok(())
    }
}

/// A group that is still to be made: where it would be, and what would be written into it. A container's runtime notes
/// down the first before it does the second, so that after a crash at any point it is known what to look for.
pub(crate) struct Draft<'a> {
    name: PathBuf,
    trees: Vec<Hierarchy>,
    limits: &'a LinuxResources,
    settings: Vec<Setting>,
}

impl<'a> Draft<'a> {
    /// Looks at the machine, and changes nothing.
    pub(crate) fn new(path: &str, limits: &'a LinuxResources) -> Result<Draft<'a>> {
        let name = hierarchy::check(path)?;
        let trees = hierarchy::detect()?;
        let settings = plan(&trees, limits)?;
        Ok(Draft { name, trees, limits, settings })
    }

    /// All directories that it could have, made or not. One that is in use is refused.
    pub(crate) fn directories(&self) -> Result<Vec<(String, PathBuf)>> {
        let all = self.trees.iter().map(|t| (label(t.version, &t.controllers), t.directory(&self.name)));
        let all: Vec<_> = all.collect();
        all.iter().try_for_each(|(_, directory)| tree::check_free(directory))?;
        Ok(all)
    }

    /// Makes it. On failure nothing of it is left.
    pub(crate) fn create(&self) -> Result<Cgroup> {
        let mut cgroup = Cgroup { groups: Vec::new(), birth: None, spare: Vec::new() };
        let made = cgroup.make(&self.name, &self.trees, &self.settings);
        if let Err(error) = made.and_then(|()| cgroup.apply(&self.settings, self.limits)) {
            // The first error is the one to tell.
            let _ = cgroup.remove();
            return Err(error);
        }
        Ok(cgroup)
    }
}

/// How the one v2 directory is labelled.
const UNIFIED: &str = "unified";

pub(crate) fn label(version: Version, controllers: &[String]) -> String {
    if version == Version::V2 { UNIFIED.into() } else { controllers.join(",") }
}

impl Group {
    /// On v2, what a group can limit with is what was handed down to it.
    pub(crate) fn open(version: Version, controllers: &[String], path: PathBuf) -> Group {
        let controllers = match version {
            Version::V1 => controllers.to_vec(),
            Version::V2 => tree::text(&path.join("cgroup.controllers"))
                .unwrap_or_default()
                .split_whitespace()
                .map(str::to_owned)
                .collect(),
        };
        Group { version, controllers, path }
    }
}
