//! On version 2 a controller is handed down, from group to group.

use super::{Answer, Case, Exercise, Wrong};
use crate::{
    groups::{Groups, cannot_make, trees},
    neighbour::Neighbour,
    run::{self, Ended},
    stage::Stage,
    verdict::Verdict,
};
use anyhow::{Context, Result};
use nix::sched::CloneFlags;
use std::{
    collections::BTreeSet,
    fs::{self, File},
    os::unix::process::CommandExt,
};

const DOWN: &str = "cgroups::v2::delegate";

pub(super) const EXERCISE: Exercise = Exercise {
    id: "cgroups/hand-down",
    title: "hand controllers down to a group",
    section: "7.2",
    items: &[DOWN],
    program: "cgroups",
    points: 20,
    task: "A version 2 group has the files of a controller only if the group above it lists that in cgroup.subtree_control. `delegate`\n\
           sees to it, from the tree's mount down to the parent of `group`: what cgroup.controllers offers, and subtree_control does\n\
           not list yet, is asked for in one write (\"+cpu +memory\"). One write is all or nothing: where it is refused, each is tried\n\
           by itself, and what is refused then is left (a limit that needs it will say so).\n\
           A group with processes of its own cannot hand down (EBUSY, \"no internal processes\"). Where that is our own group (`own`),\n\
           `move_into_leaf` makes room, and it is asked once more.",
    invariants: &[
        "each group above has handed down everything that it was offered",
        "the group itself hands nothing down: it is to hold processes",
        "nobody else's processes are moved",
    ],
    predict: "a group holds a process, and you write +memory into its cgroup.subtree_control. Which of the two has to go?",
    hints: [
        "cgroup-v2.rst, \"Top-down Constraint\" and \"No Internal Process Constraint\".",
        "group.ancestors().skip(1), as long as they start with the mount; then from the top.",
        "missing = offered and not given, each with a +; write(control, missing.join(\" \")); at EBUSY in `own`: move_into_leaf, and once more.",
    ],
    why: (
        "Why may a group not both hold processes and hand down controllers?",
        "Its processes would compete with its child groups, and no weight says how a process counts against a group. Version 1 left \
         that to each controller, and each did it differently.",
    ),
    check,
    wrong: &[
        Wrong {
            name: "controllers are not enabled",
            answer: Answer::Body(" let _ = (mount, own, group); Ok(()) "),
            told: "is not handed down",
        },
        Wrong {
            name: "only the parent hands down",
            answer: Answer::Change(DOWN, ".skip(1)", ".skip(1).take(1)"),
            told: "is not handed down",
        },
        Wrong {
            name: "the group itself hands down",
            answer: Answer::Change(DOWN, ".skip(1)", ".skip(0)"),
            told: "the group itself",
        },
        Wrong {
            name: "our own group is in the way, and stays",
            answer: Answer::Change(DOWN, "&& parent == own", "&& parent == own && false"),
            told: "that the program itself is in",
        },
        Wrong {
            name: "room is made whoever is in the way",
            answer: Answer::Change(DOWN, "&& parent == own", ""),
            told: "nobody is moved",
        },
        Wrong {
            name: "what is given already is asked for again",
            answer: Answer::Change(DOWN, "!given.split_whitespace().any(|g| g == *c)", "true"),
            told: "listed already",
        },
    ],
};

fn check(case: &Case) -> Result<Verdict> {
    if let Some(verdict) = staged(case)? {
        return Ok(verdict);
    }
    if let Some(why) = cannot_make() {
        return Ok(Verdict::NotChecked(format!("whether a real group gets its controllers: {why}")));
    }
    let limits = |c: &String| c == "memory" || c == "pids";
    if !trees().iter().any(|t| t.v2 && t.controllers.iter().any(limits)) {
        return Ok(Verdict::NotChecked("this machine's controllers are all version 1's".into()));
    }
    real(case)
}

/// Three groups above, each of which has been offered something else.
fn staged(case: &Case) -> Result<Option<Verdict>> {
    let mut stage = Stage::new(case, "down")?;
    let leaf = stage.group.clone();
    let (top, middle) = (case.dice.word(), case.dice.word());
    stage.group = format!("{top}/{middle}/{leaf}");
    stage
        .v2("cpu io memory pids", &[("cgroup.subtree_control", ""), ("memory.max", ""), ("pids.max", "")])?;
    let root = stage.root("unified");
    // At the root all is given but one; below it nothing; then everything.
    let all = ["cpu", "io", "memory", "pids"];
    let held = all[case.dice.number(0..4) as usize];
    let given: Vec<&str> = all.into_iter().filter(|c| *c != held).collect();
    let levels = [
        (String::new(), given.join(" "), vec![held]),
        (top.clone(), String::new(), all.to_vec()),
        (format!("{top}/{middle}"), all.join(" "), vec![]),
        (stage.group.clone(), String::new(), vec![]),
    ];
    for (path, given, _) in &levels {
        fs::write(root.join(path).join("cgroup.controllers"), all.join(" "))?;
        // Behind blanks: what is asked for is written over those, as the kernel would take it besides what is there.
        fs::write(root.join(path).join("cgroup.subtree_control"), format!("{:60}{given}", ""))?;
    }
    let mut command = case.command();
    command.args([
        "limit",
        "--quiet",
        "--memory",
        "64m",
        "--path",
        &format!("/{}", stage.group),
        "--",
        "true",
    ]);
    stage.around(&mut command)?;
    let ended = run::start(&mut command)?.end()?;
    for (path, given, missing) in &levels {
        let text = fs::read_to_string(root.join(path).join("cgroup.subtree_control"))?;
        let asked: BTreeSet<&str> = text.split_whitespace().filter_map(|w| w.strip_prefix('+')).collect();
        let wanted: BTreeSet<&str> = missing.iter().copied().collect();
        let name = if path.is_empty() { "the tree's root".to_owned() } else { format!("/{path}") };
        if let Some(one) = wanted.difference(&asked).next() {
            return Ok(Some(Verdict::failed(
                format!("{name} hands down {missing:?}"),
                format!(
                    "{one} is not handed down: cgroup.subtree_control was given '{}' ({})",
                    text.trim(),
                    ended.tell()
                ),
                if ended.untouched() {
                    "the function is still empty"
                } else {
                    "every group above lists it, from the top down, in one write"
                },
            )));
        }
        if *path == stage.group && !text.trim().is_empty() {
            return Ok(Some(Verdict::failed(
                "the group itself hands nothing down",
                format!("the group itself was given '{}'", text.trim()),
                "a group that hands down can hold no processes",
            )));
        }
        if asked != wanted {
            return Ok(Some(Verdict::failed(
                format!("{name} is asked for {missing:?} only"),
                format!("it was given '{}', and '{given}' is listed already", text.trim()),
                "what is listed already need not be asked for",
            )));
        }
    }
    Ok(None)
}

