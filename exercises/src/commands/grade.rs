//! Judging: one exercise, or all of them with points and reports.

use super::learn::{next, short};
use crate::{NOT_YET, command, started};
use anyhow::Result;
use lab::{
    cache::Cache,
    course::Exercise,
    files,
    grade::{self, Grade, Row},
    judge::Judge,
    progress::Progress,
    report,
    verdict::Verdict,
};
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

/// What `grade` is told.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// For a program to read, on standard output
    #[arg(long)]
    json: bool,
    /// JUnit's XML, into this file
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Gradescope's results.json, into this file
    #[arg(long, value_name = "FILE")]
    gradescope: Option<PathBuf>,
    /// A page that needs nothing else, into this file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// The random values of an earlier run
    #[arg(long)]
    seed: Option<u64>,
    /// Whose it is, for the reports
    #[arg(long)]
    name: Option<String>,
    /// Verdicts that were found before, and those that are found now
    #[arg(long, value_name = "DIR", hide = true)]
    cache: Option<PathBuf>,
}

/// Judges one exercise.
pub(crate) fn check(dir: &Path, e: &'static Exercise, seed: Option<u64>) -> Result<ExitCode> {
    started(dir)?;
    let judge = Judge::new(seed)?;
    let row = grade::row(&judge, None, dir, e)?;
    tell(dir, &row)?;
    Ok(if row.verdict.passed() { ExitCode::SUCCESS } else { ExitCode::from(NOT_YET) })
}

/// Tells what was found and what to do next, and notes what is solved.
pub(crate) fn tell(dir: &Path, row: &Row) -> Result<()> {
    let e = row.exercise;
    println!("{}: {}", e.id, row.verdict);
    let looking = row.took.saturating_sub(row.building).as_secs_f64();
    println!("  took       {:.1}s to compile, {looking:.1}s to look", row.building.as_secs_f64());
    match &row.verdict {
        Verdict::Passed => {
            let mut progress = Progress::read(dir)?;
            progress.entry(e.id).solved = true;
            progress.write(dir)?;
            println!("\n{} points. One question: {}", e.points, e.why.0);
            println!(
                "(the answer, and how the engine does it: {})",
                command(dir, &format!("solution {}", short(e)))
            );
            println!("\nnext: {}", next(dir));
        }
        Verdict::NotChecked(_) => {
            println!("\nIt gives no points here, and is not held against you: another machine may show it.");
            let leave = command(dir, &format!("solution {} --give-up", short(e)));
            println!(
                "\nnext: check it as root or elsewhere; or see how the engine does it, and go on: {leave}"
            );
        }
        Verdict::Failed(_) => {
            println!("  read       book {}", e.section);
            println!("  again      {}", command(dir, &format!("check {} --seed {}", short(e), row.seed)));
            println!("\nnext: {}", command(dir, &format!("hint {}", short(e))));
            println!("      or change it, then: {}", command(dir, &format!("check {}", short(e))));
        }
    }
    Ok(())
}

/// Judges all of them.
pub(crate) fn grade(dir: &Path, options: &Options) -> Result<ExitCode> {
    started(dir)?;
    let cache = options.cache.as_deref().map(Cache::open).transpose()?;
    let judge = Judge::new(options.seed)?;
    let own = || dir.canonicalize().ok().and_then(|d| Some(d.file_name()?.to_string_lossy().into_owned()));
    let name = options.name.clone().or_else(own).unwrap_or_default();
    let grade = Grade::of(&judge, cache.as_ref(), dir, &name, |row| {
        if !options.json {
            println!("{}", report::line(row));
        }
    })?;
    let reports = [
        (&options.junit, report::junit as fn(&Grade) -> String),
        (&options.gradescope, report::gradescope),
        (&options.html, report::html),
    ];
    for (file, make) in reports {
        if let Some(file) = file {
            files::write(file, make(&grade).as_bytes())?;
        }
    }
    if options.json {
        println!("{}", report::json(&grade));
    } else {
        println!("\n{}", report::sum(&grade));
        let open = grade.rows.iter().find(|r| matches!(r.verdict, Verdict::Failed(_)));
        match open {
            Some(_) if grade.points() == 0 => println!(
                "Everything is red at first: that is how it begins. Take them one by one.\n\nnext: {}",
                next(dir)
            ),
            Some(row) => println!("\nnext: {}", command(dir, &format!("show {}", short(row.exercise)))),
            None => println!("\nnext: {}", command(dir, "engine -- run base echo hi")),
        }
    }
    Ok(if grade.points() == grade.of_points() { ExitCode::SUCCESS } else { ExitCode::from(NOT_YET) })
}
