//! The course checks itself on another machine: where there is a compiler its answers are built, and judged where there is not.
//! A machine with the other version of control groups is often a small one.

use super::verify::{Kind, told};
use anyhow::{Context, Result, bail, ensure};
use lab::{
    batch::{Batch, Job},
    course::{self, Exercise},
    files,
    judge::{self, Judge},
    scratch::Scratch,
    tree,
    verdict::Verdict,
};
use serde_json::{Value, json};
use std::{fs, path::Path, process::ExitCode, time::Instant};

/// The list of answers, in the directory with their programs.
const LIST: &str = "answers.json";

/// Builds these exercises' answers into a directory: all that `verify` judges, or only the engine's own.
pub(crate) fn build(dir: &Path, exercises: &[&'static Exercise], own: bool) -> Result<ExitCode> {
    let (mut jobs, mut names) = (Vec::new(), Vec::new());
    for &exercise in exercises {
        let reference = tree::answer(&tree::course(), exercise)?;
        let wrong = if own { &[] } else { exercise.wrong };
        for mistake in wrong {
            jobs.push(Job { exercise, bodies: judge::mistaken(&reference, &mistake.answer)? });
            names.push(json!({ "wrong": mistake.name }));
        }
        if !own {
            jobs.push(Job { exercise, bodies: judge::untouched(exercise) });
            names.push(json!({ "untouched": true }));
        }
        jobs.push(Job { exercise, bodies: reference });
        names.push(json!({ "own": true }));
    }
    let scratch = Scratch::at(&tree::course())?;
    scratch.fetch()?;
    let batch = Batch::build(&scratch, &jobs)?;
    let mut list = Vec::new();
    for (n, (job, mut name)) in jobs.iter().zip(names).enumerate() {
        let place = dir.join(n.to_string());
        fs::create_dir_all(&place).with_context(|| format!("make {}", place.display()))?;
        let program = batch.program(n, job, &place)?;
        let program =
            program.with_context(|| format!("an answer to {} does not compile", job.exercise.id))?;
        name["exercise"] = json!(job.exercise.id);
        name["program"] = json!(program.strip_prefix(dir).context("a program is beside its directory")?);
        list.push(name);
    }
    files::write(&dir.join(LIST), format!("{:#}", Value::from(list)).as_bytes())?;
    println!(
        "{} answers are in {1}. Where they are to be judged: lab verify --built {1}",
        jobs.len(),
        dir.display()
    );
    Ok(ExitCode::SUCCESS)
}

/// Judges the answers in a directory.
pub(crate) fn judge(dir: &Path, seed: Option<u64>) -> Result<ExitCode> {
    let text = fs::read(dir.join(LIST)).with_context(|| format!("read {}/{LIST}", dir.display()))?;
    let list: Vec<Value> = serde_json::from_slice(&text).with_context(|| format!("what is in {LIST}"))?;
    ensure!(!list.is_empty(), "there is no answer in {}", dir.display());
    let judge = Judge::new(seed)?;
    let (began, mut bad) = (Instant::now(), 0);
    for answer in &list {
        let exercise = course::find(answer["exercise"].as_str().context("no exercise")?)?;
        let kind = match answer["wrong"].as_str() {
            Some(name) => {
                let known = exercise.wrong.iter().find(|wrong| wrong.name == name);
                Kind::Mistake(known.with_context(|| format!("{} knows no mistake `{name}`", exercise.id))?)
            }
            None if answer["own"] == true => Kind::Own,
            None if answer["untouched"] == true => Kind::Untouched,
            None => bail!("what is this answer? {answer}"),
        };
        let program = dir.join(answer["program"].as_str().context("no program")?);
        let took = Instant::now();
        let judged = judge.judge_built(exercise, &program)?;
        // Whoever carries them to another machine wants to have them judged there.
        let open = matches!(judged.verdict, Verdict::NotChecked(_));
        let (good, line) = told(&kind, false, &judged);
        let good = good && !open;
        bad += u32::from(!good);
        let mark = if good { "ok " } else { "BAD" };
        println!("{} {mark} {:>5.1}s  {line}", exercise.id, took.elapsed().as_secs_f32());
    }
    let all = if bad == 0 { "all as they should be".into() } else { format!("{bad} NOT as they should be") };
    println!("\n{} answers judged in {}s: {all}", list.len(), began.elapsed().as_secs());
    Ok(if bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
