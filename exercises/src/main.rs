//! `cargo lab`: the exercises.

mod commands {
    pub(crate) mod verify;
}

use crate::commands::verify::verify;
use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use comfy_table::{Table, presets};
use lab::{
    course::{self, Exercise},
    judge::{Judge, Judged},
    progress::Progress,
    source, tree,
};
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Write the engine yourself: functions of the real chapter code have lost their bodies, and what you
/// write in their place is judged by what the kernel says happened
#[derive(Parser)]
#[command(name = "cargo lab", bin_name = "cargo lab", after_help = "Begin with: cargo lab start")]
struct Arguments {
    /// Your workspace
    #[arg(short = 'C', long, global = true, value_name = "DIR", default_value = "teu-lab")]
    dir: PathBuf,
    #[command(subcommand)]
    command: Option<Cmd>,
}

#[derive(Subcommand)]
enum Cmd {
    /// The exercises, and how far you are
    List,
    /// Make your workspace: the engine, with the exercises' functions empty
    Start {
        /// A new directory
        dir: Option<PathBuf>,
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
    /// One more hint
    Hint {
        /// For example `pivot`
        exercise: Option<String>,
    },
    /// The function as the engine has it, once you have solved it
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
    Grade {
        /// For a program to read
        #[arg(long)]
        json: bool,
        /// The random values of an earlier run
        #[arg(long)]
        seed: Option<u64>,
    },
    /// The course checks itself: nothing earns nothing, the engine earns all, and every known mistake is told
    Verify {
        /// These exercises; all if none is named
        exercises: Vec<String>,
        /// The random values of an earlier run
        #[arg(long)]
        seed: Option<u64>,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<ExitCode> {
    let dir = arguments.dir.as_path();
    match arguments.command.as_ref().unwrap_or(&Cmd::List) {
        Cmd::List => list(dir),
        Cmd::Start { dir: new } => start(new.as_deref().unwrap_or(dir)),
        Cmd::Show { exercise } => show(pick(dir, exercise.as_deref())?),
        Cmd::Check { exercise, seed } => check(dir, pick(dir, exercise.as_deref())?, *seed),
        Cmd::Hint { exercise } => hint(dir, pick(dir, exercise.as_deref())?),
        Cmd::Solution { exercise, give_up } => solution(dir, course::find(exercise)?, *give_up),
        Cmd::Reset { exercise } => reset(dir, course::find(exercise)?),
        Cmd::Grade { json, seed } => grade(dir, *json, *seed),
        Cmd::Verify { exercises, seed } => {
            let named = exercises.iter().map(|e| course::find(e)).collect::<Result<Vec<_>>>()?;
            verify(if named.is_empty() { course::ALL } else { &named }, *seed)
        }
    }
}

/// The exercise that is named, or else the first unsolved one.
fn pick(dir: &Path, name: Option<&str>) -> Result<&'static Exercise> {
    if let Some(name) = name {
        return course::find(name);
    }
    let progress = Progress::read(dir)?;
    let open = |e: &&&Exercise| !progress.entries.get(e.id).is_some_and(|p| p.solved);
    course::ALL
        .iter()
        .find(open)
        .copied()
        .context("everything is solved. See it all at once: cargo lab grade")
}

fn started(dir: &Path) -> Result<()> {
    if !dir.join("Cargo.toml").is_file() {
        bail!("{} is not a workspace yet. Make it: cargo lab start {0}", dir.display());
    }
    Ok(())
}

fn list(dir: &Path) -> Result<ExitCode> {
    let progress = Progress::read(dir)?;
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["", "EXERCISE", "POINTS", "BOOK", "WHAT YOU WRITE"]);
    for e in course::ALL {
        let p = progress.entries.get(e.id).cloned().unwrap_or_default();
        let mark = if p.solved {
            "done"
        } else if p.gave_up {
            "shown"
        } else {
            ""
        };
        table.add_row([mark, e.id, &e.points.to_string(), e.section, e.title]);
    }
    println!("{table}");
    let next = if dir.join("Cargo.toml").is_file() { "cargo lab show" } else { "cargo lab start" };
    println!("\nnext: {next}");
    Ok(ExitCode::SUCCESS)
}

fn start(dir: &Path) -> Result<ExitCode> {
    tree::start(&tree::course(), dir, course::ALL)?;
    Progress::default().write(dir)?;
    println!(
        "Your engine is in {}: complete, but for {} functions that you write.",
        dir.display(),
        course::ALL.len()
    );
    println!("Everything is red at first. That is how it begins.\n\nnext: cargo lab show");
    Ok(ExitCode::SUCCESS)
}

fn show(e: &Exercise) -> Result<ExitCode> {
    let root = tree::course();
    println!("{}: {} ({} points; book {})\n", e.id, e.title, e.points, e.section);
    println!("{}\n\nWhat must hold:", e.task);
    for invariant in e.invariants {
        println!("  - {invariant}");
    }
    println!("\nBefore you write: {}\n\nWhere:", e.predict);
    for item in e.items {
        let listing = source::cut(&root, item)?;
        println!("  {item}   {}:{}", listing.file, listing.line);
    }
    println!("\nnext: write it, then: cargo lab check");
    Ok(ExitCode::SUCCESS)
}

fn hint(dir: &Path, e: &Exercise) -> Result<ExitCode> {
    let mut progress = Progress::read(dir)?;
    let entry = progress.entry(e.id);
    entry.hints = (entry.hints + 1).min(e.hints.len());
    println!("{} ({} of {}): {}", e.id, entry.hints, e.hints.len(), e.hints[entry.hints - 1]);
    progress.write(dir)?;
    Ok(ExitCode::SUCCESS)
}

fn check(dir: &Path, e: &'static Exercise, seed: Option<u64>) -> Result<ExitCode> {
    started(dir)?;
    let Judged { verdict, seed } = Judge::new(seed)?.judge(e, &tree::answer(dir, e)?)?;
    println!("{}: {verdict}", e.id);
    if !verdict.passed() {
        println!("  again      cargo lab check {} --seed {seed}", e.id);
        println!("\nread book {}; then: cargo lab hint, cargo lab check", e.section);
        return Ok(ExitCode::FAILURE);
    }
    let mut progress = Progress::read(dir)?;
    progress.entry(e.id).solved = true;
    progress.write(dir)?;
    println!(
        "\nOne question: {}\n(the answer, and how the engine does it: cargo lab solution {})",
        e.why.0, e.id
    );
    match pick(dir, None) {
        Ok(next) => println!("\nnext: cargo lab show    ({}: {})", next.id, next.title),
        Err(_) => println!("\nThat was the last one. See it all: cargo lab grade"),
    }
    Ok(ExitCode::SUCCESS)
}

fn solution(dir: &Path, e: &Exercise, give_up: bool) -> Result<ExitCode> {
    let mut progress = Progress::read(dir)?;
    let entry = progress.entry(e.id);
    if !entry.solved && !give_up {
        bail!("{} is not solved yet. A hint: cargo lab hint {0}. To see it all the same: --give-up", e.id);
    }
    entry.gave_up |= !entry.solved;
    progress.write(dir)?;
    for item in e.items {
        println!("{}", source::cut(&tree::course(), item)?.text);
    }
    println!("{}\n  {}", e.why.0, e.why.1);
    Ok(ExitCode::SUCCESS)
}

fn reset(dir: &Path, e: &Exercise) -> Result<ExitCode> {
    started(dir)?;
    tree::blank(dir, e)?;
    println!("{} is empty again", e.id);
    Ok(ExitCode::SUCCESS)
}

fn grade(dir: &Path, json: bool, seed: Option<u64>) -> Result<ExitCode> {
    started(dir)?;
    let judge = Judge::new(seed)?;
    let mut results = Vec::new();
    for e in course::ALL {
        let verdict = judge.judge(e, &tree::answer(dir, e)?)?.verdict;
        if !json {
            println!(
                "{:<24} {:>3} of {:>3}   {verdict}",
                e.id,
                if verdict.passed() { e.points } else { 0 },
                e.points
            );
        }
        results.push((e, verdict));
    }
    let earned: u32 = results.iter().filter(|(_, v)| v.passed()).map(|(e, _)| e.points).sum();
    let possible: u32 = course::ALL.iter().map(|e| e.points).sum();
    if json {
        let rows = results.iter().map(|(e, v)| {
            let points = if v.passed() { e.points } else { 0 };
            serde_json::json!({ "exercise": e.id, "points": points, "of": e.points, "verdict": v.to_string() })
        });
        let all =
            serde_json::json!({ "points": earned, "of": possible, "exercises": rows.collect::<Vec<_>>() });
        println!("{all:#}");
    } else {
        println!("\n{earned} of {possible} points");
    }
    Ok(if earned == possible { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
