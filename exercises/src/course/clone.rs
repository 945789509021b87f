//! One clone that makes a process and its namespaces at once.

use super::{Answer, Case, Exercise, Wrong, never_started};
use crate::{
    bundle::Bundle,
    facts, fence,
    groups::{Groups, cannot_make},
    neighbour::Neighbour,
    run,
    verdict::Verdict,
};
use anyhow::Result;
use nix::{sched::CloneFlags, unistd::geteuid};
use serde_json::{Value, json};
use std::{fs, path::Path};

const PLAN: &str = "namespaces::plan::Plan::new";
const CLONE: &str = "namespaces::sys::clone3";

pub(super) const EXERCISE: Exercise = Exercise {
    id: "namespaces/clone",
    title: "make a process in new namespaces",
    section: "7.1",
    items: &[PLAN, CLONE],
    program: "cgroups",
    points: 20,
    task: "`Plan::new` sorts what linux.namespaces asks for: a namespace with a path (not an empty one) is joined; the path\n\
           has to be absolute (`inside::must_be_absolute`). One without is new. New ones are flags of the clone, and `kind as u64` is the flag; but the cgroup\n\
           and the time namespace are made later, by the child itself. `new_user` is told apart, since somebody then has to write\n\
           the id maps.\n\
           `clone3` makes the process: `None` in the child, its ID and a pidfd (CLONE_PIDFD) in the parent, which can wait for it\n\
           (SIGCHLD; but with CLONE_PARENT the exit signal has to be 0). With `cgroup` it is born in that group (CLONE_INTO_CGROUP).\n\
           The fields that are not used are zero.",
    invariants: &[
        "the process is in a new namespace of each kind that was asked for, and in no other new one",
        "it is the first process of its pid namespace, and a child of the caller",
        "the caller itself stays where it was",
        "in its cgroup namespace, its own group is /",
    ],
    predict: "after unshare(CLONE_NEWPID), which process ID does the caller have in the new namespace?",
    hints: [
        "clone(2), \"CLONE_NEW*\", and its \"struct clone_args\". What do unshare(2) and a fork afterwards do differently?",
        "The user namespace needs no care: among the flags of one clone the kernel makes it first, so that it owns the others.",
        "args.flags = flags | CLONE_PIDFD; args.pidfd = &raw mut pidfd as u64; args.exit_signal = SIGCHLD unless CLONE_PARENT; \
         syscall(SYS_clone3, &args, size_of_val(&args)): 0 is the child.",
    ],
    why: (
        "Why is the cgroup namespace not among the flags?",
        "Its root is the group in which its maker is at that moment. At the clone that may be the parent's group, and the container \
         would see the way from there to its own.",
    ),
    check,
    wrong: &[
        Wrong {
            name: "a fork and no namespaces",
            answer: Answer::Change(
                CLONE,
                "args.flags = flags | CLONE_PIDFD",
                "args.flags = (flags & CLONE_PARENT) | CLONE_PIDFD",
            ),
            told: "the same as outside",
        },
        Wrong {
            name: "the caller moves, instead of its child",
            answer: Answer::Change(
                CLONE,
                "args.flags = flags | CLONE_PIDFD",
                "let _ = nix::sched::unshare(nix::sched::CloneFlags::from_bits_truncate(flags as i32 & 0x0c00_0000)); \
                 args.flags = flags | CLONE_PIDFD",
            ),
            told: "the caller itself",
        },
        Wrong {
            name: "a cgroup namespace made too early",
            answer: Answer::Change(
                PLAN,
                "(Kind::Cgroup, _) => plan.new_cgroup = true",
                "(Kind::Cgroup, _) => plan.flags |= Kind::Cgroup as u64",
            ),
            told: "is not its own group",
        },
        Wrong {
            name: "a path is not looked at",
            answer: Answer::Change(
                PLAN,
                "if !path.as_os_str().is_empty()",
                "if path.as_os_str().is_empty() && false",
            ),
            told: "is not the one of its path",
        },
        Wrong {
            name: "an empty path is joined",
            answer: Answer::Change(PLAN, "if !path.as_os_str().is_empty()", ""),
            told: "is not absolute",
        },
        Wrong {
            name: "nobody is told of the user namespace",
            answer: Answer::Change(PLAN, "plan.new_user = plan.makes(Kind::User)", "plan.new_user = false"),
            told: "id maps",
        },
        Wrong {
            name: "a child that cannot be waited for",
            answer: Answer::Change(
                CLONE,
                "if flags & CLONE_PARENT == 0 { libc::SIGCHLD as u64 } else { 0 }",
                "0",
            ),
            told: "wait",
        },
        Wrong {
            name: "a sibling with an exit signal of its own",
            answer: Answer::Change(
                CLONE,
                "if flags & CLONE_PARENT == 0 { libc::SIGCHLD as u64 } else { 0 }",
                "libc::SIGCHLD as u64",
            ),
            told: "EINVAL",
        },
        Wrong {
            name: "born outside its group",
            answer: Answer::Change(CLONE, "args.flags |= CLONE_INTO_CGROUP;", ""),
            told: "is not born in its group",
        },
    ],
};

