//! `teu tour` (`cargo tour`): the main job, step by step, on a machine that may have nothing but this program.
//!
//! Every step shows the command that a user would type, runs it, and shows what it printed; where the kernel
//! was asked something, the steps of `--explain` follow. Then the step checks what it has just claimed, and
//! the tour fails where that is not so. Everything lives in a directory of its own, with a daemon and a
//! registry of its own, and is gone afterwards, also after Ctrl-C ([`stage`]).

mod stage;
mod steps;

use crate::doctor;
use anyhow::Result;
use stage::Stage;
use std::process::ExitCode;

/// Walk through the main job: make an image, push it, pull it, build on it, run, limit and share it
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Tour {
    /// Go straight through, also on a terminal
    #[arg(short, long)]
    yes: bool,
}

/// `tour`. Succeeds only if every step did what it says.
pub(crate) fn main(args: &Tour) -> ExitCode {
    // First of all: it forks, and there may be no thread yet.
    let report = doctor::examine();
    let stage = match Stage::set_up(args.yes) {
        Ok(stage) => stage,
        Err(why) => {
            eprintln!("the tour cannot begin: {why:#}");
            return ExitCode::FAILURE;
        }
    };
    let walked = walk(&stage, &report);
    if let Err(why) = &walked {
        stage.wait_if_interrupted();
        eprintln!("\nThe tour stops here: {why:#}");
        stage.show_daemon_log();
    }
    match (walked, stage.clear_away()) {
        (Ok(()), Ok(())) => {
            println!("\nEverything that the tour made is gone again.");
            ExitCode::SUCCESS
        }
        (_, Err(why)) => {
            eprintln!("not everything could be cleared away: {why:#}");
            ExitCode::FAILURE
        }
        (Err(_), Ok(())) => ExitCode::FAILURE,
    }
}

/// The steps, in order.
fn walk(stage: &Stage, report: &doctor::Report) -> Result<()> {
    steps::machine(stage, report)?;
    steps::base(stage)?;
    let image = steps::pull(stage)?;
    steps::build(stage, &image)?;
    let pids = steps::run(stage)?;
    steps::namespaces(stage, &pids)?;
    steps::limit(stage, report)?;
    steps::share(stage, &pids)?;
    steps::read_on(stage);
    Ok(())
}
