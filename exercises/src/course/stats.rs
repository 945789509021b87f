//! What a group has used: the same facts, counted in different files and units by the two versions.

use super::{Answer, Case, Exercise, Wrong};
use crate::{dice::Dice, groups::Groups, groups::cannot_make, run, sandbox, stage::Stage, verdict::Verdict};
use anyhow::{Context, Result};
use serde_json::Value;
use std::{fs, path::Path, process::Stdio};

const V1: &str = "cgroups::counters::read_v1";
const V2: &str = "cgroups::counters::read_v2";

pub(super) const EXERCISE: Exercise = Exercise {
    id: "cgroups/stats",
    title: "read what a group has used",
    section: "7.2",
    items: &[V1, V2],
    program: "cgroups",
    points: 20,
    task: "`group` is a group's directory, `has` says which controllers it has there: fill in the parts of `stats` that these\n\
           count. Everything is in nanoseconds and bytes; what the kernel does not count stays 0. The functions below\n\
           (`number`, `pairs`, `pids`, `blkio_v1`, `io_v2`) read one file each.\n\
           Version 1: cpuacct.usage, usage_sys, usage_user and usage_percpu with `cpuacct`; nr_periods, nr_throttled and\n\
           throttled_time of cpu.stat with `cpu`; with `memory` the four files limit_in_bytes, usage_in_bytes,\n\
           max_usage_in_bytes and failcnt after \"memory.\" (`usage`) and after \"memory.memsw.\" (`swap`), memory.stat as it is\n\
           (`raw`; `cache` is in it) and oom_kill of memory.oom_control; with `blkio` the two files\n\
           blkio.throttle.io_service_bytes_recursive and io_serviced_recursive.\n\
           Version 2: cpu.stat is there without any controller and counts in microseconds (usage_usec, user_usec, system_usec;\n\
           with `cpu` also nr_periods, nr_throttled, throttled_usec); with `memory` memory.max, memory.current, memory.peak\n\
           (newer kernels; it is never less than what is used now), `max` and `oom_kill` of memory.events, memory.stat (the page\n\
           cache is `file`); `swap` means memory and swap together, as version 1 has it, from memory.swap.current and\n\
           memory.swap.max; io.stat with `io`.",
    invariants: &[
        "a number means the same, whichever version it comes from",
        "\"no limit\" stays a number that no sum can turn into a small one",
        "a file of a controller that the group does not have is not read, and a missing file is no error",
    ],
    predict: "a group has no memory limit, and no swap limit either. On version 2, what do the two together make: how is it written \
              as a number of 64 bits?",
    hints: [
        "Write the one for version 1 first: it is a list of files. Then ask of each number what its unit is on version 2.",
        "`number` makes the largest number of `max`. What does adding anything to that do?",
        "nanoseconds are stat[\"usage_usec\"] * 1000; swap.limit is limit.saturating_add(value(\"memory.swap.max\")), and swap.usage \
         the sum of memory.current and memory.swap.current.",
    ],
    why: (
        "Why is the time in a group counted even where the cpu controller is not handed down?",
        "The scheduler accounts for the time of every group anyway; what the controller adds, and costs, is the distribution.",
    ),
    check,
    wrong: &[
        Wrong {
            name: "microseconds taken for nanoseconds",
            answer: Answer::Change(V2, "unwrap_or(0) * 1000", "unwrap_or(0)"),
            told: "counts in microseconds",
        },
        Wrong {
            name: "swap without memory",
            answer: Answer::Change(
                V2,
                "limit.saturating_add(value(\"memory.swap.max\"))",
                "value(\"memory.swap.max\")",
            ),
            told: "memory and swap together",
        },
        Wrong {
            name: "no limit plus no limit wraps around",
            answer: Answer::Change(V2, "saturating_add", "wrapping_add"),
            told: "no sum of limits is less",
        },
        Wrong {
            name: "time in the kernel is taken for time in programs",
            answer: Answer::Change(V1, "cpuacct.usage_sys", "cpuacct.usage_user"),
            told: "/cpu/usage/kernel",
        },
        Wrong {
            name: "version 1's name for the page cache",
            answer: Answer::Change(V2, "raw.get(\"file\")", "raw.get(\"cache\")"),
            told: "/memory/cache",
        },
        Wrong {
            name: "times that memory was short are taken for kills",
            answer: Answer::Change(V2, "events.get(\"oom_kill\")", "events.get(\"oom\")"),
            told: "/memory/outOfMemoryKills",
        },
    ],
};

/// A number that must be in the JSON, and where it comes from.
struct Fact(&'static str, u64, &'static str);

