//! A quota, a weight and a set of processors: three limits of the same thing.

use super::{
    Answer, Case, Exercise, Wrong,
    staged::{self, Expected},
};
use crate::{
    bundle::Bundle,
    facts,
    groups::{Groups, cannot_make},
    run,
    stage::Stage,
    verdict::Verdict,
};
use anyhow::Result;
use serde_json::{Value, json};

const V1: &str = "cgroups::v1::cpu";
const V2: &str = "cgroups::v2::cpu";
const SET: &str = "cgroups::v1::cpuset";

pub(super) const EXERCISE: Exercise = Exercise {
    id: "cgroups/cpu",
    title: "limit processor time, and choose processors",
    section: "7.2",
    items: &[V1, V2, SET],
    program: "cgroups",
    points: 20,
    task: "Turn `linux.resources.cpu` into settings. The fields: `quota` microseconds of time in every `period`, both in one file on\n\
           version 2; `shares`, a weight against others, which `weight_of_shares` draws on version 2's scale; `burst`, unused time that\n\
           may be saved up; `idle`; `realtimeRuntime` and `realtimePeriod`, of version 1 only; `cpus` and `mems`, lists of processors\n\
           and memory nodes. A 0 means \"not asked\" (but not for idle and burst, where it is a value), an empty list as well; a quota\n\
           of -1 is \"no limit\". A period alone leaves the quota as it is: `KEPT` stands for the first word that the file holds.\n\
           Version 1: cpu.shares, cpu.cfs_period_us, cpu.cfs_quota_us, cpu.cfs_burst_us, cpu.rt_period_us, cpu.rt_runtime_us, cpu.idle.\n\
           Version 2: cpu.weight, cpu.max, cpu.max.burst, cpu.idle; what it cannot do is an error.\n\
           Both: cpuset.cpus and cpuset.mems.",
    invariants: &[
        "the group gets `quota` of time in each `period`, and not the other way round",
        "half of the pair may be asked for: the other half stays as it is",
        "what was not asked for is not written",
    ],
    predict: "echo 50000 > cpu.max, in a group that had \"max 20000\" there: how many processors' worth of time does it have now?",
    hints: [
        "cgroup-v2.rst, \"cpu.max\": \"$MAX $PERIOD\". What does a single number in there mean, and what a word?",
        "On version 1 the period goes before the quota, because a quota is checked against the period that it finds.",
        "match (quota, period): both are \"{quota} {period}\", a quota alone is itself, a period alone is \"{KEPT}{period}\".",
    ],
    why: (
        "When do shares do nothing at all?",
        "When nobody else wants the processor: they are a weight among those who are waiting. A quota holds back even on an idle machine.",
    ),
    check,
    wrong: &[
        Wrong {
            name: "period and quota swapped",
            answer: Answer::Change(V2, "format!(\"{quota} {period}\")", "format!(\"{period} {quota}\")"),
            told: "the quota comes first",
        },
        Wrong {
            name: "a period alone is written as a quota",
            answer: Answer::Change(V2, "format!(\"{KEPT}{period}\")", "period"),
            told: "a single number is a quota",
        },
        Wrong {
            name: "shares taken for a weight",
            answer: Answer::Change(V2, "weight_of_shares(shares)", "shares"),
            told: "another scale",
        },
        Wrong {
            name: "real time silently left out",
            answer: Answer::Change(V2, "c.realtime_runtime().is_some_and(|r| r != 0)", "false"),
            told: "is refused",
        },
        Wrong {
            name: "the quota is given to the period",
            answer: Answer::Change(
                V1,
                "\"cpu.cfs_quota_us\", signed(c.quota())",
                "\"cpu.cfs_quota_us\", number(c.period())",
            ),
            told: "cpu.cfs_quota_us",
        },
        Wrong {
            name: "processors, and no memory nodes",
            answer: Answer::Change(SET, ", (\"cpuset.mems\", c.mems())", ""),
            told: "cpuset.mems",
        },
        Wrong {
            name: "an idle of 0 is not written",
            answer: Answer::Change(
                V1,
                "c.idle().map(|n| n.to_string())",
                "c.idle().filter(|n| *n != 0).map(|n| n.to_string())",
            ),
            told: "cpu.idle",
        },
    ],
};

