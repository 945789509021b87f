//! The command line of this chapter: an OCI runtime, and control groups by hand.
//!
//! | module | its commands |
//! |---|---|
//! | [`cli`] | what may be typed |
//! | [`oci`] | `create start state kill delete list ps …` |
//! | [`run`], [`exec`] | those two, which wait for a process |
//! | [`template`] | what `spec` writes |
//! | [`console`] | sending a terminal to whoever asked for it |
//! | [`update`], [`events`], [`features`] | those three |
//! | [`limit`], [`show`], [`words`] | `limit`, `stats`, `show`: groups by hand, and what is in their files |
//! | [`log`] | where errors, warnings and steps go |

mod cli;
mod console;
mod events;
mod exec;
mod features;
mod limit;
mod log;
mod oci;
mod run;
mod show;
mod template;
mod update;
mod words;

use cli::{Cli, Command};
use std::process::ExitCode;

fn main() -> ExitCode {
    let sealed = out_of_reach();
    let cli = cli::parse();
    log::steps(&cli.global, matches!(&cli.command, Command::Run(options) if options.explain));
    match sealed.and_then(|()| run(&cli)) {
        // 128 and a signal's number fit.
        Ok(code) => ExitCode::from(code as u8),
        Err(error) => {
            log::error(&cli.global, &error);
            // runc's, so that a failure of ours is not taken for one of the command's.
            let exec = matches!(cli.command, Command::Exec(_));
            ExitCode::from(if exec { 255 } else { exit_code(&error) })
        }
    }
}

/// Whoever lends its own program to a container's first process, for the time until its exec, must not be writable
/// from there (CVE-2019-5736). That means to execute it once more, so it is asked before anything else is done.
fn out_of_reach() -> anyhow::Result<()> {
    let lends = ["create", "run", "exec"];
    if std::env::args_os().any(|word| lends.iter().any(|l| word == *l)) {
        namespaces::sealed::ensure()?;
    }
    Ok(())
}

fn run(cli: &Cli) -> anyhow::Result<i32> {
    match &cli.command {
        Command::Run(options) => run::run(&cli.global, options),
        Command::Exec(options) => exec::exec(&cli.global, options),
        Command::Limit(options) => limit::limit(options),
        Command::Stats { groups, json } => show::stats_of(&cli.global, groups, *json).map(|()| 0),
        Command::Show { group } => show::limits_of(&cli.global, group.as_deref()).map(|()| 0),
        Command::Update(options) => update::update(&cli.global, options).map(|()| 0),
        Command::Events { stats, interval, id } => {
            events::events(&cli.global, id, *stats, *interval).map(|()| 0)
        }
        Command::Features => features::print().map(|()| 0),
        command => oci::command(&cli.global, command).map(|()| 0),
    }
}

/// A program that cannot be executed has its own two codes, as a shell has it; all else is 1.
fn exit_code(error: &anyhow::Error) -> u8 {
    if let Some(NotExecuted { code, .. }) = error.downcast_ref() {
        return *code;
    }
    match error.downcast_ref() {
        Some(cgroups::Error::Process(process)) => process.exit_code() as u8,
        _ => 1,
    }
}

/// A command that could not be executed: 127 if it is not there, 126 if it is.
#[derive(Debug, thiserror::Error)]
#[error("exec: \"{name}\": {why}")]
struct NotExecuted {
    name: String,
    why: String,
    code: u8,
}

impl NotExecuted {
    fn new(name: &str, error: std::io::Error) -> NotExecuted {
        let missing = error.kind() == std::io::ErrorKind::NotFound;
        let why = match missing {
            true if name.contains('/') => "no such file or directory".to_owned(),
            true => "executable file not found in $PATH".to_owned(),
            false => error.to_string(),
        };
        NotExecuted { name: name.into(), why, code: if missing { 127 } else { 126 } }
    }
}
