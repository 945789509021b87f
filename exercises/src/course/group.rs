//! A group is made before the process, and the process goes in before it does anything.

use super::{Answer, Case, Exercise, Wrong};
use crate::{
    facts,
    groups::{Groups, cannot_make},
    neighbour::Neighbour,
    run,
    stage::Stage,
    verdict::Verdict,
};
use anyhow::{Context, Result};
use nix::{
    fcntl::{OFlag, open},
    sched::CloneFlags,
    sys::stat::Mode,
    unistd::mkfifo,
};
use std::{
    fs::{self, File},
    io::Write,
};

const MAKE: &str = "cgroups::tree::make_directory";
const DOORS: &str = "cgroups::cgroup::Cgroup::doors";
const SPAWN: &str = "cgroups::cgroup::Cgroup::spawn";

pub(super) const EXERCISE: Exercise = Exercise {
    id: "cgroups/group",
    title: "make a group, and start a process in it",
    section: "7.2",
    items: &[MAKE, DOORS, SPAWN],
    program: "cgroups",
    points: 20,
    task: "`make_directory` makes the group's directory at `path`, and those above it as far as they are missing and inside the tree's\n\
           mount; it says whether the directory was not there before. A new group in version 1's cpuset tree has no processors and no\n\
           memory: `inherit_cpuset` gives it those of the group above.\n\
           `doors` opens, for writing, the file of each of the group's directories into which a process writes \"0\" to move itself there:\n\
           `tasks` on version 1, `cgroup.procs` on version 2.\n\
           `spawn` starts the command in the group. The outer result is about the group, the inner one is the command's own.",
    invariants: &[
        "the process is in the group, in every tree, before the first instruction of the command",
        "a group that was there before is not taken for a new one",
        "the process itself goes in, and nobody else",
    ],
    predict: "a shell starts, forks a child, and only then its ID is written into cgroup.procs. Who is in the group now?",
    hints: [
        "Between fork and exec there is a moment in which the child still runs your code: CommandExt::pre_exec.",
        "What the child needs is opened before the fork. In the child, only write(2) is safe.",
        "create_dir, and at NotFound the parent by the same function, then create_dir again; AlreadyExists is Ok(false).",
    ],
    why: (
        "Why \"0\", when the parent could write the child's ID?",
        "Until it has been written, the child would run outside. And on version 1 a thread that moves itself is spared a lock for \
         which everybody else waits up to 16 ms.",
    ),
    check,
    wrong: &[
        Wrong {
            name: "attach after exec",
            answer: Answer::Change(
                SPAWN,
                "let doors = self.doors()?;",
                "let child = command.spawn(); let id = child.as_ref().map_or(0, Child::id).to_string(); \
                 for door in self.doors()? { let _ = nix::unistd::write(door.as_fd(), id.as_bytes()); } \
                 if !id.is_empty() { return Ok(child); } let doors = self.doors()?;",
            ),
            told: "outside",
        },
        Wrong {
            name: "not moved at all",
            answer: Answer::Change(SPAWN, "nix::unistd::write(door.as_fd(), b\"0\")?;", "let _ = door;"),
            told: "outside",
        },
        Wrong {
            name: "the parent goes in, too",
            answer: Answer::Change(
                SPAWN,
                "Ok(command.spawn())",
                "for door in self.doors()? { let _ = nix::unistd::write(door.as_fd(), b\"0\"); } Ok(command.spawn())",
            ),
            told: "the runtime itself",
        },
        Wrong {
            name: "only the trees of version 1",
            answer: Answer::Change(DOORS, "g.version == Version::V2", "g.version == Version::V2 && false"),
            told: "version 2",
        },
        Wrong {
            name: "only version 2",
            answer: Answer::Change(DOORS, "self.tasks()?", "Vec::new()"),
            told: "outside",
        },
        Wrong {
            name: "a group that is there is taken for a new one",
            answer: Answer::Change(MAKE, "return Ok(false)", "return Ok(true)"),
            told: "holds a process already",
        },
        Wrong {
            name: "groups above are not made",
            answer: Answer::Change(MAKE, "make_directory(tree, above)?;", ""),
            told: "ENOENT",
        },
        Wrong {
            name: "a cpuset without processors",
            answer: Answer::Change(MAKE, "inherit_cpuset(tree, path)?;", ""),
            told: "a cpuset",
        },
    ],
};

