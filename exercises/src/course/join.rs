//! Namespaces that are there already: joined in an order that works, and by a process that has a child.

use super::{Answer, Case, Exercise, Wrong, never_started};
use crate::{bundle::Bundle, facts, fence, neighbour::Neighbour, run, sandbox, verdict::Verdict};
use anyhow::Result;
use nix::{sched::CloneFlags, unistd::geteuid};
use serde_json::{Value, json};

const CLONE: &str = "namespaces::plan::clone";
const JOIN: &str = "namespaces::plan::join";

pub(super) const EXERCISE: Exercise = Exercise {
    id: "namespaces/join",
    title: "join namespaces in the right order",
    section: "7.1",
    items: &[CLONE, JOIN],
    program: "namespaces",
    points: 20,
    task: "`clone` makes the container's first process. Where nothing is to be joined, that is one clone3 with the plan's flags.\n\
           Else a process that joins has to come between: setns(2) moves its caller, but into a pid namespace only the children that\n\
           it has later. `by_usher` makes that process and runs the closure in it; the closure joins, and clones the child with\n\
           CLONE_PARENT, so that it is ours. `explain_clone` makes an error of an errno.\n\
           `join` enters each of the namespaces, whose paths are all opened before the first is entered. Root on the host may join\n\
           anything, but not any more once it is in a user namespace that does not own the others. An ordinary user may join nothing\n\
           before they are in the user namespace that does. Serve both.",
    invariants: &[
        "the process is in every namespace that was named, and in new ones of the kinds that the plan makes",
        "we are in none of them, and the process is our child",
        "it works from both sides of the user namespace",
    ],
    predict: "a process calls setns with a pid namespace, then getpid(). Does the number change?",
    hints: [
        "pid_namespaces(7), \"setns(2) and unshare(2) semantics\". Who is moved?",
        "Try all but the user namespace first, and put aside what is refused with EPERM; then the user namespace; then those put aside.",
        "by_usher(ours, theirs, || { join(&plan.joins)?; clone3(plan.flags | CLONE_PARENT, cgroup) }).",
    ],
    why: (
        "Why is the mount namespace the last one?",
        "Behind it every path means something else. Here all of them are open by then; but whoever opens one later, opens the \
         container's.",
    ),
    check,
    wrong: &[
        Wrong {
            name: "the caller joins itself",
            answer: Answer::Body(
                " let _ = (ours, theirs); join(&plan.joins)?; sys::clone3(plan.flags, cgroup).map_err(|e| explain_clone(e, plan)) ",
            ),
            told: "we ourselves",
        },
        Wrong {
            name: "setns of the pid namespace without a fork",
            answer: Answer::Change(
                CLONE,
                "sys::clone3(plan.flags | sys::CLONE_PARENT, cgroup).map_err(|e| explain_clone(e, plan))",
                "Ok(None)",
            ),
            told: "only children",
        },
        Wrong {
            name: "the child is the usher's and not ours",
            answer: Answer::Change(CLONE, "plan.flags | sys::CLONE_PARENT", "plan.flags"),
            told: "our child",
        },
        Wrong {
            name: "what is new is forgotten where something is joined",
            answer: Answer::Change(CLONE, "plan.flags | sys::CLONE_PARENT", "sys::CLONE_PARENT"),
            told: "What is new",
        },
        Wrong {
            name: "the user namespace first, always",
            answer: Answer::Change(
                JOIN,
                "for one in others {",
                "user.iter().copied().try_for_each(enter)?; let user: Vec<&(Kind, &PathBuf, OwnedFd)> = Vec::new(); for one in others {",
            ),
            told: "EPERM",
        },
        Wrong {
            name: "the user namespace last, always",
            answer: Answer::Change(
                JOIN,
                "Err(e) if e.errno() == Some(Errno::EPERM) && !user.is_empty() => later.push(one)",
                "Err(e) if false => { let _ = e; later.push(one) }",
            ),
            told: "EPERM",
        },
        Wrong {
            name: "what was refused is not tried again",
            answer: Answer::Change(JOIN, ".chain(later)", ""),
            told: "is not the one that was named",
        },
    ],
};

