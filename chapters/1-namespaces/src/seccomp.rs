//! System call filters: from the OCI's `linux.seccomp` to a program for the kernel.
//!
//! The program is classic BPF over `struct seccomp_data` (seccomp(2)): architecture, number,
//! arguments. The usual compiler makes a chain of comparisons, one per call of the profile: 950
//! instructions for docker's. Here each architecture's rules become ranges of numbers with one
//! verdict, and a binary search over the ranges: docker's profile has some 70 of them, so a call
//! is judged in seven comparisons, and the kernel has far less to check and to compile.

mod agent;
mod bpf;
mod docker;
mod syscalls;

use crate::{
    Result,
    error::{Doing, invalid},
};
use bpf::{Insn, Range, Verdict};
use nix::errno::Errno;
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompFilterFlag as Flag, LinuxSyscall,
};

pub(crate) use agent::{agent, connect};
pub use docker::profile as docker_profile;

/// A filter, compiled.
pub struct Program {
    code: Vec<Insn>,
    flags: libc::c_ulong,
    agent: Option<agent::Agent>,
}

/// Compiles a filter. Names that an architecture does not have are skipped, as the profiles list
/// the calls of all; actions, operators and flags that we do not know are errors.
pub fn compile(filter: &LinuxSeccomp) -> Result<Program> {
    let default = action(filter.default_action(), filter.default_errno_ret())?;
    let rules = filter.syscalls().as_deref().unwrap_or_default();
    for rule in rules {
        action(rule.action(), rule.errno_ret())?; // also for names that no architecture here has
        if rule.names().is_empty() {
            return invalid("linux.seccomp: a rule names no system call");
        }
    }
    let calls = look_up(rules);
    let mut code = vec![Insn::load(bpf::ARCH)];
    for (audit, abi) in architectures(filter) {
        let mut ranges = vec![Range { start: 0, verdict: Verdict::Return(default) }];
        add_abi(&mut ranges, abi, &calls, default)?;
        let x32 = if abi == Abi::X86_64 { x32_ranges(filter, &calls, default)? } else { vec![] };
        code.extend(bpf::for_arch(audit, &ranges, &x32));
    }
    // A program for another architecture: the numbers would mean other calls.
    code.push(Insn::ret(KILL));
    if code.len() > bpf::LONGEST {
        return invalid(format!("linux.seccomp is too long for the kernel: {} instructions", code.len()));
    }
    Ok(Program { code, flags: flags(filter)?, agent: None })
}

impl Program {
    /// Who is to be told of the filter when it is installed.
    pub(crate) fn tell(self, agent: Option<agent::Agent>) -> Program {
        Program { agent, ..self }
    }

    /// Installs the filter on this process for ever (seccomp(2)).
    pub fn load(&self) -> Result<()> {
        let program = libc::sock_fprog { len: self.code.len() as u16, filter: self.code.as_ptr() as *mut _ };
        // SAFETY: the kernel copies the program; Insn has the layout of sock_filter.
        let done = unsafe {
            libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, self.flags, &raw const program)
        };
        let listener = Errno::result(done).doing(|| "load the seccomp filter".into())?;
        match &self.agent {
            Some(agent) => agent.send(listener as i32),
            None => Ok(()),
        }
    }

    /// Its instructions as the kernel takes them (`struct sock_filter`, eight bytes each).
    pub fn to_bytes(&self) -> Vec<u8> {
        let bytes =
            |i: &Insn| [i.code.to_ne_bytes(), [i.yes, i.no]].concat().into_iter().chain(i.k.to_ne_bytes());
        self.code.iter().flat_map(bytes).collect()
    }

    /// How many instructions it has.
    #[allow(clippy::len_without_is_empty)] // it never is
    pub fn len(&self) -> usize {
        self.code.len()
    }
}

const KILL: u32 = libc::SECCOMP_RET_KILL_PROCESS;

/// The number that the kernel takes for an action.
fn action(action: Action, errno: Option<u32>) -> Result<u32> {
    let data = errno.unwrap_or(libc::EPERM as u32);
    if data > 0xffff {
        return invalid(format!("linux.seccomp: errnoRet {data} is no errno"));
    }
    Ok(match action {
        Action::ScmpActKill | Action::ScmpActKillThread => libc::SECCOMP_RET_KILL_THREAD,
        Action::ScmpActKillProcess => libc::SECCOMP_RET_KILL_PROCESS,
        Action::ScmpActTrap => libc::SECCOMP_RET_TRAP,
        Action::ScmpActErrno => libc::SECCOMP_RET_ERRNO | data,
        Action::ScmpActTrace => libc::SECCOMP_RET_TRACE | data,
        Action::ScmpActLog => libc::SECCOMP_RET_LOG,
        Action::ScmpActAllow => libc::SECCOMP_RET_ALLOW,
        Action::ScmpActNotify => libc::SECCOMP_RET_USER_NOTIF,
    })
}

