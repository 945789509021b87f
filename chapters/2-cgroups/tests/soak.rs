//! Many containers, killed at random moments: the runtime at work on them, or they themselves. Whatever is left must be
//! removed by `delete --force`, and then nothing is left at all.
//!
//! 100 of them by default; `TEU_SOAK=10000 cargo test -p cgroups --test soak` is the long one.
#![allow(clippy::unwrap_used)]

mod bundle;

use bundle::Bundle;
use kit::{Case, Need, Traces};
use std::{
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
    for round in 0..rounds {
        match random.below(4) {
            // The runtime dies while it makes the container, or while it starts it.
            0 | 1 => {
                let words: &[&str] = if round % 2 == 0 {
                    &["create", "-b", "BUNDLE", "ID"]
                } else {
                    &["run", "-d", "-b", "BUNDLE", "ID"]
                };
                kill_after(spawn(&b, words), random.below(30_000));
            }
            // It dies while it removes it.
            2 => {
                b.call(&["run", "-d", "-b", "BUNDLE", "ID"]);
                kill_after(spawn(&b, &["delete", "--force", "ID"]), random.below(20_000));
            }
            // The container's first process dies, at any moment after the creation.
            _ => {
                b.call(&["create", "-b", "BUNDLE", "ID"]);
                let start = spawn(&b, &["start", "ID"]);
                std::thread::sleep(Duration::from_micros(random.below(10_000)));
                b.call(&["kill", "ID", "KILL"]);
                kill_after(start, 50_000);
            }
        }
        b.ok(&["delete", "--force", "ID"]);
        let left = left(&b, &before);
        assert!(left.is_empty(), "round {round}, seed {seed}: {left:?}");
    }
    assert!(processes(&b).is_empty(), "seed {seed}: {:?}", processes(&b));
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
