//! What a container's root is made of: overlay, a proc of its own, idmapped mounts.

use super::{
    Check,
    probe::{Found, beside, check, enter, enter_as_user, essential, in_child, open, words},
};
use crate::paths;
use nix::{
    errno::Errno,
    mount::{MsFlags, mount},
    sched::CloneFlags,
    unistd::{Pid, geteuid},
};
use std::{
    ffi::CString,
    fs,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    path::Path,
};

/// Each of them, tried.
pub(super) fn checks() -> Vec<Check> {
    const GROUP: &str = "file systems";
    let as_user = in_child(|| {
        enter_as_user(CloneFlags::CLONE_NEWNS)?;
        overlay("userxattr")
    });
    let as_is = if geteuid().is_root() {
        in_child(|| {
            enter(CloneFlags::CLONE_NEWNS)?;
            overlay("")
        })
    } else {
        as_user.clone()
    };
    vec![
        essential(check(
            GROUP,
            "overlay",
            "every container's root (5.1)",
            as_is,
            "modprobe overlay; a kernel with CONFIG_OVERLAY_FS",
        )),
        check(
            GROUP,
            "overlay in a user namespace",
            "running without root (5.1)",
            as_user,
            "Linux 5.11 or later",
        ),
        essential(check(
            GROUP,
            "a new /proc",
            "seeing only one's own processes (7.1)",
            in_child(new_proc),
            "not inside a container that covers parts of /proc: run that one with --security-opt systempaths=unconfined",
        )),
        check(
            GROUP,
            "idmapped mounts",
            "layers shared between user namespaces (5.1)",
            in_child(idmapped),
            "Linux 5.12 or later, as root",
        ),
        check(
            GROUP,
            "/dev/fuse",
            "FUSE file systems in a container (--device)",
            open("/dev/fuse"),
            "modprobe fuse",
        ),
    ]
}

/// Covers /tmp with a tmpfs of this child's own, and mounts an overlay in it.
fn overlay(extra: &str) -> Found {
    scratch()?;
    for dir in ["lower", "upper", "work", "merged"] {
        fs::create_dir(Path::new("/tmp").join(dir)).map_err(|why| format!("mkdir: {why}"))?;
    }
    let comma = if extra.is_empty() { "" } else { "," };
    let options = format!("lowerdir=/tmp/lower,upperdir=/tmp/upper,workdir=/tmp/work{comma}{extra}");
    mount(Some("overlay"), "/tmp/merged", Some("overlay"), MsFlags::empty(), Some(options.as_str()))
        .map_err(|errno| words("mount overlay", errno))?;
    fs::write("/tmp/merged/file", "x").map_err(|why| format!("writing into it: {why}"))?;
    Ok(extra.to_owned())
}

/// A tmpfs over /tmp that nobody else sees.
fn scratch() -> Result<(), String> {
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>)
        .map_err(|errno| words("mount --make-rprivate /", errno))?;
    mount(Some("tmpfs"), "/tmp", Some("tmpfs"), MsFlags::empty(), None::<&str>)
        .map_err(|errno| words("mount tmpfs on /tmp", errno))
}

/// A proc for a new PID namespace can be mounted only by a process inside it.
fn new_proc() -> Found {
    enter(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID)?;
    in_child(|| {
        scratch()?;
        mount(Some("proc"), "/tmp", Some("proc"), MsFlags::empty(), None::<&str>)
            .map_err(|errno| words("mount proc", errno))?;
        Ok(String::new())
    })
}

/// A mount, of the file system where images are kept, seen with the ids of another user namespace.
fn idmapped() -> Found {
    if !geteuid().is_root() {
        return Err("only root may make one on the host's file systems".into());
    }
    beside(CloneFlags::CLONE_NEWUSER, map_mount)
}

/// The namespace is that of `holder`, which has no ids in it yet.
fn map_mount(holder: Pid) -> Found {
    for file in ["uid_map", "gid_map"] {
        fs::write(format!("/proc/{holder}/{file}"), "0 100000 65536")
            .map_err(|why| format!("{file}: {why}"))?;
    }
    let namespace =
        fs::File::open(format!("/proc/{holder}/ns/user")).map_err(|why| format!("open: {why}"))?;
    let root = paths::data_root();
    let directory = root.ancestors().find(|dir| dir.is_dir()).unwrap_or(Path::new("/"));
    let path = CString::new(directory.as_os_str().as_encoded_bytes()).map_err(|why| why.to_string())?;
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
    // SAFETY: `path` is a C string that outlives the call; the answer is a new descriptor or -1.
    let tree = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) };
    let tree = Errno::result(tree).map_err(|errno| words("open_tree", errno))?;
    // SAFETY: open_tree(2) has just given it to us.
    let tree = unsafe { OwnedFd::from_raw_fd(i32::try_from(tree).map_err(|why| why.to_string())?) };
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: u64::try_from(namespace.as_raw_fd()).map_err(|why| why.to_string())?,
    };
    // SAFETY: the empty path and the attributes outlive the call, and the size is theirs (mount_setattr(2)).
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    Errno::result(done).map_err(|errno| words("mount_setattr", errno))?;
    Ok(format!("on the file system of {}", directory.display()))
}
