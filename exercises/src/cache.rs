//! Verdicts that were found before: of a hundred submissions most have the same empty functions, and some share more.

use crate::{
    course::Exercise,
    files,
    judge::{Bodies, Judged},
    tree,
    verdict::Verdict,
};
use anyhow::{Context, Result};
use proc_macro2::TokenStream;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

/// A directory with a file a verdict.
pub struct Cache {
    dir: PathBuf,
    course: String,
}

impl Cache {
    /// The cache in `dir`. What was found with another course is not found again.
    pub fn open(dir: &Path) -> Result<Cache> {
        fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
        let course = tree::digest(&tree::course())?;
        Ok(Cache { dir: dir.to_owned(), course })
    }

    /// An answer's name: its tokens, so that spaces and comments make no difference, in this exercise, of this course.
    fn file(&self, exercise: &Exercise, bodies: &Bodies) -> PathBuf {
        let mut hash = Sha256::new();
        let mut add = |text: &str| {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text);
        };
        add(&self.course);
        add(exercise.id);
        for (item, body) in bodies {
            add(item);
            // What is no Rust at all is itself.
            add(&body.parse::<TokenStream>().map_or_else(|_| body.clone(), |t| t.to_string()));
        }
        let name: String = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
        self.dir.join(name + ".json")
    }

    /// What was found of this answer.
    pub fn find(&self, exercise: &Exercise, bodies: &Bodies) -> Option<Judged> {
        let value: Value = serde_json::from_slice(&fs::read(self.file(exercise, bodies)).ok()?).ok()?;
        let seed = value["seed"].as_str()?.parse().ok()?;
        Some(Judged { verdict: Verdict::from_json(&value)?, seed, building: Duration::ZERO })
    }

    /// Keeps what was found. What could not be checked is tried again.
    pub fn keep(&self, exercise: &Exercise, bodies: &Bodies, judged: &Judged) -> Result<()> {
        if matches!(judged.verdict, Verdict::NotChecked(_)) {
            return Ok(());
        }
        let mut value = judged.verdict.to_json();
        value["seed"] = json!(judged.seed.to_string());
        files::write(&self.file(exercise, bodies), value.to_string().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::course;

    #[test]
    fn the_same_tokens_are_the_same_answer_and_no_others_are() {
        let dir = tempfile::tempdir().expect("a directory");
        let cache = Cache { dir: dir.path().to_owned(), course: "one".into() };
        let (e, body) = (course::ALL[0], |text: &str| vec![("a::b", text.to_owned())]);
        let judged = Judged { verdict: Verdict::failed("x", "y", "z"), seed: 7, building: Duration::ZERO };
        cache.keep(e, &body(" f(1); // one"), &judged).expect("kept");
        let found = cache.find(e, &body("f( 1 ) ;")).expect("found");
        assert_eq!((found.seed, found.verdict.to_string()), (7, judged.verdict.to_string()));
        assert!(cache.find(e, &body("f(2);")).is_none());
        assert!(cache.find(course::ALL[1], &body("f(1);")).is_none());
        let other = Cache { dir: dir.path().to_owned(), course: "two".into() };
        assert!(other.find(e, &body("f(1);")).is_none());
    }
}