/// Kinds, and what /proc/PID/ns calls them.
const KINDS: [(&str, &str); 7] = [
    ("mount", "mnt"),
    ("pid", "pid"),
    ("uts", "uts"),
    ("ipc", "ipc"),
    ("network", "net"),
    ("cgroup", "cgroup"),
    ("time", "time"),
];

fn check(case: &Case) -> Result<Verdict> {
    let mut bundle = Bundle::new(case, "")?;
    bundle.open_to_all()?;
    let user: Vec<Value> =
        bundle.list("/linux/namespaces").into_iter().filter(|n| n["type"] == "user").collect();
    let has_time = Path::new("/proc/self/ns/time").exists();
    // All of them; then some of them, in another order, one with an empty path; then with one that is there already.
    for round in 0..3 {
        let mut kinds: Vec<&str> = KINDS.iter().map(|k| k.0).filter(|k| *k != "time" || has_time).collect();
        if round > 0 {
            let left_out = ["ipc", "network", "time"][case.dice.number(0..3) as usize];
            kinds.retain(|k| *k != left_out && *k != "uts");
            kinds.rotate_left(case.dice.number(1..4) as usize);
            kinds.push("uts");
        }
        let mut namespaces: Vec<Value> = kinds.iter().map(|kind| json!({ "type": kind })).collect();
        namespaces.extend(user.clone());
        // An ordinary user can join nothing without the user namespace that owns it: see namespaces/join.
        let joined = if round == 2 && user.is_empty() {
            Some(Neighbour::start(case, CloneFlags::CLONE_NEWUTS, None)?)
        } else {
            None
        };
        if let Some(neighbour) = &joined {
            namespaces
                .iter_mut()
                .filter(|n| n["type"] == "uts")
                .for_each(|n| n["path"] = neighbour.namespace("uts").into());
        } else if round > 0 {
            let empty = namespaces.iter_mut().find(|n| ["uts", "ipc"].iter().any(|k| n["type"] == *k));
            empty.into_iter().for_each(|n| n["path"] = "".into());
        }
        if round == 1 && user.is_empty() {
            namespaces.push(json!({ "type": "user" }));
            let base = case.dice.number(100_000..900_000);
            for which in ["uidMappings", "gidMappings"] {
                bundle.config["linux"][which] = json!([{ "containerID": 0, "hostID": base, "size": 1000 }]);
            }
        }
        bundle.config["linux"]["namespaces"] = Value::Array(namespaces);
        if let Some(verdict) = one(case, &mut bundle, joined.as_ref())? {
            return Ok(verdict);
        }
        if let Some(neighbour) = &joined
            && let Some(verdict) = relative(case, &mut bundle, neighbour)?
        {
            return Ok(verdict);
        }
    }
    Ok(Verdict::Passed)
}

