//! The daemon: the Docker Engine API on a unix socket.

use std::{path::PathBuf, process::ExitCode};

/// `teu daemon`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Where images, containers and volumes are kept
    #[arg(long, value_name = "DIR", default_value_os_t = crate::paths::data_root())]
    pub(crate) data_root: PathBuf,
    /// Where the state of what runs is kept
    #[arg(long, value_name = "DIR", default_value_os_t = crate::paths::exec_root())]
    pub(crate) exec_root: PathBuf,
    /// The socket to listen on
    #[arg(short = 'H', long, value_name = "unix://PATH", default_value_t = crate::paths::host())]
    pub(crate) host: String,
}

/// Runs the daemon until it is told to stop. Called before any thread or runtime exists.
pub(crate) fn main(options: &Options) -> ExitCode {
    let _ = options;
    todo!()
}
