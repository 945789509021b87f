//! The small process beside each container: makes it, keeps its log and its exit status, and outlives the daemon.

use std::process::ExitCode;

/// The first argument by which the daemon starts it.
pub(crate) const ROLE: &str = "monitor";

/// The monitor's main.
pub(crate) fn main() -> ExitCode {
    todo!()
}