/// One request: the namespaces of whom, by kind, are joined.
struct Round<'a> {
    joined: Vec<(&'static str, &'static str, &'a Neighbour)>,
    user: Option<u32>,
}

const KINDS: [(&str, &str); 5] =
    [("mount", "mnt"), ("pid", "pid"), ("uts", "uts"), ("ipc", "ipc"), ("network", "net")];

fn check(case: &Case) -> Result<Verdict> {
    let mut bundle = Bundle::new(case, "")?;
    bundle.open_to_all()?;
    let root = geteuid().is_root();
    let user = CloneFlags::CLONE_NEWUSER;
    let all = CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWPID;
    let ordinary = case.dice.number(60_000..90_000) as u32;
    // As an ordinary user: nothing can be joined before the user namespace.
    let id = root.then_some(ordinary);
    {
        let owned = Neighbour::start(case, user | all, id)?;
        let joined = vec![
            ("network", "net", &owned),
            ("user", "user", &owned),
            ("ipc", "ipc", &owned),
            ("uts", "uts", &owned),
        ];
        if let Some(verdict) = one(case, &mut bundle, &Round { joined, user: id })? {
            return Ok(verdict);
        }
    }
    if !root {
        return Ok(Verdict::Passed);
    }
    // As root: those that are not of the user namespace, before it; and one that is.
    {
        let (host, owned) = (Neighbour::start(case, all, None)?, Neighbour::start(case, user | all, None)?);
        let joined = vec![("user", "user", &owned), ("uts", "uts", &host), ("ipc", "ipc", &owned)];
        if let Some(verdict) = one(case, &mut bundle, &Round { joined, user: None })? {
            return Ok(verdict);
        }
    }
    // And a pid namespace, which is for children only.
    let host = Neighbour::start(case, all, None)?;
    let mut joined = vec![("pid", "pid", &host)];
    joined.extend(if case.dice.number(0..2) == 0 {
        [("uts", "uts", &host)]
    } else {
        [("network", "net", &host)]
    });
    Ok(one(case, &mut bundle, &Round { joined, user: None })?.unwrap_or(Verdict::Passed))
}

