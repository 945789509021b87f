//! Many containers, killed at random points: the runtime at work on them, after a random number of microseconds or before
//! a random system call, or the containers themselves. Whatever is left must be removed by `delete --force`, and then nothing is
//! left at all.
//!
//! 100 of them by default; `TEU_SOAK=10000 cargo test -p cgroups --test soak` is the long one, and
//! `TEU_SOAK_SEED=N` one that was had before.
#![allow(clippy::unwrap_used)]

mod bundle;

use bundle::Bundle;
use kit::{Case, Need, Traces};
use nix::{
    sys::{
        signal::{Signal, kill},
        wait::{WaitStatus, waitpid},
    },
    unistd::Pid,
};
use std::{
    os::unix::process::CommandExt,
    process::{Child, Stdio},
    time::{Duration, Instant, SystemTime},
};

fn main() {
    kit::run(vec![Case::new("random_kills_leave_nothing_that_force_does_not_remove", &[Need::Root], soak)]);
}

/// A small generator (xorshift), so that a failing run can be had again: its seed is printed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

fn soak() {
    let number = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u64>().ok());
    let rounds = number("TEU_SOAK").unwrap_or(100);
    let seed = number("TEU_SOAK_SEED").unwrap_or_else(|| {
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64 | 1
    });
    println!("{rounds} rounds, TEU_SOAK_SEED={seed}");
    let mut random = Random(seed);
    let before = Traces::now();
    let b = Bundle::new("sleep 100 & exec sleep 100");
    let create: &[&str] = &["create", "-b", "BUNDLE", "ID"];
    let run: &[&str] = &["run", "-d", "-b", "BUNDLE", "ID"];
    let delete: &[&str] = &["delete", "--force", "ID"];
    for round in 0..rounds {
        let making = if round % 2 == 0 { create } else { run };
        match random.below(6) {
            // The runtime dies while it makes the container, or while it starts it.
            0 | 1 => kill_after(spawn(&b, making), random.below(15_000)),
            2 => kill_before_call(&b, making, random.below(600)),
            // It dies while it removes it.
            3 => {
                b.call(run);
                kill_after(spawn(&b, delete), random.below(10_000));
            }
            4 => {
                b.call(run);
                kill_before_call(&b, delete, random.below(400));
            }
            // The container's first process dies, at any moment after the creation.
            _ => {
                b.call(create);
                let start = spawn(&b, &["start", "ID"]);
                std::thread::sleep(Duration::from_micros(random.below(10_000)));
                b.call(&["kill", "ID", "KILL"]);
                kill_after(start, random.below(2_000));
            }
        }
        b.ok(delete);
        // To look everywhere takes longer than a round: now and then will do, since what is left stays.
        if round % LOOK == LOOK - 1 || round == rounds - 1 {
            let left = left(&b, &before);
            assert!(left.is_empty(), "by round {round}, seed {seed}: {left:?}");
        }
    }
    assert!(processes(&b).is_empty(), "seed {seed}: {:?}", processes(&b));
}

/// After how many rounds the machine is looked over.
const LOOK: u64 = 20;

/// Lets the runtime make so many system calls, and kills it before the next one (ptrace(2)).
fn kill_before_call(b: &Bundle, words: &[&str], calls: u64) {
    let mut command = b.command(words);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    // SAFETY: between fork and exec this makes one system call, and nothing else.
    unsafe { command.pre_exec(|| trace(libc::PTRACE_TRACEME, 0, 0)) };
    let mut child = command.spawn().unwrap();
    let pid = Pid::from_raw(child.id() as i32);
    // It stops before and after each call, and once for each exec.
    for _ in 0..calls * 2 {
        let Ok(WaitStatus::Stopped(_, signal)) = waitpid(pid, None) else { break };
        let pass_on = if signal == Signal::SIGTRAP { 0 } else { signal as i32 };
        if trace(libc::PTRACE_SYSCALL, pid.as_raw(), pass_on).is_err() {
            break;
        }
    }
    let _ = kill(pid, Signal::SIGKILL);
    let _ = child.wait();
}

fn trace(request: libc::c_uint, pid: i32, signal: i32) -> std::io::Result<()> {
    // SAFETY: neither request that is made here reads or writes memory of ours.
    match unsafe { libc::ptrace(request, pid, 0, signal) } {
        -1 => Err(std::io::Error::last_os_error()),
        _ => Ok(()),
    }
}

fn spawn(b: &Bundle, words: &[&str]) -> Child {
    b.command(words).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn kill_after(mut child: Child, microseconds: u64) {
    std::thread::sleep(Duration::from_micros(microseconds));
    let _ = child.kill();
    let _ = child.wait();
}

/// What the container left, when those that are dying have had their moment.
fn left(b: &Bundle, before: &Traces) -> Vec<String> {
    let directory = b.dir.path().display().to_string();
    let start = Instant::now();
    loop {
        let traces = Traces::now().beyond(before).into_iter();
        let mut left: Vec<_> = traces.filter(|l| l.contains(&b.id) || l.contains(&directory)).collect();
        if b.path("state").join(&b.id).exists() {
            left.push("its state".into());
        }
        left.extend(processes(b));
        if left.is_empty() || start.elapsed() > Duration::from_secs(5) {
            return left;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Processes whose root is this bundle's, or that work on it.
fn processes(b: &Bundle) -> Vec<String> {
    let root = b.path("rootfs");
    let mut all = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let path = entry.path();
        let inside = std::fs::read(path.join("mountinfo"))
            .is_ok_and(|m| String::from_utf8_lossy(&m).contains(root.to_str().unwrap()));
        let words = std::fs::read(path.join("cmdline")).unwrap_or_default();
        let words = String::from_utf8_lossy(&words).replace('\0', " ");
        if inside || words.contains(&b.id) {
            all.push(format!("process {} {words}", path.display()));
        }
    }
    all
}
