//! The time namespace: offsets to the monotonic and the boot-time clock (time_namespaces(7)). They
//! can be written only before the first process is in, so the namespace is made for later
//! children, gets its offsets, and is then joined.

use crate::{Result, error::Doing};
use nix::sched::{CloneFlags, setns, unshare};
use oci_spec::runtime::LinuxTimeOffset;
use std::{collections::HashMap, fs, fs::File};

/// CLONE_NEWTIME, which nix does not name.
const CLONE_NEWTIME: CloneFlags = CloneFlags::from_bits_retain(libc::CLONE_NEWTIME);

/// Makes and enters a time namespace with these offsets (`monotonic`, `boottime`).
pub(crate) fn enter_new(offsets: Option<&HashMap<String, LinuxTimeOffset>>) -> Result<()> {
    unshare(CLONE_NEWTIME).doing(|| "make a time namespace".into())?;
    let lines: String = offsets
        .into_iter()
        .flatten()
        .map(|(clock, o)| format!("{clock} {} {}\n", o.secs().unwrap_or(0), o.nanosecs().unwrap_or(0)))
        .collect();
    if !lines.is_empty() {
        fs::write("/proc/self/timens_offsets", &lines)
            .doing(|| format!("set the clock offsets {}", lines.trim()))?;
    }
    let own = File::open("/proc/self/ns/time_for_children").doing(|| "open the time namespace".into())?;
    setns(own, CLONE_NEWTIME).doing(|| "enter the time namespace".into())
}
