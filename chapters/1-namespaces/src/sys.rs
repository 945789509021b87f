//! The system calls that neither std nor nix wraps: clone3 and the mount API of Linux 5.2.

use nix::{NixPath, errno::Errno, unistd::Pid};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

type Result<T> = nix::Result<T>;

/// clone(2) says of `CLONE_PIDFD`: the descriptor of the child is made together with it.
const CLONE_PIDFD: u64 = 0x1000;
/// Be born in the cgroup v2 directory given: no moment outside it, no migration.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
/// The child becomes a sibling of the caller: its parent is the caller's parent.
pub(crate) const CLONE_PARENT: u64 = 0x8000;

/// clone3(2), the way of fork: `None` in the child, which goes on with a copy of all memory.
/// A mother that passes `CLONE_PARENT` gives the child to her own parent.
pub(crate) fn clone3(flags: u64, cgroup: Option<BorrowedFd>) -> Result<Option<(Pid, OwnedFd)>> {
    // SAFETY: clone_args is plain integers, and zero means "not given" for each.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    let mut pidfd: RawFd = -1;
    args.flags = flags | CLONE_PIDFD;
    args.pidfd = &raw mut pidfd as u64;
    // A sibling's exit signal is the one of its mother, and clone3 wants a zero here.
    args.exit_signal = if flags & CLONE_PARENT == 0 { libc::SIGCHLD as u64 } else { 0 };
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: without CLONE_VM this is a fork: the child has its own copy of the memory and returns
    // here too. The callers are single-threaded, so no lock is held by a thread that is not copied.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of_val(&args)) };
    match Errno::result(pid)? {
        0 => Ok(None),
        // SAFETY: the kernel has stored a new descriptor that nobody else owns.
        pid => Ok(Some((Pid::from_raw(pid as i32), unsafe { OwnedFd::from_raw_fd(pidfd) }))),
    }
}

/// pidfd_open(2): a descriptor that means this process and never another with its number.
pub(crate) fn pidfd_open(pid: Pid) -> Result<OwnedFd> {
    // SAFETY: two integers.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) })
}

/// A path for `open_tree` that means "the descriptor itself".
pub(crate) const EMPTY: &std::ffi::CStr = c"";

/// open_tree(2) with `OPEN_TREE_CLONE`: a copy of a mount that is attached nowhere yet.
/// `AT_FDCWD` and a path, or a descriptor and [`EMPTY`].
pub(crate) fn open_tree(at: impl AsFd, path: &(impl NixPath + ?Sized), recursive: bool) -> Result<OwnedFd> {
    const OPEN_TREE_CLONE: libc::c_int = 1;
    let flags = OPEN_TREE_CLONE
        | libc::O_CLOEXEC
        | libc::AT_EMPTY_PATH
        | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path lives until the call returns, the rest are integers.
    let fd = path.with_nix_path(|path| unsafe {
        libc::syscall(libc::SYS_open_tree, at.as_fd().as_raw_fd(), path.as_ptr(), flags)
    })?;
    owned(fd)
}

/// move_mount(2) from descriptor to descriptor: no path is looked up, so none can be swapped.
pub(crate) fn move_mount(from: impl AsFd, to: impl AsFd) -> Result<()> {
    const F_EMPTY_PATH: libc::c_uint = 0x4;
    const T_EMPTY_PATH: libc::c_uint = 0x40;
    // SAFETY: two descriptors and two empty strings.
    let done = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            from.as_fd().as_raw_fd(),
            c"".as_ptr(),
            to.as_fd().as_raw_fd(),
            c"".as_ptr(),
            F_EMPTY_PATH | T_EMPTY_PATH,
        )
    };
    Errno::result(done).map(drop)
}

/// A tmpfs that is attached nowhere (fsopen(2), fsconfig(2), fsmount(2)).
pub(crate) fn new_tmpfs() -> Result<OwnedFd> {
    const FSCONFIG_CMD_CREATE: libc::c_int = 6;
    const CLOEXEC: libc::c_int = 1; // of these two calls
    let none = std::ptr::null::<libc::c_char>();
    // SAFETY: a name and an integer.
    let context = owned(unsafe { libc::syscall(libc::SYS_fsopen, c"tmpfs".as_ptr(), CLOEXEC) })?;
    let fd = context.as_raw_fd();
    // SAFETY: this command takes neither key nor value.
    let done = unsafe { libc::syscall(libc::SYS_fsconfig, fd, FSCONFIG_CMD_CREATE, none, none, 0) };
    Errno::result(done)?;
    // SAFETY: a descriptor, a flag, no attributes.
    owned(unsafe { libc::syscall(libc::SYS_fsmount, fd, CLOEXEC, 0) })
}

/// What mount_setattr(2) changes. The fields are the kernel's `struct mount_attr`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct MountAttr {
    pub(crate) set: u64,
    pub(crate) clear: u64,
    pub(crate) propagation: u64,
    pub(crate) userns: u64,
}

/// The attributes' numbers (linux/mount.h).
pub(crate) mod attr {
    pub(crate) const RDONLY: u64 = 0x1;
    pub(crate) const NOSUID: u64 = 0x2;
    pub(crate) const NODEV: u64 = 0x4;
    pub(crate) const NOEXEC: u64 = 0x8;
    /// The three access time modes are one field of the attributes: clear it whole to set one.
    pub(crate) const ATIME: u64 = 0x70;
    pub(crate) const RELATIME: u64 = 0x0;
    pub(crate) const NOATIME: u64 = 0x10;
    pub(crate) const STRICTATIME: u64 = 0x20;
    pub(crate) const NODIRATIME: u64 = 0x80;
    pub(crate) const IDMAP: u64 = 0x10_0000;
    pub(crate) const NOSYMFOLLOW: u64 = 0x20_0000;
}

/// mount_setattr(2): changes only the attributes named, so the others keep what the source had.
pub(crate) fn mount_setattr(mount: impl AsFd, attr: &MountAttr, recursive: bool) -> Result<()> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the structure is the kernel's and lives until the call returns.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            attr as *const MountAttr,
            size_of::<MountAttr>(),
        )
    };
    Errno::result(done).map(drop)
}

/// A new session keyring (keyctl(2), `KEYCTL_JOIN_SESSION_KEYRING`): the old one may hold secrets.
pub(crate) fn join_new_keyring() -> Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_int = 1;
    // SAFETY: a null name asks for an anonymous keyring.
    let done = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, 0) };
    Errno::result(done).map(drop)
}

/// setdomainname(2), which nix lacks.
pub(crate) fn setdomainname(name: &str) -> Result<()> {
    // SAFETY: the kernel reads so many bytes and wants no NUL.
    Errno::result(unsafe { libc::setdomainname(name.as_ptr().cast(), name.len()) }).map(drop)
}

/// Ends this process at once: no destructors, no buffers that the parent also has a copy of.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: never returns.
    unsafe { libc::_exit(code) }
}

fn owned(fd: libc::c_long) -> Result<OwnedFd> {
    let fd = Errno::result(fd)?;
    // SAFETY: the kernel has just made this descriptor for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}
