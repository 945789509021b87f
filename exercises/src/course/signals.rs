//! Standing in for a container: its signals go in, its end comes out.

use super::{Answer, Case, Exercise, Wrong, never_started};
use crate::{bundle::Bundle, facts, run, verdict::Verdict};
use anyhow::Result;
use nix::{
    libc,
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const TAKE: &str = "namespaces::foreground::Signals::take";
const PASS: &str = "namespaces::foreground::pass_on";
const CODE: &str = "namespaces::foreground::exit_code";

pub(super) const EXERCISE: Exercise = Exercise {
    id: "namespaces/signals",
    title: "pass signals on to PID 1, and its end back",
    section: "7.1",
    items: &[TAKE, PASS, CODE],
    program: "namespaces",
    points: 20,
    task: "A container in the foreground looks to its shell like any program: Ctrl-C and `kill` reach it, and its exit status is ours.\n\
           `Signals::take` blocks all signals and collects them in a descriptor (a non-blocking signalfd, closed on exec), before there\n\
           is a child; the mask from before is kept, to be restored. Those that mean us ourselves stay as they are: SIGSEGV, SIGBUS,\n\
           SIGFPE, SIGILL, SIGABRT, and SIGTTIN, SIGTTOU, SIGPIPE.\n\
           `pass_on` sends one of them to the process. SIGCHLD is ours, and with a terminal SIGWINCH means that the inner one gets the\n\
           new size (`Relay::fit`). Real-time signals have no name in nix: libc::kill takes a number.\n\
           `exit_code` waits for the process: its exit code, or 128 and the number of the signal that killed it.",
    invariants: &[
        "whatever signal we get, the process gets it, and we live on",
        "a signal that the first process of a pid namespace has no handler for does nothing to it",
        "its exit status is ours, and a death by signal is 128 and its number",
    ],
    predict: "you send SIGTERM to PID 1 of a container, a program that has no handler for it. What happens?",
    hints: [
        "sigprocmask(2) blocks, signalfd(2) reads what is blocked. Which of the two comes first, and what happens in between?",
        "SigSet::all(), without those that mean us; sigprocmask(SIG_SETMASK, Some(&all), Some(&mut before)); SignalFd::with_flags.",
        "Signal::try_from(number): SIGCHLD nothing, SIGWINCH with a relay fit(), any other kill(pid, signal), Err libc::kill. \
         waitpid in a loop: Exited is the code, Signaled is 128 + signal, EINTR again.",
    ],
    why: (
        "Why does the kernel not let PID 1 die of a SIGTERM for which it has no handler?",
        "If it died, the kernel would kill everybody in its pid namespace. So it gets only signals that it has asked for; SIGKILL from \
         outside is the exception. That is why `docker stop` waits ten seconds for many images: their PID 1 never listens.",
    ),
    check,
    wrong: &[
        Wrong {
            name: "signals end us, and not the process",
            answer: Answer::Change(TAKE, "SigSet::all()", "SigSet::empty()"),
            told: "we live on",
        },
        Wrong {
            name: "nothing is passed on",
            answer: Answer::Change(PASS, "Ok(signal) => drop(kill(pid, signal))", "Ok(_) => {}"),
            told: "never reached",
        },
        Wrong {
            name: "only SIGTERM and SIGINT are passed on",
            answer: Answer::Change(
                PASS,
                "Ok(signal) => drop(kill(pid, signal))",
                "Ok(signal) => if matches!(signal, Signal::SIGTERM | Signal::SIGINT) { drop(kill(pid, signal)) }",
            ),
            told: "never reached",
        },
        Wrong {
            name: "everything becomes SIGKILL",
            answer: Answer::Change(
                PASS,
                "drop(kill(pid, signal))",
                "{ let _ = signal; drop(kill(pid, Signal::SIGKILL)) }",
            ),
            told: "137",
        },
        Wrong {
            name: "SIGCHLD is passed on, too",
            answer: Answer::Change(PASS, "Ok(Signal::SIGCHLD) => {}", "Ok(Signal::SIGCHLD) if false => {}"),
            told: "SIGCHLD is ours",
        },
        Wrong {
            name: "a death by signal is an ordinary end",
            answer: Answer::Change(CODE, "Ok(128 + signal as i32)", "Ok(signal as i32)"),
            told: "128",
        },
        Wrong {
            name: "every end is a success",
            answer: Answer::Change(CODE, "return Ok(code)", "{ let _ = code; return Ok(0) }"),
            told: "exit status",
        },
    ],
};

/// Signals that mean whoever stands in, and are not passed on.
const OURS: [Signal; 8] = [
    Signal::SIGSEGV,
    Signal::SIGBUS,
    Signal::SIGFPE,
    Signal::SIGILL,
    Signal::SIGABRT,
    Signal::SIGTTIN,
    Signal::SIGTTOU,
    Signal::SIGPIPE,
];

fn check(case: &Case) -> Result<Verdict> {
    let mut bundle = Bundle::new(case, "")?;
    let named =
        [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGINT, Signal::SIGWINCH];
    let first = case.dice.number(0..named.len() as u64) as usize;
    // One with a name, the one that means something else where there is a terminal, and one without a name.
    let real_time = libc::SIGRTMIN() + case.dice.number(1..20) as i32;
    for signal in [named[first] as i32, Signal::SIGWINCH as i32, real_time] {
        if let Some(verdict) = caught(case, &mut bundle, signal)? {
            return Ok(verdict);
        }
    }
    Ok(deaths(case, &mut bundle)?.unwrap_or(Verdict::Passed))
}

/// Sends a signal by its number.
fn send(pid: i32, signal: i32) {
    // SAFETY: two integers. It may have ended: then the check sees that.
    unsafe { libc::kill(pid, signal) };
}

/// Whether a signal is in one of the masks of /proc/PID/status.
fn in_mask(pid: i32, mask: &str, signal: i32) -> bool {
    let bits = facts::status(pid, mask).and_then(|m| u64::from_str_radix(&m, 16).ok()).unwrap_or(0);
    bits & (1 << (signal - 1)) != 0
}

/// Starts a shell script as the container's first process, and waits until it has its handlers.
fn start(
    case: &Case,
    bundle: &mut Bundle,
    script: &str,
    handles: Option<i32>,
) -> Result<(run::Running, Option<i32>)> {
    bundle.config["process"]["args"] = json!(["/bin/sh", "-c", script]);
    bundle.write()?;
    let mut running = run::start(case.command().arg("run").arg(&bundle.dir))?;
    let ready = |pid: &i32| {
        facts::status(*pid, "Name").as_deref() == Some("sh")
            && handles.is_none_or(|n| in_mask(*pid, "SigCgt", n))
            && !facts::children(*pid).is_empty()
    };
    let pid = running.watch(|parent| facts::children(parent).into_iter().find(ready))?;
    Ok((running, pid))
}

/// A first process with a handler for one signal, which is sent to us.
fn caught(case: &Case, bundle: &mut Bundle, signal: i32) -> Result<Option<Verdict>> {
    let code = case.dice.number(3..90) as i32;
    let script = format!("trap 'exit {code}' {signal}; sleep 60 & while :; do wait; done");
    let (mut running, pid) = start(case, bundle, &script, Some(signal))?;
    let Some(pid) = pid else {
        return never_started(running, |_| "which call failed, and with what?").map(Some);
    };
    let (us, blocked) = (running.pid(), (1..32).find(|n| in_mask(pid, "SigBlk", *n)));
    if let Some(number) = blocked {
        return Ok(Some(Verdict::failed(
            "the process blocks no signal",
            format!("signal {number} is blocked in it"),
            "who blocked it before the fork?",
        )));
    }
    if let Some(number) = OURS.into_iter().find(|n| in_mask(us, "SigBlk", *n as i32)) {
        return Ok(Some(Verdict::failed(
            "signals that mean us ourselves are not blocked",
            format!("{number} is blocked in us"),
            "a crash, or a terminal or pipe that we may not use now, is not the container's",
        )));
    }
    // What it has no handler for does nothing to a first process; SIGCHLD is not passed on, whatever it would do. The second
    // comes when the first is done with.
    let deaf = if signal == libc::SIGTERM { libc::SIGHUP } else { libc::SIGTERM };
    for nothing in [deaf, libc::SIGCHLD] {
        send(us, nothing);
        let taken = || !in_mask(us, "ShdPnd", nothing) && !in_mask(us, "SigPnd", nothing);
        let begun = Instant::now();
        let lives =
            running.watch(|_| (taken() && begun.elapsed() > Duration::from_millis(20)).then_some(()))?;
        if lives.is_none() || facts::status(pid, "State").is_none_or(|s| s.starts_with('Z')) {
            let ended = running.end()?;
            return Ok(Some(Verdict::failed(
                "a signal without a handler does nothing to the first process of a pid namespace, and we live on",
                format!("after signal {nothing} it was over: {}", ended.tell()),
                "signals that nobody blocks end us, and the container with us",
            )));
        }
    }
    send(us, signal);
    running.watch(|_| None::<()>)?; // until its end
    let arrived = facts::status(pid, "State").is_none_or(|s| s.starts_with('Z'));
    let ended = running.end()?;
    Ok(if !arrived {
        Some(Verdict::failed(
            format!("signal {signal}, sent to us, is passed on to the container's first process"),
            "it has never reached it: the process still runs".to_owned(),
            "every signal is passed on, also those without a name (real-time signals); SIGCHLD is ours",
        ))
    } else if ended.code() != Some(code) {
        let code = format!(
            "its handler of signal {signal} ends it with exit status {code}, and that is ours; we live on until then"
        );
        Some(Verdict::failed(
            code,
            ended.tell(),
            "the very signal that came is passed on, and the code that it ends with is ours",
        ))
    } else {
        None
    })
}

/// Without a pid namespace, a signal kills; and from outside SIGKILL kills a first process.
fn deaths(case: &Case, bundle: &mut Bundle) -> Result<Option<Verdict>> {
    let script = "sleep 60 & while :; do wait; done";
    let (mut running, pid) = start(case, bundle, script, None)?;
    if let Some(pid) = pid {
        // It may have ended: then the check sees that.
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    running.watch(|_| None::<()>)?;
    if let Some(verdict) = died(running.end()?, Signal::SIGKILL) {
        return Ok(Some(verdict));
    }
    let mut namespaces = bundle.list("/linux/namespaces");
    namespaces.retain(|n| n["type"] != "pid");
    bundle.config["linux"]["namespaces"] = Value::Array(namespaces);
    // A new procfs shows a pid namespace, and who made it must own that.
    let mut mounts = bundle.list("/mounts");
    mounts.retain(|m| m["destination"] != "/proc");
    bundle.config["mounts"] = Value::Array(mounts);
    let signal =
        [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGALRM][case.dice.number(0..4) as usize];
    let (mut running, pid) = start(case, bundle, script, None)?;
    if pid.is_some() {
        // Passed on to a process without a handler, which is no first process: it dies of it.
        send(running.pid(), signal as i32);
    }
    running.watch(|_| None::<()>)?;
    if let Some(verdict) = died(running.end()?, signal) {
        return Ok(Some(verdict));
    }
    // And SIGCHLD, for a shell that has a handler, is not passed on either.
    let script = "trap 'exit 99' CHLD; while :; do read x || exit 7; done";
    bundle.config["process"]["args"] = json!(["/bin/sh", "-c", script]);
    bundle.write()?;
    let mut running = run::start(case.command().arg("run").arg(&bundle.dir))?;
    let ready = |pid: &i32| {
        in_mask(*pid, "SigCgt", libc::SIGCHLD) && facts::status(*pid, "Name").as_deref() == Some("sh")
    };
    let pid = running.watch(|parent| facts::children(parent).into_iter().find(ready))?;
    if pid.is_some() {
        send(running.pid(), libc::SIGCHLD);
        let (us, begun) = (running.pid(), Instant::now());
        let taken = || !in_mask(us, "ShdPnd", libc::SIGCHLD) && !in_mask(us, "SigPnd", libc::SIGCHLD);
        running.watch(|_| (taken() && begun.elapsed() > Duration::from_millis(100)).then_some(()))?;
    }
    let ended = running.end()?;
    Ok((ended.code() != Some(7)).then(|| {
        Verdict::failed(
            "SIGCHLD is ours, and not passed on: it goes on until its input ends, with exit status 7",
            ended.tell(),
            "SIGCHLD says that a child of ours has ended",
        )
    }))
}

fn died(ended: run::Ended, signal: Signal) -> Option<Verdict> {
    let expected = 128 + signal as i32;
    (ended.code() != Some(expected)).then(|| {
        Verdict::failed(
            format!(
                "killed by {signal}, the process gives us the exit status 128 + {} = {expected}",
                signal as i32
            ),
            ended.tell(),
            "waitpid tells Exited and Signaled apart; a shell adds 128",
        )
    })
}
