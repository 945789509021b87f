//! A new mount namespace still shares events with the old one.

use super::{Answer, Case, Exercise, Wrong};
use crate::{bundle::Bundle, course::started, facts, run, verdict::Verdict};
use anyhow::Result;
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};
use std::os::unix::process::CommandExt;

pub(super) const EXERCISE: Exercise = Exercise {
    id: "namespaces/private",
    title: "cut the mounts off from the host's",
    section: "7.1",
    items: &["namespaces::rootfs::cut_off"],
    program: "namespaces",
    points: 15,
    task: "A new mount namespace begins as a copy of the old one, and where the host made its mounts shared (systemd does)\n\
           the copies still share: what is mounted here appears there. This function runs first in the new namespace.\n\
           After it, nothing that the container mounts may be seen outside. `propagation` is linux.rootfsPropagation of the\n\
           bundle (`options::propagation` knows the words); none, or an empty one, means that later mounts of the host still come\n\
           in. An unbindable mount cannot be bound, and the container's root still has to be: here it becomes a private one.",
    invariants: &[
        "no mount of the container appears in the namespace from which it was started",
        "it holds for every mount in the tree, not only for /",
        "what the host mounts later comes in, unless the bundle says otherwise",
    ],
    predict: "which of the two would pivot_root(2) refuse with EINVAL: a shared new root, or a private one?",
    hints: [
        "mount_namespaces(7), \"Shared subtrees\". Four propagation types; two of them keep our mounts to us.",
        "mount(2) with no source, no type and no data changes the propagation of the mount at the target.",
        "MS_SLAVE | MS_REC on \"/\". Without MS_REC only the mount at / itself is changed.",
    ],
    why: (
        "Why slave, when private would do?",
        "With private, a disk that the host mounts later below a directory given to the container would never appear in it.",
    ),
    check,
    wrong: &[
        Wrong {
            name: "nothing is done",
            answer: Answer::Body(" let _ = propagation; Ok(()) "),
            told: "appeared outside",
        },
        Wrong {
            name: "only / and not the tree",
            answer: Answer::Body(
                " let _ = propagation; mount(NONE, \"/proc\", NONE, MsFlags::MS_SLAVE, NONE).doing(|| \"x\".into()) ",
            ),
            told: "appeared outside",
        },
        Wrong {
            name: "shared instead of slave",
            answer: Answer::Body(
                " let _ = propagation; mount(NONE, \"/\", NONE, MsFlags::MS_SHARED | MsFlags::MS_REC, NONE).doing(|| \"x\".into()) ",
            ),
            told: "appeared outside",
        },
        Wrong {
            name: "private, whatever was asked for",
            answer: Answer::Body(
                " let _ = propagation; mount(NONE, \"/\", NONE, MsFlags::MS_PRIVATE | MsFlags::MS_REC, NONE).doing(|| \"x\".into()) ",
            ),
            told: "will still come in",
        },
        Wrong {
            name: "slave, whatever was asked for",
            answer: Answer::Body(
                " let _ = propagation; mount(NONE, \"/\", NONE, MsFlags::MS_SLAVE | MsFlags::MS_REC, NONE).doing(|| \"x\".into()) ",
            ),
            told: "will no longer come in",
        },
        Wrong {
            name: "the process ends instead",
            answer: Answer::Body(" let _ = propagation; std::process::exit(0) "),
            told: "ended before",
        },
    ],
};

fn check(case: &Case) -> Result<Verdict> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(Verdict::NotChecked("a shared mount to look at can only be made by root".into()));
    }
    let mut bundle = Bundle::new(case, "cat")?;
    // By its peer group the kernel tells where a mount's news come from; a private mount has none.
    for (propagation, hears) in
        [(None, true), (Some("rslave"), true), (Some("rprivate"), false), (Some("unbindable"), false)]
    {
        bundle.config["linux"]["rootfsPropagation"] = propagation.unwrap_or_default().into();
        if let Some(verdict) = one(case, &bundle, propagation, hears)? {
            return Ok(verdict);
        }
    }
    Ok(Verdict::Passed)
}

fn one(case: &Case, bundle: &Bundle, propagation: Option<&str>, hears: bool) -> Result<Option<Verdict>> {
    bundle.write()?;
    let mut command = case.command();
    command.arg("run").arg(&bundle.dir);
    // A host as systemd would leave it, in a mount namespace of its own: that is "outside" here.
    // SAFETY: between fork and exec only two system calls are made.
    unsafe {
        command.pre_exec(|| {
            unshare(CloneFlags::CLONE_NEWNS)?;
            mount(None::<&str>, "/", None::<&str>, MsFlags::MS_SLAVE | MsFlags::MS_REC, None::<&str>)?;
            mount(None::<&str>, "/", None::<&str>, MsFlags::MS_SHARED | MsFlags::MS_REC, None::<&str>)?;
            Ok(())
        });
    }
    let mut running = run::start(&mut command)?;
    let outside = running.pid();
    let Some(pid) = started(&mut running, bundle)? else {
        // pivot_root refuses a shared root: then the mounts that leaked are told all the same.
        let leaked = leaks(outside, bundle);
        let ended = running.end()?;
        let seen = if leaked.is_empty() {
            format!("it ended before its program ran: {}", ended.tell())
        } else {
            format!("mounts of the container appeared outside: {}", leaked.join(", "))
        };
        return Ok(Some(Verdict::failed(
            "the container starts, and keeps its mounts to itself",
            if ended.stderr.contains("EINVAL") && !seen.contains("appeared outside") {
                format!(
                    "{seen} (pivot_root refuses a root that is shared, so its mounts would have appeared outside)"
                )
            } else {
                seen
            },
            if ended.untouched() {
                "the function is still empty"
            } else {
                "is / still shared, with all below it?"
            },
        )));
    };
    let leaked = leaks(outside, bundle);
    if !leaked.is_empty() {
        return Ok(Some(Verdict::failed(
            "outside, no mount of the container is seen",
            format!("mounts of the container appeared outside: {}", leaked.join(", ")),
            "is / still shared, with all below it? MS_REC reaches the whole tree",
        )));
    }
    // The host's own directories are bound into the container: copies of its mounts, with their peers.
    let bound: Vec<String> = bundle
        .list("/mounts")
        .iter()
        .filter(|m| m["type"] == "bind")
        .filter_map(|m| Some(m["destination"].as_str()?.to_owned()))
        .collect();
    let found = facts::mounts(pid).into_iter().find(|m| bound.contains(&m.at));
    let Some(found) = found else {
        let seen = format!("none of {} is mounted in it", bound.join(", "));
        return Ok(Some(Verdict::failed(
            "the container has the host's programs",
            seen,
            "did it start at all?",
        )));
    };
    let right = found.propagation.contains("master:") == hears && !found.propagation.contains("shared:");
    let asked =
        propagation.map_or("without a propagation".to_owned(), |p| format!("with rootfsPropagation {p}"));
    let news = if hears { "still come" } else { "no longer come" };
    let kind = if found.propagation.is_empty() { "private" } else { &found.propagation };
    Ok((!right).then(|| {
        Verdict::failed(
            format!("{asked}, what the host mounts below {} later will {news} in", found.at),
            format!("/proc/PID/mountinfo says of it: {kind}"),
            "a slave hears of its master's mounts, a private mount of none",
        )
    }))
}

/// What the namespace of `pid` shows mounted below the bundle.
fn leaks(pid: i32, bundle: &Bundle) -> Vec<String> {
    let below = format!("{}/", bundle.dir.display());
    facts::mounts(pid).into_iter().map(|m| m.at).filter(|at| at.starts_with(&below)).collect()
}
