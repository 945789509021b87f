//! `cgroups limit --memory 64m -- COMMAND`: a group of its own for one command, and at its end what it used.

use crate::{cli::bytes, show};
use anyhow::{Context, Result, bail};
use cgroups::cgroup::Cgroup;
use clap::Args;
use nix::{
    sys::{
        signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};
use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxPids, LinuxResources, LinuxThrottleDevice,
};
use std::{
    io::Write,
    os::unix::{fs::MetadataExt, process::CommandExt},
    process::Command,
    time::Instant,
};

/// The limits, and the command.
#[derive(Args)]
pub(crate) struct Limit {
    /// Memory (64m, 1.5g)
    #[arg(short, long, value_parser = bytes)]
    pub(crate) memory: Option<i64>,
    /// Memory and swap together; -1 for no limit
    #[arg(long, value_parser = bytes, allow_negative_numbers = true)]
    pub(crate) memory_swap: Option<i64>,
    /// Memory that is left to it when others want more
    #[arg(long, value_parser = bytes)]
    pub(crate) memory_reservation: Option<i64>,
    /// How many processors' worth of time (0.5)
    #[arg(long, value_name = "N")]
    pub(crate) cpus: Option<f64>,
    /// The same by hand: how long a period is, in microseconds
    #[arg(long, value_name = "US", conflicts_with = "cpus")]
    pub(crate) cpu_period: Option<u64>,
    /// And how much processor time there is in each, in microseconds
    #[arg(long, value_name = "US", conflicts_with = "cpus", allow_negative_numbers = true)]
    pub(crate) cpu_quota: Option<i64>,
    /// Its weight against others, 1024 being the usual one
    #[arg(short, long, value_name = "N")]
    pub(crate) cpu_shares: Option<u64>,
    /// On which processors (0-2,5)
    #[arg(long, value_name = "LIST")]
    pub(crate) cpuset_cpus: Option<String>,
    /// On which memory nodes
    #[arg(long, value_name = "LIST")]
    pub(crate) cpuset_mems: Option<String>,
    /// How many processes and threads
    #[arg(long, visible_alias = "pids-limit", value_name = "N")]
    pub(crate) pids: Option<i64>,
    /// Block I/O weight (10 to 1000)
    #[arg(long, value_name = "N")]
    pub(crate) blkio_weight: Option<u16>,
    /// Bytes per second read from a device (/dev/sda:1m)
    #[arg(long, value_name = "DEVICE:RATE")]
    pub(crate) device_read_bps: Vec<String>,
    /// Bytes per second written to a device
    #[arg(long, value_name = "DEVICE:RATE")]
    pub(crate) device_write_bps: Vec<String>,
    /// A file of cgroup v2 and its value (memory.high=32m is memory.high=33554432)
    #[arg(long, value_name = "FILE=VALUE")]
    pub(crate) unified: Vec<String>,
    /// The group's path; one below the caller's own by default
    #[arg(long, value_name = "PATH")]
    pub(crate) path: Option<String>,
    /// Print each limit's file and value
    #[arg(short = 'v', long, visible_alias = "verbose")]
    pub(crate) show: bool,
    /// Say nothing but what the command says
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<std::ffi::OsString>,
}

/// Runs the command and returns its exit code.
pub(crate) fn limit(options: &Limit) -> Result<i32> {
    let limits = resources(options)?;
    let path = options.path.clone().unwrap_or_else(|| format!("teu-limit-{}", std::process::id()));
    let cgroup = Cgroup::create(&path, Some(&limits))?;
    let code = run(options, &limits, &cgroup);
    // What the command left running has no limits to live under any more.
    cgroup.kill()?;
    cgroup.remove()?;
    code
}

fn run(options: &Limit, limits: &LinuxResources, cgroup: &Cgroup) -> Result<i32> {
    if options.show && !options.quiet {
        eprintln!("{}", show::settings(&cgroup.settings(limits)?));
    }
    // Blocked, not ignored: what a terminal sends reaches the command by itself, and what is sent to us we pass on.
    let mut signals = SigSet::empty();
    for signal in FORWARDED {
        signals.add(signal);
    }
    let mut before = SigSet::empty();
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&signals), Some(&mut before)).context("blocking signals")?;

    let start = Instant::now();
    let child = spawn(options, cgroup, before)?;
    let status = wait(child, &signals)?;
    let code = match status {
        WaitStatus::Exited(_, code) => code,
        WaitStatus::Signaled(_, signal, _) => 128 + signal as i32,
        other => bail!("waiting for the command: {other:?}"),
    };
    if !options.quiet {
        let stats = cgroup.stats()?;
        eprintln!("{}", show::used(&stats, start.elapsed()));
        let ooms = cgroup.oom_kills()?;
        if ooms > 0 {
            let limit = stats.memory.usage.limit;
            eprintln!("{}", show::oom(ooms, limit));
        }
        let refused = cgroup.refused_forks()?;
        if refused > 0 {
            eprintln!("{}", show::refused(refused, stats.pids.limit));
        }
    }
    Ok(code)
}

