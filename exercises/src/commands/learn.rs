//! What a reader does between two checks: see what there is, begin, read the task, take a hint, look at the solution.

use crate::{command, pick, started};
use anyhow::{Result, bail};
use lab::{
    course::{self, Exercise},
    progress::{Entry, Progress},
    source, tree,
};
use std::{path::Path, process::ExitCode};

/// The exercises as a tree, with points.
pub(crate) fn list(dir: &Path) -> Result<ExitCode> {
    let progress = Progress::read(dir)?;
    let entry = |e: &Exercise| progress.entries.get(e.id).cloned().unwrap_or_default();
    let mut chapters: Vec<&str> = Vec::new();
    for e in course::ALL {
        if !chapters.contains(&chapter(e)) {
            chapters.push(chapter(e));
        }
    }
    let points = |all: &[&Exercise]| -> (u32, u32) {
        let solved = all.iter().filter(|e| entry(e).solved);
        (solved.map(|e| e.points).sum(), all.iter().map(|e| e.points).sum())
    };
    for name in chapters {
        let own: Vec<_> = course::ALL.iter().copied().filter(|e| chapter(e) == name).collect();
        let (have, of) = points(&own);
        println!("{name:<34} {have:>3} of {of:>3} points");
        for (n, e) in own.iter().enumerate() {
            let branch = if n + 1 == own.len() { "└─" } else { "├─" };
            println!("{branch} {} {:<16} {:>3}  {}", mark(&entry(e)), short(e), e.points, e.title);
        }
    }
    let (have, of) = points(course::ALL);
    println!("\n{have} of {of} points.   ✓ solved   ~ shown to you   · to do");
    println!("\nnext: {}", next(dir));
    Ok(ExitCode::SUCCESS)
}

fn mark(entry: &Entry) -> &'static str {
    match entry {
        Entry { solved: true, .. } => "✓",
        Entry { gave_up: true, .. } => "~",
        _ => "·",
    }
}

/// What to type next, with no exercise in hand.
pub(crate) fn next(dir: &Path) -> String {
    if started(dir).is_err() {
        return command(dir, "start");
    }
    match pick(dir, None) {
        Ok(e) => command(dir, &format!("show {}", short(e))),
        Err(_) => command(dir, "grade"),
    }
}

/// The chapter that an exercise is of.
pub(crate) fn chapter(e: &Exercise) -> &'static str {
    e.id.split('/').next().unwrap_or(e.id)
}

/// What an exercise may be called as long as no other ends so.
pub(crate) fn short(e: &Exercise) -> &'static str {
    let name = e.id.split('/').next_back().unwrap_or(e.id);
    if course::find(name).is_ok() { name } else { e.id }
}

/// Makes the workspace.
pub(crate) fn start(dir: &Path) -> Result<ExitCode> {
    tree::start(&tree::course(), dir, course::ALL)?;
    Progress::default().write(dir)?;
    println!(
        "Your engine is in {}: complete, but for the functions of {} exercises, which you write.",
        dir.display(),
        course::ALL.len()
    );
    println!("Everything is red at first. That is how it begins.\n\nnext: {}", next(dir));
    Ok(ExitCode::SUCCESS)
}

/// The task.
pub(crate) fn show(dir: &Path, e: &Exercise) -> Result<ExitCode> {
    println!("{}: {} ({} points; book {})\n", e.id, e.title, e.points, e.section);
    println!("{}\n\nWhat must hold:", e.task);
    for invariant in e.invariants {
        println!("  - {invariant}");
    }
    println!("\nBefore you write: {}\n\nWhere:", e.predict);
    let here = started(dir).is_ok();
    let root = if here { dir.to_owned() } else { tree::course() };
    for item in e.items {
        // In a workspace that has lost it, the place in the course still tells the file.
        let body = source::body(&root, item).or_else(|_| source::body(&tree::course(), item))?;
        let place = if here { dir.join(&body.file) } else { body.file.into() };
        println!("  {}:{}   {item}", place.display(), body.line);
    }
    if here {
        println!("\nnext: write it there, then: {}", command(dir, &format!("check {}", short(e))));
        println!("      (or let it be judged each time you save: {})", command(dir, "watch"));
    } else {
        println!("\nnext: {}", command(dir, "start"));
    }
    Ok(ExitCode::SUCCESS)
}

/// One more hint, and those before it.
pub(crate) fn hint(dir: &Path, e: &Exercise) -> Result<ExitCode> {
    started(dir)?;
    let mut progress = Progress::read(dir)?;
    let entry = progress.entry(e.id);
    entry.hints = (entry.hints + 1).min(e.hints.len());
    let taken = entry.hints;
    progress.write(dir)?;
    println!("{}: {}\n", e.id, e.title);
    for (n, hint) in e.hints.iter().take(taken).enumerate() {
        println!("hint {} of {}: {hint}", n + 1, e.hints.len());
    }
    println!("\nnext: {}", command(dir, &format!("check {}", short(e))));
    if taken == e.hints.len() {
        let words = format!("solution {} --give-up", short(e));
        println!("      (that was the last hint; to see how the engine does it: {})", command(dir, &words));
    }
    Ok(ExitCode::SUCCESS)
}

/// How the engine does it, and the answer to the question.
pub(crate) fn solution(dir: &Path, e: &Exercise, give_up: bool) -> Result<ExitCode> {
    let mut progress = Progress::read(dir)?;
    let entry = progress.entry(e.id);
    if !entry.solved && !give_up {
        let (hint, solution) = (
            command(dir, &format!("hint {}", short(e))),
            command(dir, &format!("solution {} --give-up", short(e))),
        );
        bail!("{} is not solved yet. A hint: {hint}. To see it all the same: {solution}", e.id);
    }
    entry.gave_up |= !entry.solved;
    progress.write(dir)?;
    for item in e.items {
        let listing = source::cut(&tree::course(), item)?;
        println!("// {}:{}\n{}", listing.file, listing.line, listing.text);
    }
    println!("{}\n  {}\n\nnext: {}", e.why.0, e.why.1, next(dir));
    Ok(ExitCode::SUCCESS)
}

/// Empties the functions again.
pub(crate) fn reset(dir: &Path, e: &Exercise) -> Result<ExitCode> {
    started(dir)?;
    tree::blank(dir, e)?;
    println!("{} is empty again.\n\nnext: {}", e.id, command(dir, &format!("show {}", short(e))));
    Ok(ExitCode::SUCCESS)
}
