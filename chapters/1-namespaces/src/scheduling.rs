//! How the process is scheduled: policy, I/O priority, CPUs, memory nodes, personality (config.md,
//! "scheduler", "ioPriority", "execCPUAffinity"; config-linux.md, "memoryPolicy", "personality").

use crate::{
    Result,
    error::{Doing, invalid},
};
use nix::{
    errno::Errno,
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};
use oci_spec::runtime::{
    IOPriorityClass, Linux, LinuxMemoryPolicy, LinuxPersonality, LinuxPersonalityDomain,
    LinuxSchedulerFlag as Flag, LinuxSchedulerPolicy as Policy, MemoryPolicyFlagType as NodeFlag,
    MemoryPolicyModeType as Mode, Process, Scheduler,
};

/// Sets on this process what the configuration asks for. All of it survives the execve.
pub(crate) fn apply(process: &Process, linux: Option<&Linux>) -> Result<()> {
    if let Some(scheduler) = process.scheduler() {
        set_scheduler(scheduler)?;
    }
    if let Some(priority) = process.io_priority() {
        let class = match priority.class() {
            IOPriorityClass::IoprioClassRt => 1,
            IOPriorityClass::IoprioClassBe => 2,
            IOPriorityClass::IoprioClassIdle => 3,
        };
        let value = class << 13 | priority.priority();
        // SAFETY: three integers; who = 1 means a process, 0 this one.
        Errno::result(unsafe { libc::syscall(libc::SYS_ioprio_set, 1, 0, value) })
            .doing(|| format!("set the I/O priority {} {}", priority.class(), priority.priority()))?;
    }
    if let Some(personality) = linux.and_then(|l| l.personality().as_ref()) {
        set_personality(personality)?;
    }
    linux.and_then(|l| l.memory_policy().as_ref()).map_or(Ok(()), set_memory_policy)
}

/// Where the runtime was told to run (taskset(1), a service's CPUAffinity) says nothing about the container: it starts on all
/// CPUs, of which the kernel leaves those of its cpuset.
pub(crate) fn all_cpus() {
    let mut set = CpuSet::new();
    // A set can hold every number below its count.
    for cpu in 0..CpuSet::count() {
        let _ = set.set(cpu);
    }
    // Where it may not be changed (a filter), it stays as it is.
    let _ = sched_setaffinity(Pid::from_raw(0), &set);
}

/// `execCPUAffinity.final`: for a process that joins a container, once it is in its cgroup.
pub(crate) fn affinity(process: &Process, initial: bool) -> Result<()> {
    let Some(wanted) = process.exec_cpu_affinity() else { return Ok(()) };
    let list = if initial { wanted.initial() } else { wanted.cpu_affinity_final() };
    let Some(list) = list.as_deref().filter(|l| !l.is_empty()) else { return Ok(()) };
    let mut set = CpuSet::new();
    for cpu in numbers(list, "execCPUAffinity")? {
        set.set(cpu).doing(|| format!("execCPUAffinity: CPU {cpu}"))?;
    }
    sched_setaffinity(Pid::from_raw(0), &set).doing(|| format!("run on the CPUs {list}"))
}

/// The CPUs of `execCPUAffinity.initial` as a mask, for who looks at the steps.
pub(crate) fn initial_mask(process: &Process) -> Option<u64> {
    let list = process.exec_cpu_affinity().as_ref()?.initial().as_deref()?;
    let cpus = numbers(list, "execCPUAffinity").ok()?;
    Some(cpus.into_iter().filter(|cpu| *cpu < 64).fold(0, |mask, cpu| mask | 1 << cpu))
}

