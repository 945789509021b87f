//! Many answers compiled together. The compiler needs seconds for each answer that is compiled by itself, and the course has
//! hundreds of its own: the engine's, the wrong ones that it knows, the small mistakes by which it measures its checks.
//! So each function gets all of its bodies at once, and a number says which of them it has (a *mutant schema*: Untch,
//! Offutt and Harrold, 1993):
//!
//! ```text
//! match { static ANSWER: [u64; 3] = [MARK[0], MARK[1], 0]; ::std::hint::black_box(&ANSWER)[2] } {
//!     7 => { a wrong body }
//!     _ => { the engine's own }
//! }
//! ```
//!
//! The number is in the program's file, behind a mark by which it is found. A copy in which it is changed is that answer, and
//! stays it in every process that it starts and every copy that it makes of itself; an environment can be emptied.
//!
//! What the reader wrote is never compiled this way: an answer must not be able to break another one.

use crate::{
    course::Exercise,
    judge::Bodies,
    scratch::Scratch,
    source,
    tree::{self, course},
};
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

/// An answer of the course's own.
pub struct Job {
    /// To which exercise.
    pub exercise: &'static Exercise,
    /// What is in its functions.
    pub bodies: Bodies,
}

/// The programs in which the answers are.
pub struct Batch {
    dir: tempfile::TempDir,
    /// Where in each program's file the number stands.
    places: BTreeMap<&'static str, Vec<u64>>,
    /// The answers that are in none, by their place in the list.
    alone: BTreeSet<usize>,
}

/// By which the number is found: two words that nothing else holds.
const MARK: [u64; 2] = [0x9c1d_7e52_b6a8_30f4, 0x2f8b_e4c3_7a15_d96e];

/// Each time some answers are found that do not compile: the compiler finds those with wrong types only when all names are
/// right, and looks at a crate only when those below it are whole.
const ROUNDS: usize = 25;

/// Before and behind each body, each in a line of its own.
const BEGIN: &str = "/*answer ";
const END: &str = "/*end*/";

impl Batch {
    /// Compiles these answers together. Those that do not compile are left out, to be compiled alone.
    pub fn build(scratch: &Scratch, jobs: &[Job]) -> Result<Batch> {
        let packages: BTreeSet<&'static str> = jobs.iter().map(|j| j.exercise.program).collect();
        let packages: Vec<&'static str> = packages.into_iter().collect();
        let mut alone: BTreeSet<usize> =
            jobs.iter().enumerate().filter(|(_, job)| !parses(job)).map(|(n, _)| n).collect();
        let _lock = scratch.lock()?;
        for _ in 0..ROUNDS {
            let files = source::replaced(&course(), &choices(jobs, &alone)?)?;
            match scratch.build_with(&packages, &files)? {
                Ok(built) => return Batch::keep(&built, &packages, alone),
                Err(said) => {
                    let found = blamed(&said, &files);
                    ensure!(!found.is_empty(), "the engine does not compile:\n{}", rendered(&said));
                    alone.extend(found);
                }
            }
        }
        bail!("after {ROUNDS} rounds there are still answers that do not compile with the others")
    }

    /// Copies the programs, for another build writes to the same place.
    fn keep(built: &Path, packages: &[&'static str], alone: BTreeSet<usize>) -> Result<Batch> {
        let dir = tempfile::tempdir().context("make a directory for the programs")?;
        let mut places = BTreeMap::new();
        for package in packages {
            let kept = dir.path().join(package);
            fs::copy(built.join(package), &kept).with_context(|| format!("keep the program {package}"))?;
            places.insert(*package, marks(&fs::read(&kept)?));
        }
        Ok(Batch { dir, places, alone })
    }

    /// Makes the program of an answer in `dir`; none, if it has to be compiled alone.
    pub fn program(&self, n: usize, job: &Job, dir: &Path) -> Result<Option<PathBuf>> {
        if self.alone.contains(&n) {
            return Ok(None);
        }
        let package = job.exercise.program;
        let places = &self.places[package];
        ensure!(!places.is_empty(), "the program {package} has no place for the number of an answer");
        let path = dir.join(package);
        fs::copy(self.dir.path().join(package), &path).with_context(|| path.display().to_string())?;
        let file = File::options().write(true).open(&path).with_context(|| path.display().to_string())?;
        for place in places {
            file.write_all_at(&number(n).to_ne_bytes(), *place)?;
        }
        Ok(Some(path))
    }

    /// How many have to be compiled alone.
    pub fn alone(&self) -> usize {
        self.alone.len()
    }
}

/// The answer's number in the program: 0 is the engine's own.
fn number(n: usize) -> u64 {
    n as u64 + 1
}

/// Whether each body is one: what is no Rust by itself could change the meaning of what stands behind it.
fn parses(job: &Job) -> bool {
    job.bodies.iter().all(|(_, body)| syn::parse_str::<syn::Block>(&format!("{{{body}\n}}")).is_ok())
}

/// Each item's body with all that it can be.
fn choices(jobs: &[Job], alone: &BTreeSet<usize>) -> Result<Vec<(&'static str, String)>> {
    let mut own: BTreeMap<&'static str, String> = BTreeMap::new();
    let mut others: BTreeMap<&'static str, Vec<(usize, &str)>> = BTreeMap::new();
    for (n, job) in jobs.iter().enumerate() {
        if !job.bodies.iter().all(|(item, _)| own.contains_key(item)) {
            own.extend(tree::answer(&course(), job.exercise)?);
        }
        let together = !alone.contains(&n);
        for (item, body) in job.bodies.iter().filter(|(item, body)| together && own[item] != *body) {
            others.entry(item).or_default().push((n, body));
        }
    }
    Ok(own.into_iter().map(|(item, own)| (item, choice(&own, others.get(item).map_or(&[], |o| o)))).collect())
}

fn choice(own: &str, others: &[(usize, &str)]) -> String {
    let [a, b] = MARK;
    let mut text = format!(
        "\nmatch {{ static ANSWER: [u64; 3] = [{a}, {b}, 0]; ::std::hint::black_box(&ANSWER)[2] }} {{\n"
    );
    for (n, body) in others {
        let _ = write!(text, "{BEGIN}{n}*/\n{} => {{{body}\n}}\n{END}\n", number(*n)); // into a String: cannot fail
    }
    text + "_ => {" + own + "\n}\n}\n"
}

/// The answers in which the compiler found errors.
fn blamed(messages: &str, files: &BTreeMap<String, String>) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    let answers: BTreeMap<&str, Vec<Option<usize>>> =
        files.iter().map(|(file, text)| (file.as_str(), lines(text))).collect();
    for message in errors(messages) {
        for span in message["spans"].as_array().into_iter().flatten() {
            // What is wrong with a macro's text is told with where it was used.
            let mut at = span;
            while at.is_object() && span["is_primary"] == true {
                let of = at["file_name"].as_str().and_then(|file| answers.get(file));
                let line = at["line_start"].as_u64().and_then(|n| usize::try_from(n).ok());
                found.extend(of.zip(line).and_then(|(of, n)| of.get(n.checked_sub(1)?).copied().flatten()));
                at = &at["expansion"]["span"];
            }
        }
    }
    found
}

