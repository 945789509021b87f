//! A limit of memory, in the words of either version, and what the kernel says when it was not enough.

use super::{
    Answer, Case, Exercise, Wrong,
    staged::{self, Expected},
};
use crate::{
    bundle::Bundle,
    groups::{Groups, cannot_make},
    run::{self, Ended},
    stage::Stage,
    verdict::Verdict,
};
use anyhow::Result;
use serde_json::{Value, json};

const V1: &str = "cgroups::v1::memory";
const V2: &str = "cgroups::v2::memory";
const OOM: &str = "cgroups::counters::oom_kills";

pub(super) const EXERCISE: Exercise = Exercise {
    id: "cgroups/memory",
    title: "limit memory, and see the kill",
    section: "7.2",
    items: &[V1, V2, OOM],
    program: "cgroups",
    points: 20,
    task: "The first two functions turn `linux.resources.memory` into settings: which file of the group is given which text.\n\
           The fields are `limit`, `swap` (memory and swap together), `reservation` (a soft limit), and of version 1 alone `kernel`,\n\
           `kernelTCP`, `swappiness`, `disableOOMKiller`. A 0 means \"not asked\", -1 \"no limit\". No limit of memory, and nothing\n\
           said about swap, means no limit of swap either.\n\
           Version 1: memory.limit_in_bytes, memory.memsw.limit_in_bytes (also the two together), memory.soft_limit_in_bytes,\n\
           memory.kmem.limit_in_bytes, memory.kmem.tcp.limit_in_bytes, memory.swappiness, memory.oom_control (1, only if the killer\n\
           is to be disabled). A kernel may lack the kmem files, and the memsw file where it would only be given -1: those are\n\
           `optional()`.\n\
           Version 2: memory.max, memory.low, memory.swap.max (swap alone; `max` for no limit, and then optional). What it cannot\n\
           do is an error, not a thing left out: to disable the killer, a swappiness, a limit of kernel memory by itself, a swap\n\
           limit without a memory limit or below it.\n\
           The third counts the processes that the kernel has killed in the group for lack of memory: `oom_kill` of\n\
           memory.oom_control on version 1, of memory.events on version 2, in the group that has the controller `memory`; 0 if none has.",
    invariants: &[
        "the group can never use more memory and swap together than was asked for, on either version",
        "nothing that was asked for is silently not done",
        "a kill is reported when there was one, and only then",
    ],
    predict: "--memory 64m --memory-swap 64m: how much swap may the container use, and what is in memory.swap.max?",
    hints: [
        "Make a table of two columns, a file of version 1 and its like on version 2. In which rows does the number change?",
        "Version 1 takes the numbers as they are, -1 as well. Version 2 wants `max` for -1 (`or_max`), and swap by itself: both - limit.",
        "The swap of version 2 is a match over (limit, swap): (_, Some(-1)) and (Some(-1), None) are `max`; (Some(l), Some(b)) if b >= l \
         is b - l; (_, None) is nothing; all else an error.",
    ],
    why: (
        "Why does a process die, when its malloc could simply fail?",
        "The memory was promised long before and is only allotted when a page is first touched, in the middle of an instruction: there \
         is no call left that could return an error.",
    ),
    check,
    wrong: &[
        Wrong {
            name: "swap left as wide as both",
            answer: Answer::Change(V2, "(both - limit)", "both"),
            told: "counts swap by itself",
        },
        Wrong {
            name: "version 1 given swap alone",
            answer: Answer::Change(
                V1,
                "m.swap().filter(|s| *s != 0).or(unlimited)",
                "m.swap().zip(m.limit()).map(|(s, l)| s - l).or(unlimited)",
            ),
            told: "memory and swap together",
        },
        Wrong {
            name: "-1 written to version 2",
            answer: Answer::Change(V2, "or_max(limit)", "limit"),
            told: "'max'",
        },
        Wrong {
            name: "no limit of memory, and swap closed",
            answer: Answer::Change(V2, "(_, Some(-1)) | (Some(-1), None)", "(_, Some(-1))"),
            told: "memory.swap.max",
        },
        Wrong {
            name: "the soft limit slows down instead",
            answer: Answer::Change(V2, "\"memory.low\"", "\"memory.high\""),
            told: "memory.low",
        },
        Wrong {
            name: "a 0 is written",
            answer: Answer::Change(V1, "value.filter(|v| *v != 0)", "value"),
            told: "0 means \"not asked\"",
        },
        Wrong {
            name: "disableOOMKiller silently left out",
            answer: Answer::Change(V2, "m.disable_oom_killer() == Some(true)", "false"),
            told: "is refused",
        },
        Wrong {
            name: "times that memory was short are taken for kills",
            answer: Answer::Change(OOM, "get(\"oom_kill\")", "get(\"oom\")"),
            told: "out of memory",
        },
        Wrong {
            name: "no kill is ever reported",
            answer: Answer::Change(OOM, ".unwrap_or(0)", ".map_or(0, |_| 0)"),
            told: "out of memory",
        },
    ],
};

