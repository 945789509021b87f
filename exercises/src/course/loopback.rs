//! A new network namespace has a loopback device, and it is down.

use super::{Answer, Case, Exercise, Wrong};
use crate::{
    bundle::Bundle,
    course::{never_started, started},
    run,
    verdict::Verdict,
};
use anyhow::Result;
use std::fs;

pub(super) const EXERCISE: Exercise = Exercise {
    id: "namespaces/loopback",
    title: "bring the loopback device up",
    section: "7.1",
    items: &["namespaces::net::loopback_up"],
    program: "namespaces",
    points: 10,
    task: "A process in a new network namespace finds one device there, `lo`, and it is down: 127.0.0.1 does not\n\
           answer. Bring it up. The caller is in the new namespace already; the module's other functions show how a\n\
           request is put to the kernel.",
    invariants: &[
        "inside, `lo` is up: the kernel then gives it 127.0.0.1 by itself",
        "outside, nothing has changed",
    ],
    predict: "what does a program see that connects to 127.0.0.1 while `lo` is down: a refusal, or something else?",
    hints: [
        "A device is up when it has the flag IFF_UP (netdevice(7)). Which message of rtnetlink(7) changes the flags of a device?",
        "RTM_NEWLINK with ifi_index of `lo`, IFF_UP in ifi_flags, and IFF_UP in ifi_change: the mask of what is meant.",
        "The module has a function that sets a device up by its index, and the index of `lo` is 1 in every namespace.",
    ],
    why: (
        "Why does nobody have to give `lo` its address?",
        "The kernel adds 127.0.0.1/8 (and ::1) itself when the loopback device comes up; any other device gets none.",
    ),
    check,
    wrong: &[
        Wrong { name: "nothing is done", answer: Answer::Body(" Ok(()) "), told: "is still down" },
        Wrong {
            name: "the process ends instead",
            answer: Answer::Body(" std::process::exit(0) "),
            told: "ended before",
        },
        Wrong {
            name: "an error is returned",
            answer: Answer::Body(" Err(crate::Error::Gone(\"the loopback device\")) "),
            told: "ended before",
        },
        Wrong {
            name: "it waits for somebody else to do it",
            answer: Answer::Body(" loop { std::thread::park() } "),
            told: "ended before",
        },
    ],
};

fn check(case: &Case) -> Result<Verdict> {
    let bundle = Bundle::new(case, "cat")?;
    bundle.write()?;
    let mut running = run::start(case.command().arg("run").arg(&bundle.dir))?;
    let Some(pid) = started(&mut running, &bundle)? else {
        return never_started(running, |_| "which call failed, and with what?");
    };
    // The kernel puts 127.0.0.1 into the local table of the namespace when the device comes up.
    let table = fs::read_to_string(format!("/proc/{pid}/net/fib_trie")).unwrap_or_default();
    Ok(if table.contains("127.0.0.1") {
        Verdict::Passed
    } else {
        Verdict::failed(
            "127.0.0.1 is an address of the container's network namespace",
            format!("/proc/{pid}/net/fib_trie has no 127.0.0.1: `lo` is still down"),
            "was IFF_UP in the mask of what is to change, too?",
        )
    })
}