fn check(case: &Case) -> Result<Verdict> {
    // Twice each: with everything, and with as little as an older kernel or a bare group has.
    for (stage, facts) in [v1(case)?, v2(case)?, bare(case)?, bare_v2(case)?] {
        let mut command = case.command();
        command.args(["stats", "--json", &format!("/{}", stage.group)]);
        stage.around(&mut command)?;
        let ended = run::start(&mut command)?.end()?;
        let Ok(seen) = serde_json::from_str::<Value>(&ended.stdout) else {
            return Ok(Verdict::failed(
                "the numbers are printed",
                ended.tell(),
                if ended.untouched() { "the function is still empty" } else { "a missing file is no error" },
            ));
        };
        if let Some(verdict) = facts.iter().find_map(|fact| fact.compare(&seen["data"])) {
            return Ok(verdict);
        }
    }
    real(case)
}

impl Fact {
    fn compare(&self, data: &Value) -> Option<Verdict> {
        let Fact(pointer, expected, from) = self;
        let seen = data.pointer(pointer).and_then(Value::as_u64);
        if seen == Some(*expected) {
            return None;
        }
        let hint = match (*pointer, seen) {
            (_, Some(seen)) if seen != 0 && seen.checked_mul(1000) == Some(*expected) => {
                "version 2 counts in microseconds, the result in nanoseconds"
            }
            ("/memory/swap/limit", _) if *expected == u64::MAX => {
                "`max` is the largest number, and no sum of limits is less than one of them"
            }
            (p, _) if p.starts_with("/memory/swap") => {
                "it means memory and swap together, as version 1 counts"
            }
            (_, Some(_)) if *expected == 0 => "does the group have that controller in this tree?",
            _ => "which file says that, and under which name?",
        };
        let seen = seen.map_or("nothing".to_owned(), |n| n.to_string());
        let expected = format!("{pointer} is {expected} ({from})");
        Some(Verdict::failed(expected, format!("{pointer} is {seen}"), hint))
    }
}

/// A number that is nowhere else, and small enough to be summed.
fn number(dice: &Dice) -> u64 {
    dice.number(1 << 20..1 << 40)
}

fn v1(case: &Case) -> Result<(Stage, Vec<Fact>)> {
    let n: Vec<u64> = (0..24).map(|_| number(&case.dice)).collect();
    let t: Vec<String> = n.iter().map(u64::to_string).collect();
    let mut stage = Stage::new(case, "one")?;
    let percpu = format!("{} {}\n", n[3], n[4]);
    let files = [
        ("cpuacct.usage", t[0].as_str()),
        ("cpuacct.usage_sys", &t[1]),
        ("cpuacct.usage_user", &t[2]),
        ("cpuacct.usage_percpu", &percpu),
    ];
    stage.v1("cpuacct", &files)?;
    let stat = format!("nr_periods {}\nnr_throttled {}\nthrottled_time {}\n", n[5], n[6], n[7]);
    stage.v1("cpu", &[("cpu.stat", &stat)])?;
    let stat = format!("cache {}\nrss {}\n", n[16], n[17]);
    let oom = format!("oom_kill_disable 0\nunder_oom 1\noom_kill {}\n", n[18]);
    let files = [
        ("memory.limit_in_bytes", t[8].as_str()),
        ("memory.usage_in_bytes", &t[9]),
        ("memory.max_usage_in_bytes", &t[10]),
        ("memory.failcnt", &t[11]),
        ("memory.memsw.limit_in_bytes", &t[12]),
        ("memory.memsw.usage_in_bytes", &t[13]),
        ("memory.memsw.max_usage_in_bytes", &t[14]),
        ("memory.memsw.failcnt", &t[15]),
        ("memory.stat", &stat),
        ("memory.oom_control", &oom),
    ];
    stage.v1("memory", &files)?;
    stage.v1("pids", &[("pids.current", &t[19]), ("pids.max", &t[20])])?;
    let (bytes, operations) =
        (format!("8:16 Read {}\nTotal {0}\n", n[21]), format!("8:16 Write {}\nTotal {0}\n", n[22]));
    let files = [
        ("blkio.throttle.io_service_bytes_recursive", bytes.as_str()),
        ("blkio.throttle.io_serviced_recursive", &operations),
    ];
    stage.v1("blkio", &files)?;
    let facts = vec![
        Fact("/cpu/usage/total", n[0], "cpuacct.usage"),
        Fact("/cpu/usage/kernel", n[1], "cpuacct.usage_sys"),
        Fact("/cpu/usage/user", n[2], "cpuacct.usage_user"),
        Fact("/cpu/usage/percpu/0", n[3], "the first of cpuacct.usage_percpu"),
        Fact("/cpu/usage/percpu/1", n[4], "the second of cpuacct.usage_percpu"),
        Fact("/cpu/throttling/periods", n[5], "nr_periods of cpu.stat"),
        Fact("/cpu/throttling/throttledPeriods", n[6], "nr_throttled of cpu.stat"),
        Fact("/cpu/throttling/throttledTime", n[7], "throttled_time of cpu.stat"),
        Fact("/memory/usage/limit", n[8], "memory.limit_in_bytes"),
        Fact("/memory/usage/usage", n[9], "memory.usage_in_bytes"),
        Fact("/memory/usage/max", n[10], "memory.max_usage_in_bytes"),
        Fact("/memory/usage/failcnt", n[11], "memory.failcnt"),
        Fact("/memory/swap/limit", n[12], "memory.memsw.limit_in_bytes"),
        Fact("/memory/swap/usage", n[13], "memory.memsw.usage_in_bytes"),
        Fact("/memory/swap/max", n[14], "memory.memsw.max_usage_in_bytes"),
        Fact("/memory/swap/failcnt", n[15], "memory.memsw.failcnt"),
        Fact("/memory/cache", n[16], "cache of memory.stat"),
        Fact("/memory/raw/rss", n[17], "rss of memory.stat"),
        Fact("/memory/outOfMemoryKills", n[18], "oom_kill of memory.oom_control"),
        Fact("/pids/current", n[19], "pids.current"),
        Fact("/pids/limit", n[20], "pids.max"),
        Fact("/blkio/ioServiceBytesRecursive/0/value", n[21], "blkio.throttle.io_service_bytes_recursive"),
        Fact("/blkio/ioServicedRecursive/0/value", n[22], "blkio.throttle.io_serviced_recursive"),
    ];
    Ok((stage, facts))
}

