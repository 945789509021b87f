//! The course checks itself: an empty body earns nothing, the engine's own earns all, each known mistake is told.
//!
//! The engine's own is judged twice: built as a reader's answer is, and with all the others in one program ([`lab::batch`]).
//! So what is verified of answers that are built together holds for one that is built alone.

use anyhow::Result;
use lab::{
    batch::{Batch, Job},
    course::{Exercise, Wrong},
    crew::{self, Found},
    judge::{self, Judged},
    scratch::Scratch,
    tree,
    verdict::Verdict,
};
use std::{process::ExitCode, time::Instant};

/// What an answer is, and so what has to be found.
pub(crate) enum Kind {
    Own,
    Untouched,
    Mistake(&'static Wrong),
}

/// Verifies these exercises, a line for each answer.
pub(crate) fn verify(exercises: &[&'static Exercise], seed: Option<u64>) -> Result<ExitCode> {
    let began = Instant::now();
    let step = |what: &str| println!("{what} ({}s)", began.elapsed().as_secs());
    let own = |e: &'static Exercise| Ok(Job { exercise: e, bodies: tree::answer(&tree::course(), e)? });
    let alone = exercises.iter().map(|e| own(e)).collect::<Result<Vec<_>>>()?;
    step("the engine's own, built as a reader's answer is");
    let alone = judged(&alone, None, seed)?;

    let (mut jobs, mut kinds) = (Vec::new(), Vec::new());
    for &e in exercises {
        let reference = own(e)?.bodies;
        jobs.push(Job { exercise: e, bodies: judge::untouched(e) });
        kinds.push(Kind::Untouched);
        for mistake in e.wrong {
            jobs.push(Job { exercise: e, bodies: judge::mistaken(&reference, &mistake.answer)? });
            kinds.push(Kind::Mistake(mistake));
        }
        jobs.push(Job { exercise: e, bodies: reference });
        kinds.push(Kind::Own);
    }
    step("all answers together are built");
    let scratch = Scratch::at(&tree::course())?;
    scratch.fetch()?;
    let batch = Batch::build(&scratch, &jobs)?;
    step("and judged");
    let found = judged(&jobs, Some(&batch), seed)?;

    let (mut bad, mut answers, mut skipped) = (0, 0, 0);
    for (e, alone) in exercises.iter().zip(&alone) {
        println!("{}", e.id);
        if let Verdict::NotChecked(why) = &alone.0.verdict {
            println!("  skipped: {why}");
            skipped += 1;
            continue;
        }
        let mut report = |kind: &Kind, alone: bool, (judged, took): &Found| {
            let (good, line) = told(kind, alone, judged);
            println!("  {} {:>5.1}s  {line}", if good { "ok " } else { "BAD" }, took.as_secs_f32());
            bad += u32::from(!good);
            answers += 1;
        };
        report(&Kind::Own, true, alone);
        let own = jobs.iter().zip(&kinds).zip(&found).filter(|((job, _), _)| job.exercise.id == e.id);
        own.for_each(|((_, kind), found)| report(kind, false, found));
    }
    println!(
        "\n{answers} answers to {} exercises judged in {}s: {}{}",
        exercises.len() - skipped,
        began.elapsed().as_secs(),
        if bad == 0 { "all as they should be".to_owned() } else { format!("{bad} NOT as they should be") },
        if skipped == 0 { String::new() } else { format!("; {skipped} exercises cannot be checked here") },
    );
    Ok(if bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Has them judged, and puts what was found in the order of the answers.
fn judged(jobs: &[Job], batch: Option<&Batch>, seed: Option<u64>) -> Result<Vec<Found>> {
    let mut found: Vec<Option<Found>> = jobs.iter().map(|_| None).collect();
    crew::judge(jobs, batch, seed, |n, f| found[n] = Some(f))?;
    Ok(found.into_iter().flatten().collect())
}

/// Whether it is as it should be, and in a line what was found; if it is not, whole and with its seed.
pub(crate) fn told(kind: &Kind, alone: bool, judged: &Judged) -> (bool, String) {
    let verdict = &judged.verdict;
    let (good, what) = match kind {
        Kind::Own if alone => (verdict.passed(), "the engine's own, built alone"),
        Kind::Own => (verdict.passed(), "the engine's own"),
        Kind::Untouched => (matches!(verdict, Verdict::Failed(_)), "untouched"),
        Kind::Mistake(wrong) => {
            let told = matches!(verdict, Verdict::Failed(_)) && verdict.to_string().contains(wrong.told);
            (told, wrong.name)
        }
    };
    let detail = match (verdict, kind) {
        (Verdict::Failed(found), _) if good => found.seen.lines().next().unwrap_or_default().to_owned(),
        (verdict, _) if good => verdict.to_string(),
        (verdict, Kind::Mistake(wrong)) => {
            format!("wanted `{}` in: {verdict}\n  (again: --seed {})", wrong.told, judged.seed)
        }
        (verdict, _) => format!("{verdict}\n  (again: --seed {})", judged.seed),
    };
    (good, format!("{what}: {detail}"))
}