fn one(case: &Case, bundle: &mut Bundle, round: &Round) -> Result<Option<Verdict>> {
    let code = case.dice.number(3..90) as i32;
    let mut namespaces: Vec<Value> = KINDS.iter().map(|k| json!({ "type": k.0 })).collect();
    namespaces.retain(|n| !round.joined.iter().any(|(kind, ..)| n["type"] == *kind));
    for (kind, file, neighbour) in &round.joined {
        namespaces.push(json!({ "type": kind, "path": neighbour.namespace(file) }));
    }
    let linux = &mut bundle.config["linux"];
    linux["namespaces"] = Value::Array(namespaces);
    for maps in ["uidMappings", "gidMappings"] {
        linux.as_object_mut().map(|l| l.remove(maps));
    }
    bundle.config.as_object_mut().map(|c| c.remove("hostname"));
    bundle.config["process"]["args"] = json!(["/bin/sh", "-c", format!("read x; exit {code}")]);
    bundle.write()?;
    let mut command = case.command();
    command.arg("run").arg(&bundle.dir);
    if let Some(id) = round.user {
        fence::as_user(&mut command, id);
    } else if geteuid().is_root() {
        // A process without a mount namespace of its own would pivot our root away.
        fence::around(&mut command, CloneFlags::CLONE_NEWIPC, vec![]);
    }
    let mut running = run::start(&mut command)?;
    let caller = running.pid();
    let mut before = None;
    let mut moved = false;
    let mut halfway = false;
    let ready = |pid: &i32| facts::status(*pid, "Name").as_deref() == Some("sh");
    let found = running.watch(|caller| {
        let children = facts::children(caller);
        let now = facts::namespaces(caller);
        // Before its first child, it has moved nowhere but into the fence.
        if children.is_empty() && before.is_none() && facts::status(caller, "Name").as_deref() != Some("lab")
        {
            before = Some(now.clone());
        }
        moved |= round.joined.iter().any(|(_, file, n)| {
            facts::namespaces(n.pid).get(*file).is_some_and(|ns| now.get(*file) == Some(ns))
        });
        for child in &children {
            let own = facts::namespaces(*child);
            // Where its children would go is not where it is itself.
            halfway |= own.get("pid") != own.get("pid_for_children") && own.get("pid") == now.get("pid");
        }
        // Its own child it may not be: then it has been given to the first process of the sandbox.
        children.into_iter().chain(sandbox::orphans()).find(ready)
    })?;
    let Some(pid) = found else {
        if moved {
            let ended = running.end()?;
            return Ok(Some(Verdict::failed(
                "we stay where we are",
                format!("we ourselves are in the namespaces now ({})", ended.tell()),
                "the closure of by_usher runs in a process that may move",
            )));
        }
        return never_started(running, |said| {
            if said.contains("rslave") {
                "has it a new mount namespace? What is new, the usher's child needs the plan's flags for"
            } else if said.contains("EPERM") {
                "EPERM: which of them may be joined before the user namespace, and which only behind it?"
            } else if said.contains("ECHILD") || said.contains("wait") {
                "whose child is it? CLONE_PARENT makes it our child, and not the usher's"
            } else if halfway {
                "of a pid namespace, only children of who joins it are in it: who clones one?"
            } else {
                "of a pid namespace, only children are in it; new namespaces are new all the same; and whose child is it? (CLONE_PARENT: our child)"
            }
        })
        .map(Some);
    };
    let (inside, outside) = (facts::namespaces(pid), facts::namespaces(caller));
    let theirs: Vec<_> = round
        .joined
        .iter()
        .map(|(kind, file, n)| (*kind, *file, facts::namespaces(n.pid), n.lives()))
        .collect();
    let parent = facts::status(pid, "PPid").and_then(|p| p.parse().ok());
    let ended = running.end()?;
    let fail = |expected: String, seen: String, hint: &str| Ok(Some(Verdict::failed(expected, seen, hint)));
    if moved {
        return fail(
            "we stay where we are".into(),
            "we ourselves are in the namespaces now".into(),
            "the closure of by_usher runs in a process that may move",
        );
    }
    if parent != Some(caller) {
        return fail(
            "it is our child".into(),
            format!("its parent is {parent:?}, we are {caller}: not our child"),
            "CLONE_PARENT",
        );
    }
    for (kind, file, theirs, lives) in &theirs {
        if !lives {
            return fail(
                "nobody in the namespaces is disturbed".into(),
                "the process in them is dead".into(),
                "who was killed?",
            );
        }
        if inside.get(*file) != theirs.get(*file) {
            return fail(
                format!("its {kind} namespace is {:?}", theirs.get(*file)),
                format!("{:?} is not the one that was named", inside.get(*file)),
                if *kind == "pid" {
                    "of a pid namespace, only children of who joins it are in it"
                } else {
                    "was it put aside and forgotten?"
                },
            );
        }
    }
    for (kind, file) in KINDS.iter().filter(|(kind, _)| !round.joined.iter().any(|(k, ..)| k == kind)) {
        if inside.get(*file) == outside.get(*file) || !inside.contains_key(*file) {
            return fail(
                format!("a new {kind} namespace"),
                format!("its {kind} namespace is the same as outside, not a new one"),
                "the plan's flags hold for the child that the usher clones, too",
            );
        }
    }
    if ended.code() != Some(code) {
        return fail(
            format!("we hear its exit status {code}"),
            ended.tell(),
            "can we wait for it? It has to be our child (CLONE_PARENT)",
        );
    }
    Ok(None)
}
