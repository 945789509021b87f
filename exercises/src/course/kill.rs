//! The end of a group: everybody in it, and the directories after them.

use super::{Answer, Case, Exercise, Wrong};
use crate::{
    facts,
    groups::{Groups, cannot_make, trees},
    neighbour::Neighbour,
    run,
    stage::{self, Stage},
    verdict::Verdict,
};
use anyhow::{Context, Result};
use nix::sched::CloneFlags;
use std::{
    fs,
    time::{Duration, Instant},
};

const KILL: &str = "cgroups::cgroup::Cgroup::kill";
const REMOVE: &str = "cgroups::cgroup::Cgroup::remove";

pub(super) const EXERCISE: Exercise = Exercise {
    id: "cgroups/kill",
    title: "kill everybody in a group, and remove it",
    section: "7.2",
    items: &[KILL, REMOVE],
    program: "cgroups",
    points: 20,
    task: "`kill` ends every process in the group and in the groups below it. Version 2 does it at one word: a 1 into cgroup.kill\n\
           (Linux 5.14). Where that is not there, each process has to be killed by its ID, and a list of IDs is old as soon as it is\n\
           read: `freeze(true)` stops the whole group where it is, `freeze(false)` lets it go on; `procs` lists it.\n\
           `remove` removes the group's directories, and those below them. A killed process leaves its group a moment after the kill:\n\
           until then rmdir(2) says EBUSY. `tree::below` lists a group and those below it, each before its children; `tree::wait_until`\n\
           asks until something is so. Processes that do not end within 10 s are an error; a directory that is gone already is none.",
    invariants: &[
        "no process of the group is left, however fast it forks",
        "no directory of the group is left, in any tree",
        "nobody else is killed",
    ],
    predict: "a process gets SIGKILL while its group is frozen. When does it die?",
    hints: [
        "What could happen between reading the list and killing the last one on it?",
        "Freeze, read, kill each, thaw: in a frozen group nobody forks, and on version 1 nobody dies before the thaw.",
        "Remove from the deepest up (.rev()), and take EBUSY as \"not yet\": wait_until(10 s, || remove_dir is Ok or NotFound, || ()).",
    ],
    why: (
        "Why is killing the container's first process not enough?",
        "It is where the container has a pid namespace of its own: the kernel then kills all others. One that shares the host's has \
         nothing that holds its processes together but the group.",
    ),
    check,
    wrong: &[
        Wrong {
            name: "only the first process is killed",
            answer: Answer::Change(KILL, "self.procs()?", "self.procs()?.into_iter().take(1)"),
            told: "are left",
        },
        Wrong {
            name: "the list is read while they fork",
            answer: Answer::Change(KILL, "self.freeze(true).is_ok()", "false"),
            told: "was not frozen",
        },
        Wrong {
            name: "frozen, killed, and never thawed",
            answer: Answer::Change(KILL, "self.freeze(false)", "Ok(())"),
            told: "are left",
        },
        Wrong { name: "nobody is killed", answer: Answer::Body(" Ok(()) "), told: "are left" },
        Wrong {
            name: "rmdir without waiting",
            answer: Answer::Change(REMOVE, "Some(libc::EBUSY) => Ok(false)", "Some(libc::EBUSY) => Ok(true)"),
            told: "is still there",
        },
        Wrong {
            name: "groups below are not removed first",
            answer: Answer::Change(REMOVE, ".iter().rev()", ".iter()"),
            told: "still there",
        },
        Wrong {
            name: "only the first tree is cleaned",
            answer: Answer::Change(
                REMOVE,
                "for group in &self.groups",
                "for group in self.groups.iter().take(1)",
            ),
            told: "is still there",
        },
    ],
};

fn check(case: &Case) -> Result<Verdict> {
    if let Some(why) = cannot_make() {
        return Ok(Verdict::NotChecked(format!("whether the processes are gone: {why}")));
    }
    for part in [frozen_meanwhile, by_one_word, gone_before] {
        if let Some(verdict) = part(case)? {
            return Ok(verdict);
        }
    }
    let all = trees();
    // By the word of version 2, where it is here; and by freezing, where version 1 has a tree for that.
    if all.iter().any(|t| t.v2)
        && let Some(verdict) = end_of_group(case, true)?
    {
        return Ok(verdict);
    }
    if all.iter().any(|t| !t.v2 && t.controllers.iter().any(|c| c == "freezer"))
        && let Some(verdict) = end_of_group(case, false)?
    {
        return Ok(verdict);
    }
    Ok(Verdict::Passed)
}