fn check(case: &Case) -> Result<Verdict> {
    if let Some(verdict) = before_the_first_instruction(case)? {
        return Ok(verdict);
    }
    if let Some(verdict) = version_2(case)? {
        return Ok(verdict);
    }
    if let Some(why) = cannot_make() {
        return Ok(Verdict::NotChecked(format!("whether the process is in the group: {why}")));
    }
    if let Some(verdict) = taken(case)? {
        return Ok(verdict);
    }
    real(case)
}

/// A stage whose `tasks` is a full pipe: whoever wants into the group waits there, until it is emptied. If the command
/// runs meanwhile, it runs outside.
fn before_the_first_instruction(case: &Case) -> Result<Option<Verdict>> {
    let mut stage = Stage::new(case, "before")?;
    stage.v1("pids", &[])?;
    stage.v1("memory", &[])?;
    let tasks = stage.file("pids", "tasks");
    fs::remove_file(&tasks)?;
    mkfifo(&tasks, Mode::from_bits_truncate(0o600)).context("make a pipe")?;
    let flags = OFlag::O_RDWR | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let pipe = File::from(open(&tasks, flags, Mode::empty()).context("open the pipe")?);
    while (&pipe).write(&[b'x'; 4096]).is_ok() {}
    let ran = case.dir.join("ran");
    let mut command = case.command();
    command.args(["limit", "--quiet", "--path", &format!("/{}", stage.group), "--", "touch"]).arg(&ran);
    stage.around(&mut command)?;
    let mut running = run::start(&mut command)?;
    // A child that waits in write(2) has got there; one that does not will have run long before this is over.
    let start = std::time::Instant::now();
    let waits = |pid: &i32| facts::wait_channel(*pid).contains("pipe");
    let stopped = running.watch(|pid| {
        let someone = facts::children(pid).iter().any(waits) || waits(&pid);
        (ran.exists() || someone || start.elapsed().as_secs() >= 8).then_some(someone)
    })?;
    let outside = ran.exists() && stopped != Some(true);
    let itself = stopped == Some(true) && waits(&running.pid());
    drop(pipe); // the last reader: now the writer goes on, with an error
    let ended = running.end()?;
    Ok(match stopped {
        _ if ended.untouched() => {
            Some(Verdict::failed("a command starts in a group", ended.tell(), "the function is still empty"))
        }
        _ if itself => Some(Verdict::failed(
            "the child moves itself into the group",
            "the runtime itself was about to write into tasks, while the command runs outside",
            "between fork and exec: pre_exec",
        )),
        Some(true) => None,
        _ => Some(Verdict::failed(
            "the process passes through `tasks` of every version 1 tree before it becomes the command",
            if outside {
                "the command ran outside: nobody had written into tasks".into()
            } else {
                ended.tell()
            },
            "was the child moved after its start? Then what it has forked until then stays outside",
        )),
    })
}

/// And of version 2, where this machine may have none.
fn version_2(case: &Case) -> Result<Option<Verdict>> {
    let mut stage = Stage::new(case, "unified")?;
    stage.v2("memory pids", &[])?;
    stage.v1("cpuacct", &[])?;
    let mut command = case.command();
    command.args(["limit", "--quiet", "--path", &format!("/{}", stage.group), "--", "true"]);
    stage.around(&mut command)?;
    let ended = run::start(&mut command)?.end()?;
    let seen = stage.text("unified", "cgroup.procs");
    Ok((seen != "0").then(|| {
        Verdict::failed(
            "on version 2, the child writes 0 into cgroup.procs",
            format!("it holds '{seen}' ({})", ended.tell()),
            "tasks is version 1's; version 2 has cgroup.procs",
        )
    }))
}

