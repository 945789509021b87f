//! How attentive the checks are: each function of an exercise with one small thing wrong, judged by the exercise's check.

use crate::NOT_YET;
use anyhow::Result;
use lab::{course::Exercise, judge::Judge, mutants, tree, verdict::Verdict};
use std::process::ExitCode;

/// Survivors that are argued: the same program by other words, or a difference that nobody can see.
const ARGUED: &str = include_str!("../../mutants.md");

/// The part of all mutants that has to be noticed.
const WANTED: f64 = 0.95;

/// Judges all mutants of these exercises; with `list`, only names them.
pub(crate) fn mutants(exercises: &[&Exercise], list: bool) -> Result<ExitCode> {
    let judge = if list { None } else { Some(Judge::new(None)?) };
    let (mut all_killed, mut all_alive) = (0, 0);
    for e in exercises {
        let reference = tree::answer(&tree::course(), e)?;
        let (mut killed, mut alive, mut unviable, mut argued) = (0, 0, 0, 0);
        for (n, (item, _)) in reference.iter().enumerate() {
            for mutant in mutants::mutants(&tree::course(), item)? {
                let Some(judge) = &judge else {
                    println!("{} {item}: {}", e.id, mutant.what);
                    continue;
                };
                let mut bodies = reference.clone();
                bodies[n].1.clone_from(&mutant.body);
                match judge.judge(e, &bodies)?.verdict {
                    Verdict::Failed(found) if found.expected == "it compiles" => unviable += 1,
                    Verdict::Failed(_) => killed += 1,
                    Verdict::NotChecked(why) => println!("  not checked: {why}"),
                    Verdict::Passed if ARGUED.contains(&format!("{item}: {}", mutant.what)) => argued += 1,
                    Verdict::Passed => {
                        alive += 1;
                        println!("  survives: {item}: {}", mutant.what);
                    }
                }
            }
        }
        if judge.is_some() {
            println!("{}: {killed} noticed, {alive} not, {argued} argued, {unviable} do not compile", e.id);
        }
        all_killed += killed;
        all_alive += alive;
    }
    if list || all_killed + all_alive == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    let score = f64::from(all_killed) / f64::from(all_killed + all_alive);
    println!("\n{all_killed} of {} noticed: {:.1} %", all_killed + all_alive, score * 100.0);
    Ok(if score >= WANTED { ExitCode::SUCCESS } else { ExitCode::from(NOT_YET) })
}