const FILES_V1: [&str; 7] = [
    "memory.limit_in_bytes",
    "memory.memsw.limit_in_bytes",
    "memory.soft_limit_in_bytes",
    "memory.kmem.limit_in_bytes",
    "memory.kmem.tcp.limit_in_bytes",
    "memory.swappiness",
    "memory.oom_control",
];
const FILES_V2: [&str; 5] = ["memory.max", "memory.low", "memory.high", "memory.swap.max", "memory.min"];

fn check(case: &Case) -> Result<Verdict> {
    let mut bundle = Bundle::new(case, "true")?;
    for part in [version_1, version_2] {
        if let Some(verdict) = part(case, &mut bundle)? {
            return Ok(verdict);
        }
    }
    if let Some(verdict) = kills_on_the_stage(case)? {
        return Ok(verdict);
    }
    real(case)
}

fn perhaps(file: &str, expected: &str, seen: &str) -> &'static str {
    match (file, expected, seen) {
        (_, "", "0") => "0 means \"not asked\": docker sends it for every limit that was not given",
        ("memory.swap.max", ..) => "version 2 counts swap by itself, the spec memory and swap together",
        ("memory.memsw.limit_in_bytes", ..) => "version 1 counts memory and swap together, as the spec does",
        (_, "max", _) => "version 2 has a word for \"no limit\": max",
        (_, "", _) => "was that asked for?",
        _ => "which field goes into which file?",
    }
}

/// Whether the group was entered: the process is put in only after all limits are written.
fn entered(stage: &Stage, tree: &str) -> bool {
    ["tasks", "cgroup.procs"].iter().any(|file| !stage.text(tree, file).is_empty())
}

fn version_1(case: &Case, bundle: &mut Bundle) -> Result<Option<Verdict>> {
    let n: Vec<u64> = (0..4).map(|_| case.dice.number(64..4096) << 20).collect();
    let both = n[0] + n[1];
    let swappiness = case.dice.number(1..100);
    let text = |n: u64| n.to_string();
    let none = String::new;
    let all = [
        (
            json!({ "limit": n[0], "swap": both, "reservation": n[2], "kernel": n[3], "kernelTCP": n[1], "swappiness": swappiness,
                    "disableOOMKiller": true }),
            [text(n[0]), text(both), text(n[2]), text(n[3]), text(n[1]), text(swappiness), "1".into()],
            None,
        ),
        (json!({ "limit": -1 }), ["-1".into(), "-1".into(), none(), none(), none(), none(), none()], None),
        (
            json!({ "limit": 0, "swap": 0, "reservation": 0, "kernel": 0, "kernelTCP": 0, "disableOOMKiller": false }),
            [const { String::new() }; 7],
            None,
        ),
        (json!({ "limit": n[3] }), [text(n[3]), none(), none(), none(), none(), none(), none()], None),
        // Without swap accounting and without kmem, only what was not asked for may be left out.
        (
            json!({ "limit": -1, "kernel": n[1] }),
            ["-1".into(), none(), none(), none(), none(), none(), none()],
            Some(true),
        ),
        (
            json!({ "limit": n[0], "swap": both }),
            [text(n[0]), none(), none(), none(), none(), none(), none()],
            Some(false),
        ),
    ];
    for (number, (memory, files, short)) in all.into_iter().enumerate() {
        let mut stage = Stage::new(case, &format!("v1-{number}"))?;
        let lacks = |file: &&str| short.is_none() || !(file.contains("memsw") || file.contains("kmem"));
        let there: Vec<_> = FILES_V1.iter().copied().filter(|f| lacks(f)).map(|f| (f, "")).collect();
        stage.v1("memory", &there)?;
        let ended = staged::run_with(case, &stage, bundle, &json!({ "memory": memory }))?;
        let asked = memory.to_string();
        let expected = Expected { asked, tree: "memory", files: FILES_V1.into_iter().zip(files).collect() };
        if let Some(verdict) = expected.compare(&stage, &ended, perhaps) {
            return Ok(Some(verdict));
        }
        if entered(&stage, "memory") != short.unwrap_or(true) {
            return Ok(Some(optional(&memory, short, &ended)));
        }
    }
    Ok(None)
}

/// What to say about a kernel that lacks a file.
fn optional(memory: &Value, goes_on: Option<bool>, ended: &Ended) -> Verdict {
    let (expected, hint) = if goes_on == Some(false) {
        ("is refused", "only what nobody asked for may be left out")
    } else {
        ("is done as far as it can be", "what this kernel never had, and nobody can miss, is optional()")
    };
    Verdict::failed(
        format!("on a kernel without memsw and kmem files, {memory} {expected}"),
        if goes_on == Some(false) {
            "the process was started without that limit".into()
        } else {
            ended.tell()
        },
        hint,
    )
}

