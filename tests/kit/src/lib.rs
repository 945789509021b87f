//! What every test that looks from outside shares: it names what it needs of the machine, and is
//! skipped, counted and explained where that is missing. (Rust's own test harness can only pass or
//! fail: a test that returns early without root would count as passed.)
//!
//! A test target sets `harness = false` and is a `main` like this:
//!
//! ```no_run
//! use kit::{Case, Need};
//! fn main() {
//!     kit::run(vec![
//!         Case::new("pivot_root_hides_the_old_root", &[Need::Root], || { /* assert ... */ }),
//!         Case::new("podman_runs_on_us", &[Need::Root, Need::Program("podman")], || { /* ... */ }),
//!     ]);
//! }
//! ```

use libtest_mimic::{Arguments, Failed, Trial};
use std::{path::PathBuf, sync::LazyLock};

/// Something that a test needs of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Effective uid 0.
    Root,
    /// Effective uid other than 0.
    OrdinaryUser,
    /// The kernel lets this user make a user namespace.
    UserNamespaces,
    /// cgroup v1 (or hybrid) controllers, writable by this user.
    CgroupV1,
    /// A pure cgroup v2 tree, writable by this user.
    CgroupV2,
    /// A temporary directory whose file system can show its files with other owners (mount_setattr(2),
    /// `MOUNT_ATTR_IDMAP`; a tmpfs can since Linux 6.3).
    IdmapsInTmp,
    /// A program on the PATH. With `CI=true` its absence is a failure, not a skip.
    Program(&'static str),
}

impl Need {
    /// What is missing, as a sentence; `None` if it is there.
    fn missing(self) -> Option<String> {
        let there = match self {
            Need::Root => is_root(),
            Need::OrdinaryUser => !is_root(),
            Need::UserNamespaces => *USER_NAMESPACES,
            Need::CgroupV1 => {
                is_root() && std::path::Path::new("/sys/fs/cgroup/memory/cgroup.procs").exists()
            }
            Need::CgroupV2 => {
                is_root() && std::path::Path::new("/sys/fs/cgroup/cgroup.subtree_control").exists()
            }
            Need::IdmapsInTmp => !tmp_is_tmpfs() || kernel() >= (6, 3),
            Need::Program(name) => find_program(name).is_some(),
        };
        (!there).then(|| match self {
            Need::Root => "needs root".into(),
            Need::OrdinaryUser => "is about ordinary users; this is root".into(),
            Need::UserNamespaces => "needs user namespaces".into(),
            Need::CgroupV1 => "needs root and cgroup v1".into(),
            Need::CgroupV2 => "needs root and pure cgroup v2".into(),
            Need::IdmapsInTmp => "needs a kernel (6.3) that maps the owners of a tmpfs".into(),
            Need::Program(name) => format!("needs the program {name}"),
        })
    }
}

/// Tried once: a program of many tests asks for each of them.
static USER_NAMESPACES: LazyLock<bool> = LazyLock::new(|| {
    let mut unshare = std::process::Command::new("unshare");
    let tried =
        unshare.args(["--user", "--map-root-user", "true"]).stderr(std::process::Stdio::null()).status();
    tried.is_ok_and(|status| status.success())
});

/// One test.
pub struct Case {
    name: &'static str,
    needs: Vec<Need>,
    test: Box<dyn FnOnce() + Send>,
}

impl Case {
    /// A test that needs all of `needs`, and panics to fail.
    pub fn new(name: &'static str, needs: &[Need], test: impl FnOnce() + Send + 'static) -> Case {
        Case { name, needs: needs.to_vec(), test: Box::new(test) }
    }
}

/// What of `needs` is missing here, as a sentence; `None` if all is there.
pub fn missing(needs: &[Need]) -> Option<String> {
    let missing: Vec<String> = needs.iter().filter_map(|need| need.missing()).collect();
    (!missing.is_empty()).then(|| missing.join(", "))
}

