//! Ids inside, ids outside: two files, each written once.

use super::{Answer, Case, Exercise, Wrong, never_started};
use crate::{bundle::Bundle, facts, fence, run, verdict::Verdict};
use anyhow::Result;
use nix::unistd::geteuid;
use serde_json::{Value, json};
use std::fs;

const ALL: &str = "namespaces::userns::write_maps";
const ONE: &str = "namespaces::userns::write_map";

pub(super) const EXERCISE: Exercise = Exercise {
    id: "namespaces/maps",
    title: "write the id maps of a user namespace",
    section: "7.1",
    items: &[ONE, ALL],
    program: "namespaces",
    points: 15,
    task: "The child waits in its new user namespace, in which no id means anything yet. `write_maps` writes both of its maps, as\n\
           linux.uidMappings and linux.gidMappings ask (`maps`); a configuration that has only one of the two says nothing about\n\
           the other ids and is invalid; with none at all, ids inside are those outside (`same` gives these mappings).\n\
           `write_map` writes one of them (`which` is \"uid\" or \"gid\"): /proc/PID/uid_map has a line for each mapping, first the id\n\
           inside, then the id outside, then how many (`one_line`). An ordinary user may map only their own id (`own`) this way, one\n\
           line of one id; and the group only after \"deny\" is written to /proc/PID/setgroups. Whoever may not write what is asked\n\
           gets PermissionDenied: then the programs newuidmap and newgidmap may (`by_helper`), but for one's own id they are not needed.\n\
           Root writes any map, and denies nothing.",
    invariants: &[
        "an id inside is the id outside that was asked for, for users and for groups, with every line",
        "an ordinary user's container cannot drop groups: setgroups is denied before the group map is written",
        "root's container can: setgroups stays allowed",
    ],
    predict: "a file has the mode rw----rw-, and belongs to a group that you are in. May you read it? What if you could drop that group?",
    hints: [
        "user_namespaces(7): how often can uid_map be written, and by how many calls of write(2)?",
        "All lines in one write. setgroups only for the group map, only of one's own single id, only if we are not root.",
        "own_only = map.len() == 1 && host_id == own && size == 1; deny if own_only && which == \"gid\" && !geteuid().is_root(); then \
         fs::write(map) and, at PermissionDenied without own_only, by_helper.",
    ],
    why: (
        "Why must an ordinary user give up setgroups, when all that they map is their own group?",
        "A mode may give a group less than everybody else (rw----rw-). Whoever could drop the group could read the file; dropping \
         groups is a privilege outside, and a user namespace must give none (CVE-2014-8989).",
    ),
    check,
    wrong: &[
        Wrong {
            name: "setgroups is not denied",
            answer: Answer::Change(
                ONE,
                "fs::write(&deny, \"deny\").doing(|| format!(\"write deny to {deny}\"))?;",
                "",
            ),
            told: "setgroups",
        },
        Wrong {
            name: "the group map before setgroups",
            answer: Answer::Change(
                ONE,
                "fs::write(&deny, \"deny\")",
                "fs::write(&file, &text).doing(|| format!(\"write {file}\"))?; fs::write(&deny, \"deny\")",
            ),
            told: "setgroups",
        },
        Wrong {
            name: "outside and inside swapped",
            answer: Answer::Change(
                ONE,
                "one_line(m) + \"\\n\"",
                "format!(\"{} {} {}\\n\", m.host_id(), m.container_id(), m.size())",
            ),
            told: "the id inside comes first",
        },
        Wrong {
            name: "only the first line",
            answer: Answer::Change(ONE, "map.iter().map(", "map.iter().take(1).map("),
            told: "a line for each mapping",
        },
        Wrong {
            name: "a write for each line",
            answer: Answer::Change(
                ONE,
                "match fs::write(&file, text) {",
                "match text.split_inclusive('\\n').try_for_each(|line| fs::write(&file, line)) {",
            ),
            told: "written once only",
        },
        Wrong {
            name: "setgroups is denied to root as well",
            answer: Answer::Change(ONE, " && !geteuid().is_root()", ""),
            told: "setgroups stays allowed",
        },
        Wrong {
            name: "users are mapped, groups are not",
            answer: Answer::Change(
                ALL,
                "write_map(pid, \"gid\", gids, getegid().as_raw())",
                "{ let _ = (gids, getegid()); Ok(()) }",
            ),
            told: "gid_map",
        },
        Wrong {
            name: "a namespace without ids is made all the same",
            answer: Answer::Change(ALL, "uids.is_empty() || gids.is_empty()", "false"),
            told: "says nothing about its ids",
        },
    ],
};

