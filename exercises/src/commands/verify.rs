//! The course checks itself: an empty body earns nothing, the engine's own earns all, each known mistake is told.

use anyhow::Result;
use lab::{
    course::Exercise,
    judge::{self, Judge, Judged},
    verdict::Verdict,
};
use std::{process::ExitCode, time::Instant};

/// Verifies these exercises, a line for each answer as soon as it is judged.
pub(crate) fn verify(exercises: &[&Exercise], seed: Option<u64>) -> Result<ExitCode> {
    let judge = Judge::new(seed)?;
    let (began, mut bad, mut judged, mut skipped) = (Instant::now(), 0, 0, 0);
    for (n, e) in exercises.iter().enumerate() {
        println!("{} ({} of {}, {}s)", e.id, n + 1, exercises.len(), began.elapsed().as_secs());
        let mut report = |good: bool, what: &str, detail: &str, took: Instant| {
            let mark = if good { "ok " } else { "BAD" };
            println!("  {mark} {:>5.1}s  {what}: {detail}", took.elapsed().as_secs_f32());
            bad += u32::from(!good);
            judged += 1;
        };
        let reference = judge.reference(e)?;
        let took = Instant::now();
        let own = judge.judge(e, &reference)?;
        if let Verdict::NotChecked(why) = &own.verdict {
            println!("  skipped: {why}");
            skipped += 1;
            continue;
        }
        report(own.verdict.passed(), "the engine's own", &told(&own, own.verdict.passed()), took);
        let took = Instant::now();
        let empty = judge.judge(e, &judge::untouched(e))?;
        let good = matches!(empty.verdict, Verdict::Failed(_));
        report(good, "untouched", &told(&empty, good), took);
        for mistake in e.wrong {
            let took = Instant::now();
            let found = judge.judge(e, &judge::mistaken(&reference, &mistake.answer)?)?;
            let good = matches!(found.verdict, Verdict::Failed(_))
                && found.verdict.to_string().contains(mistake.told);
            let detail = told(&found, good);
            let detail = if good { detail } else { format!("wanted `{}` in: {detail}", mistake.told) };
            report(good, mistake.name, &detail, took);
        }
    }
    let took = began.elapsed().as_secs();
    println!(
        "\n{} answers to {} exercises judged in {took}s: {}{}",
        judged,
        exercises.len() - skipped,
        if bad == 0 { "all as they should be".to_owned() } else { format!("{bad} NOT as they should be") },
        if skipped == 0 { String::new() } else { format!("; {skipped} exercises cannot be checked here") },
    );
    Ok(if bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// In a line if it is as it should be, else whole and with its seed.
fn told(judged: &Judged, short: bool) -> String {
    match &judged.verdict {
        Verdict::Failed(found) if short => found.seen.lines().next().unwrap_or_default().to_owned(),
        verdict if short => verdict.to_string(),
        verdict => format!("{verdict}\n  (again: --seed {})", judged.seed),
    }
}
