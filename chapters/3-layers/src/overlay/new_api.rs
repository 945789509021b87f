//! The new mount API (fsopen(2), fsconfig(2), fsmount(2), move_mount(2)): system calls that no crate of ours
//! wraps.

use nix::errno::Errno;
use std::{
    ffi::CStr,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

pub(super) fn fsopen(name: &CStr) -> nix::Result<OwnedFd> {
    // SAFETY: fsopen(2) reads a C string; what it returns is ours alone.
    unsafe { descriptor(libc::syscall(libc::SYS_fsopen, name.as_ptr(), libc::FSOPEN_CLOEXEC)) }
}

pub(super) fn fsconfig(
    context: &OwnedFd,
    command: u32,
    key: Option<&CStr>,
    value: Option<&CStr>,
) -> nix::Result<()> {
    let pointer = |text: Option<&CStr>| text.map_or(std::ptr::null(), CStr::as_ptr);
    // SAFETY: fsconfig(2) reads C strings that outlive the call, or null where the command has none.
    let result = unsafe {
        libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), command, pointer(key), pointer(value), 0)
    };
    Errno::result(result).map(drop)
}

pub(super) fn fsmount(context: &OwnedFd) -> nix::Result<OwnedFd> {
    // SAFETY: fsmount(2) takes only numbers; what it returns is ours alone.
    unsafe { descriptor(libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), libc::FSMOUNT_CLOEXEC, 0)) }
}

pub(super) fn move_mount(mount: &OwnedFd, target: &CStr) -> nix::Result<()> {
    // SAFETY: move_mount(2) reads two C strings that outlive the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            target.as_ptr(),
            libc::MOVE_MOUNT_F_EMPTY_PATH,
        )
    };
    Errno::result(result).map(drop)
}

/// # Safety
/// `result` is what a system call returned that makes a new descriptor.
unsafe fn descriptor(result: libc::c_long) -> nix::Result<OwnedFd> {
    let fd = Errno::result(result)? as i32;
    // SAFETY: the kernel has just made it, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