/// Somebody else's group stays theirs.
fn taken(case: &Case) -> Result<Option<Verdict>> {
    let groups = Groups::named(&format!("lab-{}", case.dice.word()));
    groups.make()?;
    let other = Neighbour::start(case, CloneFlags::empty(), None)?;
    groups.put(other.pid)?;
    let mut command = case.command();
    command.args(["limit", "--quiet", "--path", &groups.path(), "--", "true"]);
    let mut running = run::start(&mut command)?;
    running.watch(|_| None::<()>)?; // until its end
    let lives = other.lives();
    let ended = running.end()?;
    Ok((ended.code() == Some(0) || !lives).then(|| {
        Verdict::failed(
            "a group that holds a process already is refused, and the process is left alone",
            if lives { "it was used".to_owned() } else { "the process in it was killed".to_owned() },
            "make_directory says whether the directory was not there before",
        )
    }))
}

/// A real group, with groups above it that are not there, and a cpuset.
fn real(case: &Case) -> Result<Verdict> {
    let top = Groups::named(&format!("lab-{}", case.dice.word()));
    let groups = Groups::named(&format!(
        "{}/{}/{}",
        top.path().trim_start_matches('/'),
        case.dice.word(),
        case.dice.word()
    ));
    let code = case.dice.number(3..90) as i32;
    let mut command = case.command();
    command.args(["limit", "--quiet", "--path", &groups.path()]);
    if groups.is_v2("cpuset").is_some() {
        let allowed = facts::status(std::process::id() as i32, "Cpus_allowed_list").unwrap_or_default();
        command.args(["--cpuset-cpus", &allowed]);
    }
    // The child's child is counted with it, wherever it goes.
    command.args(["--", "sh", "-c", &format!("sleep 60 & read x; exit {code}")]);
    let mut running = run::start(&mut command)?;
    let inside = running.watch(|_| {
        let named = |pid: i32| facts::status(pid, "Name").unwrap_or_default();
        let all: Vec<String> = groups.processes().into_iter().map(named).collect();
        ["sh", "sleep"].iter().all(|n| all.iter().any(|a| a == n)).then_some(())
    })?;
    let there = groups.there();
    let missing = there.iter().find(|at| {
        let text = fs::read_to_string(at.join("cgroup.procs")).unwrap_or_default();
        text.lines().count() < 2
    });
    let missing = missing.map(|at| at.display().to_string());
    let runtime = groups.processes().contains(&running.pid());
    let ended = running.end()?;
    let left = groups.there();
    Ok(if inside.is_none() || there.is_empty() {
        Verdict::failed(
            "the command and what it has forked are in the group",
            format!("they are not there: {}", ended.tell()),
            if ["ENOSPC", "No space left", "cpuset"].iter().any(|w| ended.stderr.contains(w)) {
                "a cpuset without processors or memory nodes takes nobody"
            } else {
                "are the groups above there? Does the child go in itself?"
            },
        )
    } else if let Some(missing) = missing {
        Verdict::failed(
            "they are in it in every tree",
            format!("in {missing} they are not"),
            "one door for each of the group's directories, of version 1 and of version 2",
        )
    } else if runtime {
        Verdict::failed(
            "only the command is in the group",
            "the runtime itself is in it",
            "who writes the 0?",
        )
    } else if ended.code() != Some(code) || !left.is_empty() {
        Verdict::failed(
            format!("it ends with the command's exit status {code}, and the group is gone"),
            format!("{}; left: {left:?}", ended.tell()),
            "the inner result is the command's",
        )
    } else {
        Verdict::Passed
    })
}