const FORWARDED: [Signal; 7] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGCHLD,
];

/// Starts the command inside the group.
fn spawn(options: &Limit, cgroup: &Cgroup, mask: SigSet) -> Result<Pid> {
    let mut command = Command::new(&options.command[0]);
    command.args(&options.command[1..]);
    // SAFETY: between fork and exec only sigprocmask(2) is called.
    unsafe {
        command.pre_exec(move || Ok(sigprocmask(SigmaskHow::SIG_SETMASK, Some(&mask), None)?));
    }
    let name = options.command[0].to_string_lossy().into_owned();
    match cgroup.spawn(&mut command)? {
        Ok(child) => Ok(Pid::from_raw(child.id() as i32)),
        Err(e) => Err(crate::NotExecuted::new(&name, e).into()),
    }
}

/// Waits for the command's end and passes signals on to it.
fn wait(child: Pid, signals: &SigSet) -> Result<WaitStatus> {
    loop {
        // A child that ended has sent SIGCHLD, so this is asked at least once after the end.
        match waitpid(child, Some(WaitPidFlag::WNOHANG)).context("waiting for the command")? {
            WaitStatus::StillAlive => {}
            ended => return Ok(ended),
        }
        let signal = signals.wait().context("waiting for a signal")?;
        // A terminal sends Ctrl-C to the whole foreground group, and the command is in it.
        let from_terminal = matches!(signal, Signal::SIGINT | Signal::SIGQUIT)
            && nix::unistd::tcgetpgrp(std::io::stdin()).is_ok_and(|g| g == nix::unistd::getpgrp());
        if signal != Signal::SIGCHLD && !from_terminal {
            let _ = kill(child, signal);
        }
        let _ = std::io::stderr().flush();
    }
}

/// The options as the spec's resources.
fn resources(o: &Limit) -> Result<LinuxResources> {
    let mut limits = LinuxResources::default();
    if o.memory.or(o.memory_swap).or(o.memory_reservation).is_some() {
        let mut memory = LinuxMemory::default();
        memory.set_limit(o.memory);
        memory.set_reservation(o.memory_reservation);
        memory.set_swap(o.memory_swap);
        limits.set_memory(Some(memory));
    }
    let mut cpu = LinuxCpu::default();
    cpu.set_period(o.cpu_period).set_quota(o.cpu_quota);
    if let Some(cpus) = o.cpus {
        // The kernel takes no quota below a millisecond.
        if !(cpus.is_finite() && cpus >= 0.01) {
            bail!("--cpus {cpus}: give at least 0.01");
        }
        cpu.set_period(Some(100_000)).set_quota(Some((cpus * 100_000.0).round() as i64));
    }
    cpu.set_shares(o.cpu_shares).set_cpus(o.cpuset_cpus.clone()).set_mems(o.cpuset_mems.clone());
    if cpu != LinuxCpu::default() {
        limits.set_cpu(Some(cpu));
    }
    if let Some(pids) = o.pids {
        let mut limit = LinuxPids::default();
        limit.set_limit(pids);
        limits.set_pids(Some(limit));
    }
    let mut blkio = LinuxBlockIo::default();
    blkio.set_weight(o.blkio_weight);
    if !o.device_read_bps.is_empty() {
        blkio.set_throttle_read_bps_device(Some(rates(&o.device_read_bps)?));
    }
    if !o.device_write_bps.is_empty() {
        blkio.set_throttle_write_bps_device(Some(rates(&o.device_write_bps)?));
    }
    if blkio != LinuxBlockIo::default() {
        limits.set_block_io(Some(blkio));
    }
    if !o.unified.is_empty() {
        let pair = |text: &String| match text.split_once('=') {
            Some((file, value)) => Ok((file.to_owned(), value.to_owned())),
            None => bail!("--unified {text}: write FILE=VALUE, as in memory.high=33554432"),
        };
        limits.set_unified(Some(o.unified.iter().map(pair).collect::<Result<_>>()?));
    }
    Ok(limits)
}

/// `/dev/sda:1m`, or the numbers `8:0:1m`.
fn rates(texts: &[String]) -> Result<Vec<LinuxThrottleDevice>> {
    let one = |text: &String| {
        let (device, rate) = text.rsplit_once(':').with_context(|| format!("{text}: write DEVICE:RATE"))?;
        let rate = cgroups::size::parse(rate).map_err(anyhow::Error::msg)?;
        let (major, minor) = match device.split_once(':') {
            Some((major, minor)) if !device.starts_with('/') => (major.parse()?, minor.parse()?),
            _ => {
                let number =
                    std::fs::metadata(device).with_context(|| format!("looking at {device}"))?.rdev();
                (nix::sys::stat::major(number) as i64, nix::sys::stat::minor(number) as i64)
            }
        };
        let throttle = oci_spec::runtime::LinuxThrottleDeviceBuilder::default();
        Ok(throttle.major(major).minor(minor).rate(rate).build()?)
    };
    texts.iter().map(one).collect()
}
