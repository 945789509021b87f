//! `docker cp`: files out of and into a container, running or not.
//!
//! What is in a container is its own work, and nothing in it is to be believed: every path is resolved by the kernel inside
//! the root (openat2(2), RESOLVE_IN_ROOT), so that no link, swapped at whatever moment, leads to the host's files
//! (CVE-2018-15664). It is a process of its own because the root of a stopped container has to be mounted for it, and no
//! other process is to see that.

use crate::engine::{
    disk,
    failure::{Failure, Result},
    plan::Bind,
};
use layers::{pack, root::Root, unpack};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    sys::stat::{FileStat, SFlag},
};
use serde::{Deserialize, Serialize};
use std::{
    io::{BufReader, BufWriter, Write},
    os::fd::AsRawFd,
    path::{Path, PathBuf},
};

/// What is to be done.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Task {
    /// Only look.
    Stat,
    /// Pack to standard output.
    Get,
    /// Unpack from standard input.
    Put {
        /// A directory does not replace something else, nor the other way round.
        keep_kind: bool,
    },
}

/// The plan of a copy.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ArchivePlan {
    pub(crate) task: Task,
    /// Inside the container.
    pub(crate) path: String,
    /// A process of the container, if it runs: its view is what is meant.
    pub(crate) pid: Option<i32>,
    /// What is mounted otherwise.
    pub(crate) lower: Vec<PathBuf>,
    pub(crate) upper: PathBuf,
    pub(crate) work: PathBuf,
    pub(crate) mounts: Vec<Bind>,
}

/// The first line of the answer.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// docker's description of the path; what follows is the tar, if one was asked for.
    Found(Stat),
    /// What stands against it.
    Refused { status: u16, message: String },
}

/// The header `X-Docker-Container-Path-Stat`.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Stat {
    pub(crate) name: String,
    pub(crate) size: i64,
    /// Go's bits for kinds of files, not the kernel's.
    pub(crate) mode: u32,
    pub(crate) mtime: String,
    #[serde(rename = "linkTarget")]
    pub(crate) link_target: String,
}

/// The role `archive`.
pub(crate) fn main(dir: &Path) -> Result<()> {
    let plan: ArchivePlan =
        disk::read_json(&dir.join("plan.json"))?.ok_or_else(|| Failure::internal("no plan"))?;
    let mut out = BufWriter::with_capacity(64 << 10, std::io::stdout());
    let done = run(&plan, dir, &mut out);
    if let Err(failure) = done {
        say(&mut out, &Reply::Refused { status: failure.status, message: failure.message })?;
    }
    out.flush()?;
    Ok(())
}

fn run(plan: &ArchivePlan, dir: &Path, out: &mut impl Write) -> Result<()> {
    let root = match plan.pid {
        Some(pid) => Root::open(&Path::new("/proc").join(pid.to_string()).join("root"))?,
        None => Root::open(&mount_root(plan, dir)?)?,
    };
    let path = Path::new("/").join(&plan.path);
    let missing = || Failure::missing(format!("Could not find the file {} in container", plan.path));
    // A name that ends in `/` or `/.` means what a link there leads to.
    let follow = plan.path.ends_with('/') || plan.path.ends_with("/.");
    let found = if follow { root.stat(&path) } else { root.lstat(&path) }.map_err(|_| missing())?;
    match plan.task {
        Task::Stat => say(out, &Reply::Found(describe(&root, &path, &found))),
        Task::Get => {
            say(out, &Reply::Found(describe(&root, &path, &found)))?;
            let from = if follow { root.resolve(&path)? } else { path.clone() };
            let name = if plan.path.ends_with("/.") {
                ".".into()
            } else {
                path.file_name().map(PathBuf::from).unwrap_or_default()
            };
            let mut packer = pack::Packer::new(&mut *out);
            packer.tree(&root, &from, &name, &pack::Options::default())?;
            packer.finish()?;
            Ok(())
        }
        Task::Put { keep_kind } => {
            let target = root.stat(&path).map_err(|_| missing())?;
            if kind(&target) != SFlag::S_IFDIR {
                return Err(Failure::bad("extraction point is not a directory"));
            }
            let fd = root.open_with(&path, nix::fcntl::OFlag::O_PATH | nix::fcntl::OFlag::O_DIRECTORY, 0)?;
            let below = Root::open(&Path::new("/proc/self/fd").join(fd.as_raw_fd().to_string()))?;
            let options = unpack::Options { keep_kind, ..unpack::Options::default() };
            unpack::extract(BufReader::with_capacity(64 << 10, std::io::stdin()), &below, &options)
                .map_err(|e| Failure::bad(Failure::from(e).message))?;
            say(out, &Reply::Found(describe(&root, &path, &target)))
        }
    }
}