fn check(case: &Case) -> Result<Verdict> {
    let mut bundle = Bundle::new(case, "")?;
    bundle.open_to_all()?;
    let root = geteuid().is_root();
    let mut namespaces = bundle.list("/linux/namespaces");
    if root {
        namespaces.push(json!({ "type": "user" }));
    }
    bundle.config["linux"]["namespaces"] = Value::Array(namespaces);
    // Its maps come last, since they are not allowed.
    let ordinary = case.dice.number(60_000..90_000) as u32;
    let own = if root { ordinary } else { geteuid().as_raw() };
    let mine = |inside: u64| json!([{ "containerID": inside, "hostID": own, "size": 1 }]);
    // What is asked for, and what the kernel has to show: the same, but where nothing is asked for.
    let nothing = || (json!([]), json!([]));
    let both = |uids: Value, gids: Value| ((uids.clone(), gids.clone()), (uids, gids));
    let mut rounds =
        vec![(Some(ordinary), both(mine(0), mine(0))), (Some(ordinary), (nothing(), (mine(0), mine(0))))];
    if root {
        let dice = &case.dice;
        let base = dice.number(100_000..900_000);
        let (few, more) = (dice.number(1..50), dice.number(100..9000));
        let wide = |first: u64| json!([{ "containerID": 0, "hostID": first, "size": few }, { "containerID": few, "hostID": first + 20_000, "size": more }]);
        rounds.push((None, both(wide(base), wide(base + 300_000))));
        let first = || json!([{ "containerID": 0, "hostID": 0, "size": 1 }]);
        rounds.push((None, both(first(), first())));
        rounds.push((None, (nothing(), (here("uid")?, here("gid")?))));
    }
    for (user, (asked, wanted)) in rounds {
        let user = user.filter(|_| root);
        if let Some(verdict) = one(case, &mut bundle, user, &asked, &wanted)? {
            return Ok(verdict);
        }
    }
    if root {
        // More than their own id an ordinary user may not write: newuidmap would, and it is not in the sandbox.
        let more = json!([{ "containerID": 0, "hostID": own, "size": 1 }, { "containerID": 1, "hostID": own + 7, "size": 3 }]);
        bundle.config["linux"]["uidMappings"] = more.clone();
        bundle.config["linux"]["gidMappings"] = more;
        bundle.write()?;
        let mut command = case.command();
        command.arg("run").arg(&bundle.dir);
        fence::as_user(&mut command, ordinary);
        let ended = run::start(&mut command)?.end()?;
        if !ended.stderr.contains("newuidmap") {
            return Ok(Verdict::failed(
                "for more than their own id, an ordinary user needs newuidmap, and is told so where it is not there",
                ended.tell(),
                "own_only is one line, and one id, and one's own",
            ));
        }
    }
    for (uids, gids) in [(json!([]), mine(0)), (mine(0), json!([]))] {
        bundle.config["linux"]["uidMappings"] = uids;
        bundle.config["linux"]["gidMappings"] = gids;
        bundle.write()?;
        let ended = run::start(case.command().arg("run").arg(&bundle.dir))?.end()?;
        // Refused before anything is written: else the error would be an errno's.
        if ended.code() == Some(0) || !ended.stderr.contains("Mappings") {
            return Ok(Verdict::failed(
                "a configuration that asks for a user namespace and says nothing about its ids is refused, and told why",
                ended.tell(),
                "invalid(\"...\") with what is missing: linux.uidMappings, linux.gidMappings",
            ));
        }
    }
    Ok(Verdict::Passed)
}

/// The ids that there are here, each mapped on itself.
fn here(which: &str) -> Result<Value> {
    let lines = numbers(&fs::read_to_string(format!("/proc/self/{which}_map"))?);
    Ok(lines.iter().map(|l| json!({ "containerID": l[0], "hostID": l[0], "size": l[2] })).collect())
}