fn flags(filter: &LinuxSeccomp) -> Result<libc::c_ulong> {
    let listener = agent::check(filter)?;
    let mut flags = if listener { libc::SECCOMP_FILTER_FLAG_NEW_LISTENER } else { 0 };
    for flag in filter.flags().iter().flatten() {
        flags |= match flag {
            Flag::SeccompFilterFlagLog => libc::SECCOMP_FILTER_FLAG_LOG,
            // For all threads: there is one, and for a listener the kernel would want to be asked otherwise.
            Flag::SeccompFilterFlagTsync if listener => 0,
            Flag::SeccompFilterFlagTsync => libc::SECCOMP_FILTER_FLAG_TSYNC,
            Flag::SeccompFilterFlagSpecAllow => libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
            Flag::SeccompFilterFlagWaitKillableRecv if listener => WAIT_KILLABLE_RECV,
            // It says how a listener is interrupted, and there is none.
            Flag::SeccompFilterFlagWaitKillableRecv => 0,
        };
    }
    Ok(flags)
}

/// linux/seccomp.h.
const WAIT_KILLABLE_RECV: libc::c_ulong = 1 << 5;

/// A set of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Abi {
    X86_64,
    /// Only the calls that are numbered from 512 on: the others are those of x86_64, with a bit.
    X32,
    I386,
    Aarch64,
}

/// linux/audit.h.
const AUDIT_X86_64: u32 = 0xc000_003e;
const AUDIT_I386: u32 = 0x4000_0003;
const AUDIT_AARCH64: u32 = 0xc000_00b7;

/// The filter's architectures that this machine can run at all, its own first. Its own is
/// always among them (config-linux.md: "architectures", libseccomp's native one is implied).
fn architectures(filter: &LinuxSeccomp) -> Vec<(u32, Abi)> {
    if cfg!(target_arch = "aarch64") {
        return vec![(AUDIT_AARCH64, Abi::Aarch64)];
    }
    let mut all = vec![(AUDIT_X86_64, Abi::X86_64)];
    if asks(filter, Arch::ScmpArchX86) {
        all.push((AUDIT_I386, Abi::I386));
    }
    all
}

fn asks(filter: &LinuxSeccomp, arch: Arch) -> bool {
    filter.architectures().iter().flatten().any(|a| *a == arch)
}

/// What is different for x32 calls: those from 512 on, or, if x32 is not among the architectures,
/// that there are none.
fn x32_ranges(filter: &LinuxSeccomp, calls: &[Call], default: u32) -> Result<Vec<Range>> {
    let mut ranges = Vec::new();
    if asks(filter, Arch::ScmpArchX32) {
        bpf::add(&mut ranges, bpf::X32_BIT | 512, Verdict::Return(default));
        add_abi(&mut ranges, Abi::X32, calls, default)?;
    } else {
        bpf::add(&mut ranges, bpf::X32_BIT, Verdict::Return(KILL));
    }
    // A tracer that skips a call leaves -1: not a call of the x32 ABI.
    bpf::add(&mut ranges, u32::MAX, Verdict::Return(default));
    Ok(ranges)
}

/// A line of the table, and a rule that names it.
type Call<'a> = (&'static syscalls::Line, &'a LinuxSyscall);

/// Every name of every rule, looked up once for all ABIs: docker's profile has 450 names, and this is done while
/// somebody waits for a container.
fn look_up(rules: &[LinuxSyscall]) -> Vec<Call<'_>> {
    let line = |name: &str| {
        let at = syscalls::TABLE.binary_search_by(|(n, ..)| (*n).cmp(name)).ok()?;
        Some(&syscalls::TABLE[at])
    };
    let lines = |rule| LinuxSyscall::names(rule).iter().filter_map(|name| line(name)).map(move |l| (l, rule));
    rules.iter().flat_map(lines).collect()
}

/// The number of a call in an ABI.
fn number((name, x86_64, i386, aarch64): &syscalls::Line, abi: Abi) -> Option<u32> {
    let number = match abi {
        Abi::X32 => {
            let at = syscalls::X32_FROM_512.iter().position(|n| n == name)?;
            return Some(bpf::X32_BIT | (512 + at as u32));
        }
        Abi::I386 => i386,
        Abi::Aarch64 => aarch64,
        Abi::X86_64 => x86_64,
    };
    u32::try_from(*number).ok()
}

/// Adds the verdicts of one ABI, as ranges in rising order. The first rule that matches a call
/// decides; one without conditions always matches.
fn add_abi(ranges: &mut Vec<Range>, abi: Abi, calls: &[Call], default: u32) -> Result<()> {
    let mut calls: Vec<(u32, &LinuxSyscall)> =
        calls.iter().filter_map(|(line, rule)| Some((number(line, abi)?, *rule))).collect();
    // A stable sort: the rules for one call stay in their order.
    calls.sort_by_key(|(number, _)| *number);
    let mut newest = None;
    for one in calls.chunk_by(|a, b| a.0 == b.0) {
        let number = one[0].0;
        let verdict = Verdict::of(one.iter().map(|(_, rule)| *rule), default)?;
        bpf::add(ranges, number, verdict);
        bpf::add(ranges, number + 1, Verdict::Return(default));
        newest = Some(number + 1);
    }
    // A call newer than every one that the profile knows answers "no such call" and not "forbidden":
    // programs then fall back to an older call, as they would on an older kernel.
    let is_errno = default & libc::SECCOMP_RET_ACTION_FULL == libc::SECCOMP_RET_ERRNO;
    if let Some(start) = newest.filter(|_| is_errno) {
        let verdict = Verdict::Return(libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32);
        bpf::add(ranges, start, verdict);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
