//! From what somebody wrote to a verdict: built into the pristine course, run, looked at.

use crate::{
    course::{Answer, Case, Exercise},
    dice::Dice,
    sandbox::{self, Apart, Sandbox},
    tree,
    verdict::Verdict,
};
use anyhow::{Context, Result, bail};
use std::path::PathBuf;

/// A body for each of an exercise's items.
pub type Bodies = Vec<(&'static str, String)>;

/// Judges answers. As long as there is one, no other lab builds in the same scratch tree.
pub struct Judge {
    course: PathBuf,
    scratch: tree::Scratch,
    seed: Option<u64>,
    _apart: Apart,
}

impl Judge {
    /// One that takes its random values from this seed; from a new one each time, if there is none.
    pub fn new(seed: Option<u64>) -> Result<Judge> {
        let apart = sandbox::apart()?;
        let course = tree::course();
        Ok(Judge { scratch: tree::Scratch::lock(&course)?, course, seed, _apart: apart })
    }

    /// Builds an answer and looks at what it does. An error is the judge's own, never the answer's.
    pub fn judge(&self, exercise: &Exercise, bodies: &Bodies) -> Result<Judged> {
        let seed = self.seed.map_or_else(Dice::seed, Ok)?;
        let program = match self.scratch.build(&self.course, exercise.program, bodies) {
            Ok(program) => program,
            Err(error) => {
                let said = format!("{error:#}");
                let verdict = Verdict::failed("it compiles", said, "what does the first error say?");
                return Ok(Judged { verdict, seed });
            }
        };
        let sandbox = Sandbox::new(&program)?;
        let case =
            Case { program: sandbox.program(), dir: sandbox.dir(), dice: Dice::new(seed), sandbox: &sandbox };
        let verdict = (exercise.check)(&case)?;
        Ok(Judged { verdict, seed })
    }

    /// The engine's own bodies.
    pub fn reference(&self, exercise: &Exercise) -> Result<Bodies> {
        tree::answer(&self.course, exercise)
    }
}

/// A verdict, and the seed with which it can be had again.
#[derive(Clone, Debug)]
pub struct Judged {
    /// What was found.
    pub verdict: Verdict,
    /// Where the check's values came from.
    pub seed: u64,
}

/// The bodies as they are given out.
pub fn untouched(exercise: &Exercise) -> Bodies {
    exercise.items.iter().map(|item| (*item, tree::todo(exercise))).collect()
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