const FILES_V1: [&str; 7] = [
    "cpu.shares",
    "cpu.cfs_period_us",
    "cpu.cfs_quota_us",
    "cpu.cfs_burst_us",
    "cpu.rt_period_us",
    "cpu.rt_runtime_us",
    "cpu.idle",
];
const FILES_V2: [&str; 4] = ["cpu.max", "cpu.weight", "cpu.max.burst", "cpu.idle"];
const SETS: [&str; 2] = ["cpuset.cpus", "cpuset.mems"];

/// One request, and what it is in the files of both versions, in the order of their lists; `None` is refused.
struct Asked {
    cpu: Value,
    /// What is in cpu.max before.
    before: String,
    v1: [String; 7],
    v2: Option<[String; 4]>,
    sets: [String; 2],
}

fn check(case: &Case) -> Result<Verdict> {
    let mut bundle = Bundle::new(case, "true")?;
    for (number, asked) in requests(case).iter().enumerate() {
        let resources = json!({ "cpu": asked.cpu });
        let mut one = Stage::new(case, &format!("one-{number}"))?;
        one.v1("cpu", &FILES_V1.map(|f| (f, "")))?;
        one.v1("cpuset", &SETS.map(|f| (f, "")))?;
        let ended = staged::run_with(case, &one, &mut bundle, &resources)?;
        let text = asked.cpu.to_string();
        let on = |tree, files| Expected { asked: text.clone(), tree, files };
        let sets = || SETS.into_iter().zip(asked.sets.clone());
        let first = on("cpu", FILES_V1.into_iter().zip(asked.v1.clone()).collect());
        let second = on("cpuset", sets().collect());
        for expected in [first, second] {
            if let Some(verdict) = expected.compare(&one, &ended, perhaps) {
                return Ok(verdict);
            }
        }
        let mut two = Stage::new(case, &format!("two-{number}"))?;
        let mut files: Vec<_> = FILES_V2.iter().chain(&SETS).map(|f| (*f, "")).collect();
        files[0].1 = &asked.before;
        two.v2("cpu cpuset", &files)?;
        let ended = staged::run_with(case, &two, &mut bundle, &resources)?;
        let Some(files) = &asked.v2 else {
            let written = FILES_V2.iter().find(|f| !two.text("unified", f).is_empty());
            // Had it gone on, the clone into the group of the stage would have failed with EBADF.
            if written.is_some() || ended.code() == Some(0) || ended.stderr.contains("EBADF") {
                return Ok(Verdict::failed(
                    format!("on version 2, {text} is refused: it has no real-time limits"),
                    written.map_or("it went on".to_owned(), |file| format!("{file} was written")),
                    "what was asked for and is not done has to be an error",
                ));
            }
            continue;
        };
        let expected = on("unified", FILES_V2.into_iter().zip(files.clone()).chain(sets()).collect());
        if let Some(verdict) = expected.compare(&two, &ended, perhaps) {
            return Ok(verdict);
        }
    }
    real(case)
}

fn requests(case: &Case) -> Vec<Asked> {
    let dice = &case.dice;
    let (period, quota) = (dice.number(10..100) * 1000, dice.number(101..200) * 1000);
    let (burst, shares) = (dice.number(1..9) * 1000, dice.number(3..260_000));
    let (runtime, cpus) = (dice.number(1..9) * 100, format!("{}-{}", dice.number(0..3), dice.number(4..9)));
    let held = dice.number(1000..9000);
    // The line from (2, 1) to (262144, 10000).
    let weight = 1 + (shares - 2) * 9999 / 262_142;
    let text = |n: u64| n.to_string();
    let no = String::new;
    let none = || [no(), no()];
    vec![
        Asked {
            cpu: json!({ "quota": quota, "period": period, "shares": shares, "burst": burst, "idle": 0, "cpus": cpus, "mems": "0" }),
            before: no(),
            v1: [text(shares), text(period), text(quota), text(burst), no(), no(), "0".into()],
            v2: Some([format!("{quota} {period}"), text(weight), text(burst), "0".into()]),
            sets: [cpus.clone(), "0".into()],
        },
        Asked {
            cpu: json!({ "quota": 0, "period": 0, "shares": 0, "realtimeRuntime": 0, "realtimePeriod": 0, "cpus": "", "mems": "" }),
            before: no(),
            v1: [const { String::new() }; 7],
            v2: Some([const { String::new() }; 4]),
            sets: none(),
        },
        Asked {
            cpu: json!({ "quota": -1, "idle": 1, "mems": "0-1" }),
            before: no(),
            v1: [no(), no(), "-1".into(), no(), no(), no(), "1".into()],
            v2: Some(["max".into(), no(), no(), "1".into()]),
            sets: [no(), "0-1".into()],
        },
        Asked {
            cpu: json!({ "period": period, "burst": 0 }),
            before: format!("{held} 9000"),
            v1: [no(), text(period), no(), "0".into(), no(), no(), no()],
            v2: Some([format!("{held} {period}"), no(), "0".into(), no()]),
            sets: none(),
        },
        Asked {
            cpu: json!({ "quota": quota, "cpus": "1" }),
            before: no(),
            v1: [no(), no(), text(quota), no(), no(), no(), no()],
            v2: Some([text(quota), no(), no(), no()]),
            sets: ["1".into(), no()],
        },
        Asked {
            cpu: json!({ "realtimeRuntime": runtime }),
            before: no(),
            v1: [no(), no(), no(), no(), no(), text(runtime), no()],
            v2: None,
            sets: none(),
        },
        Asked {
            cpu: json!({ "realtimePeriod": period }),
            before: no(),
            v1: [no(), no(), no(), no(), text(period), no(), no()],
            v2: None,
            sets: none(),
        },
    ]
}

