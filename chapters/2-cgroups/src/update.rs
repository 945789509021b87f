//! `update`: other limits for a container that runs.

use crate::{
    cli::{Global, bytes},
    oci,
};
use anyhow::{Context, Result};
use clap::Args;
use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxPids, LinuxResources};
use std::{io::Read, path::PathBuf};

/// What may be changed.
#[derive(Args)]
pub(crate) struct Update {
    /// A JSON file with the fields of linux.resources; - is standard input
    #[arg(short, long, value_name = "FILE")]
    pub(crate) resources: Option<PathBuf>,
    /// Block I/O weight (10 to 1000)
    #[arg(long)]
    pub(crate) blkio_weight: Option<u16>,
    /// Period of the quota, in microseconds
    #[arg(long, allow_negative_numbers = true)]
    pub(crate) cpu_period: Option<u64>,
    /// Processor time in each period, in microseconds; -1 for no limit
    #[arg(long, allow_negative_numbers = true)]
    pub(crate) cpu_quota: Option<i64>,
    /// Processor time that may be saved up for a burst, in microseconds
    #[arg(long)]
    pub(crate) cpu_burst: Option<u64>,
    /// Weight against others, 1024 being the usual one
    #[arg(long, alias = "cpu-shares")]
    pub(crate) cpu_share: Option<u64>,
    /// Period of the real-time limit, in microseconds
    #[arg(long)]
    pub(crate) cpu_rt_period: Option<u64>,
    /// Real-time processor time in each period, in microseconds
    #[arg(long, allow_negative_numbers = true)]
    pub(crate) cpu_rt_runtime: Option<i64>,
    /// 1: runs only when nobody else wants to
    #[arg(long)]
    pub(crate) cpu_idle: Option<i64>,
    /// On which processors (0-2,5)
    #[arg(long)]
    pub(crate) cpuset_cpus: Option<String>,
    /// On which memory nodes
    #[arg(long)]
    pub(crate) cpuset_mems: Option<String>,
    /// Memory (64m, 1.5g); -1 for no limit
    #[arg(long, value_parser = bytes, allow_negative_numbers = true)]
    pub(crate) memory: Option<i64>,
    /// Memory that is left to it when others want more
    #[arg(long, value_parser = bytes, allow_negative_numbers = true)]
    pub(crate) memory_reservation: Option<i64>,
    /// Memory and swap together; -1 for no limit
    #[arg(long, value_parser = bytes, allow_negative_numbers = true)]
    pub(crate) memory_swap: Option<i64>,
    /// Accepted for runc's sake: the kernel counts its own memory in the limit
    #[arg(long, hide = true, value_parser = bytes, allow_negative_numbers = true)]
    pub(crate) kernel_memory: Option<i64>,
    /// Accepted for runc's sake: memory of TCP buffers
    #[arg(long, hide = true, value_parser = bytes, allow_negative_numbers = true)]
    pub(crate) kernel_memory_tcp: Option<i64>,
    /// How many processes and threads; -1 for no limit
    #[arg(long, allow_negative_numbers = true)]
    pub(crate) pids_limit: Option<i64>,
    /// The container's ID
    pub(crate) id: String,
}

pub(crate) fn update(global: &Global, options: &Update) -> Result<()> {
    let limits = match &options.resources {
        Some(file) => read(file)?,
        None => limits(options),
    };
    Ok(oci::runtime(global)?.update(&options.id, &limits)?)
}

/// The JSON of `linux.resources`. (containerd's shim sends it by standard input.)
fn read(file: &std::path::Path) -> Result<LinuxResources> {
    let mut text = Vec::new();
    if file.as_os_str() == "-" {
        std::io::stdin().read_to_end(&mut text).context("reading standard input")?;
    } else {
        text = std::fs::read(file).with_context(|| format!("reading {}", file.display()))?;
    }
    serde_json::from_slice(&text).with_context(|| format!("reading the limits in {}", file.display()))
}

fn limits(o: &Update) -> LinuxResources {
    let mut memory = LinuxMemory::default();
    memory.set_limit(o.memory).set_reservation(o.memory_reservation).set_swap(o.memory_swap);
    memory.set_kernel_tcp(o.kernel_memory_tcp);
    let mut cpu = LinuxCpu::default();
    cpu.set_shares(o.cpu_share)
        .set_quota(o.cpu_quota)
        .set_period(o.cpu_period)
        .set_burst(o.cpu_burst)
        .set_realtime_period(o.cpu_rt_period)
        .set_realtime_runtime(o.cpu_rt_runtime)
        .set_idle(o.cpu_idle)
        .set_cpus(o.cpuset_cpus.clone())
        .set_mems(o.cpuset_mems.clone());
    let mut blkio = LinuxBlockIo::default();
    blkio.set_weight(o.blkio_weight);
    let mut limits = LinuxResources::default();
    limits.set_devices(None).set_memory(Some(memory)).set_cpu(Some(cpu)).set_block_io(Some(blkio));
    limits.set_pids(o.pids_limit.map(|n| {
        let mut pids = LinuxPids::default();
        pids.set_limit(n);
        pids
    }));
    limits
}