fn v2(case: &Case) -> Result<(Stage, Vec<Fact>)> {
    let n: Vec<u64> = (0..24).map(|_| number(&case.dice)).collect();
    let mut stage = Stage::new(case, "two")?;
    let cpu = format!(
        "usage_usec {}\nuser_usec {}\nsystem_usec {}\nnr_periods {}\nnr_throttled {}\nthrottled_usec {}\n",
        n[0], n[1], n[2], n[3], n[4], n[5]
    );
    let stat = format!("anon {}\nfile {}\n", n[14], n[13]);
    let events = format!("low 0\nhigh 0\nmax {}\noom {}\noom_kill {}\n", n[11], n[15], n[12]);
    let io = format!("8:32 rbytes={} wbytes=0 rios={} wios=0\n", n[18], n[19]);
    let peak = n[7] + n[8]; // more than what is used now
    let text = |n: u64| n.to_string();
    let files = [
        ("cpu.stat", cpu),
        ("memory.max", text(n[6])),
        ("memory.current", text(n[7])),
        ("memory.peak", text(peak)),
        ("memory.swap.max", text(n[9])),
        ("memory.swap.current", text(n[10])),
        ("memory.stat", stat),
        ("memory.events", events),
        ("pids.current", text(n[16])),
        ("pids.max", text(n[17])),
        ("io.stat", io),
    ];
    stage.v2("cpu io memory pids", &files.each_ref().map(|(f, t)| (*f, t.as_str())))?;
    let facts = vec![
        Fact("/cpu/usage/total", n[0] * 1000, "usage_usec of cpu.stat"),
        Fact("/cpu/usage/user", n[1] * 1000, "user_usec of cpu.stat"),
        Fact("/cpu/usage/kernel", n[2] * 1000, "system_usec of cpu.stat"),
        Fact("/cpu/throttling/periods", n[3], "nr_periods of cpu.stat"),
        Fact("/cpu/throttling/throttledPeriods", n[4], "nr_throttled of cpu.stat"),
        Fact("/cpu/throttling/throttledTime", n[5] * 1000, "throttled_usec of cpu.stat"),
        Fact("/memory/usage/limit", n[6], "memory.max"),
        Fact("/memory/usage/usage", n[7], "memory.current"),
        Fact("/memory/usage/max", peak, "memory.peak"),
        Fact("/memory/usage/failcnt", n[11], "max of memory.events"),
        Fact("/memory/swap/limit", n[6] + n[9], "memory.max and memory.swap.max"),
        Fact("/memory/swap/usage", n[7] + n[10], "memory.current and memory.swap.current"),
        Fact("/memory/outOfMemoryKills", n[12], "oom_kill of memory.events"),
        Fact("/memory/cache", n[13], "file of memory.stat"),
        Fact("/memory/raw/anon", n[14], "anon of memory.stat"),
        Fact("/pids/current", n[16], "pids.current"),
        Fact("/pids/limit", n[17], "pids.max"),
        Fact("/blkio/ioServiceBytesRecursive/0/value", n[18], "rbytes of io.stat"),
        Fact("/blkio/ioServicedRecursive/0/value", n[19], "rios of io.stat"),
    ];
    Ok((stage, facts))
}

