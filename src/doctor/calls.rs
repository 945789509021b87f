//! System calls that are newer than some kernels, or that a filter forbids.

use super::{
    Check,
    probe::{call, check, essential, in_child, words},
};
use nix::errno::Errno;

/// Each of them, made with arguments that do nothing.
pub(super) fn checks() -> Vec<Check> {
    const GROUP: &str = "system calls";
    let there = |number, arguments| match call(number, arguments) {
        Errno::ENOSYS => Err("ENOSYS: the kernel does not know it".to_owned()),
        Errno::EPERM => Err("EPERM: a seccomp filter forbids it".to_owned()),
        _ => Ok(String::new()),
    };
    let into_cgroup = || {
        // A descriptor that cannot be open: a kernel that knows the flag says EBADF, one that does not, EINVAL or E2BIG.
        let arguments = libc::clone_args {
            flags: 0x2_0000_0000,
            exit_signal: 17,
            cgroup: 1 << 30,
            pidfd: 0,
            child_tid: 0,
            parent_tid: 0,
            stack: 0,
            stack_size: 0,
            tls: 0,
            set_tid: 0,
            set_tid_size: 0,
        };
        // SAFETY: the arguments outlive the call, and the size is theirs; no child is made, since the descriptor is bad.
        let done =
            unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<libc::clone_args>()) };
        match Errno::result(done) {
            Err(Errno::EBADF) => Ok(String::new()),
            Err(errno) => Err(words("clone3", errno)),
            Ok(_) => Err("the kernel took a descriptor that is none".into()),
        }
    };
    let filter = || {
        let action = libc::SECCOMP_RET_ERRNO;
        // SAFETY: asks about one action, a u32 that outlives the call (seccomp(2)).
        let done =
            unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, &raw const action) };
        Errno::result(done).map(|_| String::new()).map_err(|errno| words("seccomp", errno))
    };
    vec![
        essential(check(
            GROUP,
            "openat2",
            "paths inside an untrusted root (5.1)",
            there(libc::SYS_openat2, [-1, 0, 0, 0, 0]),
            "Linux 5.6 or later",
        )),
        check(
            GROUP,
            "clone3",
            "a start in one call (7.1)",
            there(libc::SYS_clone3, [0; 5]),
            "Linux 5.3 or later; older: clone",
        ),
        check(
            GROUP,
            "CLONE_INTO_CGROUP",
            "being born in one's group (7.2)",
            in_child(into_cgroup),
            "Linux 5.7 or later; older: moved after the birth",
        ),
        check(
            GROUP,
            "pidfd_open",
            "signals that cannot hit another process (7.1)",
            there(libc::SYS_pidfd_open, [-1, 0, 0, 0, 0]),
            "Linux 5.3 or later",
        ),
        check(
            GROUP,
            "mount_setattr",
            "read-only and idmapped mounts (7.1)",
            there(libc::SYS_mount_setattr, [-1, 0, 0, 0, 0]),
            "Linux 5.12 or later",
        ),
        check(
            GROUP,
            "seccomp filters",
            "--security-opt seccomp (7.1)",
            in_child(filter),
            "a kernel with CONFIG_SECCOMP_FILTER",
        ),
    ]
}