fn version_2(case: &Case, bundle: &mut Bundle) -> Result<Option<Verdict>> {
    let n: Vec<u64> = (0..3).map(|_| case.dice.number(64..4096) << 20).collect();
    let both = n[0] + n[1];
    let text = |n: u64| n.to_string();
    let none = String::new;
    // Files in the order of FILES_V2: max, low, high, swap.max, min.
    let all = [
        (
            json!({ "limit": n[0], "swap": both, "reservation": n[2] }),
            [text(n[0]), text(n[2]), none(), text(n[1]), none()],
        ),
        (json!({ "limit": n[2], "swap": n[2] }), [text(n[2]), none(), none(), "0".into(), none()]),
        (json!({ "limit": n[1] }), [text(n[1]), none(), none(), none(), none()]),
        (json!({ "limit": -1 }), ["max".into(), none(), none(), "max".into(), none()]),
        (json!({ "limit": n[1], "swap": -1 }), [text(n[1]), none(), none(), "max".into(), none()]),
        (
            json!({ "limit": 0, "swap": 0, "reservation": 0, "disableOOMKiller": false }),
            [const { String::new() }; 5],
        ),
        (json!({ "reservation": -1 }), [none(), "max".into(), none(), none(), none()]),
        // No limit of what it cannot limit is what it does anyway.
        (
            json!({ "limit": n[0], "kernel": -1, "kernelTCP": -1 }),
            [text(n[0]), none(), none(), none(), none()],
        ),
    ];
    for (number, (memory, files)) in all.into_iter().enumerate() {
        let mut stage = Stage::new(case, &format!("v2-{number}"))?;
        stage.v2("memory", &FILES_V2.map(|file| (file, "")))?;
        let ended = staged::run_with(case, &stage, bundle, &json!({ "memory": memory }))?;
        let asked = memory.to_string();
        let expected = Expected { asked, tree: "unified", files: FILES_V2.into_iter().zip(files).collect() };
        if let Some(verdict) = expected.compare(&stage, &ended, perhaps) {
            return Ok(Some(verdict));
        }
    }
    // What cannot be done is refused, before anything runs.
    let refused = [
        json!({ "limit": n[0], "disableOOMKiller": true }),
        json!({ "swap": both }),
        json!({ "limit": both, "swap": n[0] }),
        json!({ "limit": -1, "swap": n[0] }),
        json!({ "limit": n[0], "swappiness": case.dice.number(0..100) }),
        json!({ "limit": n[0], "kernel": n[1] }),
        json!({ "limit": n[0], "kernelTCP": n[2] }),
    ];
    for (number, memory) in refused.iter().enumerate() {
        let mut stage = Stage::new(case, &format!("no-{number}"))?;
        stage.v2("memory", &FILES_V2.map(|file| (file, "")))?;
        let ended = staged::run_with(case, &stage, bundle, &json!({ "memory": memory }))?;
        let written = FILES_V2.iter().find(|file| !stage.text("unified", file).is_empty());
        // Had it gone on, the clone into the group of the stage would have failed with EBADF.
        if written.is_some() || ended.code() == Some(0) || ended.stderr.contains("EBADF") {
            return Ok(Some(Verdict::failed(
                format!("on version 2, {memory} is refused: it cannot be done"),
                written.map_or("it went on".to_owned(), |file| format!("{file} was written")),
                "what was asked for and is not done has to be an error",
            )));
        }
    }
    // Without swap accounting there is nothing to lift, but something to miss.
    for (swap, goes_on) in [("-1".to_owned(), true), (text(both), false)] {
        let mut stage = Stage::new(case, &format!("noswap{swap}"))?;
        stage.v2("memory", &[("memory.max", "")])?;
        let options = ["--memory".into(), text(n[0]), "--memory-swap".into(), swap.clone()];
        let ended = staged::limit(case, &stage, &options)?;
        if entered(&stage, "unified") != goes_on {
            return Ok(Some(Verdict::failed(
                format!(
                    "on a kernel without memory.swap.max, swap {swap} {}",
                    if goes_on { "needs nothing" } else { "is refused" }
                ),
                ended.tell(),
                "no limit where none can be is optional(); a limit is not",
            )));
        }
    }
    Ok(None)
}