/// The lines of a map as the kernel shows them: three numbers each.
fn numbers(text: &str) -> Vec<Vec<u64>> {
    text.lines().map(|l| l.split_whitespace().filter_map(|n| n.parse().ok()).collect()).collect()
}

fn one(
    case: &Case,
    bundle: &mut Bundle,
    user: Option<u32>,
    asked: &(Value, Value),
    (uids, gids): &(Value, Value),
) -> Result<Option<Verdict>> {
    let code = case.dice.number(3..90) as i32;
    bundle.config["linux"]["uidMappings"] = asked.0.clone();
    bundle.config["linux"]["gidMappings"] = asked.1.clone();
    bundle.config["process"]["args"] = json!(["/bin/sh", "-c", format!("read x; exit {code}")]);
    bundle.write()?;
    let mut command = case.command();
    command.arg("run").arg(&bundle.dir);
    if let Some(id) = user {
        fence::as_user(&mut command, id);
    }
    let ordinary = user.is_some() || !geteuid().is_root();
    let mut running = run::start(&mut command)?;
    let ready = |pid: &i32| facts::status(*pid, "Name").as_deref() == Some("sh");
    // A child whose maps are half written is seen, too: what is in them is told even if it never starts.
    let mut last = (String::new(), String::new());
    let pid = running.watch(|parent| {
        let children = facts::children(parent);
        if let Some(child) = children.first() {
            let read =
                |which: &str| fs::read_to_string(format!("/proc/{child}/{which}_map")).unwrap_or_default();
            let now = (read("uid"), read("gid"));
            if !now.0.is_empty() {
                last = now;
            }
        }
        children.into_iter().find(ready)
    })?;
    let read = |file: &str| {
        pid.and_then(|pid| fs::read_to_string(format!("/proc/{pid}/{file}")).ok()).unwrap_or_default()
    };
    let (seen, setgroups) = ((read("uid_map"), read("gid_map")), read("setgroups"));
    let Some(_) = pid else {
        let lines = uids.as_array().map_or(0, Vec::len);
        return never_started(running, |said| match () {
            () if said.contains("gid_map") && ordinary => {
                "an ordinary user may write a group map only after \"deny\" was written to setgroups, and only then"
            }
            () if (said.contains("EPERM") || said.contains("newuidmap")) && lines > 1 => "a map can be written once only: all its lines in one write",
            () if said.contains("gid") => "was gid_map written, too?",
            () => "the id inside comes first, then the id outside, then how many; with a line for each mapping",
        })
        .map(Some);
    };
    let ended = running.end()?;
    for (file, wanted, seen) in [("uid_map", uids, &seen.0), ("gid_map", gids, &seen.1)] {
        let wanted: Vec<Vec<u64>> = wanted
            .as_array()
            .into_iter()
            .flatten()
            .map(|m| ["containerID", "hostID", "size"].iter().filter_map(|k| m[*k].as_u64()).collect())
            .collect();
        let seen = numbers(seen);
        if seen != wanted {
            let swapped: Vec<Vec<u64>> = wanted.iter().map(|l| vec![l[1], l[0], l[2]]).collect();
            return Ok(Some(Verdict::failed(
                format!("{file} is {wanted:?}"),
                format!("{file} is {seen:?}"),
                if seen == swapped {
                    "the id inside comes first, then the id outside"
                } else {
                    "a line for each mapping, all in one write"
                },
            )));
        }
    }
    let setgroups = setgroups.trim();
    let expected = if ordinary { "deny" } else { "allow" };
    Ok(if setgroups != expected {
        Some(Verdict::failed(
            if ordinary {
                "setgroups is denied to an ordinary user's container"
            } else {
                "setgroups stays allowed to root's container"
            },
            format!("/proc/PID/setgroups says {setgroups}"),
            "who could drop a group, and what would that open?",
        ))
    } else if ended.code() != Some(code) {
        Some(Verdict::failed(
            format!("it ends with its exit status {code}"),
            ended.tell(),
            "which call failed, and with what?",
        ))
    } else {
        None
    })
}
