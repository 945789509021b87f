//! The command line.

use std::process::ExitCode;

/// Parses the command line and does what it says.
pub(crate) fn main() -> ExitCode {
    todo!()
}