/// For each line of a file the answer to which it belongs.
fn lines(text: &str) -> Vec<Option<usize>> {
    let mut now = None;
    let mut of = |line: &str| {
        if let Some(n) = line.strip_prefix(BEGIN) {
            now = n.trim_end_matches("*/").parse().ok();
        } else if line == END {
            now = None;
        }
        now
    };
    text.lines().map(&mut of).collect()
}

fn errors(messages: &str) -> impl Iterator<Item = Value> {
    let lines = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let messages = lines.filter(|m| m["reason"] == "compiler-message").map(|mut m| m["message"].take());
    messages.filter(|m| m["level"] == "error")
}

fn rendered(messages: &str) -> String {
    errors(messages).filter_map(|m| m["rendered"].as_str().map(str::to_owned)).collect()
}

/// Where the number stands in a program: behind each mark.
fn marks(program: &[u8]) -> Vec<u64> {
    let [a, b] = MARK.map(u64::to_ne_bytes);
    // A number of eight bytes has an address that eight divides, and so it has in the file (elf(5): p_align).
    let (words, _) = program.as_chunks::<8>();
    let found = words.windows(2).enumerate().filter(|(_, pair)| pair[0] == a && pair[1] == b);
    found.map(|(n, _)| (n as u64 + 2) * 8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_chosen_by_the_number_behind_the_mark() {
        let text = choice(" Ok(1) ", &[(4, "\n    return Err(2); // no\n"), (9, " todo!() ")]);
        syn::parse_str::<syn::Block>(&format!("{{{text}}}")).expect("it is Rust");
        let of: Vec<_> = text.lines().zip(lines(&text)).collect();
        assert!(of.contains(&("    return Err(2); // no", Some(4))), "{of:?}");
        assert!(of.contains(&("10 => { todo!() ", Some(9))), "{of:?}");
        assert!(of.contains(&("_ => { Ok(1) ", None)), "{of:?}");
    }

    #[test]
    fn the_answer_in_which_an_error_is_is_found_also_below_a_macro() {
        let text = choice(" 1 ", &[(0, "\n    good()\n"), (1, "\n    bad!()\n"), (2, "\n    worse()\n")]);
        let line = |what: &str| text.lines().position(|l| l.contains(what)).expect(what) + 1;
        let message = |level: &str, spans: Value| {
            let message = serde_json::json!({ "level": level, "spans": spans, "rendered": "E" });
            format!("{}\n", serde_json::json!({ "reason": "compiler-message", "message": message }))
        };
        let span = |what: &str, primary: bool| serde_json::json!({ "file_name": "a.rs", "is_primary": primary, "line_start": line(what) });
        let mut other = serde_json::json!({ "file_name": "std.rs", "is_primary": true, "line_start": 2 });
        other["expansion"] = serde_json::json!({ "span": span("bad", false) });
        let said = message("warning", serde_json::json!([span("good", true)]))
            + &message("error", serde_json::json!([other]))
            + "not JSON\n"
            + &message("error", serde_json::json!([span("worse", true), span("good", false)]));
        let files = BTreeMap::from([("a.rs".to_owned(), text.clone())]);
        assert_eq!(blamed(&said, &files), BTreeSet::from([1, 2]));
        assert_eq!(rendered(&said), "EE");
    }

    #[test]
    fn a_mark_is_found_where_it_is() {
        let mut program = vec![7; 41];
        for (n, word) in MARK.iter().enumerate() {
            program[8 + 8 * n..16 + 8 * n].copy_from_slice(&word.to_ne_bytes());
        }
        assert_eq!(marks(&program), [24]);
        assert!(marks(&program[..20]).is_empty());
    }
}
