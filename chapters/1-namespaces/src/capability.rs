//! Capabilities as the kernel has them: five sets of bits (capabilities(7)).
//!
//! Bounding: what an execve may ever give again. Permitted: what the process may use. Effective:
//! what it uses now. Inheritable and ambient: what passes through an execve; docker leaves
//! both empty (CVE-2022-24769 is what an inheritable set gives away).

use crate::{Result, error::Doing, talk::Talk};
use nix::errno::Errno;
use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities};

/// In the kernel's order: the index is the number (linux/capability.h).
const NUMBERS: [Capability; 41] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::DacReadSearch,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setpcap,
    Capability::LinuxImmutable,
    Capability::NetBindService,
    Capability::NetBroadcast,
    Capability::NetAdmin,
    Capability::NetRaw,
    Capability::IpcLock,
    Capability::IpcOwner,
    Capability::SysModule,
    Capability::SysRawio,
    Capability::SysChroot,
    Capability::SysPtrace,
    Capability::SysPacct,
    Capability::SysAdmin,
    Capability::SysBoot,
    Capability::SysNice,
    Capability::SysResource,
    Capability::SysTime,
    Capability::SysTtyConfig,
    Capability::Mknod,
    Capability::Lease,
    Capability::AuditWrite,
    Capability::AuditControl,
    Capability::Setfcap,
    Capability::MacOverride,
    Capability::MacAdmin,
    Capability::Syslog,
    Capability::WakeAlarm,
    Capability::BlockSuspend,
    Capability::AuditRead,
    Capability::Perfmon,
    Capability::Bpf,
    Capability::CheckpointRestore,
];

/// A set as bits.
fn bits(set: &Option<Capabilities>) -> u64 {
    let set = set.iter().flatten();
    set.filter_map(|c| NUMBERS.iter().position(|n| n == c)).fold(0, |bits, n| bits | 1 << n)
}

/// Takes everything out of the bounding set that is not wanted. Needs CAP_SETPCAP, so it comes
/// before the permitted set shrinks.
pub(crate) fn bound(wanted: &LinuxCapabilities) -> Result<()> {
    let keep = bits(wanted.bounding());
    for number in (0..63).filter(|n| keep & 1 << n == 0) {
        match prctl(libc::PR_CAPBSET_DROP, number, 0) {
            Err(Errno::EINVAL) => break, // past the last one that this kernel knows
            other => other.doing(|| format!("drop capability {number} from the bounding set"))?,
        }
    }
    Ok(())
}

/// After a change of user the effective set is empty, and the permitted one, by `keep_over_setuid`,
/// still full: what is left to do as root needs it back.
pub(crate) fn regain() -> Result<()> {
    let Sets { permitted, inheritable, .. } = get()?;
    set(Sets { effective: permitted, permitted, inheritable })
}

/// Keeps the permitted set over setuid(2).
pub(crate) fn keep_over_setuid() -> Result<()> {
    prctl(libc::PR_SET_KEEPCAPS, 1, 0).doing(|| "keep capabilities over the change of user".into())
}

/// Tells which of the wanted capabilities this process does not have and cannot give: the
/// specification wants a warning, not a failure (config.md, "capabilities").
pub(crate) fn warn_of_missing(wanted: &LinuxCapabilities, talk: &Talk) -> Result<()> {
    let missing = bits(wanted.permitted()) & !get()?.permitted;
    if missing != 0 {
        let names = (0..NUMBERS.len()).filter(|n| missing & 1 << n != 0).map(|n| NUMBERS[n].to_string());
        let names = names.collect::<Vec<_>>().join(" ");
        talk.warn(&format!("capabilities that cannot be given here: {names}"));
    }
    Ok(())
}

/// Sets the rest: effective, permitted, inheritable, ambient, as far as this process has them.
pub(crate) fn limit(wanted: &LinuxCapabilities) -> Result<()> {
    let have = get()?.permitted;
    let permitted = bits(wanted.permitted()) & have;
    let inheritable = bits(wanted.inheritable()) & have;
    set(Sets { effective: bits(wanted.effective()) & permitted, permitted, inheritable })?;
    // The kernel empties it on a change of user, but not when root stays root.
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as u64, 0)
        .doing(|| "clear the ambient capabilities".into())?;
    let ambient = bits(wanted.ambient()) & permitted & inheritable;
    for number in (0..63).filter(|n| ambient & 1 << n != 0) {
        prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE as u64, number)
            .doing(|| format!("raise the ambient capability {number}"))?;
    }
    Ok(())
}

#[derive(Clone, Copy)]
struct Sets {
    effective: u64,
    permitted: u64,
    inheritable: u64,
}

/// The kernel's structures for capget(2) and capset(2), version 3: two halves of 32 bits.
#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Default)]
struct Half {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

const VERSION_3: u32 = 0x2008_0522;

fn get() -> Result<Sets> {
    let mut header = Header { version: VERSION_3, pid: 0 };
    let mut halves = [Half::default(), Half::default()];
    // SAFETY: both structures are the kernel's, version 3 writes two halves.
    let done = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, halves.as_mut_ptr()) };
    Errno::result(done).doing(|| "read the capabilities".into())?;
    let both = |field: fn(&Half) -> u32| u64::from(field(&halves[0])) | u64::from(field(&halves[1])) << 32;
    Ok(Sets {
        effective: both(|h| h.effective),
        permitted: both(|h| h.permitted),
        inheritable: both(|h| h.inheritable),
    })
}

fn set(sets: Sets) -> Result<()> {
    let header = Header { version: VERSION_3, pid: 0 };
    let half = |shift: u32| Half {
        effective: (sets.effective >> shift) as u32,
        permitted: (sets.permitted >> shift) as u32,
        inheritable: (sets.inheritable >> shift) as u32,
    };
    let halves = [half(0), half(32)];
    // SAFETY: both structures are the kernel's, version 3 reads two halves.
    let done = unsafe { libc::syscall(libc::SYS_capset, &raw const header, halves.as_ptr()) };
    Errno::result(done).doing(|| "set the capabilities".into()).map(drop)
}

fn prctl(what: i32, a: u64, b: u64) -> nix::Result<()> {
    // SAFETY: these operations take integers only.
    Errno::result(unsafe { libc::prctl(what, a, b, 0u64, 0u64) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_kernels_order() {
        let number = |c| NUMBERS.iter().position(|n| *n == c);
        assert_eq!(number(Capability::Chown), Some(0));
        assert_eq!(number(Capability::SysAdmin), Some(21));
        assert_eq!(number(Capability::Setfcap), Some(31));
        assert_eq!(number(Capability::CheckpointRestore), Some(40));
        assert_eq!(bits(&Some([Capability::Chown, Capability::Kill].into())), 0b10_0001);
    }
}
