//! The exercises. To add one: a file here with a `pub const EXERCISE`, and its line in [`ALL`].

use crate::{bundle::Bundle, dice::Dice, facts, run::Running, sandbox::Sandbox, verdict::Verdict};
use std::{collections::BTreeMap, path::Path, process::Command};

mod cache;
mod clone;
mod cpu;
mod diff;
mod expand;
mod extract;
mod frames;
mod group;
mod hand_down;
mod ignore;
mod join;
mod kill;
mod loopback;
mod maps;
mod memory;
mod pivot;
mod private;
mod pull;
mod reference;
mod signals;
mod staged;
mod stats;
mod store;
mod tool;
mod veth;
mod whiteouts;

/// Every exercise, in the order in which they are best done.
pub const ALL: &[&Exercise] = &[
    &loopback::EXERCISE,
    &clone::EXERCISE,
    &maps::EXERCISE,
    &private::EXERCISE,
    &pivot::EXERCISE,
    &signals::EXERCISE,
    &join::EXERCISE,
    &veth::EXERCISE,
    &group::EXERCISE,
    &hand_down::EXERCISE,
    &memory::EXERCISE,
    &cpu::EXERCISE,
    &stats::EXERCISE,
    &kill::EXERCISE,
    &store::EXERCISE,
    &extract::EXERCISE,
    &whiteouts::EXERCISE,
    &diff::EXERCISE,
    &expand::EXERCISE,
    &cache::EXERCISE,
    &ignore::EXERCISE,
    &reference::EXERCISE,
    &pull::EXERCISE,
    &frames::EXERCISE,
];

/// One exercise.
pub struct Exercise {
    /// `namespaces/pivot`.
    pub id: &'static str,
    /// A few words.
    pub title: &'static str,
    /// The book's section.
    pub section: &'static str,
    /// The functions whose bodies are missing, by their paths in the chapter code.
    pub items: &'static [&'static str],
    /// The chapter's program, by which the check sees what was written.
    pub program: &'static str,
    /// What it earns.
    pub points: u32,
    /// What to write.
    pub task: &'static str,
    /// What must hold, whatever the code looks like.
    pub invariants: &'static [&'static str],
    /// A question to answer before any code is written.
    pub predict: &'static str,
    /// From gentle to nearly there.
    pub hints: [&'static str; 3],
    /// A question for afterwards, and its answer.
    pub why: (&'static str, &'static str),
    /// Looks at what the program does.
    pub check: fn(&Case) -> anyhow::Result<Verdict>,
    /// The catalogue of wrong answers: each must lose the points, with the message meant for it.
    pub wrong: &'static [Wrong],
}

/// What a check gets.
pub struct Case<'a> {
    /// The chapter's program, with the reader's functions in it.
    pub program: &'a Path,
    /// An empty directory of the check's own.
    pub dir: &'a Path,
    /// Where values come from that are new in every run.
    pub dice: Dice,
    /// Where all of it runs.
    pub sandbox: &'a Sandbox,
}

impl Case<'_> {
    /// The program as a command, to be given to [`crate::run::start`]. It runs in a sandbox: another process that it is to
    /// meet is started by [`crate::sandbox::spawn`] and known to it as [`facts::inside`] says.
    pub fn command(&self) -> Command {
        self.sandbox.command(self.program)
    }

    /// The namespaces in which the program is started, by kind: it has left those that are others. (Not the grader's own:
    /// the program is in a mount and a pid namespace of the sandbox to begin with.)
    pub fn host(&self) -> BTreeMap<String, String> {
        facts::namespaces(self.sandbox.first())
    }
}

/// A classic mistake.
pub struct Wrong {
    /// What is wrong with it.
    pub name: &'static str,
    /// What it looks like.
    pub answer: Answer,
    /// What the verdict must say.
    pub told: &'static str,
}

/// How a wrong answer differs from the engine's own.
pub enum Answer {
    /// The first item has this body.
    Body(&'static str),
    /// In the body of this item, the first text (which must be there exactly once) is replaced by the second.
    Change(&'static str, &'static str, &'static str),
}

/// The exercise of this name, or the only one whose name ends so.
pub fn find(id: &str) -> anyhow::Result<&'static Exercise> {
    let ends = |e: &&&Exercise| e.id == id || e.id.split('/').next_back() == Some(id);
    let found: Vec<_> = ALL.iter().filter(ends).collect();
    match found[..] {
        [one] => Ok(one),
        [] => anyhow::bail!("there is no exercise {id}. `cargo lab list` names them"),
        _ => {
            anyhow::bail!("more than one exercise is called {id}; say which chapter's: namespaces/{id}, ...")
        }
    }
}

/// Waits until the container's program runs (it is `cat`, which waits for its input) and returns its process ID; none
/// if it ended before.
fn started(running: &mut Running, bundle: &Bundle) -> anyhow::Result<Option<i32>> {
    let name = bundle.config["hostname"].as_str().unwrap_or_default().len();
    running.watch(|parent| {
        let host = facts::namespaces(parent);
        facts::children(parent).into_iter().find(|&pid| {
            let own = facts::namespaces(pid);
            let program = facts::status(pid, "Name");
            name > 0
                && own.get("mnt").is_some_and(|inode| Some(inode) != host.get("mnt"))
                && matches!(program.as_deref(), Some("cat" | "sh" | "dash" | "bash" | "busybox"))
        })
    })
}

/// The verdict on a container that ended before its program ran. `hint` gets what it said, and is asked unless the
/// function is still as it was given out.
fn never_started(running: Running, hint: impl FnOnce(&str) -> &'static str) -> anyhow::Result<Verdict> {
    let ended = running.end()?;
    let hint = if ended.untouched() { "the function is still empty" } else { hint(&ended.stderr) };
    let seen = format!("it ended before its program ran: {}", ended.tell());
    Ok(Verdict::failed("the container starts", seen, hint))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{judge, tree};
    use std::collections::BTreeSet;

    /// A function that was renamed or moved, or a text that a wrong answer changes and that is no longer there, is found here.
    #[test]
    fn every_exercise_is_of_the_code_that_is_shipped() {
        for e in ALL {
            let reference =
                tree::answer(&tree::course(), e).unwrap_or_else(|error| panic!("{}: {error:#}", e.id));
            assert!(reference.iter().all(|(_, body)| !judge::is_empty(body)), "{}", e.id);
            for wrong in e.wrong {
                let mistaken = judge::mistaken(&reference, &wrong.answer);
                let mistaken = mistaken.unwrap_or_else(|error| panic!("{}: {}: {error:#}", e.id, wrong.name));
                assert_ne!(mistaken, reference, "{}: {} is the right answer", e.id, wrong.name);
            }
        }
    }

    #[test]
    fn every_exercise_is_whole() {
        let ids: BTreeSet<_> = ALL.iter().map(|e| e.id).collect();
        assert_eq!(ids.len(), ALL.len(), "two exercises have one name");
        for e in ALL {
            assert!(e.wrong.len() >= 4, "{} has too few wrong answers", e.id);
            assert!(!e.invariants.is_empty() && e.points > 0 && e.id.contains('/'), "{}", e.id);
            let texts = [e.task, e.predict, e.why.0, e.why.1, e.title, e.section];
            assert!(texts.iter().chain(&e.hints).all(|t| !t.is_empty()), "{}", e.id);
            assert!(e.wrong.iter().all(|w| !w.told.is_empty()), "{}", e.id);
        }
    }
}
