//! What is set on the process from outside, by its parent: limits and the OOM score. A process in a
//! user namespace could not raise them, whatever it is root of; its parent may.

use crate::{Error, Result, error::Doing};
use nix::{errno::Errno, unistd::Pid};
use oci_spec::runtime::{PosixRlimit, PosixRlimitType as Limit, Process};
use std::fs;

/// Sets rlimits and oom_score_adj on the child while it waits.
pub(crate) fn from_outside(pid: Pid, process: &Process) -> Result<()> {
    for limit in process.rlimits().iter().flatten() {
        set_limit(pid, limit)?;
    }
    if let Some(score) = process.oom_score_adj() {
        let file = format!("/proc/{pid}/oom_score_adj");
        match fs::write(&file, score.to_string()) {
            Err(e) if e.raw_os_error() == Some(Errno::EACCES as i32) => {
                tracing::warn!("oom_score_adj {score} is lower than this user may set: left as it is")
            }
            other => other.doing(|| format!("write {score} to {file}"))?,
        }
    }
    Ok(())
}

/// prlimit(2). Raising a hard limit needs CAP_SYS_RESOURCE in the host's own user namespace. Where
/// we lack it the process gets as much as can be given, and a warning: docker's clients ask
/// for more open files than a user may have, and mean "as many as you can".
fn set_limit(pid: Pid, limit: &PosixRlimit) -> Result<()> {
    let name = limit.typ();
    if limit.soft() > limit.hard() {
        return Err(Error::Invalid(format!("process.rlimits: {name} is softer than its hard limit")));
    }
    let resource = number(name);
    let wanted = libc::rlimit64 { rlim_cur: limit.soft(), rlim_max: limit.hard() };
    match prlimit(pid, resource, Some(&wanted)) {
        Ok(_) => Ok(()),
        // No privilege helps against this one.
        Err(Errno::EPERM) if resource == libc::RLIMIT_NOFILE && limit.hard() > most_files() => {
            Err(Error::Invalid(format!(
                "process.rlimits: {name} {} is more than the kernel gives anybody (/proc/sys/fs/nr_open is {})",
                limit.hard(),
                most_files()
            )))
        }
        Err(Errno::EPERM) => {
            let now = prlimit(pid, resource, None).doing(|| format!("read {name} of {pid}"))?;
            let hard = limit.hard().min(now.rlim_max);
            let most = libc::rlimit64 { rlim_cur: limit.soft().min(hard), rlim_max: hard };
            tracing::warn!("{name} {} is more than may be given here: it is {hard}", limit.hard());
            prlimit(pid, resource, Some(&most)).doing(|| format!("set {name} to {hard}")).map(drop)
        }
        Err(errno) => Err(Error::Sys { doing: format!("set {name} to {}", limit.hard()), errno }),
    }
}

fn most_files() -> u64 {
    let text = fs::read_to_string("/proc/sys/fs/nr_open").unwrap_or_default();
    text.trim().parse().unwrap_or(u64::MAX)
}

fn prlimit(pid: Pid, what: u32, new: Option<&libc::rlimit64>) -> nix::Result<libc::rlimit64> {
    let mut old = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    let new = new.map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: both structures are the kernel's and live until the call returns.
    let done = unsafe { libc::prlimit64(pid.as_raw(), what as _, new, &raw mut old) };
    Errno::result(done).map(|_| old)
}

fn number(limit: Limit) -> u32 {
    match limit {
        Limit::RlimitCpu => libc::RLIMIT_CPU,
        Limit::RlimitFsize => libc::RLIMIT_FSIZE,
        Limit::RlimitData => libc::RLIMIT_DATA,
        Limit::RlimitStack => libc::RLIMIT_STACK,
        Limit::RlimitCore => libc::RLIMIT_CORE,
        Limit::RlimitRss => libc::RLIMIT_RSS,
        Limit::RlimitNproc => libc::RLIMIT_NPROC,
        Limit::RlimitNofile => libc::RLIMIT_NOFILE,
        Limit::RlimitMemlock => libc::RLIMIT_MEMLOCK,
        Limit::RlimitAs => libc::RLIMIT_AS,
        Limit::RlimitLocks => libc::RLIMIT_LOCKS,
        Limit::RlimitSigpending => libc::RLIMIT_SIGPENDING,
        Limit::RlimitMsgqueue => libc::RLIMIT_MSGQUEUE,
        Limit::RlimitNice => libc::RLIMIT_NICE,
        Limit::RlimitRtprio => libc::RLIMIT_RTPRIO,
        Limit::RlimitRttime => libc::RLIMIT_RTTIME,
    }
}