/// Real trees.
fn real(case: &Case) -> Result<Verdict> {
    for part in [above_are_new, we_are_above, others_are_above] {
        if let Some(verdict) = part(case)? {
            return Ok(verdict);
        }
    }
    Ok(Verdict::Passed)
}

/// Two groups above that are not there yet.
fn above_are_new(case: &Case) -> Result<Option<Verdict>> {
    let top = Groups::named(&format!("lab-{}", case.dice.word()));
    let below = format!("{}/{}/box", top.path().trim_start_matches('/'), case.dice.word());
    let (limit, seen, ended) = limited(case, &below, None)?;
    Ok((seen != Some(limit.to_string()) || ended.code() != Some(0)).then(|| {
        Verdict::failed(
            format!("a group three levels down has memory.max {limit}"),
            format!("{seen:?} ({})", ended.tell()),
            "each group above hands down what the next is to have",
        )
    }))
}

/// The program itself is in the group above: it has to make room.
fn we_are_above(case: &Case) -> Result<Option<Verdict>> {
    let own = Groups::named(&format!("lab-{}", case.dice.word()));
    own.make()?;
    let below = format!("{}/box", own.path().trim_start_matches('/'));
    let (limit, seen, ended) = limited(case, &below, Some(&own))?;
    Ok((seen != Some(limit.to_string()) || ended.code() != Some(0)).then(|| {
        Verdict::failed(
            format!("a group in the one that the program itself is in has memory.max {limit}"),
            format!("{seen:?} ({})", ended.tell()),
            "a group with processes cannot hand down (EBUSY); where they are our own, `move_into_leaf`, and once more",
        )
    }))
}

/// Somebody else is in the group above, and stays there.
fn others_are_above(case: &Case) -> Result<Option<Verdict>> {
    let name = || Groups::named(&format!("lab-{}", case.dice.word()));
    let (own, theirs) = (name(), name());
    own.make()?;
    theirs.make()?;
    let stranger = Neighbour::start(case, CloneFlags::empty(), None)?;
    theirs.put(stranger.pid)?;
    let below = format!("{}/box", theirs.path().trim_start_matches('/'));
    let (_, _, ended) = limited(case, &below, Some(&own))?;
    let stays = theirs.there().iter().all(|at| {
        let members = fs::read_to_string(at.join("cgroup.procs")).unwrap_or_default();
        members.lines().any(|pid| pid == stranger.pid.to_string())
    });
    let room = own.there().iter().any(|at| {
        fs::read_dir(at).into_iter().flatten().flatten().any(|e| e.file_type().is_ok_and(|t| t.is_dir()))
    });
    let seen = match (stays, room) {
        (true, false) => return Ok(None),
        (false, _) => format!("the stranger was moved ({})", ended.tell()),
        (true, true) => {
            format!("the program made room in its own group, which was not in the way ({})", ended.tell())
        }
    };
    let expected = "where the group above holds somebody else's processes, nobody is moved";
    let hint = "only EBUSY of our own group, which is `own`, asks for room";
    Ok(Some(Verdict::failed(expected, seen, hint)))
}

/// Starts a command with a limit of memory in this group, from another group, if there is one. Returns the limit, what
/// the group's memory.max said while the command ran, and how it ended.
fn limited(case: &Case, path: &str, from: Option<&Groups>) -> Result<(u64, Option<String>, Ended)> {
    let groups = Groups::named(path);
    let limit = case.dice.number(30..90) << 20;
    let mut command = case.command();
    command.args(["limit", "--quiet", "--memory", &limit.to_string(), "--pids", "20", "--path"]);
    // Until its input ends: that `read` finds an end and no line is no failure here.
    command.arg(groups.path()).args(["--", "sh", "-c", "read x; exit 0"]);
    for at in from.iter().flat_map(|own| own.there()) {
        let door =
            File::options().write(true).open(at.join("cgroup.procs")).context("open the door of a group")?;
        // SAFETY: between fork and exec only a system call is made, on a file that was opened before.
        unsafe {
            command.pre_exec(move || Ok(nix::unistd::write(&door, b"0").map(drop)?));
        }
    }
    let mut running = run::start(&mut command)?;
    let seen = running
        .watch(|_| (!groups.processes().is_empty()).then(|| groups.text("memory", "memory.max")).flatten())?;
    Ok((limit, seen, running.end()?))
}