/// Runs the tests as the command line asks (the flags are those of every Rust test program), then names
/// each skipped one with its reason. Never returns.
pub fn run(cases: Vec<Case>) -> ! {
    let arguments = Arguments::from_args();
    let ci = std::env::var("CI").is_ok_and(|v| v == "true");
    let mut skipped = Vec::new();
    let trials = cases
        .into_iter()
        .map(|case| {
            let missing: Vec<_> =
                case.needs.iter().filter_map(|n| n.missing().map(|why| (*n, why))).collect();
            let reason = missing.iter().map(|(_, why)| why.as_str()).collect::<Vec<_>>().join(", ");
            let only_programs =
                !missing.is_empty() && missing.iter().all(|(n, _)| matches!(n, Need::Program(_)));
            if ci && only_programs {
                return Trial::test(case.name, move || {
                    Err(Failed::from(format!("{reason}; under CI a missing peer is a failure")))
                });
            }
            if !missing.is_empty() {
                skipped.push((case.name, reason));
            }
            let skip = !missing.is_empty();
            Trial::test(case.name, || {
                (case.test)();
                Ok(())
            })
            .with_ignored_flag(skip)
        })
        .collect();
    let listing = arguments.list;
    let conclusion = libtest_mimic::run(&arguments, trials);
    if !listing {
        for (name, reason) in &skipped {
            println!("skipped {name}: {reason}");
        }
    }
    conclusion.exit()
}

/// Whether this process is root.
pub fn is_root() -> bool {
    // The owner of /proc/self is the effective uid: no libc needed for one number.
    std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").expect("/proc is mounted")) == 0
}

/// The running kernel's version.
fn kernel() -> (u32, u32) {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// Whether temporary files are kept in memory: the mount that is nearest above them says so.
fn tmp_is_tmpfs() -> bool {
    let (tmp, mounts) = (std::env::temp_dir(), std::fs::read_to_string("/proc/self/mountinfo"));
    let mounts = mounts.unwrap_or_default();
    let above = mounts.lines().filter(|l| l.split(' ').nth(4).is_some_and(|point| tmp.starts_with(point)));
    let nearest = above.max_by_key(|l| l.split(' ').nth(4).map_or(0, str::len));
    nearest.is_some_and(|l| l.contains(" - tmpfs "))
}

/// Where a program is on the PATH (with the sbin directories that an ordinary user's lacks).
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}

/// What a test may leave behind: compare one from before with one from after.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Traces {
    /// Mounts in this namespace.
    pub mounts: Vec<String>,
    /// Control groups.
    pub cgroups: Vec<String>,
    /// Network devices.
    pub devices: Vec<String>,
}

impl Traces {
    /// What is there now.
    pub fn now() -> Traces {
        let lines = |text: String| text.lines().map(str::to_owned).collect::<Vec<_>>();
        let mut mounts: Vec<String> =
            lines(std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default())
                .iter()
                .filter_map(|l| l.split(' ').nth(4).map(str::to_owned))
                .collect();
        mounts.sort();
        let mut cgroups = Vec::new();
        let mut todo = vec![PathBuf::from("/sys/fs/cgroup")];
        while let Some(dir) = todo.pop() {
            // A group may vanish between being listed and being read: another's, or one that is being removed.
            for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|t| t.is_dir()) {
                    cgroups.push(entry.path().display().to_string());
                    todo.push(entry.path());
                }
            }
        }
        cgroups.sort();
        let mut devices: Vec<String> = std::fs::read_dir("/sys/class/net")
            .into_iter()
            .flatten()
            .flatten()
            .map(|e| e.file_name().to_string_lossy().into_owned())
            .collect();
        devices.sort();
        Traces { mounts, cgroups, devices }
    }

    /// What is in `self` and was not in `before`, one line each.
    pub fn beyond(&self, before: &Traces) -> Vec<String> {
        let new = |a: &[String], b: &[String], what: &str| {
            a.iter().filter(|x| !b.contains(x)).map(|x| format!("{what} {x}")).collect::<Vec<_>>()
        };
        let mut all = new(&self.mounts, &before.mounts, "mount");
        all.extend(new(&self.cgroups, &before.cgroups, "cgroup"));
        all.extend(new(&self.devices, &before.devices, "network device"));
        all
    }
}

/// The exit code of a command as a test sees it: 128 and the signal if it was killed.
pub fn code(status: std::process::ExitStatus) -> i32 {
    std::os::unix::process::ExitStatusExt::signal(&status)
        .map_or_else(|| status.code().unwrap_or(-1), |s| 128 + s)
}
