//! From what somebody wrote to a verdict: built into the pristine course, run, looked at.

use crate::{
    course::{Answer, Case, Exercise},
    dice::Dice,
    refuse,
    sandbox::{self, Apart, Sandbox},
    scratch::Scratch,
    tree,
    verdict::Verdict,
};
use anyhow::{Context, Result, bail};
use std::{
    fs::File,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// A body for each of an exercise's items.
pub type Bodies = Vec<(&'static str, String)>;

/// Judges answers.
pub struct Judge {
    course: PathBuf,
    scratch: Scratch,
    seed: Option<u64>,
    /// The grader's step out of the host's namespaces, or why this machine does not let it.
    apart: Result<Apart>,
}

impl Judge {
    /// One that takes its random values from this seed; from a new one each time, if there is none. To be made before the
    /// process has a second thread.
    pub fn new(seed: Option<u64>) -> Result<Judge> {
        let course = tree::course();
        let scratch = Scratch::at(&course)?;
        scratch.fetch()?;
        Ok(Judge { scratch, course, seed, apart: sandbox::apart() })
    }

    /// One of several that wait for each other: it says nothing of that.
    pub fn of_crew(seed: Option<u64>) -> Result<Judge> {
        let mut judge = Judge::new(seed)?;
        judge.scratch.quiet = true;
        Ok(judge)
    }

    /// Looks at what an answer does that has been built already, as this program of the engine.
    pub fn judge_built(&self, exercise: &Exercise, program: &Path) -> Result<Judged> {
        let seed = self.seed.map_or_else(Dice::seed, Ok)?;
        let verdict = match &self.apart {
            Ok(apart) => look(apart, exercise, program, seed, None),
            Err(why) => no_sandbox(why),
        };
        Ok(Judged { verdict, seed, building: Duration::ZERO })
    }

    /// Builds an answer and looks at what it does. An error is the judge's own, never the answer's.
    pub fn judge(&self, exercise: &Exercise, bodies: &Bodies) -> Result<Judged> {
        let seed = self.seed.map_or_else(Dice::seed, Ok)?;
        let mut building = Duration::ZERO;
        let verdict = self.verdict(exercise, bodies, seed, &mut building)?;
        Ok(Judged { verdict, seed, building })
    }

    fn verdict(
        &self,
        exercise: &Exercise,
        bodies: &Bodies,
        seed: u64,
        building: &mut Duration,
    ) -> Result<Verdict> {
        let apart = match &self.apart {
            Ok(apart) => apart,
            Err(why) => return Ok(no_sandbox(why)),
        };
        for (item, body) in bodies {
            if let Err(why) = refuse::refuse(body) {
                let expected = "the function is written, not taken from somewhere";
                let hint = "write what it does in plain Rust, with what the module has already";
                return Ok(Verdict::failed(expected, format!("in {item}, {why}"), hint));
            }
        }
        let lock = self.scratch.lock()?;
        let began = Instant::now();
        let built = self.scratch.build(exercise.program, bodies, true)?;
        *building = began.elapsed();
        let program = match built {
            Ok(program) => program,
            Err(said) => return Ok(Verdict::failed("it compiles", said, "what does the first error say?")),
        };
        Ok(look(apart, exercise, &program, seed, Some(lock)))
    }

    /// The engine's own bodies.
    pub fn reference(&self, exercise: &Exercise) -> Result<Bodies> {
        tree::answer(&self.course, exercise)
    }
}

fn no_sandbox(why: &anyhow::Error) -> Verdict {
    Verdict::NotChecked(format!("there is no sandbox: {why:#}"))
}

/// Has a program checked in a sandbox. `lock` is on the place where it is, if it has to be there no longer than until it has
/// been copied.
fn look(apart: &Apart, exercise: &Exercise, program: &Path, seed: u64, lock: Option<File>) -> Verdict {
    let sandbox = match Sandbox::new(program) {
        Ok(sandbox) => sandbox,
        Err(why) => return no_sandbox(&why),
    };
    // The program has been copied: another lab may build.
    drop(lock);
    let case =
        Case { program: sandbox.program(), dir: sandbox.dir(), dice: Dice::new(seed), sandbox: &sandbox };
    // A check that gives up, or panics on what it did not expect to see, gives no points.
    let checked = catch_unwind(AssertUnwindSafe(|| (exercise.check)(&case)));
    drop(sandbox);
    let left = apart.clean();
    let stopped = |why: String| {
        Verdict::failed("the check comes to its end", why, "does the program do what the task says at all?")
    };
    match checked {
        Ok(Ok(_)) if !left.is_empty() => Verdict::failed(
            "nothing is left behind",
            format!("control groups that cannot be removed: {}", left.join(", ")),
            "is something frozen in it, or mounted?",
        ),
        Ok(Ok(verdict)) => verdict,
        Ok(Err(error)) => stopped(format!("{error:#}")),
        Err(_) => stopped("the check itself panicked".into()),
    }
}

/// A verdict, and the seed with which it can be had again.
#[derive(Clone, Debug)]
pub struct Judged {
    /// What was found.
    pub verdict: Verdict,
    /// Where the check's values came from.
    pub seed: u64,
    /// How long it was compiled.
    pub building: Duration,
}

/// The bodies as they are given out.
pub fn untouched(exercise: &Exercise) -> Bodies {
    exercise.items.iter().map(|item| (*item, tree::todo(exercise))).collect()
}

/// Whether a body is as it was given out.
pub fn is_empty(body: &str) -> bool {
    body.contains("todo!(") && body.contains("cargo lab show")
}

/// The engine's own bodies, with a mistake in one.
pub fn mistaken(reference: &Bodies, answer: &Answer) -> Result<Bodies> {
    let mut bodies = reference.clone();
    match answer {
        Answer::Body(text) => (*text).clone_into(&mut bodies[0].1),
        Answer::Change(item, from, to) => {
            let body = bodies.iter_mut().find(|(path, _)| path == item);
            let (_, body) = body.with_context(|| format!("{item} is not an item of the exercise"))?;
            if body.matches(from).count() != 1 {
                bail!("`{from}` is not in {item} exactly once");
            }
            *body = body.replace(from, to);
        }
    }
    Ok(bodies)
}