/// A hybrid: a version 2 tree that counts time only, and one version 1 tree. Files of controllers that the group does
/// not have there are decoys.
fn bare(case: &Case) -> Result<(Stage, Vec<Fact>)> {
    let (usage, decoy) = (number(&case.dice), number(&case.dice));
    let mut stage = Stage::new(case, "hybrid")?;
    let text = decoy.to_string();
    let stat = format!("usage_usec {usage}\nnr_periods {decoy}\n");
    let io = format!("8:0 rbytes={decoy}\n");
    stage.v2(
        "",
        &[("cpu.stat", &stat), ("memory.current", &text), ("pids.current", &text), ("io.stat", &io)],
    )?;
    let accounting = [
        ("pids.current", "3"),
        ("cpuacct.usage", &text),
        ("cpu.stat", &stat),
        ("memory.usage_in_bytes", &text),
    ];
    stage.v1("pids", &accounting)?;
    let none = "the tree that has this file has not its controller";
    let facts = vec![
        Fact("/cpu/usage/total", usage * 1000, "usage_usec of version 2's cpu.stat"),
        Fact("/cpu/throttling/periods", 0, none),
        Fact("/memory/usage/usage", 0, none),
        Fact("/pids/current", 3, "pids.current"),
        Fact("/cpu/usage/user", 0, "nothing counts it"),
    ];
    Ok((stage, facts))
}

/// An older kernel, and no limits.
fn bare_v2(case: &Case) -> Result<(Stage, Vec<Fact>)> {
    let used = number(&case.dice);
    let mut stage = Stage::new(case, "old")?;
    let text = used.to_string();
    stage
        .v2("memory", &[("memory.current", &text), ("memory.max", "max\n"), ("memory.swap.max", "max\n")])?;
    let facts = vec![
        Fact("/memory/usage/usage", used, "memory.current"),
        Fact("/memory/usage/max", used, "without memory.peak, at least what is used now"),
        Fact("/memory/usage/limit", u64::MAX, "memory.max is max"),
        Fact("/memory/swap/limit", u64::MAX, "memory.max and memory.swap.max are max"),
        Fact("/memory/swap/usage", used, "memory.current, and no swap"),
        Fact("/cpu/usage/total", 0, "there is no cpu.stat"),
    ];
    Ok((stage, facts))
}

/// A group of this machine: what is told lies between what the kernel says before and after.
fn real(case: &Case) -> Result<Verdict> {
    let groups = Groups::named(&format!("lab-{}", case.dice.word()));
    let time = |groups: &Groups| -> Option<u64> {
        if let Some(text) = groups.text("cpuacct", "cpuacct.usage") {
            return text.parse().ok();
        }
        let at = groups.there().into_iter().find(|d| d.join("cpu.stat").is_file())?;
        let stat = fs::read_to_string(at.join("cpu.stat")).ok()?;
        let usec = stat.lines().find_map(|l| l.strip_prefix("usage_usec "))?;
        Some(usec.trim().parse::<u64>().ok()? * 1000)
    };
    if cannot_make().is_some() {
        return Ok(Verdict::Passed); // an ordinary user has seen it on the stages of both versions
    }
    groups.make()?;
    let mut command = case.sandbox.command(Path::new("/bin/sh"));
    command.args(["-c", "read x; while :; do :; done"]).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut busy = sandbox::spawn(&mut command).context("start a process to be counted")?;
    groups.put(busy.id() as i32)?;
    drop(busy.stdin.take());
    std::thread::sleep(std::time::Duration::from_millis(50)); // it shall have used some time
    let before = time(&groups);
    let ended = run::start(case.command().args(["stats", "--json", &groups.path()]))?.end()?;
    let after = time(&groups);
    drop(groups);
    let _ = busy.wait(); // killed with its group
    let seen: Value = serde_json::from_str(&ended.stdout).unwrap_or_default();
    let seen = seen["data"]["cpu"]["usage"]["total"].as_u64();
    let between = before.zip(after).zip(seen).is_some_and(|((a, b), n)| (a..=b).contains(&n) && n > 0);
    Ok(if between {
        Verdict::Passed
    } else {
        Verdict::failed(
            format!("the time of a real group, between {before:?} and {after:?} ns"),
            format!("{seen:?}"),
            "which file says that, and in which unit?",
        )
    })
}