/// A path that leads to a namespace from the bundle, and from somewhere else to something else.
fn relative(case: &Case, bundle: &mut Bundle, neighbour: &Neighbour) -> Result<Option<Verdict>> {
    let name = case.dice.word();
    std::os::unix::fs::symlink(neighbour.namespace("uts"), bundle.dir.join(&name))?;
    let mut namespaces = bundle.list("/linux/namespaces");
    namespaces.iter_mut().filter(|n| n["type"] == "uts").for_each(|n| n["path"] = name.as_str().into());
    bundle.config["linux"]["namespaces"] = Value::Array(namespaces);
    bundle.write()?;
    let mut command = case.command();
    command.arg("--root").arg(case.dir.join("state")).arg("run").arg("--bundle").arg(&bundle.dir);
    command.arg(case.dice.word());
    fence::around(
        &mut command,
        CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWNET,
        vec![],
    );
    let code = bundle.config["process"]["args"][2].as_str().and_then(|s| s.rsplit(' ').next()?.parse().ok());
    let ended = run::start(&mut command)?.end()?;
    let went_on = ended.code() == code || ended.code() == Some(0);
    Ok(went_on.then(|| {
        Verdict::failed(
            format!("a namespace whose path is not absolute ({name}) is refused"),
            format!("it was joined: {}", ended.tell()),
            "from which directory is it meant? runtime-spec, config-linux.md, \"Namespaces\"; `inside::must_be_absolute`",
        )
    }))
}