/// The exact number, where it can be chosen.
fn kills_on_the_stage(case: &Case) -> Result<Option<Verdict>> {
    for (name, kills) in [("quiet", 0), ("killed", case.dice.number(2..90))] {
        let short = case.dice.number(100..900);
        let mut one = Stage::new(case, &format!("{name}-1"))?;
        one.v1("pids", &[("memory.oom_control", "oom_kill 77\n")])?; // not that tree's
        one.v1(
            "memory",
            &[("memory.oom_control", &format!("oom_kill_disable 0\nunder_oom {short}\noom_kill {kills}\n"))],
        )?;
        let mut two = Stage::new(case, &format!("{name}-2"))?;
        two.v2("memory", &[("memory.events", &format!("max {short}\noom {short}\noom_kill {kills}\n"))])?;
        for (version, stage) in [(1, one), (2, two)] {
            let mut command = case.command();
            command.args(["limit", "--path", &format!("/{}", stage.group), "--", "true"]);
            stage.around(&mut command)?;
            let ended = run::start(&mut command)?.end()?;
            let line = ended.stderr.lines().find(|l| l.contains("out of memory")).map(str::to_owned);
            let told = match &line {
                None => 0,
                Some(l) => l.split_whitespace().find_map(|w| w.parse().ok()).unwrap_or(1),
            };
            if told != kills || ended.untouched() {
                return Ok(Some(Verdict::failed(
                    format!(
                        "version {version} says oom_kill {kills}: the report says \"out of memory\" and so many"
                    ),
                    line.unwrap_or_else(|| format!("nothing of it ({})", ended.tell())),
                    if ended.untouched() {
                        "the function is still empty"
                    } else {
                        "oom_kill, in the group that has the controller memory"
                    },
                )));
            }
        }
    }
    Ok(None)
}

/// A real group, and a program that takes more than it may.
fn real(case: &Case) -> Result<Verdict> {
    if let Some(why) = cannot_make() {
        return Ok(Verdict::NotChecked(format!("whether the kernel kills: {why}")));
    }
    let groups = Groups::named(&format!("lab-{}", case.dice.word()));
    let Some(v2) = groups.is_v2("memory") else {
        return Ok(Verdict::NotChecked("this machine has no memory controller".into()));
    };
    let (limit_file, swap_file, kills_file) = if v2 {
        ("memory.max", "memory.swap.max", "memory.events")
    } else {
        ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.oom_control")
    };
    let limit = case.dice.number(12..40) << 20;
    let code = case.dice.number(3..90);
    for greedy in [true, false] {
        // tail(1) keeps a last line without an end in memory, until it is killed; the shell stays.
        let hog = if greedy { "tail /dev/zero; " } else { "" };
        let script = format!("{hog}read x; exit {code}");
        let mut command = case.command();
        command.args(["limit", "--path", &groups.path(), "--memory", &limit.to_string()]);
        // Without swap accounting there is no file for it.
        let swap = std::fs::exists(
            groups.directory("memory").unwrap_or_default().with_file_name("memory.memsw.limit_in_bytes"),
        )?;
        if v2 || swap {
            command.args(["--memory-swap", &limit.to_string()]);
        }
        command.args(["--", "sh", "-c", &script]);
        let mut running = run::start(&mut command)?;
        let kills = || -> u64 {
            let text = groups.text("memory", kills_file).unwrap_or_default();
            text.lines().find_map(|l| l.strip_prefix("oom_kill ")?.parse().ok()).unwrap_or(0)
        };
        // Done when the group has had its kill, or its shell is there and waits.
        running
            .watch(|_| (if greedy { kills() > 0 } else { !groups.processes().is_empty() }).then_some(()))?;
        let limited = groups.text("memory", limit_file);
        let swapped = groups.text("memory", swap_file);
        let killed = kills();
        let ended = running.end()?;
        if limited.as_deref() != Some(limit.to_string().as_str()) {
            return Ok(Verdict::failed(
                format!("the group's {limit_file} is {limit}"),
                format!("{} ({})", limited.unwrap_or_else(|| "no such group".into()), ended.tell()),
                "which file limits memory on this version?",
            ));
        }
        let closed = if v2 { "0".to_owned() } else { limit.to_string() };
        if (v2 || swap) && swapped.as_deref().is_some_and(|s| s != closed) {
            return Ok(Verdict::failed(
                format!("no swap besides: {swap_file} is {closed}"),
                swapped.unwrap_or_default(),
                if v2 {
                    "version 2 counts swap by itself"
                } else {
                    "version 1 counts memory and swap together"
                },
            ));
        }
        let told = ended.stderr.contains("out of memory");
        if told != greedy || (killed > 0) != greedy || ended.code() != Some(code as i32) {
            return Ok(Verdict::failed(
                if greedy {
                    "a process is killed, and the report says \"out of memory\""
                } else {
                    "nobody is killed, and nobody says so"
                },
                format!("{killed} killed; {}", ended.tell()),
                "oom_kill counts the kills of the group",
            ));
        }
    }
    Ok(Verdict::Passed)
}
