//! How attentive the checks are: each function of an exercise with one small thing wrong, judged by the exercise's check.

use crate::NOT_YET;
use anyhow::Result;
use lab::{
    batch::{Batch, Job},
    course::Exercise,
    crew,
    mutants::{self, Mutant},
    scratch::Scratch,
    tree,
    verdict::Verdict,
};
use std::{process::ExitCode, time::Instant};

/// The part of all mutants that has to be noticed.
const WANTED: f64 = 0.95;

/// What became of the mutants of an exercise.
#[derive(Default)]
struct Count {
    noticed: u32,
    argued: u32,
    alive: u32,
    unviable: u32,
    open: u32,
}

/// Judges all mutants of these exercises; with `list`, only names them.
pub(crate) fn mutants(exercises: &[&'static Exercise], list: bool) -> Result<ExitCode> {
    let began = Instant::now();
    let (mut all, mut jobs) = (Vec::new(), Vec::new());
    for &exercise in exercises {
        let reference = tree::answer(&tree::course(), exercise)?;
        for (n, (item, _)) in reference.iter().enumerate() {
            for mutant in mutants::mutants(&tree::course(), item)? {
                let mut bodies = reference.clone();
                bodies[n].1.clone_from(&mutant.body);
                jobs.push(Job { exercise, bodies });
                all.push(mutant);
            }
        }
    }
    if list {
        for (job, mutant) in jobs.iter().zip(&all) {
            println!("{} line {}: {mutant}", job.exercise.id, mutant.line.unwrap_or_default());
        }
        return Ok(ExitCode::SUCCESS);
    }
    let scratch = Scratch::at(&tree::course())?;
    scratch.fetch()?;
    let batch = Batch::build(&scratch, &jobs)?;
    println!(
        "{} mutants compiled together, {} to be compiled alone ({}s)",
        jobs.len() - batch.alone(),
        batch.alone(),
        began.elapsed().as_secs()
    );
    let mut counts: Vec<Count> = exercises.iter().map(|_| Count::default()).collect();
    crew::judge(&jobs, Some(&batch), None, |n, (judged, _)| {
        let (exercise, mutant) = (jobs[n].exercise, &all[n]);
        let place = exercises.iter().position(|e| e.id == exercise.id).unwrap_or_default();
        note(&mut counts[place], exercise, mutant, &judged.verdict);
    })?;

    println!("\n| exercise | mutants | noticed | argued | not noticed | do not compile |");
    println!("|---|---:|---:|---:|---:|---:|");
    let mut sum = Count::default();
    for (e, count) in exercises.iter().zip(&counts) {
        row(e.id, count);
        sum.noticed += count.noticed;
        sum.argued += count.argued;
        sum.alive += count.alive;
        sum.unviable += count.unviable;
        sum.open += count.open;
    }
    row("all", &sum);
    let counted = sum.noticed + sum.alive;
    let score = f64::from(sum.noticed) / f64::from(counted.max(1));
    println!(
        "\n{} of {counted} noticed: {:.1} %, in {}s",
        sum.noticed,
        score * 100.0,
        began.elapsed().as_secs()
    );
    if sum.open > 0 {
        println!("{} could not be judged on this machine, and count neither way", sum.open);
    }
    Ok(if score >= WANTED || counted == 0 { ExitCode::SUCCESS } else { ExitCode::from(NOT_YET) })
}

/// Counts what was found, and tells what was not noticed.
fn note(count: &mut Count, exercise: &Exercise, mutant: &Mutant, verdict: &Verdict) {
    let argued = mutants::is_argued(mutant);
    match verdict {
        Verdict::Failed(found) if found.expected == "it compiles" => count.unviable += 1,
        Verdict::Failed(found) => {
            count.noticed += 1;
            if argued {
                println!(
                    "  argued, but noticed: {mutant}: {}",
                    found.seen.lines().next().unwrap_or_default()
                );
            }
        }
        Verdict::NotChecked(why) => {
            count.open += 1;
            if count.open == 1 {
                println!("  not checked: {}: {why}", exercise.id);
            }
        }
        Verdict::Passed if argued => count.argued += 1,
        Verdict::Passed => {
            count.alive += 1;
            println!("  not noticed, line {}: {mutant}", mutant.line.unwrap_or_default());
        }
    }
}

fn row(name: &str, c: &Count) {
    let all = c.noticed + c.argued + c.alive + c.unviable + c.open;
    println!("| {name} | {all} | {} | {} | {} | {} |", c.noticed, c.argued, c.alive, c.unviable);
}
