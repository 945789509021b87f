//! Judging again each time a file is saved.

use super::grade::tell;
use crate::{pick, started};
use anyhow::{Context, Result};
use lab::{course::Exercise, grade, judge::Judge, tree};
use notify::{EventKind, RecursiveMode, Watcher};
use std::{
    path::Path,
    process::ExitCode,
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    time::Duration,
};

/// An editor writes a file in several steps: what comes within this time of the last is one change.
const SETTLED: Duration = Duration::from_millis(80);

/// Judges the exercise, and each time something is saved; a solved one gives way to the next, unless one was named.
pub(crate) fn watch(dir: &Path, name: Option<&str>) -> Result<ExitCode> {
    started(dir)?;
    // Before there is a second thread: the judge steps out of the host's namespaces.
    let judge = Judge::new(None)?;
    let (tell_me, changes) = channel();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let changed = |e: &notify::Event| {
            !matches!(e.kind, EventKind::Access(_))
                && e.paths.iter().any(|p| p.extension().is_some_and(|x| x == "rs"))
        };
        // An error means that something was missed: look rather once too often.
        if event.as_ref().map_or(true, changed) {
            let _ = tell_me.send(()); // nobody listens any more: this program is ending
        }
    })
    .context("watch files (inotify(7))")?;
    for part in ["src", "chapters"] {
        let path = dir.join(part);
        watcher
            .watch(&path, RecursiveMode::Recursive)
            .with_context(|| format!("watch {}", path.display()))?;
    }
    let mut judged: Option<(&Exercise, Vec<String>)> = None;
    loop {
        let Ok(exercise) = pick(dir, name) else {
            println!("Everything is done. See it all at once: cargo lab grade");
            return Ok(ExitCode::SUCCESS);
        };
        let bodies =
            tree::answer(dir, exercise).map(|all| all.into_iter().map(|(_, b)| b).collect::<Vec<_>>());
        let bodies = bodies.unwrap_or_default(); // what is missing is told by the verdict
        if judged.as_ref().is_none_or(|(e, old)| e.id != exercise.id || bodies.is_empty() || *old != bodies) {
            println!("\n── {}: {} ──", exercise.id, exercise.title);
            let row = grade::row(&judge, None, dir, exercise)?;
            tell(dir, &row)?;
            judged = Some((exercise, bodies));
            if row.verdict.passed() && name.is_none() {
                continue;
            }
            println!("\nwatching {}; end with Ctrl-C", dir.display());
        }
        wait(&changes)?;
    }
}

/// Waits for a change, and until there is no more.
fn wait(changes: &Receiver<()>) -> Result<()> {
    changes.recv().context("the watch on the files has ended")?;
    while !matches!(
        changes.recv_timeout(SETTLED),
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected)
    ) {}
    Ok(())
}
