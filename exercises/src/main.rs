//! `cargo lab`: the exercises.

mod commands {
    pub(crate) mod class;
    pub(crate) mod elsewhere;
    pub(crate) mod engine;
    pub(crate) mod grade;
    pub(crate) mod learn;
    pub(crate) mod mutants;
    pub(crate) mod verify;
    pub(crate) mod watch;
}

use crate::commands::{class, elsewhere, engine, grade, learn, mutants, verify, watch};
use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use lab::{
    course::{self, Exercise},
    crew,
    progress::Progress,
};
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Write the engine yourself: functions of the real chapter code have lost their bodies, and what you
/// write in their place is judged by what the kernel says happened
#[derive(Parser)]
#[command(name = "cargo lab", bin_name = "cargo lab", args_override_self = true, after_help = AFTER)]
struct Arguments {
    /// Your workspace
    #[arg(short = 'C', long, global = true, value_name = "DIR", default_value = HOME)]
    dir: PathBuf,
    #[command(subcommand)]
    command: Option<Cmd>,
}

/// Where a workspace is, if nothing else is said.
const HOME: &str = "teu-lab";

const AFTER: &str = "Begin with: cargo lab start\n\n\
    Exit codes: 0 all that was asked is passed; 1 something is not, or could not be checked here; \
    2 the command is wrong, or the lab itself failed";

/// Ended by something that is not passed.
const NOT_YET: u8 = 1;

/// Ended by a fault of the command, the machine or the lab.
const FAULT: u8 = 2;

#[derive(Subcommand)]
enum Cmd {
    /// The exercises, and how far you are
    List,
    /// Make your workspace: the engine, with the exercises' functions empty
    Start {
        /// A new directory
        new: Option<PathBuf>,
    },
    /// What an exercise asks (the next one, if none is named)
    Show {
        /// For example `pivot`
        exercise: Option<String>,
    },
    /// Judge what you wrote
    Check {
        /// One exercise; the next unsolved one if none is named
        exercise: Option<String>,
        /// The random values of an earlier run
        #[arg(long)]
        seed: Option<u64>,
    },
    /// Judge again each time you save
    Watch {
        /// One exercise; the next unsolved one if none is named, and then the next
        exercise: Option<String>,
    },
    /// One more hint
    Hint {
        /// For example `pivot`
        exercise: Option<String>,
    },
    /// The function as the engine has it, and the answer to its question, once you have solved it
    Solution {
        /// For example `pivot`
        exercise: String,
        /// Before that; it is noted in your progress
        #[arg(long)]
        give_up: bool,
    },
    /// Empty an exercise's functions again
    Reset {
        /// For example `pivot`
        exercise: String,
    },
    /// Judge everything, with points
    Grade(grade::Options),
    /// Build the whole engine from what you wrote, and run it
    ///
    /// For example: cargo lab engine -- run base echo hi. It has a state directory of its own.
    #[command(trailing_var_arg = true)]
    Engine {
        /// teu's arguments
        #[arg(required = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// For teachers: grade many workspaces, unattended
    Class(class::Options),
    /// The course checks itself: nothing earns nothing, the engine earns all, and every known mistake is told
    Verify {
        /// These exercises; all if none is named
        exercises: Vec<String>,
        /// The random values of an earlier run
        #[arg(long)]
        seed: Option<u64>,
        /// Only build the answers, into this directory: to be judged on another machine, without a compiler
        #[arg(long, value_name = "DIR", conflicts_with = "built")]
        build: Option<PathBuf>,
        /// With --build, only the engine's own
        #[arg(long, requires = "build")]
        own: bool,
        /// Judge the answers that have been built into this directory (on a slow machine with TEU_LAB_SLOW=10 in the
        /// environment)
        #[arg(long, value_name = "DIR", conflicts_with = "exercises")]
        built: Option<PathBuf>,
    },
    /// A process of `verify` or `mutants` that judges what it is asked on standard input
    #[command(name = crew::COMMAND, hide = true)]
    Crew {
        /// The random values of an earlier run
        #[arg(long)]
        seed: Option<u64>,
    },
    /// Measure the checks: each function with one small thing wrong has to be noticed
    Mutants {
        /// These exercises; all if none is named
        exercises: Vec<String>,
        /// Only name the mutants
        #[arg(long)]
        list: bool,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("lab: {error:#}");
            ExitCode::from(FAULT)
        }
    }
}

fn run(arguments: &Arguments) -> Result<ExitCode> {
    let dir = arguments.dir.as_path();
    match arguments.command.as_ref().unwrap_or(&Cmd::List) {
        Cmd::List => learn::list(dir),
        Cmd::Start { new } => learn::start(new.as_deref().unwrap_or(dir)),
        Cmd::Show { exercise } => learn::show(dir, pick(dir, exercise.as_deref())?),
        Cmd::Check { exercise, seed } => grade::check(dir, pick(dir, exercise.as_deref())?, *seed),
        Cmd::Watch { exercise } => watch::watch(dir, exercise.as_deref()),
        Cmd::Hint { exercise } => learn::hint(dir, pick(dir, exercise.as_deref())?),
        Cmd::Solution { exercise, give_up } => learn::solution(dir, course::find(exercise)?, *give_up),
        Cmd::Reset { exercise } => learn::reset(dir, course::find(exercise)?),
        Cmd::Grade(options) => grade::grade(dir, options),
        Cmd::Engine { arguments } => engine::engine(dir, arguments),
        Cmd::Class(options) => class::class(options),
        Cmd::Verify { build: Some(dir), exercises, own, .. } => {
            elsewhere::build(dir, &named(exercises)?, *own)
        }
        Cmd::Verify { built: Some(dir), seed, .. } => elsewhere::judge(dir, *seed),
        Cmd::Verify { exercises, seed, .. } => verify::verify(&named(exercises)?, *seed),
        Cmd::Crew { seed } => crew::work(*seed).map(|()| ExitCode::SUCCESS),
        Cmd::Mutants { exercises, list } => mutants::mutants(&named(exercises)?, *list),
    }
}

/// The exercise that is named, or else the first unsolved one.
fn pick(dir: &Path, name: Option<&str>) -> Result<&'static Exercise> {
    if let Some(name) = name {
        return course::find(name);
    }
    let progress = Progress::read(dir)?;
    let open = |e: &&&Exercise| !progress.entries.get(e.id).is_some_and(|p| p.solved || p.gave_up);
    course::ALL
        .iter()
        .find(open)
        .copied()
        .context("everything is done. See it all at once: cargo lab grade; run it: cargo lab engine -- run base echo hi")
}

/// The exercises of these names; all if there is none.
fn named(names: &[String]) -> Result<Vec<&'static Exercise>> {
    if names.is_empty() { Ok(course::ALL.to_vec()) } else { names.iter().map(|e| course::find(e)).collect() }
}

/// An error that says what to do, if there is no workspace.
fn started(dir: &Path) -> Result<()> {
    if !dir.join("Cargo.toml").is_file() {
        bail!("{} is not a workspace yet. Make it: {}", dir.display(), command(dir, "start"));
    }
    Ok(())
}

/// A command to type, for this workspace.
fn command(dir: &Path, words: &str) -> String {
    if dir == Path::new(HOME) || std::env::current_dir().is_ok_and(|here| dir == here) {
        format!("cargo lab {words}")
    } else {
        format!("cargo lab -C {} {words}", dir.display())
    }
}
