//! What the reader's code may use, and what not even root may do in a check.

use nix::{
    errno::Errno,
    libc,
    sys::resource::{Resource, setrlimit},
};
use std::io;

/// Memory of one process, in bytes. (What all of them use together is limited by the grader's control group.)
const MEMORY: u64 = 4 << 30;

/// The largest file.
const FILE: u64 = 256 << 20;

/// Open files of one process.
const OPEN: u64 = 4096;

/// Processes of an ordinary user; root's are limited by the control group.
const PROCESSES: u64 = 1024;

/// Seconds of CPU time of one process.
const CPU: u64 = 60;

/// Capabilities that a container engine has no use for, and with which a check could be escaped or the machine be hurt:
/// files by handle, modules, raw devices, reboot, clocks, the kernel's log, policies.
const DROPPED: [libc::c_ulong; 10] = [2, 16, 17, 22, 25, 30, 32, 33, 34, 35];

/// Applies all of it to this process, which is about to execute a program. Only system calls.
pub(super) fn apply() -> io::Result<()> {
    let limits = [
        (Resource::RLIMIT_CORE, 0),
        (Resource::RLIMIT_AS, MEMORY),
        (Resource::RLIMIT_FSIZE, FILE),
        (Resource::RLIMIT_NOFILE, OPEN),
        (Resource::RLIMIT_NPROC, PROCESSES),
        (Resource::RLIMIT_CPU, CPU),
    ];
    for (resource, most) in limits {
        lower(resource, most, most)?;
    }
    for capability in DROPPED {
        // SAFETY: prctl(2) with numbers only.
        let done = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
        // An older kernel does not know the newest ones: then nobody has them.
        if done != 0 && Errno::last() != Errno::EINVAL {
            return Err(io::Error::last_os_error());
        }
    }
    no_disks()
}

/// Sets a limit, if it is below the one that there is.
pub(super) fn lower(resource: Resource, soft: u64, hard: u64) -> io::Result<()> {
    let (_, now) = nix::sys::resource::getrlimit(resource)?;
    // A hard limit is never raised: that would need CAP_SYS_RESOURCE.
    Ok(setrlimit(resource, soft.min(now), hard.min(now))?)
}

/// Closes, when a program is executed, what this process holds open beside its three: also what the grader itself was started
/// with, a terminal or a pipe of somebody's.
pub(super) fn close_the_rest() -> io::Result<()> {
    // SAFETY: close_range(2) with numbers only.
    let done = unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(target_arch = "x86_64")]
const ARCH: u32 = 0xc000_003e; // AUDIT_ARCH_X86_64, linux/audit.h
#[cfg(target_arch = "aarch64")]
const ARCH: u32 = 0xc000_00b7; // AUDIT_ARCH_AARCH64

#[cfg(target_arch = "x86_64")]
const MKNOD: u32 = libc::SYS_mknod as u32;
#[cfg(not(target_arch = "x86_64"))]
const MKNOD: u32 = u32::MAX; // there is only mknodat(2)

/// A seccomp filter (seccomp(2)) that refuses to make a block device: with one, and mount(2), root would see the host's disk
/// and on it the course. The machine's own devices it cannot open either: the control group refuses.
fn no_disks() -> io::Result<()> {
    let load = |offset| step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, offset);
    let equal = |value, yes, no| step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, yes, no, value);
    let ret = |value| step(libc::BPF_RET | libc::BPF_K, 0, 0, value);
    let program = [
        load(4), // seccomp_data.arch
        equal(ARCH, 0, 11),
        load(0), // seccomp_data.nr
        // The x32 calls are the same ones under other numbers.
        step(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 9, 0, 0x4000_0000),
        equal(MKNOD, 3, 0),
        equal(libc::SYS_mknodat as u32, 0, 6),
        load(16 + 2 * 8), // the mode is mknodat's third argument
        step(libc::BPF_JMP | libc::BPF_JA, 0, 0, 1),
        load(16 + 8), // and mknod's second
        step(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, 0, 0, libc::S_IFMT),
        equal(libc::S_IFBLK, 0, 1),
        ret(libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        ret(libc::SECCOMP_RET_ALLOW),
        ret(libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32),
    ];
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
    // SAFETY: the kernel copies the program, which lives until then.
    let done = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn step(code: u32, yes: u8, no: u8, value: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt: yes, jf: no, k: value }
}