/// A stage of version 2: nobody dies of what is written there, so it is seen what else is done.
fn by_one_word(case: &Case) -> Result<Option<Verdict>> {
    let mut stage = Stage::new(case, "word")?;
    stage.v2("memory pids", &[("cgroup.freeze", "")])?;
    let victim = Neighbour::start(case, CloneFlags::empty(), None)?;
    let list = stage.file("unified", "cgroup.procs");
    let mut command = case.command();
    command.args(["limit", "--quiet", "--path", &format!("/{}", stage.group), "--", "sh", "-c"]);
    command.arg(format!("echo {} >{}", victim.number(), list.display()));
    stage.around(&mut command)?;
    let ended = run::start(&mut command)?.end()?;
    let (word, frozen) = (stage.text("unified", "cgroup.kill"), stage.text("unified", "cgroup.freeze"));
    let failed = |seen: String, hint: &str| {
        let hint = if ended.untouched() { "the function is still empty" } else { hint };
        Some(Verdict::failed(
            "where there is cgroup.kill, a 1 is written into it, and nothing else is done",
            seen,
            hint,
        ))
    };
    Ok(if word != "1" {
        failed(
            format!("cgroup.kill holds '{word}' ({})", ended.tell()),
            "which of the group's trees is version 2's?",
        )
    } else if !frozen.is_empty() || !victim.lives() {
        failed(
            "the group was frozen, too, or who is on its list killed".into(),
            "when the kernel has done it, it is done",
        )
    } else {
        None
    })
}

/// A group of which somebody else has removed a directory.
fn gone_before(case: &Case) -> Result<Option<Verdict>> {
    let groups = Groups::named(&format!("lab-{}", case.dice.word()));
    let code = case.dice.number(3..90) as i32;
    let mut command = case.command();
    command.args(["limit", "--quiet", "--path", &groups.path(), "--", "sh", "-c"]);
    command.arg(format!("read x; exit {code}"));
    let mut running = run::start(&mut command)?;
    let inside = running.watch(|_| groups.processes().first().copied())?;
    // Where it is in one tree alone, as on version 2, nobody else can remove the directory under it.
    let mut removed = None;
    let there = if inside.is_some() { groups.there() } else { Vec::new() };
    for directory in there.iter().rev().take(there.len().saturating_sub(1)) {
        let out = directory.parent().zip(inside).is_some_and(|(above, pid)| {
            // Where the group above hands controllers down (version 2), it takes no process.
            fs::write(above.join("cgroup.procs"), pid.to_string()).is_ok()
        });
        if out && soon(|| fs::remove_dir(directory).is_ok()) {
            removed = Some(directory.clone());
            break;
        }
    }
    let ended = running.end()?;
    Ok(removed.filter(|_| ended.code() != Some(code)).map(|removed| {
        let hint = if ended.untouched() {
            "the function is still empty"
        } else {
            "ErrorKind::NotFound is what was wanted"
        };
        Verdict::failed(
            "a directory that is gone already is no error",
            format!("{} was gone: {}", removed.display(), ended.tell()),
            hint,
        )
    }))
}

/// A stage whose freezer is a file: it says afterwards what was written there. The group's one process is another's, put on
/// the list by the command itself.
fn frozen_meanwhile(case: &Case) -> Result<Option<Verdict>> {
    let mut stage = Stage::new(case, "freezer")?;
    stage.v1("freezer", &[("freezer.state", "")])?;
    let victim = Neighbour::start(case, CloneFlags::empty(), None)?;
    let list = stage.file("freezer", "cgroup.procs");
    let mut command = case.command();
    command.args(["limit", "--quiet", "--path", &format!("/{}", stage.group), "--", "sh", "-c"]);
    command.arg(format!("echo {} >{}", victim.number(), list.display()));
    stage.around(&mut command)?;
    let mut running = run::start(&mut command)?;
    running.finish()?;
    let state = stage.text("freezer", "freezer.state");
    let lives = !soon(|| !victim.lives());
    let ended = running.end()?;
    Ok(if ended.code().is_none() {
        Some(Verdict::failed(
            "an error that does not pass is told at once",
            format!(
                "a directory with files in it (ENOTEMPTY, on this stage) was waited for: {}",
                ended.tell()
            ),
            "only EBUSY is a matter of time",
        ))
    } else if lives {
        Some(Verdict::failed(
            "without cgroup.kill, each process on the list is killed",
            format!("one was not: are left ({})", ended.tell()),
            "procs lists them",
        ))
    } else if state != "THAWED" {
        Some(Verdict::failed(
            "the group is frozen while the list is read and they are killed, and thawed afterwards",
            if state.is_empty() {
                "it was not frozen: who forks meanwhile, escapes"
            } else {
                "it was not thawed: they are left, and cannot die"
            },
            "freeze(true), procs, kill each, freeze(false)",
        ))
    } else {
        None
    })
}

