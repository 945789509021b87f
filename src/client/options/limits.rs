//! What a container may use: the flags that `run` and `create` share with `update`.

use super::values::nano_cpus;
use crate::client::size;
use anyhow::Result;
use bollard_stubs::models::ContainerUpdateBody;

/// Under which they stand in the help.
const HEADING: &str = "Limits";

/// The flags.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Limits {
    /// The quota's period, in microseconds
    #[arg(long, value_name = "µs", help_heading = HEADING)]
    cpu_period: Option<i64>,
    /// Processor time in each period, in microseconds
    #[arg(long, value_name = "µs", help_heading = HEADING)]
    cpu_quota: Option<i64>,
    /// Weight against other containers when processors are busy
    #[arg(short, long, value_name = "WEIGHT", help_heading = HEADING)]
    cpu_shares: Option<i64>,
    /// How many processors it may keep busy (1.5)
    #[arg(long, value_name = "NUMBER", help_heading = HEADING)]
    cpus: Option<String>,
    /// Which processors it may use (0-3, 0,1)
    #[arg(long, value_name = "LIST", help_heading = HEADING)]
    cpuset_cpus: Option<String>,
    /// Which memory nodes it may use
    #[arg(long, value_name = "LIST", help_heading = HEADING)]
    cpuset_mems: Option<String>,
    /// The most memory it may use (64m, 1g)
    #[arg(short, long, value_name = "BYTES", help_heading = HEADING)]
    memory: Option<String>,
    /// Memory that it is pushed back to when the host runs short
    #[arg(long, value_name = "BYTES", help_heading = HEADING)]
    memory_reservation: Option<String>,
    /// Memory and swap together; -1 for any amount
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true, help_heading = HEADING)]
    memory_swap: Option<String>,
    /// The most processes and threads; -1 for any number
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true, help_heading = HEADING)]
    pids_limit: Option<i64>,
}

impl Limits {
    /// In the API's units, which are the same when a container is made and when it is changed.
    pub(crate) fn body(&self) -> Result<ContainerUpdateBody> {
        let bytes = |text: &Option<String>| text.as_deref().map(size::parse).transpose();
        Ok(ContainerUpdateBody {
            cpu_period: self.cpu_period,
            cpu_quota: self.cpu_quota,
            cpu_shares: self.cpu_shares,
            cpuset_cpus: self.cpuset_cpus.clone(),
            cpuset_mems: self.cpuset_mems.clone(),
            memory: bytes(&self.memory)?,
            memory_reservation: bytes(&self.memory_reservation)?,
            memory_swap: match self.memory_swap.as_deref() {
                Some("-1") => Some(-1),
                _ => bytes(&self.memory_swap)?,
            },
            nano_cpus: self.cpus.as_deref().map(nano_cpus).transpose()?,
            pids_limit: self.pids_limit,
            ..ContainerUpdateBody::default()
        })
    }
}
