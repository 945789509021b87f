//! `update`: other limits for a container that runs.

use crate::{
    cli::{Global, Update},
    oci,
};
use anyhow::{Context, Result};
use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxPids, LinuxResources};
use std::io::Read;

pub(crate) fn update(global: &Global, options: &Update) -> Result<()> {
    let limits = match &options.resources {
        Some(file) => read(file)?,
        None => limits(options),
    };
    Ok(oci::runtime(global).update(&options.id, &limits)?)
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
