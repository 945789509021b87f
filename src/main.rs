//! teu: a container engine that you can read.
//!
//! One program in four roles, chosen here before anything else is set up:
//!
//! | role | what it is |
//! |---|---|
//! | [`client`] | what a user types; speaks the Docker Engine API |
//! | [`server`] | the daemon that answers it, over the state that [`engine`] keeps |
//! | [`monitor`] | the small process beside each container |
//! | the tour, the doctor | [`tour`], [`doctor`] |

#![recursion_limit = "256"]

mod base;
mod client;
mod doctor;
mod engine;
mod explain;
mod monitor;
mod paths;
mod server;
mod tour;

use std::process::ExitCode;

fn main() -> ExitCode {
    // A monitor lives as long as its container: it must not pay for what the other roles set up.
    if std::env::args_os().nth(1).is_some_and(|a| a == monitor::ROLE) {
        return monitor::main();
    }
    client::main()
}