fn say(out: &mut impl Write, reply: &Reply) -> Result<()> {
    serde_json::to_writer(&mut *out, reply)?;
    out.write_all(b"\n")?;
    Ok(())
}

/// The root of a container that does not run, with its volumes, in a mount namespace that ends with us.
fn mount_root(plan: &ArchivePlan, dir: &Path) -> Result<PathBuf> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SLAVE, None::<&str>)?;
    let rootfs = dir.join("rootfs");
    for (dir, mode) in [(&plan.upper, 0o755), (&plan.work, 0o700), (&rootfs, 0o755)] {
        disk::make_dir(dir, mode)?;
    }
    layers::overlay::mount(&plan.lower, Some((&plan.upper, &plan.work)), &rootfs, false)?;
    let root = Root::open(&rootfs)?;
    for bind in plan.mounts.iter().filter(|b| b.kind == "bind" && b.source.is_dir()) {
        // By the descriptor of the place, not by its name.
        let place = root.mkdir_all(&bind.target, 0o755)?;
        let place = Path::new("/proc/self/fd").join(place.as_raw_fd().to_string());
        mount(Some(&bind.source), &place, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)?;
        if bind.options.iter().any(|o| o == "ro") {
            let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
            let mounted = root.open_with(&bind.target, nix::fcntl::OFlag::O_PATH, 0)?;
            let mounted = Path::new("/proc/self/fd").join(mounted.as_raw_fd().to_string());
            mount(None::<&str>, &mounted, None::<&str>, flags, None::<&str>)?;
        }
    }
    Ok(rootfs)
}

fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits())
}

fn describe(root: &Root, path: &Path, stat: &FileStat) -> Stat {
    // Go's os.FileMode: permissions below, kinds above.
    let mut mode = stat.st_mode & 0o777;
    for (bit, go) in [(0o4000, 23), (0o2000, 22), (0o1000, 20)] {
        if stat.st_mode & bit != 0 {
            mode |= 1 << go;
        }
    }
    mode |= match kind(stat) {
        SFlag::S_IFDIR => 1 << 31,
        SFlag::S_IFLNK => 1 << 27,
        SFlag::S_IFBLK => 1 << 26,
        SFlag::S_IFCHR => 1 << 26 | 1 << 21,
        SFlag::S_IFIFO => 1 << 25,
        SFlag::S_IFSOCK => 1 << 24,
        _ => 0,
    };
    let link = kind(stat) == SFlag::S_IFLNK;
    // Where it leads, in the container's own paths; what leads nowhere is shown as it is written.
    let target = if link {
        root.resolve(path).or_else(|_| root.read_link(path)).unwrap_or_default()
    } else {
        PathBuf::new()
    };
    let nanos = i32::try_from(stat.st_mtime_nsec).unwrap_or_default();
    let mtime = jiff::Timestamp::new(stat.st_mtime, nanos).unwrap_or_default();
    Stat {
        name: path.file_name().map_or_else(|| "/".into(), |n| n.to_string_lossy().into_owned()),
        size: stat.st_size,
        mode,
        mtime: mtime.to_string(),
        link_target: target.to_string_lossy().into_owned(),
    }
}