/// Whether it is so, or is after three seconds at the latest: what was killed may take a moment to die, and what was not
/// killed does not die at all.
fn soon(so: impl Fn() -> bool) -> bool {
    let since = Instant::now();
    while !so() && since.elapsed() < run::limit(Duration::from_secs(3)) {
        std::thread::sleep(Duration::from_millis(5));
    }
    so()
}

/// A command that leaves others behind when it ends: some that sleep, one in a group below, and one that is never the
/// same process for long.
fn end_of_group(case: &Case, v2: bool) -> Result<Option<Verdict>> {
    let name = format!("lab-{}", case.dice.word());
    let (groups, stranger_group) = (Groups::named(&name), Groups::named(&format!("{name}-other")));
    stranger_group.make()?;
    let stranger = Neighbour::start(case, CloneFlags::empty(), None)?;
    stranger_group.put(stranger.pid)?;
    let (count, code) = (case.dice.number(40..70), case.dice.number(3..90) as i32);
    // `hop` becomes another process every time (and another shell now and then, whose functions do not nest without end):
    // whoever reads a list of IDs and then kills, reads of the dead.
    let hop = case.dir.join("hop");
    let itself = hop.display();
    let text = format!("n=0; hop() {{ [ $n -lt 500 ] || exec sh {itself}; n=$((n + 1)); hop & exit; }}; hop");
    fs::write(&hop, text).context("write a script")?;
    let script = format!(
        "for i in $(seq {count}); do sleep 300 >/dev/null 2>&1 & done; \
         for i in $(seq 12); do sh {itself} >/dev/null 2>&1 & done; read x; exit {code}"
    );
    let mut command = case.command();
    command.args(["limit", "--quiet", "--path", &groups.path(), "--", "sh", "-c", &script]);
    if !v2 {
        stage::without_v2(case, &mut command)?;
    }
    let mut running = run::start(&mut command)?;
    let sleeping = |pid: &i32| facts::status(*pid, "Name").as_deref() == Some("sleep");
    running.watch(|_| {
        let sleepers = groups.processes().iter().filter(|p| sleeping(p)).count();
        (sleepers as u64 == count).then_some(())
    })?;
    // A group below, with one of the sleepers in it, as a container's own init would make one.
    let there = groups.there();
    let moved = groups.processes().into_iter().find(|p| sleeping(p));
    for at in &there {
        let below = at.join("below");
        fs::create_dir(&below)?;
        for file in ["cpuset.cpus", "cpuset.mems"].iter().filter(|f| !v2 && below.join(f).is_file()) {
            fs::write(below.join(file), fs::read(at.join(file))?)?;
        }
        if let Some(pid) = moved {
            // On version 2 a group that hands controllers down has no processes, so this may be refused.
            let _ = fs::write(below.join("cgroup.procs"), pid.to_string());
        }
    }
    running.finish()?;
    let (directories, lives) = (groups.there(), stranger.lives());
    soon(|| groups.processes().is_empty());
    let left = groups.processes();
    groups.thaw(); // or what is frozen would keep us waiting
    let ended = running.end()?;
    let how = if v2 { "" } else { " (where there is no cgroup.kill)" };
    Ok(if there.is_empty() {
        Some(Verdict::failed("a group is made", ended.tell(), "which call failed, and with what?"))
    } else if !lives {
        Some(Verdict::failed(
            "nobody outside the group is killed",
            "a process of another group is dead",
            "whose IDs were those?",
        ))
    } else if !left.is_empty() {
        Some(Verdict::failed(
            format!("no process of the group is left{how}"),
            format!("{} are left ({})", left.len(), ended.tell()),
            "the list is old as soon as it is read, unless nobody can fork; a frozen process dies when it is thawed",
        ))
    } else if let Some(at) = directories.first() {
        Some(Verdict::failed(
            format!("no directory of the group is left{how}"),
            format!("{} is still there ({})", at.display(), ended.tell()),
            "EBUSY means \"not yet\": what was killed leaves its group a moment later; and a group goes after those below it",
        ))
    } else if ended.code() != Some(code) {
        Some(Verdict::failed(
            format!("it ends with the command's exit status {code}"),
            ended.tell(),
            if ended.untouched() {
                "the function is still empty"
            } else {
                "which call failed, and with what?"
            },
        ))
    } else {
        None
    })
}
