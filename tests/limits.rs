//! The limits of `teu run` as the container sees them, on either version of control groups. (The rules of each
//! limit are chapter 2's own tests.)

mod engine;

use engine::{Engine, run, without_a_trace};
use kit::{Case, Need};

fn main() {
    kit::run(vec![Case::new("limits_are_seen_from_inside", &[Need::Root], || without_a_trace(inside))]);
}

fn inside() {
    let engine = Engine::start("limits");
    let v2 = std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let (files, expected) = if v2 {
        ("memory.max cpu.max pids.max", "67108864\n50000 100000\n20\n")
    } else {
        let files = "memory/memory.limit_in_bytes cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us pids/pids.max";
        (files, "67108864\n50000\n100000\n20\n")
    };
    let script = format!("cd /sys/fs/cgroup && cat {files}");
    let limits = ["-m", "64m", "--cpus", ".5", "--pids-limit", "20"];
    let words = [&["run", "--rm", "--network", "none"], &limits[..], &["base", "sh", "-c", &script]].concat();
    assert_eq!(run(engine.teu(&words)), expected);
    // And they hold: the twenty-first process is refused.
    let forks = "for n in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21; do sleep 5 & done 2>&1 | head -1; true";
    let words = [&["run", "--rm", "--network", "none"], &limits[..], &["base", "sh", "-c", forks]].concat();
    let output = engine.teu(&words).output();
    let told = output.map(|o| String::from_utf8_lossy(&[o.stdout, o.stderr].concat()).into_owned());
    assert!(told.as_ref().is_ok_and(|t| t.to_lowercase().contains("fork")), "{told:?}");
}