fn one(case: &Case, bundle: &mut Bundle, joined: Option<&Neighbour>) -> Result<Option<Verdict>> {
    let asked = bundle.list("/linux/namespaces");
    let code = case.dice.number(3..90) as i32;
    let groups = Groups::named(&format!("lab-{}", case.dice.word()));
    let view = bundle.dir.join("rootfs/tmp/view");
    let _ = fs::remove_file(&view); // of the round before
    // The program is `cat`: what the kernel says in there of its group. Then it waits.
    let script = format!("cat /proc/self/cgroup >/tmp/view; read x; exit {code}");
    bundle.config["process"]["args"] = json!(["/bin/sh", "-c", script]);
    bundle.config["linux"]["cgroupsPath"] = groups.path().into();
    if joined.is_some() {
        bundle.config.as_object_mut().map(|c| c.remove("hostname"));
    }
    bundle.write()?;
    let mut command = case.command();
    command
        .arg("--root")
        .arg(case.dir.join("state"))
        .arg("run")
        .arg("--bundle")
        .arg(&bundle.dir)
        .arg(&bundle.word);
    if geteuid().is_root() {
        // A process without a mount namespace of its own would make its mounts here, and pivot our root away.
        fence::around(
            &mut command,
            CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWNET,
            vec![],
        );
    }
    let mut running = run::start(&mut command)?;
    let caller = running.pid();
    let before = running.watch(|pid| {
        (facts::status(pid, "Name").as_deref() != Some("lab")).then(|| facts::namespaces(pid))
    })?;
    let ready = |pid: &i32| {
        facts::status(*pid, "Name").as_deref() == Some("sh") && view.metadata().is_ok_and(|m| m.len() > 0)
    };
    let mut last = None;
    let found = running.watch(|caller| {
        let children = facts::children(caller);
        last = children.first().map(|pid| facts::namespaces(*pid)).filter(|n| !n.is_empty()).or(last.take());
        children.into_iter().find(ready)
    })?;
    let Some(pid) = found else {
        let plain = before.as_ref().zip(last.as_ref()).is_some_and(|(a, b)| a.get("mnt") == b.get("mnt"));
        if plain && joined.is_none() {
            let ended = running.end()?;
            return Ok(Some(Verdict::failed(
                "a new mount namespace",
                format!("it is the same as outside, and then: {}", ended.tell()),
                "is its flag among those of the clone? Without it, pivot_root has changed the caller's root",
            )));
        }
        return never_started(running, |said| {
            if said.contains("EINVAL") && said.contains("clone") {
                "with CLONE_PARENT the exit signal has to be 0 (EINVAL)"
            } else if said.contains(".state.json") {
                "are its namespaces the same as outside? Then its pivot_root has changed the caller's root"
            } else if said.contains("not mapped") || said.contains("EOVERFLOW") || said.contains("EPERM") {
                "who writes the id maps, if nobody knows that there is a user namespace?"
            } else if said.contains("join") || said.contains("the namespace") || said.contains("ENOENT") {
                "an empty path is no path: such a namespace is new"
            } else {
                "which call failed, and with what? Can its parent wait for it?"
            }
        })
        .map(Some);
    };
    let (outside, inside) = (facts::namespaces(caller), facts::namespaces(pid));
    let theirs = joined.map(|neighbour| facts::namespaces(neighbour.pid)).unwrap_or_default();
    let zombie = facts::children(caller)
        .into_iter()
        .find(|c| facts::status(*c, "State").is_some_and(|s| s.starts_with('Z')));
    let chain = facts::status(pid, "NSpid").unwrap_or_default();
    let group = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let view = fs::read_to_string(&view).unwrap_or_default();
    let leaked = facts::mounts(caller)
        .into_iter()
        .find(|m| Path::new(&m.at).starts_with(&bundle.dir) && Path::new(&m.at) != bundle.dir);
    let in_group = groups.there().iter().any(|d| d.join("cgroup.controllers").is_file());
    let ended = running.end()?;

    let fail = |expected: String, seen: String, hint: &str| Ok(Some(Verdict::failed(expected, seen, hint)));
    if before.is_some_and(|before| before != outside) {
        return fail(
            "the caller itself stays where it was".into(),
            "it is in other namespaces now: the caller itself has moved".into(),
            "is it unshare(2) that was called?",
        );
    }
    for (kind, file) in KINDS.into_iter().chain([("user", "user")]) {
        let Some(wanted) = asked.iter().find(|n| n["type"] == kind) else {
            if inside.get(file) != outside.get(file) {
                return fail(
                    format!("nobody asked for a {kind} namespace"),
                    format!("it has one of its own, {:?}", inside.get(file)),
                    "which flags were set?",
                );
            }
            continue;
        };
        let path = wanted["path"].as_str().unwrap_or_default();
        if joined.is_some() && !path.is_empty() {
            if theirs.get(file) != inside.get(file) {
                return fail(
                    format!("its {kind} namespace is the one of {path}"),
                    format!("{:?} is not the one of its path", inside.get(file)),
                    "a namespace with a path is joined",
                );
            }
        } else if !inside.contains_key(file) || inside.get(file) == outside.get(file) {
            return fail(
                format!("a new {kind} namespace"),
                format!("/proc/{pid}/ns/{file} is the same as outside"),
                "is its flag among those of the clone? The first process has to be made by it",
            );
        }
    }
    if chain.split_whitespace().next_back() != Some("1") {
        return fail(
            "it is the first process of its pid namespace".into(),
            format!("NSpid: {chain}"),
            "was there another child before?",
        );
    }
    if let Some(mount) = leaked {
        return fail(
            "nothing of the container is mounted outside".into(),
            format!("{} is", mount.at),
            "has it a mount namespace of its own?",
        );
    }
    if let Some(line) = view.lines().find(|line| !line.ends_with(":/")) {
        return fail(
            "seen from inside, its cgroup is /".into(),
            format!("{line}: the root of its cgroup namespace is not its own group"),
            "the cgroup namespace is made later, by the child",
        );
    }
    if cannot_make().is_none() && in_group && !group.lines().any(|l| l == format!("0::{}", groups.path())) {
        return fail(
            format!("on version 2 it is in {}", groups.path()),
            format!("it is not born in its group: {group}"),
            "CLONE_INTO_CGROUP is a flag, too",
        );
    }
    if let Some(zombie) = zombie {
        return fail(
            "the caller can wait for each of its children".into(),
            format!("{zombie} has ended, and is still a zombie"),
            "a child without an exit signal cannot be waited for in the usual way (SIGCHLD)",
        );
    }
    if ended.code() != Some(code) {
        return fail(
            format!("the caller can wait for it, and hears its exit status {code}"),
            ended.tell(),
            "a child without an exit signal cannot be waited for in the usual way",
        );
    }
    Ok(None)
}