/// From which NUMA nodes the process gets its memory (set_mempolicy(2)).
fn set_memory_policy(wanted: &LinuxMemoryPolicy) -> Result<()> {
    let mode = match wanted.mode() {
        Mode::MpolDefault => libc::MPOL_DEFAULT,
        Mode::MpolPreferred => libc::MPOL_PREFERRED,
        Mode::MpolBind => libc::MPOL_BIND,
        Mode::MpolInterleave => libc::MPOL_INTERLEAVE,
        Mode::MpolLocal => libc::MPOL_LOCAL,
        Mode::MpolPreferredMany => 5,
        Mode::MpolWeightedInterleave => 6,
    };
    let flag = |flag: &NodeFlag| match flag {
        NodeFlag::MpolFNumaBalancing => libc::MPOL_F_NUMA_BALANCING,
        NodeFlag::MpolFRelativeNodes => libc::MPOL_F_RELATIVE_NODES,
        NodeFlag::MpolFStaticNodes => libc::MPOL_F_STATIC_NODES,
    };
    let flags = wanted.flags().iter().flatten().map(flag).fold(0, |all, f| all | f);
    let list = wanted.nodes().as_deref().unwrap_or_default();
    let mut mask = [0u64; 16];
    for node in if list.is_empty() {
        Vec::new()
    } else {
        numbers(list, "linux.memoryPolicy.nodes: invalid memory policy node")?
    } {
        match mask.get_mut(node / 64) {
            Some(word) => *word |= 1 << (node % 64),
            None => return invalid(format!("linux.memoryPolicy.nodes: there is no node {node}")),
        }
    }
    let (nodes, bits) =
        if list.is_empty() { (std::ptr::null(), 0) } else { (mask.as_ptr(), size_of_val(&mask) * 8) };
    // SAFETY: the kernel reads so many bits of the mask, and none where there is none.
    Errno::result(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode | flags, nodes, bits) })
        .map(drop)
        .doing(|| format!("set the memory policy {} of the nodes {list:?}", wanted.mode()))
}

/// "0-3,7".
fn numbers(list: &str, field: &str) -> Result<Vec<usize>> {
    let mut all = Vec::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        match (first.trim().parse::<usize>(), last.trim().parse::<usize>()) {
            (Ok(first), Ok(last)) if first <= last && last < 1 << 16 => all.extend(first..=last),
            _ => return invalid(format!("{field}: {list} is no list of numbers and ranges")),
        }
    }
    Ok(all)
}

/// The kernel's `struct sched_attr` (sched_setattr(2)).
#[repr(C)]
#[derive(Default)]
struct SchedAttr {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

fn set_scheduler(wanted: &Scheduler) -> Result<()> {
    let flag = |flag: &Flag| match flag {
        Flag::SchedResetOnFork => 0x01,
        Flag::SchedFlagReclaim => 0x02,
        Flag::SchedFlagDLOverrun => 0x04,
        Flag::SchedFlagKeepPolicy => 0x08,
        Flag::SchedFlagKeepParams => 0x10,
        Flag::SchedFlagUtilClampMin => 0x20,
        Flag::SchedFlagUtilClampMax => 0x40,
    };
    let attr = SchedAttr {
        size: size_of::<SchedAttr>() as u32,
        policy: match wanted.policy() {
            Policy::SchedOther => 0,
            Policy::SchedFifo => 1,
            Policy::SchedRr => 2,
            Policy::SchedBatch => 3,
            Policy::SchedIso => 4,
            Policy::SchedIdle => 5,
            Policy::SchedDeadline => 6,
        },
        flags: wanted.flags().iter().flatten().map(flag).fold(0, |all, f| all | f),
        nice: wanted.nice().unwrap_or(0),
        priority: wanted.priority().unwrap_or(0) as u32,
        runtime: wanted.runtime().unwrap_or(0),
        deadline: wanted.deadline().unwrap_or(0),
        period: wanted.period().unwrap_or(0),
    };
    // SAFETY: the structure is the kernel's and says its own size.
    Errno::result(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) })
        .map(drop)
        .doing(|| {
            format!(
                "set the scheduler {} (SCHED_DEADLINE needs all CPUs: this process scheduler can't be used together with \
                 AllowedCPUs, that is, a cpuset)",
                wanted.policy()
            )
        })
}

fn set_personality(wanted: &LinuxPersonality) -> Result<()> {
    // "Additional flags; at present none are defined" (config-linux.md).
    if wanted.flags().as_ref().is_some_and(|flags| !flags.is_empty()) {
        return invalid("linux.personality.flags: no flag is defined");
    }
    let persona = match wanted.domain() {
        LinuxPersonalityDomain::PerLinux => 0,
        LinuxPersonalityDomain::PerLinux32 => 0x8, // PER_LINUX32
    };
    // SAFETY: one integer.
    Errno::result(unsafe { libc::personality(persona) })
        .map(drop)
        .doing(|| format!("set the personality {}", wanted.domain()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_numbers() {
        assert_eq!(numbers("0-2,5", "x").unwrap(), [0, 1, 2, 5]);
        assert!(["2-1", "", "a", "1-", "99999999"].iter().all(|list| numbers(list, "x").is_err()));
    }
}
