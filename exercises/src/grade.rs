//! A grade: the verdict on each exercise of a workspace, and its points.

use crate::{
    cache::Cache,
    course::{self, Exercise},
    judge::{Judge, Judged},
    tree,
    verdict::Verdict,
};
use anyhow::Result;
use std::{
    path::Path,
    time::{Duration, Instant},
};

/// One exercise of a grade.
pub struct Row {
    /// Which.
    pub exercise: &'static Exercise,
    /// What was found.
    pub verdict: Verdict,
    /// With which random values.
    pub seed: u64,
    /// How long it took.
    pub took: Duration,
    /// Of that, compiling.
    pub building: Duration,
}

impl Row {
    /// What it earns: all of its points, or none.
    pub fn points(&self) -> u32 {
        if self.verdict.passed() { self.exercise.points } else { 0 }
    }
}

/// All exercises.
pub struct Grade {
    /// Whose.
    pub name: String,
    /// A row an exercise.
    pub rows: Vec<Row>,
}

impl Grade {
    /// Judges a workspace; `told` hears of each row as soon as it is there.
    pub fn of(
        judge: &Judge,
        cache: Option<&Cache>,
        dir: &Path,
        name: &str,
        mut told: impl FnMut(&Row),
    ) -> Result<Grade> {
        let mut rows = Vec::new();
        for exercise in course::ALL {
            let row = row(judge, cache, dir, exercise)?;
            told(&row);
            rows.push(row);
        }
        Ok(Grade { name: name.to_owned(), rows })
    }

    /// Points earned.
    pub fn points(&self) -> u32 {
        self.rows.iter().map(Row::points).sum()
    }

    /// Points that there are.
    pub fn of_points(&self) -> u32 {
        self.rows.iter().map(|r| r.exercise.points).sum()
    }

    /// How many could not be checked here.
    pub fn not_checked(&self) -> usize {
        self.rows.iter().filter(|r| matches!(r.verdict, Verdict::NotChecked(_))).count()
    }
}

/// Judges one exercise of a workspace. A workspace without the function is a finding, not an end.
pub fn row(judge: &Judge, cache: Option<&Cache>, dir: &Path, exercise: &'static Exercise) -> Result<Row> {
    let began = Instant::now();
    let judged = match tree::answer(dir, exercise) {
        Ok(bodies) => match cache.and_then(|c| c.find(exercise, &bodies)) {
            Some(judged) => judged,
            None => {
                let judged = judge.judge(exercise, &bodies)?;
                if let Some(cache) = cache {
                    cache.keep(exercise, &bodies, &judged)?;
                }
                judged
            }
        },
        Err(error) => Judged {
            verdict: Verdict::failed(
                "the exercise's functions are in the workspace",
                format!("{error:#}"),
                "was one renamed, or a file moved? `cargo lab start` in a new directory shows how it was",
            ),
            seed: 0,
            building: Duration::ZERO,
        },
    };
    let Judged { verdict, seed, building } = judged;
    Ok(Row { exercise, verdict, seed, took: began.elapsed(), building })
}