fn perhaps(file: &str, expected: &str, seen: &str) -> &'static str {
    match (file, expected, seen) {
        ("cpu.max", expected, seen) if expected.contains(' ') && !seen.contains(' ') => {
            "a single number is a quota there: the period is the second of the two"
        }
        ("cpu.max", expected, seen) if expected.contains(' ') && seen.contains(' ') => {
            "the quota comes first, then the period"
        }
        ("cpu.weight", ..) => "a weight is on another scale than shares",
        (_, "", _) => "was that asked for? 0 and an empty list are not",
        (_, "0", "") => "of idle and burst, 0 is a value",
        _ => "which field goes into which file?",
    }
}

/// A real group: the kernel took the numbers, and the process may run where it was said.
fn real(case: &Case) -> Result<Verdict> {
    if let Some(why) = cannot_make() {
        return Ok(Verdict::NotChecked(format!("whether the kernel takes the limits: {why}")));
    }
    let groups = Groups::named(&format!("lab-{}", case.dice.word()));
    let (Some(v2), Some(_)) = (groups.is_v2("cpu"), groups.is_v2("cpuset")) else {
        return Ok(Verdict::NotChecked("this machine has no cpu controllers".into()));
    };
    let (period, quota) = (case.dice.number(20..90) * 1000, case.dice.number(5..19) * 1000);
    let processors = facts::status(std::process::id() as i32, "Cpus_allowed_list").unwrap_or_default();
    // The first or the last that we may use ourselves.
    let mut ends = processors.split([',', '-']);
    let one =
        if case.dice.number(0..2) == 0 { ends.next() } else { ends.next_back() }.unwrap_or("0").to_owned();
    let mut command = case.command();
    command.args(["limit", "--path", &groups.path(), "--cpuset-cpus", &one]);
    command.args(["--cpu-period", &period.to_string(), "--cpu-quota", &quota.to_string()]);
    command.args(["--", "sh", "-c", "read x"]);
    let mut running = run::start(&mut command)?;
    let pid = running.watch(|_| {
        let inside = groups.processes();
        inside.into_iter().find(|p| facts::status(*p, "Name").is_some_and(|n| n != "cgroups"))
    })?;
    let allowed = pid.and_then(|pid| facts::status(pid, "Cpus_allowed_list"));
    let seen = if v2 {
        groups.text("cpu", "cpu.max")
    } else {
        let text = |file| groups.text("cpu", file);
        text("cpu.cfs_quota_us").zip(text("cpu.cfs_period_us")).map(|(q, p)| format!("{q} {p}"))
    };
    let ended = running.end()?;
    let expected = format!("{quota} {period}");
    if seen.as_ref() != Some(&expected) {
        return Ok(Verdict::failed(
            format!("the group's quota and period are {expected}"),
            format!("{} ({})", seen.unwrap_or_else(|| "no such group".into()), ended.tell()),
            "the kernel refuses a quota or a period that is too small or too large",
        ));
    }
    Ok(if allowed.as_ref() == Some(&one) {
        Verdict::Passed
    } else {
        Verdict::failed(
            format!("the process may run on processor {one} only (Cpus_allowed_list)"),
            allowed.unwrap_or_else(|| ended.tell()),
            "is it in the group of the cpuset, too?",
        )
    })
}
